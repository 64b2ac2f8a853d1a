"""Commands that use a trained network again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snn_exp.cli.parsing import command_parser, require_data
from snn_exp.errors import UserError
from snn_exp.escaping import say

if TYPE_CHECKING:  # imported where needed, so that --help needs neither torch nor Hydra
    from snn_exp.config.experiment import ExperimentConfig
    from snn_exp.runs.folder import RunFolder


def _trained(run: str) -> tuple[RunFolder, ExperimentConfig]:
    """Return a run that has weights, and its config, once its data are there."""
    from snn_exp.runs.find import find_run

    folder = find_run(run)
    config = folder.trained_config()
    if note := folder.check_stored(config):
        say(note)
    require_data([config])
    return folder, config


def evaluate(arguments: Sequence[str]) -> int:
    """Run `snn-exp eval`."""
    parser = command_parser(
        "eval", "Evaluate a run's weights on the test set again, with other data or another encoding."
    )
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    parser.add_argument("overrides", nargs="*", help="dataset=..., dataset.key=..., encoding=..., encoding.key=...")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp.config import compose
    from snn_exp.runs.find import find_run

    folder = find_run(given.run)
    trained = folder.trained_config()
    for override in given.overrides:
        if override.partition("=")[0].partition(".")[0] not in ("dataset", "encoding"):
            raise UserError(
                f"{override} would change the network of run {folder.path.name}; eval takes dataset=... and "
                f"encoding=... alone, and snn-exp train trains another network"
            )
    config = compose.compose(compose.overrides_of(trained, instead=given.overrides)) if given.overrides else trained
    require_data([config])

    from snn_exp.reporting.summary import evaluation
    from snn_exp.training import load as recall

    say(
        f"run {folder.path.name}: {trained.label}"
        + (f", evaluated on {config.dataset['name']}" if given.overrides else "")
    )
    say(evaluation(recall.evaluate(folder, config), config.energy))
    return 0


def verify(arguments: Sequence[str]) -> int:
    """Run `snn-exp verify`."""
    parser = command_parser("verify", "Train a finished run again, elsewhere, and compare weights and metrics.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    given = parser.parse_args(arguments)

    folder, config = _trained(given.run)
    say(f"run {folder.path.name}: {config.label}; training it again")

    from snn_exp.training import verify as recall

    verdict = recall.verify(folder, config)
    say("\n".join([verdict.finding, *(f"  {reason}" for reason in verdict.reasons)]))
    return 1 if verdict.finding == "different" else 0


def fold(arguments: Sequence[str]) -> int:
    """Run `snn-exp fold`."""
    parser = command_parser("fold", "Write a trained network without its norms, and compare the two.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    parser.add_argument("--int8", action="store_true", help="also with int8 weights: accuracy, flips, size")
    given = parser.parse_args(arguments)

    folder, config = _trained(given.run)

    from snn_exp.export import folded_run

    say(f"run {folder.path.name}: {config.label}")
    say(folded_run.fold_run(folder, config).text())
    if given.int8:
        from snn_exp.export import int8

        say(int8.integer_run(folder, config).text())
    return 0


def export(arguments: Sequence[str]) -> int:
    """Run `snn-exp export`."""
    parser = command_parser("export", "Write a trained network in another format, read it back and compare the two.")
    parser.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    parser.add_argument("--format", required=True, help="onnx, nir or safetensors")
    parser.add_argument("--folded", action="store_true", help="without its norms; fold the run first if necessary")
    given = parser.parse_intermixed_args(arguments)

    from snn_exp import export as exporting

    exporting.require_format(given.format)
    folder, config = _trained(given.run)
    say(f"run {folder.path.name}: {config.label}")
    if given.folded and not folder.folded.exists():
        from snn_exp.export import folded_run

        say(folded_run.fold_run(folder, config).text())
    say(exporting.export_run(folder, config, given.format, folded=given.folded).text())
    return 0
