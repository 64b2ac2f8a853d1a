"""Workers of joblib: in the pool that the launcher gets, with what training imports before their first run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from omegaconf import DictConfig

from snn_exp.cli import main
from snn_exp.config import compose
from snn_exp.sweeps import launch, workers

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture
def no_pool_is_left() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def children() -> set[int]:
    """Processes that this one has started and that work for joblib."""
    found = psutil.Process().children()
    return {child.pid for child in found if any("popen_loky" in word for word in child.cmdline())}


@pytest.mark.usefixtures("no_pool_is_left")
def test_the_launcher_gets_the_workers_that_were_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "import_what_trains", os.getpid)
    launcher = compose.launcher_of(JOBLIB)
    settings = {key: value for key, value in launcher.settings.items() if key != "_target_"}
    workers._import_in_each(settings, workers.number_of(launcher, 5))
    warmed = children()
    assert len(warmed) == 2
    ran_in = Parallel(**{**settings, "backend": "loky"})(delayed(os.getpid)() for _ in range(4))
    assert set(ran_in) <= warmed and children() == warmed


def test_a_sweep_without_joblib_or_of_one_process_warms_up_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_import_in_each", lambda *_: pytest.fail("it starts some"))
    for overrides in [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1")]:
        workers.warm_up(compose.launcher_of(overrides), 5)
    workers.warm_up(compose.launcher_of(JOBLIB), 0)


def noting_job(cfg: DictConfig) -> None:
    """Note whether Lightning was there before the run, and store a result."""
    (Path(os.environ["SNN_EXP_OUTPUT"]) / f"job {cfg.run}").write_text(str("pytorch_lightning" in sys.modules))
    from snn_exp.training import train  # not at the top of this file, which a worker imports
    from tests import stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run", lambda config, **_: stored.store_of(config))
        job(cfg)


job = launch._job


@pytest.mark.killed
@pytest.mark.usefixtures("no_pool_is_left")
def test_no_run_of_a_sweep_waits_for_imports(monkeypatch: pytest.MonkeyPatch, output: Path) -> None:
    monkeypatch.setattr(launch, "_job", noting_job)
    assert main.main(["train", "-m", "seed=range(4)", "logger=none", *JOBLIB]) == 0
    assert [file.read_text() for file in output.glob("job *")] == ["True"] * 4
