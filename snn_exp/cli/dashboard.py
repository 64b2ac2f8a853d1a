"""`snn-exp dashboard`: the runs of a report as a dashboard in W&B."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser
from snn_exp.config.command_line import command_line
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
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
