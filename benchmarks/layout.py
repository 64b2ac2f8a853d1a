"""A training step on channels-last maps beside one on contiguous ones, against channels and map.

20 layers, a batch of 32, `trainer.kernels=fused`, one process, one thread, process CPU time; all ways in interleaved
rounds. Prints the page and writes it to layout.md beside this file. `trainer.channels_last=auto` follows from it:
snn_exp/config/execution_rules.py.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import torch
from rounds import in_rounds, machine, ratio
from steps import composed, training_step

LEGEND = """\
ms: median over the rounds. Ratio: median of the rounds' ratios, in brackets the quartiles. Width: channels of the first
of three stages; each next has twice as many, on a map of half the side.
"""
Case = tuple[str, int, int]  # method, side of the map, width


def table(spent: dict[tuple[Case, str], list[float]], cases: list[Case]) -> Iterator[str]:
    yield "| method | map | width | contiguous, ms | channels-last, ms | channels-last / contiguous |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for case in cases:
        method, size, width = case
        plain, turned = spent[case, "false"], spent[case, "true"]
        medians = " | ".join(f"{statistics.median(ms):.1f}" for ms in (plain, turned))
        yield f"| {method} | {size}x{size} | {width} | {medians} | {ratio(turned, plain)} |"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["s2nn_bn", "lif_bn"], help="options of configs/method")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 28], help="pixels at a side")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rounds", type=int, default=7, help="measurements per way")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(method, size, width) for method in options.methods for size in options.sizes for width in options.widths]
    steps = {
        ((method, size, width), layout): training_step(
            composed(f"method={method}", "depth=d20", f"network.width={width}", "trainer.kernels=fused",
                     f"trainer.channels_last={layout}"), (1, size, size),
        )
        for method, size, width in cases
        for layout in ("false", "true")
    }  # fmt: skip
    spent = in_rounds(steps, options.rounds)
    text = "\n".join([
        "# Channels-last maps\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/layout.py', *sys.argv[1:]])}  # long\n```\n",
        f"{options.rounds} rounds; {machine()}. {options.remark}".strip() + "\n",
        LEGEND,
        *table(spent, cases),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
