"""The whole Fashion-MNIST, as `make data` brings it; `make real` runs this."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.data.torchvision import FashionMNIST
from snn_exp.runs.folder import RunFolder
from snn_exp.runs.paths import data_root

pytestmark = pytest.mark.real

# when the published files were packed, and their sums, as torchvision has them
PUBLISHED = {
    "train-images-idx3-ubyte": (1504176606, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1-ubyte": (1504176606, "25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3-ubyte": (1504176627, "bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1-ubyte": (1504176627, "bb300cfdad3c16e7a12a480ee83cd310"),
}
SHORT = (
    "dataset=fashion_mnist", "method=s2nn_bn", "dataset.num_train=10000", "network.width=8", "trainer.max_epochs=2",
    "logger=none",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_packed_files_are_the_published_ones_but_for_name_and_time(name: str) -> None:
    file = Path(FashionMNIST.system_folder) / f"{name}.gz"
    if not file.exists():
        pytest.skip("Debian's package is not installed; the files were fetched, and torchvision has compared the sums")
    packed, (time, md5) = file.read_bytes(), PUBLISHED[name]
    head = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + packed[8:10] + name.encode() + b"\0"
    assert hashlib.md5(head + packed[10:]).hexdigest() == md5
    content = hashlib.sha256(gzip.decompress(packed)).hexdigest()
    assert FashionMNIST.checks[f"FashionMNIST/raw/{name}"] == f"sha256:{content}"


def test_a_short_training_on_the_real_files_beats_chance_by_far() -> None:
    assert FashionMNIST.is_present(data_root())
    assert main.main(["train", *SHORT]) == 0
    result = RunFolder.of(compose(SHORT)).result()
    assert result is not None and result.metrics["test/acc"] > 0.5
