"""What a part of each kind promises, as checks that raise AssertionError when it does not hold.

`whole.py` puts them together for one part; `tests/test_contracts.py` runs them over every registry,
and each of them over one broken part.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.nn.stepwise import Stepwise
from snn_exp.nn.surrogates import Surrogate
from snn_exp.registry import Option, Parameter, Scalar

Build = Callable[..., Any]  # parameters of a config -> a new part


def variants(option: Option) -> Iterator[dict[str, Scalar]]:
    """Return the parameters of configs: the defaults, then every other choice and switch, one at a time."""
    defaults = {p.name: p.default for p in option.parameters}
    yield defaults
    for p in option.parameters:
        others = (False, True) if p.type == "bool" else p.choices
        for value in others:
            if value != p.default:
                yield {**defaults, p.name: value}


def keeps_shape_dtype_and_device(part: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Require the shape, dtype and device of x, and finite values."""
    y = part(x)
    assert y.shape == x.shape, f"{tuple(x.shape)} became {tuple(y.shape)}"
    assert y.dtype == x.dtype, f"{x.dtype} became {y.dtype}"
    assert y.device == x.device
    assert y.isfinite().all()


def emits(part: Callable[[Tensor], Tensor], x: Tensor, kind: str) -> None:
    """Only the values of the trait `emits`, and all of them; of levels the lowest and the highest."""
    values = {"spikes": {0.0, 1.0}, "signs": {-1.0, 1.0}, "ternary": {-1.0, 0.0, 1.0}}.get(kind)
    found = set(part(x).detach().unique().tolist())
    if kind == "levels":
        level = (part(x) / part.unit).detach()  # type: ignore[attr-defined]
        torch.testing.assert_close(level, level.round(), rtol=0, atol=1e-4, msg="levels are no whole numbers")
        ends = [round(float(end)) for end in (level.min(), level.max())]
        assert ends == [0, part.num_levels], f"levels from 0 to {part.num_levels} were promised, got {ends}"  # type: ignore[attr-defined]
    elif values is not None:
        assert found == values, f"{kind} were promised, got {sorted(found)[:5]}"
    else:
        assert kind == "real" and len(found) > 2


def fires_through_its_membrane_norm(neuron: Any, x_TBN: Tensor) -> None:
    """With a norm on its membrane it fires what the norm gives."""
    assert neuron(x_TBN).any()
    neuron.membrane_norm = Constant(-1e9)
    assert neuron(x_TBN).max() <= 0, "the norm on the membrane is not asked"
    neuron.membrane_norm = Constant(1e9)
    assert neuron(x_TBN).min() > 0, "the norm on the membrane is not asked"


class Constant(nn.Module):
    """A norm that gives one value everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, h: Tensor) -> Tensor:
        return torch.full_like(h, self.value)


def forward_twice_is_the_same(part: nn.Module, x: Tensor) -> None:
    """Require of a second call what the first gave."""
    first = part(x).detach().clone()
    assert torch.equal(first, part(x)), "a second forward differs from the first"


def items_are_independent(part: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> None:
    """Require that changing the first item along an axis changes no other (batch in eval, units of a weight)."""
    changed = x.clone()
    changed.select(axis, 0).neg_().add_(0.7)
    others = range(1, x.shape[axis])
    for i in others:
        a, b = part(x).select(axis, i), part(changed).select(axis, i)
        assert torch.equal(a, b), f"item 0 of axis {axis} influences item {i}"


def is_causal(part: nn.Module, x_TBN: Tensor) -> None:
    """Require that the future does not change the past."""
    for t in range(1, len(x_TBN)):
        changed = x_TBN.clone()
        changed[t:] = 3 - changed[t:]
        assert torch.equal(part(x_TBN)[:t], part(changed)[:t]), f"step {t} changes what came before"


def splits_in_time(part: Stepwise, x_TBN: Tensor) -> None:
    """Two halves with the state carried by hand equal one pass, and a step leaves its arguments alone."""
    whole, end = part.unroll(x_TBN)
    assert torch.equal(whole, part(x_TBN))
    for t in range(1, len(x_TBN)):
        first, state = part.unroll(x_TBN[:t])
        kept = tuple(s.clone() for s in state)
        second, last = part.unroll(x_TBN[t:], state)
        assert torch.equal(whole, torch.cat([first, second])), f"a split at {t} changes the output"
        assert len(end) == len(last) and all(map(torch.equal, end, last)), "the last states differ"
        assert all(map(torch.equal, kept, state)), "a step changed the state it was given"


def gradients_arrive(part: nn.Module, x: Tensor) -> None:
    """Finite, and somewhere other than 0, at the input and at every parameter."""
    x = x.clone().requires_grad_()
    y = part(x)
    y.mul(torch.linspace(0.5, 2, y.numel(), dtype=y.dtype).view_as(y)).sin().sum().backward()
    for name, leaf in [("the input", x), *part.named_parameters()]:
        assert leaf.grad is not None, f"no gradient reaches {name}"
        assert leaf.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert leaf.grad.count_nonzero() > 0, f"the gradient of {name} is 0"


def copies_agree(part: nn.Module, fresh: nn.Module, x: Tensor) -> None:
    """Require of a deepcopy, and of a fresh part with the state_dict, what the part with moved parameters does."""
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.3)
    part(x)  # in training, moves running statistics
    twin = copy.deepcopy(part)
    fresh.load_state_dict(part.state_dict())
    expected = part.eval()(x)
    assert torch.equal(expected, twin.eval()(x)), "the deepcopy differs"
    assert torch.equal(expected, fresh.eval()(x)), "the state_dict does not hold everything"
    assert not set(part.parameters()) & set(twin.parameters()), "the deepcopy shares parameters"


def works_in(dtype: torch.dtype, part: nn.Module, x: Tensor) -> None:
    """Require that it computes in a dtype, forward and backward."""
    part = part.to(dtype)
    keeps_shape_dtype_and_device(part, x.to(dtype))
    gradients_arrive(part, x.to(dtype))


def bad_values(p: Parameter) -> list[Any]:
    """Values that lie outside what a parameter declares."""
    values: list[Any] = [value for value in (p.gt, p.lt) if value is not None]
    values += [value - 1 for value in (p.gt, p.ge) if value is not None]
    values += [value + 1 for value in (p.lt, p.le) if value is not None]
    if p.type == "int":
        values = [int(value) for value in values]
    return [*values, {"choice": "no such choice", "str": 1}.get(p.type, "a word")]


def refuses_bad_values(build: Build, option: Option) -> None:
    """Require a UserError that names the parameter."""
    for p in option.parameters:
        for value in bad_values(p):
            try:
                build(**{p.name: value})
            except UserError as error:
                assert p.name in str(error), f"{error} does not name {p.name}"
            except Exception as error:
                raise AssertionError(f"{p.name}={value!r} raises {error!r}, not a UserError") from error
            else:
                raise AssertionError(f"{p.name}={value!r} is taken")


def is_documented(cls: type, option: Option) -> None:
    """Require a summary of one line, the sections, and a text for every parameter."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    first, _, rest = text.partition("\n")
    assert re.fullmatch(r".+\.", first) and (rest.startswith("\n")), f"{cls.__name__}: one summary line"
    assert option.summary == first
    sections = set(re.findall(r"^(\w+):", rest, re.MULTILINE))
    wanted = {"Source", "Example"} | ({"Shapes"} if issubclass(cls, nn.Module) else set())
    assert wanted <= sections, f"{cls.__name__} lacks {wanted - sections}"
    assert sections & {"Equation", "Definition"}, f"{cls.__name__} lacks its equation"
    assert ">>> " in rest
    for p in option.parameters:
        assert p.doc, f"{cls.__name__} does not say what {p.name} is"


def statistics_are_over_what_it_says(norm: Any, x_TBCHW: Tensor) -> None:
    """In training, one changed value changes exactly the values that share a statistic with it."""
    norm.train()
    at = (1, 1, 2, 1, 0)
    changed = x_TBCHW.clone()
    changed[at] += 1.7
    moved = (copy.deepcopy(norm)(x_TBCHW) - copy.deepcopy(norm)(changed)).abs() > 1e-9
    shared = {part[:1]: part for part in norm.statistics_over.split(",")}
    expected = torch.ones_like(moved)
    for axis, letter in enumerate("TBCHW"):
        index = torch.arange(x_TBCHW.shape[axis])
        if letter not in shared:
            same = index == at[axis]
        elif shared[letter] == "T<=t":  # a step shares with all before it, so it moves those behind it
            same = index >= at[axis]
        elif "/" in shared[letter]:
            size = len(index) // norm.group_norm.num_groups
            same = index // size == at[axis] // size
        else:
            same = torch.ones_like(index, dtype=torch.bool)
        expected &= same.view(*(-1 if i == axis else 1 for i in range(5)))
    assert torch.equal(moved, expected), f"statistics are not over {norm.statistics_over!r}"


def is_affine_where_it_says_so(norm: Any, x_TBN: Tensor) -> None:
    """In eval, with moved parameters, what `affine_C` gives is what the norm does."""
    _move_parameters(norm)
    norm(x_TBN)  # moves running statistics
    affine_C = norm.eval().affine_C()
    if affine_C is not None:
        scale, shift = (values_C.view(-1, *(1 for _ in x_TBN.shape[3:])) for values_C in affine_C)
        torch.testing.assert_close(norm(x_TBN), scale * x_TBN + shift, msg="affine_C is not what the norm does")


def folds_what_stands_in_front(neuron: Any, x_TBCHW: Tensor) -> None:
    """Require that a scale, and a membrane norm, of either sign, go into the neuron where it says that they do."""
    if neuron.emits == "real":
        return
    _move_parameters(neuron)
    c = x_TBCHW.shape[2]
    scale = torch.linspace(-1.4, 1.7, c, dtype=x_TBCHW.dtype).view(-1, 1, 1)
    shift = torch.linspace(0.4, -0.3, c, dtype=x_TBCHW.dtype).view(-1, 1, 1)
    rescaled = neuron.rescaled(scale)
    assert rescaled is None or torch.equal(rescaled(x_TBCHW), neuron(scale * x_TBCHW)), "the rescaled neuron differs"
    folded = neuron.firing_on(scale, shift)
    neuron.membrane_norm = _Affine(scale, shift)
    assert torch.equal(folded(x_TBCHW), neuron(x_TBCHW)), "the neuron with another threshold differs"


@torch.no_grad()
def _move_parameters(part: nn.Module) -> None:
    """Away from where they start, each value by another amount."""
    for parameter in part.parameters():
        parameter.add_(torch.linspace(-1.5, 0.7, parameter.numel(), dtype=parameter.dtype).view_as(parameter))


class _Affine(nn.Module):
    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


def derivative_belongs_to_primitive(surrogate: Surrogate) -> None:
    """Central differences in float64 away from kinks, and the height at the threshold."""
    y = torch.linspace(-6.013, 6.0, 1201, dtype=torch.float64)
    kinks = torch.tensor([-1, -0.5, 0, 0.5, 1], dtype=torch.float64)
    y = y[((y[:, None] - kinks).abs() > 1e-3).all(1)]
    x, h = y * surrogate.width, 1e-5 * surrogate.width
    slope = (surrogate.primitive(x + h) - surrogate.primitive(x - h)) / (2 * h)
    error = (slope - surrogate.derivative(x)).abs().max()
    assert error <= 1e-6 * max(1.0, surrogate.peak), f"the derivative is off by {error:.2g}"
    zero = torch.zeros((), dtype=torch.float64)
    assert surrogate.derivative(zero) == surrogate.peak * surrogate.kernel(zero), "height at the threshold"
    assert surrogate.primitive(zero) == 0.5


def spikes_with_its_derivative(surrogate: Surrogate, x: Tensor) -> None:
    """Forward a step with H(0) = 1, backward the derivative; finite in every dtype, far out as well."""
    x = torch.cat([x.flatten(), torch.tensor([0.0, -1.0, 1.0, -1e4, 1e4], dtype=x.dtype)]).requires_grad_()
    for spike, low in ((surrogate.spike, 0.0), (surrogate.sign, -1.0)):
        s = spike(x)
        assert s.dtype == x.dtype and s.shape == x.shape
        assert torch.equal(s, torch.where(x >= 0, 1.0, low).to(x.dtype))
        (gradient,) = torch.autograd.grad(s.sum(), x)
        assert gradient.isfinite().all(), "a gradient that is not finite"
        assert torch.equal(gradient, surrogate.derivative(x.detach())), "backward is not the derivative"
