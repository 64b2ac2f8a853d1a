"""A folded run in int8: converted, compared with the folded network, and stored beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.export.fold import Folded
from snn_exp.export.folded_run import encoded, load_folded
from snn_exp.export.int8.convert import Deployed, integer
from snn_exp.files import write_json
from snn_exp.runs.folder import RunFolder
from snn_exp.training.build import build_data, build_task


@dataclasses.dataclass(frozen=True)
class IntegerResult:
    """An int8 network beside the folded float one, as stored in folded_int8.json.

    Args:
        num_hidden: weight layers between the first and the last.
        num_integer: those of them in int8.
        num_samples: of the set named by `split`.
        acc_folded: accuracy of the folded float network there, a fraction.
        acc_int8: accuracy of the int8 network there, a fraction.
        num_flipped: samples of another prediction.
        num_bytes_folded: of all parameters of the folded network in float32.
        num_bytes_int8: of those of the int8 network.
        split: test, or val where the run has not read the test set yet.
    """

    run_id: str
    num_hidden: int
    num_integer: int
    num_samples: int
    acc_folded: float
    acc_int8: float
    num_flipped: int
    num_bytes_folded: int
    num_bytes_int8: int
    split: str

    def text(self) -> str:
        """Format a summary for the terminal."""
        share = self.num_flipped / self.num_samples
        return "\n".join(
            (
                f"int8 weights: {self.num_integer} of {self.num_hidden} hidden weight layers; the first, the last and "
                f"all that is added to their outputs in float32",
                f"int8, {self.split} set: accuracy {100 * self.acc_int8:.2f} %, folded float "
                f"{100 * self.acc_folded:.2f} %; {self.num_flipped:,} of {self.num_samples:,} predictions flipped "
                f"({100 * share:.2f} %)",
                f"size: {self.num_bytes_int8 / 1024:.1f} KiB, folded float {self.num_bytes_folded / 1024:.1f} KiB "
                f"({self.num_bytes_folded / self.num_bytes_int8:.1f} times)",
            )
        )


@torch.no_grad()
def integer_run(folder: RunFolder, config: ExperimentConfig) -> IntegerResult:
    """Convert a folded run to int8, compare the two, and store the result beside them.

    Raises:
        UserError: the run is not folded yet, its neurons cannot be in int8, or a folder that cannot be written.
    """
    trained = folder.trained()
    folded = load_folded(folder)
    data = build_data(config)
    task = build_task(config, data).eval()
    deployed = integer(folded, (x for x, _ in encoded(task, data.val_dataloader())))
    split = "test" if "test/acc" in trained.metrics else "val"  # as folding itself
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    samples = hits = hits_folded = flipped = 0
    for predicted_B, predicted_folded_B, y_B in _predictions(deployed, folded, encoded(task, loader)):
        samples += len(y_B)
        hits += int((predicted_B == y_B).sum())
        hits_folded += int((predicted_folded_B == y_B).sum())
        flipped += int((predicted_B != predicted_folded_B).sum())
    result = IntegerResult(
        run_id=trained.run_id,
        num_hidden=deployed.num_hidden,
        num_integer=deployed.num_integer,
        num_samples=samples,
        acc_folded=hits_folded / samples,
        acc_int8=hits / samples,
        num_flipped=flipped,
        num_bytes_folded=sum(t.numel() * t.element_size() for t in folded.state_dict().values()),
        num_bytes_int8=deployed.num_bytes,
        split=split,
    )
    try:
        write_json(folder.folded.with_name("folded_int8.json"), dataclasses.asdict(result))
    except OSError as error:
        raise UserError(f"the results cannot be written to {folder.path} ({error.strerror})") from None
    return result


def _predictions(
    deployed: Deployed, folded: Folded, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for x_TBCHW, y_B in batches:
        yield deployed(x_TBCHW).argmax(1), folded(x_TBCHW).argmax(1), y_B
