"""Provenance of a run: package versions, source hash, commit, time. No torch."""

from __future__ import annotations

import datetime
import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RECORDED_PACKAGES = (
    "snn-exp", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy",
    "scikit-learn", "wandb",
)  # fmt: skip


@functools.cache
def code_hash() -> str:
    """Return 16 hex digits that hash the package's source."""
    files = sorted(path for kind in ("*.py", "*.cpp", "*.h") for path in Path(__file__).parents[1].rglob(kind))
    return hashlib.sha256(b"".join(f.name.encode() + f.read_bytes() for f in files)).hexdigest()[:16]


@functools.cache
def git_state() -> dict[str, Any]:
    """Return the commit and whether the working tree differs from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a run is computed with."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
