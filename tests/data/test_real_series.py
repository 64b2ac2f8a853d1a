"""The time series in the wheel of aeon, as `make series` brings it; `make real` runs this."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from snn_exp.cli import main
from snn_exp.config import data_files
from snn_exp.config.compose import compose
from snn_exp.data.base import DATASETS, make_dataset
from snn_exp.data.series import ArchivedSeries
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import data_root

pytestmark = pytest.mark.real

SIZES = {  # training and test series, as the archives list them
    "italy_power_demand": (67, 1029),
    "gunpoint": (50, 150),
    "japanese_vowels": (270, 370),
    "basic_motions": (40, 40),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_files_hold_what_the_archive_lists(name: str) -> None:
    cls = DATASETS[name]
    assert cls.is_present(data_root()) and issubclass(cls, ArchivedSeries)
    read = make_dataset(compose([f"dataset={name}"]).dataset, data_root(), 0, cls.image_shape[2])
    assert isinstance(read, ArchivedSeries)
    assert (len(read.train) + len(read.val), len(read.test)) == SIZES[name]
    both = read._both(data_root())
    assert both.length == cls.image_shape[2] and tuple(both.train.counts) == cls.class_counts
    assert read.num_classes == cls.num_classes
    assert "aeon" not in sys.modules


def test_a_file_by_its_path_is_the_data_set_by_its_name() -> None:
    cls = DATASETS["japanese_vowels"]
    (path, _) = data_files.find(cls.checks, data_root(), cls.system_folder).values()
    config = compose(["dataset=series", f"dataset.path={Path(path)}"])
    named, own = (
        make_dataset(d, data_root(), 0, 29) for d in (compose(["dataset=japanese_vowels"]).dataset, config.dataset)
    )
    assert config.num_steps == 29 and named.fingerprint == own.fingerprint
    assert np.array_equal(named.test.samples.numpy(), own.test.samples.numpy())


def test_on_days_of_power_demand_the_order_of_hours_is_what_lif_goes_by() -> None:
    words = ["dataset=italy_power_demand", "network=mlp", "neuron=lif", "encoding.num_steps=4", "depth.num_layers=2"]
    words += ["optim.lr=0.01", "optim.batch_size=16", "trainer.max_epochs=40", "seed=10", "logger=none"]
    found = {}
    for control in ("false", "true"):
        typed = [*words, f"dataset.shuffle_time={control}"]
        assert main.main(["train", *typed, "trainer.progress=false"]) == 0
        result = RunFolder.of(compose(typed)).result()
        assert result is not None
        found[control] = result.metrics["test/acc"]
    assert found["false"] > 0.94 and found["true"] < 0.6
