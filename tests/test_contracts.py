"""Every registered part keeps the contract of its kind, and each contract rejects a broken part."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_exp.nn.init import INITS
from snn_exp.nn.neurons import IF, NEURONS, MultiThreshold
from snn_exp.nn.norms import NORMS, BatchNorm, LayerNorm, RMSNorm, Site, TemporalAccumulatedBatchNorm
from snn_exp.nn.stepwise import State, Stepwise
from snn_exp.nn.surrogates import SURROGATES, ATan
from snn_exp.nn.synapses import SYNAPSES, ExponentialSynapse, IdentitySynapse
from snn_exp.nn.weights import WEIGHT_NORMS, WEIGHT_QUANTS
from snn_exp.registry import Option, Positive, Registry
from snn_exp.testing import contracts
from snn_exp.testing.whole import IN_TIME, MODULES, C, H, StepByStep, T, W, build, input_for, supplied

REGISTRIES: dict[str, Registry[Any]] = {
    r.kind: r for r in (NEURONS, SYNAPSES, NORMS, SURROGATES, WEIGHT_NORMS, WEIGHT_QUANTS, INITS)
}


def names(*kinds: str) -> list[Any]:
    return [pytest.param(k, n, id=f"{k}-{n}") for k in kinds for n in REGISTRIES[k]]


def cases(*kinds: str) -> list[Any]:
    """(kind, config) of every variant of every part."""
    found = []
    for kind in kinds:
        for name, option in REGISTRIES[kind].options().items():
            defaults = {p.name: p.default for p in option.parameters}
            for parameters in contracts.variants(option):
                other = [f"{k}={v}" for k, v in parameters.items() if defaults[k] != v]
                found.append(pytest.param(kind, {"name": name, **parameters}, id="-".join([kind, name, *other])))
            if "membrane" in option.traits.get("placements", ()):
                config = {"name": name, "placement": "membrane"}
                found.append(pytest.param(kind, config, id=f"{kind}-{name}-membrane"))
    return found


def option_of(kind: str, name: str) -> Option:
    return REGISTRIES[kind].options()[name]


# --- every part -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), names(*REGISTRIES))
def test_a_bad_value_is_refused_and_named(kind: str, name: str) -> None:
    cls = REGISTRIES[kind][name]
    option = option_of(kind, name)
    contracts.refuses_bad_values(lambda **bad: cls(*supplied(kind), **bad), option)
    assert all(contracts.bad_values(p) for p in option.parameters)


@pytest.mark.parametrize(("kind", "name"), names(*REGISTRIES))
def test_the_class_is_documented(kind: str, name: str) -> None:
    contracts.is_documented(REGISTRIES[kind][name], option_of(kind, name))
    assert option_of(kind, name).summary


@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_shape_dtype_and_device_are_kept(kind: str, config: dict[str, Any]) -> None:
    part = build(kind, config)
    assert isinstance(part, (REGISTRIES[kind][config["name"]], StepByStep))
    contracts.keeps_shape_dtype_and_device(part, input_for(kind))
    contracts.keeps_shape_dtype_and_device(part.eval(), input_for(kind))


@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_forward_twice_gives_the_same(kind: str, config: dict[str, Any]) -> None:
    part = build(kind, config)
    if not getattr(part, "trains_on_running_statistics", False):
        contracts.forward_twice_is_the_same(part.train(), input_for(kind))
    contracts.forward_twice_is_the_same(part.eval(), input_for(kind))


@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_in_eval_batch_items_do_not_influence_each_other_nor_do_units_of_a_weight(
    kind: str, config: dict[str, Any]
) -> None:
    axis = 1 if kind in IN_TIME else 0
    contracts.items_are_independent(build(kind, config).eval(), input_for(kind), axis)


@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_gradients_are_finite_and_reach_the_input_and_every_parameter(kind: str, config: dict[str, Any]) -> None:
    contracts.gradients_arrive(build(kind, config), input_for(kind))


@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_a_deepcopy_and_a_state_dict_hold_everything(kind: str, config: dict[str, Any]) -> None:
    contracts.copies_agree(build(kind, config), build(kind, config), input_for(kind))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "config"), cases(*MODULES))
def test_float64_and_bfloat16_work(kind: str, config: dict[str, Any], dtype: torch.dtype) -> None:
    contracts.works_in(dtype, build(kind, config), input_for(kind))


# --- parts with time ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "config"), cases(*IN_TIME))
def test_the_future_changes_the_past_only_where_a_neuron_says_so(kind: str, config: dict[str, Any]) -> None:
    part = build(kind, config).eval()
    if kind != "neuron" or part.causal:
        contracts.is_causal(part, input_for(kind))
    else:
        with pytest.raises(AssertionError, match="changes what came before"):
            contracts.is_causal(part, input_for(kind))


@pytest.mark.parametrize(
    ("kind", "config"),
    [c for c in cases(*IN_TIME) if issubclass(REGISTRIES[c.values[0]][c.values[1]["name"]], Stepwise)],
)
def test_splitting_time_with_carried_state_equals_one_pass(kind: str, config: dict[str, Any]) -> None:
    contracts.splits_in_time(build(kind, config), input_for(kind))


@pytest.mark.parametrize(("kind", "config"), cases(*IN_TIME))
def test_one_step_works(kind: str, config: dict[str, Any]) -> None:
    contracts.keeps_shape_dtype_and_device(build(kind, config, num_steps=1), input_for(kind)[:1])


@pytest.mark.parametrize(("kind", "config"), cases("neuron"))
def test_a_neuron_emits_what_its_traits_say(kind: str, config: dict[str, Any]) -> None:
    part = build(kind, config)
    contracts.emits(part, input_for(kind), part.emits)
    assert part.stepwise == isinstance(part, Stepwise)
    if part.has_membrane:
        contracts.fires_through_its_membrane_norm(part, input_for(kind))
    assert part.default_surrogate in SURROGATES and part.default_synapse in SYNAPSES


@pytest.mark.parametrize(("kind", "config"), cases("norm"))
def test_statistics_are_over_the_axes_the_norm_names(kind: str, config: dict[str, Any]) -> None:
    norm = build(kind, config).double()
    contracts.statistics_are_over_what_it_says(norm, input_for(kind).double())
    assert set(norm.placements) <= {"psp", "current", "membrane", "spike"}


@pytest.mark.parametrize(("kind", "config"), cases("norm"))
def test_in_eval_a_norm_is_the_scale_and_shift_it_names(kind: str, config: dict[str, Any]) -> None:
    contracts.is_affine_where_it_says_so(build(kind, config).double(), input_for(kind).double())


@pytest.mark.parametrize(("kind", "config"), cases("neuron"))
def test_a_neuron_takes_over_what_stands_in_front_of_it(kind: str, config: dict[str, Any]) -> None:
    contracts.folds_what_stands_in_front(build(kind, config).double(), input_for(kind).double())


# --- surrogates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1.3])
@pytest.mark.parametrize("name", list(SURROGATES))
def test_a_surrogate_derivative_belongs_to_its_primitive(name: str, factor: float) -> None:
    parameters = {p.name: p.default * factor for p in option_of("surrogate", name).parameters}
    surrogate = SURROGATES[name](**parameters)
    contracts.derivative_belongs_to_primitive(surrogate)
    assert surrogate.kernel(torch.zeros(())) == parameters.get("beta", 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", list(SURROGATES))
def test_a_surrogate_steps_forward_and_differentiates_backward(name: str, dtype: torch.dtype) -> None:
    surrogate = SURROGATES[name]()
    contracts.spikes_with_its_derivative(surrogate, input_for("neuron").to(dtype))
    assert repr(copy.deepcopy(surrogate)) == repr(surrogate)


# --- each contract rejects a broken part ----------------------------------------------------------


class Broken(nn.Module):
    """A part whose forward does one wrong thing."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.state: Any = 0.0
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "keeps state between calls":
            self.state = self.state + x.detach()
            return x + self.state
        return {
            "drops a step": lambda: x[1:],
            "changes dtype": lambda: x.float(),
            "emits analog values": lambda: x,
            "mixes batch items": lambda: x - x.mean(1, keepdim=True),
            "mixes units": lambda: x - x.mean(0, keepdim=True),
            "looks into the future": lambda: x.flip(0),
            "has a NaN gradient": lambda: torch.where(x > 0, x, (x * 0).sqrt()) + self.unused,
            "is cut off from its input": lambda: x.detach() + self.unused,
            "leaves a parameter out": lambda: x,
        }[self.how]()


class WritesIntoItsState(ExponentialSynapse):
    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        state[0].mul_(self.decay).add_(x_BN)
        return state[0].clone(), state


class CountsItsSteps(ExponentialSynapse):
    steps = 0

    def step(self, x_BN: Tensor, state: State) -> tuple[Tensor, State]:
        self.steps += 1
        return super().step(x_BN + self.steps, state)


class FiresPastItsNorm(IF):
    def fire(self, h: Tensor) -> Tensor:
        return self.surrogate.spike(h - self.v_threshold)


class KeepsSomethingOutOfItsStateDict(IdentitySynapse):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, s_TBN: Tensor) -> Tensor:
        self.calls += self.training
        return s_TBN * self.calls


class SaysItIsOverTheBatchOnly(BatchNorm):
    @property
    def statistics_over(self) -> str:
        return "B"


class SaysItIsOverThePast(BatchNorm):
    @property
    def statistics_over(self) -> str:
        return "T<=t,B,H,W"


class SaysItIsOverAllTime(TemporalAccumulatedBatchNorm):
    @property
    def statistics_over(self) -> str:
        return "T,B,H,W"


class SaysItIsOverEverything(RMSNorm):
    @property
    def statistics_over(self) -> str:
        return "T,B,C,H,W"


class SaysItIsAffine(LayerNorm):
    def affine_C(self) -> tuple[Tensor, Tensor]:
        return torch.ones(C).double(), torch.zeros(C).double()


class SaysItIsLinearInItsInput(IF):
    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        return v + x.tanh()


class KeepsItsOwnThreshold(IF):
    def fire(self, h: Tensor) -> Tensor:
        return self.surrogate.spike(h - self.threshold_as(h))


class SaysThereAreMoreLevels(MultiThreshold):
    def __init__(self) -> None:
        super().__init__(levels=4)
        self.num_levels += 1

    def theta(self) -> Tensor:
        return self.v_threshold / 4

    def fire(self, h: Tensor) -> Tensor:
        return super().fire(h).clamp(max=1.0)


class SaysTheUnitIsLarger(MultiThreshold):
    @property
    def unit(self) -> Tensor:
        return 1.5 * self.theta()


class AnotherDerivative(ATan):
    def kernel(self, y: Tensor) -> Tensor:
        return 1 / (1 + y.abs())


class NotANumber(ATan):
    def kernel(self, y: Tensor) -> Tensor:
        return torch.where(y == -1 / self.width, torch.nan, super().kernel(y))


class Unchecked:
    def __init__(self, *, strength: Positive = 1.0) -> None:
        pass


def option_for(cls: type) -> Option:
    return Registry[Any]("test")._option("test", cls)


X = input_for("neuron")


@pytest.mark.parametrize(
    ("contract", "arguments"),
    [
        (contracts.keeps_shape_dtype_and_device, (Broken("drops a step"), X)),
        (contracts.keeps_shape_dtype_and_device, (Broken("changes dtype"), X.double())),
        (contracts.emits, (Broken("emits analog values"), X, "spikes")),
        (contracts.emits, (IF(), X, "signs")),
        (contracts.emits, (IF(), X, "ternary")),
        (contracts.emits, (SaysThereAreMoreLevels(), X, "levels")),
        (contracts.emits, (SaysTheUnitIsLarger(), X, "levels")),
        (contracts.forward_twice_is_the_same, (Broken("keeps state between calls"), X)),
        (contracts.items_are_independent, (Broken("mixes batch items"), X, 1)),
        (contracts.items_are_independent, (Broken("mixes units"), input_for("weight_norm"), 0)),
        (contracts.is_causal, (Broken("looks into the future"), X)),
        (contracts.splits_in_time, (WritesIntoItsState(), X)),
        (contracts.splits_in_time, (CountsItsSteps(), X)),
        (contracts.gradients_arrive, (Broken("has a NaN gradient"), X)),
        (contracts.gradients_arrive, (Broken("is cut off from its input"), X)),
        (contracts.gradients_arrive, (Broken("leaves a parameter out"), X)),
        (contracts.gradients_arrive, (IF(surrogate=SURROGATES["none"]()), X)),
        (contracts.copies_agree, (KeepsSomethingOutOfItsStateDict(), KeepsSomethingOutOfItsStateDict(), X)),
        (contracts.works_in, (torch.float64, Broken("changes dtype"), X)),
        (contracts.refuses_bad_values, (Unchecked, option_for(Unchecked))),
        (contracts.is_documented, (Unchecked, option_for(Unchecked))),
        (contracts.is_documented, (NotANumber, option_for(NotANumber))),
        (contracts.statistics_are_over_what_it_says, (SaysItIsOverTheBatchOnly(Site((C, H, W))), X)),
        (contracts.statistics_are_over_what_it_says, (SaysItIsOverEverything(Site((C, H, W))), X)),
        (contracts.is_affine_where_it_says_so, (SaysItIsAffine(Site((C, H, W))).double(), X.double())),
        (contracts.folds_what_stands_in_front, (SaysItIsLinearInItsInput().double(), X.double())),
        (contracts.folds_what_stands_in_front, (KeepsItsOwnThreshold().double(), X.double())),
        (contracts.statistics_are_over_what_it_says, (SaysItIsOverThePast(Site((C, H, W))), X)),
        (contracts.statistics_are_over_what_it_says, (SaysItIsOverAllTime(Site((C, H, W), T)), X)),
        (contracts.fires_through_its_membrane_norm, (FiresPastItsNorm(), X)),
        (contracts.derivative_belongs_to_primitive, (AnotherDerivative(),)),
        (contracts.spikes_with_its_derivative, (NotANumber(), X)),
    ],
)
def test_a_contract_rejects_a_broken_part(contract: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(AssertionError) as rejection:
        contract(*arguments)
    assert rejection.type is AssertionError
