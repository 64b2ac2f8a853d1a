"""The digits of scikit-learn: all of them, few of them, and among clutter."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from snn_exp.config.compose import compose
from snn_exp.data.base import Dataset
from snn_exp.data.digits import CANVAS, Digits, Digits200, DigitsClutter, among_clutter, placed
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.training import train
from tests.data.test_base import digits, keys, same


@functools.cache
def clutter(seed: int = 0, **parameters: Any) -> DigitsClutter:
    return DigitsClutter(Path(), seed, **parameters)


def parts(data: Dataset) -> list[Split]:
    return [data.train, data.val, data.test]


def upright(scans: Split) -> Tensor:
    """The digits in the middle of the canvas, as bytes."""
    margin = (CANVAS - 8) // 2
    return functional.pad((255 * scans.samples.double()).round().to(torch.uint8), (margin,) * 4)


# digits_200 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "split_seed"), [(0, 0), (3, 0), (0, 1)])
def test_two_hundred_of_the_digits_training_images_with_the_same_validation_and_test(
    seed: int, split_seed: int
) -> None:
    few, all_of_them = Digits200(Path(), seed, split_seed=split_seed), digits(seed, split_seed)
    assert (len(few.train), len(few.val), len(few.test)) == (200, 269, 450)
    assert same(few.val, all_of_them.val) and same(few.test, all_of_them.test)
    labels = dict(zip(keys(all_of_them.train.samples), all_of_them.train.labels.tolist(), strict=True))
    chosen = keys(few.train.samples)
    assert len(set(chosen)) == 200
    assert [labels[key] for key in chosen] == few.train.labels.tolist()


def test_the_two_hundred_have_every_class_in_proportion_and_are_redrawn_by_the_seed() -> None:
    few, other = Digits200(Path(), 0), Digits200(Path(), 1)
    overall = np.bincount(load_digits().target) / 1797
    for data in (few, other):
        assert np.abs(torch.bincount(data.train.labels).numpy() - 200 * overall).max() <= 1
    assert set(keys(few.train.samples)) != set(keys(other.train.samples))
    assert few.fingerprint == Digits200(Path(), 0).fingerprint
    assert len({few.fingerprint, other.fingerprint, digits().fingerprint}) == 3


def test_the_200_images_are_those_of_before_num_train_was_for_every_data_set() -> None:
    assert Digits200(Path(), 0).fingerprint == "6234d5d2bbbe2305"
    assert Digits200(Path(), 3, num_train=50).fingerprint == "8cb68c26e35c3e4b"
    assert Digits(Path(), 3, num_train=50).fingerprint == "8cb68c26e35c3e4b"
    assert Digits200(Path(), 0, num_train=None).fingerprint == digits().fingerprint


@pytest.mark.parametrize("num_train", [10, 1068])
def test_the_number_of_training_images_can_be_chosen_up_to_the_digits_own(num_train: int) -> None:
    few = Digits200(Path(), 0, num_train=num_train)
    assert len(few.train) == num_train and same(few.val, digits().val)
    assert set(few.train.labels.tolist()) == set(range(10))


def test_more_training_images_than_there_are_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        Digits200(Path(), 0, num_train=1069)
    assert str(caught.value) == (
        "dataset.num_train=1069 is more than 1068, the most that can be drawn from 1078 training samples; "
        "type dataset.num_train=1068, or dataset.num_train=null for all of them"
    )


def test_fewer_training_images_than_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"each of the 10 classes needs one; type a larger dataset\.num_train"):
        Digits200(Path(), 0, num_train=9)


# digits_clutter -------------------------------------------------------------------------------------------


def test_a_sample_is_a_canvas_of_bytes_and_only_training_scans_are_composed_more_than_once() -> None:
    data = clutter(copies=3)
    assert data.in_shape == (1, CANVAS, CANVAS)
    assert [len(part) for part in parts(data)] == [3 * 1078, 269, 450]
    assert all(part.samples.dtype == torch.uint8 for part in parts(data))


@pytest.mark.parametrize("seed", [0, 3])
def test_difficulty_0_shows_the_digits_of_each_part_upright_so_no_scan_is_in_two_parts(seed: int) -> None:
    plain = clutter(seed, difficulty=0.0, copies=2)
    scans = digits(seed)
    assert torch.equal(plain.train.samples, upright(scans.train).repeat(2, 1, 1, 1))
    assert torch.equal(plain.val.samples, upright(scans.val))
    assert torch.equal(plain.test.samples, upright(scans.test))
    shown = [set(keys(part.samples)) for part in parts(plain)]
    assert sum(map(len, shown)) == len(set.union(*shown)) == 1797


def test_the_labels_are_those_of_the_scans_at_any_difficulty() -> None:
    data, scans = clutter(copies=2), digits()
    assert torch.equal(data.train.labels, scans.train.labels.repeat(2))
    assert torch.equal(data.val.labels, scans.val.labels)
    assert torch.equal(data.test.labels, scans.test.labels)


def test_the_same_seed_composes_the_same_images_whatever_is_asked_for_first() -> None:
    one, other = DigitsClutter(Path(), 5), DigitsClutter(Path(), 5)
    first = other.test
    assert one.fingerprint == other.fingerprint
    assert same(one.train, other.train) and same(one.val, other.val) and same(one.test, first)


def test_the_seed_composes_training_and_validation_and_split_seed_the_test_images() -> None:
    one, other, moved = clutter(0), clutter(1), clutter(0, split_seed=1)
    assert same(one.test, other.test) and not torch.equal(one.test.samples, moved.test.samples)
    for name in ("train", "val"):
        assert not torch.equal(getattr(one, name).samples, getattr(other, name).samples)
    scans = digits().val
    composed = [among_clutter(scans, 1.0, (seed, 1)).samples for seed in (0, 1)]
    assert not set(keys(composed[0])) & set(keys(composed[1])), "the same scans, composed otherwise"


def test_no_two_parts_are_composed_alike() -> None:
    data = clutter(difficulty=1.0)
    corners = [part.samples[:269, 0, :2, :2].float() for part in parts(data)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        alike = np.corrcoef(corners[one].flatten(), corners[other].flatten())[0, 1]
        assert abs(alike) < 0.15, "noise and strokes of two parts are related"


def test_one_copy_more_leaves_the_others_as_they_are_and_is_another_composition() -> None:
    two, three = clutter(copies=2).train, clutter(copies=3).train
    assert torch.equal(three.samples[: len(two)], two.samples)
    copies = three.samples.unflatten(0, (3, -1)).flatten(2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (copies[one] != copies[other]).any(1).all()


def test_the_strokes_are_of_the_same_part_and_of_another_scan() -> None:
    dark = torch.zeros(2, 1, 8, 8)
    dark[1] = 1
    labels = torch.tensor([0, 1])
    bright_strokes = among_clutter(Split(dark, labels), 1.0, (0,), copies=20).samples[::2]
    assert bright_strokes.float().amax((1, 2, 3)).min() > 178, "the other scan's ink on the dark one"
    no_other_ink = among_clutter(Split(torch.zeros(2, 1, 8, 8), labels), 1.0, (0,)).samples
    assert no_other_ink.max() <= round(0.3 * 255), "noise is all there is"


@pytest.mark.parametrize(("easier", "harder"), [(0.0, 0.3), (0.3, 0.6), (0.6, 1.0)])
def test_what_is_more_difficult_is_farther_from_the_upright_digit(easier: float, harder: float) -> None:
    scans = digits().val
    plain = upright(scans).float()
    off = [(among_clutter(scans, d, (0,)).samples - plain).abs().mean() for d in (easier, harder)]
    assert off[1] > 1.1 * off[0]


def test_difficulty_and_copies_show_in_the_fingerprint() -> None:
    found = [clutter(difficulty=d, copies=c).fingerprint for d, c in ((0.4, 2), (0.4, 1), (0.5, 2))]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"difficulty": 1.1},
            "difficulty=1.1 is not allowed: difficulty must be a float >= 0 and <= 1; the default is",
        ),
        ({"copies": 0}, "copies=0 is not allowed: copies must be an int >= 1; the default is"),
    ],
    ids=str,
)
def test_a_parameter_out_of_its_range_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DigitsClutter(Path(), 0, **parameters)


def dot(down: float, right: float, size: int = 8) -> Tensor:
    """A bright pixel, counted from the middle of a dark image."""
    image = torch.zeros(1, size, size, dtype=torch.float64)
    image[0, int(down + size / 2), int(right + size / 2)] = 1
    return image


@pytest.mark.parametrize(
    ("offset", "turn", "zoom", "at"),
    [
        ((0, 0), 0, 1, (-1.5, 2.5)),
        ((2, -3), 0, 1, (0.5, -0.5)),
        ((0, 0), 90, 1, (2.5, 1.5)),
        ((0, 0), 180, 1, (1.5, -2.5)),
        ((3, 1), 90, 1, (5.5, 2.5)),
        ((0, 0), 0, 3, (-4.5, 7.5)),
        ((-1, 0), 90, 3, (6.5, 4.5)),
    ],
)
def test_an_image_is_scaled_then_turned_clockwise_then_moved(
    offset: tuple[int, ...], turn: int, zoom: int, at: tuple[float, ...]
) -> None:
    one = torch.ones(1, dtype=torch.float64)
    canvas = placed(dot(-1.5, 2.5), torch.tensor([offset]).double(), np.pi / 180 * turn * one, zoom * one)[0]
    row, column = (int(position + CANVAS / 2) for position in at)
    assert canvas[row, column] == canvas.max() == pytest.approx(1)


@pytest.mark.parametrize("dataset", ["digits_200", "digits_clutter"])
def test_a_network_trains_on_it(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_EXP_OUTPUT", str(tmp_path))
    config = compose([f"dataset={dataset}", "neuron=s2nn", "network.width=4", "trainer.max_epochs=1", "logger=none",
                      "trainer.progress=false"])  # fmt: skip
    result = train.run(config, echo=False)
    assert result.status == "done"
    assert 0 < result.metrics["test/acc"] <= 1
