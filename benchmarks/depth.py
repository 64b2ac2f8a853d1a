"""Memory and process CPU time of a training step against depth, with activations kept or computed again.

Every figure comes from fresh processes with one thread each. A round goes once through all settings, so that
a slow minute of the machine hits them alike. Prints a table and writes it to depth.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

LIMIT_MIB = 24 * 1024
HEADINGS = ("activations", "layers", "ms/step", "a layer", "exponent", "MiB", "a layer", "exponent")
LEGEND = """\
A step is forward, backward, clipping and AdamW on a batch of 32 digits. ms/step: process CPU time, median over the
steps of all processes, the first step of each left out. MiB: highest resident memory of a process above what it held
before the network was built, median over processes; some of it does not depend on depth. Exponent: slope in log-log
since the row above; 1 is linear growth.
"""


class Setting(NamedTuple):
    """What one process measures."""

    checkpointed: bool
    num_layers: int


class Figures(NamedTuple):
    """What came out: process CPU time of each step, and the peak above the start."""

    step_ms: list[float]
    memory_mib: float


def measure(method: str, setting: Setting, num_steps: int) -> Figures:
    """One training, in this process."""
    import torch
    from torch.nn import functional

    from snn_exp.config.compose import compose
    from snn_exp.training.build import build_data, build_task

    torch.set_num_threads(1)
    config = compose(
        [
            f"method={method}",
            f"depth=d{setting.num_layers}",
            f"trainer.checkpoint_activations={str(setting.checkpointed).lower()}",
        ]
    )
    torch.manual_seed(config.seed)
    data = build_data(config)
    x_BCHW, y_B = next(iter(data.train_dataloader()))
    before = peak_mib()
    task = build_task(config, data)
    optimizer, _ = task.optim.build(task.network, num_steps + 1)
    step_ms = []
    for _ in range(num_steps + 1):
        start = time.process_time()
        optimizer.zero_grad()
        functional.cross_entropy(task(x_BCHW), y_B).backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), task.optim.clip_norm)
        optimizer.step()
        step_ms.append(1000 * (time.process_time() - start))
    return Figures(step_ms[1:] or step_ms, peak_mib() - before)


def peak_mib() -> float:
    """The highest resident memory of this process so far, as the system counts it."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def in_a_fresh_process(method: str, setting: Setting, num_steps: int) -> Figures:
    """The figures of a process that does nothing else."""
    command = [
        sys.executable,
        __file__,
        "--method",
        method,
        "--steps",
        str(num_steps),
        "--measure",
        json.dumps(setting),
    ]
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Figures(*json.loads(done.stdout.splitlines()[-1]))


def fits(setting: Setting, found: dict[Setting, list[Figures]]) -> bool:
    """Whether it stays under the limit if memory grows no faster than depth, from the next shallower setting."""
    shallower = [s for s in found if s.checkpointed == setting.checkpointed and s.num_layers < setting.num_layers]
    if not shallower:
        return True
    nearest = max(shallower)
    return found[nearest][0].memory_mib * setting.num_layers / nearest.num_layers < LIMIT_MIB


def medians(runs: list[Figures]) -> tuple[float, float]:
    """ms per step and MiB of one setting."""
    return statistics.median(ms for f in runs for ms in f.step_ms), statistics.median(f.memory_mib for f in runs)


def rows(found: dict[Setting, list[Figures]], settings: list[Setting]) -> Iterator[tuple[str, ...]]:
    """The table's body."""
    above = {b: a for a, b in pairwise(settings) if a.checkpointed == b.checkpointed and a in found}
    for setting in settings:
        head = ("computed again" if setting.checkpointed else "kept", f"{setting.num_layers:,}")
        if setting not in found:
            yield (*head, "-", "-", "-", f"over {LIMIT_MIB:,}", "-", "-")
            continue
        values = medians(found[setting])
        slopes = ["-", "-"]
        if setting in above:
            deeper = math.log(setting.num_layers / above[setting].num_layers)
            earlier = medians(found[above[setting]])
            slopes = [f"{math.log(b / a) / deeper:.2f}" for a, b in zip(earlier, values, strict=True)]
        yield (
            *head,
            *(
                cell
                for value, slope in zip(values, slopes, strict=True)
                for cell in (f"{value:,.0f}", f"{value / setting.num_layers:.2f}", slope)
            ),
        )


def growth(found: dict[Setting, list[Figures]]) -> Iterator[str]:
    """A sentence for each way: the exponents over all depths."""
    for checkpointed, way in ((False, "kept"), (True, "computed again")):
        depths = sorted(s.num_layers for s in found if s.checkpointed == checkpointed)
        if len(depths) > 1:
            values = [medians(found[Setting(checkpointed, depth)]) for depth in depths]
            logs = [math.log(depth) for depth in depths]
            ms, mib = (
                statistics.linear_regression(logs, [math.log(v) for v in column]).slope
                for column in zip(*values, strict=True)
            )
            yield (
                f"Activations {way}, {depths[0]} to {depths[-1]:,} layers: time grows as layers^{ms:.2f}, "
                f"memory as layers^{mib:.2f}."
            )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="srm_psp", help="an option of configs/method")
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 20, 56, 110, 206, 1202], help="options of depth")
    parser.add_argument("--steps", type=int, default=4, help="measured steps a process")
    parser.add_argument("--rounds", type=int, default=3, help="processes a setting")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.method, Setting(*json.loads(options.measure)), options.steps)))
        return
    settings = [Setting(mode, depth) for mode in (False, True) for depth in sorted(options.depths)]
    found: dict[Setting, list[Figures]] = {}
    for number in range(options.rounds):
        for setting in settings:
            if fits(setting, found):
                print(f"round {number + 1} of {options.rounds}: {setting}", file=sys.stderr)
                found.setdefault(setting, []).append(in_a_fresh_process(options.method, setting, options.steps))
    text = document(options.method, options.rounds, list(rows(found, settings)), list(growth(found)))
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


def document(method: str, num_rounds: int, body: list[tuple[str, ...]], sentences: list[str]) -> str:
    """The page: command, machine, table, exponents."""
    import torch

    table = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *body]
    lines = "\n".join([*(f"| {' | '.join(row)} |" for row in table), "", *(f"- {s}" for s in sentences)])
    command = shlex.join(["python", "benchmarks/depth.py", *sys.argv[1:]])
    return (
        f"# A training step against depth\n\n```bash\n{command}  # long\n```\n\n"
        f"`method={method}`, {num_rounds} processes a row; {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__.partition('+')[0]}.\n\n{LEGEND}\n{lines}\n"
    )


if __name__ == "__main__":
    main()
