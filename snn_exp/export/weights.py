"""A network as safetensors: its tensors, and the config that says what they belong to, in one file.

The file alone makes the network again, with snn_exp and without the data set: nothing in it is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from snn_exp.config import resolve
from snn_exp.errors import UserError
from snn_exp.export.reading import Reader, name_with_version
from snn_exp.fold import Folded, fold
from snn_exp.networks import Network
from snn_exp.task import Classification
from snn_exp.train import Seen, assemble

KEYS = ("run_id", "folded", "config", "seen")


def write_weights(network: Network, path: Path, said: Mapping[str, str]) -> None:
    """Writes the state of a network.

    Args:
        network: as it is to come back.
        path: the file.
        said: what the file says of itself; `load_exported` needs run_id, folded, config and seen.
    """
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, dict(said))


def load_exported(path: str | Path) -> Classification:
    """The network of an exported file: call it on pixels in [0, 1] for logits; `.network` is what reads steps.

    Args:
        path: a file of `snn-exp export RUN --format safetensors`.

    Raises:
        UserError: it is no such file, or a part means something else today than when the run was trained.
    """
    said = _said(Path(path))
    config = resolve(said["config"])
    if config.run_id != said["run_id"]:
        raise UserError(
            f"{path} is of run {said['run_id']} and of parts that mean something else today: the same config is run "
            f"{config.run_id} now; train it again and export that"
        )
    seen = said["seen"]
    task = assemble(config, Seen(**{**seen, "in_shape": tuple(seen["in_shape"])}))
    if said["folded"]:
        task.network = fold(task.network)  # the same parts as the exported one, with other values
    task.network.load_state_dict(load_file(path))
    return task.eval()


def _said(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            given = file.metadata() or {}
        said = {key: value if key == "run_id" else json.loads(value) for key, value in given.items() if key in KEYS}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; type snn-exp export RUN --format safetensors") from None
    except (SafetensorError, ValueError):
        said = {}
    if set(said) != set(KEYS):
        raise UserError(f"{path} was not written by snn-exp export; type snn-exp export RUN --format safetensors")
    return said


def read_weights(path: Path) -> Reader:
    """The file as a fresh network computes it."""
    network = load_exported(path).network

    def logits(x_TBCHW: Tensor) -> Tensor:
        read: Tensor = network(x_TBCHW)
        return read

    what = "folded network" if isinstance(network, Folded) else "network"
    return Reader(f"{name_with_version('safetensors')} into a fresh {what}", "steps", logits)
