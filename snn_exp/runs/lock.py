"""Lock a run to one process at a time, also where several machines share a file system. No torch.

The owner of a run's folder is the folder `owner/` in it, made elsewhere and renamed into place, so that it is there
whole or not at all. Its owner beats: the time of `owner/beat` moves on every BEAT_S seconds.

An owner is gone where its process is, which the same host sees at once; from another host it is gone after three
missed beats, judged by the clock of the file system alone. A beat from the future, of an owner whose clock is ahead,
says nothing: what counts then is that it changes while somebody looks. Then `owner/` is renamed to
`owner.TOKEN.gone`, which only one can do, and which stays. Who wants a run that is owned on another host waits for a
beat or for the third missed one: a scheduler may have moved a job from there to here just now.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from snn_exp.errors import UserError
from snn_exp.escaping import say
from snn_exp.files import Unreadable
from snn_exp.runs.run_files import read_owner

BEAT_S = 10.0
MISSED_BEATS = 3
SILENT_S = 3.0  # of waiting, after which it is said


class Taken(UserError):
    """Another living process trains the run."""

    exit_code = 1


class Lost(UserError):
    """The run belongs to another process now; this one stops and writes nothing."""

    exit_code = 1


class Removed(UserError):
    """The run's folder is gone; what was trained since its start is lost."""

    exit_code = 1


class Ownership:
    """The right to write into a run's folder.

    Args:
        folder: of the run.
        token: that of this owner.
    """

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self.token = token
        self._released = threading.Event()

    def check(self) -> None:
        """Check that the lock is still held; call this before writing anything that matters.

        Raises:
            Lost: another process has taken the run over.
            Removed: the folder is gone.
        """
        if _owner(self.folder).get("token") == self.token:
            return
        if not any(os.path.lexists(self.folder / name) for name in ("owner", "manifest.json", "result.json")):
            raise removed(self.folder)
        raise Lost(f"run {self.folder.name} belongs to another process now; this one has stopped")

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                self.check()
                os.utime(self.folder / "owner" / "beat")
            except (Lost, OSError):
                return


def removed(folder: Path) -> Removed:
    """Return the error for a run whose folder was removed while it trained."""
    return Removed(f"the folder {folder} was removed while its run trained; the same command trains it again")


@contextmanager
def owning(folder: Path) -> Iterator[Ownership]:
    """Own a run's folder inside the block.

    Raises:
        Taken: a living process owns it.

    Example:
        >>> import tempfile
        >>> run = Path(tempfile.mkdtemp())
        >>> with owning(run) as ownership:
        ...     ownership.check()
        ...     (run / "owner").is_dir()
        True
        >>> (run / "owner").exists()
        False
    """
    ownership = _take(folder)
    thread = threading.Thread(target=ownership._beat, daemon=True)
    thread.start()
    try:
        yield ownership
    finally:
        ownership._released.set()
        thread.join()
        if _owner(folder).get("token") == ownership.token:
            shutil.rmtree(_put_away(folder, ownership.token))


def refuse_if_taken(folder: Path, *, patient: bool = True) -> None:
    """Refuse to move or remove the folder of a run that is being trained.

    Args:
        folder: of the run.
        patient: wait for a beat where one is from the future; else such an owner lives.

    Raises:
        Taken: a living process owns it.
    """
    owner = _owner(folder)
    if not owner or _is_gone(folder, owner):
        return
    if not patient or not _is_from_the_future(folder, owner) or _shows_life(folder, owner):
        raise _taken(folder, owner)


def _taken(folder: Path, owner: dict[str, Any]) -> Taken:
    return Taken(
        f"run {folder.name} is being trained by process {owner['pid']} on {owner['host']}; wait until it has ended, or "
        f"stop that process"
    )


def _take(folder: Path) -> Ownership:
    folder.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    ours = folder / f"owner.{token}"
    ours.mkdir()
    try:
        (ours / "owner.json").write_text(json.dumps({"token": token, **_here()}), encoding="utf-8")
        (ours / "beat").touch()
    except OSError:  # of a full disk
        shutil.rmtree(ours, ignore_errors=True)
        raise
    while not _renamed(ours, folder / "owner"):
        owner = _owner(folder)
        if owner and _shows_life(folder, owner):
            shutil.rmtree(ours)
            raise _taken(folder, owner)
        if owner:
            _put_away(folder, owner["token"])
            if _owner(folder).get("token") == owner["token"]:  # its name is that of an owner that was removed before
                shutil.rmtree(ours)
                raise UserError(
                    f"run {folder.name} is damaged: it has an owner that was removed before; snn-exp train ... --rerun "
                    f"trains it again"
                )
    return Ownership(folder, token)


def _put_away(folder: Path, token: str) -> Path:
    """Rename the owner with this token away, if it is still there; return the new path.

    The name is the token's own and stays taken. So a process that comes late with it cannot rename away who has
    followed: a folder cannot be renamed onto one that is not empty.
    """
    away = folder / f"owner.{token}.gone"
    with suppress(FileNotFoundError):
        _renamed(folder / "owner", away)
    return away


def _renamed(folder: Path, to: Path) -> bool:
    """Rename a folder; return False if the place is taken."""
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # the last: by something that is not a folder
            return False
        raise
    return True


def _owner(folder: Path) -> dict[str, Any]:
    """Return who owns the folder; empty if nobody does.

    An owner whose owner.json cannot be read is on no known host, so that its beat alone says whether it lives.
    """
    place, reason = folder / "owner", "it is not there"
    for _ in range(3):  # a new owner may take the place of an old one between the two looks
        try:
            return read_owner(place / "owner.json", folder).model_dump()
        except FileNotFoundError:
            if not os.path.lexists(place):
                return {}
        except Unreadable as error:
            reason = error.reason
    try:
        found = place.lstat()
    except OSError:
        return {}
    token = f"unreadable-{found.st_ino}-{found.st_mtime_ns}"
    return {"token": token, "host": f"an unknown host (owner.json: {reason})", "where": "", "pid": 0, "started": 0.0}


def _here() -> dict[str, Any]:
    """Return this process and the namespace of its pid: containers may share a host's name but not its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        where = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        where = ""  # no Linux, and so no container
    process = psutil.Process()
    pid, started = process.pid, process.create_time()
    return {"host": socket.gethostname(), "where": where, "pid": pid, "started": started, "ticks": _ticks(pid)}


def _ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot, which no correction of the clock moves.

    None where the system does not say: psutil's start of a process is in seconds of the day, and moves with them.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # field 22 of proc(5); a name may hold spaces and brackets
    except (OSError, ValueError, IndexError):
        return None


def _is_here(owner: dict[str, Any]) -> bool:
    here = _here()
    return all(owner[key] == here[key] for key in ("host", "where"))


def _shows_life(folder: Path, owner: dict[str, Any]) -> bool:
    """Return whether the owner lives; one on another host has to beat meanwhile, three beats long at most."""
    beat = folder / "owner" / "beat"
    with suppress(OSError):
        before, since, begun, is_said = beat.stat().st_mtime, _now(folder), time.monotonic(), False
        while not _is_gone(folder, owner):
            if _is_here(owner) or beat.stat().st_mtime != before:
                return True
            waited = max(_now(folder) - since, time.monotonic() - begun)
            if waited > MISSED_BEATS * BEAT_S:
                return False
            if waited > SILENT_S and not is_said:
                is_said = True
                say(
                    f"snn-exp: run {folder.name} was last trained by process {owner['pid']} on {owner['host']}; "
                    f"waiting up to {MISSED_BEATS * BEAT_S:.0f} s for a sign that it still is",
                    sys.stderr,
                )
            time.sleep(BEAT_S / 10)
    return False


def _is_gone(folder: Path, owner: dict[str, Any]) -> bool:
    if _is_here(owner):
        try:
            started: float = psutil.Process(owner["pid"]).create_time()
        except psutil.NoSuchProcess:
            return True
        if owner["ticks"] is not None and (ticks := _ticks(owner["pid"])) is not None:
            return bool(ticks != owner["ticks"])  # then the number is another process's by now
        return abs(started - float(owner["started"])) > 1
    try:
        return _now(folder) - (folder / "owner" / "beat").stat().st_mtime > MISSED_BEATS * BEAT_S
    except OSError:  # an owner is there with its beat or not at all
        return True


def _is_from_the_future(folder: Path, owner: dict[str, Any]) -> bool:
    """Return whether the last beat of an owner on another host is further ahead than clocks are coarse."""
    try:
        return not _is_here(owner) and (folder / "owner" / "beat").stat().st_mtime > _now(folder) + BEAT_S
    except OSError:
        return False


def _now(folder: Path) -> float:
    """Return the time by the clock of the file system that stamps the beats."""
    probe = folder / f"now.{uuid.uuid4().hex}"
    try:
        probe.touch()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return time.time()  # who may only read here has no better clock
    now = probe.stat().st_mtime
    probe.unlink()
    return now
