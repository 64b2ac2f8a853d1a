"""`snn-exp train`: train one run, or every combination of a sweep."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from snn_exp.cli.parsing import command_parser, wide_console
from snn_exp.config.command_line import command_line
from snn_exp.errors import UserError
from snn_exp.escaping import PlainConsole, say
from snn_exp.runs import interrupts
from snn_exp.waiting import working

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.compose import Sweep
    from snn_exp.config.experiment import ExperimentConfig

# Flags that Hydra answers by itself
HYDRA_FLAGS = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--hydra-help",
    "--shell-completion",
    "-sc",
    "--package",
    "-p",
    "--resolve",
)


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp train`."""
    if any(argument.partition("=")[0] in HYDRA_FLAGS for argument in arguments):
        from snn_exp.cli import hydra_flags

        return hydra_flags.answer(arguments)
    parser = command_parser("train", "Train one run, or every combination of a sweep.", overrides=True)
    parser.add_argument("-m", "--multirun", action="store_true", help="train every combination of the values given")
    parser.add_argument("--rerun", action="store_true", help="train again; the old folders are kept aside")
    parser.add_argument("--skip-refused", action="store_true", help="train the cells that can be, name the others")
    options = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.sweeps import cells, progress

    sweep = compose.read_command(options.overrides, multirun=options.multirun, search=options.config_dir)
    refused = [cell for cell in sweep.cells if cell.config is None]
    if not sweep.multirun and refused:
        raise UserError(refused[0].refusal)
    for cell in refused:
        say(f"snn-exp: refused {' '.join(cell.overrides)}: {cell.refusal}", file=sys.stderr)
    if refused and not options.skip_refused:
        raise UserError(f"{len(refused)} of {len(sweep.cells)} runs are refused, so none is trained; "
                        f"mend them, or add --skip-refused to train the rest")  # fmt: skip
    configs = cells.once_each(cell.config for cell in sweep.cells if cell.config)
    if not configs:
        raise UserError("no run is left to train")
    command = "the same command without --rerun" if options.rerun else "the same command"
    begun = time.time()

    def interrupted() -> str:
        if sweep.multirun:
            return progress.interrupted_sweep(configs, begun, command)
        return progress.interrupted_run(configs[0], command)

    with interrupts.saying(interrupted):
        return _train(sweep, configs, options)


def _train(sweep: Sweep, configs: list[ExperimentConfig], options: argparse.Namespace) -> int:
    from snn_exp.files import require_writable
    from snn_exp.runs import same_data
    from snn_exp.runs.folder import RunFolder
    from snn_exp.runs.paths import output_root
    from snn_exp.training import preflight

    folders = {config.run_id: RunFolder.of(config) for config in configs}
    at_hand = same_data.DataAtHand()
    todo = [config for config in configs if options.rerun or not folders[config.run_id].is_complete(config)]
    for config in configs:
        if config not in todo:
            if note := folders[config.run_id].check_stored(config):
                say(note)
            at_hand.require(folders[config.run_id], config)
    coming = {config.run_id: config for config in todo}
    for config in todo:
        preflight.require(config, coming)
    for sentence in preflight.warnings(todo):
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    preflight.require_data(todo)
    require_writable(output_root())
    if options.rerun:
        for folder in folders.values():
            folder.set_aside()
    if sweep.multirun:
        return _train_many(sweep, configs, todo, options.config_dir)
    again = command_line("train", options.overrides, options.config_dir)
    return _train_one(configs[0], again, cached=not todo)


def _train_one(config: ExperimentConfig, again: str, *, cached: bool) -> int:
    from snn_exp.reporting.summary import summary
    from snn_exp.runs.folder import RunFolder

    folder = RunFolder.of(config)
    result = folder.result() if cached else None
    if result is None:
        say(f"run {config.run_id}: {config.label}, {config.num_steps} steps")  # before the seconds of importing torch
        with working("importing torch and Lightning"):
            from snn_exp.training.train import run

        result = run(config, live=config.trainer.progress and sys.stdout.isatty())
    else:
        say("done before; nothing to train")
    say(summary(result, again, config.energy))
    return 0


def _train_many(
    sweep: Sweep, configs: list[ExperimentConfig], todo: list[ExperimentConfig], search: Sequence[str]
) -> int:
    from snn_exp.runs.paths import output_root
    from snn_exp.sweeps import cells, launch

    console = PlainConsole(soft_wrap=True)
    num_refused = sum(cell.config is None for cell in sweep.cells)
    note = cells.note_on_same(len(sweep.cells) - num_refused - len(configs))
    note = f" ({note})" if note else ""
    say(f"{len(configs)} runs{note}: {len(configs) - len(todo)} done before, {len(todo)} to train")
    names, failures = cells.names(todo), []
    for stage in cells.in_stages(launch.in_group(todo, launch.sweep_name(configs))):
        failures += launch.train_all(stage, console, sweep.hydra_overrides, search, names=names)
    _show_sweep(configs)
    say(f"results: {output_root() / 'runs'}")
    if num_refused:
        say(f"snn-exp: {num_refused} of {len(sweep.cells)} cells are refused, see above", file=sys.stderr)
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _show_sweep(configs: Sequence[ExperimentConfig]) -> None:
    """Print the comparison of a sweep's runs, or the sentence that refuses it: the sweep has ended all the same."""
    from snn_exp.reporting import comparison, terminal
    from snn_exp.runs.store import runs_of

    try:
        found = comparison.of_sweep(runs_of(configs), configs[0].energy)
    except UserError as refusal:
        say(f"snn-exp: no table: {refusal}", file=sys.stderr)
        return
    terminal.show(found, wide_console(terminal.WIDTH))
    say(terminal.outcome(found))
