"""Five seeds that train as one network (trainer.vectorized_seeds) beside the same seeds one after another.

Whole fits with their validation, one thread, in one process; CPU time as the runs report it, of which each seed has
its share. A round trains all seeds both ways. Prints the page and writes it to seeds.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

from rounds import machine, ratio
from steps import composed

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.training.seeds import run_in_step
from snn_exp.training.train import run

LEGEND = """\
s: of all fits, median over the rounds. Ratio: median of the rounds' ratios, in brackets the quartiles. One seed: the
first of those that trained alone.
"""


class Spent(NamedTuple):
    """CPU seconds of the fits in each round."""

    in_step: list[float]
    alone: list[float]
    first: list[float]


def measured(configs: list[ExperimentConfig], num_rounds: int) -> Spent:
    """Trains all, both ways, in each round; the round before the first builds what is built once."""
    spent = Spent([], [], [])
    for number in range(num_rounds + 1):
        print(f"round {number} of {num_rounds}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["SNN_EXP_OUTPUT"] = scratch
            run_in_step(configs)
            in_step = sum(RunFolder.of(config).trained().cpu_s for config in configs)
            alone = [
                run(config, echo=False, folder=RunFolder(Path(scratch) / config.run_id)).cpu_s for config in configs
            ]
        if number:
            for times, seconds in zip(spent, (in_step, sum(alone), alone[0]), strict=True):
                times.append(seconds)
    return spent


def table(options: argparse.Namespace) -> Iterator[str]:
    """A row a method and depth."""
    yield "| method | T | layers | one seed, s | in step, s | in step / one after another | in step / one seed |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for method in options.methods:
        for depth in options.depths:
            configs = [
                composed(f"method={method}", f"depth=d{depth}", f"seed={seed}",
                         f"trainer.max_epochs={options.epochs}", "trainer.vectorized_seeds=true")
                for seed in range(options.seeds)
            ]  # fmt: skip
            spent = measured(configs, options.rounds)
            yield (
                f"| {method} | {configs[0].num_steps} | {depth} | {statistics.median(spent.first):.2f} | "
                f"{statistics.median(spent.in_step):.2f} | {ratio(spent.in_step, spent.alone)} | "
                f"{ratio(spent.in_step, spent.first)} |"
            )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["s2nn_bn", "lif_bn"], help="options of configs/method")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 110], help="options of depth")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    options = parser.parse_args()
    text = "\n".join([
        "# Seeds that train as one network\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/seeds.py', *sys.argv[1:]])}  # long\n```\n",
        f"{options.seeds} seeds, epochs of digits: {options.epochs}, {options.rounds} rounds; {machine()}. "
        f"{options.remark}".strip() + "\n",
        LEGEND,
        *table(options),
    ])  # fmt: skip
    print(text)
    Path(__file__).with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
