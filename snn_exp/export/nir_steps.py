"""A NIR file computed step by step, from the file and NIR's equations alone, without the network it came from.

Shapes: T steps, B batch, N any feature dimensions, K classes.

Every equation is stepped by Euler's forward method over the `dt` of the file: the current, the membrane, the spike, the
reset. Membranes and currents start at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snn_exp.export.reading import Reader, name_with_version, require
from snn_exp.nn.stepwise import State

Step = Callable[[Tensor, State | None], tuple[Tensor, State | None]]


def read_nir(path: Path, dtype: torch.dtype) -> Reader:
    """Read the file, to be computed in a precision: [T, B, C, H, W] -> the mean over T of the output, [B, K]."""
    require("nir", "nir", "h5py")
    import nir

    graph = nir.read(str(path))
    dt = float(graph.metadata["dt"])
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    order = _in_order(sources)
    steps = {name: _step(node, dt, dtype) for name, node in graph.nodes.items()}
    (first,), (last,) = graph.inputs, graph.outputs

    def logits(x_TBN: Tensor) -> Tensor:
        states: dict[str, State | None] = dict.fromkeys(order)
        outputs = []
        for x_BN in x_TBN.to(dtype):
            values: dict[str, Tensor] = {}
            for name in order:
                read = x_BN if name == first else _sum([values[source] for source in sources[name]])
                values[name], states[name] = steps[name](read, states[name])
            outputs.append(values[last])
        return torch.stack(outputs).mean(0)

    return Reader(f"{name_with_version('nir')}, stepped by Euler's method", "steps", logits)


def _in_order(sources: dict[str, list[str]]) -> list[str]:
    """Order the nodes so that each comes after those it reads."""
    order: dict[str, None] = {}
    waiting = dict(sources)
    readers: dict[str, list[str]] = {name: [] for name in sources}
    for name, read in sources.items():
        for source in read:
            readers[source].append(name)
    ready = [name for name, read in sources.items() if not read]
    left = {name: len(read) for name, read in waiting.items()}
    while ready:
        name = ready.pop()
        order[name] = None
        for reader in readers[name]:
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    assert len(order) == len(sources), "the graph has a cycle"
    return list(order)


def _sum(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _step(node: Any, dt: float, dtype: torch.dtype) -> Step:
    """Compute what a node does to its input at one step."""
    kind = type(node).__name__
    known: dict[str, Callable[[Any, dict[str, Tensor], float], Step]] = {
        "Input": _identity,
        "Output": _identity,
        "Flatten": _flatten,
        "Scale": _scale,
        "Threshold": _threshold,
        "Linear": _affine,
        "Affine": _affine,
        "Conv2d": _conv,
        "AvgPool2d": _pool,
        "SumPool2d": _pool,
        "I": _integrator,
        "LI": _integrator,
        "IF": _integrate_and_fire,
        "LIF": _integrate_and_fire,
        "CubaLIF": _current_based,
    }
    values = {
        key: torch.as_tensor(v).to(dtype) for key, v in vars(node).items() if getattr(v, "dtype", None) is not None
    }
    return known[kind](node, values, dt)


def _stateless(function: Callable[[Tensor], Tensor]) -> Step:
    return lambda x, state: (function(x), None)


def _identity(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    return _stateless(lambda x: x)


def _flatten(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    start, end = (int(axis) + (1 if axis >= 0 else 0) for axis in (node.start_dim, node.end_dim))  # of one sample
    return _stateless(lambda x: x.flatten(start, end))


def _scale(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    return _stateless(lambda x: x * p["scale"])


def _threshold(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    return _stateless(lambda x: (x > p["threshold"]).to(x.dtype))


def _affine(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    return _stateless(lambda x: functional.linear(x, p["weight"], p.get("bias")))


def _conv(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    stride, padding, dilation = (tuple(int(v) for v in size) for size in (node.stride, node.padding, node.dilation))
    groups = int(node.groups)
    return _stateless(lambda x: functional.conv2d(x, p["weight"], p["bias"], stride, padding, dilation, groups))


def _pool(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    size, stride, padding = (tuple(int(v) for v in sizes) for sizes in (node.kernel_size, node.stride, node.padding))
    factor = size[0] * size[1] if type(node).__name__ == "SumPool2d" else 1
    return _stateless(lambda x: factor * functional.avg_pool2d(x, size, stride, padding))


def _derivative(p: dict[str, Tensor], v: Tensor, x: Tensor, tau: str = "tau") -> Tensor:
    """Compute v' of I and IF, where nothing leaks, and of the others."""
    return p["r"] * x if tau not in p else (p["v_leak"] - v + p["r"] * x) / p[tau]


def _integrator(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    def step(x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        (v,) = state or (torch.zeros_like(x),)
        v = v + dt * _derivative(p, v, x)
        return v, (v,)

    return step


def _fired(p: dict[str, Tensor], v: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the spikes, and the membrane after the reset."""
    fires = v > p["v_threshold"]
    return fires.to(v.dtype), torch.where(fires, p["v_reset"], v)


def _integrate_and_fire(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    def step(x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        (v,) = state or (torch.zeros_like(x),)
        s, v = _fired(p, v + dt * _derivative(p, v, x))
        return s, (v,)

    return step


def _current_based(node: Any, p: dict[str, Tensor], dt: float) -> Step:
    def step(x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        i, v = state or (torch.zeros_like(x), torch.zeros_like(x))
        i = i + dt * (p["w_in"] * x - i) / p["tau_syn"]
        s, v = _fired(p, v + dt * _derivative(p, v, i, "tau_mem"))
        return s, (i, v)

    return step
