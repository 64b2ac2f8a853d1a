"""Data with time: the digits seen by a camera, and the real recordings of each set in miniature."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import torch

from snn_exp.cli import main
from snn_exp.config.compose import compose
from snn_exp.data import DATASETS
from snn_exp.data.digits import Digits
from snn_exp.data.event_camera import POSITIONS_A_SACCADE, SACCADE_US, binned, film, sense
from snn_exp.data.events import CIFAR10DVS, NMNIST, DigitsDVS, DVSGesture, TonicDataset, permutations
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.training import train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that keeps the cache of this file's tests."""
    return tmp_path_factory.mktemp("data")


def seen(root: Path, seed: int = 0, num_steps: int = 4, **parameters: Any) -> DigitsDVS:
    return DigitsDVS(root, seed, num_steps, **parameters)


def parts(data: Any) -> list[Split]:
    return [data.train, data.val, data.test]


# digits_dvs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [1, 4, 7])
def test_a_sample_has_steps_polarities_and_a_size(root: Path, num_steps: int) -> None:
    data = seen(root, num_steps=num_steps)
    assert data.sample_shape == (num_steps, 2, 10, 10)
    assert data.in_shape == (2, 10, 10)
    assert [len(part) for part in parts(data)] == [1078, 269, 450]
    assert data.train.samples.dtype == torch.int16


@pytest.mark.parametrize("seed", [0, 3])
def test_the_parts_are_those_of_the_digits_sample_by_sample(root: Path, seed: int) -> None:
    images, events = Digits(root, seed), seen(root, seed)
    for part_of_images, part_of_events in zip(parts(images), parts(events), strict=True):
        assert torch.equal(part_of_images.labels, part_of_events.labels)
        pictures = film(part_of_images.samples[:, 0].double().numpy(), size=10, amplitude=1.0, darkness=0.1)
        stream = sense(pictures, threshold=0.3, step_us=SACCADE_US // POSITIONS_A_SACCADE)
        assert torch.equal(torch.from_numpy(binned(stream, 4, 10, 10)), part_of_events.samples)


def test_another_camera_or_number_of_steps_sees_the_same_digits_otherwise(root: Path) -> None:
    one = seen(root)
    for other in (seen(root, threshold=0.6), seen(root, amplitude=0.5), seen(root, darkness=0.3)):
        assert torch.equal(one.train.labels, other.train.labels)
        assert not torch.equal(one.train.samples, other.train.samples)
    assert torch.equal(one.train.samples.sum(1), seen(root, num_steps=1).train.samples[:, 0])


def test_made_twice_it_is_the_same_to_the_last_bit_and_so_is_what_the_cache_returns(tmp_path: Path) -> None:
    fresh, again = seen(tmp_path / "a"), seen(tmp_path / "b")
    assert len(list((tmp_path / "a" / "cached").glob("digits_dvs-*.npz"))) == 1
    assert fresh.fingerprint == again.fingerprint == seen(tmp_path / "a").fingerprint
    assert torch.equal(fresh.test.samples, again.test.samples)


def test_the_pixels_are_read_as_counts(root: Path) -> None:
    data = seen(root)
    assert (data.pixel_mean, data.pixel_std) == (0, 1)
    assert data.train.samples.max() > 1
    binary = seen(root, frames="binary")
    assert torch.equal(binary.train.samples, (data.train.samples > 0).short())


def test_shuffled_time_keeps_the_counts_and_loses_the_order(root: Path) -> None:
    plain, shuffled = seen(root), seen(root, shuffle_time=True)
    moved = 0
    for one, other in zip(parts(plain), parts(shuffled), strict=True):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.samples.sum(1), other.samples.sum(1))
        assert torch.equal(one.samples.sort(dim=1).values, other.samples.sort(dim=1).values)
        moved += int((one.samples != other.samples).flatten(1).any(1).sum())
    assert moved / 1797 == pytest.approx(23 / 24, abs=0.02), "one order in 24 is the right one"
    assert torch.equal(shuffled.test.samples, seen(root, seed=5, shuffle_time=True).test.samples), "for every seed"


def test_every_order_of_the_steps_occurs_equally_often() -> None:
    drawn, counts = np.unique(permutations(2400, 4), axis=0, return_counts=True)
    assert len(drawn) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 44.2, "chi square with 23 degrees of freedom, 0.5 %"


def test_saccades_that_leave_no_room_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.amplitude=5\.0 leaves no room .* dataset\.size=10; .* below half"):
        seen(root, amplitude=5.0)


@pytest.mark.parametrize("neuron", ["lif", "s2nn"])
def test_a_network_trains_on_it(neuron: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    monkeypatch.setenv("SNN_EXP_DATA", str(root))
    config = compose([f"neuron={neuron}", "dataset=digits_dvs", "network.width=4", "trainer.max_epochs=1", "logger=none",
                      "trainer.progress=false"])  # fmt: skip
    result = train.run(config, echo=False)
    assert result.status == "done"
    assert config.num_steps == (4 if neuron == "lif" else 1)
    stem = config.num_steps * 2 * 4 * 9 * 100
    assert result.metrics["macs_dense"] > stem, "counted over all steps of a sample"
    for split in ("val", "test"):
        assert result.metrics[f"{split}/synops_dense"] == result.metrics["macs_dense"]
        first = next(iter(result.operations[split].values()))
        assert 0 < first["ac"] + first["mac"] < first["dense"], "pixels that saw nothing cost nothing"
    assert result.layers.keys() == {"init", "trained"}
    assert all(norm > 0 for norm in result.layers["init"]["gradient_norm"])
    assert 0 < result.metrics["test/acc"] <= 1


def test_show_prints_the_shapes_of_all_steps(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_EXP_DATA", str(root))
    assert main.main(["show", "dataset=digits_dvs", "network.width=8"]) == 0
    text = capsys.readouterr().out
    assert "name: frames" in text and "(4, 1, 8, 10, 10)" in text
    assert "untrained, one validation batch" in text


# the real files in miniature ------------------------------------------------------------------------------

Recording = npt.NDArray[Any]  # events with t (microseconds), x, y, p, in the order of time
Written = dict[Path, tuple[Recording, int]]  # file -> its events and label
EVENT = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])


def recording(rng: np.random.Generator, sensor_size: int) -> Recording:
    events = np.zeros(60, EVENT)
    events["t"] = np.sort(rng.integers(3000, 300_000, 60)) // 1000 * 1000  # dvs_gesture keeps milliseconds
    events["x"], events["y"] = rng.integers(sensor_size, size=(2, 60))
    events["p"] = rng.random(60) < 0.5
    return events


def bin_of(events: Recording) -> bytes:
    """N-MNIST: 5 bytes an event: x, y, polarity in the highest bit of 23 bits of time; y = 240 is an overflow."""
    found, passed = b"", 0
    for t, x, y, p in events.tolist():
        while t - passed >= 2**17:  # the overflow mark stands for 2^13
            passed += 2**13
            found += bytes([0, 240, 0, 0, 0])
        found += bytes([x, y]) + (p << 23 | (t - passed)).to_bytes(3, "big")
    return found


def aedat4_of(events: Recording) -> bytes:
    """AEDAT 4: a line, a header with the streams, and a packet of events; both are flatbuffers with their size."""
    attributes = '<attr key="compression" type="string">NONE</attr><attr key="typeIdentifier" type="string">EVTS</attr>'
    sizes = '<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr>'
    info = f'<node name="info" path="/outInfo/0/info/">{sizes}</node>'
    stream = f'<node name="0" path="/outInfo/0/">{attributes}{info}</node>'
    xml = f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{stream}</node></dv>'.encode()
    # root, identifier, table of fields (its size, the table's size, offsets), padding, table
    header = struct.pack("<I4s5H2xiiIqI", 20, b"IOHE", 10, 20, 4, 12, 8, 12, 0, 12, -1, len(xml)) + xml + b"\0"
    elements = np.zeros(len(events), np.dtype([*EVENT.descr, ("padding", "V3")]))
    for name in EVENT.names or ():
        elements[name] = events[name]
    packet = struct.pack("<I4s3H2xiI4xI", 16, b"EVTS", 6, 8, 4, 8, 8, len(events)) + elements.tobytes()
    body = struct.pack("<I", len(packet)) + packet
    packet_header = struct.pack("<ii", 0, len(body))
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + packet_header + body


def write_nmnist(root: Path) -> Written:
    rng, written = np.random.default_rng(0), {}
    for part, many in (("Train", 5), ("Test", 2)):
        for label in range(10):
            for k in range(many):
                path = root / "NMNIST" / part / str(label) / f"{k:05}.bin"
                written[path] = recording(rng, 34), label
    for path, (events, _) in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bin_of(events))
    return written


def write_gestures(root: Path) -> Written:
    rng, written = np.random.default_rng(0), {}
    for part, persons in (("Train", range(1, 6)), ("Test", (24, 25))):
        for person in persons:
            folder = root / "DVSGesture" / f"ibmGesture{part}" / f"user{person:02}_fluorescent_led"
            folder.mkdir(parents=True)
            for label in range(11):
                events = recording(rng, 128)
                x, y, p, t = (events[name].astype(np.int64) for name in "xypt")
                np.save(folder / f"{label}.npy", np.stack([x, y, p, t // 1000], axis=1))
                written[folder / f"{label}.npy"] = events, label
    return written


def write_cifar(root: Path) -> Written:
    rng, written = np.random.default_rng(0), {}
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for label, name in enumerate(names):
        (root / "CIFAR10DVS" / name).mkdir(parents=True)
        for k in range(8):
            path = root / "CIFAR10DVS" / name / f"cifar10_{name}_{k}.aedat4"
            written[path] = recording(rng, 128), label
            path.write_bytes(aedat4_of(written[path][0]))
    return written


REAL: dict[str, tuple[type[TonicDataset], Callable[[Path], Written]]] = {
    "nmnist": (NMNIST, write_nmnist),
    "dvs_gesture": (DVSGesture, write_gestures),
    "cifar10_dvs": (CIFAR10DVS, write_cifar),
}


@pytest.fixture
def tonic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """tonic, content with few files and without a network."""
    pytest.importorskip("aedat", reason="type pip install 'snn-exp[events]'")
    found = pytest.importorskip("tonic", reason="type pip install 'snn-exp[events]'")

    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(found.dataset, "download_and_extract_archive", unreachable)
    complete = found.Dataset._folder_contains_at_least_n_files_of_type
    monkeypatch.setattr(
        found.Dataset, "_folder_contains_at_least_n_files_of_type", lambda self, n, kind: complete(self, 2, kind)
    )
    return found


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, tonic: Any, tmp_path: Path) -> tuple[type[TonicDataset], Path, Written]:
    cls, write = REAL[request.param]
    return cls, tmp_path / "data", write(tmp_path / "data")


def counted(events: Recording, num_steps: int, size: int, sensor_size: int) -> npt.NDArray[np.int16]:
    """One event at a time."""
    frames = np.zeros((num_steps, 2, size, size), dtype=np.int16)
    first, last = int(events["t"].min()), int(events["t"].max())
    for t, x, y, p in events.tolist():
        step = (t - first) * num_steps // (last - first + 1)
        frames[step, int(p), y * size // sensor_size, x * size // sensor_size] += 1
    return frames


def test_every_data_set_read_by_tonic_is_read_here_from_real_files() -> None:
    assert set(REAL) == {name for name in DATASETS if issubclass(DATASETS[name], TonicDataset)}


def test_events_and_labels_come_through_exactly(real: tuple[type[TonicDataset], Path, Written]) -> None:
    cls, root, written = real
    size = 17 if cls is NMNIST else 16
    data = cls(root, 0, 3, size=size, val_fraction=0.2)
    assert data.is_present(root)
    assert data.sample_shape == (3, 2, size, size)
    found = [
        (x.numpy().tobytes(), int(y)) for part in parts(data) for x, y in zip(part.samples, part.labels, strict=True)
    ]
    expected = [(counted(events, 3, size, cls.sensor_size).tobytes(), label) for events, label in written.values()]
    assert sorted(found) == sorted(expected)
    assert int(data.test.labels.max()) + 1 == data.num_classes


def test_an_official_test_set_is_the_test_part_and_otherwise_split_seed_draws_one(
    real: tuple[type[TonicDataset], Path, Written],
) -> None:
    cls, root, written = real
    data, other = cls(root, 0, size=8, val_fraction=0.2), cls(root, 1, size=8, val_fraction=0.2)
    assert torch.equal(data.test.samples, other.test.samples)
    assert not torch.equal(data.val.samples, other.val.samples)
    if cls is CIFAR10DVS:
        moved = CIFAR10DVS(root, 0, size=8, val_fraction=0.2, split_seed=1)
        assert not torch.equal(data.test.samples, moved.test.samples)
    else:
        expected = {counted(e, 1, 8, cls.sensor_size).tobytes() for p, (e, _) in written.items() if "Test" in str(p)}
        assert {x.numpy().tobytes() for x in data.test.samples} == expected


def test_frames_are_kept_and_read_again_until_the_files_change(
    real: tuple[type[TonicDataset], Path, Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, root, written = real
    first = cls(root, 0, 2, size=8, val_fraction=0.2)
    with monkeypatch.context() as patched:
        patched.setattr(cls, "_frames", lambda *_: pytest.fail("a recording is read again"))
        assert cls(root, 0, 2, size=8, val_fraction=0.2).fingerprint == first.fingerprint
    path = sorted(path for path in written if "Test" not in str(path))[0]
    path.unlink()
    assert cls(root, 0, 2, size=8, val_fraction=0.2).fingerprint != first.fingerprint


def test_the_order_of_samples_is_that_of_their_names_and_not_of_the_file_system(
    real: tuple[type[TonicDataset], Path, Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, root, _ = real
    walk = os.walk
    first = cls(root, 0, size=8, val_fraction=0.2)
    for kept in (root / "cached").iterdir():
        kept.unlink()
    monkeypatch.setattr(os, "walk", lambda top: [(path, dirs, files[::-1]) for path, dirs, files in walk(top)][::-1])
    assert cls(root, 0, size=8, val_fraction=0.2).fingerprint == first.fingerprint


@pytest.mark.parametrize("name", REAL)
def test_a_data_set_that_is_nowhere_is_named_with_the_folder_and_the_files(
    name: str, tonic: Any, tmp_path: Path
) -> None:
    cls = REAL[name][0]
    root = tmp_path / "nowhere"
    assert not cls.is_present(root)
    with pytest.raises(UserError) as caught:
        cls(root, 0)
    text = str(caught.value)
    folders = {"nmnist": "NMNIST/Train/", "dvs_gesture": "DVSGesture/ibmGestureTest/", "cifar10_dvs": "CIFAR10DVS/"}
    assert f"the data set {cls.__name__} is not in {root}" in text
    assert "no route to host" in text and folders[name] in text and "SNN_EXP_DATA" in text
    assert "\n" not in text
    assert not root.exists(), "a failed download leaves no folder behind"


def test_an_empty_archive_of_a_failed_download_is_taken_away(
    tonic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(url: str, folder: str, filename: str, md5: str) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / filename).touch()
        raise URLError("no route to host")

    monkeypatch.setattr(tonic.dataset, "download_and_extract_archive", cut_short)
    with pytest.raises(UserError, match="no route to host"):
        NMNIST(tmp_path / "data", 0)
    assert not (tmp_path / "data").exists()


def test_a_damaged_recording_is_named(real: tuple[type[TonicDataset], Path, Written]) -> None:
    cls, root, written = real
    victim = next(path for path in written if "Test" not in str(path))
    victim.write_bytes(victim.read_bytes()[:83])
    with pytest.raises(
        UserError, match=f"{cls.__name__} is damaged: .*{victim.name} cannot be read .* place that file"
    ):
        cls(root, 0, val_fraction=0.2)
    assert not list(root.glob("cached/*")), "nothing is kept of it"


def test_a_recording_without_events_is_dark(tonic: Any, tmp_path: Path) -> None:
    written = write_nmnist(tmp_path)
    victim = next(iter(written))
    victim.write_bytes(b"")
    data = NMNIST(tmp_path, 0, 2, val_fraction=0.2)
    dark = [(x == 0).all().item() for part in parts(data) for x in part.samples]
    assert sum(dark) == 1


@pytest.mark.parametrize("missing", ["tonic", "aedat"])
def test_without_tonic_the_fault_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("SNN_EXP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path / "out"))
    assert main.main(["train", "dataset=nmnist", "logger=none"]) == 2
    assert capsys.readouterr().err == (
        "snn-exp: the data set NMNIST is read by the library tonic, which is not installed; type "
        "pip install 'snn-exp[events]'\n"
    )
    assert not (tmp_path / "data").exists()
