"""`snn-exp export`: write a trained network in another format, read it back, and keep it only if equal."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.data.datamodule import DataModule
from snn_exp.errors import UserError, unknown
from snn_exp.export.folded_run import load_folded
from snn_exp.export.nir_graph import PACKAGES as NIR_PACKAGES
from snn_exp.export.nir_graph import write_nir
from snn_exp.export.nir_steps import read_nir
from snn_exp.export.onnx_graph import PACKAGES as ONNX_PACKAGES
from snn_exp.export.onnx_graph import read_onnx, write_onnx
from snn_exp.export.reading import ReadBackCheck, Reader, check, require
from snn_exp.export.weights import read_weights, write_weights
from snn_exp.files import whole_file, write_json
from snn_exp.nn.networks import Network
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.provenance import now
from snn_exp.training.build import DataSpec, build_data, load_task
from snn_exp.training.classifier import Classifier

FORMATS: Mapping[str, tuple[str, ...]] = {  # and the packages that each needs in addition to snn_exp
    "onnx": ONNX_PACKAGES,
    "nir": NIR_PACKAGES,
    "safetensors": (),
}
TOLERANCE = 1e-9  # of logits in float64, relative to the largest where that is above 1
MAX_FLIPPED = 0.05  # of predictions, where rounding may flip a spike: more is another network


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network, as stored in JSON beside the file.

    Args:
        path: the file.
        interface: its input and output.
        read_by: the program that read it back.
        exact: in float64 on the validation set; None where the format's reader has no float64.
        found: in float32, on the set named by `split`.
        split: test, or val where the run has not read the test set yet.
    """

    run_id: str
    format: str
    folded: bool
    path: str
    num_bytes: int
    interface: str
    read_by: str
    exact: ReadBackCheck | None
    found: ReadBackCheck
    split: str
    exported_at: str

    def text(self) -> str:
        """Format a summary for the terminal."""
        exact, found = self.exact, self.found
        lines = [f"{self.path} ({self.num_bytes / 1024:,.1f} KiB): {self.interface}", f"read back by {self.read_by}"]
        if exact is not None:
            lines.append(
                f"float64, val set: {exact.num_flipped} of {exact.num_samples:,} predictions differ, logits equal to "
                f"{exact.logit_error:.1e}"
            )
        equal = "bitwise equal" if found.logit_error == 0 else f"within {found.logit_error:.1e}"
        lines += [
            f"float32, {self.split} set: {found.num_flipped:,} of {found.num_samples:,} predictions differ "
            f"({found.num_flipped / found.num_samples:.1e}), logits {equal}",
            f"accuracy {100 * found.acc:.2f} %, read back {100 * found.acc_read:.2f} %",
        ]
        return "\n".join(lines)


def require_format(export_format: str) -> None:
    """Check that the format exists and its packages are installed.

    Raises:
        UserError: otherwise.
    """
    if export_format not in FORMATS:
        raise unknown("format", export_format, FORMATS, "--format {}")
    require(export_format, *FORMATS[export_format])


def export_run(folder: RunFolder, config: ExperimentConfig, export_format: str, *, folded: bool = False) -> Exported:
    """Write a finished run's network into its folder, read it back and compare.

    Args:
        folder: of the run.
        config: its config.
        export_format: onnx, nir or safetensors.
        folded: the network without its norms, which `fold_run` has stored.

    Raises:
        UserError: no such format, a part or encoding that it cannot represent, a package that is not installed, or a
            folder that cannot be written.
        RuntimeError: the network that is read back differs; nothing is stored.
    """
    require_format(export_format)
    trained = folder.trained()
    plain = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, checkpoint_activations=False))
    data = build_data(plain)
    task = load_task(folder, plain, data)
    network = (load_folded(folder) if folded else task.network).eval()
    said = {
        "run_id": trained.run_id, "folded": json.dumps(folded), "config": json.dumps(config.to_plain()),
        "seen": json.dumps(dataclasses.asdict(DataSpec.of(data))),
    }  # fmt: skip
    path = folder.exports / f"{'folded' if folded else 'network'}.{export_format}"
    split = "test" if "test/acc" in trained.metrics else "val"  # a run that has not read the test set does not here
    try:
        folder.exports.mkdir(exist_ok=True)
        with whole_file(path) as scratch:
            exact = _exactly(network, task, data, scratch, said) if export_format == "nir" else None
            reader = _written(network, task, data, export_format, scratch, said)
            found = check(network, reader, _samples(task, data, split), torch.float32)
            _refuse_another(folder, export_format, exact, found)
            num_bytes = scratch.stat().st_size
        result = Exported(
            trained.run_id, export_format, folded, str(path), num_bytes, _interface(task, data, reader), reader.name,
            exact, found, split, now(),
        )  # fmt: skip
        write_json(path.with_name(f"{path.name}.json"), dataclasses.asdict(result))
    except OSError as error:
        raise UserError(f"the exported network cannot be written to {folder.exports} ({error.strerror})") from None
    return result


def _written(
    network: Network, task: Classifier, data: DataModule, export_format: str, path: Path, said: Mapping[str, str]
) -> Reader:
    """Write a file, and return it with its reader."""
    dataset = data.dataset
    if export_format == "onnx":
        write_onnx(network, task.encoding, dataset.sample_shape, path, said)
        return read_onnx(path)
    if export_format == "nir":
        write_nir(network, dataset.in_shape, task.encoding.num_steps, path, said)
        return read_nir(path, next(network.parameters()).dtype)
    write_weights(network, path, said)
    return read_weights(path)


def _exactly(
    network: Network, task: Classifier, data: DataModule, path: Path, said: Mapping[str, str]
) -> ReadBackCheck:
    """Make the same comparison in float64, in a file that is overwritten."""
    double = copy.deepcopy(network).double()
    reader = _written(double, task, data, "nir", path, said)
    return check(double, reader, _samples(task, data, "val"), torch.float64)


def _refuse_another(folder: RunFolder, export_format: str, exact: ReadBackCheck | None, found: ReadBackCheck) -> None:
    """Raise a RuntimeError if the network that was read back differs."""
    same = found.num_flipped <= MAX_FLIPPED * found.num_samples and found.logit_error < torch.inf  # so no NaN passes
    if export_format == "safetensors":
        same = found.logit_error == 0
    if exact is not None:
        same = same and not exact.num_flipped and exact.logit_error <= TOLERANCE
    if not same:
        raise RuntimeError(
            f"the {export_format} file of run {folder.path.name} is another network: {exact or ''} {found}"
        )


def _interface(task: Classifier, data: DataModule, reader: Reader) -> str:
    """Describe the input and output of a file."""
    dataset, num_steps = data.dataset, task.encoding.num_steps
    if reader.begins == "samples":
        shape, what = ("B", *dataset.sample_shape), "frames" if dataset.has_time else "pixels in [0, 1]"
        what = "standardized series" if dataset.is_series else what
    else:
        shape, what = (num_steps, "B", *dataset.in_shape), "encoded steps"
    return f"reads {what} [{', '.join(map(str, shape))}], gives logits [B, {dataset.num_classes}]"


def _samples(task: Classifier, data: DataModule, split: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Load batches of a set, random codes drawn as in the run's own evaluation."""
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    for index, (x, y_B) in enumerate(loader):
        yield x, task.encoded(x, index), y_B
