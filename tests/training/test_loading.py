"""Whether a run says that it waits for its data."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from snn_exp.config.compose import compose
from snn_exp.data import own
from snn_exp.data.on_disk import SplitOnDisk
from snn_exp.data.split import Split
from snn_exp.runs.folder import RunFolder
from snn_exp.training import loading
from snn_exp.training.train import run
from tests.data.test_own_files import TINY, write_pictures


@pytest.mark.parametrize("where", ["memory", "disk", "fast"])
def test_a_run_that_waits_for_its_data_says_so_once_and_what_would_help(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: type[Split] = SplitOnDisk if where == "disk" else Split
    take = kind.take

    def slowly(split: Split, indices: torch.Tensor) -> torch.Tensor:
        time.sleep(0.0 if where == "fast" else 0.2)
        return take(split, indices)

    monkeypatch.setattr(kind, "take", slowly)
    monkeypatch.setattr(loading, "LEAST_S", 0.1)
    if where == "disk":
        monkeypatch.setattr(own, "MIB", 1)
    folder = write_pictures(tmp_path / "pictures")
    few = ("dataset.memory_mib=1", "optim.batch_size=8", "trainer.max_epochs=2", "trainer.test=false")
    config = compose(["dataset=images", f"dataset.path={folder}", *TINY, *few])
    run(config, echo=False)
    said = (RunFolder.of(config).path / "train.log").read_text().splitlines()
    found = [line for line in said if "waiting for data" in line]
    if where == "fast":
        assert not found
        return
    advice = {
        "disk": "the samples stay on disk: type dataset.memory_mib=2592 to hold them in memory",
        "memory": "the samples are in memory, so it is their augmentation; augment=none shows what it costs",
    }[where]
    assert len(found) == 1 and "warning, epoch 1: " in found[0] and found[0].endswith(advice)
