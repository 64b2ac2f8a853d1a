"""`snn-exp plan`: what a train command would run, and how long it would take."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from snn_exp.cli import study
from snn_exp.cli.parsing import command_parser, print_table
from snn_exp.config.command_line import command_line
from snn_exp.escaping import say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.experiment import ExperimentConfig


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp plan`."""
    parser = command_parser("plan", "List what a train command would run, and how long; run nothing.", overrides=True)
    parser.add_argument("-m", "--multirun", action="store_true", help="every combination of the values given")
    parser.add_argument(
        "--calibrate", action="store_true", help="measure a few steps of runs that stored runs give no estimate for"
    )
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.runs.folder import RunFolder
    from snn_exp.runs.same_data import DataAtHand
    from snn_exp.runs.store import stored_results
    from snn_exp.studies.spec import names
    from snn_exp.sweeps import cells, plan
    from snn_exp.training import preflight

    if given.overrides[:1] and given.overrides[0] in names():
        return study.main([*given.overrides, "--plan"])
    sweep = compose.read_command(given.overrides, multirun=given.multirun, search=given.config_dir)
    for cell in sweep.cells:
        if cell.config is None:
            say(f"snn-exp: refused {' '.join(cell.overrides)}: {cell.refusal}", file=sys.stderr)
    allowed = [cell.config for cell in sweep.cells if cell.config]
    configs = cells.once_each(allowed)
    num_same = len(allowed) - len(configs)
    folders = {config.run_id: RunFolder.of(config) for config in configs}
    coming = {
        config.run_id: config
        for config in configs
        if folders[config.run_id].damage() or not folders[config.run_id].is_complete(config)
    }
    at_hand = DataAtHand()
    stopped = {
        config.run_id: why
        for config in configs
        if (why := preflight.refusal(config, coming) or preflight.refusal_of_data(config, at_hand, coming))
    }
    for run_id, name in cells.names(configs).items():
        if run_id in stopped:
            say(f"snn-exp: refused {name}: {stopped[run_id]}", file=sys.stderr)
    configs = [config for config in configs if config.run_id not in stopped]
    for sentence in preflight.warnings(configs):
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    for sentence in _answers_to_auto(configs):
        say(f"snn-exp: {sentence}")
    stored = stored_results()
    estimates = {config.run_id: plan.seconds(config, stored) for config in configs}
    if given.calibrate:
        unknown = [config for config in configs if estimates[config.run_id] is None]
        preflight.require_data(unknown)
        estimates |= _calibrated(unknown)
    print_table(plan.table(configs, estimates), prose=("what",), width=160)
    say(plan.total(configs, estimates, num_same))
    refused = bool(stopped) or len(allowed) < len(sweep.cells)
    flags = [*(["-m"] if given.multirun else []), *(["--skip-refused"] if refused else [])]
    if configs:
        say(f"runs it: {command_line('train', given.overrides, given.config_dir, flags)}")
    return 2 if refused else 0


def _answers_to_auto(configs: Sequence[ExperimentConfig]) -> list[str]:
    """Return a sentence for each answer to a field of the trainer group that is auto and has a rule, and its runs."""
    asking = [config for config in configs if "auto" in (config.trainer.num_threads, config.trainer.channels_last)]
    if not asking:
        return []  # without torch

    from snn_exp.training import auto
    from snn_exp.training.build import kernels_of

    found = Counter(line for config in asking for line in auto.sentences(auto.answers(config, kernels_of(config))))
    return [
        line if count == len(configs) else f"{line} ({count} of {len(configs)} runs)" for line, count in found.items()
    ]


def _calibrated(configs: Sequence[ExperimentConfig]) -> dict[str, float]:
    """Return run id -> CPU seconds, one measurement for all seeds."""
    from snn_exp.runs.choices import choices
    from snn_exp.training.calibration import seconds_measured

    measured: dict[str, float] = {}
    found = {}
    for config in configs:
        words = json.dumps(choices(config.to_plain()), sort_keys=True)
        if words not in measured:
            measured[words] = seconds_measured(config)
        found[config.run_id] = measured[words]
    return found
