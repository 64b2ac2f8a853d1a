"""Commands that run experiments, or say what would be run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from snn_exp.cli.parsing import command_parser, require_data, wide_console
from snn_exp.config.command_line import command_line
from snn_exp.errors import UserError, say_once
from snn_exp.escaping import PlainConsole, say
from snn_exp.runs import interrupts

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.compose import Sweep
    from snn_exp.config.experiment import ExperimentConfig
    from snn_exp.runs.run_files import Result


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


def train(arguments: Sequence[str]) -> int:
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
    for config in todo:
        preflight.require(config)
    for sentence in preflight.warnings(todo):
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    require_data(todo)
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
        from snn_exp.training.train import run

        say(f"run {config.run_id}: {config.label}, {config.num_steps} steps")
        result = run(config, live=config.trainer.progress and sys.stdout.isatty())
    else:
        say("done before; nothing to train")
    say(summary(result, again, config.energy))
    return 0


def _train_many(
    sweep: Sweep, configs: list[ExperimentConfig], todo: list[ExperimentConfig], search: Sequence[str]
) -> int:
    from snn_exp.reporting.summary import comparison
    from snn_exp.runs.folder import RunFolder
    from snn_exp.runs.paths import output_root
    from snn_exp.sweeps import cells, launch

    console = PlainConsole(soft_wrap=True)
    num_refused = sum(cell.config is None for cell in sweep.cells)
    note = cells.note_on_same(len(sweep.cells) - num_refused - len(configs))
    note = f" ({note})" if note else ""
    say(f"{len(configs)} runs{note}: {len(configs) - len(todo)} done before, {len(todo)} to train")
    together = launch.in_group(todo, launch.sweep_name(configs))
    failures = launch.train_all(together, console, sweep.hydra_overrides, search)
    folders = {config.run_id: RunFolder.of(config) for config in configs}
    finished = [result for folder in folders.values() if (result := folder.sound_result())]
    if finished:
        wide_console(160).print(comparison(finished, configs[0].energy))
    say(f"results: {output_root() / 'runs'}")
    if num_refused:
        say(f"snn-exp: {num_refused} of {len(sweep.cells)} cells are refused, see above", file=sys.stderr)
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0


def plan(arguments: Sequence[str]) -> int:
    """Run `snn-exp plan`."""
    parser = command_parser("plan", "List what a train command would run, and how long; run nothing.", overrides=True)
    parser.add_argument("-m", "--multirun", action="store_true", help="every combination of the values given")
    parser.add_argument(
        "--calibrate", action="store_true", help="measure a few steps of runs that stored runs give no estimate for"
    )
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.runs.store import stored_results
    from snn_exp.studies.spec import names
    from snn_exp.sweeps import cells
    from snn_exp.sweeps import plan as planning
    from snn_exp.training import preflight

    if given.overrides[:1] and given.overrides[0] in names():
        return study([*given.overrides, "--plan"])
    sweep = compose.read_command(given.overrides, multirun=given.multirun, search=given.config_dir)
    for cell in sweep.cells:
        if cell.config is None:
            say(f"snn-exp: refused {' '.join(cell.overrides)}: {cell.refusal}", file=sys.stderr)
    allowed = [cell.config for cell in sweep.cells if cell.config]
    configs = cells.once_each(allowed)
    num_same = len(allowed) - len(configs)
    stopped = {config.run_id: why for config in configs if (why := preflight.refusal(config))}
    for run_id, name in cells.names(configs).items():
        if run_id in stopped:
            say(f"snn-exp: refused {name}: {stopped[run_id]}", file=sys.stderr)
    configs = [config for config in configs if config.run_id not in stopped]
    for sentence in preflight.warnings(configs):
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    stored = stored_results()
    estimates = {config.run_id: planning.seconds(config, stored) for config in configs}
    if given.calibrate:
        unknown = [config for config in configs if estimates[config.run_id] is None]
        require_data(unknown)
        estimates |= _calibrated(unknown)
    wide_console(160).print(planning.table(configs, estimates))
    say(planning.total(configs, estimates, num_same))
    refused = bool(stopped) or len(allowed) < len(sweep.cells)
    flags = [*(["-m"] if given.multirun else []), *(["--skip-refused"] if refused else [])]
    if configs:
        say(f"runs it: {command_line('train', given.overrides, given.config_dir, flags)}")
    return 2 if refused else 0


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


def search(arguments: Sequence[str]) -> int:
    """Run `snn-exp search`."""
    parser = command_parser("search", "Let Optuna choose among what the overrides leave open.", overrides=True)
    parser.add_argument("--objective", default="val/acc", metavar="METRICS", help="val/acc, or val/acc,val/energy_pj")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.runs.paths import output_root
    from snn_exp.sweeps import search as searching
    from snn_exp.training import preflight

    asked, corners = searching.read(given.overrides, given.objective, given.config_dir)
    for config in corners:
        preflight.require(config)
    require_data(corners)
    require_writable(output_root())
    with interrupts.saying(lambda: searching.interrupted(asked)):
        failures = searching.advance(asked)
    found = searching.best(asked)
    if found:
        wide_console(160).print(searching.table(asked, found))
    say("\n".join(searching.answer(asked, found)))
    say(f"study: {asked.folder / 'study.db'}")
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0


def study(arguments: Sequence[str]) -> int:
    """Run `snn-exp study`."""
    parser = command_parser("study", "Tune and compare methods, as studies/NAME/study.yaml says.")
    parser.add_argument("name", nargs="?", help="a folder of studies/; without it, they are listed")
    parser.add_argument("overrides", nargs="*", help="of every run; hydra/launcher=joblib hydra.launcher.n_jobs=2")
    parser.add_argument("--plan", action="store_true", help="list what would run, and how long; run nothing")
    parser.add_argument("--only", default="*", metavar="SETTING/METHOD", help="a pattern, such as 'd20/*'")
    parser.add_argument("--verify", type=int, default=0, metavar="N", help="repeat N stored runs and compare")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import readme, runner
    from snn_exp.studies.readme import answers, comparison_of, tables_of, write
    from snn_exp.studies.spec import load, names
    from snn_exp.sweeps import launch
    from snn_exp.sweeps import progress as following

    if given.name is None:
        found = names()
        for name in found:
            try:
                say(f"{name:<16} {load(name).question}")
            except UserError as error:
                say_once(f"left out: {error}")
        if not found:
            say("there is no study yet")
        return 0
    asked = load(given.name)
    console = PlainConsole(soft_wrap=True)
    hydra = tuple(o for o in given.overrides if o.startswith("hydra"))
    overrides = tuple(o for o in given.overrides if o not in hydra)
    begun = time.time()
    progress = runner.survey(asked, overrides)
    say(readme.plan(progress, given.only))
    progress.require_budget(given.only)
    if given.plan:
        return 0
    require_data([run.config for run in progress.todo(given.only)])
    require_writable(output_root())
    if given.verify:
        again = runner.sample_of_finished(progress, given.verify)
        called = {run.config.run_id: run.name for run in again}
        failures = launch.train_all([run.config for run in again], console, hydra, names=called)
    else:
        called = {}

        def train_all(configs: list[ExperimentConfig], keep: Callable[[Result], None]) -> list[str]:
            grouped = launch.in_group(configs, asked.name)
            with interrupts.saying(lambda: following.interrupted_sweep(configs, begun)):
                return launch.train_all(grouped, console, hydra, on_finish=keep, names=called)

        progress, failures = runner.advance(asked, train_all, overrides, given.only, called)
    wide = wide_console(200)
    for table in tables_of(comparison_of(progress)):
        wide.print(table)
    for line in answers(progress):
        console.print(line, highlight=False)
    for sentence in runner.contradictions(progress):
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    say(f"written: {write(progress)}" if progress.is_standard else f"rows: {progress.ledger.path}")
    return 1 if failures else 0
