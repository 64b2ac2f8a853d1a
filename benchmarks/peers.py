"""snn_exp beside SpikingJelly, snnTorch, Norse and the convolutions: a neuron, a training step, inference, memory.

The network is five times [3x3 convolution, batch norm, LIF] on 32 channels of 16x16, four steps, a batch of 64; the
neuron alone goes over [8, 64, 64, 16, 16]; ResNet-20, in pre-activation blocks of 16 channels, reads 128 images of
3x32x32 in four steps. One process, one thread, process CPU time; all ways in interleaved rounds; compilation apart;
peak memory in a fresh process each. For everybody all freed memory is kept; snn-exp by itself keeps tensors of less
than 32 MiB, which the neuron's just are not. Every peer folds time into the batch around its convolutions, as we do, so
that what is compared is norm and neuron.

Writes results/peers.csv and peers.md beside this file. `make bench` brings the peers.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import os
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Read when a process starts: memory that is given back comes again as fresh pages, which cost more than computing on
# them. The same for everybody.
if __name__ == "__main__" and os.environ.get("MALLOC_TRIM_THRESHOLD_") != str(2**34):
    allocator = {
        "THP_MEM_ALLOC_ENABLE": "1",
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**34),
        "MALLOC_TOP_PAD_": str(2**26),
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **allocator})

import torch
from rounds import in_rounds, machine, ratio, resident_mib
from steps import composed, convolutions_of
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.export.fold import fold
from snn_exp.nn.kernels import Form, add_where_spikes_are, form_of, fuse
from snn_exp.nn.kernels.fused import fire
from snn_exp.nn.layers import Conv2d, lay_channels_last, make_part_factories
from snn_exp.nn.networks import Network, build_network
from snn_exp.nn.neurons import NEURONS, Neuron
from snn_exp.nn.norms import BatchNorm, Site
from snn_exp.nn.surrogates import SURROGATES

T, C, S, NUM_CONVS, NUM_CLASSES = 4, 32, 16, 5, 10
WIDTHS = (1, *[C] * NUM_CONVS)


class Sizes(NamedTuple):
    """Name what is computed on.

    Args:
        neuron: of the neuron alone.
        batch: of the small network.
        resnet_batch: of ResNet-20.
        resnet_size: pixels at a side.
        resnet_layers: its layers; 20, but for a trial.
    """

    neuron: tuple[int, ...] = (8, 64, 64, 16, 16)
    batch: int = 64
    resnet_batch: int = 128
    resnet_size: int = 32
    resnet_layers: int = 20


PAGE = Sizes()

RESNET = "training step of ResNet-20"
TASKS = ("neuron", "training step", "inference", RESNET)


class Ours(Network):
    """The network of this page out of our parts; a peer's neuron may stand in for ours."""

    def __init__(self, make_neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(WIDTHS):
            layers += [Conv2d(before, after), BatchNorm(Site((after, S, S), T)), make_neuron()]
        self.layers, self.readout = nn.Sequential(*layers), nn.Linear(C, NUM_CLASSES)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.layers(x_TBCHW).mean(dim=(0, 3, 4)))
        return logits

    def segments(self) -> list[nn.Module]:
        return list(self.layers)


class ConvolutionsAlone(nn.Module):
    """What no neuron and no norm can make faster."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Conv2d(a, b) for a, b in itertools.pairwise(WIDTHS)))
        self.readout = nn.Linear(C, NUM_CLASSES)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.layers(x_TBCHW).mean(dim=(0, 3, 4)))
        return logits


class SpikingJellyLIF(nn.Module):
    """Its multi-step neuron; forgets before each batch, as its users have to."""

    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.neuron = neuron.LIFNode(2.0, detach_reset=True, step_mode="m", surrogate_function=surrogate.ATan())

    def forward(self, x_TBN: Tensor) -> Tensor:
        self.neuron.reset()
        s: Tensor = self.neuron(x_TBN)
        return s


class SnnTorchLIF(nn.Module):
    """Its Leaky, step by step."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch

        self.neuron = snntorch.Leaky(0.5, reset_mechanism="zero", spike_grad=snntorch.surrogate.atan())

    def forward(self, x_TBN: Tensor) -> Tensor:
        v, spikes = self.neuron.reset_mem(), []
        for x_BN in x_TBN:
            s, v = self.neuron(x_BN, v)
            spikes.append(s)
        return torch.stack(spikes)


class NorseLIF(nn.Module):
    """Its LIF box, step by step: 500 per second over steps of a millisecond are our tau of 2."""

    def __init__(self) -> None:
        super().__init__()
        from norse.torch.functional.lif_box import LIFBoxParameters
        from norse.torch.module.lif_box import LIFBoxCell

        self.cell = LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(1.0)))

    def forward(self, x_TBN: Tensor) -> Tensor:
        state, spikes = None, []
        for x_BN in x_TBN:
            s, state = self.cell(x_BN, state)
            spikes.append(s)
        return torch.stack(spikes)


def our_lif() -> Neuron:
    return NEURONS.make({"name": "lif", "detach_reset": True}, (C, S, S), SURROGATES.make({"name": "atan"}), T)


WHOSE: dict[str, Callable[[], nn.Module]] = {
    "snn_exp, plain": our_lif,
    "SpikingJelly": SpikingJellyLIF,
    "snnTorch": SnnTorchLIF,
    "Norse": NorseLIF,
}


PEERS = ("SpikingJelly", "snnTorch", "Norse")


class Way(NamedTuple):
    """How something is computed.

    Args:
        who: whose neuron.
        dtype: float32, or bfloat16 by autocast.
        layout: of the maps.
        compiled: by torch.compile.
    """

    who: str
    dtype: str = "float32"
    layout: str = "contiguous"
    compiled: bool = False

    def __str__(self) -> str:
        return ", ".join([self.who, *(["compiled"] if self.compiled else []), self.layout, self.dtype])


def ways(task: str) -> Iterator[Way]:
    """Every way that is measured; each peer as fast as it can be had."""
    if task == "neuron":
        yield Way("memory: five passes")
        yield from (Way(who) for who in ("snn_exp", *WHOSE))
        yield from (Way(who, compiled=True) for who in WHOSE)
        return
    if task == RESNET:
        for layout in ("contiguous", "channels_last"):
            yield from (Way(who, layout=layout) for who in ("convolutions alone", "snn_exp", "SpikingJelly"))
            yield Way("SpikingJelly", layout=layout, compiled=True)
        yield Way("snn_exp, events", layout="channels_last")
        return
    ours = ("snn_exp", "snn_exp, folded") if task == "inference" else ("snn_exp",)
    for dtype, layout in (("float32", "contiguous"), ("float32", "channels_last"), ("bfloat16", "channels_last")):
        yield from (Way(who, dtype, layout) for who in ("convolutions alone", "ReLU on as many images", *ours))
        for who in PEERS:
            yield Way(who, dtype, layout)
            yield Way(who, dtype, layout, compiled=True)
    yield from (Way("snn_exp, plain", compiled=compiled) for compiled in (False, True))
    if task == "training step":
        yield Way("snn_exp, events", layout="channels_last")


def network(way: Way, task: str, sizes: Sizes = PAGE) -> nn.Module:
    torch.manual_seed(0)
    if task == RESNET:
        return resnet(way, sizes)
    if way.who == "convolutions alone":
        model: nn.Module = ConvolutionsAlone()
    elif way.who == "ReLU on as many images":
        model = Ours(nn.ReLU)
    else:
        ours = Ours(WHOSE.get(way.who, our_lif))
        if way.who == "snn_exp, folded":
            ours = fold(ours).network
        if way.who in ("snn_exp", "snn_exp, folded"):
            fuse(ours, overwrite=True)
        if way.who == "snn_exp, events":
            add_events(ours)
        model = ours
    if way.layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.train(task != "inference")


def resnet(way: Way, sizes: Sizes = PAGE) -> Network:
    """Ours, of pre-activation blocks; a peer's neurons may stand in for ours."""
    config = composed("method=lif_bn", "depth=d20", "neuron.detach_reset=true", f"encoding.num_steps={T}")
    parts = make_part_factories(
        neuron=config.neuron, surrogate=config.surrogate, synapse=config.synapse, norm=config.norm,
        weight_norm=config.weight_norm, weight_quant=config.weight_quant, num_steps=T,
    )  # fmt: skip
    if way.who in PEERS:
        parts = dataclasses.replace(parts, make_neuron=lambda shape: WHOSE[way.who]())
    model = build_network(
        config.network, parts, in_shape=(3, sizes.resnet_size, sizes.resnet_size), num_classes=NUM_CLASSES,
        num_layers=sizes.resnet_layers, residual=config.residual,
    )  # fmt: skip
    if way.layout == "channels_last":
        lay_channels_last(model)
    if way.who == "snn_exp":
        fuse(model)
    if way.who == "snn_exp, events":
        add_events(model)
    return model


def add_events(network: Network) -> None:
    """As trainer.kernels=events does."""
    fuse(network, write_words=True)
    add_where_spikes_are(network)


def prepared(way: Way, task: str, sizes: Sizes = PAGE) -> Callable[[], object]:
    """What a round runs, on torch's default device."""
    if task == "neuron":
        return prepared_neuron(way, sizes)
    model = network(way, task, sizes)
    side = sizes.resnet_size
    shape = (T, sizes.resnet_batch, 3, side, side) if task == RESNET else (T, sizes.batch, 1, S, S)
    x, y_B = torch.rand(shape), torch.arange(shape[1]) % NUM_CLASSES
    called = torch.compile(model) if way.compiled else model
    autocast = way.dtype == "bfloat16"

    def step() -> None:
        model.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            logits = called(x)
        functional.cross_entropy(logits.float(), y_B).backward()

    def infer() -> Tensor:
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            logits: Tensor = called(x)
            return logits

    if task == RESNET and way.who == "convolutions alone":
        return convolutions_of(model, step)
    return infer if task == "inference" else step


def prepared_neuron(way: Way, sizes: Sizes = PAGE) -> Callable[[], object]:
    torch.manual_seed(0)
    x, weight = torch.randn(sizes.neuron, requires_grad=True), torch.randn(sizes.neuron)
    if way.who.startswith("memory"):
        into = torch.empty_like(weight)
        return lambda: [into.copy_(weight) for _ in range(5)]
    if way.who == "snn_exp":
        neuron = our_lif()
        form = form_of(neuron)
        assert isinstance(form, Form)
        call: Callable[[Tensor], Tensor] = lambda x: fire(neuron, form, None, x)  # noqa: E731
    else:
        call = WHOSE[way.who]()
    call = torch.compile(call) if way.compiled else call
    return lambda: torch.autograd.grad(call(x), x, weight)


def peak_mib(task: str, way: Way) -> float:
    """By how much two rounds raise the peak of a fresh process, which has loaded everything."""
    command = [sys.executable, __file__, "--peak", task, *map(str, way)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(task: str, who: str, dtype: str, layout: str, compiled: str) -> None:
    run = prepared(Way(who, dtype, layout, compiled == "True"), task)
    torch.set_num_threads(1)
    before = resident_mib()
    for _ in range(2):
        run()
    print(resident_mib(highest=True) - before)


PEAKS = ("SpikingJelly", "snn_exp, plain", "snn_exp", "snn_exp, events")


def write_peaks(remark: str) -> None:
    """Print the peaks of the training steps beside SpikingJelly's, eager, and write them to peaks.md."""
    lines = [
        "# Memory of a training step\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/peers.py', *sys.argv[1:]])}  # long\n```\n",
        f"{machine()}. {remark}".strip() + "\n",
        "What two steps add to a fresh process, MiB, on channels-last maps in float32. The networks are those of\n"
        "[peers](peers.md), untrained. Events: `trainer.kernels=events`, whose layers keep spikes as bits for the "
        "backward\npass.\n",
        "| way | five convolutions, batch 64 | / SpikingJelly | ResNet-20, batch 128 | / SpikingJelly |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    first: list[float] = []
    for who in PEAKS:
        found = [peak_mib(task, Way(who, layout="channels_last")) for task in ("training step", RESNET)]
        first = first or found
        cells = " | ".join(f"{mib:.0f} | {mib / least:.2f}" for mib, least in zip(found, first, strict=True))
        lines.append(f"| {who} | {cells} |")
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_name("peaks.md").write_text(text)


class Row(NamedTuple):
    """What came out: ms of CPU time in each round, s of the first call, MiB."""

    task: str
    way: Way
    ms: list[float]
    first_s: float
    peak_mib: float | None


def measured(num_rounds: int, tasks: list[str]) -> list[Row]:
    runs, first_s = {}, {}
    for task in tasks:
        for way in ways(task):
            start = time.perf_counter()
            run = prepared(way, task)
            try:
                run()
            except Exception as error:
                print(f"{task}, {way}: cannot be had: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                continue
            runs[task, way], first_s[task, way] = run, time.perf_counter() - start
            print(f"{task}, {way}: first call {first_s[task, way]:.1f} s", file=sys.stderr)
    spent = in_rounds(runs, num_rounds)
    return [
        Row(
            task,
            way,
            ms,
            first_s[task, way],
            peak_mib(task, way) if has_a_peak(task, way) else None,
        )
        for (task, way), ms in spent.items()
    ]


def has_a_peak(task: str, way: Way) -> bool:
    """A compiler holds more than the step; the convolutions of ResNet-20 come out of a whole step."""
    return not way.compiled and (task == "training step" or (task == RESNET and way.who != "convolutions alone"))


def tables(rows: list[Row]) -> Iterator[str]:
    """A table a task: beside the fastest compiled way of a peer, and beside the convolutions of the same kind."""
    for task in TASKS:
        of = [row for row in rows if row.task == task]
        if not of:
            continue
        peers = [row for row in of if row.way.compiled and not row.way.who.startswith("snn_exp")]
        fastest = {
            dtype: min(found, key=lambda row: statistics.median(row.ms))
            for dtype in ("float32", "bfloat16")
            if (found := [row for row in peers if row.way.dtype == dtype])
        }
        limit = "memory: five passes" if task == "neuron" else "convolutions alone"
        limits = {row.way[1:3]: row for row in of if row.way.who == limit}
        yield f"## {task[0].upper() + task[1:]}\n"
        for dtype, row in fastest.items():
            yield f"The fastest compiled peer at {dtype}: {row.way}.\n"
        yield f"| way | ms | / fastest compiled peer | / {limit} | first call, s | peak MiB |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        for row in of:
            best, least = fastest.get(row.way.dtype), limits[row.way[1:3]]
            yield (
                f"| {row.way} | {statistics.median(row.ms):.1f} | {ratio(row.ms, best.ms) if best else '-'} | "
                f"{ratio(row.ms, least.ms)} | {row.first_s:.1f} | "
                f"{'-' if row.peak_mib is None else format(row.peak_mib, '.0f')} |"
            )
        yield ""


def main() -> None:
    """Measures, prints, writes."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="measurements per way")
    parser.add_argument(
        "--tasks", nargs="+", default=TASKS, choices=TASKS, help="less than all is printed, not written"
    )
    parser.add_argument("--peaks", action="store_true", help="only the memory of training steps, into peaks.md")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    if options.peaks:
        write_peaks(options.remark)
        return
    torch._dynamo.config.recompile_limit = 100  # all ways share the code of one forward; past 8 it would not compile
    warnings.filterwarnings("ignore", category=FutureWarning)  # of torch.jit, which Norse uses
    torch.set_num_threads(1)
    rows = measured(options.rounds, options.tasks)
    if set(options.tasks) < set(TASKS):
        print("\n".join(tables(rows)))
        return
    results = Path(__file__).parent / "results" / "peers.csv"
    results.parent.mkdir(exist_ok=True)
    with results.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", *Way._fields, "round", "cpu_ms", "first_s", "peak_mib", "machine"])
        for row in rows:
            for number, ms in enumerate(row.ms):
                writer.writerow(
                    [row.task, *row.way, number, f"{ms:.3f}", f"{row.first_s:.2f}", row.peak_mib, machine()]
                )
    text = "\n".join([
        "# Comparison with other libraries\n",
        f"```bash\nmake bench ROUNDS={options.rounds}  # long\n```\n",
        f"{options.rounds} rounds; {machine()}. {options.remark}".strip() + "\n",
        (__doc__ or "").split("\n\n")[1] + "\n",
        "ms: median over the rounds. Ratio: median of the rounds' ratios, in brackets the quartiles.\n"
        "Peak: what two steps add to a fresh process.\n",
        *tables(rows),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
