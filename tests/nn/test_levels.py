"""Neurons of several levels: against the binary neurons that they stand for, and what a level costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.config.compose import compose
from snn_exp.errors import UserError
from snn_exp.export.addition_only import multiplications
from snn_exp.export.fold import fold
from snn_exp.export.folded_run import compare
from snn_exp.export.int8 import integer
from snn_exp.metrics.operations import SynapticOperations
from snn_exp.nn.layers import Conv2d, Linear
from snn_exp.nn.networks import MaxPool
from snn_exp.nn.neurons import IF, S2NN, IntegerLIF, MultiThreshold, Neuron, QuantizedReLU, Ternary
from snn_exp.nn.norms import BatchNorm
from tests.export.test_fold import batch, make_network

# 64ths add up exactly, so that no rounding decides at a threshold
SIXTY_FOURTHS = torch.arange(-200, 201, dtype=torch.float64).view(1, 1, -1) / 64
LEVELS: dict[str, dict[str, Any]] = {
    "qrelu": {"name": "qrelu", "bits": 2},
    "qrelu of one bit": {"name": "qrelu", "bits": 1, "per": "channel"},
    "mtn": {"name": "mtn"},
    "ilif": {"name": "ilif", "levels": 2},
    "ternary": {"name": "ternary", "reset": "soft", "v_threshold": 0.7},
}


def repeated(x: Tensor, num_steps: int) -> Tensor:
    return x.expand(num_steps, *x.shape[1:])


# --- against binary neurons ------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
def test_one_step_of_mtn_counts_the_spikes_of_as_many_steps_of_if_with_soft_reset(levels: int) -> None:
    """The input of a step is the N-th part of mtn's, N v_threshold / N: both see x at each step, thresholds differ."""
    counts = IF(reset="soft", v_threshold=1.0)(repeated(SIXTY_FOURTHS, levels)).sum(0)
    emitted = MultiThreshold(levels=levels).double()(SIXTY_FOURTHS)
    assert torch.equal(emitted[0] * levels, counts)
    assert set(counts.unique().tolist()) == set(range(levels + 1))


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_qrelu_is_the_rate_of_an_if_neuron_that_starts_at_half_its_threshold(bits: int) -> None:
    steps, clip = 2**bits - 1, 1.5
    start = torch.full_like(SIXTY_FOURTHS[0], clip / 2)
    spikes, _ = IF(reset="soft", v_threshold=clip).unroll(repeated(SIXTY_FOURTHS, steps), (start,))
    y = QuantizedReLU(bits=bits, clip=clip).double()(SIXTY_FOURTHS).detach()
    torch.testing.assert_close(y[0], clip * spikes.mean(0), rtol=0, atol=1e-12)
    assert len(y.unique()) == steps + 1


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_qrelu_has_two_to_the_bits_values_and_the_gradient_of_a_clipped_relu(bits: int) -> None:
    x = torch.linspace(-1, 3, 4001, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    neuron = QuantizedReLU(bits=bits, clip=2.0).double()
    y = neuron(x)
    assert len(y.unique()) == 2**bits
    assert (y - x.clamp(0, 2)).abs().max() <= 1 / (2**bits - 1) + 1e-9, "half a step at most"
    y.sum().backward()
    assert x.grad is not None and neuron.clip.grad is not None
    inside, at_an_end = (x > 0) & (x < 2), (x.abs() < 1e-9) | ((x - 2).abs() < 1e-9)
    torch.testing.assert_close(x.grad[~at_an_end], inside.double()[~at_an_end])
    # by hand: 1 where it is clipped from above, the rounding elsewhere
    by_hand = torch.where(x > 2, 1.0, (y - x) / 2 * (x >= 0)).sum()
    torch.testing.assert_close(neuron.clip.grad, by_hand.detach(), rtol=0, atol=1.5)  # an end is on either side


def test_qrelu_learns_a_range_per_channel_where_asked() -> None:
    neuron = QuantizedReLU((2, 1, 1), bits=1, clip=2.0, per="channel")
    with torch.no_grad():
        neuron.clip.copy_(torch.tensor([2.0, 8.0]).view(2, 1, 1))
    assert neuron(torch.full((1, 1, 2, 1, 1), 1.5)).flatten().tolist() == [2.0, 0.0]


def test_eight_bits_keep_apart_in_bfloat16() -> None:
    y = QuantizedReLU(bits=8, clip=255.0).bfloat16()(torch.arange(300.0).bfloat16().view(1, 1, -1))
    assert y.max() == 255 and torch.equal(y[..., :255], torch.arange(255.0).bfloat16().view(1, 1, -1))


def test_mtn_of_one_level_is_s2nn() -> None:
    surrogate = S2NN().surrogate
    x, z = (torch.randn(1, 3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    y, expected = MultiThreshold((), surrogate, levels=1)(x), S2NN((), surrogate)(z)
    assert torch.equal(y, expected)
    y.sum().backward(), expected.sum().backward()
    assert x.grad is not None and z.grad is not None and torch.equal(x.grad, z.grad)


def test_ilif_follows_the_trace_computed_by_hand() -> None:
    neuron = IntegerLIF(levels=3, tau=2.0)
    x = torch.tensor([1.5, 2.5, -1.0, 0.0, 9.0]).view(-1, 1, 1)
    # h = 1.5 (a tie goes up), then -.25 + 2.5, .125 - 1, -.4375, -.21875 + 9; it keeps what the levels leave
    spikes, (v,) = neuron.unroll(x)
    assert spikes.flatten().tolist() == [2, 2, 0, 0, 3]
    assert v.item() == 8.78125 - 3


def test_ternary_adds_and_subtracts_and_is_odd() -> None:
    x = torch.randn(6, 4, 20, generator=torch.Generator().manual_seed(0)) * 2
    for reset in ("hard", "soft"):
        neuron = Ternary(reset=reset, v_reset=0.0)
        assert torch.equal(neuron(-x), -neuron(x))
    spikes, (v,) = Ternary(reset="soft", tau=2.0).unroll(torch.tensor([[-1.5], [0.25], [1.5]]))
    assert spikes.flatten().tolist() == [-1, 0, 1] and v.item() == 0.5


def test_the_reset_of_ternary_passes_a_gradient_on_where_it_does_not_fire() -> None:
    x = torch.tensor([[0.9], [0.3]], requires_grad=True)
    Ternary()(x)[1].sum().backward()
    # h[1] = (h[0] - |s| h[0]) / 2 + x, and rect lets .9 and .75 through: (1 - .9) / 2
    assert x.grad is not None and x.grad[0].item() == pytest.approx(0.05)


# --- what a level costs ----------------------------------------------------------------------------


def counted(neuron: Neuron, x: list[float]) -> dict[str, float]:
    network = nn.Sequential(neuron, Linear(len(x), 3)).eval()
    metric = SynapticOperations(network)
    with metric.listening(), torch.no_grad():
        network(torch.tensor([[x]]))
    return metric.by_layer()["1"]


@pytest.mark.parametrize(
    ("neuron", "x", "ac", "mac"),
    [
        (IntegerLIF(levels=4), [-1.0, 0.6, 2.2, 9.0], (0 + 1 + 2 + 4) * 3, 0),
        (MultiThreshold(levels=4), [-1.0, 0.3, 0.6, 9.0], (0 + 1 + 2 + 4) * 3, 0),
        (Ternary(), [-1.0, 0.6, 2.2, -9.0], 3 * 3, 0),
        (QuantizedReLU(bits=1, clip=3.0), [-1.0, 0.6, 2.2, 9.0], 2 * 3, 0),
        (QuantizedReLU(bits=2, clip=3.0), [-1.0, 0.6, 2.2, 9.0], 0, 3 * 3),
    ],
    ids=["ilif", "mtn", "ternary", "qrelu of one bit", "qrelu of two"],
)
def test_a_level_in_slots_is_as_many_additions_and_one_of_a_quantized_network_a_multiplication(
    neuron: Neuron, x: list[float], ac: float, mac: float
) -> None:
    counts = counted(neuron, x)
    assert (counts["ac"], counts["mac"]) == (ac, mac)


def test_what_was_trained_is_counted_as_it_stands() -> None:
    """NeuroBench's definition: additions where all of a batch is in -1, 0 and 1."""
    assert counted(IntegerLIF(levels=4), [0.6, 2.2])["mac_trained"] == 2 * 3
    assert counted(QuantizedReLU(bits=1, clip=3.0), [0.6, 2.2])["mac_trained"] == 1 * 3
    assert counted(Ternary(), [0.6, -2.2, 1.7])["ac_trained"] == 2 * 3


def test_pooled_levels_are_levels() -> None:
    network = nn.Sequential(MultiThreshold(levels=4), MaxPool(), Conv2d(1, 3)).eval()
    metric = SynapticOperations(network)
    with metric.listening(), torch.no_grad():
        network(torch.tensor([0.3, 0.6, 0.8, -1.0]).view(1, 1, 1, 2, 2))
    counts = metric.by_layer()["2"]
    assert (counts["ac"], counts["mac"]) == (3 * 3, 0), "the largest level is 3, which three units read"


@pytest.mark.parametrize(
    ("neuron", "adds"), [("mtn", True), ("ilif", True), ("ternary", True), ("qrelu of one bit", True), ("qrelu", False)]
)
def test_a_network_of_levels_in_slots_adds_alone(neuron: str, adds: bool) -> None:
    network = fold(make_network(LEVELS[neuron], residual={"name": "pre"}, num_steps=1)).network
    operations = SynapticOperations(network)
    with operations.listening(), torch.no_grad():
        network(batch(1)[0])
    found = multiplications(network, operations.by_layer())
    assert (not found.hidden) is adds
    assert adds or set(found.hidden.values()) == {"read the output of QuantizedReLU"}


# --- norms and formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [{"residual": {"name": "pre"}}, {"residual": {"name": "post"}}, {"network": {"name": "vgg"}}],
                         ids=["pre", "post", "vgg"])  # fmt: skip
@pytest.mark.parametrize("norm", ["bn", "psp"])
@pytest.mark.parametrize("neuron", LEVELS)
def test_norms_fold_into_several_thresholds(neuron: str, norm: str, structure: dict[str, Any]) -> None:
    num_steps = 3 if neuron in ("ilif", "ternary") else 1
    network = make_network(LEVELS[neuron], norm, **structure, num_steps=num_steps)
    folded = fold(network)
    found = compare(network, folded, [batch(num_steps)])
    assert found.num_flipped == 0 and found.logit_error <= 1e-10
    assert 0.02 < found.num_spikes / found.num_outputs < 0.98
    assert not any(isinstance(module, BatchNorm) for module in folded.modules())


def test_a_membrane_norm_folds_into_levels_under_a_soft_reset() -> None:
    for neuron in ("ilif", "ternary"):
        network = make_network(LEVELS[neuron], "mpbn", residual={"name": "post"}, num_steps=3)
        found = compare(network, fold(network), [batch(3)])
        assert found.num_flipped == 0 and 0 < found.num_spikes < found.num_outputs


def test_a_flip_from_one_level_to_the_next_is_seen() -> None:
    network = make_network(LEVELS["mtn"], "bn", num_steps=1)
    folded = fold(network)
    for module in folded.modules():
        if isinstance(module, MultiThreshold) and module.folded_levels is not None:
            module.folded_levels.shift.add_(0.1)
    assert compare(network, folded, [batch(1)]).num_flipped > 0


@pytest.mark.parametrize(("neuron", "sentence"), [
    ("mtn", "is a MultiThreshold, which emits levels, and int8 has thresholds for one level alone; choose a run with"),
    ("qrelu", "is a QuantizedReLU, which emits levels, and int8 has thresholds for one level alone"),
    ("ilif", "is a IntegerLIF, which has a state over several steps"),
    ("ternary", "is a Ternary, which has a state over several steps"),
])  # fmt: skip
def test_what_int8_cannot_hold_is_refused_in_a_sentence(neuron: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        integer(fold(make_network(LEVELS[neuron], num_steps=1)).float())


# --- configs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "steps"), [("neuron=qrelu", 1), ("neuron=mtn", 1), ("neuron=ilif", 1),
                                                ("neuron=ilif encoding.num_steps=4", 4), ("neuron=ternary", 1)])  # fmt: skip
def test_the_number_of_steps_is_one_unless_a_neuron_with_a_state_is_given_more(command: str, steps: int) -> None:
    assert compose(command.split()).num_steps == steps


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("neuron=qrelu neuron.bits=9", r"neuron.bits=9 is not allowed: neuron.bits must be an int >= 1 and <= 8"),
        ("neuron=mtn neuron.levels=0", r"neuron.levels=0 is not allowed: neuron.levels must be an int >= 1"),
        ("neuron=ilif neuron.levels=1000", r"at most 256, or bfloat16 cannot tell the levels apart"),
        ("neuron=lif neuron.levels=4", "levels"),
        ("neuron=mtn encoding.num_steps=4", "which has a single step; leave encoding.num_steps out"),
        ("neuron=ilif residual=sew_add", "combines spikes and neuron=ilif emits levels, whole multiples of a unit"),
        ("neuron=ternary norm=neunorm", "counts spikes and neuron=ternary emits -1, 0 and 1"),
        ("neuron=ternary neuron.v_reset=-2", "a neuron at rest would fire a negative spike at every step"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(command: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compose(command.split())
