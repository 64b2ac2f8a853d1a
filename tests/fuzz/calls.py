"""One call in a process of its own: what it may take, what it did, and how it ended.

The process is a fork of ours, in which everything is imported already; it is watched from here, and ended where it takes
too long or waits for what will never come, such as the other end of a FIFO.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.box import Box

LIMIT_S = 20.0  # of the processor, or of waiting
WAIT_S = 8.0  # for nothing: a FIFO, a lock
MEMORY = 2 * 2**30  # bytes, at most resident
ANY = (0, 1, 2, 130)  # exit codes
OUTPUT = 2**27  # bytes of one file


@dataclasses.dataclass(frozen=True)
class Call:
    """What is called in a box.

    Args:
        argv: of snn-exp; or of `FUNCTIONS`, behind the word python.
        may_change: patterns of paths below the box that this call may make, change or remove, beside scratch.
        keeps: patterns of those among them that it must leave as they are.
        trains: whether training is done; otherwise a stored result stands in for it.
        must: the codes it may end with, where what was tampered with is none of its business.
        sees: environment, instead of the box's.
        stdout: where it prints: a file; or "full", a disk with no room; or "pipe", a pipe that nobody reads any more.
        signals: number of a signal, and how many seconds after the beginning of the call it is sent.
    """

    argv: tuple[str, ...]
    may_change: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    trains: bool = False
    must: tuple[int, ...] = ANY
    sees: tuple[tuple[str, str], ...] = ()
    stdout: str = "file"
    signals: tuple[tuple[int, float], ...] = ()

    def text(self, box: Box) -> str:
        """As it would be typed."""
        import shlex

        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.sees)
        words += f"{' ' if words else ''}{'' if self.argv[:1] == ('python',) else 'snn-exp '}{shlex.join(self.argv)}"
        words += "" if self.stdout == "file" else f" > {self.stdout}"
        words += "".join(f"; signal {number} after {seconds:.1f} s" for number, seconds in self.signals)
        return words.replace(str(box.root), "BOX")


@dataclasses.dataclass
class Outcome:
    """How a call ended.

    Args:
        code: exit code; None where it was ended from here.
        killed: why it was ended from here, or by which signal it died.
        error: of an exception that nobody caught, the traceback.
        acts: what the audit hook saw that must not be.
        cpu_s: of the process and those it waited for.
        wall_s: of the same.
        memory: largest resident size, bytes.
    """

    code: int | None
    killed: str
    error: str
    acts: list[str]
    out: str
    err: str
    cpu_s: float
    wall_s: float
    memory: int


def _load(path: str) -> None:
    import torch

    import snn_exp

    with torch.inference_mode():
        print(snn_exp.load(path)(torch.rand(2, 1, 8, 8)).shape)


def _load_exported(path: str) -> None:
    import torch

    from snn_exp.export import load_exported

    with torch.inference_mode():
        print(load_exported(path)(torch.rand(2, 1, 8, 8)).shape)


FUNCTIONS: dict[str, Callable[[str], None]] = {"snn_exp.load": _load, "load_exported": _load_exported}
PLANNED = "--- planned ---"


def call(argv: Sequence[str]) -> int:
    """What the console script does; what Python's users call, with the same codes."""
    from snn_exp.cli import main
    from snn_exp.errors import UserError
    from snn_exp.runs import interrupts

    if argv[:1] != ("python",):
        with interrupts.listening():
            return main.main(list(argv))
    try:
        if argv[1].startswith("plan and "):
            if (code := main.main(["plan", *argv[2:]])) == 0:
                print(PLANNED, flush=True)
                code = main.main([argv[1].removeprefix("plan and "), *argv[2:]])
            return code
        FUNCTIONS[argv[1]](argv[2])
        return 0
    except UserError as error:
        print(f"snn-exp: {error}", file=sys.stderr)
        return 2


class Running:
    """A call that has been started.

    Args:
        box: where.
        asked: what.
        stored: a run folder whose files stand in for training.
    """

    def __init__(self, box: Box, asked: Call, stored: Path | None = None) -> None:
        self.box = box
        self.asked = asked
        self.started = time.monotonic()
        self._ticks = (self.started, 0.0)
        self._waited = 0.0
        self._killed = ""
        self._begun: float | None = None
        self._signals = sorted(asked.signals, key=lambda sent: sent[1])
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be_called(stored)

    def _be_called(self, stored: Path | None) -> None:
        code, error = 70, ""
        acts: list[str] = []
        try:
            os.setsid()
            _redirect(self.box, self.asked.stdout)
            os.environ |= self.box.environment() | dict(self.asked.sees)
            tempfile.tempdir = None  # it has kept ours
            os.chdir(self.box / "cwd")
            resource.setrlimit(resource.RLIMIT_AS, (int(_address_space() + 2 * MEMORY),) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if stored is not None and not self.asked.trains:
                _stand_in(stored)
            (self.box.root / "begun").touch()
            _watch(acts, self.box)
            try:
                code = call(self.asked.argv)
                sys.stdout.flush()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                code, error = 1, traceback.format_exc()
        except BaseException:
            error = "in the harness: " + traceback.format_exc()
        finally:
            _WATCHED.clear()
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            with contextlib.suppress(BaseException):
                ended = json.dumps({"code": code, "error": error[-20_000:], "acts": acts})
                (self.box.root / "ended.json").write_text(ended)
            os._exit(0)

    def outcome(self) -> Outcome | None:
        """How it ended, or None while it runs; ends what takes too long."""
        if self._signals and self._begun is None and (self.box.root / "begun").exists():
            self._begun = time.monotonic()
        while self._signals and self._begun and time.monotonic() - self._begun > self._signals[0][1]:
            number, _ = self._signals.pop(0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            self._limit()
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it has left behind
        out, err = ((self.box.root / name).read_text(errors="surrogateescape") for name in ("out.txt", "err.txt"))
        try:
            ended = json.loads((self.box.root / "ended.json").read_text())
        except (OSError, ValueError):
            ended = {"code": None, "error": "", "acts": []}
            if self.asked.signals and os.WIFEXITED(status) and os.WEXITSTATUS(status) > 128:
                ended["code"] = os.WEXITSTATUS(status)  # a second signal ends the process at once
            elif not self._killed:
                code = os.waitstatus_to_exitcode(status)
                self._killed = f"died of signal {-code}" if code < 0 else f"ended its process with code {code}"
        return Outcome(
            **ended,
            killed=self._killed,
            out=out,
            err=err,
            cpu_s=used.ru_utime + used.ru_stime,
            wall_s=time.monotonic() - self.started,
            memory=used.ru_maxrss * 1024,
        )

    def _limit(self) -> None:
        """Ends it where its own time is up: of the processor, and of waiting while it wants none."""
        now = time.monotonic()
        if now - self._ticks[0] < 0.5:
            return
        cpu, resident, waits = _used(self.pid)
        if cpu - self._ticks[1] < 0.02 and waits:
            self._waited += now - self._ticks[0]
        else:
            self._waited = 0.0
        self._ticks = (now, cpu)
        if cpu > LIMIT_S:
            self._killed = f"took more than {LIMIT_S:g} s of the processor"
        elif self._waited > WAIT_S:
            self._killed = f"waited for {WAIT_S:g} s and did nothing"
        elif resident > MEMORY * 1.5:
            self._killed = f"took {resident / 2**30:.1f} GiB"
        if self._killed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def _used(pid: int) -> tuple[float, int, bool]:
    """CPU seconds and resident bytes of a process and its descendants; whether all of them sleep."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        times = [p.cpu_times() for p in family]
        asleep = all(
            p.status() in (psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP, psutil.STATUS_ZOMBIE) for p in family
        )
        return sum(t.user + t.system for t in times), max(p.memory_info().rss for p in family), asleep
    except psutil.Error:
        return 0.0, 0, False


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _redirect(box: Box, stdout: str) -> None:
    """As a shell redirects: real files, and Python's own encodings of the two streams."""
    for fd, name in ((1, "out.txt"), (2, "err.txt")):
        file = os.open(box.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, fd)
    if stdout == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif stdout == "pipe":
        reads, writes = os.pipe()
        os.close(reads)
        os.dup2(writes, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _stand_in(stored: Path) -> None:
    """Training copies what a run has left, under the id and with the config of the one that is asked for."""
    from snn_exp.runs.folder import RunFolder
    from snn_exp.training import seeds, train

    def run(config: Any, *args: Any, folder: Any = None, **kwargs: Any) -> Any:
        folder = folder or RunFolder.of(config)
        if (done := folder.result()) is not None and folder.is_complete(config):
            return done
        folder.path.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.json", "result.json"):
            content = json.loads((stored / name).read_text())
            content |= {"run_id": config.run_id, "config": config.to_plain()}
            (folder.path / name).write_text(json.dumps(content))
        (folder.path / "metrics.csv").write_bytes((stored / "metrics.csv").read_bytes())
        return folder.result()

    def run_in_step(configs: Any) -> None:
        for config in configs:
            run(config)

    train.run, seeds.run_in_step = run, run_in_step


_WATCHED: list[tuple[list[str], Box]] = []  # what is seen now; a hook cannot be taken away again
# event -> where in its arguments a path stands, and the descriptor of the folder that it is relative to
_WRITES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),), "os.rename": ((0, 2), (1, 3)), "os.remove": ((0, 1),), "os.rmdir": ((0, 1),), "os.symlink": ((1, 2),), "os.link": ((1, 3),),
    "os.truncate": ((0, None),), "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "shutil.rmtree": ((0, 1),), "shutil.move": ((0, None), (1, None)),
    "shutil.copyfile": ((1, None),), "shutil.copytree": ((1, None),),
}  # fmt: skip
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "ctypes.dlopen")


def _watch(acts: list[str], box: Box) -> None:
    _WATCHED.append((acts, box))
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _WATCHED:
        return
    acts, box = _WATCHED[0]
    try:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            ):
                _look(acts, box, "wrote", path)
        elif event in _WRITES:
            for place, folder in _WRITES[event]:
                if isinstance(arguments[place], str | bytes | os.PathLike):
                    within = arguments[folder] if folder is not None and len(arguments) > folder else -1
                    _look(acts, box, event, arguments[place], within)
        elif event in _STARTS:
            if str(box.root) in str(arguments) and "kernels" not in str(arguments):
                acts.append(f"{event} {str(arguments)[:200]}")
        elif event == "exec" and str(box.root) in str(getattr(arguments[0], "co_filename", "")):
            acts.append(f"executed {arguments[0].co_filename}")
    except Exception as error:  # a hook that fails would look like a fault of what is tested
        acts.append(f"the hook failed: {event} {error!r}")


def _look(acts: list[str], box: Box, what: str, path: Any, folder: int | None = None) -> None:
    """Notes what is written outside the output root, the studies and scratch."""
    text = os.fsdecode(path)
    path = Path(f"/proc/self/fd/{folder}" if isinstance(folder, int) and folder >= 0 else Path.cwd(), text)
    # what is opened is written through a link; what is renamed or removed is the link
    real = os.path.realpath(path) if what == "wrote" else str(path.parent.resolve() / path.name)
    allowed = [str(box / name) for name in ("out", "tmp", "studies", "data")]
    allowed.append(str(box.root.parent / "cache"))
    allowed += ["/dev/null", "/dev/shm", "/proc/self"]
    if "__pycache__" in path.parts and not real.startswith(str(box.root)):
        return  # byte code of what is imported for the first time, and what we keep beside ours
    if not any(real == place or real.startswith(place + os.sep) for place in allowed):
        acts.append(f"{what} {text[:200]}")
