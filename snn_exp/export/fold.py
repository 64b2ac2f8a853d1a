"""`snn-exp fold`: a trained network without its norms.

Shapes: T steps, B batch, C channels, H W space, N any feature dimensions, K classes.

With its running statistics a norm is one scale and shift per channel, y = scale x + shift, which its
neighbours can take over:

    the weights that make x      W <- scale W, bias <- scale bias + shift      a bias is added after the padding
    the weights that read y      bias <- bias + W shift, W <- W scale          a shift only where nothing is padded
    the neuron that reads y      threshold, reset and refractory response / scale, and shift / scale is added to x;
                                 without dynamics: threshold <- (threshold - shift) / scale, and nothing is added
    the neuron around it         threshold <- (threshold - shift) / scale; a reset still subtracts the old one

The first of these that exists takes it. A negative scale makes a neuron fire from below. The
neighbours of a norm are found in the data flow.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.export.addition_only import Multiplications, multiplications
from snn_exp.files import write_json
from snn_exp.metrics.operations import SynapticOperations
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.layers import TimeFolded
from snn_exp.nn.networks import MeanOverTimeAndSpace, Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import NoNorm, Norm
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.provenance import now
from snn_exp.runs.same_data import require_split
from snn_exp.training.build import build_data, build_task, load_task
from snn_exp.training.saved_weights import load_weights, write_weights
from snn_exp.training.task import Classification

TOLERANCE = 1e-10  # of logits in float64, relative to the largest where that is above 1
CHUNK = 64  # samples whose spikes are kept at a time for comparison
WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)


@dataclasses.dataclass(frozen=True)
class Fold:
    """The fate of one part.

    Args:
        part: the norm, or the weights that were made plain.
        into: the parts that took it over.
        how: weights, threshold, or plain.
    """

    part: str
    into: tuple[str, ...]
    how: str


class Folded(Network):
    """A network without its norms; it only evaluates.

    Args:
        network: the folded network.
        folds: the fate of its norms.
    """

    def __init__(self, network: Network, folds: Iterable[Fold]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.folds = tuple(folds)
        self.eval()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.network(x_TBCHW)
        return logits

    def segments(self) -> list[nn.Module]:
        return self.network.segments()

    def train(self, mode: bool = True) -> Folded:
        """Refuse training; the network only evaluates.

        Raises:
            UserError: it is put into training mode.
        """
        if mode:
            raise UserError(
                "a folded network cannot be trained further, since its norms are part of its weights and thresholds; "
                "train the run that it was folded from, and fold that again"
            )
        return super().train(False)


class ChannelBias(nn.Module):
    """A constant per channel, which remains of a norm in front of a neuron with dynamics.

    Example:
        >>> ChannelBias(torch.tensor([1.0, 2.0]))(torch.zeros(1, 1, 2))
        tensor([[[1., 2.]]])
    """

    bias: Tensor

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("bias", bias)

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Add the constant."""
        return x_TBN + self.bias


@torch.no_grad()
def fold(network: Network) -> Folded:
    """Build the network that computes the same function in eval, without norms and with plain weights.

    Args:
        network: is left as it is.

    Raises:
        UserError: a norm that nothing can take over, or nothing to fold.
    """
    network = copy.deepcopy(network).eval()
    folds = [*_make_plain(network), *_fold_membrane_norms(network)]  # a neuron is rescaled as it then is
    for node in data_flow(network).nodes:
        norm = part_at(network, node)
        if isinstance(norm, Norm):
            if not isinstance(norm, NoNorm):
                folds.append(_fold_norm(network, node, norm))
            else:
                network.set_submodule(node.target, nn.Identity())
    if not folds:
        raise UserError("the network has no norm and its weights are plain, so there is nothing to fold")
    return Folded(network, folds)


def _readers(network: nn.Module, node: fx.Node) -> list[fx.Node]:
    """List the nodes that read a value; a mean passes a scale and a shift on unchanged."""
    readers = []
    for user in node.users:
        is_mean = isinstance(part_at(network, user), MeanOverTimeAndSpace)
        readers += _readers(network, user) if is_mean else [user]
    return readers


def _make_plain(network: Network) -> Iterator[Fold]:
    for name, layer in network.named_modules():
        if isinstance(layer, TimeFolded) and not layer.is_plain:
            layer.make_plain()
            yield Fold(name, (name,), "plain")


def _fold_membrane_norms(network: Network) -> Iterator[Fold]:
    neurons = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
    for name, neuron in neurons.items():
        if isinstance(neuron.membrane_norm, Norm):
            part = f"{name}.membrane_norm"
            scale, shift = _for_neuron(part, neuron.membrane_norm, name, neuron)
            folded = neuron.firing_on(scale, shift)
            folded.membrane_norm = None
            network.set_submodule(name, folded)
            yield Fold(part, (name,), "threshold")


def _fold_norm(network: Network, node: fx.Node, norm: Norm) -> Fold:
    """Fold one norm into its neighbours and leave nothing, or a constant, in its place."""
    part = str(node.target)
    scale_C, shift_C = _affine_C(part, norm)
    (source,) = node.all_input_nodes
    readers = _readers(network, node)
    modules = [part_at(network, reader) for reader in readers]
    left: nn.Module = nn.Identity()
    how = "weights"
    if isinstance(maker := part_at(network, source), WEIGHT_LAYERS) and len(source.users) == 1:
        readers = [source]
        _scale_outputs(maker, scale_C, shift_C)
    elif modules and all(isinstance(m, nn.Linear if shift_C.any() else WEIGHT_LAYERS) for m in modules):
        for module in modules:
            _scale_inputs(module, scale_C, shift_C)
    elif len(modules) == 1 and isinstance(neuron := modules[0], Neuron):
        how, name = "threshold", str(readers[0].target)
        scale, shift = _for_neuron(part, norm, name, neuron)
        if neuron.single_step:  # its membrane is its input
            folded: Neuron | None = neuron.firing_on(scale, shift)
        else:
            folded, left = neuron.rescaled(scale), ChannelBias(shift / scale)
        if folded is None:
            raise UserError(f"{part} cannot be folded: {name} after it is a {_why_not_rescaled(neuron)}")
        network.set_submodule(name, folded)
    else:
        raise UserError(
            f"{part} cannot be folded: its readers are neither weights alone nor a single neuron, so nothing can take "
            f"over its scale and shift"
        )
    network.set_submodule(part, left)
    return Fold(part, tuple(str(reader.target) for reader in readers), how)


def _why_not_rescaled(neuron: Neuron) -> str:
    kind = type(neuron).__name__
    if neuron.scales_with_input is None:
        return (
            f"{kind}, which does not declare its attributes in membrane units, and with v_threshold alone divided by a "
            f"factor it fires otherwise; if its membrane is linear in its input, name all such attributes in its "
            f'class, such as scales_with_input = ("v_threshold", "v_reset"): dividing all of them by a must give for x '
            f"the spikes that there were for a x"
        )
    return f"{kind}, whose membrane is not linear in its input, so no threshold makes up for the scale"


def _affine_C(part: str, norm: Norm) -> tuple[Tensor, Tensor]:
    affine_C = norm.affine_C()
    if affine_C is None:
        raise UserError(
            f"{part} cannot be folded: {type(norm).__name__}, with statistics over {norm.statistics_over}, is not "
            f"one fixed scale and shift per channel, which is all that weights and thresholds can take over"
        )
    return affine_C


def _for_neuron(part: str, norm: Norm, name: str, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """Return a norm's scale and shift, in the shape in which a neuron takes them."""
    scale_C, shift_C = _affine_C(part, norm)
    if neuron.emits == "real":
        raise UserError(
            f"{part} cannot be folded: {name} after it is a {type(neuron).__name__}, which passes the size of its "
            f"input on and has no threshold to take over the scale"
        )
    if (scale_C == 0).any():
        raise UserError(
            f"{part} cannot be folded: its scale is 0 in channel {int((scale_C == 0).nonzero()[0])}, where its "
            f"output no longer depends on its input, which no threshold can reproduce"
        )
    shape = (-1, *(1 for _ in norm.feature_shape[1:]))
    return scale_C.view(shape), shift_C.view(shape)


def _scale_outputs(layer: Any, scale_C: Tensor, shift_C: Tensor) -> None:
    """Change the weights so that y = scale (W x + bias) + shift."""
    bias_C = shift_C if layer.bias is None else layer.bias * scale_C + shift_C
    layer.bias = nn.Parameter(bias_C)
    layer.weight.mul_(scale_C.view(-1, *(1 for _ in layer.weight.shape[1:])))


def _scale_inputs(layer: Any, scale_C: Tensor, shift_C: Tensor) -> None:
    """Change the weights so that y = W (scale x + shift) + bias."""
    if shift_C.any():
        constant = layer.weight @ shift_C
        layer.bias = nn.Parameter(constant if layer.bias is None else layer.bias + constant)
    layer.weight.mul_(scale_C.view(1, -1, *(1 for _ in layer.weight.shape[2:])))


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
            spikes += sum(int(f.sum()) for f in fired.values())
            flipped += sum(int((f != fired_folded[name]).sum()) for name, f in fired.items())
            samples += len(y)
            hits += int((logits.argmax(1) == y).sum())
            hits_folded += int((logits_folded.argmax(1) == y).sum())
            error = torch.maximum(error, (logits - logits_folded).abs().max())  # keeps a NaN, unlike max()
            largest = torch.maximum(largest, logits.abs().max())
    return FoldCheck(outputs, spikes, flipped, float(error / largest), hits / samples, hits_folded / samples)


def _fired(network: Network, x_TBCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return logits, and which neurons fired when."""
    fired: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, s: fired.update({name: s > 0})

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
                f"weights made plain: {count['plain']}",
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


def encoded(task: Classification, loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Encode a loader's batches, random codes drawn as in the run's own evaluation."""
    for index, (x_BCHW, y_B) in enumerate(loader):
        yield task.encoded(x_BCHW, index), y_B
