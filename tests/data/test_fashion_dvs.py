"""Fashion-MNIST before the simulated camera: both orders have the same frames, and what is not asked for is not filmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_exp.config.compose import compose
from snn_exp.data import fashion_dvs
from snn_exp.data.event_camera import across_and_down, binned, counted, film, sense
from snn_exp.data.fashion_dvs import FashionDVS
from snn_exp.errors import UserError

PER_GARMENT = 8


def few(root: Path, *, train: bool) -> tuple[Any, Any, tuple[str, ...]]:
    rng = np.random.default_rng(int(train))
    garments = rng.permutation(np.repeat(np.arange(10), PER_GARMENT)).astype(np.int64)
    return rng.integers(0, 256, (len(garments), 28, 28), dtype=np.uint8), garments, tuple("abcdefghij")


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_dvs, "read_fashion", few)


def data(root: Path, num_steps: int = 4, seed: int = 0, **given: Any) -> FashionDVS:
    return FashionDVS(root, seed, num_steps, val_fraction=0.3, **given)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8, 32])
def test_both_orders_of_a_picture_have_the_same_frames_at_other_steps(num_steps: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((1, 28, 28))
    one, other = (data(tmp_path, num_steps)._see(picture, np.array([order]))[0] for order in (0, 1))
    assert one.sum() > 100 and one.shape == (num_steps, 2, 20, 20)
    half = num_steps // 2
    if half:
        assert (one[:half] == other[half:]).all() and (one[half:] == other[:half]).all()
        assert not (one == other).all()
    else:
        assert (one == other).all(), "a single step knows nothing of the order"


def test_events_are_those_of_the_camera_without_their_times() -> None:
    path = np.concatenate([across_and_down(2.0, 8)[0], across_and_down(2.0, 8)[1][1:]])
    pictures = list(film(np.random.default_rng(0).random((2, 28, 28)), 20, 2.0, 0.1, path))
    theirs = binned(sense(pictures, 0.3, 1000), num_steps=1, size=20, sensor_size=20)
    assert (counted(pictures, 0.3, len(pictures) - 1) == theirs).all()
    assert (counted(pictures, 0.3, 8).sum(1) == theirs[:, 0]).all()


def test_the_label_is_the_garment_and_the_order_by_turns(tmp_path: Path) -> None:
    read = data(tmp_path)
    labels = torch.cat([read.train.labels, read.val.labels])
    assert torch.bincount(labels, minlength=20).tolist() == [PER_GARMENT // 2] * 20
    assert torch.bincount(read.test.labels, minlength=20).tolist() == [PER_GARMENT // 2] * 20
    assert read.class_names[0] == "a, across first" and read.class_names[13] == "d, down first"
    images, garments, _ = few(tmp_path, train=False)
    assert (read.test.labels % 10).tolist() == garments.tolist()
    down_first = int((read.test.labels >= 10).nonzero()[0])
    frames = read._see(images[[down_first]] / 255.0, np.array([1]))
    assert (read.test.samples[down_first].numpy() == frames[0]).all()


def test_only_samples_that_a_part_keeps_are_filmed_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filmed: list[int] = []
    see = FashionDVS._see

    def counting(self: FashionDVS, images: Any, orders: Any) -> Any:
        filmed.append(len(images))
        return see(self, images, orders)

    monkeypatch.setattr(FashionDVS, "_see", counting)
    read = data(tmp_path, num_train=20)
    assert read.sample_shape == (4, 2, 20, 20) and not filmed
    fingerprint = read.fingerprint
    assert filmed == [20, 24], "the training samples that are kept, and those of validation"
    assert data(tmp_path, num_train=20).fingerprint == fingerprint and filmed == [20, 24]
    for damaged in (tmp_path / "cached").iterdir():
        damaged.write_bytes(b"no archive")
    assert data(tmp_path, num_train=20).fingerprint == fingerprint and len(filmed) == 4
    assert data(tmp_path, num_train=20, seed=1).fingerprint != fingerprint


def test_shuffled_frames_are_the_same_frames_in_an_order_that_the_picture_alone_decides(tmp_path: Path) -> None:
    plain, control, fewer = (
        data(tmp_path),
        data(tmp_path, shuffle_time=True),
        data(tmp_path, shuffle_time=True, num_train=20),
    )
    assert torch.equal(plain.test.samples.sum(1), control.test.samples.sum(1))
    assert not torch.equal(plain.test.samples, control.test.samples)
    kept = {frames.sum(0).numpy().tobytes(): frames for frames in control.train.samples}
    assert all(torch.equal(kept[frames.sum(0).numpy().tobytes()], frames) for frames in fewer.train.samples)
    assert set(data(tmp_path, frames="binary").test.samples.unique().tolist()) == {0, 1}


def test_steps_that_would_cut_a_stroke_are_refused_with_the_nearest_that_do_not() -> None:
    with pytest.raises(
        UserError, match=r"encoding.num_steps=6 cuts the strokes .* type encoding.num_steps=4, or another"
    ):
        compose(["dataset=fashion_dvs", "encoding.num_steps=6"])
    assert [compose(["dataset=fashion_dvs", f"encoding.num_steps={n}"]).num_steps for n in (2, 8)] == [2, 8]
    with pytest.raises(UserError, match="leaves no room for the picture"):
        compose(["dataset=fashion_dvs", "dataset.amplitude=10"])
