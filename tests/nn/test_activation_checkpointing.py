"""Activations computed again instead of kept: the same training, with less memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from snn_exp.config.compose import compose
from snn_exp.nn.activation_checkpointing import checkpoint_activations
from snn_exp.nn.blocks import RESIDUALS
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import NETWORKS, Network, build_network
from snn_exp.nn.norms import NORMS
from snn_exp.reporting.summary import summary
from snn_exp.runs.folder import RunFolder
from snn_exp.testing import contracts
from snn_exp.training import callbacks, train

T, B, C, SIDE, K, STEPS = 2, 3, 1, 4, 3, 3


def defaults(registry: Any, name: str) -> dict[str, Any]:
    return {"name": name} | {p.name: p.default for p in registry.options()[name].parameters}


def norm_cases() -> list[Any]:
    """Every variant of every norm."""
    return [
        pytest.param({"name": name, **parameters}, id="-".join([name, *map(str, parameters.values())]))
        for name, option in NORMS.options().items()
        for parameters in contracts.variants(option)
    ]


def build(
    *, norm: dict[str, Any], residual: str = "pre", network: str = "resnet", num_layers: int = 8, **neuron: Any
) -> Network:
    torch.manual_seed(0)
    parts = make_part_factories(
        neuron={"name": "lif", **neuron}, surrogate={"name": "atan"}, synapse={"name": "exponential"}, norm=norm,
        weight_norm={"name": "standardized"}, weight_quant={"name": "none"}, num_steps=T,
    )  # fmt: skip
    built = build_network(
        {"name": network, "width": 8}, parts, in_shape=(C, SIDE, SIDE), num_classes=K, num_layers=num_layers,
        residual=defaults(RESIDUALS, residual),
    )  # fmt: skip
    return built.double()


def trained(network: Network) -> list[Tensor]:
    """What some steps of training leave behind, step by step: logits, gradients, weights, buffers, next draw."""
    found = []
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    torch.manual_seed(2)
    for _ in range(STEPS):
        x_TBCHW = torch.randn(T, B, C, SIDE, SIDE, generator=generator, dtype=torch.float64) * 2
        optimizer.zero_grad()
        logits_BK = network(x_TBCHW)
        functional.cross_entropy(logits_BK, torch.arange(B) % K).backward()
        found += [logits_BK.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]
        optimizer.step()
        found += [tensor.detach().clone() for tensor in (*network.parameters(), *network.buffers())]
        found.append(torch.rand(()))
    return found


def trains_the_same(plain: Network, checkpointed: Network) -> None:
    for ours, theirs in zip(trained(checkpointed), trained(plain), strict=True):
        assert torch.equal(ours, theirs)


def checkpointed(network: Network) -> Network:
    network = copy.deepcopy(network)
    checkpoint_activations(network.segments())
    return network


@pytest.mark.parametrize("norm", norm_cases())
def test_gradients_and_running_statistics_are_those_of_the_plain_run(norm: dict[str, Any]) -> None:
    network = build(norm=norm)
    trains_the_same(network, checkpointed(network))


@pytest.mark.parametrize("residual", list(RESIDUALS))
@pytest.mark.parametrize("norm", ["bn", "psp"])
def test_whatever_the_block(residual: str, norm: str) -> None:
    network = build(norm=defaults(NORMS, norm), residual=residual)
    trains_the_same(network, checkpointed(network))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_whatever_the_network(name: str) -> None:
    network = build(norm=defaults(NORMS, "psp"), network=name, residual="none", learn_threshold=True)
    assert network.segments()
    trains_the_same(network, checkpointed(network))


class ReadsWhatItRemembers(nn.Module):
    """Divides by a running moment, moves it afterwards, in place or by a new tensor, and draws at random."""

    moment: Tensor

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("moment", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.dropout(x.sin() / self.moment.clone(), 0.3)
        moment = x.detach().square().mean()
        if self.in_place:
            self.moment.lerp_(moment, 0.5)
        else:
            self.moment = self.moment.lerp(moment, 0.5)
        return y.exp()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_module_is_computed_again_with_the_values_and_draws_it_had(in_place: bool) -> None:
    network = build(norm=defaults(NORMS, "bn"))
    for block in network.segments():
        block.register_module("activation2", ReadsWhatItRemembers(in_place).double())
    trains_the_same(network, checkpointed(network))


def test_without_putting_buffers_back_it_would_not_be_the_same() -> None:
    network = build(norm=defaults(NORMS, "psp"))
    broken = copy.deepcopy(network)
    for block in broken.segments():
        block.forward = bare(block.forward)
    with pytest.raises(AssertionError):
        trains_the_same(network, broken)


def bare(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    return lambda x: checkpoint(forward, x, use_reentrant=False)


def kept_values(network: Network) -> int:
    """Values that the forward pass keeps for the backward pass, each tensor counted once."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(T, B, C, SIDE, SIDE, dtype=torch.float64)).sum()
    return sum(tensor.numel() for tensor in kept.values())


def test_deeper_costs_far_less_memory_than_without() -> None:
    def a_block(wrap: Callable[[Network], Network]) -> float:
        shallow, deep = (wrap(build(norm=defaults(NORMS, "bn"), num_layers=n)) for n in (8, 26))
        return (kept_values(deep) - kept_values(shallow)) / 9

    assert a_block(checkpointed) < a_block(lambda network: network) / 10


def test_two_backward_passes_of_one_forward_add_up() -> None:
    network = build(norm=defaults(NORMS, "psp"))
    twin = checkpointed(network)
    for each in (network, twin):
        loss = each(torch.ones(T, B, C, SIDE, SIDE, dtype=torch.float64)).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    for ours, theirs in zip(twin.parameters(), network.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_stand_on_their_own_and_names_stay(copied: Callable[[Network], Network]) -> None:
    network = build(norm=defaults(NORMS, "psp"))
    source = checkpointed(network)
    twin = copied(source)
    assert list(twin.state_dict()) == list(network.state_dict())
    trains_the_same(network, twin)
    untouched = build(norm=defaults(NORMS, "psp"))
    assert all(map(torch.equal, source.state_dict().values(), untouched.state_dict().values()))


def test_a_checkpointed_run_is_the_plain_run_and_resumes_to_bitwise_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    common = ["network.width=4", "logger=none", "trainer.progress=false", "optim.batch_size=128", "encoding=rate",
              "encoding.num_steps=2", "trainer.max_epochs=2", "method=srm_psp"]  # fmt: skip
    plain, short_of_memory = compose(common), compose([*common, "trainer.checkpoint_activations=true"])
    assert plain.run_id == short_of_memory.run_id
    weights = {}
    for name, config in (("plain", plain), ("interrupted", short_of_memory)):
        monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / name))
        if name == "interrupted":
            with monkeypatch.context() as patched:
                patched.setattr(callbacks.EpochTable, "on_train_epoch_start", power_cut, raising=False)
                with pytest.raises(ConnectionAbortedError):
                    train.run(config, echo=False)
            assert RunFolder.of(config).last_checkpoint is not None
        result = train.run(config, echo=False)
        weights[name] = RunFolder.of(config).weights.read_bytes()
        assert RunFolder.of(config).result() == result
        assert result.peak_memory_mib is not None and result.peak_memory_mib > 50
        assert f"peak memory  {result.peak_memory_mib:,.0f} MiB" in summary(result, "again")
    assert RunFolder.of(short_of_memory).manifest()["execution"]["trainer"]["checkpoint_activations"] is True
    assert weights["plain"] == weights["interrupted"]


def power_cut(self: Any, trainer: Any, pl_module: Any) -> None:
    if trainer.current_epoch == 1:
        raise ConnectionAbortedError
