"""`make fuzz`: generated calls, each in a box and a process of its own, and what came of them.

python -m tests.fuzz --count 200 --seed 1          # 200 command lines and 200 tampered calls
python -m tests.fuzz --seed 1 --case runs-17       # one of them again, with all that it printed
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import base as bases
from tests.fuzz import configs, data, judging, lines, packed, runs, studies
from tests.fuzz.box import Box
from tests.fuzz.calls import Call, Outcome, Running

# of the tampered calls, the shares
SHARES = {"runs": 0.47, "configs": 0.23, "studies": 0.16, "data": 0.07, "packed": 0.07}


@dataclasses.dataclass
class Judged:
    """A case that has ended."""

    name: str
    said: str
    line: str
    command: str
    got: Outcome
    faults: list[str]


def case(name: str, seed: int, root: Path, base: Box) -> tuple[Box, str, Call]:
    """Makes a case's box; what is done to it, and what is called. Name and seed decide all of it."""
    kind = name.partition("-")[0]
    rng = random.Random(f"{seed}/{name}")
    if kind == "lines":
        box = Box.made(root, base.root)
        return box, "", lines.line(rng, box)
    if kind == "configs":
        box = Box.made(root)
        return box, *configs.case(rng, box)
    if kind == "data":
        box = Box.made(root)
        return box, *data.case(rng, box)
    box = Box.made(root, base.root)
    return box, *{"studies": studies, "runs": runs, "packed": packed}[kind].case(rng, box)


def names(count: int) -> list[str]:
    """Of all cases; the kinds stand among one another."""
    found = [(n / count, f"lines-{n}") for n in range(count)]
    for kind, share in SHARES.items():
        many = round(count * share)
        found += [(n / many, f"{kind}-{n}") for n in range(many)]
    return [name for _, name in sorted(found)]


def judged(wanted: list[str], seed: int, base: Box, jobs: int, keep: bool) -> Iterator[Judged]:
    """Each case as it ends."""
    at_work: dict[str, tuple[Running, str, dict[str, str], Call]] = {}
    left = list(reversed(wanted))
    stored = bases.stored(base)
    while left or at_work:
        while left and len(at_work) < jobs:
            name = left.pop()
            root = base.root.parent / "cases" / name
            shutil.rmtree(root, ignore_errors=True)
            box, said, asked = case(name, seed, root, base)
            before = box.seen()
            at_work[name] = (Running(box, asked, stored), said, before, asked)
        time.sleep(0.02)
        for name, (running, said, before, asked) in list(at_work.items()):
            got = running.outcome()
            if got is None:
                continue
            del at_work[name]
            box = running.box
            found = judging.faults(box, asked, got, before, box.seen())
            if not found and not keep:
                got.out, got.err = got.out[-6000:], got.err[-6000:]
            python = asked.argv[:1] == ("python",)
            yield Judged(
                name,
                said.replace(str(box.root), "BOX"),
                asked.text(box),
                asked.argv[1 if python else 0] if asked.argv else "",
                got,
                found,
            )
            if not keep:
                box.remove()


def table(found: list[Judged]) -> str:
    """Kind by kind and command by command: how many, how they ended, what the dearest took."""
    rows: dict[tuple[str, str], list[Judged]] = collections.defaultdict(list)
    known = set(lines.COMMANDS) | {"snn_exp.load", "load_exported", "plan and show", "plan and train"}
    for one in found:
        kind = one.name.partition("-")[0]
        rows[kind, "all"].append(one)
        rows[kind, one.command if one.command in known else "other"].append(one)
    text = [
        "| kind | command | calls | code 0 | 1 | 2 | 130 | faults | slowest, CPU s | most memory, MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (kind, command), those in sorted(rows.items(), key=lambda row: (row[0][0], row[0][1] != "all", -len(row[1]))):
        codes = [sum(one.got.code == code for one in those) for code in judging.CODES]
        text.append(
            f"| {kind} | {command} | {len(those)} | {' | '.join(map(str, codes))} | {sum(bool(one.faults) for one in those)} | {max(one.got.cpu_s for one in those):.1f} | "
            f"{max(one.got.memory for one in those) / 2**20:.0f} |"
        )
    return "\n".join(text)


def hear_signals() -> None:
    """Hear Ctrl-C and a hang-up, which a shell's background and nohup have ignored: calls keep to that, as is right."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def warm() -> None:
    """Imports what the calls need, so that each is a matter of its own work; starts no thread."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot
    import pytorch_lightning  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)
    from snn_exp.cli import main, network_tables  # noqa: F401
    from snn_exp.cli.commands import COMMANDS
    from snn_exp.config import compose
    from snn_exp.export import (
        folded_run,  # noqa: F401
        int8,  # noqa: F401
    )
    from snn_exp.reporting import (
        figures,  # noqa: F401
        fitting,  # noqa: F401
    )
    from snn_exp.studies import (
        readme,  # noqa: F401
        repeats,  # noqa: F401
    )
    from snn_exp.training import (
        train,  # noqa: F401
        verify,  # noqa: F401
    )

    for command in COMMANDS.values():
        command.load()
    compose.compose(["neuron=lif"])


def show(one: Judged, seed: int, *, whole: bool) -> None:
    print(f"\n{one.name}: {'; '.join(one.faults) or 'as it must be'}")
    print(f"  done: {one.said[:1000]}" if one.said else "  done: nothing", f"\n  call: {one.line[:1000]}")
    print(
        f"  code {one.got.code}, {one.got.cpu_s:.1f} CPU s, {one.got.wall_s:.1f} s, {one.got.memory / 2**20:.0f} MiB; again: make fuzz SEED={seed} CASE={one.name}"
    )
    if whole:
        print(f"--- stdout\n{one.got.out[-6000:]}\n--- stderr\n{one.got.err[-6000:]}\n{one.got.error}")


def signature(fault: str) -> str:
    """What two faults of one cause have in common."""
    kind, _, text = fault.partition(": ")
    if "[" in text and kind in ("traceback", "stored"):
        return f"{kind} {text.partition(':')[0]} [{text.rpartition('[')[2]}"
    return f"{kind} {re.sub(r'[0-9a-f]{10}|[0-9.]+', '#', text.partition(' in ')[0])[:90]}"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seed", type=int, default=None, help="of the generators; drawn where it is left out, and printed"
    )
    parser.add_argument("--count", type=int, default=200, help="of command lines, and of tampered calls")
    parser.add_argument("--case", default="", help="one case, such as runs-17; or several, with commas; or a kind")
    parser.add_argument("--jobs", type=int, default=2, help="calls at a time")
    parser.add_argument(
        "--base", type=Path, help="where the runs are kept that every tampering begins with; made where it is not there"
    )
    parser.add_argument("--keep", action="store_true", help="keep the boxes")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    sys.stdout.reconfigure(errors="backslashreplace")
    scratch = Path(tempfile.mkdtemp(prefix="snn_exp_fuzz_"))
    began = time.monotonic()
    hear_signals()
    warm()
    try:
        place = (given.base or scratch / "kept").resolve()
        if not place.exists():  # whole, or not there
            shutil.rmtree(place.with_suffix(".part"), ignore_errors=True)
            bases.made(place.with_suffix(".part")).root.rename(place)
        (scratch / "work").mkdir()
        base = Box(Path(shutil.copytree(place, scratch / "work" / "base", symlinks=True)))
        print(f"seed {seed}; the base took {time.monotonic() - began:.0f} s", flush=True)
        if given.case in ("lines", *SHARES):
            wanted = [f"{given.case}-{n}" for n in range(given.count)]
        else:
            wanted = given.case.split(",") if given.case else names(given.count)
        found = []
        for one in judged(wanted, seed, base, given.jobs, given.keep):
            found.append(one)
            if one.faults or (given.case and len(wanted) < 20):
                show(one, seed, whole=len(wanted) < 20)
                sys.stdout.flush()
        bad = [one for one in found if one.faults]
        print(
            f"\n{table(found)}\n\n{len(found)} calls in {time.monotonic() - began:.0f} s (seed {seed}); {len(bad)} broke a promise"
        )
        kinds: dict[str, list[str]] = collections.defaultdict(list)
        for one in bad:
            for fault in one.faults:
                kinds[signature(fault)].append(one.name)
        for kind, cases in sorted(kinds.items(), key=lambda item: -len(item[1])):
            print(f"  {len(cases):4} x {kind}: {', '.join(cases[:4])}")
        return 1 if bad else 0
    finally:
        if given.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
