"""A folded single-step network with int8 weights.

Shapes: T steps, which is 1, B batch, C channels, H W space, N any feature dimensions, K classes.
Symbols: s spikes or, of a ReLU, counts of its scale, both in uint8; q weights in int8; a scale of an activation.

A hidden weight layer that reads nothing but a neuron works in integers:

    weights     q = round(W / w), w = max |W| / 127 per output channel
    sum         an int32 sum of q s, exact, since a spike is 0 or 1 without any rounding
    current     w a sum + bias, in float32; the shortcut is added to it
    spike       H(current - threshold) -> uint8
    weights whose only reader is a neuron fire by their sum alone: H(sum - t), t an integer per channel

A ReLU has no exact form: its output is rounded to multiples of a = largest output on calibration data / 255.
The first weights, the last, and all that reads anything else stay in float32.

The products are oneDNN's, through torch: uint8 by int8, channels last in memory.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.export.fold import WEIGHT_LAYERS, Folded, encoded, load_folded
from snn_exp.files import write_json
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.networks import MaxPool, MeanOverTimeAndSpace, Network, outputs_of
from snn_exp.nn.neurons import Neuron
from snn_exp.runs.folder import RunFolder
from snn_exp.training.build import build_data, build_task

Q_MAX = 127  # of a weight; -128 is left out, so that a weight can be negated
S_MAX = 255  # of an activation


class IntegerWeights(nn.Module):
    """A convolution or a linear map of small integers, in int8.

    Equation:
        y = w a sum(q s) + bias, the sum in int32, the rest in float32

    Shapes:
        s: [1, B, C, H, W] or [1, B, C] in uint8; y likewise in float32

    Args:
        layer: the weights, a convolution or a linear map in one group.
        scale: a, of the input; 1 for spikes.

    Source: symmetric per-channel quantization, as in Jacob et al. 2018, section 2.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[0.5, -1.0]]))
        >>> IntegerWeights(layer).q.flatten().tolist()  # 0.5 is 63.5 / 127, rounded to the even neighbour
        [64, -127]
    """

    q: Tensor
    w_scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        assert isinstance(layer, WEIGHT_LAYERS)
        self.is_linear = isinstance(layer, nn.Linear)
        self.scale = scale
        self.stride = [1, 1] if isinstance(layer, nn.Linear) else list(layer.stride)
        self.padding = [0, 0] if isinstance(layer, nn.Linear) else [int(p) for p in layer.padding]
        weight = layer.weight.detach().double()
        weight = weight[:, :, None, None] if self.is_linear else weight  # a linear map is a 1x1 convolution
        largest = weight.abs().amax((1, 2, 3))
        w_scale = torch.where(largest > 0, largest / Q_MAX, 1.0)
        q = (weight / w_scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        bias = torch.zeros(len(q)) if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("q", q)
        self.register_buffer("w_scale", w_scale.float())
        self.register_buffer("bias", bias)
        self._prepare(self.w_scale, self.bias)

    def _prepare(self, multiplier: Tensor, offset: Tensor) -> None:
        """Set the kernel's multiplier and offset of the sum; the weights are put in its order at first use."""
        self._multiplier, self._offset = multiplier, offset
        self._no_shift = torch.zeros(len(self.q), dtype=torch.long)
        self._packed: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # the kernel's own order cannot be copied

    def forward(self, s: Tensor) -> Tensor:
        """Compute y."""
        return self._multiplied(s, torch.float32, "none", [])

    def _multiplied(self, s: Tensor, dtype: torch.dtype, then: str, limits: list[float], unit: float = 1.0) -> Tensor:
        """Call the kernel; `then` is applied to y before it writes round(y / unit)."""
        if self._packed is None:
            self._packed = torch.ops.onednn.qconv_prepack(
                self.q, self._multiplier, self.scale, 0, self.stride, self.padding, [1, 1], 1, None
            )
        s_BCHW = s[0, :, :, None, None] if self.is_linear else s[0]
        y_BCHW: Tensor = torch.ops.onednn.qconv_pointwise(
            s_BCHW, self.scale, 0, self._packed, self._multiplier, self._no_shift, self._offset, self.stride,
            self.padding, [1, 1], 1, unit, 0, dtype, then, limits, "",
        )  # fmt: skip
        return y_BCHW[None, :, :, 0, 0] if self.is_linear else y_BCHW[None]

    def sums(self, s: Tensor) -> Tensor:
        """Compute the sums of q s in float64, where they are exact; the kernel does not return them."""
        x = s[0, :, :, None, None] if self.is_linear else s[0]
        return functional.conv2d(x.double(), self.q.double(), None, self.stride, self.padding)[None]

    @property
    def largest_sum(self) -> Tensor:
        """Return the bound of a sum where all inputs are 0 or 1, per channel."""
        return self.q.double().abs().sum((1, 2, 3))


class IntegerSpikes(IntegerWeights):
    """Weights and the neuron that alone reads them: spikes in, spikes out, only integers in between.

    Equation:
        s' = H(sum(q s) - t),  t = ceil((threshold - bias) / w);  q is negated where it fires from below

    Shapes:
        s, s': [1, B, C, H, W] or [1, B, C] in uint8

    Args:
        layer: as in `IntegerWeights`.
        threshold: of the current, per channel.
        sign: -1 where the neuron fires from below.

    Source: ours; the step is the kernel's clamp to [0, 1] of 2 (sum - t) + 1, an odd number.
    """

    t: Tensor

    def __init__(self, layer: nn.Module, threshold: Tensor, sign: Tensor) -> None:
        super().__init__(layer)
        sign_C, threshold_C = (v.detach().double().flatten().expand(len(self.q)) for v in (sign, threshold))
        t = sign_C * (threshold_C - self.bias.double()) / self.w_scale.double()
        self.q.mul_(sign_C.to(torch.int8).view(-1, 1, 1, 1))
        limit = self.largest_sum + 1  # beyond it the neuron fires always or never; so that float32 holds all of it
        self.register_buffer("t", t.ceil().clamp(-limit, limit).to(torch.int32))
        self._prepare(torch.full_like(self.w_scale, 2.0), 1 - 2 * self.t.float())

    def forward(self, s: Tensor) -> Tensor:
        """Compute s'."""
        return self._multiplied(s, torch.uint8, "hardtanh", [0.0, 1.0])


class IntegerRectified(IntegerWeights):
    """Weights and the ReLU that alone reads them.

    Equation:
        s' = clamp(round((w a sum(q s) + bias) / a'), 0, 255)

    Args:
        layer: as in `IntegerWeights`.
        scale: a.
        unit: a', the scale of the output.
    """

    def __init__(self, layer: nn.Module, scale: float, unit: float) -> None:
        super().__init__(layer, scale)
        self.unit = unit

    def forward(self, s: Tensor) -> Tensor:
        """Compute s'."""
        return self._multiplied(s, torch.uint8, "none", [], self.unit)


class Fire(nn.Module):
    """The neuron that reads a current in float32: spikes in uint8.

    Equation:
        s = H(sign (x - threshold))

    Args:
        threshold: as the neuron has it.
        sign: -1 where it fires from below.

    Example:
        >>> Fire(torch.tensor(1.0), torch.tensor(1.0))(torch.tensor([[[0.9, 1.0]]]))
        tensor([[[0, 1]]], dtype=torch.uint8)
    """

    threshold: Tensor
    sign: Tensor

    def __init__(self, threshold: Tensor, sign: Tensor) -> None:
        super().__init__()
        _hear_announcement()
        self.register_buffer("threshold", threshold.detach().float())
        self.register_buffer("sign", sign.detach().float())
        self.only_from_above = bool((sign > 0).all())

    def forward(self, x: Tensor) -> Tensor:
        """Compute s."""
        # a comparison into float32 and its rounding are both vectorized in torch; one into bool is not
        fired = torch.empty_like(x)
        if self.only_from_above:
            torch.ge(x, self.threshold, out=fired)
        else:
            torch.sub(x, self.threshold, out=fired).mul_(self.sign).ge_(0)
        return rounded(fired, 1.0)


class Rectify(nn.Module):
    """The ReLU that reads a current in float32.

    Equation:
        s = clamp(round(x / a), 0, 255)

    Args:
        scale: a.

    Example:
        >>> Rectify(0.5)(torch.tensor([[[-1.0, 0.9, 1000.0]]]))
        tensor([[[  0,   2, 255]]], dtype=torch.uint8)
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        _hear_announcement()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Compute s."""
        return rounded(x, self.scale)


def rounded(x: Tensor, scale: float) -> Tensor:
    """Compute clamp(round(x / scale), 0, 255) of [1, B, N] in uint8, in x's memory format."""
    # x.round().to(torch.uint8) is not vectorized and takes twice as long; of five axes it would undo the order
    quantized = torch.quantize_per_tensor(x[0], scale, 0, torch.quint8)
    # the same bytes under their plain name; int_repr() would copy them
    plain = torch.empty(0, dtype=torch.uint8)
    return plain.set_(quantized.untyped_storage(), 0, quantized.shape, quantized.stride())[None]


@functools.cache
def _hear_announcement() -> None:
    """Consume torch's warning, given once per process, that a later version drops quint8; no user can act on it."""
    with warnings.catch_warnings(action="ignore"):
        rounded(torch.zeros(1, 1), 1.0)


class ChannelsLast(nn.Module):
    """Float weights in channels-last memory format, put in the order of the kernel once per input shape.

    Args:
        layer: a convolution with plain weights.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self._how = [[int(n) for n in pair] for pair in (layer.padding, layer.stride, layer.dilation)]  # torch's order
        self._packed: dict[torch.Size, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": {}}  # the kernel's own order cannot be copied

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Convolve [1, B, C, H, W] to [1, B, C', H', W']."""
        x_BCHW = x_TBCHW[0].contiguous(memory_format=torch.channels_last)
        if x_BCHW.shape not in self._packed:
            self._packed[x_BCHW.shape] = torch.ops.mkldnn._reorder_convolution_weight(
                self.layer.weight, *self._how, 1, list(x_BCHW.shape)
            )
        y_BCHW: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, self._packed[x_BCHW.shape], self.layer.bias, *self._how, 1, "none", [], ""
        )
        return y_BCHW[None]


class MeanLast(nn.Module):
    """`MeanOverTimeAndSpace` without a copy."""

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Average [1, B, C, ...] to [B, C]."""
        return x_TBN.mean((0, *range(3, x_TBN.dim())))


class Deployed(nn.Module):
    """A folded network ready for inference: one graph, channels last, sums in place, weights in int8 where possible.

    Args:
        graph: the graph that it computes.
        num_hidden: weight layers between the first and the last.
        num_integer: those of them in int8.
    """

    def __init__(self, graph: fx.GraphModule, num_hidden: int, num_integer: int) -> None:
        super().__init__()
        self.graph = graph
        self.num_hidden = num_hidden
        self.num_integer = num_integer
        self.requires_grad_(False).eval()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Compute logits [B, K] of [1, B, C, H, W]."""
        assert len(x_TBCHW) == 1, "single-step neurons have one step"
        logits: Tensor = self.graph(x_TBCHW)
        return logits

    @property
    def num_bytes(self) -> int:
        """Return the bytes of weights, scales, thresholds and biases."""
        return sum(t.numel() * t.element_size() for t in self.graph.state_dict().values())


def integer(folded: Folded, calibration: Iterable[Tensor] = ()) -> Deployed:
    """Convert a folded network to int8.

    Args:
        folded: a folded network of single-step neurons that emit spikes, or of ReLU; is left as it is.
        calibration: input [1, B, C, H, W] on which the size of ReLUs' outputs is found; spikes need none.

    Raises:
        UserError: its neurons have a state or emit signs, or no hidden layer reads a neuron.
    """
    network = folded.network
    neurons = {name: module for name, module in network.named_modules() if isinstance(module, Neuron)}
    for name, neuron in neurons.items():
        _require_single_step(name, neuron)
    scales = dict.fromkeys(neurons, 1.0)
    if any(neuron.emits == "real" for neuron in neurons.values()):
        scales = _scales(network, neurons, calibration)
    deployed = _deploy(network, scales)
    if deployed.num_integer == 0:
        raise UserError(
            "the network has no hidden weight layer that reads a neuron and nothing else, so none can be in int8; "
            "choose a run with residual=bireal, pre, ms or post, or network=vgg"
        )
    return deployed


def floating(folded: Folded) -> Deployed:
    """Build the same graph with all weights in float32, the baseline of int8."""
    return _deploy(folded.network, {})


def _require_single_step(name: str, neuron: Neuron) -> None:
    kind = type(neuron).__name__
    if not neuron.single_step:
        raise UserError(
            f"{name} is a {kind}, which has a state over several steps, and int8 is for single-step neurons; choose a "
            f"run with neuron=s2nn or neuron=relu"
        )
    if neuron.emits == "signs":
        raise UserError(
            f"{name} is a {kind}, which emits signs, and the int8 kernels read unsigned numbers; choose a run with "
            f"neuron=s2nn or neuron=relu"
        )


@torch.no_grad()
def _scales(network: Network, neurons: dict[str, Neuron], calibration: Iterable[Tensor]) -> dict[str, float]:
    largest = dict.fromkeys(neurons, 0.0)
    seen = False
    for x_TBCHW in calibration:
        seen = True
        with outputs_of(neurons.values()) as outputs:
            network(x_TBCHW)
        largest = {name: max(largest[name], float(outputs[neuron].max())) for name, neuron in neurons.items()}
    if not seen:
        raise UserError("a ReLU network needs calibration data for int8, and none were given")
    return {name: value / S_MAX if value > 0 else 1.0 for name, value in largest.items()}


def _deploy(network: Network, scales: dict[str, float]) -> Deployed:
    """Build the graph with its parts replaced.

    Args:
        network: a folded one.
        scales: neuron -> a; those that are not there stay in float32.
    """
    network = copy.deepcopy(network)
    graph = data_flow(network)
    for node in graph.nodes:
        if isinstance(part_at(network, node), nn.Identity):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    first, *hidden, _ = [n for n in graph.nodes if isinstance(part_at(network, n), WEIGHT_LAYERS)]
    # uint8 output -> its scale: a neuron that hidden weights read, and a maximum of it
    small: dict[fx.Node, float] = {}
    for node in graph.nodes:
        part = part_at(network, node)
        if isinstance(part, Neuron) and str(node.target) in scales and _is_read(network, node, hidden):
            small[node] = scales[str(node.target)]
        elif isinstance(part, MaxPool) and node.all_input_nodes[0] in small:
            small[node] = small[node.all_input_nodes[0]]
    in_integers = [node for node in hidden if node.all_input_nodes[0] in small]
    _replace_parts(network, graph, small, in_integers)
    _convert_where_floats_are_read(graph, small, in_integers)
    _work_in_place(network, graph, [first, *hidden], small)
    graph.lint()
    return Deployed(fx.GraphModule(network, graph), len(hidden), len(in_integers))


def _is_read(network: Network, node: fx.Node, hidden: list[fx.Node]) -> bool:
    return any(
        user in hidden or (isinstance(part_at(network, user), MaxPool) and _is_read(network, user, hidden))
        for user in node.users
    )


def _replace_parts(network: Network, graph: fx.Graph, small: dict[fx.Node, float], in_integers: list[fx.Node]) -> None:
    for node in list(graph.nodes):
        part: Any = part_at(network, node)
        target = str(node.target)
        if node in in_integers:
            (reader, *others) = node.users
            neuron: Any = part_at(network, reader)
            scale = small[node.all_input_nodes[0]]
            if others or not isinstance(neuron, Neuron) or reader not in small:
                network.set_submodule(target, IntegerWeights(part, scale))
                continue
            if neuron.emits == "real":
                network.set_submodule(target, IntegerRectified(part, scale, small[reader]))
            else:
                network.set_submodule(target, IntegerSpikes(part, *_threshold(neuron)))
            small[node] = small.pop(reader)
            reader.replace_all_uses_with(node)
            graph.erase_node(reader)
        elif isinstance(part, Neuron) and node in small:
            real = part.emits == "real"
            network.set_submodule(target, Rectify(small[node]) if real else Fire(*_threshold(part)))
        elif isinstance(part, nn.Conv2d):
            network.set_submodule(target, ChannelsLast(part))
        elif isinstance(part, MeanOverTimeAndSpace):
            network.set_submodule(target, MeanLast())


def _threshold(neuron: Neuron) -> tuple[Tensor, Tensor]:
    folded = neuron.folded_threshold
    threshold = neuron.v_threshold if folded is None else folded.threshold
    return threshold, torch.ones_like(threshold) if folded is None else folded.sign.expand_as(threshold)


def _convert_where_floats_are_read(graph: fx.Graph, small: dict[fx.Node, float], in_integers: list[fx.Node]) -> None:
    for node, scale in small.items():
        for user in list(node.users):
            if user not in in_integers and user not in small:
                with graph.inserting_before(user):
                    as_float = graph.call_method("float", (node,))
                    as_float = as_float if scale == 1 else graph.call_method("mul_", (as_float, scale))
                user.replace_input_with(node, as_float)


def _work_in_place(network: Network, graph: fx.Graph, weights: list[fx.Node], small: dict[fx.Node, float]) -> None:
    """Add and rectify in place what weights have just written, where nothing else reads it."""
    fresh = {node for node in weights if node not in small and len(node.users) == 1}
    for node in graph.nodes:
        own = next((n for n in node.all_input_nodes if n in fresh), None)
        if own is None:
            continue
        if node.op == "call_function" and node.target is operator.add:
            others = [n for n in node.args if n is not own]
            node.op, node.target, node.args = "call_method", "add_", (own, *others)
        elif isinstance(neuron := part_at(network, node), Neuron) and neuron.emits == "real":
            node.op, node.target = "call_method", "relu_"
        else:
            continue
        if len(node.users) == 1:
            fresh.add(node)


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
