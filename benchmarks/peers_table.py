"""Prints the table of docs/benchmarks.md beside the peers, from results/peers.csv.

A cell is the time of a row's fastest way in that column (layouts, and folded or not, are ways), as a share of the
fastest compiled peer's: the median of the rounds' ratios.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

PEERS = ["SpikingJelly", "snnTorch", "Norse"]
COLUMNS = {  # heading -> task and dtype
    "LIF alone": ("neuron", "float32"),
    "training step": ("training step", "float32"),
    "the same, bfloat16": ("training step", "bfloat16"),
    "step of ResNet-20": ("training step of ResNet-20", "float32"),
    "inference": ("inference", "float32"),
}
ROWS = {  # heading -> whose, and whether compiled
    "snn_exp": (["snn_exp", "snn_exp, folded"], False),
    **{f"{peer}, compiled": ([peer], True) for peer in PEERS},
    "SpikingJelly, eager": (["SpikingJelly"], False),
    "the convolutions alone": (["convolutions alone"], False),
}


def fastest(of_task: pd.DataFrame, who: list[str], compiled: bool) -> pd.Series | None:
    """ms in each round of the way with the lowest median."""
    found = of_task[of_task.who.isin(who) & (of_task.compiled == compiled)]
    if found.empty:
        return None
    of_round = found.pivot_table(index="round", columns=["who", "layout"], values="cpu_ms")
    return of_round[of_round.median().idxmin()]


def table(measured: pd.DataFrame) -> str:
    cells: dict[str, list[str]] = {row: [] for row in ROWS}
    for task, dtype in COLUMNS.values():
        of_task = measured[(measured.task == task) & (measured.dtype == dtype)]
        best = fastest(of_task, PEERS, compiled=True)
        for row, (who, compiled) in ROWS.items():
            ms = fastest(of_task, who, compiled)
            cells[row].append("-" if ms is None else f"{(ms / best).median():.2f}")
    lines = [["", *COLUMNS], ["---", *["---:"] * len(COLUMNS)], *([row, *cells[row]] for row in ROWS)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


if __name__ == "__main__":
    print(table(pd.read_csv(Path(__file__).parent / "results" / "peers.csv")))
