"""Streams of events: a simulated event camera, binning to frames, and a cache. No torch.

Shapes: N samples, E events of all samples, T steps, S sensor pixels per side, G image pixels per side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]

POSITIONS_A_SACCADE = 16  # the log intensity is linear in between
SACCADE_US = 105_000  # as in N-MNIST
MOST = np.iinfo(np.int16).max  # a larger count is stored as this; only a sensor of a few pixels gets there


@dataclasses.dataclass(frozen=True)
class Events:
    """The events of N samples, one sample after the other, each in the order of time.

    Args:
        t: [E] time since the sample's start, microseconds.
        x: [E] column.
        y: [E] row.
        p: [E] polarity: 1 where it became brighter (ON), 0 where darker (OFF).
        offsets: [N + 1]; sample n has the events offsets[n] to offsets[n + 1].
        duration_us: [N] length of the sample, microseconds; t is below it.
    """

    t: Integers
    x: Integers
    y: Integers
    p: Integers
    offsets: Integers
    duration_us: Integers


def binned(events: Events, num_steps: int, size: int, sensor_size: int) -> npt.NDArray[np.int16]:
    """Count events by step, polarity and pixel: [N, T, 2, size, size].

    Equation:
        step = floor(T t / duration_us);  row = floor(y size / sensor_size);  column likewise

    Args:
        num_steps: T, of equal length.
        size: pixels per side of a frame.
        sensor_size: pixels per side of the sensor.

    Raises:
        ValueError: an event lies outside the sensor or the duration.

    Example:
        >>> one = Events(*(np.array([n]) for n in (70, 1, 0, 1)), np.array([0, 1]), np.array([100]))
        >>> binned(one, num_steps=2, size=2, sensor_size=2)[0, :, 1].tolist()
        [[[0, 0], [0, 0]], [[0, 1], [0, 0]]]
    """
    num_samples = len(events.offsets) - 1
    n = np.repeat(np.arange(num_samples), np.diff(events.offsets))
    step = events.t * num_steps // events.duration_us[n]
    shape = (num_samples, num_steps, 2, size, size)
    cell = np.ravel_multi_index(
        (n, step, events.p, events.y * size // sensor_size, events.x * size // sensor_size), shape
    )
    counts = np.bincount(cell, minlength=int(np.prod(shape)))
    return np.minimum(counts, MOST).astype(np.int16).reshape(shape)


def are_events(arrays: Arrays, num_samples: int, sensor_size: int) -> bool:
    """Return whether arrays form `Events` of so many samples, each event within the sensor and its sample."""
    if set(arrays) != {field.name for field in dataclasses.fields(Events)}:
        return False
    if any(array.ndim != 1 or array.dtype != np.int64 for array in arrays.values()):
        return False
    events = Events(**arrays)
    num_events = np.diff(events.offsets)
    limits = ((events.x, sensor_size), (events.y, sensor_size), (events.p, 2))
    return (
        len(num_events) == len(events.duration_us) == num_samples
        and events.offsets[0] == 0
        and bool((num_events >= 0).all())
        and all(len(column) == events.offsets[-1] for column in (events.t, events.x, events.y, events.p))
        and bool(((events.t >= 0) & (events.t < np.repeat(events.duration_us, num_events))).all())
        and all(bool(((column >= 0) & (column < limit)).all()) for column, limit in limits)
    )


def saccades(amplitude: float) -> Floats:
    """Return the displacements (down, right) of an image on three saccades around a triangle, in sensor pixels.

    Example:
        >>> saccades(1.0)[::POSITIONS_A_SACCADE].tolist()
        [[-1.0, -1.0], [1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]
    """
    corners = amplitude * np.array([[-1, -1], [1, 0], [-1, 1], [-1, -1]], dtype=np.float64)
    along = np.arange(3 * POSITIONS_A_SACCADE + 1) / POSITIONS_A_SACCADE
    return np.stack([np.interp(along, np.arange(4), corner) for corner in corners.T], axis=1)


def across_and_down(amplitude: float, positions: int) -> tuple[Floats, Floats]:
    """Return the displacements (down, right) of two strokes: to the right and back, and down and back.

    Args:
        amplitude: of a stroke, sensor pixels.
        positions: of each of the four ways, beside the start.

    Example:
        >>> [stroke.tolist() for stroke in across_and_down(2.0, positions=1)]
        [[[0.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]]
    """
    out = np.arange(positions + 1) / positions
    there_and_back = amplitude * np.concatenate([out, out[-2::-1]])
    rest = np.zeros_like(there_and_back)
    return np.stack([rest, there_and_back], axis=1), np.stack([there_and_back, rest], axis=1)


def film(
    images_NGG: Floats, size: int, amplitude: float, darkness: float, path: Floats | None = None
) -> Iterator[Floats]:
    """Compute the log intensity [N, S, S] at each position of the saccades, or of another path.

    Equation:
        log(darkness + image at ((pixel - displacement) G / (S - 2 amplitude))), bilinear, both centred

    Args:
        images_NGG: intensities in [0, 1]; around an image it is black.
        size: S.
        amplitude: of the saccades, sensor pixels; the image fills what remains between them.
        darkness: intensity of black.
        path: displacements (down, right) up to the amplitude, instead of the saccades.
    """
    num_pixels = images_NGG.shape[-1]
    pixel_S, pixel_G = _centred(size), _centred(num_pixels)
    scale = num_pixels / (size - 2 * amplitude)
    for displacement in saccades(amplitude) if path is None else path:
        down_SG, right_SG = (np.maximum(0, 1 - np.abs((pixel_S[:, None] - d) * scale - pixel_G)) for d in displacement)
        yield np.log(darkness + down_SG @ images_NGG @ right_SG.T)


def _centred(size: int) -> Floats:
    return np.arange(size, dtype=np.float64) - (size - 1) / 2


def sense(log_intensities: Iterable[Floats], threshold: float, step_us: int) -> Events:
    """Simulate the events that a camera sees in a film.

    Equation:
        a pixel keeps the level r of its last event, first that of the start; whenever its log intensity
        has moved by the threshold since, r moves by the threshold and an event leaves: ON up, OFF down.
        Between two pictures the log intensity is linear, which gives the events their times.

    Args:
        log_intensities: [N, S, S] each, step_us apart.
        threshold: change of the log intensity that makes an event.
        step_us: time between two pictures, microseconds.

    Source: the model of ESIM, Rebecq et al. 2018, without noise.

    Example:
        >>> events = sense(np.array([0.0, 2.5, 1.4]).reshape(3, 1, 1, 1), threshold=1.0, step_us=100)
        >>> events.t.tolist(), events.p.tolist()
        ([40, 80], [1, 1])
    """
    pictures = iter(log_intensities)
    start = next(pictures)
    before = np.zeros_like(start)  # levels are counted in thresholds from the start
    reference = np.zeros(start.shape, dtype=np.int64)
    found: list[tuple[Integers, ...]] = []
    num_pictures = 0
    for num_pictures, picture in enumerate(pictures, 1):
        level = np.round((picture - start) / threshold, 9)  # the last bits of a machine's log decide no event
        num_events = np.trunc(level - reference).astype(np.int64)
        pixel = np.nonzero(num_events)
        many, sign = np.abs(num_events[pixel]), np.sign(num_events[pixel])
        k = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + 1  # 1, 2, ... of each pixel
        n, y, x, old, slope, sign, first = (
            np.repeat(values, many)
            for values in (*pixel, before[pixel], (level - before)[pixel], sign, reference[pixel])
        )
        share = (first + sign * k - old) / slope
        t = ((num_pictures - 1 + share) * step_us).astype(np.int64)
        found.append((n, t, y, x, (sign > 0).astype(np.int64)))
        reference += num_events
        before = level
    n, t, y, x, p = (np.concatenate(parts) for parts in zip(*found, strict=True))
    duration_us = num_pictures * step_us
    t = np.minimum(t, duration_us - 1)  # the end itself belongs to the last step
    order = np.lexsort((t, n))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(n, minlength=len(start)))])
    return Events(t[order], x[order], y[order], p[order], offsets, np.full(len(start), duration_us))


def counted(log_intensities: Iterable[Floats], threshold: float, pictures_per_step: int) -> npt.NDArray[np.int16]:
    """Count the events that a camera sees in a film in each step: [N, T, 2, S, S], OFF and ON.

    Equation:
        the events of `sense`; those between two pictures belong to one step, which ends with a picture, so their times
        within it are not needed

    Args:
        log_intensities: [N, S, S] each.
        threshold: change of the log intensity that makes an event.
        pictures_per_step: of each step, without its start.

    Example:
        >>> pictures = np.array([0.0, 2.5, 1.4, 0.9]).reshape(4, 1, 1, 1)
        >>> counted(pictures, threshold=1.0, pictures_per_step=1)[0, :, :, 0, 0].tolist()
        [[0, 2], [0, 0], [1, 0]]
    """
    pictures = iter(log_intensities)
    start = next(pictures)
    reference = np.zeros(start.shape, dtype=np.int64)
    steps: list[npt.NDArray[np.int64]] = []
    for index, picture in enumerate(pictures):
        if index % pictures_per_step == 0:
            steps.append(np.zeros((len(start), 2, *start.shape[1:]), dtype=np.int64))
        level = np.round((picture - start) / threshold, 9)
        num_events = np.trunc(level - reference).astype(np.int64)
        steps[-1][:, 0] -= np.minimum(num_events, 0)
        steps[-1][:, 1] += np.maximum(num_events, 0)
        reference += num_events
    return np.minimum(np.stack(steps, axis=1), MOST).astype(np.int16)


def cached(
    folder: Path,
    name: str,
    key: Mapping[str, Any],
    make: Callable[[], Arrays],
    fits: Callable[[Arrays], bool] = lambda arrays: True,
) -> Arrays:
    """Return the result of `make`, cached in one .npz that is named by a hash of the key.

    A file that is damaged, or does not fit, is made again; one that cannot be written only costs time.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{digest}.npz"
    # missing or damaged, which zipfile, zlib and numpy report in their own ways
    with contextlib.suppress(Exception), path.open("rb") as kept, np.load(kept, allow_pickle=False) as stored:
        if fits(arrays := dict(stored)):
            return arrays
    arrays = make()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy 1.26 has no allow_pickle
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    return arrays
