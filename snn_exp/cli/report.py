"""Commands that read the results of finished runs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from snn_exp.cli.parsing import command_parser, wide_console
from snn_exp.config.command_line import command_line
from snn_exp.errors import UserError, say_once
from snn_exp.escaping import add_row, one_line, rich, say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    pass


_OPTIONS = ("by", "metric", "versus", "margin")  # of a report; each makes it another question, with its own folder


def report(arguments: Sequence[str]) -> int:
    """Run `snn-exp report`."""
    parser = command_parser("report", "Report on finished runs as tables, figures and a page; train nothing.")
    parser.add_argument("what", nargs="+", help="a folder of studies/, or key=value filters of stored runs")
    parser.add_argument("--by", default="", metavar="KEYS", help="choices that separate rows, such as neuron,norm")
    parser.add_argument("--metric", help="the metric to compare; test/acc, or the study's, if left out")
    parser.add_argument("--versus", default="", metavar="WITH", help="norm=bn, say; of a study, one of its methods")
    parser.add_argument("--margin", type=float, help="test equivalence within this margin, such as 0.01")
    parser.add_argument("--format", default="", metavar="FORMATS", help="of html,md,tex,csv,png,pdf")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.reporting import documents, tables
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import runner
    from snn_exp.studies.readme import report_of, tables_of, write
    from snn_exp.studies.spec import load

    is_study = len(given.what) == 1 and "=" not in given.what[0]
    progress = runner.survey(load(given.what[0])) if is_study else None
    if progress and not (given.by or given.metric or given.versus or given.margin or given.format):
        say(f"written: {write(progress)}")
        return 0
    asked = documents.Asked(
        command=command_line("report", arguments),
        metric=given.metric,
        by=[key.strip() for key in given.by.split(",") if key.strip()],
        versus=given.versus,
        margin=given.margin,
    )
    gc.disable()  # what is read stays to the end: garbage collection would take a tenth of the time
    made = report_of(progress, asked) if progress else documents.of_runs(given.what, asked)
    formats = list(dict.fromkeys((given.format or "html").split(",")))
    documents.require_formats(formats)
    for table in tables_of(made.comparison):
        wide_console(200).print(table)
    say("\n".join([one_line(made.headline), *(f"  {one_line(gap)}" for gap in tables.gaps(made.comparison))]))
    require_writable(output_root())
    options = [f"{key}={value}" for key in _OPTIONS if (value := getattr(given, key))]
    folder = output_root() / "reports" / documents.folder_name([*given.what, *options])
    for path in documents.write(made, folder, formats):
        say(f"written: {path}")
    return 0


def dashboard(arguments: Sequence[str]) -> int:
    """Run `snn-exp dashboard`."""
    parser = command_parser(
        "dashboard", "Make a W&B dashboard of a report's runs; without a connection, its specification."
    )
    parser.add_argument("what", nargs="+", help="a folder of studies/, or key=value filters of stored runs")
    given = parser.parse_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.reporting import documents, wandb_dashboard
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import readme, runner
    from snn_exp.studies.spec import load

    is_study = len(given.what) == 1 and "=" not in given.what[0]
    shown = readme.dashboard_of(runner.survey(load(given.what[0]))) if is_study else wandb_dashboard.of_runs(given.what)
    require_writable(output_root())
    file = output_root() / "dashboards" / f"{documents.folder_name(given.what)}.json"
    say(wandb_dashboard.save(shown, file, command_line("dashboard", arguments)))
    for note in shown.notes:
        say(note)
    if missing := shown.without_a_copy():
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        say(f"W&B has no copy of {len(missing)} of {len(shown.results)} runs, trained with logger=none: {some}")
    return 0


def runs(arguments: Sequence[str]) -> int:
    """Run `snn-exp runs`."""
    parser = command_parser("runs", "List or remove stored runs. Nothing is removed without --yes.")
    parser.add_argument("words", nargs="*", metavar="[list|clean] key=value", help="such as clean state=failed")
    parser.add_argument("--yes", action="store_true", help="remove what clean names")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import printable
    from snn_exp.runs import store as stored
    from snn_exp.runs.find import foreign_names
    from snn_exp.runs.paths import output_root

    cleaning = given.words[:1] == ["clean"]
    filters = given.words[1:] if cleaning or given.words[:1] == ["list"] else given.words
    if cleaning and not filters:
        raise UserError("snn-exp runs clean needs a filter, so that it does not remove every run; type state=failed")
    selection = stored.selected(filters)
    found = selection.runs
    wide_console(140).print(stored.table(found))
    for note in selection.notes:
        say(note)
    if others := foreign_names():
        some = ", ".join(map(printable, others[:5])) + (", ..." if len(others) > 5 else "")
        say_once(f"skipped in {output_root() / 'runs'} (not a run): {some}")
    if cleaning and given.yes:
        removed, failures = stored.remove(found)
        for path in removed:
            say(f"removed {path}")
        for failure in failures:
            say(f"snn-exp: {failure}", file=sys.stderr)
        return 1 if failures else 0
    if cleaning and found:
        say("nothing is removed yet; add --yes to remove these")
    return 0


def diff(arguments: Sequence[str]) -> int:
    """Run `snn-exp diff`."""
    parser = command_parser("diff", "Show where two finished runs differ.")
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a run id, the beginning of one, or a run's folder")
    given = parser.parse_args(arguments)

    from snn_exp.runs import store as stored
    from snn_exp.runs.find import find_run

    a, b = (find_run(run) for run in given.runs)
    differing = stored.difference(a, b)
    table = Table(title="" if differing else "the two do not differ")
    for heading in ("", a.path.name, b.path.name):
        table.add_column(rich(heading))
    for row in differing:
        add_row(table, *row)
    wide_console(140).print(table)
    return 0
