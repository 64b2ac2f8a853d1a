"""Many runs at once: a Hydra multirun over resolved configs, with whatever launcher is chosen. No torch.

Hydra is handed run ids, not overrides: what was composed and checked is what is trained, no run is handed
over twice, and any list of runs, such as a study's, is a multirun like any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch  # the shortest form of "and as before afterwards"

from pydantic import TypeAdapter
from rich.console import Console

from snn_exp.config import compose
from snn_exp.config.compose import Launcher
from snn_exp.config.experiment import ExperimentConfig, resolve
from snn_exp.config.hydra_settings import quoted
from snn_exp.config.hydra_setup import config_dir
from snn_exp.config.overrides import CONFIG_NAME
from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.files import MAX_JSON, NEEDED_BYTES, write_json
from snn_exp.runs import interrupts
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.lock import Taken, refuse_if_taken
from snn_exp.runs.paths import output_root
from snn_exp.runs.run_files import PlainConfig, Result
from snn_exp.runs.validation import read_validated
from snn_exp.sweeps import cells, progress, workers

if TYPE_CHECKING:
    from omegaconf import DictConfig

Job = Callable[["DictConfig"], Any]

MOST_KILLS = 3  # of a run's process, before it is left as failed


def in_group(configs: Sequence[ExperimentConfig], name: str) -> list[ExperimentConfig]:
    """Return the runs with this W&B group, unless they have one of their own."""
    return [
        config
        if config.logger.group or config.experiment
        else dataclasses.replace(config, logger=dataclasses.replace(config.logger, group=name))
        for config in configs
    ]


def sweep_name(configs: Sequence[ExperimentConfig]) -> str:
    """Return a name for a sweep that stays the same however often it is resumed."""
    return f"sweep {_digest(sorted(config.run_id for config in configs))}"


def _digest(run_ids: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(run_ids).encode()).hexdigest()[:10]


def train_all(
    configs: Sequence[ExperimentConfig],
    console: Console,
    overrides: Sequence[str] = (),
    search: Sequence[str] = (),
    on_finish: Callable[[Result], Any] = lambda result: None,
    names: Mapping[str, str] | None = None,
) -> list[str]:
    """Train the runs, show their progress, and return a sentence for each that did not end.

    Args:
        configs: the runs, each once.
        console: where progress is shown.
        overrides: Hydra's own, such as hydra/launcher=joblib, and the experiment that may hold some.
        search: further folders of configs.
        on_finish: called with each result soon after it is there.
        names: run id -> name of the run; by default the choices that vary between the runs.
    """
    names = names or cells.names(configs)
    damaged = {config.run_id: why for config in configs if (why := RunFolder.of(config).damage())}
    unread = [f"failed {names[run_id]}: {why}" for run_id, why in damaged.items()]
    configs = [config for config in configs if config.run_id not in damaged]
    if not configs:
        return unread
    launcher = ready_launcher(overrides, search)
    jobs = as_jobs(configs)
    ids = [config.run_id for config in configs]
    file = output_root() / "hydra" / f"runs_{_digest(ids)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {f"run_{config.run_id}": config.to_plain() for config in configs})
    log, begun = file.with_suffix(".log"), file.stat().st_mtime
    log.unlink(missing_ok=True)  # of an earlier sweep of these runs
    num_workers = workers.number_of(launcher, len(jobs))
    with progress.watching(configs, console, on_finish, names, num_workers) as watcher:
        failures = _launch({config.run_id: config for config in configs}, jobs, launcher, file)
    if watcher.error is not None:
        failures.append(f"reporting on finished runs failed: {watcher.error}")
    still_open = [c for c in configs if RunFolder.of(c).damage() or not RunFolder.of(c).is_complete(c)]
    return unread + failures + [why_open(names[c.run_id], RunFolder.of(c), log, begun) for c in still_open]


def _launch(
    configs: Mapping[str, ExperimentConfig], jobs: Sequence[Sequence[str]], launcher: Launcher, file: Path
) -> list[str]:
    """Launch the jobs; return why the launcher gave up, if it did.

    When a process of joblib is killed, for lack of memory say, joblib ends all its processes, so that it is unknown
    whose run was at fault. Runs in training resume from their checkpoints together with the remaining ones; a run that
    was hit twice is tried alone, and fails the third time.

    Args:
        configs: run id -> run.
        jobs: run ids of each.
        launcher: what starts them.
        file: of the configs, which every job reads.
    """
    kills: Counter[int] = Counter()
    left, begun = list(range(len(jobs))), file.stat().st_mtime
    while left:
        now = [number for number in left if kills[number] < MOST_KILLS - 1] or left[:1]
        file.touch()
        since = file.stat().st_mtime
        chosen = [
            *launcher.overrides,
            f"+run={','.join('_'.join(['run', *jobs[number]]) for number in now)}",
            f"+runs_file={quoted(str(file.resolve()))}",
        ]
        failures = multirun(launcher, chosen, file.with_suffix(".log"), _job, len(now))
        is_open = {n: any(_is_open(configs[run_id], begun) for run_id in jobs[n]) for n in left}
        hit = [n for n in now if is_open[n] and any(_has_begun(configs[run_id], since) for run_id in jobs[n])]
        if failures and (launcher.name != "joblib" or not hit):
            return failures
        left = [n for n in left if is_open[n] and (failures or n not in now)]
        for number in hit if failures else ():
            kills[number] += 1
            if kills[number] == MOST_KILLS:
                left.remove(number)
                for run_id in jobs[number]:
                    why = f"its process was killed {MOST_KILLS} times, possibly for lack of memory"
                    RunFolder.of(configs[run_id]).fail(why, file.with_suffix(".log").read_text(encoding="utf-8"))
        if failures and left:
            say(f"snn-exp: warning: a process was killed; {len(left)} jobs continue", sys.stderr)
    return []


def _is_open(config: ExperimentConfig, since: float) -> bool:
    """Return whether a run has neither ended nor failed since."""
    folder = RunFolder.of(config)
    return not folder.damage() and not folder.is_complete(config) and not _is_newer(folder.path / "failure.json", since)


def _has_begun(config: ExperimentConfig, since: float) -> bool:
    path = RunFolder.of(config).path
    return any(_is_newer(path / name, since) for name in ("manifest.json", "owner"))


def _is_newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False


def as_jobs(configs: Sequence[ExperimentConfig]) -> list[list[str]]:
    """Return the run ids of each job: one, or with trainer.vectorized_seeds all that differ only in their seed.

    Raises:
        UserError: runs that were to be one job cannot be.
    """
    jobs: dict[tuple[bool, str], list[str]] = {}
    for config in configs:
        key = config.run_id
        if config.trainer.vectorized_seeds:
            from snn_exp.training.seeds import require_stackable

            key = dataclasses.replace(config, seed=0, teacher=None, init_from=None).run_id  # each seed has its own
            if (True, key) not in jobs:
                require_stackable(config)
        jobs.setdefault((config.trainer.vectorized_seeds, key), []).append(config.run_id)
    return list(jobs.values())


def ready_launcher(overrides: Sequence[str], search: Sequence[str] = ()) -> Launcher:
    """Return the chosen launcher, after checking that it can start jobs here.

    Raises:
        UserError: as `compose.launcher_of`, or it is Slurm's and there is no Slurm.
    """
    launcher = compose.launcher_of(overrides, search)
    if launcher.name == "submitit_slurm" and shutil.which("sbatch") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm needs Slurm, and there is no sbatch here; type the command where you submit "
            "jobs, or choose hydra/launcher=joblib"
        )
    return launcher


def multirun(launcher: Launcher, overrides: Sequence[str], log: Path, job: Job, num_jobs: int) -> list[str]:
    """Run a Hydra multirun; return a sentence if its launcher gave up.

    Only our own folder of configs is read: choices from others have been checked, and are in the overrides.

    Args:
        launcher: what starts its jobs.
        overrides: its own, and those for the jobs.
        log: file for the reason why the launcher gave up.
        job: the function that each job runs.
        num_jobs: how many there are.
    """
    arguments = [
        *overrides,
        *(["hydra.output_subdir=null"] if "${" in str(Path(launcher.folder).absolute()) else []),  # resolved by Hydra
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={quoted(launcher.folder)}",
        f"++hydra.job.env_set.SNN_EXP_OUTPUT={quoted(str(output_root().resolve()))}",  # wherever the job runs
    ]
    of_joblib = launcher.name == "joblib"  # it starts processes here, which hear what the terminal says
    with _raising(), interrupts.kept_from_children() if of_joblib else nullcontext():
        workers.warm_up(launcher, num_jobs)
        try:
            run_hydra(arguments, job)
        except interrupts.Interrupted:
            if launcher.name == "submitit_slurm":
                interrupts.note("its jobs stay in the queue of Slurm, until they are done or scancel ends them")
            raise
        except Exception as error:  # the first job that was killed, or what kept all from starting
            log.write_text(traceback.format_exc(), encoding="utf-8")
            if launcher.name == "submitit_slurm":
                _wait_for_slurm(launcher)
            elif launcher.name == "ray":
                _wait_for_ray()
            return [f"the launcher {launcher.name} gave up: {error or type(error).__name__} (log: {log})"]
    return []


@contextmanager
def _raising() -> Iterator[None]:
    """Make Hydra raise errors inside the block instead of printing them and ending the process."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _wait_for_slurm(launcher: Launcher) -> None:
    """Wait for all jobs: the launcher gives up at the first that was killed, while Slurm has others to run."""
    from submitit import SlurmJob

    jobs, ending = launcher.settings["submitit_folder"], "_submitted.pkl"
    for file in Path(jobs.partition("%j")[0]).glob(f"*/*{ending}"):
        SlurmJob(jobs, file.name.removesuffix(ending)).wait()


def _wait_for_ray() -> None:
    """Wait until the workers have been idle at three polls: the launcher gives up as it does on Slurm.

    On a cluster that others use, that is until they are done as well.
    """
    import ray

    idle = 0
    while ray.is_initialized() and idle < 3:
        time.sleep(1)
        free, there = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
        idle = idle + 1 if free == there else 0


def why_open(name: str, folder: RunFolder, launchers_log: Path | None = None, since: float = 0.0) -> str:
    """Return why a run has no result, and a log of it that exists.

    Args:
        name: a name that no other run of the sweep has.
        folder: of the run.
        launchers_log: file with the reason why the launcher gave up, if it did.
        since: start of this sweep, by the clock of the file system; earlier failures are ignored.
    """
    if damage := folder.damage():
        return f"failed {name}: {damage}"
    try:
        refuse_if_taken(folder.path, patient=False)
    except Taken as taken:
        return f"skipped {name}: {taken}"
    failure, log = folder.path / "failure.json", folder.path / "train.log"
    logs: list[Path | None]
    if _is_newer(failure, since):
        error, logs = folder.failure() or "it crashed", [log, failure]
    elif folder.manifest():
        is_full = shutil.disk_usage(folder.path).free < NEEDED_BYTES  # then nobody could store that it is
        error = f"it was stopped before it finished{', and its disk is full' if is_full else ''}"
        logs = [log, launchers_log]
    else:
        error, logs = "it was not started", [launchers_log]
    there = next((f" (log: {file})" for file in logs if file is not None and file.exists()), "")
    return f"failed {name}: {error}{there}"


_HANDED_OVER: TypeAdapter[Mapping[str, Mapping[str, Any]]] = TypeAdapter(dict[str, PlainConfig])


def read_handed_over(path: str | Path) -> Mapping[str, Mapping[str, Any]]:
    """Read the configs that a sweep hands to its jobs, by run_ and the run id.

    Raises:
        Unreadable: it is no such file.
    """
    return read_validated(Path(path), None, _HANDED_OVER.validate_json, "the runs of a sweep", limit=8 * MAX_JSON)


def _job(cfg: DictConfig) -> None:
    """Train one run of a multirun, or several as one."""
    stored = read_handed_over(cfg.runs_file)
    configs = [resolve(stored[f"run_{run_id}"]) for run_id in cfg.run.split("_")[1:]]
    with workers.at_work():
        if len(configs) == 1:
            finish(configs[0])
            return
        from snn_exp.training.seeds import run_in_step

        if open_ones := [config for config in configs if not RunFolder.of(config).is_complete(config)]:
            run_in_step(open_ones)


def finish(
    config: ExperimentConfig, on_epoch: Callable[[int, Mapping[str, float]], bool] | None = None
) -> Result | None:
    """Train a run if it is not done yet; return None if it did not finish. Never ends the process.

    Args:
        config: of the run.
        on_epoch: asked after every epoch whether to stop the run, which then stores that it was pruned.
    """
    folder = RunFolder.of(config)
    if damage := folder.damage():
        say(damage)
        return None
    if not folder.is_complete(config):
        from snn_exp.training.job import run_or_store_failure

        run_or_store_failure(config, on_epoch=on_epoch)
    return folder.result()


def run_hydra(arguments: Sequence[str], job: Job = _job) -> None:
    """Run Hydra's own entry point on our configs.

    Its sweeper composes every job before the first begins, to see whether it can be, which takes 0.1 CPU seconds each.
    Ours are ids of runs that were composed and checked one by one, so that it is left out.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.sweeper import Sweeper

    GlobalHydra.instance().clear()
    with (
        patch.object(sys, "argv", ["snn-exp train", *arguments]),
        patch.object(Sweeper, "validate_batch_is_legal", lambda sweeper, batch: None),
    ):
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(job)()
