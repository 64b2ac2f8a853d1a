"""What a person sees of a running sweep: read from the run folders, so it works with any launcher."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snn_exp.config import ExperimentConfig
from snn_exp.results import Result, RunFolder

POLL_S = 1.0


@contextmanager
def watching(
    configs: Sequence[ExperimentConfig],
    console: Console,
    on_finish: Callable[[Result], Any] = lambda result: None,
) -> Iterator[None]:
    """Shows the sweep while the block runs: a live bar in a terminal, a line for each finished run elsewhere.

    Args:
        configs: the runs.
        console: where it is shown.
        on_finish: called with each result soon after it is there, by a thread of its own.
    """
    watcher = _Watcher(configs, console, on_finish)
    thread = threading.Thread(target=watcher.follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        watcher.stop.set()
        thread.join()


class _Watcher:
    def __init__(
        self, configs: Sequence[ExperimentConfig], console: Console, on_finish: Callable[[Result], Any]
    ) -> None:
        self.configs = {config.run_id: config for config in configs}
        self.console = console
        self.on_finish = on_finish
        self.stop = threading.Event()
        self._begun = time.time()
        self._open = dict(self.configs)

    def follow(self) -> None:
        epochs = sum(config.trainer.max_epochs for config in self.configs.values())
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
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
        failed = sum(map(self._has_failed, folders))
        running = sum(folder.metrics_csv.exists() and not self._has_failed(folder) for folder in folders)
        done = f"{len(self.configs) - len(self._open)} of {len(self.configs)} runs done, {running} running"
        return f"{done}, {failed} failed" if failed else done

    def _has_failed(self, folder: RunFolder) -> bool:
        """In this sweep: what failed in an earlier one waits to be trained again."""
        failure = folder.path / "failure.json"
        return failure.exists() and failure.stat().st_mtime >= self._begun

    def _look(self, console: Console) -> int:
        """Says what has finished since the last look; the number of epochs done."""
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
                    f"{time.strftime('%H:%M:%S')}  {done}/{len(self.configs)}  {config.label}  {shown}  "
                    f"{result.duration_s:.1f} s",
                    highlight=False,
                )
                epochs += config.trainer.max_epochs
            elif folder.metrics_csv.exists():
                epochs += max(0, folder.metrics_csv.read_bytes().count(b"\n") - 1)
        return epochs
