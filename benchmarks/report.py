"""CPU time of plan and report over many stored runs, and the size of the page.

The runs are made up: 4 neurons x 5 norms x 5 depths x 10 seeds with the files that training leaves, so that what is
read is real and what it says is not. Every command is a fresh process; the median of the rounds is printed, and written
to report.md beside this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from snn_exp.config.compose import compose
from snn_exp.config.experiment import resolve
from snn_exp.runs.run_files import Result

NEURONS, NORMS, DEPTHS = ("lif", "plif", "if", "srm"), ("none", "bn", "psp", "layer", "group"), (8, 14, 20, 32, 56)
NUM_EPOCHS = 12
COUNTS = ("ac", "xnor", "mac", "filter_mac", "norm_mac", "neuron_updates")
COMMANDS = {
    "report, html": ["report", "dataset=digits", "--by", "neuron,norm,depth.num_layers", "--versus", "norm=bn"],
    "report, csv and tex": ["report", "dataset=digits", "--by", "neuron,norm,depth.num_layers", "--format", "csv,tex"],
    "runs": ["runs"],
    "plan": ["plan", "-m", f"neuron={','.join(NEURONS)}", f"norm={','.join(NORMS)}",
             f"depth={','.join(f'd{depth}' for depth in DEPTHS)}", "seed=range(10)", "logger=none"],
}  # fmt: skip


def make_up(plain: dict[str, Any], root: Path, rng: random.Random) -> None:
    """One run folder."""
    config = resolve(plain)
    num_layers = config.depth.num_layers
    accuracy = rng.gauss(0.95, 0.01)
    counts = {f"test/synops_{name}{form}": rng.uniform(1e4, 1e6) for name in COUNTS for form in ("", "_trained")}
    metrics = {"test/acc": accuracy, "val/acc": accuracy, "val/loss": 0.1, "test/firing_rate": 0.1, "params": 1e5,
               "macs_dense": 1e6, "test/synops_dense": 2e6, **counts}  # fmt: skip
    curves = {"firing_rate": [rng.random() for _ in range(num_layers)], "dead_channels": [0.0] * num_layers}
    result = Result(config.run_id, "done", config.to_plain(), metrics, 10.0, 10.0, "2026-01-01T00:00:00+00:00", 3, "f",
                    {"init": curves, "trained": curves}, 900.0)  # fmt: skip
    folder = root / "runs" / config.run_id
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(dataclasses.asdict(result)))
    manifest = {
        "config": config.to_plain(),
        "versions": {"torch": "2"},
        "code": "made up",
        "hardware": {},
        "execution": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    layers = [f"val/firing_rate/{i}" for i in range(num_layers)]
    lines = [",".join(["epoch", "train/loss", "val/acc", "val/firing_rate", *layers])]
    for epoch in range(NUM_EPOCHS):
        lines.append(",".join([str(epoch), *(f"{rng.random():.6g}" for _ in range(3 + num_layers))]))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def cpu_seconds(arguments: list[str], root: Path) -> float:
    """Of one fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "SNN_EXP_OUTPUT": str(root)}
    subprocess.run([sys.executable, "-m", "snn_exp", *arguments], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Makes the runs up, times the commands, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for neuron, norm in itertools.product(NEURONS, NORMS):
            plain = compose([f"neuron={neuron}", f"norm={norm}", "logger=none"]).to_plain()
            for depth, seed in itertools.product(DEPTHS, range(given.seeds)):
                make_up({**plain, "depth": {**plain["depth"], "num_layers": depth}, "seed": seed}, root, rng)
        num_runs = len(list((root / "runs").iterdir()))
        times = {what: [] for what in COMMANDS}
        for _ in range(given.rounds):
            for what, arguments in COMMANDS.items():
                times[what].append(cpu_seconds(arguments, root))
        size = next((root / "reports").glob("*/report.html")).stat().st_size
    lines = [
        "# Plan and report over many runs\n",
        f"`python benchmarks/report.py --rounds {given.rounds} --seeds {given.seeds}`: {num_runs} made-up runs; CPU "
        f"seconds of a fresh process, median of {given.rounds} (lowest, highest). The page has {size / 1e6:.1f} MB.\n",
        "| command | CPU s |",
        "| --- | ---: |",
        *(f"| {what} | {statistics.median(of):.1f} ({min(of):.1f}, {max(of):.1f}) |" for what, of in times.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
