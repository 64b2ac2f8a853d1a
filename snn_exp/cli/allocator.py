"""Tune malloc for memory that torch frees on a CPU. Imports nothing of torch, which loads after it."""

from __future__ import annotations

import ctypes
import os
import platform

# glibc's name of a setting, its number for mallopt (malloc.h), its value
_SETTINGS = (
    ("MALLOC_MMAP_THRESHOLD_", -3, 2**25),  # bytes from which memory comes from, and goes back to, the system
    ("MALLOC_TRIM_THRESHOLD_", -1, 2**31 - 1),  # bytes unused at the top of the heap that go back to the system
)


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensor, in this process and its children. Call it before torch is imported.

    Every step frees what the next one needs again. The system hands memory out as empty pages, and filling in the pages
    of large tensors costs more than computing on them; large pages, and keeping what was freed, spare most of that.
    Tensors of more than 32 MiB go back to the system all the same: kept, they would leave gaps in the heap that double
    what a process holds. What the user has set stays as it is (benchmarks/training.md).

    Source: mallopt(3); THP_MEM_ALLOC_ENABLE in torch's c10/core/alignment.h.

    Example:
        >>> keep_freed_memory()
        >>> os.environ["THP_MEM_ALLOC_ENABLE"]
        '1'
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if platform.libc_ver()[0] != "glibc":
        return
    for name, number, value in _SETTINGS:
        if name not in os.environ:
            os.environ[name] = str(value)
            ctypes.CDLL(None).mallopt(number, value)
