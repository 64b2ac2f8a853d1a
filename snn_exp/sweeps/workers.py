"""The processes of joblib that work on a sweep: how they start, and how they end with it. No torch.

Hydra's launcher asks joblib for a pool of processes, which joblib keeps and hands out again for the same settings. So a
pool that is asked for before, with a task per worker that imports what training needs, is the one that the runs get;
later sweeps of the same command, as those of a study, get it too.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from snn_exp.config.compose import Launcher

_at_work = threading.Lock()


def number_of(launcher: Launcher, num_jobs: int) -> int:
    """Return how many processes of joblib work on so many jobs; 0 where they are done here, or by another launcher.

    Example:
        >>> number_of(Launcher("joblib", {"n_jobs": 4}, ""), 3), number_of(Launcher("basic", {}, ""), 3)
        (3, 0)
    """
    if launcher.name != "joblib":
        return 0
    from joblib import effective_n_jobs

    at_once: int = effective_n_jobs(launcher.settings["n_jobs"])
    return min(at_once, num_jobs) if at_once > 1 else 0


def warm_up(launcher: Launcher, num_jobs: int) -> None:
    """Start the workers of joblib, each with what training imports, and return before they have.

    It fails silently: what keeps workers from starting keeps the launcher from it as well, which says so.

    Args:
        launcher: with its settings, on which it depends whether the pool is the one that its runs get.
        num_jobs: that will be launched.
    """
    if num_workers := number_of(launcher, num_jobs):
        settings = {key: value for key, value in launcher.settings.items() if not key.startswith("_")}
        threading.Thread(target=_import_in_each, args=(settings, num_workers), daemon=True).start()


def _import_in_each(settings: Mapping[str, Any], num_workers: int) -> None:
    with contextlib.suppress(Exception):
        from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
        from joblib import Parallel, delayed

        of_launcher = {**settings, "backend": "loky", "verbose": 0}
        process_joblib_cfg(of_launcher)
        Parallel(**of_launcher)(delayed(import_what_trains)() for _ in range(num_workers))


def import_what_trains() -> None:
    """Import torch, Lightning and all that a run needs, in a worker."""
    _watch_the_sweep()
    _may_grow()
    from snn_exp.training import job  # noqa: F401


def _may_grow() -> None:
    """Keep joblib from taking a worker for leaking that has 300 MB more after its first run than after this task.

    It would end it and start another. A process of snn-exp keeps freed memory on purpose (`cli/allocator.py`).
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = psutil.virtual_memory().total


@contextmanager
def at_work() -> Iterator[None]:
    """Mark a job inside the block; its process ends after it if the sweep was killed meanwhile."""
    _watch_the_sweep()
    with _at_work:
        yield


@functools.cache
def _watch_the_sweep() -> None:
    """End a joblib worker once its sweep is gone and it is idle.

    By itself it would begin with the runs that were handed to it beforehand, and then wait for more for five
    minutes, with all its memory.
    """
    sweep = multiprocessing.parent_process()
    if sweep is not None:
        threading.Thread(target=_end_after, args=(sweep.pid,), daemon=True).start()


def _end_after(sweep: int | None) -> None:
    while os.getppid() == sweep:
        time.sleep(1)
    with _at_work:
        os._exit(0)
