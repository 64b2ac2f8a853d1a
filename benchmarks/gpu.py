"""On a GPU: the fused passes beside the plain path, ResNet-20 beside SpikingJelly's Triton neurons, seeds in step.

Wall time until the GPU has nothing left to do, all ways in interleaved rounds, compilation apart; memory that torch
allocates on the card. Decides what `trainer.kernels=auto` takes on this card (snn_exp/nn/kernels/gpus.json) and writes
gpu.md beside this file. `make gpu` brings the peers and runs it behind the tests of a GPU.

    --device cpu  the whole way on a CPU at tiny sizes, which says nothing of speed and stores nothing
"""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("SJ_LIF_CUDA_IMPLEMENTATION", "triton")  # SpikingJelly reads it when it is imported

import peers
import torch
from kernels import norm_and_neuron
from peers import RESNET, Sizes, Way
from rounds import in_rounds, machine, ratio
from steps import composed, training_step
from torch.nn import functional

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.nn.kernels import measured
from snn_exp.nn.kernels.measured import Kind, Measured
from snn_exp.training.build import DataSpec, assemble, kernels_of
from snn_exp.training.stacking import Stack

METHODS: dict[Kind, str] = {"many steps": "lif_bn", "one step": "s2nn_bn", "signs": "sign_bn"}
NUM_SEEDS = 5
LEGEND = """\
A step is forward, loss and backward. ms: wall time until the GPU is done, median over the rounds. Ratio: median of the
rounds' ratios, in brackets the quartiles. Peak: what a step allocates on the card beyond weights and batch.
"""
Run = Callable[[], object]
Key = tuple[tuple[str, ...], str]  # row, way
Prepare = dict[Key, Callable[[], Run]]


class Plan(NamedTuple):
    """List what is measured.

    Args:
        maps: [B, C, H, W] behind norm and neuron.
        batches: of ResNet-20.
        sizes: of the networks of peers.py.
        kinds: dtype and layout of its ways.
        repeats: of norm and neuron in a round, so that a launch is not all there is.
        compiled: whether the compiled ways are measured.
    """

    maps: tuple[tuple[int, ...], ...] = ((128, 16, 32, 32), (128, 64, 8, 8), (512, 16, 32, 32), (16, 16, 8, 8))
    batches: tuple[int, ...] = (128, 512)
    sizes: Sizes = Sizes()
    kinds: tuple[tuple[str, str], ...] = (
        ("float32", "contiguous"), ("float32", "channels_last"), ("bfloat16", "channels_last"),
    )  # fmt: skip
    repeats: int = 10
    compiled: bool = True

    @property
    def in_shape(self) -> tuple[int, int, int]:
        return 3, self.sizes.resnet_size, self.sizes.resnet_size

    def config(self, method: str, kernels: str, accelerator: str) -> ExperimentConfig:
        return composed(
            f"method={method}", f"depth=d{self.sizes.resnet_layers}", f"trainer.kernels={kernels}",
            f"trainer.accelerator={accelerator}",
        )  # fmt: skip


TINY = Plan(
    maps=((2, 3, 5, 5),),
    batches=(2,),
    sizes=Sizes(neuron=(2, 2, 3, 5, 5), batch=2, resnet_batch=2, resnet_size=8, resnet_layers=8),
    kinds=(("float32", "channels_last"),),
    repeats=1,
)


class Section(NamedTuple):
    """Ways that are measured together.

    Args:
        title: of its table.
        heads: of the columns that name a row.
        prepare: row and way -> what makes, on torch's default device, what a round runs.
        against: pairs of ways whose ratio is a column.
    """

    title: str
    heads: tuple[str, ...]
    prepare: Prepare
    against: tuple[tuple[str, str], ...]


def passes(plan: Plan) -> Section:
    """Norm and neuron, forward and backward."""
    prepare: Prepare = {}
    for method in METHODS.values():
        config = composed(f"method={method}")
        for shape in plan.maps:
            head = str(config.neuron["name"]), ", ".join(map(str, (config.num_steps, *shape)))
            for way in ("plain", "fused"):
                prepare[head, way] = functools.partial(one_pass, config, shape, way, plan.repeats)
    heads = ("neuron", "T, B, C, H, W")
    return Section("Batch norm and neuron, forward and backward", heads, prepare, (("fused", "plain"),))


def one_pass(config: ExperimentConfig, shape: tuple[int, ...], way: str, repeats: int) -> Run:
    return repeated(norm_and_neuron(config, shape).ways[way], repeats)


def repeated(run: Run, times: int) -> Run:
    def all_times() -> None:
        for _ in range(times):
            run()

    return all_times


def steps(plan: Plan, accelerator: str) -> Section:
    """A step of each kind of neuron, from which `trainer.kernels=auto` is decided."""
    batch_size, prepare = plan.sizes.resnet_batch, Prepare()
    for kind, method in METHODS.items():
        for way, kernels in (("plain", "reference"), ("fused", "fused")):
            config = plan.config(method, kernels, accelerator)
            prepare[(kind, method), way] = functools.partial(training_step, config, plan.in_shape, batch_size)
    title = f"A training step of ResNet-{plan.sizes.resnet_layers}, batch {batch_size}: what auto takes"
    return Section(title, ("kind", "method"), prepare, (("fused", "plain"),))


def beside_peers(plan: Plan) -> Iterator[Section]:
    """The neuron alone, the small network and ResNet-20, beside SpikingJelly, eager and compiled."""
    whose = [("convolutions alone", False), ("snn_exp", False), ("snn_exp, plain", False), ("SpikingJelly", False)]
    whose += [("snn_exp, plain", True), ("SpikingJelly", True)] if plan.compiled else []
    compared = ["SpikingJelly", *(["SpikingJelly, compiled"] if plan.compiled else []), "convolutions alone"]
    sizes = plan.sizes
    cases = {
        f"LIF alone, {list(sizes.neuron)}": ("neuron", sizes),
        f"{peers.NUM_CONVS} convolutions of {peers.C} channels, batch {sizes.batch}": ("training step", sizes),
    } | {
        f"ResNet-{sizes.resnet_layers}, {sizes.resnet_size}x{sizes.resnet_size}, T = {peers.T}, batch {batch}": (
            RESNET, sizes._replace(resnet_batch=batch),
        )
        for batch in plan.batches
    }  # fmt: skip
    for title, (task, of_task) in cases.items():
        alone = task == "neuron"
        prepare: Prepare = {}
        for dtype, layout in plan.kinds[:1] if alone else plan.kinds:
            for who, compiled in whose[1 if alone else 0 :]:
                way = Way(who, dtype, layout, compiled)
                name = who + ", compiled" * compiled
                prepare[(dtype, layout), name] = functools.partial(peers.prepared, way, task, of_task)
        against = tuple(("snn_exp", other) for other in (compared[:-1] if alone else compared))
        yield Section(title, ("dtype", "layout"), prepare, against)


def seeds(plan: Plan, accelerator: str) -> Section:
    """One network, five in step, and five one after another."""
    batch_size, prepare = plan.sizes.resnet_batch, Prepare()
    for method in ("s2nn_bn", "lif_bn"):
        for kernels in ("reference", "fused"):
            config, row = plan.config(method, kernels, accelerator), (method, kernels)
            prepare[row, "one"] = functools.partial(training_step, config, plan.in_shape, batch_size)
            prepare[row, "one after another"] = functools.partial(one_after_another, config, plan)
            prepare[row, "in step"] = functools.partial(in_step, config, plan)
    title = (
        f"{NUM_SEEDS} seeds in step (trainer.vectorized_seeds), ResNet-{plan.sizes.resnet_layers}, batch {batch_size}"
    )
    return Section(title, ("method", "kernels"), prepare, (("in step", "one after another"), ("in step", "one")))


def one_after_another(config: ExperimentConfig, plan: Plan) -> Run:
    return repeated(training_step(config, plan.in_shape, plan.sizes.resnet_batch), NUM_SEEDS)


def in_step(config: ExperimentConfig, plan: Plan) -> Run:
    seen, batch_size = DataSpec(plan.in_shape, 10), plan.sizes.resnet_batch
    tasks = [assemble(config, seen, kernels_of(config)).train() for _ in range(NUM_SEEDS)]
    stack = Stack([task.network for task in tasks])
    stack.whole.train()
    x, y_B = torch.rand(batch_size, *plan.in_shape), torch.arange(batch_size) % 10

    def step() -> None:
        inputs = [task.encoding(x) for task in tasks]
        torch.stack([functional.cross_entropy(logits, y_B) for logits in stack(inputs)]).sum().backward()
        stack.hand_on_gradients()

    return step


class Found(NamedTuple):
    """Hold what came out of a way: ms in each round, s of the first call, MiB on the card."""

    ms: list[float]
    first_s: float
    peak_mib: float | None


def measure(section: Section, num_rounds: int, device: str) -> tuple[dict[Key, Found], list[str]]:
    """Run every way of a section; also return a line for each that cannot be run."""
    runs, first_s, peaks, left_out = {}, {}, {}, []
    for key, prepare in section.prepare.items():
        name = ", ".join([*key[0], key[1]])
        try:
            with torch.device(device):
                run = prepare()
            start = time.perf_counter()
            run()
            until_done(device)
            first_s[key], peaks[key] = time.perf_counter() - start, peak_mib(run, device)
        except Exception as error:  # such as a card that is too small, or a peer that is not installed
            left_out.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
            continue
        runs[key] = run
        print(f"{section.title}: {name}: first call {first_s[key]:.1f} s", file=sys.stderr)
    spent = in_rounds(runs, num_rounds, functools.partial(until_done, device))
    return {key: Found(ms, first_s[key], peaks[key]) for key, ms in spent.items()}, left_out


def until_done(device: str) -> float:
    """s, once the GPU has nothing left to do; on a CPU, of process CPU time."""
    if device != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(run: Callable[[], object], device: str) -> float | None:
    if device != "cuda":
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def table(section: Section, found: Mapping[Key, Found]) -> Iterator[str]:
    """A line per row and way; a ratio stands in the line of the way above it."""
    ratios = [f"/ {below}" for _, below in section.against]
    yield f"| {' | '.join([*section.heads, 'way', 'ms', *ratios, 'first call, s', 'peak MiB'])} |"
    yield f"| {' | '.join(['---'] * (len(section.heads) + 1) + ['---:'] * (len(ratios) + 3))} |"
    for (row, way), one in found.items():
        cells = [
            ratio(one.ms, found[row, below].ms) if above == way and (row, below) in found else "-"
            for above, below in section.against
        ]
        peak = "-" if one.peak_mib is None else f"{one.peak_mib:.0f}"
        median = f"{statistics.median(one.ms):.2f}"
        yield f"| {' | '.join([*row, way, median, *cells, f'{one.first_s:.1f}', peak])} |"


def decided(found: Mapping[Key, Found]) -> dict[Kind, Measured]:
    """Return what `trainer.kernels=auto` is decided by, from the section of `steps`."""
    verdicts: dict[Kind, Measured] = {}
    for kind, method in METHODS.items():
        ways = [found.get(((kind, method), way)) for way in ("fused", "plain")]
        if all(ways):
            _, middle, high = statistics.quantiles(
                [fused / plain for fused, plain in zip(*(way.ms for way in ways if way), strict=True)], n=4
            )
            verdicts[kind] = Measured(middle, high)
    return verdicts


def page(plan: Plan, num_rounds: int, device: str, remark: str) -> tuple[str, dict[Kind, Measured]]:
    """Measure everything; return the page, and what auto is decided by."""
    name = measured.card() if device == "cuda" else "no GPU: a trial on a CPU, whose times say nothing"
    lines = [
        "# On a GPU",
        f"```bash\n{shlex.join(['python', 'benchmarks/gpu.py', *sys.argv[1:]])}  # long\n```",
        f"{num_rounds} rounds; {name}; {machine()}. {remark}".strip(),
        LEGEND.strip(),
    ]
    accelerator = "gpu" if device == "cuda" else "cpu"
    verdicts: dict[Kind, Measured] = {}
    deciding = steps(plan, accelerator)
    for section in (passes(plan), deciding, *beside_peers(plan), seeds(plan, accelerator)):
        found, left_out = measure(section, num_rounds, device)
        lines += [f"## {section.title}", "\n".join(table(section, found))]
        lines += ["Could not be run:\n\n" + "\n".join(f"- {line}" for line in left_out)] if left_out else []
        if section is deciding:
            verdicts = decided(found)
            lines += ["\n".join(f"- {kind}: {verdict(kind, of)}" for kind, of in verdicts.items())]
    return "\n\n".join(lines) + "\n", verdicts


def verdict(kind: Kind, of: Measured) -> str:
    takes = "takes the fused passes" if of.pays else "stays on the plain path"
    return f"`trainer.kernels=auto` {takes} ({of.median:.2f} of the plain step, upper quartile {of.upper:.2f})"


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rounds", type=int, help="measurements per way; 11, and 2 on a CPU")
    parser.add_argument("--without-compile", action="store_true", help="leave the compiled ways out")
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print(
            "make gpu: torch finds no GPU for CUDA or ROCm on this machine, and measures on no other; type "
            "make gpu DEVICE=cpu for a trial of tests and benchmark on the CPU",
            file=sys.stderr,
        )
        return 2
    if options.check:
        return 0
    torch.set_num_threads(1)
    plan = (Plan() if on_gpu else TINY)._replace(compiled=not options.without_compile)
    num_rounds = options.rounds or (11 if on_gpu else 2)
    # all ways share the code of one forward; past 8 it would not compile
    with torch._dynamo.config.patch(recompile_limit=100):
        text, verdicts = page(plan, num_rounds, options.device, options.remark)
    print(text)
    if on_gpu:
        Path(__file__).with_suffix(".md").write_text(text)
        measured.keep(measured.card(), verdicts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
