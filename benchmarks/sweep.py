"""What a sweep costs beside its training: wall time x processes over the sum of the fits, by joblib.

The rest is the start of Hydra and of the workers, and for each run: data, network, probes, the test set, its files. The
machine must do nothing else. The figures are printed, and written to sweep.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

TARGET = 1.15


def seconds_of(moment: str) -> float:
    """Since the epoch."""
    return datetime.datetime.fromisoformat(moment).timestamp()


def pauses(folders: list[Path], num_processes: int) -> list[float]:
    """Seconds between the end of a run and the start of the next, by the stamps of whole seconds that runs leave.

    The first runs start one in each process; a later one starts in the place of the earliest that has ended.
    """
    begun = sorted(seconds_of(json.loads((f / "manifest.json").read_text())["started_at"]) for f in folders)
    ended = sorted(seconds_of(json.loads((f / "result.json").read_text())["finished_at"]) for f in folders)
    return [begin - end for begin, end in zip(begun[num_processes:], ended, strict=False)]


def main() -> None:
    """Sweeps, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=80, help="about two minutes with 80")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("overrides", nargs="*", default=["method=s2nn_bn", "depth=d20"])
    given = parser.parse_args()
    command = [
        *("train", "-m", *given.overrides, f"trainer.max_epochs={given.epochs}", f"seed=range({given.runs})"),
        *("logger=none", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={given.processes}"),
    ]
    with tempfile.TemporaryDirectory() as root:
        environment = {**os.environ, "SNN_EXP_OUTPUT": root}
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "snn_exp.cli.main", *command], env=environment, check=True)
        wall = time.monotonic() - start
        folders = [path.parent for path in Path(root).glob("runs/*/result.json")]
        results: list[dict[str, Any]] = [json.loads((folder / "result.json").read_text()) for folder in folders]
        between = pauses(folders, given.processes)
    fits = [result["duration_s"] for result in results]
    ratio = wall * given.processes / sum(fits)
    aside = (wall * given.processes - sum(fits)) / len(fits)
    lines = [
        "# What a sweep costs beside its training\n",
        f"```bash\n{shlex.join(['python', 'benchmarks/sweep.py', *sys.argv[1:]])}  # long\n```\n",
        f"`snn-exp {shlex.join(command)}`\n",
        f"- {len(fits)} runs, a fit {median(fits):.1f} s (median), {wall:.0f} s in all on {given.processes} processes.",
        f"- Wall time x processes over the sum of the fits: {ratio:.3f} (asked: at most {TARGET}).",
        f"- Beside its fit a run costs {aside:.1f} s, the start of the sweep included.",
        f"- From the end of a run to the start of the next: {median(between):.0f} s (median; stamps of whole seconds).",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
