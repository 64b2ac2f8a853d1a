"""Data sets that somebody sent: files that are cut, of other sizes, or no data at all."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz import hostile
from tests.fuzz.box import Box
from tests.fuzz.calls import Call


def idx(path: Path, content: bytes, shape: tuple[int, ...], kind: int = 8) -> None:
    """A file as MNIST has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + content)


def case(rng: random.Random, box: Box) -> tuple[str, Call]:
    """Data with something wrong in them; what, and a command that reads them."""
    return (mnist if rng.random() < 0.5 else own)(rng, box)


def own(rng: random.Random, box: Box) -> tuple[str, Call]:
    """A folder of pictures, or an .npz, of which something has become of a file."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    if name := rng.choice(("", "own.npz")):
        write = rng.choice((np.savez, np.savez_compressed))
        x = numbers.integers(0, 256, (60, 8, 8), dtype=np.uint8)
        write(box / name, x=x if rng.random() < 0.7 else x / 255, y=np.arange(60) % 3)
        victims = [box / name]
    else:
        name = "pictures"
        for index in range(60):
            file = (
                box / name / f"class {index % 3}" / f"{index}.{rng.choice(('png', 'jpg', 'bmp', 'ppm', 'tif', 'webp'))}"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
        victims = sorted(path for path in (box / name).rglob("*") if path.is_file())
    said = [name, *(hostile.accident(rng, rng.choice(victims)) for _ in range(rng.choice((0, 1, 1))))]
    words = [f"dataset={'arrays' if name == 'own.npz' else 'images'}", f"dataset.path={box / name}"]
    if name == "pictures" and rng.random() < 0.3:
        words.append(f"dataset.size={rng.choice((1, 4, 16))}")
    if rng.random() < 0.2:
        words.append("dataset.num_train=20")
    command = rng.choice((("train",), ("train",), ("show",), ("train", "-m", "seed=0,1"), ("plan",), ("data", "check")))
    if command == ("data", "check"):
        return "; ".join(said), Call((*command, words[0].partition("=")[2], *words[1:]), ("out/*", "data/*"), ())
    tiny = (
        "network=mlp",
        "network.width=4",
        "depth.num_layers=2",
        "neuron=s2nn",
        "logger=none",
        "trainer.max_epochs=1",
    )
    return "; ".join(said), Call((*command, *words, *tiny), ("out/*", "data/*"), ())


def mnist(rng: random.Random, box: Box) -> tuple[str, Call]:
    """A small MNIST with something wrong in it; what, and a command that reads it."""
    folder = box / "data" / "MNIST" / "raw"
    said = []
    wrong = rng.choice(
        (
            "labels",
            "counts",
            "sizes",
            "zero",
            "few",
            "dimensions",
            "type",
            "accident",
            "accident",
            "accident",
            "none",
            "one class",
        )
    )
    which = rng.choice(("train", "t10k"))
    for part, many in (("train", 200), ("t10k", 50)):
        n, h, w = many, 28, 28
        labels = bytes(i % 10 for i in range(n))
        if part == which:
            if wrong == "labels":
                labels = bytes(rng.choice((10, 11, 255)) if i == 5 else i % 10 for i in range(n))
            elif wrong == "one class":
                labels = bytes(n)
            elif wrong == "few":
                labels = bytes([9]) + bytes(i % 9 for i in range(n - 1))
            elif wrong == "sizes":
                h, w = rng.choice(((14, 56), (8, 8), (0, 28), (1, 1), (28, 29), (3000, 2)))
        pixels = bytes(n * h * w) if wrong == "zero" else rng.randbytes(n * h * w)
        shape: tuple[int, ...] = (n, h, w)
        num_labels = n
        if part == which and wrong == "counts":
            num_labels = n + rng.choice((-10, 10))
            labels = (labels + bytes(10))[:num_labels]
        if part == which and wrong == "dimensions":
            shape = rng.choice(((n * h * w,), (n, h * w), (2**31, 2**31, 4), (0, 28, 28), (n, 28, 2**30), (n, h, w, 1)))
        kind = rng.choice((9, 11, 13, 14, 0, 255)) if part == which and wrong == "type" else 8
        idx(folder / f"{part}-images-idx3-ubyte", pixels, shape, kind)
        idx(folder / f"{part}-labels-idx1-ubyte", labels, (num_labels,))
    said.append(f"{which}: {wrong}")
    if wrong == "accident":
        said.append(hostile.accident(rng, rng.choice(sorted(folder.iterdir()))))
    tiny = (
        "dataset=mnist",
        "network.width=4",
        "depth=d8",
        "neuron=s2nn",
        "residual=bireal",
        "logger=none",
        "trainer.max_epochs=1",
        "optim.batch_size=64",
    )
    command = rng.choice((("train",), ("train",), ("show",), ("train", "-m", "seed=0,1"), ("plan", "--calibrate")))
    return "; ".join(said), Call(
        (*command, *tiny), ("out/*", "data/*"), (), command[0] == "train" and rng.random() < 0.6
    )
