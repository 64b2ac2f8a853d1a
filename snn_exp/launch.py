"""Many runs at once: a Hydra multirun over resolved configs, with whatever launcher is chosen. No torch.

Hydra is handed run ids, not overrides: what was composed and checked is what is trained, no run is handed
over twice, and any list of runs, such as a study's, is a multirun like any other.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from snn_exp import compose, progress
from snn_exp.config import ExperimentConfig, resolve
from snn_exp.ownership import Taken, refuse_if_taken
from snn_exp.results import Result, RunFolder, output_root, read_json, write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train_all(
    configs: Sequence[ExperimentConfig],
    console: Console,
    overrides: Sequence[str] = (),
    search: Sequence[str] = (),
    on_finish: Callable[[Result], Any] = lambda result: None,
) -> list[str]:
    """Trains the runs, shows their progress, and says which of them did not end.

    Args:
        configs: the runs, each once.
        console: where progress is shown.
        overrides: Hydra's own, such as hydra/launcher=joblib, and the experiment that may hold some.
        search: further folders of configs.
        on_finish: called with each result soon after it is there.
    """
    if not configs:
        return []
    ids = [config.run_id for config in configs]
    file = output_root() / "hydra" / f"runs_{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:10]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {f"run_{config.run_id}": config.to_plain() for config in configs})
    chosen = [f"+run={','.join(f'run_{run_id}' for run_id in ids)}", f"+runs_file='{file.resolve()}'"]
    with progress.watching(configs, console, on_finish):
        run_hydra(
            [*overrides, "hydra.mode=MULTIRUN", "hydra.sweeper.params=null", *chosen]
            + [flag for folder in search for flag in ("--config-dir", folder)]
        )
    folders = {config.label: RunFolder.of(config) for config in configs}
    return [_why_open(label, folder) for label, folder in folders.items() if folder.result() is None]


def _why_open(label: str, folder: RunFolder) -> str:
    try:
        refuse_if_taken(folder.path)
    except Taken as taken:
        return f"left alone {label}: {taken}"
    return f"failed {label}: {folder.failure() or 'it was stopped before it ended'} (log: {folder.path / 'train.log'})"


def run_hydra(arguments: Sequence[str]) -> None:
    """Hydra's own entry, on our configs."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    before = sys.argv
    sys.argv = ["snn-exp train", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(compose.config_dir()), config_name=compose.CONFIG_NAME)(_job)()
    finally:
        sys.argv = before


def _job(cfg: DictConfig) -> None:
    """One run of a multirun; never ends the process."""
    config = resolve(read_json(cfg.runs_file)[cfg.run])
    if not RunFolder.of(config).is_complete(config):
        from snn_exp.train import run_or_store_failure

        run_or_store_failure(config)
