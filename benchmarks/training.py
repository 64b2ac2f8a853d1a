"""What each way to train costs: kernels, layout, precision, torch.compile, checkpoints and the C library's memory.

Every figure comes from fresh processes of one thread, as a run has one; a round goes once through all ways, so that a
slow minute of the machine hits them alike. Prints the page and writes it to training.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rounds import machine, ratio, resident_mib  # no torch yet

from snn_exp.cli.allocator import keep_freed_memory

LEGEND = """\
A step is forward, loss and backward. ms: process CPU time, median over the steps of a process and then over the rounds.
Ratio: beside what a run does by default, median of the rounds' ratios, in brackets the quartiles. First step: wall time
of the first, in which compilation falls, in the first round and in the last, which finds it on disk. MiB: highest
resident memory above that of the process before the network was built, median.
"""
AS_IT_COMES = "memory as the C library has it"
WAYS: dict[str, list[str]] = {
    "default": [],
    "the plain path: trainer.kernels=reference": ["trainer.kernels=reference"],
    AS_IT_COMES: [],
    "trainer.channels_last=true": ["trainer.channels_last=true"],
    "trainer.precision=bf16-mixed": ["trainer.precision=bf16-mixed"],
    "both of these": ["trainer.precision=bf16-mixed", "trainer.channels_last=true"],
    "trainer.compile=true": ["trainer.compile=true"],
    "trainer.checkpoint_activations=true": ["trainer.checkpoint_activations=true"],
}


class Shape(NamedTuple):
    """A network and its batches; 20 layers."""

    method: str
    size: int
    width: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.method}, {self.size}x{self.size}, width {self.width}, batch {self.batch_size}"


SHAPES = [
    Shape(method, *shape) for method in ("s2nn_bn", "lif_bn") for shape in ((8, 16, 32), (8, 64, 32), (32, 16, 128))
]


class Figures(NamedTuple):
    """What came out of one process."""

    step_ms: float
    first_s: float
    memory_mib: float


def measure(shape: Shape, way: str, num_steps: int) -> Figures:
    """In this process."""
    if way != AS_IT_COMES:
        keep_freed_memory()
    import torch
    from steps import composed, training_step

    torch.set_num_threads(1)
    config = composed(f"method={shape.method}", "depth=d20", f"network.width={shape.width}", *WAYS[way])
    before = resident_mib()
    channels = 3 if shape.size == 32 else 1
    step = training_step(
        config, (channels, shape.size, shape.size), shape.batch_size,
        (lambda network: torch.compile(network.forward, dynamic=False)) if config.trainer.compile else (lambda n: n),
    )  # fmt: skip
    start = time.perf_counter()
    step()
    first_s = time.perf_counter() - start
    spent = []
    for _ in range(num_steps):
        start = time.process_time()
        step()
        spent.append(1000 * (time.process_time() - start))
    return Figures(statistics.median(spent), first_s, resident_mib(highest=True) - before)


def in_a_process(shape: Shape, way: str, num_steps: int, cache: Path) -> Figures:
    command = [sys.executable, __file__, "--steps", str(num_steps), "--measure", json.dumps([shape, way])]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Figures(*json.loads(done.stdout.splitlines()[-1]))


def table(of_way: dict[str, list[Figures]]) -> Iterator[str]:
    yield "| way | ms | / default | first step, s | MiB |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    ms = {way: [figures.step_ms for figures in found] for way, found in of_way.items()}
    for way, found in of_way.items():
        mib = statistics.median(figures.memory_mib for figures in found)
        first = f"{found[0].first_s:.1f}, {found[-1].first_s:.1f}" if "compile" in way else f"{found[-1].first_s:.1f}"
        yield f"| {way} | {statistics.median(ms[way]):.1f} | {ratio(ms[way], ms['default'])} | {first} | {mib:.0f} |"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes per way")
    parser.add_argument("--steps", type=int, default=7, help="steps per process, after the first")
    parser.add_argument("--remark", default="", help="a sentence about the machine, such as what else it does")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        shape, way = json.loads(options.measure)
        print(json.dumps(measure(Shape(*shape), way, options.steps)))
        return
    found: dict[Shape, dict[str, list[Figures]]] = {shape: {way: [] for way in WAYS} for shape in SHAPES}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for shape, of_way in found.items():
                for way, figures in of_way.items():
                    figures.append(in_a_process(shape, way, options.steps, Path(cache)))
    lines = [
        "# What each way to train costs",
        f"```bash\n{shlex.join(['python', 'benchmarks/training.py', *sys.argv[1:]])}  # long\n```",
        f"{options.rounds} processes a way, {options.steps} steps each; {machine()}. {options.remark}".strip(),
        LEGEND.strip(),
        *(f"## {shape}\n\n" + "\n".join(table(of_way)) for shape, of_way in found.items()),
    ]
    text = "\n\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
