"""The processor of this machine: the cores that a process may use, and whether it computes in bfloat16. No torch."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "quota period" in microseconds, or "max period"

# of which one is enough: with any of them torch's convolutions (oneDNN's) compute in bfloat16, and with AVX-512 they
# convert it on the way, in 1.5 to 1.9 times the time of float32 (ONEDNN_MAX_CPU_ISA=AVX512_CORE benchmarks/training.py)
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "avx512bw", "bf16", "svebf16"}


def num_cores() -> int:
    """Return how many threads a process may keep busy: its affinity, the quota of its cgroup, OMP_NUM_THREADS.

    joblib gives every worker its share of the cores as OMP_NUM_THREADS, unless it is set already.

    Example:
        >>> num_cores() >= 1
        True
    """
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    with suppress(OSError, ValueError, ZeroDivisionError):  # there is no cgroup, or one of an older kind
        quota, period = CPU_MAX.read_text(encoding="utf-8").split()
        if quota != "max":
            found.append(math.floor(int(quota) / int(period)))
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if given.isdigit():
        found.append(int(given))
    return max(1, min(found))


def computes_in_bfloat16() -> bool:
    """Return whether the processor has instructions that serve bfloat16; True as well where the system does not say.

    Source: the flags of /proc/cpuinfo, by their names in Linux.
    """
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    flags = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return not flags or bool(BFLOAT16_FLAGS.intersection(flags[0]))
