"""What the commands share: how a line is read, how wide tables are, that data are there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from snn_exp.escaping import PlainConsole

if TYPE_CHECKING:
    from snn_exp.config import ExperimentConfig


def command_parser(command: str, text: str, overrides: bool = False) -> argparse.ArgumentParser:
    """Of one command.

    Args:
        command: its name.
        text: what it does.
        overrides: whether it takes Hydra's, and further folders of configs.
    """
    parser = argparse.ArgumentParser(f"snn-exp {command}", description=text)
    if overrides:
        parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as neuron=lif neuron.tau=3")
        parser.add_argument(
            "--config-dir", "-cd", action="append", default=[], help="a further folder of configs; may be repeated"
        )
    return parser


def wide_console(width: int) -> Console:
    """Return what prints tables, as wide as the terminal, or where there is none as given."""
    return PlainConsole(width=None if sys.stdout.isatty() else width)


def require_data(configs: Sequence[ExperimentConfig]) -> None:
    """Every data set is there, or is fetched, before anything is trained."""
    from snn_exp import menu, results

    names = dict.fromkeys(str(config.dataset["name"]) for config in configs)
    for name in names:
        if not menu.load()["dataset"][name].traits["embedded"]:
            menu.registry_of("dataset")[name].prepare(results.data_root())
