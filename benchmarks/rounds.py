"""How the ways of a page are timed: all once in each round, so that a slow minute of the machine hits them alike.

No torch: what is set before it loads can be set after this is imported.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from snn_exp.runs.provenance import git_state


def in_rounds(
    ways: Mapping[Any, Callable[[], object]], num_rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[Any, list[float]]:
    """ms of each way in each round, of process CPU time unless told; the round before the first is not counted."""
    spent: dict[Any, list[float]] = {way: [] for way in ways}
    for number in range(num_rounds + 1):
        print(f"round {number} of {num_rounds}", file=sys.stderr)
        for way, run in ways.items():
            start = clock()
            run()
            if number:
                spent[way].append(1000 * (clock() - start))
    return spent


def ratio(above: list[float], below: list[float]) -> str:
    """Median and quartiles of the rounds' ratios."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def resident_mib(*, highest: bool = False) -> float:
    """What this process holds, or the most that it held."""
    key = "VmHWM" if highest else "VmRSS"
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) / 1024


def machine() -> str:
    """What it was measured on, and at which commit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or [platform.machine()]
    commit = git_state().get("commit", "unknown")[:10]
    return f"{names[0]}, {len(names)} cores, torch {version('torch').partition('+')[0]}, commit {commit}"
