"""A network as safetensors: its tensors, and the config that says what they belong to, in one file.

The file alone makes the network again, with snn_exp and without the data set: nothing in it is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from snn_exp.config.experiment import resolve
from snn_exp.errors import UserError
from snn_exp.export.fold import Folded, fold
from snn_exp.export.metadata import ExportMetadata, export_metadata
from snn_exp.export.reading import Reader, name_with_version
from snn_exp.files import Unreadable, require_file
from snn_exp.nn.networks import Network
from snn_exp.training.build import DataSpec, assemble
from snn_exp.training.classifier import Classifier
from snn_exp.training.saved_weights import first_difference, first_not_finite

KEYS = ("run_id", "folded", "config", "seen")


def write_weights(network: Network, path: Path, said: Mapping[str, str]) -> None:
    """Write the state of a network.

    Args:
        network: as it is to come back.
        path: the file.
        said: the file's description of itself; `load_exported` needs run_id, folded, config and seen.
    """
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, dict(said))


def load_exported(path: str | Path) -> Classifier:
    """Load the network of an exported file: call it on pixels in [0, 1] for logits; `.network` reads steps.

    Args:
        path: a file of `snn-exp export RUN --format safetensors`.

    Raises:
        UserError: it is no such file, its weights are NaN or infinite, or the run was trained with an older,
            incompatible version of a part.
    """
    task, weights = _read(Path(path))
    if name := first_not_finite(weights):
        raise UserError(f"{path} is damaged: {name} holds values that are NaN or infinite; {TYPE_THIS}")
    return task


TYPE_THIS = "type snn-exp export RUN --format safetensors"


def _read(path: Path) -> tuple[Classifier, dict[str, Tensor]]:
    """Make the network of a file; return it with the tensors of the file, which may hold any numbers."""
    said = _said(path)
    config = resolve(said.config)
    if config.run_id != said.run_id:
        raise UserError(
            f"{path} is of run {said.run_id}, which was trained with an older, incompatible version of a component: "
            f"the same config is run {config.run_id} now; train it again and export that"
        )
    task = assemble(config, DataSpec(**{**said.seen.model_dump(), "in_shape": tuple(said.seen.in_shape)}))
    if said.folded:
        task.network = fold(task.network)  # the same parts as the exported one, with other values
    weights = load_file(path)
    if difference := first_difference(task.network.state_dict(), weights):
        raise UserError(f"{path} does not hold the network that its config describes: {difference}; {TYPE_THIS}")
    task.network.load_state_dict(weights)
    return task.eval(), weights


def _said(path: Path) -> ExportMetadata:
    try:
        require_file(path)
        with safe_open(path, "pt") as file:
            given = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; {TYPE_THIS}") from None
    except Unreadable as error:
        raise UserError(f"{error}; {TYPE_THIS}") from None
    except (SafetensorError, OSError):
        given = {}
    if not set(KEYS) <= set(given):
        raise UserError(f"{path} was not written by snn-exp export; {TYPE_THIS}")
    try:
        return export_metadata(path, given)
    except Unreadable as error:
        raise UserError(f"{error}; {TYPE_THIS}") from None


def read_weights(path: Path) -> Reader:
    """Read the file into a fresh network."""
    network = _read(path)[0].network

    def logits(x_TBCHW: Tensor) -> Tensor:
        read: Tensor = network(x_TBCHW)
        return read

    what = "folded network" if isinstance(network, Folded) else "network"
    return Reader(f"{name_with_version('safetensors')} into a fresh {what}", "steps", logits)
