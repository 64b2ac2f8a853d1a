"""The contract of a kind as a list of checks of one registered part, and as one test of pytest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_exp.config import schemas
from snn_exp.config.compose import compose
from snn_exp.data import DATASETS
from snn_exp.data.split import Split, as_float
from snn_exp.errors import UserError, unknown
from snn_exp.nn.networks import NETWORKS
from snn_exp.nn.norms import NORMS, Norm, Site
from snn_exp.nn.stepwise import Stepwise
from snn_exp.nn.surrogates import SURROGATES
from snn_exp.registry import Option, PartConfig
from snn_exp.runs.paths import data_root
from snn_exp.testing import contracts
from snn_exp.training.build import DataSpec, assemble

T, B, C, H, W = 4, 3, 16, 2, 2
IN_TIME = ("neuron", "synapse", "norm")
MODULES = (*IN_TIME, "weight_norm", "weight_quant")
KINDS = (*MODULES, "surrogate", "dataset", "network")

Check = Callable[[], None]


def contract(kind: str, name: str) -> Callable[..., None]:
    """Return a test of pytest that holds a registered part to the contract of its kind, check by check.

    Args:
        kind: neuron, synapse, norm, weight_norm, weight_quant, surrogate, dataset or network.
        name: the name under which it is registered, here or by an installed plugin.

    Raises:
        UserError: no such kind or part.

    Example:
        >>> test_contract = contract("surrogate", "atan")
        >>> [mark.name for mark in test_contract.pytestmark]
        ['parametrize']
    """
    import pytest

    cases = [pytest.param(check, id=title) for title, check in checks_of(kind, name).items()]

    @pytest.mark.parametrize("check", cases)
    def test(check: Check) -> None:
        check()

    return test


def checks_of(kind: str, name: str) -> dict[str, Check]:
    """Return title -> check of the contract; a check raises AssertionError where the part does not keep it.

    Raises:
        UserError: no such kind or part.

    Example:
        >>> checks_of("surrogate", "atan")["derivative belongs to primitive"]()
    """
    if kind not in KINDS:
        raise unknown("kind with a contract", kind, KINDS, "{}")
    cls = schemas.registry_of(kind)[name]
    option = schemas.registry_of(kind).options()[name]
    checks: dict[str, Check] = {"is documented": lambda: contracts.is_documented(cls, option)}
    if kind != "network":  # whose parts come from a config
        checks["refuses bad values"] = lambda: contracts.refuses_bad_values(
            lambda **bad: cls(*supplied(kind), **bad), option
        )
    if kind == "surrogate":
        return checks | _of_a_surrogate(option)
    if kind == "dataset":
        return checks | {"splits": lambda: _splits(name)}
    if kind == "network":
        return checks | {f"with neuron={n}": functools.partial(_is_a_network, name, n) for n in ("relu", "s2nn", "lif")}
    for parameters in contracts.variants(option):
        config = {"name": name, **parameters}
        changed = [f"{p.name}={parameters[p.name]}" for p in option.parameters if parameters[p.name] != p.default]
        checks |= {" ".join([title, *changed]): check for title, check in _of_a_module(kind, config).items()}
    if "membrane" in option.traits.get("placements", ()):
        membrane = _of_a_module(kind, {"name": name, "placement": "membrane"})
        checks |= {f"{title} on the membrane": check for title, check in membrane.items()}
    return checks


def supplied(kind: str, num_steps: int = T) -> tuple[Any, ...]:
    """Return what the framework gives a part of a kind."""
    return {
        "neuron": ((C, H, W), None, num_steps),
        "norm": (Site((C, H, W), num_steps),),
        "weight_norm": (5, 0.8),
        "weight_quant": (0.8,),
        "dataset": (data_root(), 0),
    }.get(kind, ())


class StepByStep(nn.Module):
    """A norm on the membrane, put where the contracts can see it: over time, as a neuron calls it."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm
        self.statistics_over, self.placements = norm.statistics_over, norm.placements

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Normalize each step."""
        return torch.stack([self.norm(x_BN) for x_BN in x_TBN])

    def affine_C(self) -> tuple[Tensor, Tensor] | None:
        """Return that of the norm."""
        return self.norm.affine_C()


def build(kind: str, config: PartConfig, num_steps: int = T) -> Any:
    """Build a part as the framework does."""
    if config.get("placement") == "membrane":
        plain = {key: value for key, value in config.items() if key != "placement"}
        return StepByStep(NORMS.make(plain, Site((C, H, W), num_steps, "membrane")))
    return schemas.registry_of(kind).make(config, *supplied(kind, num_steps))


def input_for(kind: str) -> Tensor:
    """Return an input for parts of a kind, always the same."""
    generator = torch.Generator().manual_seed(0)
    if kind.startswith("weight"):
        return torch.randn(5, 4, 3, 3, generator=generator) * 0.4
    x = torch.randn(T, B, C, H, W, generator=generator)
    return x * 1.5 + 0.5 if kind != "synapse" else (x > 0.5).float()


def _of_a_module(kind: str, config: PartConfig) -> dict[str, Check]:
    def made(num_steps: int = T) -> Any:
        return build(kind, config, num_steps)

    x = input_for(kind)
    checks: dict[str, Check] = {
        "keeps shape, dtype and device": lambda: contracts.keeps_shape_dtype_and_device(made(), x),
        "gives the same twice": lambda: contracts.forward_twice_is_the_same(made().eval(), x),
        "items are independent": lambda: contracts.items_are_independent(made().eval(), x, 1 if kind in IN_TIME else 0),
        "gradients arrive": lambda: contracts.gradients_arrive(made(), x),
        "copies agree": lambda: contracts.copies_agree(made(), made(), x),
        "works in float64": lambda: contracts.works_in(torch.float64, made(), x),
        "works in bfloat16": lambda: contracts.works_in(torch.bfloat16, made(), x),
    }
    if kind in IN_TIME:
        checks["works with one step"] = lambda: contracts.keeps_shape_dtype_and_device(made(1), x[:1])
        if getattr(made(), "causal", True):
            checks["is causal"] = lambda: contracts.is_causal(made().eval(), x)
        if isinstance(made(), Stepwise):
            checks["splits in time"] = lambda: contracts.splits_in_time(made(), x)
    if kind == "norm":
        checks["statistics are over what it says"] = lambda: contracts.statistics_are_over_what_it_says(
            made().double(), x.double()
        )
        checks["is affine where it says so"] = lambda: contracts.is_affine_where_it_says_so(made().double(), x.double())
    if kind == "neuron":
        checks["emits what it says"] = lambda: contracts.emits(made(), x, made().emits)
        checks["folds what stands in front"] = lambda: contracts.folds_what_stands_in_front(made().double(), x.double())
        if made().has_membrane:
            checks["fires through its membrane norm"] = lambda: contracts.fires_through_its_membrane_norm(made(), x)
    return checks


def _of_a_surrogate(option: Option) -> dict[str, Check]:
    def made() -> Any:
        return SURROGATES.make({"name": option.name})

    return {
        "derivative belongs to primitive": lambda: contracts.derivative_belongs_to_primitive(made()),
        "spikes with its derivative": lambda: contracts.spikes_with_its_derivative(made(), input_for("neuron")),
        "works in bfloat16": lambda: contracts.spikes_with_its_derivative(made(), input_for("neuron").bfloat16()),
    }


def _splits(name: str) -> None:
    """Each part has samples of one shape, finite, in [0, 1], and right labels; the seed draws all but the test set."""
    make = DATASETS[name]
    make.prepare(data_root())
    data, again, other = (make(data_root(), seed) for seed in (0, 0, 1))
    for title, part in (("training", data.train), ("validation", data.val), ("test", data.test)):
        assert len(part) > 0, f"no {title} samples"
        assert part.sample_shape == data.sample_shape, f"{title} samples have the shape {part.sample_shape}"
        pixels = as_float(part.samples)
        assert pixels.isfinite().all() and pixels.min() >= 0 and pixels.max() <= 1, f"{title} pixels not in [0, 1]"
        assert part.labels.min() >= 0 and part.labels.max() < data.num_classes, f"{title} labels beyond num_classes"
    assert data.fingerprint == again.fingerprint, "the same seed gives other samples"
    assert data.fingerprint != other.fingerprint, "the seed draws nothing"
    assert _same(data.test, other.test), "the test set depends on the seed"


def _same(a: Split, b: Split) -> bool:
    return torch.equal(a.samples, b.samples) and torch.equal(a.labels, b.labels)


def _is_a_network(name: str, neuron: str) -> None:
    """Logits per sample, independent of the others in eval; gradients to every parameter where it is smooth."""
    network = _network(name, neuron)
    x = torch.rand(network.T, B, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = network.module.train()(x)
    assert logits.shape == (B, 5), f"logits are {tuple(logits.shape)}, not [B, K] = {(B, 5)}"
    assert logits.isfinite().all(), "logits are not finite"
    assert network.module.segments(), "segments() is empty"
    if neuron == "relu":
        contracts.gradients_arrive(network.module, x)
    network.module.eval()
    contracts.forward_twice_is_the_same(network.module, x)
    changed = x.clone()
    changed[:, 0] = 1 - changed[:, 0]
    torch.testing.assert_close(network.module(x)[1:], network.module(changed)[1:], msg="sample 0 influences others")


class _Built:
    def __init__(self, module: Any, num_steps: int) -> None:
        self.module, self.T = module, num_steps


def _network(name: str, neuron: str) -> _Built:
    """Build the shallowest network there is of that name."""
    cls = NETWORKS[name]
    refusal = UserError()
    for n in range(1, 5):
        depth = cls.layers_offset + n * cls.layers_step
        try:
            config = compose([f"network={name}", f"neuron={neuron}", f"depth.num_layers={depth}"])
            torch.manual_seed(0)
            return _Built(assemble(config, DataSpec((1, 8, 8), 5, 0.5, 0.3)).network, config.num_steps)
        except UserError as error:
            refusal = error
    raise AssertionError(f"no depth of {name} up to {depth} layers can be built: {refusal}")
