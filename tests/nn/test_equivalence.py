"""Our parts against SpikingJelly 2.0.0's, our counts against NeuroBench 2.3.0's; run by `make equivalence`.

Both read the same weights and inputs. What differs says in which relation the two stand.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.export.fold import fold
from snn_exp.metrics.operations import SynapticOperations
from snn_exp.nn.layers import TimeFolded
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import IF, LIF, PLIF, IntegerLIF
from snn_exp.nn.norms import (
    BatchNormThroughTime,
    MembraneBatchNorm,
    NeuNorm,
    Site,
    TemporalEffectiveBatchNorm,
    ThresholdDependentBatchNorm,
)
from snn_exp.nn.surrogates import SURROGATES, Sigmoid
from tests.metrics.test_operations import task_of

pytestmark = pytest.mark.equivalence

T, B, SHAPE = 5, 3, (4, 3, 2)
TRAINING = (True, True, False)  # two batches in training, then one in eval


@pytest.fixture(scope="module")
def sj() -> SimpleNamespace:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    return SimpleNamespace(functional=functional, layer=layer, neuron=neuron, surrogate=surrogate)


def inputs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(T, B, *SHAPE, dtype=torch.float64, generator=generator) * 1.5 + 0.5


def moved(part: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.rand(parameter.shape, dtype=torch.float64, generator=generator))
    return part


def agree(sj: Any, ours: nn.Module, theirs: nn.Module, pairs: list[tuple[Any, list[Any]]]) -> None:
    """Outputs and gradients over batches, at the input and at every pair of our parameter and theirs in its place."""
    assert {id(p) for p, _ in pairs} == {id(p) for p in ours.parameters()}
    for seed, training in enumerate(TRAINING):
        sj.functional.reset_net(theirs)
        ours.train(training), theirs.train(training)
        x, z = inputs(seed).requires_grad_(), inputs(seed).requires_grad_()
        y, expected = ours(x), theirs(z)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        weights = torch.linspace(0.5, 2, y.numel(), dtype=y.dtype).view_as(y)
        mine = torch.autograd.grad((y * weights).sum(), [x, *(p for p, _ in pairs)])
        others = torch.autograd.grad((expected * weights).sum(), [z, *(p for _, many in pairs for p in many)])
        torch.testing.assert_close(mine[0], others[0], rtol=1e-9, atol=1e-11)
        rest = list(others[1:])
        for (_, many), gradient in zip(pairs, mine[1:], strict=True):
            found = torch.cat([rest.pop(0).flatten() for _ in many])
            torch.testing.assert_close(gradient.flatten(), found, rtol=1e-9, atol=1e-11)


# --- norms ----------------------------------------------------------------------------------------


def test_tdbn_is_the_same_from_the_same_start(sj: SimpleNamespace) -> None:
    ours = ThresholdDependentBatchNorm(Site(SHAPE, v_threshold=0.5, num_summands=2)).double()
    theirs = sj.layer.ThresholdDependentBatchNorm2d(0.5**0.5, 0.5, 4).double()
    torch.testing.assert_close(ours.bn.weight, theirs.weight)
    moved(ours), moved(theirs)
    agree(sj, ours, theirs, [(ours.bn.weight, [theirs.weight]), (ours.bn.bias, [theirs.bias])])
    torch.testing.assert_close(ours.bn.running_var, theirs.running_var)


def test_bntt_is_the_same_once_eps_is(sj: SimpleNamespace) -> None:
    """Theirs has eps 1e-5 unless told; ours has the authors' 1e-4. Ours keeps all steps in one tensor."""
    ours = moved(BatchNormThroughTime(Site(SHAPE, T)).double())
    theirs = sj.layer.BatchNormThroughTime2d(T, 4, eps=1e-4, step_mode="m").double()
    per_step = ours.bn.weight.detach().view(T, 4)
    for bn, weight in zip(theirs.bn_list, per_step, strict=True):
        bn.weight.data.copy_(weight)
    agree(sj, ours, theirs, [(ours.bn.weight, [bn.weight for bn in theirs.bn_list])])
    torch.testing.assert_close(ours.bn.running_mean, torch.cat([bn.running_mean for bn in theirs.bn_list]))
    torch.testing.assert_close(ours.bn.running_var, torch.cat([bn.running_var for bn in theirs.bn_list]))


def test_tebn_is_the_same(sj: SimpleNamespace) -> None:
    ours = moved(TemporalEffectiveBatchNorm(Site(SHAPE, T)).double())
    theirs = sj.layer.TemporalEffectiveBatchNorm2d(T, 4).double()
    pairs = [(ours.bn.weight, theirs.weight), (ours.bn.bias, theirs.bias), (ours.p, theirs.scale)]
    for mine, other in pairs:
        other.data.copy_(mine.data)
    agree(sj, ours, theirs, [(mine, [other]) for mine, other in pairs])


def test_neunorm_is_the_same_from_the_same_weights(sj: SimpleNamespace) -> None:
    """Theirs starts from random weights of either sign, ours from 1."""
    ours = moved(NeuNorm(Site(SHAPE, T)).double())
    theirs = sj.layer.NeuNorm(*SHAPE, step_mode="m").double()
    theirs.w.data.copy_(ours.U.data)
    agree(sj, ours, theirs, [(ours.U, [theirs.w])])


def mpbn_pair(sj: Any) -> tuple[LIF, Any]:
    ours = LIF(surrogate=Sigmoid()).double()
    ours.membrane_norm = moved(MembraneBatchNorm(Site(SHAPE, T, "membrane")).double())
    theirs = sj.neuron.MPBNLIFNode(2.0, decay_input=True, step_mode="m", out_channels=4).double()
    theirs.vbn.load_state_dict(ours.membrane_norm.bn.state_dict())
    return ours, theirs


def test_mpbn_is_the_same_in_one_step(sj: SimpleNamespace) -> None:
    """Over more steps SpikingJelly resets and keeps the normalized membrane; we, as the authors' code, keep h itself."""
    ours, theirs = mpbn_pair(sj)
    for seed, training in enumerate(TRAINING):
        sj.functional.reset_net(theirs)
        ours.train(training), theirs.train(training)
        x, z = inputs(seed)[:1].requires_grad_(), inputs(seed)[:1].requires_grad_()
        s, expected = ours(x), theirs(z)
        assert torch.equal(s, expected) and 0 < s.mean() < 1
        weights = torch.linspace(0.5, 2, s.numel(), dtype=s.dtype).view_as(s)
        mine = torch.autograd.grad((s * weights).sum(), [x, *ours.membrane_norm.parameters()])
        others = torch.autograd.grad((expected * weights).sum(), [z, *theirs.vbn.parameters()])
        for a, b in zip(mine, others, strict=True):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.membrane_norm.bn.running_var, theirs.vbn.running_var)


def test_mpbn_in_eval_is_theirs_folded_into_the_threshold(sj: SimpleNamespace) -> None:
    """Folded, SpikingJelly's keeps h as ours does (with a hard reset), so all steps agree; unfolded, they differ."""
    ours, theirs = mpbn_pair(sj)
    ours(inputs(0))
    theirs.vbn.load_state_dict(ours.membrane_norm.bn.state_dict())
    ours.eval(), theirs.eval()
    s = ours(inputs(1))
    assert not torch.equal(s, theirs(inputs(1)))
    theirs.re_parameterize_v_threshold()
    sj.functional.reset_net(theirs)
    assert torch.equal(s, theirs(inputs(1))) and 0 < s.mean() < 1


# --- neurons and surrogates -----------------------------------------------------------------------


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("name", ["if", "lif", "lif_without_decay_input", "plif"])
def test_a_neuron_fires_the_same_spikes_with_the_same_gradients(
    sj: SimpleNamespace, name: str, reset: str, detach_reset: bool
) -> None:
    v_reset = {"v_reset": 0.0 if reset == "hard" else None}
    common = {"surrogate_function": sj.surrogate.Sigmoid(), "detach_reset": detach_reset, "step_mode": "m", **v_reset}
    options: dict[str, Any] = {"surrogate": Sigmoid(), "reset": reset, "detach_reset": detach_reset}
    made: dict[str, Callable[[], tuple[Any, Any]]] = {
        "if": lambda: (IF(**options), sj.neuron.IFNode(**common)),
        "lif": lambda: (LIF(tau=3.0, **options), sj.neuron.LIFNode(3.0, **common)),
        "lif_without_decay_input": lambda: (
            LIF(tau=3.0, decay_input=False, **options),
            sj.neuron.LIFNode(3.0, decay_input=False, **common),
        ),
        "plif": lambda: (PLIF(tau=3.0, **options), sj.neuron.ParametricLIFNode(3.0, **common)),
    }
    ours, theirs = (neuron.double() for neuron in made[name]())
    pairs = [(ours.w, [theirs.w])] if name == "plif" else []
    if pairs:
        torch.testing.assert_close(ours.w, theirs.w)
    agree(sj, ours, theirs, pairs)
    assert 0 < ours(inputs(0)).mean() < 1


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("levels", "tau", "v_threshold"), [(1, 4 / 3, 1.0), (4, 4 / 3, 1.0), (2, 3.0, 0.75)])
def test_ilif_emits_the_same_integers_with_the_same_gradients(
    sj: SimpleNamespace, levels: int, tau: float, v_threshold: float, detach_reset: bool
) -> None:
    """Ours takes a tie up, theirs to the even neighbour; random inputs have none."""
    ours = IntegerLIF(levels=levels, tau=tau, v_threshold=v_threshold, detach_reset=detach_reset).double()
    theirs = sj.neuron.ILIFNode(
        tau, v_threshold, sj.surrogate.MultiLevelSpikeCount(levels), detach_reset=detach_reset, step_mode="m"
    ).double()
    agree(sj, ours, theirs, [])
    assert set(ours(inputs(0)).unique().tolist()) == set(range(levels + 1))


@pytest.mark.parametrize(("name", "peer"), [("s2nn", "S2NN"), ("sigmoid", "Sigmoid"), ("atan", "ATan")])
def test_a_surrogate_has_the_same_gradient(sj: SimpleNamespace, name: str, peer: str) -> None:
    x, z = (torch.linspace(-6, 6, 241, dtype=torch.float64).requires_grad_() for _ in range(2))
    s, expected = SURROGATES[name]().spike(x), getattr(sj.surrogate, peer)()(z)
    assert torch.equal(s, expected)
    s.sum().backward(), expected.sum().backward()
    torch.testing.assert_close(x.grad, z.grad, rtol=1e-12, atol=1e-12)


# --- counts ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nb() -> SimpleNamespace:
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    return SimpleNamespace(SynapticOperations=SynapticOperations, TorchModel=TorchModel)


def pruned(command: str) -> tuple[Network, list[Tensor]]:
    """A network, a third of its hidden weights 0, and 16 samples in two batches: a mean over 16 is exact."""
    task, x_TBCHW = task_of(*command.split())
    generator = torch.Generator().manual_seed(0)
    for layer in task.network.modules():
        if isinstance(layer, TimeFolded):
            layer.make_plain()  # NeuroBench reads weights as they are stored
            layer.weight.data *= torch.rand(layer.weight.shape, generator=generator) > 1 / 3
    return task.network.double().eval(), list(x_TBCHW[:, :16].double().split([12, 4], 1))


@torch.no_grad()
def counts(network: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    metric = SynapticOperations(network)
    with metric.listening():
        for x_TBCHW in batches:
            network(x_TBCHW)
    return {name: count.item() for name, count in metric.compute().items()}


@torch.no_grad()
def counts_of_neurobench(nb: Any, network: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    model, metric = nb.TorchModel(network), nb.SynapticOperations()
    model.register_hooks()
    for x_TBCHW in batches:
        data = (x_TBCHW.transpose(0, 1), None)  # its data has the batch first; it asks for its size alone
        found = metric(model, model(x_TBCHW), data)
        model.reset_hooks()
    model.close_hooks()
    return found


@pytest.mark.parametrize(
    "command",
    ["neuron=s2nn residual=bireal", "neuron=sign residual=bireal", "neuron=relu residual=post residual.shortcut=conv",
     "neuron=lif neuron.v_threshold=0.1 network=vgg encoding=rate",
     "neuron=lif neuron.v_threshold=0.1 residual=sew_add", "neuron=lif neuron.v_threshold=0.1 network=mlp",
     "neuron=srm neuron.v_threshold=0.1 norm=psp residual=pre residual.shortcut=conv"],
)  # fmt: skip
def test_effective_operations_as_trained_are_neurobenchs(nb: SimpleNamespace, command: str) -> None:
    """Both judge a layer's whole batch: additions where it reads -1, 0 and 1 alone, else multiplications.

    In NeuroBench's dense count nothing is multiplied with padding; ours is what a dense convolution computes.
    A NeuroBench model that is called step by step would be judged step by step; ours reads all steps at once.
    """
    network, batches = pruned(command)
    ours, theirs = counts(network, batches), counts_of_neurobench(nb, network, batches)
    assert (ours["ac_trained"], ours["mac_trained"]) == (theirs["Effective_ACs"], theirs["Effective_MACs"])
    assert ours["mac_trained"] > 0 and (ours["ac_trained"] > 0) is not ("relu" in command or "srm" in command)
    if "network=mlp" in command:
        assert ours["dense"] == theirs["Dense"]
    else:
        assert ours["dense"] > theirs["Dense"]


@pytest.mark.parametrize(
    "command", ["residual=bireal", "norm=psp residual=bireal", "norm=psp residual=pre", "norm=psp network=vgg"]
)
def test_the_inference_form_of_a_network_is_what_neurobench_counts_once_it_is_folded(
    nb: SimpleNamespace, command: str
) -> None:
    """Folding it or counting it as if it were folded is the same, also where the trained network multiplied.

    Of a stream that is 0 everywhere, as after a dark image, the folded classifier would read nothing: ours does
    not look through the pooling in front of it and counts the shift of the readout's norm there.
    """
    network, batches = pruned(f"neuron=s2nn {command}")
    ours = counts(network, batches)
    theirs = counts_of_neurobench(nb, fold(network).network, batches)
    assert (ours["ac"], ours["mac"]) == (theirs["Effective_ACs"], theirs["Effective_MACs"])
    assert (ours["mac"] < ours["mac_trained"]) is ("norm=psp" in command)
