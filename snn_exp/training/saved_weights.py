"""Tensors on disk: written whole or not at all; weights, in safetensors form, read with a sentence for each fault."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.files import printable, whole_file
from snn_exp.runs.weights_file import damaged, require_weights


def write_whole(content: Any, path: Path) -> None:
    """Save with torch, as a whole file or none; a full disk raises `OSError`, which torch's own writer hides."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.write_bytes(buffer.getbuffer())


def write_weights(network: nn.Module, path: Path) -> None:
    """Write the state of a network; a full disk raises `OSError`, which safetensors' own writer hides."""
    content = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    with whole_file(path) as scratch:
        scratch.write_bytes(content)


def read_weights(path: Path, again: str) -> dict[str, Tensor]:
    """Read what `write_weights` wrote.

    Args:
        path: the file.
        again: how to make the file again, such as "train run 0123456789 again with --rerun".

    Raises:
        UserError: the file is missing, truncated, not a file of weights, or holds values that are NaN or infinite.
    """
    require_weights(path, again)
    try:
        weights = load(path.read_bytes())
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, printable(str(error), 200) or type(error).__name__, again) from error
    if name := first_not_finite(weights):
        raise damaged(path, f"{name} holds values that are NaN or infinite", again)
    return weights


def load_weights(network: nn.Module, path: Path, again: str) -> None:
    """Give a network the weights of a file.

    Args:
        network: the network.
        path: the file.
        again: as in `read_weights`.

    Raises:
        UserError: as `read_weights`, or they are of another network.
    """
    weights = read_weights(path, again)
    if difference := first_difference(network.state_dict(), weights):
        raise UserError(f"the weights {path} are of another network: {difference}; put the file back, or {again}")
    network.load_state_dict(weights)


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a value that is NaN or infinite; None if there is none.

    Example:
        >>> first_not_finite({"bias": torch.zeros(2), "weight": torch.tensor([1.0, float("nan")])})
        'weight'
    """
    return next((printable(name) for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None)


def first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Describe the first difference in names, shapes or kinds of numbers of two states; None if there is none.

    float32 and float64 are one kind, since a run of trainer.precision=64-true stores the latter.

    Example:
        >>> first_difference({"weight": torch.zeros(2)}, {"weight": torch.zeros(3)})
        'weight must be (2,) and is (3,)'
        >>> first_difference({"weight": torch.zeros(2)}, {"weight": torch.zeros(2, dtype=torch.float16)})
        'weight must be float32 and is float16'
    """
    for name, value in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if found[name].shape != value.shape:
            return f"{name} must be {tuple(value.shape)} and is {tuple(found[name].shape)}"
        if found[name].dtype != value.dtype and not {found[name].dtype, value.dtype} <= _FULL:
            ours, theirs = (str(dtype).removeprefix("torch.") for dtype in (value.dtype, found[name].dtype))
            return f"{name} must be {ours} and is {theirs}"
    return next((f"{printable(str(name))} is unexpected" for name in found if name not in wanted), None)


_FULL = {torch.float32, torch.float64}
