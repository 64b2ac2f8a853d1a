"""`snn-exp study`: tune and compare methods, as a study.yaml says."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from snn_exp.cli.parsing import command_parser, wide_console
from snn_exp.errors import UserError, say_once
from snn_exp.escaping import PlainConsole, one_line, say
from snn_exp.runs import interrupts

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.experiment import ExperimentConfig
    from snn_exp.runs.run_files import Result


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp study`."""
    parser = command_parser("study", "Tune and compare methods, as studies/NAME/study.yaml says.")
    parser.add_argument("name", nargs="?", help="a folder of studies/; without it, they are listed")
    parser.add_argument("overrides", nargs="*", help="of every run; hydra/launcher=joblib hydra.launcher.n_jobs=2")
    parser.add_argument("--plan", action="store_true", help="list what would run, and how long; run nothing")
    parser.add_argument("--only", default="*", metavar="SETTING/METHOD", help="a pattern, such as 'd20/*'")
    parser.add_argument("--verify", type=int, metavar="N", help="repeat N stored runs (of --only) and compare")
    parser.add_argument("--best", action="store_true", help="train the best finished run (of --only) for its weights")
    parser.add_argument("--method", metavar="NAME=OVERRIDES", help='run only a method of your own: mine="norm=my_norm"')
    parser.add_argument("--config-dir", "-cd", action="append", default=[], help="a further folder of configs")
    parser.add_argument("--studies", metavar="DIR", help="a folder of studies of your own, instead of studies/")
    given = parser.parse_intermixed_args(arguments)
    if given.studies is not None:
        if not Path(given.studies).is_dir():
            raise UserError(f"--studies {given.studies} is not a folder; it must hold folders such as NAME/study.yaml")
        os.environ["SNN_EXP_STUDIES"] = str(Path(given.studies).resolve())  # workers and other studies look there too
    if given.method and (given.best or given.verify is not None):
        raise UserError("--method runs a method of your own and neither --best nor --verify; leave one of them out")
    if given.best and (given.plan or given.verify is not None):
        other = "--plan" if given.plan else "--verify"
        raise UserError(f"--best and {other} are two errands; type one of them, such as snn-exp study NAME --best")
    if given.verify is not None and given.verify < 1:
        raise UserError(f"--verify {given.verify} repeats no run; type --verify 1 or a larger number")

    from snn_exp.files import require_writable
    from snn_exp.reporting import terminal
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import joining, readme, repeats, runner
    from snn_exp.studies.readme import answers, comparison_of, write
    from snn_exp.studies.spec import load, names, studies_root
    from snn_exp.sweeps import launch
    from snn_exp.sweeps.progress import interrupted_sweep
    from snn_exp.training import preflight

    if given.name is None:
        found = names()
        for name in found:
            try:
                say(f"{name:<16} {load(name).question}")
            except UserError as error:
                say_once(f"left out: {error}")
        if not found:
            root = studies_root().absolute()
            say(f"there is no study in {root}; --studies DIR, or SNN_EXP_STUDIES, says where else they are")
        return 0
    asked = load(given.name)
    console = PlainConsole(soft_wrap=True)
    hydra = tuple(o for o in given.overrides if o.startswith("hydra"))
    overrides = tuple(o for o in given.overrides if o not in hydra)
    if seeds := [o for o in overrides if o.lstrip("+").partition("=")[0] == "seed"]:
        raise UserError(
            f"the seeds of study {asked.name} stand in its study.yaml and are the same for all methods; leave "
            f"{seeds[0]} out"
        )
    begun = time.time()
    study = None
    if given.method:
        if overrides:
            raise UserError(
                f"{overrides[0]} would make {asked.name} another study, which no method of your own can join; put it "
                f"inside --method, or leave it out"
            )
        name, of_method = joining.read_method(given.method, asked)
        study = runner.survey(asked)
        asked = joining.alone(asked, name, of_method, joining.own_folder(asked, name), given.config_dir)
        joining.require_another_network(runner.survey(asked), study)
    elif given.config_dir:
        raise UserError('--config-dir is for a method of your own; type it with --method mine="norm=my_norm"')
    runner.require_cells(asked, given.only)
    progress = runner.survey(asked, overrides)
    say(readme.plan(progress, given.only))
    if given.best:
        best = repeats.best_finished(progress, given.only)
        preflight.require_data([best.config])
        require_writable(output_root())
        failures = launch.train_all([best.config], console, hydra, names={best.config.run_id: best.name})
        differing = repeats.contradictions(progress, [best])
        for line in [] if failures else [*repeats.confirmations(progress, [best]), *repeats.rebuilt(progress, best)]:
            say(line)
        for sentence in (*(f"warning: {text}" for text in differing), *failures):
            say(f"snn-exp: {sentence}", file=sys.stderr)
        return 1 if failures or differing else 0
    progress.require_budget(given.only)
    if given.plan:
        return 0
    preflight.require_data([run.config for run in progress.todo(given.only)])
    require_writable(output_root())
    again = []
    if given.verify:
        again = repeats.sample_of_finished(progress, given.verify, given.only)
        called = {run.config.run_id: run.name for run in again}
        failures = launch.train_all([run.config for run in again], console, hydra, names=called)
    else:
        called = {}

        def train_all(configs: list[ExperimentConfig], keep: Callable[[Result], None]) -> list[str]:
            grouped = launch.in_group(configs, asked.name)
            with interrupts.saying(lambda: interrupted_sweep(configs, begun)):
                return launch.train_all(grouped, console, hydra, asked.search, on_finish=keep, names=called)

        progress, failures = runner.advance(asked, train_all, overrides, given.only, called)
    compared = readme.with_joined(study, [progress]) if study else comparison_of(progress)
    terminal.show(compared, wide_console(terminal.WIDTH))
    for line in answers(progress):
        say(one_line(line))
    say(terminal.outcome(compared))
    for sentence in repeats.confirmations(progress, again):
        say(sentence)
    contradictions = repeats.contradictions(progress)
    for sentence in contradictions:
        say(f"snn-exp: warning: {sentence}", file=sys.stderr)
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    if study:
        joining.keep(asked)
        say(f"written: {readme.write_joined(study, progress)}; docs/studies.md says how to send it in")
        return 1 if failures else 0
    say(f"written: {write(progress)}" if progress.is_standard else f"rows: {progress.ledger.path}")
    return 1 if failures or (again and contradictions) else 0
