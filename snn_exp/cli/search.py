"""`snn-exp search`: let Optuna choose among what the overrides leave open."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser, require_data, wide_console
from snn_exp.escaping import say
from snn_exp.runs import interrupts


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp search`."""
    parser = command_parser("search", "Let Optuna choose among what the overrides leave open.", overrides=True)
    parser.add_argument("--objective", default="val/acc", metavar="METRICS", help="val/acc, or val/acc,val/energy_pj")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.runs.paths import output_root
    from snn_exp.sweeps import search, trials
    from snn_exp.training import preflight

    asked, corners = search.read(given.overrides, given.objective, given.config_dir)
    for config in corners:
        preflight.require(config)
    require_data(corners)
    require_writable(output_root())
    with interrupts.saying(lambda: trials.interrupted(asked)):
        failures = trials.advance(asked)
    found = trials.best(asked)
    if found:
        wide_console(160).print(trials.table(asked, found))
    say("\n".join(trials.answer(asked, found)))
    say(f"study: {asked.folder / 'study.db'}")
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0
