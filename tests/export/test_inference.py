"""A network made for inference gives what the trained one gives."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import snn_exp
from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.export.inference import Inferring, for_inference
from snn_exp.nn.kernels import build
from snn_exp.nn.kernels.bits import FiringBits
from snn_exp.nn.kernels.tables import ConvolutionByTables
from snn_exp.nn.networks import Network
from snn_exp.nn.norms import Norm
from snn_exp.training.build import DataSpec, assemble
from tests.finished import Finished

try:
    build.toolchain()
except build.Unavailable as reason:
    pytest.skip(f"the kernels cannot be built: {reason}", allow_module_level=True)

SMALL = ("network.width=5", "depth=d8")


def trained(overrides: Sequence[str], size: int = 9) -> tuple[Network, Tensor]:
    """A network in float64 whose norms have seen something, and what it reads."""
    torch.manual_seed(0)
    config = compose([*SMALL, *overrides])
    task = assemble(config, DataSpec((1, size, size), 3)).double()
    x = task.encoding(torch.rand(6, 1, size, size, dtype=torch.float64) * 3)
    network = task.network
    network(x)
    return network.eval(), x


def count(network: Inferring, kind: type) -> int:
    return sum(isinstance(part, kind) for part in network.modules())


@pytest.mark.parametrize(
    ("overrides", "num_by_tables", "num_bits"),
    [
        (["method=s2nn_bn"], 6, 6),
        (["method=lif_bn"], 6, 6),
        (["neuron=lif", "norm=bn", "residual=bireal", "residual.shortcut=conv"], 8, 6),
        (["neuron=s2nn", "norm=bn", "residual=post"], 6, 3),
        (["neuron=s2nn", "norm=bn", "residual=ms"], 6, 6),
        (["neuron=if", "norm=bn", "residual=sew_add"], 4, 3),
        (["neuron=lif", "norm=bn", "residual=none"], 6, 6),
        (["neuron=lif", "norm=bn", "network=vgg"], 6, 4),
        (["neuron=klif", "norm=none", "residual=pre"], 6, 0),
        (["method=srm_psp"], 0, 0),
        (["method=sign_bn"], 0, 0),
        (["neuron=relu", "norm=bn", "residual=post"], 0, 0),
        (["neuron=ilif", "norm=bn", "residual=pre"], 0, 0),
    ],
)
def test_logits_are_those_of_the_trained_network(overrides: Sequence[str], num_by_tables: int, num_bits: int) -> None:
    network, x = trained(overrides)
    fast = for_inference(network)
    with torch.no_grad():
        for given in (x, x[:, :1], x[:, :0]):
            torch.testing.assert_close(fast(given), network(given), rtol=1e-9, atol=1e-10)
    assert (count(fast, ConvolutionByTables), count(fast, FiringBits)) == (num_by_tables, num_bits)
    assert len(fast.by_tables) == num_by_tables


def test_in_float32_logits_are_near_and_the_network_is_left_as_it_was_and_copies() -> None:
    network, x = trained(["method=lif_bn"])
    network.float()
    before = copy.deepcopy(network.state_dict())
    fast = for_inference(network)
    assert not any(isinstance(part, Norm) for part in fast.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(fast(x.float()), network(x.float()), rtol=1e-4, atol=1e-5)
    assert torch.equal(copy.deepcopy(fast)(x.float()), fast(x.float()))


def test_what_is_added_over_a_stream_is_not_read_again() -> None:
    network, x = trained(["method=s2nn_bn", "residual.shortcut=conv"])
    fast = for_inference(network)
    given = x.clone()
    assert torch.equal(fast(given), fast(given)) and torch.equal(given, x)


def test_it_cannot_be_trained() -> None:
    network, _ = trained(["method=s2nn_bn"])
    with pytest.raises(UserError, match="cannot be trained"):
        for_inference(network).train()


def test_without_a_compiler_it_is_folded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = trained(["method=s2nn_bn"])

    def none() -> tuple[str, str]:
        raise build.Unavailable("there is no C++ compiler")

    monkeypatch.setattr("snn_exp.export.inference.toolchain", none)
    fast = for_inference(network)
    assert fast.by_tables == () and fast.why == "there is no C++ compiler"
    torch.testing.assert_close(fast(x), network(x).detach(), rtol=1e-9, atol=1e-10)


def test_a_run_is_loaded_for_inference_and_then_not_measured(finished: Finished) -> None:
    config, _ = finished("neuron=lif")
    plain, fast = snn_exp.load(config.run_id), snn_exp.load(config.run_id, for_inference=True)
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-3, atol=1e-3)
    assert isinstance(fast.network, Inferring)
    with pytest.raises(UserError, match="for_inference"):
        snn_exp.measure(fast, x)
