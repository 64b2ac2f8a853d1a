"""Initialisations: what each makes of the weights, and that nothing but weights is touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snn_exp.config.compose import compose
from snn_exp.config.experiment import identity, resolve
from snn_exp.errors import UserError
from snn_exp.nn.init import INITS, LSUVInit, PSPInit, SpikingInit, weight_layers
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import Network, build_network, outputs_of
from snn_exp.nn.norms import BatchNorm, PSPNorm
from snn_exp.training.build import build_data, build_task, initialise, kernels_of
from snn_exp.training.prepare import prepare

STRUCTURES: dict[str, dict[str, Any]] = {
    "pre": {"residual": {"name": "pre", "shortcut": "conv"}},
    "pre, spikes read out": {"residual": {"name": "pre"}, "network": {"name": "resnet", "readout": "spikes"}},
    "bireal": {"residual": {"name": "bireal"}},
    "ms": {"residual": {"name": "ms"}},
    "post": {"residual": {"name": "post", "shortcut": "conv"}},
    "sew_add": {"residual": {"name": "sew_add"}},
    "none": {"residual": {"name": "none"}},
    "vgg": {"network": {"name": "vgg"}},
    "mlp": {"network": {"name": "mlp"}},
}


def make(norm: str = "none", neuron: str = "lif", *, residual: Any = None, network: Any = None, synapse: str = "exponential",
         **weights: str) -> Network:  # fmt: skip
    """The same draw of weights whatever the norm."""
    torch.manual_seed(0)
    parts = make_part_factories(
        neuron={"name": neuron, "v_threshold": 0.5}, surrogate={"name": "atan"}, synapse={"name": synapse}, norm={"name": norm},
        weight_norm={"name": "none"}, weight_quant={"name": weights.get("weight_quant", "none")}, num_steps=3,
    )  # fmt: skip
    network = {"width": 4, "name": "resnet"} | (network or {})
    return build_network(
        network, parts, in_shape=(2, 6, 6), num_classes=3, num_layers=4 if network["name"] == "mlp" else 8,
        residual=residual or {"name": "pre"},
    ).double()  # fmt: skip


def batch() -> Tensor:
    return 2 * torch.randn(3, 8, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_psp_is_the_network_of_that_norm_at_its_first_step(structure: str) -> None:
    normalized, frozen, plain = (make(norm, **STRUCTURES[structure]) for norm in ("psp", "none", "none"))
    PSPInit().initialise(frozen, batch())
    expected, found = normalized.train()(batch()), frozen.train()(batch())
    assert (found - expected).abs().max() <= 1e-6
    assert (plain.train()(batch()) - expected).abs().max() > 1e-3, "the norm must do something"
    assert sum(isinstance(m, PSPNorm) for m in normalized.modules()) >= len(weight_layers(frozen)) - 3


def test_psp_is_the_first_step_of_a_run_with_that_norm() -> None:
    """On the very batch that training begins with, encoded as there."""
    common = ["neuron=lif", "encoding=rate", "network.width=4", "residual=post", "trainer.precision=64-true"]
    frozen, normalized = (
        prepare(config, kernels_of(config))
        for config in (compose([*common, *other]) for other in (["norm=none", "init=psp"], ["norm=psp"]))
    )
    (data, task), (_, other) = frozen, normalized
    x, y_B = next(iter(data.train_dataloader()))
    assert torch.equal(x, data.first_batch()[0]) and torch.equal(y_B, data.first_batch()[1])
    x_TBCHW = task.encoded(x, 0)
    assert torch.equal(x_TBCHW, other.encoded(x, 0))
    torch.testing.assert_close(task.network.train()(x_TBCHW), other.network.train()(x_TBCHW), rtol=0, atol=1e-4)


def test_spiking_divides_by_the_share_that_fires() -> None:
    plain, network = make(), make()
    SpikingInit().initialise(network, None)
    share = 0.3085375  # of a standard normal above one half
    first, *hidden = zip(weight_layers(plain), weight_layers(network), strict=True)
    assert torch.equal(*(layer.get_parameter("weight") for layer in first)), "the first layer reads the data"
    for before, after in hidden:
        torch.testing.assert_close(after.weight, before.weight / share**0.5, rtol=1e-6, atol=0)
    assert torch.equal(plain.get_parameter("classifier.weight"), network.get_parameter("classifier.weight"))


def test_spiking_holds_the_variance_of_a_chain_through_depth() -> None:
    """Wide layers of standard normal input: the n-th has the variance of the second, where the plain draw dies out."""
    torch.manual_seed(0)
    variances = {}
    for init in (None, SpikingInit()):
        parts = make_part_factories(
            neuron={"name": "s2nn"}, surrogate={"name": "s2nn"}, synapse={"name": "identity"}, norm={"name": "none"},
            weight_norm={"name": "none"}, weight_quant={"name": "none"}, num_steps=1,
        )  # fmt: skip
        network = build_network({"name": "mlp", "width": 512}, parts, in_shape=(512, 1, 1), num_classes=2, num_layers=12,
                                residual={"name": "none"})  # fmt: skip
        if init:
            init.initialise(network, None)
        layers = weight_layers(network)
        with outputs_of(layers) as outputs, torch.no_grad():
            network(torch.randn(1, 64, 512, 1, 1))
        variances[init is None] = [float(outputs[layer].var()) for layer in layers]
    assert all(0.5 < v < 2 for v in variances[False]), variances[False]
    assert variances[True][-1] < 1e-3


@pytest.mark.parametrize("orthogonal", [True, False])
def test_lsuv_gives_every_layer_the_variance_that_its_gain_says(orthogonal: bool) -> None:
    network = make(residual={"name": "pre"})
    LSUVInit(orthogonal=orthogonal).initialise(network, batch())
    layers = weight_layers(network)
    with outputs_of(layers) as outputs, torch.no_grad():
        network.train()(batch())
    for layer in layers:
        assert outputs[layer].var().item() == pytest.approx(layer.weight_quant.gain**2)
    assert {round(layer.weight_quant.gain, 3) for layer in layers} == {1.0, round(3**-0.5, 3)}
    weight = layers[0].weight.flatten(1)
    products = weight @ weight.T / weight.square().sum(1).mean()
    assert torch.allclose(products, torch.eye(4).double(), atol=1e-6) is orthogonal


def test_lsuv_leaves_a_layer_that_reads_silence() -> None:
    network = make()
    for module in network.modules():
        if hasattr(module, "v_threshold"):
            module.v_threshold.fill_(1e9)
    LSUVInit().initialise(network, batch())
    assert all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", list(INITS))
def test_nothing_but_weights_is_touched(name: str) -> None:
    network, plain = make("bn"), make("bn")
    INITS[name]().initialise(network, batch())
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, plain.state_dict()[key])}
    assert all(key.endswith("weight") and "norm" not in key for key in changed)
    assert bool(changed) is (name != "kaiming")
    assert next(m for m in network.modules() if isinstance(m, BatchNorm)).bn.num_batches_tracked == 0
    assert network.training


@pytest.mark.parametrize("name", list(INITS))
def test_an_initialised_network_has_finite_gradients_at_all_weights(name: str) -> None:
    config = compose([f"init={name}", "norm=none", "network.width=4", "residual=bireal"])
    data = build_data(config)
    task = build_task(config, data)
    initialise(task, config, data)
    task.network(task.encoded(data.first_batch()[0], 0)).square().sum().backward()
    for parameter, p in task.network.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), parameter


def test_the_same_seed_gives_the_same_weights() -> None:
    config = compose(["init=lsuv", "network.width=4"])
    one, other = (prepare(config, kernels_of(config))[1].network.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


# --- configs ---------------------------------------------------------------------------------------


def test_the_draw_of_before_is_left_out_of_what_is_stored_and_of_the_identity() -> None:
    config = compose([])
    assert config.init == {"name": "kaiming"}
    assert "init" not in config.to_plain() and "init" not in identity(config)
    assert compose(["init=kaiming"]).run_id == config.run_id
    other = compose(["init=lsuv"])
    assert other.run_id != config.run_id and resolve(other.to_plain()) == other
    assert len({compose([f"init={name}"]).run_id for name in INITS}) == len(list(INITS))


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("init=psp norm=psp", r"init=psp divides the weights by the moments that norm=psp divides by, so at the first step the "
         r"network is the same with it and without; type norm=none with init=psp, or leave init out"),
        ("init=psp neuron=sign weight_quant=none", "init=psp does nothing with neuron=sign"),
        ("init=lsuv weight_norm=standardized", "sets the size of the weights, and weight_norm=standardized sets it again"),
        ("init=spiking weight_quant=bnn", "and weight_quant=bnn sets it again; type weight_quant=none"),
        ("init=spiking neuron=relu", "is for spikes, 0 and 1, and neuron=relu emits real values; type init=psp"),
        ("init=spiking neuron.v_threshold=10", "below one in a million; type neuron.v_threshold=1, or init=psp"),
        ("init=lsuv init_from=0123456789", "and init_from=0123456789 replaces them; leave one of the two out"),
        ("init=psp init.eps=0", "init.eps=0.0 is not allowed"),
        ("init=pps", "There is no init 'pps'; allowed: kaiming, lsuv, psp, spiking; did you mean psp?"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_a_sentence(command: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compose(command.split())
