"""`snn-exp predict`: class, probability, spikes and energy of pictures or arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table

from snn_exp.cli.parsing import RUN, command_parser, print_table
from snn_exp.escaping import add_row, say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.training.predict import Prediction


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp predict`."""
    parser = command_parser(
        "predict", "Say which class a trained network takes each sample for, how surely, and at what cost."
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="pictures, folders of them, .npz files with x")
    parser.add_argument("--resize", action="store_true", help="scale pictures to the size that the network reads")
    parser.add_argument("--json", action="store_true", help="print a list in JSON instead of a table")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.runs.find import find_run

    folder = find_run(given.run)
    config = folder.trained_config()

    from snn_exp.data.given import GivenSamples
    from snn_exp.metrics.energy import joules, price_list
    from snn_exp.training.load import load_checked
    from snn_exp.training.predict import predictions, spikes_are_spikes
    from snn_exp.training.threads import threads_of

    task, check = load_checked(folder)
    resize = given.resize or (bool(config.dataset.get("size")) and config.dataset["name"] == "images")
    samples = GivenSamples(folder.path.name, check.in_shape, check.num_steps is not None, task.class_names, resize)
    with threads_of(config):
        found = list(predictions(task, check, samples.read(given.paths), config.energy))
    if given.json:
        say(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
        return 0
    spikes = "spikes" if spikes_are_spikes(task) else "non-zero outputs"
    print_table(_table(found, spikes), (spikes, "energy"), more="--json prints all")
    known = [each.predicted == each.label for each in found if each.label is not None]
    accuracy = f"; accuracy {100 * fmean(known):.1f} % of {len(known)} with a known class" if known else ""
    energy = joules(fmean(each.energy_pj for each in found)) if found else "-"
    say(
        f"{len(found)} sample{'s' * (len(found) != 1)}, {energy} each on average{accuracy}; {price_list(config.energy)}"
    )
    return 0


def _table(found: Sequence[Prediction], spikes: str) -> Table:
    from snn_exp.metrics.energy import joules

    with_label = any(each.label is not None for each in found)
    table = Table()
    for heading in ("sample", "class", *(["label"] if with_label else []), "probability", spikes, "energy"):
        table.add_column(heading, justify="left" if heading in ("sample", "class", "label") else "right")
    for each in found:
        label = [each.label or "-"] if with_label else []
        cost = (f"{100 * each.probability:.1f} %", f"{each.spikes:,}", joules(each.energy_pj))
        add_row(table, each.sample, each.predicted, *label, *cost)
    return table
