"""Measure what spikes save: convolutions that add where one is, or look sums up; training steps; inference.

One process, one thread, process CPU time; a round goes once through all ways of a part, so that a slow minute of the
machine hits them alike; a ratio is taken round by round. Networks are trained on a few batches of Fashion-MNIST first,
so that they fire at rates of their own. Writes events.md and events.png beside this file and results/events.csv.
"""

from __future__ import annotations

import argparse
import copy
import csv
import shlex
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch
from rounds import in_rounds, machine, ratio
from steps import composed, convolutions_of
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.errors import UserError
from snn_exp.export.fold import fold
from snn_exp.export.inference import for_inference
from snn_exp.export.int8 import integer
from snn_exp.nn.kernels import fuse
from snn_exp.nn.kernels.events import pack, spike_conv2d
from snn_exp.nn.kernels.forms import is_folded
from snn_exp.nn.kernels.input_gradient import input_gradient
from snn_exp.nn.kernels.tables import ConvolutionByTables
from snn_exp.nn.layers import ChannelBias, lay_channels_last
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.reporting.axes import legend_below, make_grid
from snn_exp.training.build import build_data, build_task, kernels_of
from snn_exp.training.task import Classification

RATES, CHANNELS, MAPS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5), (16, 32, 64), (8, 14, 28)
METHODS, WIDTHS, BATCH, BATCHES = ("lif_bn", "s2nn_bn", "srm_psp"), (16, 32), 32, (64, 1)
INT8_WIDTHS = (32, 64)
SHAPE = (1, 28, 28)
LEGEND = """\
ms: median over the rounds. Ratio: median of the rounds' ratios, in brackets the quartiles. Dense ways are taken in
their faster memory format, contiguous or channels-last, by the median.
"""
CONVOLUTIONS = """\
A 3x3 convolution of as many channels in as out, a batch of 32, spikes drawn at a rate. Events: a row of weights is
added where a spike is (`trainer.kernels=events`), packing included. Tables: sums of four channels are looked up
(inference), packing included; their time does not depend on the rate: the column says the range over all rates.
"Dense wins from": the lowest rate measured at which the dense way is faster, by the median.
"""
STEPS = """\
A step of the 20-layer network at 28x28, a batch of 32: forward, loss and backward, one after the other fused
(`trainer.kernels=fused`, channels-last), by events, and the convolutions of the network alone, dense. Rate: spikes per
neuron and step in time, the mean over the neurons. Inputs: the gradients of the inputs of those convolutions, as a
step by events computes them: they have no zeros to leave out. By events a convolution of srm_psp reads the spikes in
front of synapse and PSP norm; the dense ones multiply what these make of them.
"""
INFERENCE = """\
The same networks folded, float32. Before: the folded network on the fused passes that there were, without those of
neurons with a norm folded in. Now: `load(run, for_inference=True)`. ReLU: the network of the same blocks,
untrained, whose time does not depend on its weights; in front of a ReLU on the stream no norm folds, so it keeps its
norms.
"""
INT8 = """\
The single-step network beside ReLU in int8, which folds in post-activation blocks (`snn-exp fold --int8`,
[integer.md](integer.md)). All are untrained: none of these times depends on weights or rates.
"""


class Way(NamedTuple):
    """Name what is timed.

    Args:
        part: of the page.
        case: what is computed, such as channels and map.
        how: the way.
    """

    part: str
    case: tuple[Any, ...]
    how: str


Ways = dict[Way, Callable[[], object]]
Spent = dict[Way, list[float]]


# ---- one convolution ----------------------------------------------------------------------------


def convolutions() -> Ways:
    found: Ways = {}
    for channels in CHANNELS:
        for size in MAPS:
            weight = torch.randn(channels, channels, 3, 3) / channels
            for rate in RATES:
                s = (torch.rand(BATCH, channels, size, size) < rate).float()
                case = (channels, size, rate)
                found |= {Way("convolution", case, how): run for how, run in ways_of_one(s, weight).items()}
    return found


def ways_of_one(s: Tensor, weight: Tensor) -> dict[str, Callable[[], object]]:
    """Forward alone, and forward with the gradient of the weights."""
    by_position, turned = (each.to(memory_format=torch.channels_last) for each in (s, weight))
    conv = nn.Conv2d(*weight.shape[:2], 3, padding=1, bias=False)
    conv.weight = nn.Parameter(weight.clone(), requires_grad=False)
    tables, of_steps = ConvolutionByTables(conv), by_position.unsqueeze(0)
    learned, learned_turned = (w.clone().requires_grad_() for w in (weight, turned))
    above = torch.randn_like(by_position)

    def both(convolve: Callable[[Tensor, Tensor], Tensor], given: Tensor, w: Tensor) -> Callable[[], object]:
        grad = above.to(memory_format=torch.contiguous_format) if given is s else above
        return lambda: torch.autograd.grad(convolve(given, w), w, grad)

    def dense(given: Tensor, w: Tensor) -> Tensor:
        return functional.conv2d(given, w, padding=1)

    def by_events(given: Tensor, w: Tensor) -> Tensor:
        return spike_conv2d(given, w, bits=pack(given).bits)

    return {
        "dense, contiguous": lambda: dense(s, weight),
        "dense, channels-last": lambda: dense(by_position, turned),
        "events": lambda: by_events(by_position, turned),
        "tables": lambda: tables(of_steps),
        "dense, contiguous, with gradient": both(dense, s, learned),
        "dense, channels-last, with gradient": both(dense, by_position, learned_turned),
        "events, with gradient": both(by_events, by_position, learned_turned),
    }


# ---- a training step ----------------------------------------------------------------------------


class Trained(NamedTuple):
    """A briefly trained network, in whichever kernels.

    Args:
        tasks: kernels -> task.
        x, labels: a batch.
        rate: of its neurons, the mean.
    """

    tasks: Mapping[str, Classification]
    x: Tensor
    labels: Tensor
    rate: float


def trained(method: str, width: int, num_batches: int) -> Trained:
    configs = {
        kernels: composed(
            f"method={method}", "depth=d20", "dataset=fashion_mnist", f"network.width={width}",
            f"optim.batch_size={BATCH}", f"trainer.kernels={kernels}",
            f"trainer.channels_last={'false' if kernels == 'reference' else 'true'}",
        )
        for kernels in ("events", "fused", "reference")
    }  # fmt: skip
    data = build_data(configs["events"])
    tasks = {kernels: build_task(config, data, kernels_of(config)) for kernels, config in configs.items()}
    task = tasks["events"].train()
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    for (x, y_B), _ in zip(data.train_dataloader(), range(num_batches), strict=False):
        optimizer.zero_grad()
        functional.cross_entropy(task(x), y_B).backward()
        optimizer.step()
    rates = firing_rates(task, x)
    for other in tasks.values():
        other.load_state_dict(task.state_dict())
    print(f"{method}, width {width}: rate {rates:.2f}", file=sys.stderr)
    return Trained(tasks, x, y_B, rates)


@torch.no_grad()
def firing_rates(task: Classification, x: Tensor) -> float:
    """The mean rate of the neurons."""
    rates: list[float] = []
    handles = [
        module.register_forward_hook(lambda module, given, s: rates.append(float((s != 0).float().mean())))
        for module in task.network.modules()
        if isinstance(module, Neuron)
    ]
    task.eval()(x)
    for handle in handles:
        handle.remove()
    return statistics.fmean(rates)


def training_steps(networks: Mapping[tuple[str, int], Trained]) -> Ways:
    found: Ways = {}
    for case, network in networks.items():
        for kernels in ("fused", "events"):
            found[Way("step", case, kernels)] = step_of(network.tasks[kernels].train(), network)
        for layout in ("contiguous", "channels-last"):
            plain = copy.deepcopy(network.tasks["reference"]).train()
            if layout == "channels-last":
                lay_channels_last(plain)
            found[Way("step", case, f"dense, {layout}")] = convolutions_of(plain.network, step_of(plain, network))
        found[Way("step", case, "inputs")] = input_gradients_of(plain.network, step_of(plain, network))
    return found


def input_gradients_of(network: nn.Module, step: Callable[[], object]) -> Callable[[], None]:
    """The gradients of the inputs of its convolutions alone, channels-last, as a step by events computes them."""
    calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def keep(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        given, above = (torch.randn_like(each).flatten(0, 1) for each in (inputs[0], output))
        calls.append((conv, *(each.contiguous(memory_format=torch.channels_last) for each in (given, above))))

    handles = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, nn.Conv2d)]
    step()
    for handle in handles:
        handle.remove()

    def back() -> None:
        for conv, given, above in calls:
            input_gradient(above, conv.weight.detach(), *given.shape[2:], conv.stride[0], conv.groups)

    return back


def step_of(task: Classification, network: Trained) -> Callable[[], None]:
    def step() -> None:
        task.zero_grad()
        functional.cross_entropy(task(network.x), network.labels).backward()

    return step


# ---- inference ----------------------------------------------------------------------------------


def inferences(networks: Mapping[tuple[str, int], Trained]) -> Ways:
    found: Ways = {}
    for (method, width), network in networks.items():
        if method == "srm_psp":
            continue
        task = network.tasks["reference"].eval()
        relu = relu_of(method, width)
        ways = {"now": for_inference(task.network)}
        for layout in ("contiguous", "channels-last"):
            ways |= {f"before, {layout}": before(task.network, layout), f"ReLU, {layout}": laid(relu, layout)}
        x = torch.cat([network.x] * 2)
        for batch in BATCHES:
            encoded = task.encoding(x[:batch])
            for how, model in ways.items():
                given = encoded[:1].contiguous() if how.startswith("ReLU") else encoded
                found[Way("inference", (method, width, batch), how)] = inferring(model, given, batch)
    return found


def inferring(network: nn.Module, x: Tensor, batch: int) -> Callable[[], object]:
    def infer() -> None:
        with torch.inference_mode():
            for _ in range(5 if batch == 1 else 1):
                network(x)

    return infer


def before(network: Network, layout: str) -> Network:
    """The folded network on the passes that there were."""
    folded = laid(fold(network).network, layout)
    fuse(folded, overwrite=True)
    for part in folded.modules():
        if isinstance(part, ChannelBias) or (isinstance(part, Neuron) and is_folded(part)):
            vars(part).pop("forward", None)
    return folded


def laid(network: Network, layout: str) -> Network:
    network = copy.deepcopy(network)
    if layout == "channels-last":
        lay_channels_last(network)
    return network


def relu_of(method: str, width: int) -> Network:
    """A network of ReLU in the same blocks."""
    residual = composed(f"method={method}").residual["name"]
    return untrained("relu", str(residual), width)


def untrained(neuron: str, residual: str, width: int) -> Network:
    config = composed(
        f"neuron={neuron}", "norm=bn", f"residual={residual}", "depth=d20", "dataset=fashion_mnist",
        f"network.width={width}",
    )  # fmt: skip
    network = build_task(config, build_data(config)).network
    network(torch.rand(1, 8, *SHAPE))  # moments that are not those of a network that saw nothing
    return network.eval()


def beside_int8() -> Ways:
    found: Ways = {}
    for width in INT8_WIDTHS:
        x = torch.rand(1, max(BATCHES), *SHAPE)
        ways: dict[str, nn.Module] = {
            "ReLU, post, int8": integer(fold(untrained("relu", "post", width)), [x]),
            "S2NN, post, int8": integer(fold(untrained("s2nn", "post", width))),
            "S2NN, post, tables": for_inference(untrained("s2nn", "post", width)),
            "S2NN, bireal, tables": for_inference(untrained("s2nn", "bireal", width)),
        }
        for batch in BATCHES:
            for how, model in ways.items():
                found[Way("int8", (width, batch), how)] = inferring(model, x[:, :batch], batch)
    return found


# ---- the page -----------------------------------------------------------------------------------


def faster(spent: Spent, way: Way, how: str, suffix: str = "") -> list[float]:
    """A way in the memory format that is faster by the median."""
    formats = (f"{how}, contiguous{suffix}", f"{how}, channels-last{suffix}")
    return min((spent[way._replace(how=name)] for name in formats), key=statistics.median)


def of(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def speed_ups(spent: Spent, channels: int, size: int, how: str) -> list[float]:
    """Return the speed-up of a way at each rate."""
    suffix = ", with gradient" if how.endswith("gradient") else ""
    ways = [Way("convolution", (channels, size, rate), how) for rate in RATES]
    return [of(faster(spent, way, "dense", suffix), spent[way]) for way in ways]


def convolution_tables(spent: Spent) -> Iterator[str]:
    for how, title in (("events", "Forward"), ("events, with gradient", "Forward and gradient of the weights")):
        yield f"### {title}: how many times as fast as dense\n"
        with_tables = how == "events"
        heads = [f"events, {rate:g}" for rate in RATES] + ["dense wins from"] + (["tables"] if with_tables else [])
        yield f"| channels | map | {' | '.join(heads)} |"
        yield f"| ---: | ---: |{' ---: |' * len(heads)}"
        for channels in CHANNELS:
            for size in MAPS:
                found = speed_ups(spent, channels, size, how)
                wins = next((f"{r:g}" for r, times in zip(RATES, found, strict=True) if times < 1), "> 0.5")
                cells = [f"{channels}", f"{size}x{size}", *(f"{times:.2f}" for times in found), wins]
                if with_tables:
                    by_tables = speed_ups(spent, channels, size, "tables")
                    cells.append(f"{min(by_tables):.2f} to {max(by_tables):.2f}")
                yield f"| {' | '.join(cells)} |"
        yield ""


def step_table(spent: Spent, networks: Mapping[tuple[str, int], Trained]) -> Iterator[str]:
    heads = ("method", "width", "rate", "fused, ms", "events, ms", "dense convolutions, ms")
    ratios = ("events / fused", "fused / convolutions", "events / convolutions", "inputs / convolutions")
    yield f"| {' | '.join(heads + ratios)} |"
    yield f"| --- |{' ---: |' * (len(heads + ratios) - 1)}"
    for (method, width), network in networks.items():
        way = Way("step", (method, width), "fused")
        fused, events, dense = spent[way], spent[way._replace(how="events")], faster(spent, way, "dense")
        inputs = spent[way._replace(how="inputs")]
        ms = [f"{statistics.median(each):.1f}" for each in (fused, events, dense)]
        of_each = [ratio(events, fused), ratio(fused, dense), ratio(events, dense), ratio(inputs, dense)]
        yield f"| {method} | {width} | {network.rate:.2f} | {' | '.join(ms + of_each)} |"


def inference_table(spent: Spent, networks: Mapping[tuple[str, int], Trained]) -> Iterator[str]:
    yield "| method | width | batch | rate | before, ms | now, ms | ReLU, ms | now: times before | now: times ReLU |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for way in [way for way in spent if way.part == "inference" and way.how == "now"]:
        method, width, batch = way.case
        now, old, relu = spent[way], faster(spent, way, "before"), faster(spent, way, "ReLU")
        repeats = 5 if batch == 1 else 1
        ms = [f"{statistics.median(each) / repeats:.2f}" for each in (old, now, relu)]
        cells = [f"{networks[method, width].rate:.2f}", *ms, ratio(old, now), ratio(relu, now)]
        yield f"| {method} | {width} | {batch} | {' | '.join(cells)} |"


def int8_table(spent: Spent) -> Iterator[str]:
    ways = [way for way in spent if way.part == "int8"]
    hows = list(dict.fromkeys(way.how for way in ways))
    heads = [*(f"{how}, ms" for how in hows), *(f"{how}: times ReLU int8" for how in hows[1:])]
    yield f"| width | batch | {' | '.join(heads)} |"
    yield f"| ---: | ---: |{' ---: |' * (2 * len(hows) - 1)}"
    for width, batch in dict.fromkeys(way.case for way in ways):
        all_ms = [spent[Way("int8", (width, batch), how)] for how in hows]
        repeats = 5 if batch == 1 else 1
        cells = [f"{statistics.median(ms) / repeats:.2f}" for ms in all_ms]
        cells += [ratio(all_ms[0], ms) for ms in all_ms[1:]]
        yield f"| {width} | {batch} | {' | '.join(cells)} |"


def targets(spent: Spent) -> Iterator[str]:
    """Tabulate what was asked for beside what was measured."""
    yield "| asked of | at least or at most | measured | reached |"
    yield "| --- | ---: | ---: | --- |"

    def row(what: str, asked: float, found: list[float], *, most: bool) -> str:
        worst = max(found) if most else min(found)
        reached = worst <= asked if most else worst >= asked
        shown = " and ".join(f"{value:.2f}" for value in found)
        return f"| {what} | {'<=' if most else '>='} {asked:g} | {shown} | {'yes' if reached else 'no'} |"

    for method, width, asked in (
        ("lif_bn", 16, 0.65), ("lif_bn", 32, 0.55), ("s2nn_bn", 16, 0.85), ("s2nn_bn", 32, 0.75), ("srm_psp", 16, 0.85)
    ):  # fmt: skip
        way = Way("step", (method, width), "events")
        found = of(spent[way], faster(spent, way, "dense"))
        yield row(f"a step of {method}, width {width}, beside its dense convolutions", asked, [found], most=True)

    def now(method: str, batch: int, beside: str) -> list[float]:
        ways = [Way("inference", (method, width, batch), "now") for width in WIDTHS]
        return [of(faster(spent, way, beside), spent[way]) for way in ways]

    for method, batch, beside, asked in (
        ("s2nn_bn", 64, "before", 3.5), ("s2nn_bn", 64, "ReLU", 3.0), ("lif_bn", 64, "before", 3.0),
        ("s2nn_bn", 1, "before", 2.0), ("lif_bn", 1, "before", 2.0),
    ):  # fmt: skip
        against = "the folded network before" if beside == "before" else "the ReLU network"
        what = f"inference of {method}, batch {batch}, times {against}, widths {' and '.join(map(str, WIDTHS))}"
        yield row(what, asked, now(method, batch, beside), most=False)
    for batch in BATCHES:
        best = [
            max(
                of(spent[Way("int8", (width, batch), "ReLU, post, int8")], spent[Way("int8", (width, batch), how)])
                for how in ("S2NN, post, int8", "S2NN, post, tables")
            )
            for width in INT8_WIDTHS
        ]
        what = f"S2NN, the faster of int8 and tables, times ReLU in int8, post blocks, batch {batch}, widths "
        yield row(what + " and ".join(map(str, INT8_WIDTHS)), 1.5, best, most=False)


def limits(spent: Spent) -> Iterator[str]:
    """Say what keeps the missed targets from being reached, as measured here."""
    # the pass of a psp filter goes by events, so that a fused step does not say what is left of one by events
    steps = [Way("step", (method, width), "fused") for method in METHODS if method != "srm_psp" for width in WIDTHS]
    inputs = [of(spent[way._replace(how="inputs")], faster(spent, way, "dense")) for way in steps]
    around = [of(spent[way], faster(spent, way, "dense")) - 1 for way in steps]
    tables = [max(speed_ups(spent, channels, 28, "tables")) for channels in CHANNELS]
    least = [min(speed_ups(spent, channels, 28, "tables")) for channels in CHANNELS]
    together = [a + b for a, b in zip(inputs, around, strict=True)]
    yield textwrap.fill(
        f"With the passes as they are, a training step of lif or s2nn cannot come below what is no convolution of "
        f"spikes. The gradients of the inputs "
        f"take {min(inputs):.2f} to {max(inputs):.2f} of the dense convolutions; norms, neurons, sums, pooling and "
        f"Python add {min(around):.2f} to {max(around):.2f} (fused / convolutions - 1). Together these are "
        f"{min(together):.2f} to {max(together):.2f} before any spike is added. What is left, forward and the gradient "
        f"of the weights, is as much faster as the tables above say.",
        120,
    )
    yield ""
    yield of_levels((Path(__file__).with_name("levels.md")).read_text())
    yield ""
    yield textwrap.fill(
        f"In inference a convolution by tables is {min(least):.2f} to {max(tables):.2f} times as fast as the dense one "
        f"at 28x28, packing included. A lookup stands for four multiplications and additions of a lane, so that 4 is "
        f"the most that it can gain. A pass of s2nn is mostly convolutions, so it gains little more than one of them. "
        f"Of a single image the calls of all layers take a good part of the time.",
        120,
    )


def of_levels(page: str) -> str:
    """Quote what levels.md concludes."""
    found = page.strip().rpartition("\n\n")[2]
    text = f"Signs and levels as planes of spikes, and linear layers of spikes ([levels.md](levels.md)): {found}"
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def drawn(spent: Spent) -> None:
    """Speed-up against rate."""
    hows = {
        "events": "events, forward",
        "events, with gradient": "events, with gradient of weights",
        "tables": "tables, forward",
    }
    figure, axes = make_grid(
        1, len(CHANNELS), 2.6, 2.3, "times the dense convolution, 14x14", names=list(hows.values())
    )
    for ax, channels in zip(axes[0], CHANNELS, strict=True):
        for number, (how, name) in enumerate(hows.items()):
            found = speed_ups(spent, channels, 14, how)
            ax.plot(RATES, found, "os^"[number] + "-", color=f"C{number}", markersize=3, label=name)
        ax.axhline(1, color="0.5", linewidth=0.8)
        ax.set_ylim(bottom=0)
        ax.set_title(f"{channels} channels", fontsize=8)
        ax.set_xlabel("firing rate", fontsize=8)
        ax.tick_params(labelsize=7)
    legend_below(figure)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


def write_csv(spent: Spent) -> None:
    path = Path(__file__).parent / "results" / "events.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "case", "way", "round", "cpu_ms"])
        for way, ms in spent.items():
            case = " ".join(map(str, way.case))
            writer.writerows([way.part, case, way.how, n, f"{each:.4f}"] for n, each in enumerate(ms))


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements per way")
    parser.add_argument("--batches", type=int, default=20, help="on which a network is trained first")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    on = machine()
    try:
        networks = {(m, w): trained(m, w, options.batches) for m in METHODS for w in WIDTHS}
    except UserError as error:
        sys.exit(f"{error}")
    spent: Spent = {}
    for ways in (convolutions(), training_steps(networks), inferences(networks), beside_int8()):
        spent |= in_rounds(ways, options.rounds)
    write_csv(spent)
    drawn(spent)
    text = "\n".join([
        "# Convolutions of spikes\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/events.py', *sys.argv[1:]])}  # long\n```\n",
        f"{options.rounds} rounds; {on}. Networks trained on {options.batches} batches of "
        f"{BATCH} images. {options.remark}".strip() + "\n",
        LEGEND,
        "## One convolution\n", CONVOLUTIONS, "![speed-up against rate](events.png)\n", *convolution_tables(spent),
        "## A training step\n", STEPS, *step_table(spent, networks), "",
        "## Inference\n", INFERENCE, *inference_table(spent, networks), "",
        "## Beside int8\n", INT8, *int8_table(spent), "",
        "## What was asked for\n", *targets(spent), "", *limits(spent),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
