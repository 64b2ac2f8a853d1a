"""A part of a plugin that costs a run the fused kernels, or part of them, is named in a line."""

from __future__ import annotations

import pytest

from snn_exp.config.compose import compose
from snn_exp.nn.kernels import MEMBRANE_NORM, Choice
from snn_exp.nn.neurons import NEURONS
from snn_exp.nn.norms import NORMS
from snn_exp.nn.synapses import SYNAPSES
from snn_exp.training.build import costs_of_own_parts

FUSED = Choice("fused", "faster, see benchmarks/kernels.md")
BY_ITSELF = (
    "(of snn_mine) has no fused form, so it computes by itself beside the fused neurons, which is slower per step"
)
PLAIN = "(of snn_mine) has no fused form, so this run takes the plain path, which is slower per step"


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIF, batch norm and the exponential synapse, as if a plugin had brought them."""
    for registry, name in ((NEURONS, "lif"), (NORMS, "bn"), (SYNAPSES, "exponential")):
        monkeypatch.setattr(registry[name], "__module__", "snn_mine")


@pytest.mark.parametrize(
    ("overrides", "kernels", "lines"),
    [
        ("neuron=plif norm=bn synapse=identity", FUSED, [f"norm=bn {BY_ITSELF}"]),
        ("neuron=plif norm=bn synapse=exponential", FUSED, [f"norm=bn {BY_ITSELF}", f"synapse=exponential {BY_ITSELF}"]),
        ("neuron=plif norm=bn", Choice("reference", MEMBRANE_NORM), [f"norm=bn {PLAIN}"]),
        ("neuron=plif norm=bn", Choice("reference", "trainer.kernels=reference"), []),
        ("neuron=plif norm=none", FUSED, []),
        ("neuron=lif norm=bn", Choice("reference", "neuron=lif has no fused form"), [f"neuron=lif {PLAIN}"]),
    ],
)  # fmt: skip
def test_each_part_of_ones_own_that_has_no_fused_form_is_named(
    overrides: str, kernels: Choice, lines: list[str], guests: None
) -> None:
    assert costs_of_own_parts(compose(["dataset=digits_200", *overrides.split()]), kernels) == lines


def test_our_own_parts_are_not_named() -> None:
    assert costs_of_own_parts(compose(["norm=layer", "neuron=klif"]), FUSED) == []
