"""Several processes that train one run: started together, and ended together.

The process that owns the run starts them and waits, and does not train itself: if one is killed, the owner is never
left waiting in a collective operation, on a CPU or on GPUs. They are forks of a server that has imported only what they
need, since a fork of a process that uses CUDA cannot use it; so the next run of a sweep starts at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any

from lightning_fabric.plugins.environments.lightning import find_free_network_port

from snn_exp.errors import UserError
from snn_exp.runs import interrupts
from snn_exp.runs.lock import Lost


def together(
    num_processes: int, function: Callable[..., None], *arguments: Any, num_threads: int | None = None
) -> None:
    """Call a function in several processes, as function(rank, *arguments), and return when all have returned.

    The first one to fail ends the others, and so does the end of the parent process.

    Args:
        num_processes: how many.
        function: called in each process.
        arguments: passed after the rank.
        num_threads: CPU threads per process, unless OMP_NUM_THREADS is set; None leaves it to the libraries.

    Raises:
        UserError: as raised by the function; `Lost` likewise.
        RuntimeError: anything else that it raised, or what killed its process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    errors = context.SimpleQueue()
    # the present environment, which the server lacks, and the address at which the processes meet
    threads = {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)}  # else Lightning takes all cores
    environment = {**threads, **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    processes: list[BaseProcess] = []
    with contextlib.ExitStack() as stack:
        with interrupts.kept_from_children():
            for rank in range(num_processes):
                described = {**environment, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
                processes.append(context.Process(target=_call, args=(rank, described, errors, function, arguments)))
                processes[-1].start()
                stack.callback(_end, processes[-1])
        while any(process.exitcode is None for process in processes):
            wait([process.sentinel for process in processes if process.exitcode is None])
            if any(process.exitcode for process in processes):
                raise _reason([process.exitcode for process in processes], errors)


def _call(
    rank: int,
    environment: dict[str, str],
    errors: SimpleQueue[Exception],
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Call the function in a process of its own, and hand its error to the parent."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for number in (
        signal.SIGTERM,
        signal.SIGUSR2,
    ):  # Slurm sends them to all processes of a job: see callbacks.KeepSigterm
        signal.signal(number, _leave_to_parent)
    os.environ.update(environment)
    try:
        function(rank, *arguments)
    except (UserError, Lost) as error:
        errors.put(error)
        sys.exit(1)
    except Exception as error:
        failure = RuntimeError(f"process {rank}: {type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        errors.put(failure)
        sys.exit(1)


def _reason(exit_codes: list[int | None], errors: SimpleQueue[Exception]) -> Exception:
    """Return why the first process ended; if one was killed, the errors of the others only follow from it."""
    for rank, code in enumerate(exit_codes):
        if code is not None and code < 0:
            return RuntimeError(
                f"process {rank} of {len(exit_codes)} was killed by {signal.Signals(-code).name}, and the others with "
                f"it; the same command resumes from the last checkpoint"
            )
    if not errors.empty():
        return errors.get()
    return RuntimeError(f"one of {len(exit_codes)} processes ended early: exit codes {exit_codes}")


def _end(process: BaseProcess) -> None:
    """End a process at once."""
    process.kill()
    process.join()


def _end_with_parent() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody owns the run any more, so nothing more may be written


def _leave_to_parent(number: int, frame: object) -> None:
    """Ignore a signal; the parent process handles it."""
