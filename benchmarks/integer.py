"""Networks in int8 beside the same in float32: a forward pass of a batch, folded, on one core.

One process, one thread, process CPU time. A round goes once through all rows and ways, so that a slow minute of the
machine hits them alike; a ratio is taken round by round. Prints the page and writes it to integer.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Read when a process starts: freed memory is kept for the next tensor. On fresh pages a large tensor costs about as
# much time as computing on it, to float32 four times as much as to uint8.
if os.environ.get("MALLOC_TRIM_THRESHOLD_") != "2147483647":
    memory = {
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TOP_PAD_": str(2**26),
        "MALLOC_TRIM_THRESHOLD_": "2147483647",
        "THP_MEM_ALLOC_ENABLE": "1",
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **memory})

import torch
from torch import Tensor, nn

from snn_exp.export.fold import Folded, fold
from snn_exp.export.int8 import IntegerWeights, floating, integer
from snn_exp.nn.layers import make_part_factories
from snn_exp.nn.networks import build_network
from snn_exp.runs.provenance import git_state

LEGEND = """\
A pass is the forward of a batch of images of one channel through a folded resnet. ReLU stands in post-activation
blocks, since in front of a ReLU on the stream no norm folds; S2NN in the same blocks and in bireal ones. Float32: the
folded network as it is (NCHW), and the same graph with channels last, packed weights, and sums and ReLUs in place. ms:
median over the rounds. "Times": how many images int8 does in the time of one of the float32 ReLU network, in its faster
layout for that row: median of the rounds' ratios, in brackets the quartiles. Weights are untrained: the time does not
depend on them.
"""
SHARES = """\
"Without multiplying" is the same int8 network without its products (each is replaced by a result made beforehand): what
is left is the first layer, the stream, firing and the calls themselves.
"""
CHOICE = """\
## What limits it

The product alone is 2.6 times as fast in int8 as in float32 at 32 channels of 8x8 and 3.1 to 3.7 times from there on
(table below); at 16 channels 1.7 times, so that no network of width 16 comes to 2. Around it a stream in float32 takes
a sum, a comparison and a rounding a layer, of 14, 16 and 21 microseconds at 64, 32, 8, 8, each a pass of torch over
memory. Where weights are read by a neuron alone firing takes no time: the kernel's own clamp makes the spike of the
integer sum. That is half the layers of post-activation blocks and none of bireal ones. The sum inside the kernel was no
faster (599 against 495 + 24 microseconds at 64, 64, 8, 8). A single image is bound by calls, of which int8 has more.

Int8 ReLU takes the same time as int8 S2NN: the kernels do not gain from a byte being 0 or 1. What spikes save is
calibration, and rounding of activations.

## Which kernels

Measured once, before the choice, in the way of this page: a 3x3 convolution of C to C channels, one core, microseconds.
torch 2.15; ONNX Runtime 1.32 (ORT): a chain of ten, with ReLU where in float32, in memory as it comes.

| B, C, H, W | float32 NCHW | float32 channels last | int8 oneDNN | int8 FBGEMM | ORT int8 | ORT float32 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| 64, 16, 8, 8 | 209 | 211 | 122 | 126 | | |
| 64, 32, 8, 8 | 539 | 500 | 190 | 445 | 192 | 573 |
| 64, 32, 16, 16 | 2172 | 1917 | 615 | 1695 | 785 | 2278 |
| 64, 64, 8, 8 | 1907 | 1746 | 496 | 1002 | 523 | 1822 |
| 64, 64, 16, 16 | 8073 | 7201 | 1938 | 3900 | | |
| 1, 32, 16, 16 | 72 | 48 | 37 | 45 | 13 | 35 |

For batches both int8 kernels are alike, so torch's own (oneDNN) serves and nothing is installed. For one image ONNX
Runtime calls them with less ado, which is worth a look where single images count.
"""
FLOATS = ("ReLU float32, NCHW", "ReLU float32, channels last")
WAYS = (*FLOATS, "ReLU int8", "S2NN float32, bireal", "S2NN int8, post", "S2NN int8, bireal")
REST = "bireal int8 without multiplying"


class Row(NamedTuple):
    """What is measured together: name -> what is run in each round, `repeats` times."""

    head: tuple[str, ...]
    ways: dict[str, Callable[[], object]]
    repeats: int


def folded(neuron: str, residual: str, width: int, size: int, depth: int) -> Folded:
    """An untrained network whose norms have seen something, without them."""
    torch.manual_seed(0)
    parts = make_part_factories(
        neuron={"name": neuron}, surrogate={"name": "s2nn" if neuron == "s2nn" else "none"},
        synapse={"name": "identity"}, norm={"name": "bn"}, weight_norm={"name": "none"},
        weight_quant={"name": "none"}, num_steps=1,
    )  # fmt: skip
    network = build_network(
        {"name": "resnet", "width": width}, parts, in_shape=(1, size, size), num_classes=10, num_layers=depth,
        residual={"name": residual},
    )  # fmt: skip
    for _ in range(3):
        network(torch.rand(1, 32, 1, size, size))
    return fold(network)


def rows_of(width: int, size: int, depth: int, batches: list[int]) -> list[Row]:
    """The networks of one shape, at each batch."""
    relu, post, bireal = (
        folded(*what, width, size, depth) for what in (("relu", "post"), ("s2nn", "post"), ("s2nn", "bireal"))
    )
    images = torch.rand(1, 64, 1, size, size)
    networks: tuple[nn.Module, ...] = (
        relu, floating(relu), integer(relu, [images]), floating(bireal), integer(post), integer(bireal)
    )  # fmt: skip
    rows = []
    for batch in batches:
        x = torch.rand(1, batch, 1, size, size)
        ways = {way: _pass(network, x) for way, network in zip(WAYS, networks, strict=True)}
        ways[REST] = _pass(without_products(integer(bireal), x), x)
        rows.append(Row((f"{size}x{size}", str(width), str(batch)), ways, 5 if batch == 1 else 1))
    return rows


def _pass(network: nn.Module, x: Tensor) -> Callable[[], object]:
    return lambda: network(x)


def without_products(network: nn.Module, x: Tensor) -> nn.Module:
    """The network on x, each product of small numbers replaced by what it gave, which is not computed again."""

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        result = output.clone(memory_format=torch.preserve_format)
        module.forward = lambda s: result

    handles = [m.register_forward_hook(keep) for m in network.modules() if isinstance(m, IntegerWeights)]
    network(x)
    for handle in handles:
        handle.remove()
    return network


def measure(rows: list[Row], num_rounds: int) -> list[dict[str, list[float]]]:
    """ms of each way in each round; the round before the first is not counted."""
    found: list[dict[str, list[float]]] = [{way: [] for way in row.ways} for row in rows]
    for number in range(num_rounds + 1):
        print(f"round {number} of {num_rounds}", file=sys.stderr)
        for row, spent in zip(rows, found, strict=True):
            for way, run in row.ways.items():
                run()  # what another way left in the caches is not its own
                start = time.process_time()
                for _ in range(row.repeats):
                    run()
                if number:
                    spent[way].append(1000 * (time.process_time() - start) / row.repeats)
    return found


def faster_float(spent: dict[str, list[float]]) -> list[float]:
    """The float32 ReLU network in its faster layout."""
    return min((spent[way] for way in FLOATS), key=statistics.median)


def ratio(above: list[float], below: list[float]) -> str:
    """Median and quartiles of the rounds' ratios."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def times(rows: list[Row], found: list[dict[str, list[float]]]) -> Iterator[str]:
    """ms of every way as Markdown."""
    yield f"| image | width | batch | {' | '.join(f'{way}, ms' for way in WAYS)} |"
    yield f"| ---: | ---: | ---: |{' ---: |' * len(WAYS)}"
    for row, spent in zip(rows, found, strict=True):
        yield f"| {' | '.join([*row.head, *(f'{statistics.median(spent[way]):.2f}' for way in WAYS)])} |"


def ratios(rows: list[Row], found: list[dict[str, list[float]]]) -> Iterator[str]:
    """int8 against float32 ReLU as Markdown."""
    ways = ("ReLU int8", "S2NN int8, post", "S2NN int8, bireal")
    yield f"| image | width | batch | {' | '.join(f'{way}, times' for way in ways)} | {REST}, share |"
    yield f"| ---: | ---: | ---: |{' ---: |' * (len(ways) + 1)}"
    for row, spent in zip(rows, found, strict=True):
        cells = [ratio(faster_float(spent), spent[way]) for way in ways]
        yield f"| {' | '.join([*row.head, *cells, ratio(spent[REST], spent[ways[-1]])])} |"


@torch.inference_mode()
def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16], help="of the images, in pixels")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64], help="of the first stage")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256], help="images in a pass")
    parser.add_argument("--depth", type=int, default=20, help="layers")
    parser.add_argument("--rounds", type=int, default=9, help="measurements per row")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row
        for size in options.sizes
        for width in options.widths
        for row in rows_of(width, size, options.depth, options.batches)
    ]
    found = measure(rows, options.rounds)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    dot_products = [name for name in ("avx_vnni", "avx512_vnni", "amx_int8") if name in flags]
    lines = [
        "# Single-step networks in int8",
        f"```bash\n{shlex.join(['python', 'benchmarks/integer.py', *sys.argv[1:]])}  # long\n```",
        f"{options.rounds} rounds, resnets of {options.depth} layers; {platform.machine()}, {os.cpu_count()} cores "
        f"with {', '.join(dot_products) or 'no int8 instructions found'}, torch "
        f"{torch.__version__.partition('+')[0]}, commit {git_state().get('commit', 'unknown')[:10]}. "
        f"{options.remark}".strip(),
        LEGEND.strip(),
        "\n".join(times(rows, found)),
        "## Against the float32 ReLU network",
        SHARES.strip(),
        "\n".join(ratios(rows, found)),
    ]
    lines += [CHOICE.strip()]
    text = "\n\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
