"""A run without its norms, as `snn-exp fold` makes it: folded, compared with the trained network, and stored beside it.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.export.addition_only import Multiplications, multiplications
from snn_exp.export.fold import Fold, Folded, fold
from snn_exp.files import write_json
from snn_exp.metrics.operations import SynapticOperations
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.provenance import now
from snn_exp.runs.same_data import require_split
from snn_exp.training.build import build_data, build_task, load_task
from snn_exp.training.classifier import Classifier
from snn_exp.training.saved_weights import load_weights, write_weights

TOLERANCE = 1e-10  # of logits in float64, relative to the largest where that is above 1
CHUNK = 64  # samples whose spikes are kept at a time for comparison


@dataclasses.dataclass(frozen=True)
class FoldCheck:
    """A network and the folded one on the same input.

    Args:
        num_outputs: outputs of all neurons at all steps.
        num_spikes: those that fire in the network.
        num_flipped: those that fire in one network and not in the other.
        logit_error: largest difference of a logit, relative to the largest logit where that is above 1.
        acc: accuracy of the network, a fraction.
        acc_folded: accuracy of the folded network, a fraction.
    """

    num_outputs: int
    num_spikes: int
    num_flipped: int
    logit_error: float
    acc: float
    acc_folded: float


@torch.no_grad()
def compare(network: Network, folded: Folded, batches: Iterable[tuple[Tensor, Tensor]]) -> FoldCheck:
    """Run both networks, in the precision of their parameters.

    Args:
        network: the network, in eval.
        folded: the folded one.
        batches: encoded input [T, B, C, H, W] and labels [B].
    """
    outputs = spikes = flipped = samples = hits = hits_folded = 0
    error, largest = torch.zeros(()), torch.ones(())
    for batch_TBCHW, labels_B in batches:
        batch_TBCHW = batch_TBCHW.to(next(network.parameters()).dtype)
        for x, y in zip(batch_TBCHW.split(CHUNK, 1), labels_B.split(CHUNK), strict=True):
            logits, fired = _fired(network, x)
            logits_folded, fired_folded = _fired(folded.network, x)
            outputs += sum(f.numel() for f in fired.values())
            spikes += sum(int(f.count_nonzero()) for f in fired.values())
            flipped += sum(int((f != fired_folded[name]).sum()) for name, f in fired.items())
            samples += len(y)
            hits += int((logits.argmax(1) == y).sum())
            hits_folded += int((logits_folded.argmax(1) == y).sum())
            error = torch.maximum(error, (logits - logits_folded).abs().max())  # keeps a NaN, unlike max()
            largest = torch.maximum(largest, logits.abs().max())
    return FoldCheck(outputs, spikes, flipped, float(error / largest), hits / samples, hits_folded / samples)


def _fired(network: Network, x_TBCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return logits, and which neurons fired when; of levels and spikes of either sign what they emitted."""
    fired: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, s: fired.update({name: s if module.emits in ("levels", "ternary") else s > 0})

    neurons = [(name, module) for name, module in network.named_modules() if isinstance(module, Neuron)]
    handles = [neuron.register_forward_hook(keep(name)) for name, neuron in neurons]
    try:
        return network(x_TBCHW), fired
    finally:
        for handle in handles:
            handle.remove()


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """A folded run, as stored in folded.json.

    Args:
        folds: the fate of each norm, and which weights were made plain.
        float64: both networks on the validation set.
        float32: both on the set named by `split`.
        multiplications: the multiplications that remain in the folded network, as counted there.
        split: test, or val where the run has not read the test set yet.
    """

    run_id: str
    folds: tuple[Fold, ...]
    float64: FoldCheck
    float32: FoldCheck
    multiplications: Multiplications
    split: str
    folded_at: str

    def text(self) -> str:
        """Format a summary for the terminal."""
        count = {how: sum(f.how == how for f in self.folds) for how in ("weights", "threshold", "plain")}
        exact, rounded = self.float64, self.float32
        return "\n".join(
            (
                f"norms folded into weights: {count['weights']}, into thresholds: {count['threshold']}; "
                f"weight transforms applied: {count['plain']}",
                f"float64, val set: logits equal to {exact.logit_error:.1e}, {exact.num_flipped} of "
                f"{exact.num_spikes:,} spikes flipped",
                f"float32, {self.split} set: {rounded.num_flipped:,} of {rounded.num_spikes:,} spikes flipped "
                f"({rounded.num_flipped / max(1, rounded.num_spikes):.1e}); accuracy {100 * rounded.acc:.2f} %, "
                f"folded {100 * rounded.acc_folded:.2f} %",
                self.multiplications.text(),
            )
        )


def fold_run(folder: RunFolder, config: ExperimentConfig) -> FoldResult:
    """Fold a finished run's best weights and store the result beside them.

    Raises:
        UserError: a norm that nothing can take over, nothing to fold, or a folder that cannot be written.
        RuntimeError: in float64 the folded network is another one; nothing is stored.
    """
    trained = folder.trained()
    data = build_data(config)
    task = load_task(folder, config, data)
    task.eval()
    network = copy.deepcopy(task.network).double()
    folded = fold(network)
    exact = compare(network, folded, encoded(task, data.val_dataloader()))
    if exact.num_flipped or not exact.logit_error <= TOLERANCE:  # so that a NaN is refused
        raise RuntimeError(f"the folded network of run {folder.path.name} is another one: {exact}")
    # a run that has not read the test set yet does not read it here either
    split = "test" if "test/acc" in trained.metrics else "val"
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    operations = SynapticOperations(folded.network)
    with operations.listening():
        rounded = compare(task.network, folded.float(), encoded(task, loader))
    left = multiplications(folded.network, operations.by_layer())
    result = FoldResult(trained.run_id, folded.folds, exact, rounded, left, split, now())
    try:
        write_weights(folded, folder.folded)
        write_json(folder.folded.with_suffix(".json"), dataclasses.asdict(result))
    except OSError as error:
        raise UserError(f"the folded network cannot be written to {folder.path} ({error.strerror})") from None
    return result


def load_folded(folder: RunFolder) -> Folded:
    """Load the stored folded network of a run.

    Raises:
        UserError: the run is not finished, or not folded yet; the data or the stored network are others.
    """
    config = folder.trained_config()
    if not folder.folded.exists():
        raise UserError(f"run {folder.path.name} is not folded yet; type snn-exp fold {folder.path.name}")
    data = build_data(config)
    require_split(folder, data.dataset.fingerprint)
    folded = fold(build_task(config, data).network)  # the same parts as the trained one, with other values
    load_weights(folded, folder.folded, f"type snn-exp fold {folder.path.name}")
    return folded


def encoded(task: Classifier, loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Encode a loader's batches, random codes drawn as in the run's own evaluation."""
    for index, (x_BCHW, y_B) in enumerate(loader):
        yield task.encoded(x_BCHW, index), y_B
