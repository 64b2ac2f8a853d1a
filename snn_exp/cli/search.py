"""`snn-exp search`: let Optuna choose among what the overrides leave open."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from snn_exp.cli.parsing import command_parser, print_table
from snn_exp.config.command_line import command_line
from snn_exp.escaping import say
from snn_exp.runs import interrupts

SEVERAL = "several processes may work on one search: a launcher's, or the same command typed elsewhere"


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp search`."""
    parser = command_parser("search", "Let Optuna choose among what the overrides leave open.", overrides=True)
    parser.epilog = SEVERAL
    parser.add_argument("--objective", default="val/acc", metavar="METRICS", help="val/acc, or val/acc,val/energy_pj")
    parser.add_argument("--sampler", default="tpe", metavar="NAME", help="tpe, random, grid, qmc or nsgaii")
    parser.add_argument("--sampler-seed", default=0, type=int, metavar="N", help="of the sampler's random numbers")
    parser.add_argument("--pruner", default="none", metavar="NAME", help="none, median or hyperband")
    parser.add_argument(
        "--budget", default="20", metavar="AMOUNT", help="trials in all, core hours, wall time: 40, 8core-h, 2h, 40,2h"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes of a launcher; joblib's n_jobs if left out")
    parser.add_argument("--name", default="", metavar="NAME", help="of its folder in outputs/searches")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.files import require_writable
    from snn_exp.runs.paths import output_root
    from snn_exp.sweeps import search
    from snn_exp.sweeps.budget import Budget
    from snn_exp.training import preflight

    budget = Budget.read(given.budget)
    flags = search.Asked(given.objective, given.sampler, given.sampler_seed, given.name, given.pruner)
    asked, corners = search.read(given.overrides, flags, given.config_dir)

    from snn_exp.sweeps import shown, trials, winners

    workers = trials.num_workers(asked, given.workers)
    for config in corners:
        preflight.require(config)
    preflight.require_data(corners)
    require_writable(output_root())
    if (asked.folder / "study.db").exists():
        say(
            f"snn-exp: {asked.folder / 'study.db'} is of the sweeper that searched before, and is not read: this "
            f"search begins anew beside it, and runs that it proposes again and that outputs/runs has cost nothing",
            file=sys.stderr,
        )
    with interrupts.saying(lambda: trials.interrupted(asked)):
        failures = trials.advance(asked, budget, workers)
    found = winners.best(asked)
    if found:
        print_table(winners.table(asked, found), ("run",), ("proposed",), "the page below", width=160)
    say("\n".join(winners.answer(asked, found)))
    say(f"study: {asked.folder / 'journal.log'}")
    say(f"written: {shown.write_page(asked, found, command_line('search', arguments))}")
    for failure in failures:
        say(f"snn-exp: {failure}", file=sys.stderr)
    return 1 if failures else 0
