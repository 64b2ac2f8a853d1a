"""Finished runs of a study that are done again, and whether each matches its committed row. No torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from snn_exp.errors import UserError
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.row import Row, disagreement
from snn_exp.studies.runner import Progress, StudyRun, stored_row
from snn_exp.studies.spec import matches

ALIKE = 1e-3  # relative, of a repeated run's epochs while both round the same way


def sample_of_finished(progress: Progress, num_runs: int, only: str = "*") -> list[StudyRun]:
    """Select finished final runs, evenly over the study, to be repeated, and set their folders aside.

    A run whose stored row was computed without fused kernels is repeated without them, since these round differently.

    Args:
        progress: of the study.
        num_runs: how many at most.
        only: a pattern SETTING/METHOD.

    Raises:
        UserError: none has finished.
    """
    finished = [run for run in progress.finals if run.config.run_id in progress.ledger.rows and matches(run.key, only)]
    if not finished:
        raise UserError(
            f"study {progress.study.name} has no finished run of {only} to repeat; type snn-exp study "
            f"{progress.study.name} --plan to see what is done"
        )
    step = max(1, len(finished) // max(1, num_runs))
    sample = finished[::step][:num_runs]
    for run in sample:
        RunFolder.of(run.config).set_aside()
    return [_as_it_was_done(run, progress.ledger.rows[run.config.run_id]) for run in sample]


def best_finished(progress: Progress, only: str = "*") -> StudyRun:
    """Return the finished final run with the highest validation accuracy, to be trained again for its weights.

    The test set has no part in it; ties go to the lower validation loss. A stored run that has its weights stays as it
    is, and one without them is set aside.

    Args:
        progress: of the study.
        only: a pattern SETTING/METHOD.

    Raises:
        UserError: none has finished.
    """
    rows = progress.ledger.rows
    done = [
        run
        for run in progress.finals
        if run.config.run_id in rows and rows[run.config.run_id].done and matches(run.key, only)
    ]
    if not done:
        raise UserError(
            f"study {progress.study.name} has no finished run of {only} to rebuild; type snn-exp study "
            f"{progress.study.name} --plan to see what is done"
        )

    def merit(run: StudyRun) -> tuple[float, float]:
        metrics = rows[run.config.run_id].result.metrics
        return metrics["val/acc"], -metrics["val/loss"]

    best = max(done, key=merit)
    folder = RunFolder.of(best.config)
    if stored_row(folder) is not None and not folder.weights.is_file():
        folder.set_aside()
    return _as_it_was_done(best, rows[best.config.run_id])


def _as_it_was_done(run: StudyRun, row: Row) -> StudyRun:
    """Return the run with plain kernels if its row was computed with them; a row without a record is that old."""
    if row.execution.get("trainer", {}).get("kernels", "reference") != "reference":
        return run
    trainer = dataclasses.replace(run.config.trainer, kernels="reference")
    return dataclasses.replace(run, config=dataclasses.replace(run.config, trainer=trainer))


def confirmations(progress: Progress, again: Sequence[StudyRun]) -> list[str]:
    """Return a sentence for each repeated run that matches its stored row; `contradictions` names the others.

    Args:
        progress: of the study.
        again: the runs that were repeated.
    """
    found = []
    for run in again:
        stored, row = progress.ledger.rows[run.config.run_id], _repeated(progress, run)
        if row is None or _disagreement(progress, run, stored, row):
            continue
        was, now = stored.result.metrics, row.result.metrics
        differing = [key for key in was if was[key] != now.get(key)]
        metric = progress.study.metric
        how = f"all {len(was)} metrics are equal"
        if differing:
            how = f"{len(was) - len(differing)} of {len(was)} metrics are equal, {_in_step(stored, row)}"
            if metric in differing and metric in now:
                how += f", and {metric} {now[metric]:.4f} is as near the {was[metric]:.4f} stored as two seeds are"
        found.append(f"repeated {run.name} (run {run.config.run_id}): {how}")
    return found


def contradictions(progress: Progress, runs: Sequence[StudyRun] | None = None) -> list[str]:
    """Return a sentence for each run that was repeated and does not match its stored row.

    Args:
        progress: of the study.
        runs: those to look at; all of the study if left out.
    """
    found = []
    for run in runs if runs is not None else (*progress.trials, *progress.finals):
        stored, row = progress.ledger.rows.get(run.config.run_id), _repeated(progress, run)
        if stored and row and (sentence := _disagreement(progress, run, stored, row)):
            found.append(f"{sentence}; {_in_step(stored, row)}")
    return found


def _in_step(stored: Row, again: Row) -> str:
    """Say for how many epochs two runs agree, which tells a rounding that grew from another network or other data."""
    pairs = [list(zip(curve, again.curves.get(key, ()), strict=False)) for key, curve in stored.curves.items()]
    last = max(map(len, stored.curves.values()), default=0)
    agreed = (
        sum(itertools.takewhile(bool, (math.isclose(was, now, rel_tol=ALIKE) for was, now in curve))) for curve in pairs
    )
    return f"the first {min(agreed, default=0)} of {last} epochs agree within {ALIKE:.1%}"


def rebuilt(progress: Progress, run: StudyRun) -> list[str]:
    """Return what a person can do with a run that `best_finished` chose and that has been trained, in lines."""
    run_id = run.config.run_id
    metrics = progress.ledger.rows[run_id].result.metrics
    first = f"best on validation data: {run.name}, run {run_id}, val/acc {metrics['val/acc']:.4f}"
    if "test/acc" in metrics:
        first += f", test/acc {metrics['test/acc']:.4f}"
    next_ = (f"eval {run_id}", f"fold {run_id}", f"export {run_id} --format safetensors")
    return [first, *(f"  snn-exp {command}" for command in next_)]


def _repeated(progress: Progress, run: StudyRun) -> Row | None:
    """Return the row of a run's folder if it was trained at another time than the stored row."""
    stored, row = progress.ledger.rows.get(run.config.run_id), stored_row(RunFolder.of(run.config))
    is_another = stored and row and row.result.finished_at != stored.result.finished_at
    return row if is_another else None


def _disagreement(progress: Progress, run: StudyRun, stored: Row, again: Row) -> str | None:
    metric = progress.study.metric
    cell = progress.rows_of(run.key).values()
    spread = [row.result.metrics[metric] for row in cell if metric in row.result.metrics]
    return disagreement(stored, again, metric, spread)
