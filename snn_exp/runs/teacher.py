"""The finished run that teaches another. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from snn_exp.config import schemas
from snn_exp.config.constraints import RUN_ID
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.runs.find import is_there
from snn_exp.runs.folder import DamagedRun, RunFolder
from snn_exp.runs.paths import output_root

NONE_COMING: Mapping[str, ExperimentConfig] = {}


def teacher_of(config: ExperimentConfig, coming: Mapping[str, ExperimentConfig] = NONE_COMING) -> RunFolder | None:
    """Return the finished run that teaches this one; None if it has no teacher.

    Args:
        config: of the run that is taught.
        coming: run id -> config of those that will have been trained by then, which need not be finished yet.

    Raises:
        UserError: there is no such run, it has no weights, or it has learned on other data, another split or seed, or
            from other steps of data with time.
    """
    if config.teacher is None:
        return None
    folder, theirs = named_run("teacher", config.teacher, coming)
    for key, value in config.dataset.items():
        if theirs.dataset.get(key) != value:
            raise UserError(
                f"teacher={config.teacher} was trained on other data: dataset.{key} is {theirs.dataset.get(key)} there "
                f"and {value} here; choose a teacher of the same data, or train one"
            )
    if theirs.seed != config.seed:
        raise UserError(
            f"teacher={config.teacher} has seed={theirs.seed} and so another split: it may have learned what is "
            f"validated here; choose a teacher of seed={config.seed}, or give the teacher as overrides"
        )
    has_time = schemas.load()["dataset"][str(config.dataset["name"])].traits["has_time"]
    if has_time and theirs.num_steps != config.num_steps:
        raise UserError(
            f"teacher={config.teacher} reads {theirs.num_steps} steps of a sample, and both would read the "
            f"{config.num_steps} of this run; choose a teacher with encoding.num_steps={config.num_steps}"
        )
    return folder


def named_run(
    key: str, run_id: str, coming: Mapping[str, ExperimentConfig] = NONE_COMING
) -> tuple[RunFolder, ExperimentConfig]:
    """Return the run that a config names under a key, teacher or init_from, and its config.

    Args:
        key: the key.
        run_id: what stands there.
        coming: as in `teacher_of`.

    Raises:
        UserError: there is no such run, or it has no weights.
    """
    folder = RunFolder(output_root() / "runs" / run_id)
    if run_id in coming:
        return folder, coming[run_id]
    if not RUN_ID.fullmatch(run_id) or not is_there(folder.path / "manifest.json"):
        raise UserError(f"{key}={run_id} is not a run in {folder.path.parent}; train it first")
    try:
        return folder, folder.trained_config()
    except DamagedRun:
        raise
    except UserError as error:
        raise UserError(f"{key}={run_id} cannot be taken: {error}") from None


def require_the_split(key: str, folder: RunFolder, config: ExperimentConfig, fingerprint: str) -> None:
    """Refuse a named run whose data are these by its config, and whose split nevertheless was another.

    Args:
        key: what names it, teacher or init_from.
        folder: of the run that is named.
        config: of the run that names it.
        fingerprint: of the split of its data as they are now.

    Raises:
        UserError: with both splits.
    """
    theirs = folder.trained_config()
    has_time = schemas.load()["dataset"][str(config.dataset["name"])].traits["has_time"]
    is_same = all(theirs.dataset.get(name) == value for name, value in config.dataset.items())
    if not is_same or theirs.seed != config.seed or (has_time and theirs.num_steps != config.num_steps):
        return
    if other := next((stored for stored in folder.split_fingerprints() if stored != fingerprint), None):
        raise UserError(
            f"{key}={folder.path.name} was trained on another split, although its config is the same: {other[:8]}, and "
            f"the data at hand give {fingerprint[:8]}; the data or the split have changed since, so it may have seen "
            f"validation samples; put the old data back, or train it again with --rerun"
        )
