"""Handle signals that stop a command: one sentence, a clean terminal line, no process left behind. No torch.

The first Ctrl-C, SIGTERM or SIGHUP raises `Interrupted` in the main thread, so that everything open is closed: run
folders have no owner any more and resume from their last checkpoint. A second one ends the command at once, and so does
a close that takes longer than GRACE_S. A thread sees to that: the main one may be busy in a library that hears nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

GRACE_S = 10.0
SAME_S = 0.2  # a terminal that is closed says SIGHUP more than once, and a wrapper may repeat what it hears
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP

MakeSentence = Callable[[], str]


def begins_again() -> str:
    """Return the message of a command that keeps no partial results."""
    return "interrupted; the same command starts it again"


class Interrupted(BaseException):
    """A signal stops the command.

    It is not a KeyboardInterrupt: Lightning answers that one with an exit of its own.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Watch:
    """Listens to the signals while it is open; there is one at a time."""

    def __init__(self) -> None:
        self.stopped_by: int | None = None  # the first signal, once it is raised
        self.what_goes_on: MakeSentence = begins_again
        self.notes: list[str] = []
        self._heard: int | None = None  # the first signal, by the thread
        self._ours: list[int] = []  # signals that this process says to itself
        self._hears, self._tells = os.pipe()
        os.set_blocking(self._tells, False)
        self._before: dict[int, Any] = {}
        self._told_before = -1
        self._unraisable_before = sys.unraisablehook

    def open(self) -> None:
        """Take over the signals; what the system was told to ignore, as nohup does, stays ignored."""
        threading.Thread(target=self._follow, daemon=True).start()
        self._told_before = signal.set_wakeup_fd(self._tells, warn_on_full_buffer=False)
        sys.unraisablehook = self._raise_again
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._raise)

    def close(self) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._told_before)
        sys.unraisablehook = self._unraisable_before
        os.close(self._tells)  # which ends the thread

    def _raise(self, number: int, frame: object) -> None:
        if self.stopped_by is None:
            self.stopped_by = self._heard or number
            raise Interrupted(self.stopped_by)

    def _raise_again(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise the signal again: in a __del__ an exception is lost, and only printed."""
        if isinstance(unraisable.exc_value, Interrupted):
            self.stopped_by = None
            _later(0.05, self._raise_in_main)
        else:
            self._unraisable_before(unraisable)

    def _raise_in_main(self) -> None:
        ours = [number for number in reversed(self._before) if signal.getsignal(number) == self._raise]
        if self.stopped_by is None and ours:
            self._ours.append(ours[0])
            signal.pthread_kill(threading.main_thread().ident or 0, ours[0])

    def _follow(self) -> None:
        """Count the signals, whoever handles them."""
        first_at: float | None = None
        while True:
            patience = None if first_at is None else max(0.0, first_at + GRACE_S - time.monotonic())
            if not select.select([self._hears], [], [], patience)[0]:
                self._end_now()
            heard = os.read(self._hears, 64)
            if not heard:
                os.close(self._hears)
                return
            for number in (byte for byte in heard if byte in self._before):
                if number in self._ours:
                    self._ours.remove(number)
                elif first_at is None:
                    first_at, self._heard = time.monotonic(), number
                    # where a library handles it, as Lightning does SIGTERM, it is raised all the same
                    _later(SAME_S, self._raise_in_main)
                elif time.monotonic() > first_at + SAME_S:
                    self._end_now()

    def _end_now(self) -> NoReturn:
        """End the process and those that it has started, without closing anything."""
        number = self.stopped_by or self._heard or signal.SIGINT
        _end_children(0.0)
        clean = _clean_line(sys.__stdout__) or _clean_line(sys.__stderr__)
        with contextlib.suppress(OSError):  # not through what the main thread may hold locked
            os.write(2, f"{clean}snn-exp: {self.sentence()}\n".encode())
        os._exit(128 + number)

    def sentence(self) -> str:
        """Return the message; the files it reads may be locked, and are not waited for."""
        said: list[str] = []
        asking = threading.Thread(target=lambda: said.append(self.what_goes_on()), daemon=True)
        asking.start()
        asking.join(2.0)
        return "; ".join([*(said or [begins_again()]), *self.notes])


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


_watch: _Watch | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Turn the first signal that would end the process into `Interrupted`, inside the block.

    Outside the main thread, or inside another such block, it does nothing.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = _Watch()
    _watch.open()
    try:
        yield
    finally:
        _watch.close()
        _watch = None


@contextmanager
def saying(what_goes_on: MakeSentence) -> Iterator[None]:
    """Say this sentence if the block is interrupted.

    Args:
        what_goes_on: makes the sentence, once open runs are closed.
    """
    if _watch is None:
        yield
        return
    before, _watch.what_goes_on = _watch.what_goes_on, what_goes_on
    yield
    _watch.what_goes_on = before  # not where it was interrupted: then it is still to be said


def note(text: str) -> None:
    """Say this as well, if the command is interrupted."""
    if _watch is not None:
        _watch.notes.append(text)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Block Ctrl-C for the processes that are started inside: the terminal says it to all, and this one ends them.

    Here it is still heard, by the thread that follows the signals.
    """
    if _watch is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop(number: int = signal.SIGINT) -> int:
    """End the processes of an interrupted command, and print its message; return the exit code.

    Args:
        number: of the signal, if it was not heard here.
    """
    if _watch is not None and _watch.stopped_by is not None:
        number = _watch.stopped_by
    _end_children(3.0)
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        sys.stdout.flush()
        clean = _clean_line(sys.stdout) or _clean_line(sys.stderr)
        sentence = _watch.sentence() if _watch else begins_again()
        print(f"{clean}snn-exp: {sentence}", file=sys.stderr, flush=True)
    return 128 + number


def leave(exit_code: int) -> NoReturn:
    """End the process; after a signal without waiting for threads, which may never end."""
    if _watch is None or _watch.stopped_by is None:
        sys.exit(exit_code)
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


def _clean_line(stream: TextIO | None) -> str:
    """Return the escape code that shows the cursor on an empty line, if the stream is a terminal."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None and stream.isatty():
            return "\n" if os.environ.get("TERM") == "dumb" else "\r\x1b[K\x1b[?25h"
    return ""


def _end_children(patience_s: float) -> None:
    """End the processes that this one has started, with force those that have not ended by then."""
    import psutil

    with contextlib.suppress(psutil.Error):
        left = [child for child in psutil.Process().children(recursive=True) if not _ends_by_itself(child)]
        if patience_s:
            for child in left:
                with contextlib.suppress(psutil.Error):
                    child.terminate()
            _, left = psutil.wait_procs(left, timeout=patience_s)
        for child in left:
            with contextlib.suppress(psutil.Error):
                child.kill()


def _ends_by_itself(child: object) -> bool:
    """Return whether a process ends by itself after this one, to clean up after others."""
    import psutil

    assert isinstance(child, psutil.Process)
    try:
        return any("resource_tracker" in word for word in child.cmdline())
    except psutil.Error:
        return True
