"""Resident memory and speed of the loader on pictures that memory is not to hold, into benchmarks/loader.md.

    python benchmarks/loader.py [--pictures 100000] [--side 64] [--folder FOLDER]

Pictures are made up, as JPEG, in ten classes; they are removed afterwards. One process reads them for the first time,
into the cache, and loads two epochs of training batches; a second one finds the cache. What each holds besides (Python,
torch, ...) is measured before.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from snn_exp.cli.allocator import keep_freed_memory

keep_freed_memory()

import numpy as np
import psutil
from PIL import Image

from snn_exp.config import own_files
from snn_exp.data.datamodule import DataModule
from snn_exp.data.pictures import Images

MIB = 2**20
CLASSES = 10


def make(folder: Path, num_pictures: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class_{label}").mkdir(parents=True)
    coarse = rng.integers(0, 256, (num_pictures, 4, 4, 3), dtype=np.uint8)
    for index, pixels in enumerate(coarse):
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        picture.save(folder / f"class_{index % CLASSES}" / f"{index:07}.jpg")


def measure(folder: Path, root: Path, memory_mib: int) -> None:
    """Print seconds and MiB: to look and split; then the memory before, after that, and at most within two epochs."""
    own = psutil.Process()
    before = own.memory_info().rss
    began = time.perf_counter()
    data = Images(root, 0, path=str(folder), memory_mib=memory_mib)
    ready_s = time.perf_counter() - began
    _ = data.fingerprint, data.pixel_mean
    after = own.memory_info().rss
    module, most, began = DataModule(data, 64, 0), 0, time.perf_counter()
    loader = module.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            most = max(most, own.memory_info().rss)
    rate = 2 * module.num_train / (time.perf_counter() - began)
    print(f"{ready_s:.1f} {before / MIB:.0f} {after / MIB:.0f} {most / MIB:.0f} {rate:.0f} {int(data.is_on_disk)}")


def in_a_process(*words: str, root: Path) -> list[float]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, __file__, *words], capture_output=True, text=True, check=True, env=environment
    )
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None, help="where to make them; a temporary folder if left out")
    parser.add_argument("--measure", nargs=3, metavar=("PICTURES", "ROOT", "MIB"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(Path(given.measure[0]), Path(given.measure[1]), int(given.measure[2]))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        root, pictures = Path(made), Path(made) / "pictures"
        make(pictures, given.pictures, given.side)
        total = sum(picture.size for picture in own_files.listing(str(pictures)).pictures) / MIB
        rows = []
        for what, memory_mib in (
            ("first time, on disk", 1),
            ("again, on disk", 1),
        ):
            ready_s, before, after, most, rate, _ = in_a_process(
                "--measure", str(pictures), str(root), str(memory_mib), root=root
            )
            rows.append(
                f"| {what} | {ready_s:.1f} | {before:.0f} | {after - before:+.0f} | {most - before:+.0f} | "
                f"{rate:,.0f} |"
            )
            print(rows[-1], flush=True)
        cache = sum(file.stat().st_size for file in (root / "cached").iterdir()) / MIB
    page = Path(__file__).with_name("loader.md")
    page.write_text(
        f"# The loader on {given.pictures:,} pictures of {given.side} x {given.side} pixels, colour\n\n"
        f"Made by `python benchmarks/loader.py --pictures {given.pictures} --side {given.side}`: JPEG files "
        f"of {total:,.0f} MiB, {cache:,.0f} MiB of pixels; {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}. Memory is resident memory in MiB, beyond that of the process with torch and all "
        f"else imported; batches of 64, two epochs of training. Seconds and samples/s are of a machine that may be "
        f"busy.\n\n"
        "| | ready after, s | imports | once read and split | most while loading | samples/s |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )
    print(f"written: {page}")


if __name__ == "__main__":
    main()
