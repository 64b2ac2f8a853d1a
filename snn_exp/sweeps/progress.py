"""Show a running sweep: progress is read from the run folders, so it works with any launcher."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.run_files import Result

POLL_S = 1.0


@contextmanager
def watching(
    configs: Sequence[ExperimentConfig],
    console: Console,
    on_finish: Callable[[Result], Any] = lambda result: None,
    names: Mapping[str, str] | None = None,
    num_workers: int = 0,
) -> Iterator[_Watcher]:
    """Show the sweep while the block runs: a live bar in a terminal, a line for each finished run elsewhere.

    Args:
        configs: the runs.
        console: where it is shown.
        on_finish: called with each result soon after it is there, by a thread of its own.
        names: run id -> name of the run; its label by default.
        num_workers: processes that start for the runs, if it is known.

    Yields:
        the watcher; its `error` is what stopped the display or `on_finish`, if anything did.
    """
    names = names or {config.run_id: config.label for config in configs}
    watcher = _Watcher(configs, console, on_finish, names, num_workers)
    thread = threading.Thread(target=watcher.follow, daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        watcher.stop.set()
        thread.join()


SAME_COMMAND = "the same command"


def interrupted_run(config: ExperimentConfig, command: str = SAME_COMMAND) -> str:
    """Return the message for a single run that a signal has stopped.

    Args:
        config: of the run.
        command: the command that resumes it.
    """
    folder, asked = RunFolder.of(config), config.trainer.max_epochs
    if (folder.path / "result.json").exists():
        return f"interrupted; the run is trained, and {command} prints it"
    if folder.last_checkpoint is None:
        return f"interrupted before the end of the first epoch; {command} starts again"
    epochs, batches = _where_it_goes_on(folder)
    if batches:
        return f"interrupted within epoch {epochs + 1} of {asked}; {command} resumes after its step {batches}"
    if not epochs:
        return f"interrupted within epoch 1 of {asked}; {command} resumes from its last checkpoint"
    return f"interrupted after epoch {min(epochs, asked)} of {asked}; {command} resumes from there"


def _where_it_goes_on(folder: RunFolder) -> tuple[int, int]:
    """Return the number of finished epochs at the last checkpoint, and of steps in the next."""
    last = folder.last_checkpoint
    if last is not None and "torch" in sys.modules:  # else this process has written none
        from snn_exp.training import checkpoints

        with contextlib.suppress(Exception):  # it may be damaged, and a sentence is all that depends on it
            return checkpoints.epochs_and_batches(last)
    return len(folder.epochs()), 0


def interrupted_sweep(configs: Sequence[ExperimentConfig], since: float, command: str = SAME_COMMAND) -> str:
    """Return the message for runs that a signal has stopped.

    Args:
        configs: all of the command.
        since: when the command began, as by time.time().
        command: the command that resumes them.
    """
    folders = [RunFolder.of(config) for config in configs]
    done = sum((folder.path / "result.json").exists() for folder in folders)
    begun = sum(_was_in_training(folder, since) for folder in folders)
    return f"interrupted: {done} of {len(configs)} runs done, {begun} in training; {command} resumes from there"


def _was_in_training(folder: RunFolder, since: float) -> bool:
    try:
        begun = (folder.path / "manifest.json").stat().st_mtime >= since
    except OSError:
        return False
    return begun and not any((folder.path / name).exists() for name in ("result.json", "failure.json"))


class _Watcher:
    def __init__(
        self,
        configs: Sequence[ExperimentConfig],
        console: Console,
        on_finish: Callable[[Result], Any],
        names: Mapping[str, str],
        num_workers: int = 0,
    ) -> None:
        self.configs = {config.run_id: config for config in configs}
        self.console = console
        self.on_finish = on_finish
        self.names = names
        self.num_starting = num_workers  # until a run begins
        self.error: Exception | None = None
        self.stop = threading.Event()
        self._begun = time.time()
        self._open = dict(self.configs)

    def follow(self) -> None:
        """Show the sweep until told to stop, or until nothing more can be shown."""
        try:
            self._follow()
        except Exception as error:  # such as a full disk; the runs continue, and who waits for them is told
            self.error = error

    def _follow(self) -> None:
        epochs = sum(config.trainer.max_epochs for config in self.configs.values())
        state, done = TextColumn("{task.description}", markup=False), MofNCompleteColumn()
        columns = (state, BarColumn(), done, TextColumn("epochs"),
                   TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.console, disable=not sys.stdout.isatty()) as bar:
            sweep = bar.add_task("sweep", total=epochs)
            while True:
                last = self.stop.is_set()
                bar.update(sweep, completed=self._look(bar.console), description=self._state())
                if last:
                    return
                self.stop.wait(POLL_S)

    def _state(self) -> str:
        folders = [RunFolder.of(config) for config in self._open.values()]
        if self.num_starting:
            if len(folders) == len(self.configs) and not any(map(self._has_begun, folders)):
                return f"starting {self.num_starting} workers"
            self.num_starting = 0
        failed = sum(map(self._has_failed, folders))
        running = sum(folder.metrics_csv.exists() and not self._has_failed(folder) for folder in folders)
        done = f"{len(self.configs) - len(self._open)} of {len(self.configs)} runs done, {running} running"
        return f"{done}, {failed} failed" if failed else done

    def _has_begun(self, folder: RunFolder) -> bool:
        return _was_in_training(folder, self._begun) or self._has_failed(folder)

    def _has_failed(self, folder: RunFolder) -> bool:
        """Return whether a run failed in this sweep: one that failed in an earlier sweep will be trained again."""
        failure = folder.path / "failure.json"
        return failure.exists() and failure.stat().st_mtime >= self._begun

    def _look(self, console: Console) -> int:
        """Print the runs that finished since the last look; return the number of epochs done."""
        epochs = 0
        for run_id, config in self.configs.items():
            if run_id not in self._open:
                epochs += config.trainer.max_epochs
                continue
            folder = RunFolder.of(config)
            result = folder.sound_result()
            if result is not None:
                del self._open[run_id]
                self.on_finish(result)
                done = len(self.configs) - len(self._open)
                accuracy = result.metrics.get("test/acc", result.metrics.get("val/acc"))
                shown = result.status if accuracy is None else f"{100 * accuracy:.1f} %"
                console.print(
                    f"{time.strftime('%H:%M:%S')}  {done}/{len(self.configs)}  {self.names[run_id]}  {shown}  "
                    f"{result.duration_s:.1f} s",
                    highlight=False,
                    markup=False,
                )
                epochs += config.trainer.max_epochs
            elif folder.metrics_csv.exists():
                epochs += max(0, folder.metrics_csv.read_bytes().count(b"\n") - 1)
        return epochs
