"""`snn-exp report`: what a study, or the stored runs that agree with filters, say."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser, wide_console
from snn_exp.config.command_line import command_line
from snn_exp.errors import UserError
from snn_exp.escaping import say

_OPTIONS = ("by", "metric", "versus", "margin", "energy")  # each makes a report another question, with its own folder


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp report`."""
    parser = command_parser("report", "Report on finished runs as tables, figures and a page; train nothing.")
    parser.add_argument("what", nargs="+", help="a folder of studies/, or key=value filters of stored runs")
    parser.add_argument("--by", default="", metavar="KEYS", help="choices that separate rows, such as neuron,norm")
    parser.add_argument("--metric", help="the metric to compare; test/acc, or the study's, if left out")
    parser.add_argument("--versus", default="", metavar="WITH", help="norm=bn, say; of a study, one of its methods")
    parser.add_argument("--margin", type=float, help="test equivalence within this margin, such as 0.01")
    parser.add_argument("--energy", default="", metavar="PROFILE", help="prices of stored runs, h45_fp32_onchip, say")
    parser.add_argument("--format", default="", metavar="FORMATS", help="of html,md,tex,csv,png,pdf")
    given = parser.parse_intermixed_args(arguments)
    if given.margin is not None and not 0 < given.margin < math.inf:
        raise UserError(
            f"--margin {given.margin:g} is no margin of an equivalence test; a margin is a number above 0 in the "
            f"metric's unit; type --margin 0.01"
        )

    from snn_exp.files import require_writable
    from snn_exp.reporting import documents, terminal
    from snn_exp.runs.paths import output_root
    from snn_exp.studies import runner
    from snn_exp.studies.readme import report_of, write
    from snn_exp.studies.spec import load

    is_study = len(given.what) == 1 and "=" not in given.what[0]
    progress = runner.survey(load(given.what[0])) if is_study else None
    if progress and not (given.by or given.metric or given.versus or given.margin or given.energy or given.format):
        say(f"written: {write(progress)}")
        return 0
    asked = documents.Asked(
        command=command_line("report", arguments),
        metric=given.metric,
        by=[key.strip() for key in given.by.split(",") if key.strip()],
        versus=given.versus,
        margin=given.margin,
        energy=given.energy,
    )
    gc.disable()  # what is read stays to the end: garbage collection would take a tenth of the time
    made = report_of(progress, asked) if progress else documents.of_runs(given.what, asked)
    formats = list(dict.fromkeys((given.format or "html").split(",")))
    documents.require_formats(formats)
    terminal.show(made.comparison, wide_console(terminal.WIDTH))
    say(terminal.outcome(made.comparison, made.headline))
    require_writable(output_root())
    options = [f"{key}={value}" for key in _OPTIONS if (value := getattr(given, key))]
    folder = output_root() / "reports" / documents.folder_name([*given.what, *options])
    for path in documents.write(made, folder, formats):
        say(f"written: {path}")
    return 0
