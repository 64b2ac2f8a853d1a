"""The space of a search: its grammar, and which parameters go with which option."""

from __future__ import annotations

import pytest

from snn_exp.errors import UserError
from snn_exp.sweeps.budget import Budget
from snn_exp.sweeps.space import OpenSpace, read_axis


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("neuron=lif,plif", ["lif", "plif"]),
        ("network.width=8,16,8", ["8", "16"]),
        ("network.width=range(4,13,4)", [4, 8, 12]),
        ("network.width=int(interval(4,6))", [4, 5, 6]),
        ("optim.weight_decay=range(0.0,0.3,0.1)", [0.0, 0.1, 0.2]),
        ("optim.lr=interval(0.001,0.03)", None),
        ("optim.lr=tag(log,interval(0.001,0.03))", None),
    ],
)
def test_the_values_of_an_axis_are_listed_where_they_end(line: str, listed: list[object] | None) -> None:
    found = read_axis(line).listed
    assert found == (listed if listed is None or not isinstance(listed[-1], float) else pytest.approx(listed))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["optim.lr=interval(0.03,0.001)"],
            "optim.lr=interval(0.03,0.001): a range goes up, from its least value to its greatest, as interval(0.001,0.03)",
        ),
        (
            ["optim.lr=tag(log,interval(0,0.001))"],
            "optim.lr=tag(log,interval(0,0.001)): a logarithm has no value at 0; give a range above 0, or no tag(log,...)",
        ),
        (
            ["surrogate.atn.width=1.0,2.0"],
            "surrogate.atn.width=1.0,2.0: atn is no option of surrogate; allowed: approx_sign, atan, erf, fast_sigmoid, "
            "none, rect, s2nn, sigmoid, slayer_exp, ste, swish_sign, triangle; did you mean surrogate.atan.width?",
        ),
        (
            ["surrogate=atan,erf", "surrogate.atan.width=1.0,2.0", "surrogate.width=1.0,2.0"],
            "surrogate.width=1.0,2.0 is of every option that has such a parameter, and surrogate.atan.width=1.0,2.0 of "
            "one; give each option its own range, or one range to all",
        ),
        (
            ["surrogate=atan,erf", "surrogate.alpha=1.0,2.0"],
            "surrogate.alpha=1.0,2.0 is a parameter of surrogate=s2nn, and this search has surrogate=atan or erf alone; "
            "leave it out, or type surrogate=atan,erf,s2nn",
        ),
    ],
)
def test_a_space_that_says_nothing_or_two_things_is_refused(lines: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        OpenSpace.of([], lines).require_each_parameter_somewhere()
    assert str(refusal.value) == sentence


def test_a_parameter_goes_with_the_options_that_have_it() -> None:
    axes = ["surrogate=atan,s2nn", "surrogate.alpha=1.0,2.0", "surrogate.atan.width=0.1,0.2", "optim.lr=0.1"]
    space = OpenSpace.of(["surrogate.s2nn.beta=2.0", "seed=1"], axes[:3])
    space.require_each_parameter_somewhere()
    assert list(space.cells()) == [
        {"surrogate": "atan", "surrogate.atan.width": "0.1"},
        {"surrogate": "atan", "surrogate.atan.width": "0.2"},
        {"surrogate": "s2nn", "surrogate.alpha": "1.0"},
        {"surrogate": "s2nn", "surrogate.alpha": "2.0"},
    ]
    atan, s2nn = space.corners()[:2]
    assert atan == ("surrogate=atan", "surrogate.width=0.1") and space.fixed_with(atan) == ("seed=1",)
    assert s2nn == ("surrogate=s2nn", "surrogate.alpha=2.0")
    assert space.fixed_with(s2nn) == ("surrogate.beta=2.0", "seed=1")


def test_a_method_brings_the_options_that_decide_which_parameters_there_are() -> None:
    space = OpenSpace.of([], ["method=relu_bn,lif_bn", "neuron.tau=2.0,4.0"])
    space.require_each_parameter_somewhere()
    assert [("neuron.tau" in cell) for cell in space.cells()] == [False, True, True]


def test_a_budget_is_spent_where_its_first_part_is() -> None:
    budget = Budget.read("3,1core-min")
    assert [budget.is_spent(*spent) for spent in ((2, 59, 1e9), (3, 0, 0), (0, 60, 0))] == [False, True, True]
