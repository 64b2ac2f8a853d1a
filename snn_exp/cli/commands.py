"""The commands of snn-exp, each a function from its arguments to an exit code. They parse, call and print."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from snn_exp.cli.data import data
from snn_exp.cli.inspect import doctor, options, show
from snn_exp.cli.recall import evaluate, export, fold, verify
from snn_exp.cli.report import dashboard, diff, report, runs
from snn_exp.cli.train import plan, search, study, train

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
    "export": export,
    "data": data,
    "doctor": doctor,
}
