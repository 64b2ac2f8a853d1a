"""The camera against an obvious loop, binning by hand, and the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_exp.data.event_camera import (
    MOST,
    POSITIONS_A_SACCADE,
    Arrays,
    Events,
    are_events,
    binned,
    cached,
    film,
    saccades,
    sense,
)

Event = tuple[int, int, int, int, int]  # sample, t, y, x, p


def listed(events: Events) -> list[Event]:
    n = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    return list(zip(*(values.tolist() for values in (n, events.t, events.y, events.x, events.p)), strict=True))


def events_of(*given: Event, num_samples: int = 1, duration_us: int = 100) -> Events:
    n, t, y, x, p = (np.array(values, dtype=np.int64) for values in zip(*given, strict=True))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(n, minlength=num_samples))])
    return Events(t, x, y, p, offsets, np.full(num_samples, duration_us))


def one_pixel(*levels: float) -> npt.NDArray[np.float64]:
    return np.array(levels).reshape(-1, 1, 1, 1)


# the camera -----------------------------------------------------------------------------------------------


def seen_slowly(pictures: npt.NDArray[np.float64], threshold: float, step_us: int) -> list[Event]:
    """The definition, one pixel, one picture and one threshold at a time."""
    found = []
    for n, y, x in np.ndindex(*pictures.shape[1:]):
        levels = [round((value - pictures[0, n, y, x]) / threshold, 9) for value in pictures[:, n, y, x]]
        reference = 0
        for step in range(1, len(levels)):
            old, new = levels[step - 1], levels[step]
            while abs(new - reference) >= 1:
                polarity = 1 if new > reference else -1
                reference += polarity
                t = int((step - 1 + (reference - old) / (new - old)) * step_us)
                found.append((n, min(t, (len(levels) - 1) * step_us - 1), y, x, max(polarity, 0)))
    return sorted(found)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0.1, 2))
def test_the_camera_sees_what_the_obvious_loop_sees(seed: int, threshold: float) -> None:
    pictures = np.random.default_rng(seed).normal(size=(6, 2, 3, 3)).cumsum(axis=0)
    assert sorted(listed(sense(pictures, threshold, 100))) == seen_slowly(pictures, threshold, 100)


def test_a_bright_edge_that_moves_by_a_pixel_is_one_on_and_one_off_column_by_hand() -> None:
    # darkness 1 and white 1 more: log 1 = 0 and log 2 = 0.693, which holds two thresholds of 0.3
    dark, bright = 0.0, math.log(2)
    before = np.array([[bright, dark, dark], [bright, dark, dark]])
    after = np.array([[dark, bright, dark], [dark, bright, dark]])
    events = sense(np.stack([before, after])[:, None], threshold=0.3, step_us=1000)
    times = [int(1000 * k * 0.3 / bright) for k in (1, 2)]
    expected = [(0, t, y, x, p) for t in times for y in (0, 1) for x, p in ((0, 0), (1, 1))]
    assert listed(events) == expected, "in the order of time"
    assert events.offsets.tolist() == [0, 8] and events.duration_us.tolist() == [1000]


def test_what_has_moved_less_than_the_threshold_stays_silent_until_it_has_moved_enough() -> None:
    assert listed(sense(one_pixel(0, 0.9, 0.1, 0.9), 1.0, 10)) == []
    assert [p for *_, p in listed(sense(one_pixel(0, 0.9, 1.0, 0.2, -0.1), 1.0, 10))] == [1, 0]


def test_an_event_at_the_end_still_belongs_to_the_sample() -> None:
    (event,) = listed(sense(one_pixel(0, 1), 1.0, 10))
    assert event == (0, 9, 0, 0, 1)


def test_a_sample_without_events_has_its_place() -> None:
    pictures = np.concatenate([one_pixel(0, 0), one_pixel(0, 1), one_pixel(0, 0)], axis=1)
    assert sense(pictures, 1.0, 10).offsets.tolist() == [0, 0, 1, 1]


def test_the_saccades_are_a_closed_triangle_of_three_equal_parts() -> None:
    path = saccades(2.0)
    assert len(path) == 3 * POSITIONS_A_SACCADE + 1
    assert path[0].tolist() == path[-1].tolist() == [-2, -2]
    steps = np.diff(path, axis=0).reshape(3, POSITIONS_A_SACCADE, 2)
    np.testing.assert_allclose(steps, steps[:, :1].repeat(POSITIONS_A_SACCADE, axis=1), atol=1e-12)
    np.testing.assert_allclose(steps.sum(1), [[4, 2], [-4, 2], [0, -4]], atol=1e-12)


def test_the_film_shows_the_image_displaced_by_the_saccade() -> None:
    images = np.random.default_rng(0).random((2, 4, 4))
    pictures = list(film(images, size=6, amplitude=1.0, darkness=0.1))
    for displacement in (0, POSITIONS_A_SACCADE, 2 * POSITIONS_A_SACCADE):
        down, right = saccades(1.0)[displacement].astype(int)
        expected = np.zeros((2, 6, 6))
        expected[:, 1 + down : 5 + down, 1 + right : 5 + right] = images
        np.testing.assert_allclose(np.exp(pictures[displacement]) - 0.1, expected, atol=1e-12)


def test_between_pixels_the_film_is_linear() -> None:
    image = np.array([[[0.0, 1.0], [0.0, 1.0]]])
    pictures = list(film(image, size=2, amplitude=0.0, darkness=0.5))
    np.testing.assert_allclose(np.exp(pictures[0]) - 0.5, image)
    wide = np.exp(next(film(image, size=4, amplitude=0.0, darkness=0.5))) - 0.5
    np.testing.assert_allclose(wide[0, 1], [0, 0.25, 0.75, 0.75])


# binning --------------------------------------------------------------------------------------------------


def test_events_are_binned_as_computed_by_hand() -> None:
    events = events_of(
        (0, 0, 0, 0, 1), (0, 49, 0, 0, 1), (0, 50, 0, 0, 1), (0, 99, 3, 2, 0), (1, 20, 1, 0, 0), num_samples=3
    )
    expected = np.zeros((3, 2, 2, 2, 2), dtype=np.int16)
    expected[0, 0, 1, 0, 0] = 2
    expected[0, 1, 1, 0, 0] = 1
    expected[0, 1, 0, 1, 1] = 1  # row 3 and column 2 of 4 are row 1 and column 1 of 2
    expected[1, 0, 0, 0, 0] = 1
    found = binned(events, num_steps=2, size=2, sensor_size=4)
    assert found.dtype == np.int16
    assert np.array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_steps=st.integers(1, 7), size=st.integers(1, 8))
def test_every_event_is_counted_once_whatever_the_frames(seed: int, num_steps: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    given_events: list[Any] = [
        (int(n), *(int(v) for v in rng.integers((100, 8, 8, 2)))) for n in np.sort(rng.integers(3, size=40))
    ]
    found = binned(events_of(*given_events, num_samples=3), num_steps, size, 8)
    by_polarity = np.zeros((3, 2), dtype=int)
    for n, *_, p in given_events:
        by_polarity[n, p] += 1
    assert np.array_equal(found.sum(axis=(1, 3, 4)), by_polarity)


@pytest.mark.parametrize(
    "outside", [(0, 100, 0, 0, 1), (0, 0, 4, 0, 1), (0, 0, 0, 4, 1), (0, 0, 0, 0, 2), (0, -1, 0, 0, 1)]
)
def test_an_event_outside_is_refused(outside: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="invalid entry"):
        binned(events_of(outside), 2, 4, 4)


def test_a_count_too_large_to_store_stays_the_largest() -> None:
    many = events_of(*[(0, 0, 0, 0, 1)] * (MOST + 5))
    assert binned(many, 1, 1, 1).max() == MOST


# the cache ------------------------------------------------------------------------------------------------


class Counted:
    """Something to make, that knows how often it was made."""

    times = 0

    def __call__(self) -> Arrays:
        self.times += 1
        return {"a": np.arange(1000), "b": np.array([[1.5]])}


def ask(folder: Path, make: Counted, **key: int) -> None:
    found = cached(folder, "toy", key, make)
    assert found.keys() == {"a", "b"}
    assert np.array_equal(found["a"], np.arange(1000)) and found["b"].tolist() == [[1.5]]


def test_what_was_made_once_is_read_from_then_on_and_another_key_is_made_anew(tmp_path: Path) -> None:
    make = Counted()
    for expected, key in ((1, 0), (1, 0), (2, 1), (2, 0)):
        ask(tmp_path / "new", make, size=key)
        assert make.times == expected
    assert len(list((tmp_path / "new").iterdir())) == 2, "and no scratch file stays"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"no zip", lambda b: b[:80] + b"?" + b[81:]]
)
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: Callable[..., Any]) -> None:
    make = Counted()
    ask(tmp_path, make)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    ask(tmp_path, make)
    assert make.times == 2
    ask(tmp_path, make)
    assert make.times == 2


def test_a_cache_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    make = Counted()
    for fits, times in ((True, 1), (True, 1), (False, 2), (True, 2)):
        cached(tmp_path, "toy", {}, make, fits=lambda arrays, fits=fits: fits)
        assert make.times == times


def stream(**changes: Any) -> dict[str, npt.NDArray[Any]]:
    """Three events of two samples on four pixels, as arrays, with something changed."""
    plain = {
        "t": [0, 5, 3],
        "x": [0, 1, 1],
        "y": [1, 0, 1],
        "p": [0, 1, 1],
        "offsets": [0, 2, 3],
        "duration_us": [6, 4],
    }
    return {name: np.array(values) for name, values in {**plain, **changes}.items()}


@pytest.mark.parametrize(
    "changes",
    [{"t": [0, 6, 3]}, {"x": [0, 2, 1]}, {"p": [0, 2, 1]}, {"y": [-1, 0, 0]}, {"t": [0, 5]}, {"offsets": [0, 2, 10**15]},
     {"offsets": [0, 4, 3]}, {"offsets": [0, 3]}, {"x": [0.0, 1.0, 1.0]}, {"x": [[0, 1, 1]]}, {"more": [1]}],
    ids=str,
)  # fmt: skip
def test_arrays_that_are_no_events_of_this_camera_are_known(changes: dict[str, Any]) -> None:
    assert are_events(stream(), num_samples=2, sensor_size=2)
    assert not are_events(stream(**changes), num_samples=2, sensor_size=2)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make = Counted()
    for times in (1, 2):
        ask(tmp_path / "file", make)
        assert make.times == times


def test_a_cache_cut_short_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, **arrays: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    ask(tmp_path, Counted())
    assert list(tmp_path.iterdir()) == []


def test_the_same_film_gives_the_same_events_to_the_last_bit() -> None:
    def digest() -> str:
        images = np.random.default_rng(0).random((5, 8, 8))
        events = sense(film(images, 10, 1.0, 0.1), 0.3, 1000)
        return hashlib.sha256(b"".join(v.tobytes() for v in dataclasses.astuple(events))).hexdigest()

    assert digest() == digest()
