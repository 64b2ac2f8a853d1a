"""The cost of a network: firing rates, effective operations, and the dense count of multiplications.

Fractions stay fractions. A firing rate is the share of non-zero outputs per neuron and time step: the share of
ones for spikes, of positive values for relu and levels; for signs it is 1, since -1 is never silent.

Operations are counted here and priced where they are printed (`energy.energy_pj`).

Shapes: T steps, B batch, C channels, H W space, N the values of one input of a weight layer (C, H, W or F).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from snn_exp.nn.blocks import Block
from snn_exp.nn.layers import Conv2d, TimeFolded
from snn_exp.nn.networks import MaxPool
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import Norm
from snn_exp.nn.shortcuts import RPReLU
from snn_exp.nn.synapses import Synapse


class _NetworkMetric(ABC):
    """A metric that listens to parts of a network.

    No metric of torchmetrics, which takes two seconds to import; where several processes train, each counts all of an
    evaluation, so there is nothing to synchronise.

    Args:
        parts: name -> part; the metric's layers. They stay the network's own.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.layers = list(parts)
        self.parts = list(parts.values())
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget what was counted."""

    @abstractmethod
    def update(self, layer: int, x: Tensor, y: Tensor) -> None:
        """Count the input and output of one layer in one batch."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count whatever the network computes inside the block."""

        def hook(layer: int) -> object:
            def count(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
                with torch.no_grad():
                    self.update(layer, inputs[0], y)

            return count

        handles = [
            part.register_forward_hook(hook(layer))  # type: ignore[arg-type]
            for layer, part in enumerate(self.parts)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class FiringRate(_NetworkMetric):
    """Share of non-zero outputs per neuron and time step, by layer; unit: spikes per neuron and time step.

    Definition:
        rate[l] = sum(s_l != 0) / number of values of s_l, over all batches

    Args:
        network: the network; its neurons, in order, are the layers.

    Example:
        >>> from snn_exp.nn.neurons import S2NN
        >>> network = nn.Sequential(S2NN())
        >>> metric = FiringRate(network)
        >>> with metric.listening():
        ...     _ = network(torch.tensor([[[0.0, 2.0]]]))
        >>> metric.by_layer()
        {'0': 0.5}
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__({name: module for name, module in network.named_modules() if isinstance(module, Neuron)})

    def reset(self) -> None:
        self.spikes = torch.zeros(len(self.layers), dtype=torch.float64)
        self.values = torch.zeros(len(self.layers), dtype=torch.float64)

    def update(self, layer: int, x: Tensor, s: Tensor) -> None:
        if self.spikes.device != s.device:  # so that no layer waits for the device
            self.spikes, self.values = self.spikes.to(s.device), self.values.to(s.device)
        self.spikes[layer] += torch.count_nonzero(s).to(self.spikes)
        self.values[layer] += s.numel()

    def compute(self) -> Tensor:
        """Return the mean rate over all neurons."""
        return self.spikes.sum() / self.values.sum().clamp(min=1)

    def by_layer(self) -> dict[str, float]:
        """Return the firing rate of each layer."""
        rates = (self.spikes / self.values.clamp(min=1)).tolist()
        return dict(zip(self.layers, rates, strict=True))


def firing_metrics(rate: FiringRate, split: str) -> dict[str, Tensor]:
    """Return the firing rates as the metrics of a split: the mean, the largest of a layer, and of each layer."""
    rates = rate.by_layer()
    named = {"firing_rate_max": max(rates.values(), default=0.0)}
    named |= {f"firing_rate/{layer}": value for layer, value in rates.items()}
    return {
        f"{split}/firing_rate": rate.compute().float(),
        **{f"{split}/{name}": torch.tensor(value) for name, value in named.items()},
    }


BY_PART = (
    "ac", "mac", "xnor", "ac_trained", "mac_trained", "xnor_trained", "dense",
    "filter_mac", "filter_mac_trained", "norm_mac", "norm_mac_trained", "neuron_updates",
)  # fmt: skip
# of the whole network alone, for prices of data movement (metrics/data_movement.py)
IN_ALL = (
    "sums", "comparisons", "activations", "ac_ends", "mac_ends", "dense_once", "dense_once_ends", "effective_once",
    "effective_once_ends",
)  # fmt: skip
COUNTS = (*BY_PART, *IN_ALL)


class SynapticOperations(_NetworkMetric):
    """Effective operations of one sample over all its steps, by part of a network in eval.

    An operation is effective where its input and its weight are both non-zero. A layer's operations are
    additions (ACs) in a batch in which all its inputs are in {-1, 0, 1}, else multiplications (MACs).

    Definition:
        effective = sum_N [x_N != 0] fan_out_N,  fan_out_N = number of non-zero weights that read x_N

        ac, mac            effective operations of a weight layer
        xnor               those of the ac with inputs in {-1, 1} and one absolute weight per output unit
        dense              all operations of a weight layer, zeros and padding included
        filter_mac         num_multiplications of a synapse, per neuron and step
        norm_mac           of a norm, 1 per value; 2 where the statistics are per sample; of an RPReLU, 1 per value
        neuron_updates     1 per neuron and step of a neuron that has dynamics

        sums               additions of streams, per value: where a block adds its branch to its shortcut
        comparisons        of a membrane with thresholds: 1 per neuron and step, more of one with several levels
        activations        neurons, of one step
        *_ends             of the first weight layer and the last, whose weights keep their precision
        dense_once         all operations of the weight layers in one step
        effective_once     those of one step of a network whose activations are this one's, summed over the steps: an
                           input counts if it is not 0 in any step

    These are counts of the inference form: a norm that folds costs nothing (before relu neither: the next
    weights take its scale), and a synapse is moved after the weights that read it, W (eps * s) = eps * (W s),
    so that they read spikes and the filter is paid per neuron and step of their output, once for all weights
    whose outputs add up. A synapse whose output meets no weights (a readout's, pooled) stays where it is.
    What a neuron of several levels emits is divided by its unit, which the weights take: a neuron of one level is
    read as spikes; one that runs a level l as l spikes in binary slots (ilif, mtn) costs l additions per weight; any
    other (qrelu of more than one bit) is multiplied, as integer hardware does and as relu is here.
    Names that end in `_trained` count the network as it was trained, each part where it stands.

    Not counted: biases, pooling. A first layer that reads the same pixels at
    every step is counted at every step.

    Args:
        network: it reads [T, B, ...].

    Source: NeuroBench (Yik et al. 2025) for effective ACs and MACs; the inference form is ours.

    Example:
        >>> from snn_exp.nn.layers import Linear
        >>> network = nn.Sequential(Linear(2, 3))
        >>> metric = SynapticOperations(network)
        >>> with metric.listening():
        ...     _ = network(torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]]))
        >>> metric.by_layer()["0"]
        {'ac': 9.0, 'mac': 0.0, 'ac_trained': 9.0, 'dense': 12.0}
    """

    def __init__(self, network: nn.Module) -> None:
        kinds = (Conv2d, nn.Linear, Synapse, Norm, RPReLU, Neuron, MaxPool, Block)
        # the network itself is the first: with it a pass ends
        super().__init__({n: m for n, m in network.named_modules() if not n or isinstance(m, kinds)})
        weights = [layer for layer, part in enumerate(self.parts) if isinstance(part, Conv2d | nn.Linear)]
        self._ends = {weights[0], weights[-1]} if weights else set()
        blocks = [module for module in network.modules() if isinstance(module, Block)]
        self._served_by_another_filter = {getattr(block, "shortcut", None) for block in blocks if block.shares_filter}
        self._fan_out: dict[tuple[int, torch.Size], tuple[Tensor, bool]] = {}
        # a filtered or normalized value -> the value it is linear in, and the synapses in between
        self._origin = WeakTensorKeyDictionary()
        # what a neuron of several levels emits, also pooled -> that neuron
        self._emitted = WeakTensorKeyDictionary()
        self._start_pass()

    def reset(self) -> None:
        self.counts = torch.zeros(len(self.layers), len(COUNTS), dtype=torch.float64)
        self.samples = 0

    def _start_pass(self) -> None:
        self._pass = [dict.fromkeys(COUNTS, 0.0) for _ in self.layers]
        self._standing: dict[int, int] = {}  # synapse -> its cost where it stands, until weights read it

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count whatever the network computes inside the block; its weights must not change there."""
        self._fan_out.clear()
        self._start_pass()
        with super().listening():
            yield

    def update(self, layer: int, x: Tensor, y: Tensor) -> None:
        part, counts = self.parts[layer], self._pass[layer]
        if isinstance(part, Conv2d | nn.Linear):
            self._count_weights(layer, part, x, y)
        elif isinstance(part, Synapse):
            self._standing[layer] = part.num_multiplications * y.numel()
            counts["filter_mac_trained"] += self._standing[layer]
            self._pass_on(x, y, {layer: part.num_multiplications})
        elif isinstance(part, Norm):
            cost = _cost_a_value(part) * y.numel()
            counts["norm_mac_trained"] += cost
            if part.folds:
                self._pass_on(x, y, {})
            else:
                counts["norm_mac"] += cost
        elif isinstance(part, RPReLU):  # it folds nowhere: it acts on a sum that several read
            counts["norm_mac"] += y.numel()
            counts["norm_mac_trained"] += y.numel()
        elif isinstance(part, Neuron):
            counts["neuron_updates"] += 0 if part.single_step else y.numel()
            counts["comparisons"] += part.num_comparisons * y.numel()
            counts["activations"] += y[0].numel()
            if part.emits == "levels":
                self._emitted[y] = part
        elif isinstance(part, MaxPool) and x in self._emitted:
            self._emitted[y] = self._emitted[x]
        elif isinstance(part, Block):
            counts["sums"] += part.num_sums * y.numel()
        if layer == 0:
            self._end_pass(x.shape[1])

    def _end_pass(self, num_samples: int) -> None:
        for synapse, cost in self._standing.items():
            self._pass[synapse]["filter_mac"] += cost
        counted = [list(counts.values()) for counts in self._pass]
        self.counts += torch.tensor(counted, dtype=self.counts.dtype)
        self.samples += num_samples
        self._start_pass()

    def _count_weights(self, layer: int, weights: Conv2d | nn.Linear, x: Tensor, y: Tensor) -> None:
        key = (layer, x.shape[2:])
        if key not in self._fan_out:
            self._fan_out[key] = _fan_out(weights, x, y)
        origin, synapses = self._origin.get(x, (x, {}))
        trained = _effective(x, *self._fan_out[key])
        counts = self._pass[layer]
        neuron = self._emitted.get(origin)
        if neuron is not None:
            levels = (origin / neuron.unit.to(origin.dtype)).round()
            inference = _effective(levels, *self._fan_out[key], in_slots=neuron.in_slots)
        else:
            inference = trained if origin is x else _effective(origin, *self._fan_out[key])
        for name, count in inference.items():
            counts[name] += count
            counts[f"{name}_trained"] += trained[name]
        counts["dense"] += weights.weight[0].numel() * y.numel()
        fan_out_N, _ = self._fan_out[key]
        is_over_time = x.dim() == fan_out_N.dim() + 2
        once = {
            "dense_once": weights.weight[0].numel() * y.numel() / (len(x) if is_over_time else 1),
            "effective_once": _effective_once(origin if is_over_time else origin[None], fan_out_N),
        }
        for name, count in once.items():
            counts[name] += count
            counts[f"{name}_ends"] += count if layer in self._ends else 0.0
        if layer in self._ends:
            counts["ac_ends"] += inference["ac"]
            counts["mac_ends"] += inference["mac"]
        for synapse, num_multiplications in synapses.items():
            self._standing.pop(synapse, None)
            if weights not in self._served_by_another_filter:
                counts["filter_mac"] += num_multiplications * y.numel()

    def _pass_on(self, x: Tensor, y: Tensor, synapse: Mapping[int, int]) -> None:
        """Record that weights that read y could read what x comes from."""
        if y is not x:
            origin, before = self._origin.get(x, (x, {}))
            self._origin[y] = origin, {**before, **synapse}

    def compute(self) -> dict[str, Tensor]:
        """Return the sum of each count over the network, per sample."""
        return dict(zip(COUNTS, self._a_sample().sum(0), strict=True))

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Return the counts per sample of each part that has any; zeros are left out, save ac, mac and dense.

        Those of the whole network alone are left out too.
        """
        found = {}
        for layer, row in enumerate(self._a_sample().tolist()):
            kept = ("ac", "mac", "dense") if isinstance(self.parts[layer], Conv2d | nn.Linear) else ()
            counts = {name: count for name, count in zip(BY_PART, row, strict=False) if count or name in kept}
            if counts:
                found[self.layers[layer]] = counts
        return found

    def _a_sample(self) -> Tensor:
        return self.counts / max(1, self.samples)


def _cost_a_value(norm: Norm) -> int:
    """Return the multiplications per value in eval: scaling, and squaring where no running statistics are kept."""
    if not norm.statistics_over:
        return 0
    return 1 if "B" in norm.statistics_over.split(",") else 2


def _effective_once(x_TBN: Tensor, fan_out_N: Tensor) -> float:
    """Count the operations on inputs that are not 0 in any step, of a batch [T, B, N]."""
    times_N = (x_TBN != 0).any(0).sum(0, dtype=torch.float64)
    return torch.dot(times_N.flatten(), fan_out_N.flatten()).item()


def _effective(x: Tensor, fan_out_N: Tensor, binary: bool, *, in_slots: bool = False) -> dict[str, float]:
    """Count effective ACs, MACs, and XNORs among the ACs, of a batch [..., N].

    Args:
        x: the batch; whole numbers where it is in slots.
        fan_out_N: number of non-zero weights that read each value.
        binary: whether the weights have one size per output unit.
        in_slots: a value of l is l additions, not one multiplication.
    """
    if in_slots:
        times_N = x.flatten(0, -fan_out_N.dim() - 1).sum(0, dtype=torch.float64)
        return {"ac": torch.dot(times_N.flatten(), fan_out_N.flatten()).item(), "mac": 0.0, "xnor": 0.0}
    present = x.sign().square_()  # 1 where the input is not 0
    times_N = present.flatten(0, -fan_out_N.dim() - 1).sum(0, dtype=torch.float32)
    effective = torch.dot(times_N.flatten().double(), fan_out_N.flatten()).item()
    if not torch.equal(present, x.abs()):
        return {"ac": 0.0, "mac": effective, "xnor": 0.0}
    signs = binary and bool((times_N == x.numel() / times_N.numel()).all())
    return {"ac": effective, "mac": 0.0, "xnor": effective if signs else 0.0}


def _fan_out(weights: Conv2d | nn.Linear, x: Tensor, y: Tensor) -> tuple[Tensor, bool]:
    """Count the non-zero weights that read each value of an input; say whether each unit's weights have one size."""
    used = weights.effective_weight() if isinstance(weights, TimeFolded) else weights.weight
    readers_N = used.count_nonzero(0).double()
    if isinstance(weights, Conv2d):
        # the transpose of the convolution takes every output back to the inputs that it reads
        assert isinstance(weights.padding, tuple)
        (s1, s2), (p1, p2), (k1, k2), (h, w) = weights.stride, weights.padding, weights.kernel_size, x.shape[-2:]
        ones = torch.ones(1, 1, *y.shape[-2:], dtype=torch.float64, device=x.device)
        rest = ((h + 2 * p1 - k1) % s1, (w + 2 * p2 - k2) % s2)
        readers_N = functional.conv_transpose2d(ones, readers_N[None], None, weights.stride, weights.padding, rest)[0]
    size_ON = used.abs().flatten(1)
    return readers_N, torch.equal(size_ON, size_ON[:, :1].expand_as(size_ON))


def dense_macs(network: nn.Module, x_TBCHW: Tensor) -> dict[str, int]:
    """Count the multiply-accumulates per sample over all its steps, by module ("" is the whole), zeros included.

    Args:
        network: the network.
        x_TBCHW: a batch of one sample.

    Example:
        >>> from snn_exp.nn.layers import Conv2d
        >>> dense_macs(Conv2d(1, 2), torch.zeros(1, 1, 1, 8, 8))[""]
        1152
    """
    was_training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(x_TBCHW)
    network.train(was_training)
    root = type(network).__name__
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    total = counter.get_total_flops() // 2
    by_module = {name.removeprefix(f"{root}."): count for name, count in counts.items() if name.startswith(f"{root}.")}
    return {"": total, **by_module}
