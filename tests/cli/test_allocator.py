"""Freed memory stays with a process that the command line starts, unless its user wants it otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")

# 200 MB come and go, in tensors of 20; what is printed is how many of them the process still holds
PROGRAM = """
import psutil
import snn_exp.cli.main
import torch
before = psutil.Process().memory_info().rss
tensors = [torch.ones(5_000_000) for _ in range(10)]
del tensors
print((psutil.Process().memory_info().rss - before) / 1e6)
"""
STARTED_BY_IT = f"import snn_exp.cli.main, subprocess, sys; subprocess.run([sys.executable, '-c', '''{PROGRAM}'''])"


def megabytes_kept(program: str, **asked: str) -> float:
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "THP_MEM_ALLOC_ENABLE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**environment, **asked}, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize("program", [PROGRAM, STARTED_BY_IT], ids=["in the process", "in one that it starts"])
def test_freed_memory_is_kept(program: str) -> None:
    assert megabytes_kept(program) > 190


def test_what_the_user_has_set_stays() -> None:
    assert megabytes_kept(PROGRAM, MALLOC_MMAP_THRESHOLD_="1000000", MALLOC_TRIM_THRESHOLD_="1000000") < 50
