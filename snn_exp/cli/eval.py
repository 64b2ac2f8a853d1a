"""`snn-exp eval`: the test set again, with other data or another encoding."""

from __future__ import annotations

from collections.abc import Sequence

from snn_exp.cli.parsing import RUN, command_parser
from snn_exp.errors import UserError
from snn_exp.escaping import say


def main(arguments: Sequence[str]) -> int:
    """Run `snn-exp eval`."""
    parser = command_parser(
        "eval", "Evaluate a run's weights on the test set again, with other data or another encoding."
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("overrides", nargs="*", help="dataset=..., dataset.key=..., encoding=..., encoding.key=...")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.runs.find import find_run
    from snn_exp.training import preflight

    folder = find_run(given.run)
    trained = folder.trained_config()
    for override in given.overrides:
        if override.partition("=")[0].partition(".")[0] not in ("dataset", "encoding"):
            raise UserError(
                f"{override} would change the network of run {folder.path.name}; eval takes dataset=... and "
                f"encoding=... alone, and snn-exp train trains another network"
            )
    config = trained
    if given.overrides:
        elsewhere = any(override.startswith("dataset.path=") for override in given.overrides)
        instead = ["dataset.content=null"] if elsewhere else []  # what is there counts, and not what was trained on
        config = compose.compose(compose.overrides_of(trained, instead=[*instead, *given.overrides]))
    preflight.require_data([config])

    from snn_exp.reporting.summary import evaluation
    from snn_exp.training.load import evaluate

    say(
        f"run {folder.path.name}: {trained.label}"
        + (f", evaluated on {config.dataset['name']}" if given.overrides else "")
    )
    say(evaluation(evaluate(folder, config), config.energy, config))
    return 0
