"""The command line: parse, call, print.

Every cell of a sweep is composed and checked before Hydra launches any of them. A fault in the user's
hands is one sentence and exit code 2; a run that crashed is exit code 1; otherwise 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Large tensors on fresh pages cost a CPU more time than computing on them; torch reads this when it loads.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from rich.console import Console
from rich.table import Table

from snn_exp.errors import UserError, unknown

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.compose import Sweep
    from snn_exp.config import ExperimentConfig
    from snn_exp.results import RunFolder

HELP = """usage: snn-exp COMMAND ...

Experiments on spiking neural networks: PSP normalization, single-step S2NN, and what they are compared with.

  train [-m] [overrides]   train one run, or with -m every combination of a sweep
  plan [-m] [overrides]    what that would run, what of it is done, and how long the rest takes
  search [overrides]       let Optuna choose among values and ranges by validation accuracy, or against energy too
  study [NAME] [overrides] tune and compare methods as studies/NAME/study.yaml says; --plan only lists the runs
  report NAME|key=value    what a study, or the stored runs that agree, say: tables, figures, one page
  dashboard NAME|key=value the same runs as a dashboard in W&B
  options [group]          what can be chosen: each option, its parameters, defaults and units
  show [overrides]         the resolved config, the built network, and its layers before training
  runs [list|clean] [key=value ...]   the stored runs, and which of them may go
  diff RUN RUN             where two runs differ: choices and metrics
  eval RUN [overrides]     the test set again, under other dataset=... or encoding=...
  verify RUN               train a run again and compare it bit by bit
  fold RUN                 a trained network without its norms: into weights and thresholds, checked
  doctor                   versions, devices, data, write access, W&B

  snn-exp train neuron=s2nn norm=bn residual=bireal depth=d20 seed=0
  snn-exp train -m neuron=lif,plif norm=bn,psp seed=0,1,2
  snn-exp train experiment=quick
  snn-exp study psp_depth --plan

SNN_EXP_OUTPUT moves outputs/, SNN_EXP_DATA the data. `snn-exp COMMAND --help` says more.
"""

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    command, rest = given[0], given[1:]
    try:
        if command not in COMMANDS:
            raise unknown("command", command, COMMANDS, "snn-exp {}")
        return COMMANDS[command](rest)
    except UserError as error:
        print(f"snn-exp: {error}", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print("snn-exp: interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        return 130


def entry_point() -> None:
    """The console script."""
    sys.exit(main())


def train(arguments: Sequence[str]) -> int:
    """snn-exp train."""
    if any(argument.partition("=")[0] in HYDRA_FLAGS for argument in arguments):
        return _ask_hydra(arguments)
    parser = _parser("train", "Train one run, or every combination of a sweep.", overrides=True)
    parser.add_argument("-m", "--multirun", action="store_true", help="train every combination of the values given")
    parser.add_argument("--rerun", action="store_true", help="train again; the old folders are kept aside")
    parser.add_argument("--skip-refused", action="store_true", help="train the cells that can be, name the others")
    options = parser.parse_intermixed_args(arguments)

    from snn_exp import compose, results

    sweep = compose.read_command(options.overrides, multirun=options.multirun, search=options.config_dir)
    refused = [cell for cell in sweep.cells if cell.config is None]
    if not sweep.multirun and refused:
        raise UserError(refused[0].refusal)
    for cell in refused:
        print(f"snn-exp: refused {' '.join(cell.overrides)}: {cell.refusal}", file=sys.stderr)
    if refused and not options.skip_refused:
        raise UserError(f"{len(refused)} of {len(sweep.cells)} runs are refused, so none is trained; "
                        f"mend them, or add --skip-refused to train the rest")  # fmt: skip
    configs = list({cell.config.run_id: cell.config for cell in sweep.cells if cell.config}.values())
    if not configs:
        raise UserError("no run is left to train")
    folders = {config.run_id: results.RunFolder.of(config) for config in configs}
    if options.rerun:
        results.require_writable(results.output_root())
        for folder in folders.values():
            folder.set_aside()
    todo = [config for config in configs if not folders[config.run_id].is_complete(config)]
    for config in configs:
        if config not in todo and (note := folders[config.run_id].check_stored(config)):
            print(note)
    for config in todo:
        results.teacher_of(config)  # refuses one that cannot teach it, before anything is trained
        _require_kernels(config)
    _require_data(todo)
    results.require_writable(results.output_root())
    if sweep.multirun:
        return _train_many(sweep, configs, todo, options.config_dir)
    return _train_one(configs[0], options.overrides, cached=not todo)


def _require_kernels(config: ExperimentConfig) -> None:
    if config.trainer.kernels == "fused":
        from snn_exp.train import kernels_of

        kernels_of(config)  # refuses what they cannot do


def _train_one(config: ExperimentConfig, overrides: Sequence[str], *, cached: bool) -> int:
    from snn_exp import report, results

    folder = results.RunFolder.of(config)
    result = folder.result() if cached else None
    if result is None:
        from snn_exp.train import run

        print(f"run {config.run_id}: {config.label}, {config.num_steps} steps", flush=True)
        result = run(config, live=config.trainer.progress and sys.stdout.isatty())
    else:
        print("done before; nothing to train")
    print(report.summary(result, f"snn-exp train {shlex.join(overrides)}", config.energy))
    return 0


def _train_many(
    sweep: Sweep, configs: list[ExperimentConfig], todo: list[ExperimentConfig], search: Sequence[str]
) -> int:
    from snn_exp import launch, report, results

    console = Console(soft_wrap=True)
    duplicates = sum(cell.config is not None for cell in sweep.cells) - len(configs)
    note = f" ({duplicates} cells are the same as another)" if duplicates else ""
    print(f"{len(configs)} runs{note}: {len(configs) - len(todo)} done before, {len(todo)} to train", flush=True)
    together = launch.in_group(todo, launch.sweep_name(configs))
    failures = launch.train_all(together, console, sweep.hydra_overrides, search)
    folders = {config.run_id: results.RunFolder.of(config) for config in configs}
    finished = [result for folder in folders.values() if (result := folder.result())]
    if finished:
        Console(width=None if sys.stdout.isatty() else 160).print(report.comparison(finished, configs[0].energy))
    print(f"results: {results.output_root() / 'runs'}")
    for failure in failures:
        print(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _ask_hydra(arguments: Sequence[str]) -> int:
    from snn_exp import compose, launch

    compose.store_schemas()
    launch.run_hydra(arguments)
    return 0


def plan(arguments: Sequence[str]) -> int:
    """snn-exp plan."""
    parser = _parser("plan", "What a train command would run, and how long; runs nothing.", overrides=True)
    parser.add_argument("-m", "--multirun", action="store_true", help="every combination of the values given")
    parser.add_argument(
        "--calibrate", action="store_true", help="measure a few steps of runs that no stored run tells of"
    )
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import compose, report
    from snn_exp import plan as planning
    from snn_exp.study import names

    if given.overrides[:1] and given.overrides[0] in names():
        return study([*given.overrides, "--plan"])
    sweep = compose.read_command(given.overrides, multirun=given.multirun, search=given.config_dir)
    for cell in sweep.cells:
        if cell.config is None:
            print(f"snn-exp: refused {' '.join(cell.overrides)}: {cell.refusal}", file=sys.stderr)
    cells = [cell.config for cell in sweep.cells if cell.config]
    configs = list({config.run_id: config for config in cells}.values())
    stored = report.stored_results()
    estimates = {config.run_id: planning.seconds(config, stored) for config in configs}
    if given.calibrate:
        unknown = [config for config in configs if estimates[config.run_id] is None]
        _require_data(unknown)
        estimates |= _calibrated(unknown)
    Console(width=None if sys.stdout.isatty() else 160).print(planning.table(configs, estimates))
    print(planning.total(configs, estimates, len(cells) - len(configs)))
    again = [*(["-m"] if given.multirun else []), *given.overrides]
    print(f"runs it: snn-exp train {shlex.join(again)}")
    return 2 if len(cells) < len(sweep.cells) else 0


def _calibrated(configs: Sequence[ExperimentConfig]) -> dict[str, float]:
    """run id -> CPU seconds, one measurement for all seeds."""
    from snn_exp import report, train

    measured: dict[str, float] = {}
    found = {}
    for config in configs:
        words = json.dumps(report.choices(config.to_plain()), sort_keys=True)
        if words not in measured:
            measured[words] = train.seconds_measured(config)
        found[config.run_id] = measured[words]
    return found


def search(arguments: Sequence[str]) -> int:
    """snn-exp search."""
    parser = _parser("search", "Let Optuna choose among what the overrides leave open.", overrides=True)
    parser.add_argument("--objective", default="val/acc", metavar="METRICS", help="val/acc, or val/acc,val/energy_pj")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import results
    from snn_exp import search as searching

    asked, corners = searching.read(given.overrides, given.objective, given.config_dir)
    _require_data(corners)
    results.require_writable(results.output_root())
    failures = searching.advance(asked)
    found = searching.best(asked)
    if found:
        Console(width=None if sys.stdout.isatty() else 160).print(searching.table(asked, found))
    print("\n".join(searching.answer(asked, found)))
    print(f"study: {asked.folder / 'study.db'}")
    for failure in failures:
        print(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0


def study(arguments: Sequence[str]) -> int:
    """snn-exp study."""
    parser = _parser("study", "Tune and compare methods, as studies/NAME/study.yaml says.")
    parser.add_argument("name", nargs="?", help="a folder of studies/; without it, they are listed")
    parser.add_argument("overrides", nargs="*", help="of every run; hydra/launcher=joblib hydra.launcher.n_jobs=2")
    parser.add_argument("--plan", action="store_true", help="list what would be run, and how long; run nothing")
    parser.add_argument("--only", default="*", metavar="SETTING/METHOD", help="a pattern, such as 'd20/*'")
    parser.add_argument("--verify", type=int, default=0, metavar="N", help="do N stored runs again and compare")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import campaign, launch, results, study_report
    from snn_exp.study import load, names

    if given.name is None:
        print("\n".join(f"{name:<16} {load(name).question}" for name in names()) or "there is no study yet")
        return 0
    asked = load(given.name)
    console = Console(soft_wrap=True)
    hydra = tuple(o for o in given.overrides if o.startswith("hydra"))
    overrides = tuple(o for o in given.overrides if o not in hydra)
    progress = campaign.survey(asked, overrides)
    print(study_report.plan(progress, given.only))
    progress.require_budget(given.only)
    if given.plan:
        return 0
    _require_data([run.config for run in progress.todo(given.only)])
    results.require_writable(results.output_root())
    if given.verify:
        again = campaign.sample_of_finished(progress, given.verify)
        failures = launch.train_all([run.config for run in again], console, hydra)
    else:
        progress, failures = campaign.advance(
            asked,
            lambda configs, keep: launch.train_all(
                launch.in_group(configs, asked.name), console, hydra, on_finish=keep
            ),
            overrides,
            given.only,
        )
    wide = Console(width=None if sys.stdout.isatty() else 200)
    for table in study_report.tables_of(study_report.comparison_of(progress)):
        wide.print(table)
    for line in study_report.answers(progress):
        console.print(line, highlight=False)
    for sentence in campaign.contradictions(progress):
        print(f"snn-exp: warning: {sentence}", file=sys.stderr)
    for failure in failures:
        print(f"snn-exp: {failure}", file=sys.stderr)
    print(f"written: {study_report.write(progress)}" if progress.is_standard else f"rows: {progress.ledger.path}")
    return 1 if failures else 0


def report(arguments: Sequence[str]) -> int:
    """snn-exp report."""
    parser = _parser("report", "What finished runs say, as tables, figures and a page; train nothing.")
    parser.add_argument("what", nargs="+", help="a folder of studies/, or key=value filters of stored runs")
    parser.add_argument(
        "--by", default="", metavar="KEYS", help="choices that make a line of runs, such as neuron,norm"
    )
    parser.add_argument("--metric", help="what is compared; test/acc, or what the study rests on")
    parser.add_argument("--versus", default="", metavar="WITH", help="norm=bn, say; of a study, one of its methods")
    parser.add_argument("--margin", type=float, help="tests equivalence within it, such as 0.01")
    parser.add_argument("--format", default="", metavar="FORMATS", help="of html,md,tex,csv,png,pdf")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import campaign, documents, results, study_report, tables
    from snn_exp.study import load

    is_study = len(given.what) == 1 and "=" not in given.what[0]
    progress = campaign.survey(load(given.what[0])) if is_study else None
    if progress and not (given.by or given.metric or given.versus or given.margin or given.format):
        print(f"written: {study_report.write(progress)}")
        return 0
    asked = documents.Asked(
        command=f"snn-exp report {shlex.join(arguments)}",
        metric=given.metric,
        by=[key for key in given.by.split(",") if key],
        versus=given.versus,
        margin=given.margin,
    )
    made = documents.of_study(progress, asked) if progress else documents.of_runs(given.what, asked)
    formats = list(dict.fromkeys((given.format or "html").split(",")))
    documents.require_formats(formats)
    for table in study_report.tables_of(made.comparison):
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    print("\n".join([made.headline, *(f"  {gap}" for gap in tables.gaps(made.comparison))]))
    results.require_writable(results.output_root())
    for path in documents.write(made, results.output_root() / "reports" / documents.folder_name(given.what), formats):
        print(f"written: {path}")
    return 0


def dashboard(arguments: Sequence[str]) -> int:
    """snn-exp dashboard."""
    parser = _parser(
        "dashboard", "A dashboard in W&B over the runs of a report; without a connection its specification."
    )
    parser.add_argument("what", nargs="+", help="a folder of studies/, or key=value filters of stored runs")
    given = parser.parse_args(arguments)

    from snn_exp import campaign, documents, results
    from snn_exp import dashboard as boards
    from snn_exp.study import load

    is_study = len(given.what) == 1 and "=" not in given.what[0]
    shown = boards.of_study(campaign.survey(load(given.what[0]))) if is_study else boards.of_runs(given.what)
    results.require_writable(results.output_root())
    file = results.output_root() / "dashboards" / f"{documents.folder_name(given.what)}.json"
    print(boards.save(shown, file, f"snn-exp dashboard {shlex.join(given.what)}"))
    if missing := shown.without_a_copy():
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        print(f"W&B has no copy of {len(missing)} of {len(shown.results)} runs, trained with logger=none: {some}")
    return 0


def _trained(run: str) -> tuple[RunFolder, ExperimentConfig]:
    """A run that has weights, and its config, once its data are there."""
    from snn_exp import results

    folder = results.find_run(run)
    config = folder.trained_config()
    if note := folder.check_stored(config):
        print(note)
    _require_data([config])
    return folder, config


def _require_data(configs: Sequence[ExperimentConfig]) -> None:
    """Every data set is there, or is fetched, before anything is trained."""
    from snn_exp import menu, results

    names = dict.fromkeys(str(config.dataset["name"]) for config in configs)
    for name in names:
        if not menu.load()["dataset"][name].traits["embedded"]:
            menu.registry_of("dataset")[name].prepare(results.data_root())


def options(arguments: Sequence[str]) -> int:
    """snn-exp options."""
    parser = _parser("options", "What can be chosen, with parameters, defaults and units.")
    parser.add_argument("group", nargs="?", help="one config group, such as neuron")
    parser.add_argument("--json", action="store_true", help="group -> list of names")
    given = parser.parse_args(arguments)

    from snn_exp import catalogue

    groups = catalogue.option_files(given.group)
    if given.json:
        print(json.dumps({group: list(names) for group, names in groups.items()}, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        for group, files in groups.items():
            console.print(catalogue.table(group, files))
    return 0


def show(arguments: Sequence[str]) -> int:
    """snn-exp show."""
    parser = _parser("show", "The resolved config, the built network, and its layers before training.", overrides=True)
    parser.add_argument("--picture", metavar="FILE", help="draw the layers' curves as well, into a .png")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import compose

    config = compose.compose(given.overrides, given.config_dir)
    _require_data([config])

    from snn_exp import figures, inspection

    task, data = inspection.build(config)
    layers = inspection.untrained_layers(task, data)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(inspection.config_text(config), highlight=False)
    console.print(inspection.network_table(task, data))
    console.print(inspection.layers_table(layers))
    if given.picture:
        picture = figures.of_layers({config.label: {"init": layers}}, "layers", config.label)
        print(f"written: {picture.save(Path(given.picture))}")
    return 0


def fold(arguments: Sequence[str]) -> int:
    """snn-exp fold."""
    parser = _parser("fold", "Writes a trained network without its norms, and compares the two.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    given = parser.parse_args(arguments)

    folder, config = _trained(given.run)

    from snn_exp import fold as folding

    print(f"run {folder.path.name}: {config.label}", flush=True)
    print(folding.fold_run(folder, config).text())
    return 0


def runs(arguments: Sequence[str]) -> int:
    """snn-exp runs."""
    parser = _parser("runs", "The stored runs. Nothing is removed without --yes.")
    parser.add_argument("words", nargs="*", metavar="[list|clean] key=value", help="such as clean state=failed")
    parser.add_argument("--yes", action="store_true", help="remove what clean names")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import runs as stored

    cleaning = given.words[:1] == ["clean"]
    filters = given.words[1:] if cleaning or given.words[:1] == ["list"] else given.words
    if cleaning and not filters:
        raise UserError("snn-exp runs clean needs a filter, so that not all is removed; type state=failed, say")
    found = stored.stored_runs(filters)
    Console(width=None if sys.stdout.isatty() else 140).print(stored.table(found))
    if cleaning and given.yes:
        for path in stored.remove(found):
            print(f"removed {path}")
    elif cleaning and found:
        print("nothing is removed yet; add --yes to remove these")
    return 0


def diff(arguments: Sequence[str]) -> int:
    """snn-exp diff."""
    parser = _parser("diff", "Where two finished runs differ.")
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a run id, the beginning of one, or a run's folder")
    given = parser.parse_args(arguments)

    from snn_exp import results
    from snn_exp import runs as stored

    a, b = (results.find_run(run) for run in given.runs)
    differing = stored.difference(a, b)
    table = Table("", a.path.name, b.path.name, title="" if differing else "the two do not differ")
    for row in differing:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0


def evaluate(arguments: Sequence[str]) -> int:
    """snn-exp eval."""
    parser = _parser("eval", "The test set again with the weights of a run, under other data or another encoding.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    parser.add_argument("overrides", nargs="*", help="dataset=..., dataset.key=..., encoding=..., encoding.key=...")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import compose, results

    folder = results.find_run(given.run)
    trained = folder.trained_config()
    for override in given.overrides:
        if override.partition("=")[0].partition(".")[0] not in ("dataset", "encoding"):
            raise UserError(
                f"{override} would change the network of run {folder.path.name}; eval takes dataset=... and "
                f"encoding=... alone, and snn-exp train trains another network"
            )
    config = compose.compose(compose.overrides_of(trained, instead=given.overrides)) if given.overrides else trained
    _require_data([config])

    from snn_exp import recall, report

    print(
        f"run {folder.path.name}: {trained.label}"
        + (f", evaluated on {config.dataset['name']}" if given.overrides else "")
    )
    print(report.evaluation(recall.evaluate(folder, config), config.energy))
    return 0


def verify(arguments: Sequence[str]) -> int:
    """snn-exp verify."""
    parser = _parser("verify", "Train a finished run again, elsewhere, and compare weights and metrics.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    given = parser.parse_args(arguments)

    folder, config = _trained(given.run)
    print(f"run {folder.path.name}: {config.label}; training it again", flush=True)

    from snn_exp import recall

    verdict = recall.verify(folder, config)
    print("\n".join([verdict.finding, *(f"  {reason}" for reason in verdict.reasons)]))
    return 1 if verdict.finding == "different" else 0


def doctor(arguments: Sequence[str]) -> int:
    """snn-exp doctor."""
    _parser("doctor", "Versions, devices, data, write access, W&B.").parse_args(arguments)

    from snn_exp import diagnosis

    checks = diagnosis.examine()
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.what:<14} {check.found}")
    return 0 if all(check.ok for check in checks) else 1


def _parser(command: str, text: str, overrides: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"snn-exp {command}", description=text)
    if overrides:
        parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as neuron=lif neuron.tau=3")
        parser.add_argument(
            "--config-dir", "-cd", action="append", default=[], help="a further folder of configs; may be repeated"
        )
    return parser


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "plan": plan,
    "search": search,
    "study": study,
    "report": report,
    "dashboard": dashboard,
    "options": options,
    "show": show,
    "runs": runs,
    "diff": diff,
    "eval": evaluate,
    "verify": verify,
    "fold": fold,
    "doctor": doctor,
}

if __name__ == "__main__":
    entry_point()
