"""Vectorized seeds: each is an ordinary run in its own thread, and all share one forward and one backward pass.

One thread runs at a time; it yields only where it waits for the others. When all have brought a batch, or the gradients
of their logits, the last to arrive computes for all, on their joined networks (`stacking`). Global state, such as the
default dtype, which a trainer changes during a step, is restored before another thread runs.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from snn_exp.nn.networks import Network
from snn_exp.training.stacking import Stack

Work = Callable[[Sequence[Any]], Sequence[Any]]


class Failed(Exception):
    """The common step has failed, and with it every run."""


class Abandoned(BaseException):
    """The user has stopped all runs; none of them has failed."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the default dtype of all threads inside the block; a trainer in 64-true changes it during a step."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Lockstep:
    """The barrier at which vectorized runs exchange inputs and results.

    Args:
        num_seats: number of runs.
        checkpoint_every_s: seconds between two checkpoints of all runs.
    """

    def __init__(self, num_seats: int, checkpoint_every_s: float = math.inf) -> None:
        self.seats = [Seat(self) for _ in range(num_seats)]
        self.present = list(self.seats)
        self._turn = threading.Condition()
        self._default_dtype = self._dtype_of_the_step = torch.get_default_dtype()
        self._brought: dict[Seat, Any] = {}
        self._answers: dict[Seat, Any] = {}
        self._work: Work = lambda brought: ()
        self._reason: BaseException | None = None  # why it was abandoned
        self._stack: Stack | None = None
        self._stacked: list[Seat] = []
        self._logits: Sequence[Tensor] = ()
        self._checkpoint_every_s = checkpoint_every_s
        self._checkpoint_was_due_at = time.monotonic()
        self.checkpoint_is_due = False  # after the batch that all have just trained

    def run(self, jobs: Sequence[Callable[[Seat], object]]) -> None:
        """Run all jobs, each in its seat, until all have ended; an interrupt ends them at their next meeting."""
        with ThreadPoolExecutor(
            len(self.seats)
        ) as threads:  # an interrupted `Thread.join` may take a live thread for dead
            sitting = [threads.submit(self._sit, seat, job) for seat, job in zip(self.seats, jobs, strict=True)]
            try:
                wait(sitting)
            except BaseException as reason:
                self._abandon(reason)
                raise
        for done in sitting:
            done.result()

    def _sit(self, seat: Seat, job: Callable[[Seat], object]) -> None:
        with self._turn:
            try:
                job(seat)
            except Abandoned:
                pass  # whoever called `run` gets the reason
            finally:
                self.present.remove(seat)
                self._work_if_all_have_come()

    def _abandon(self, reason: BaseException) -> None:
        self._reason = reason  # before taking the lock: runs that pass it to each other rarely release it
        with self._turn:
            self._turn.notify_all()

    def meet(self, seat: Seat, brought: Any, work: Work) -> Any:
        """Wait for the other runs, and return this run's part of the common result.

        Args:
            seat: the run that calls.
            brought: its input.
            work: the inputs of all -> the results of all; the same function for all runs.

        Raises:
            Failed: the common step failed.
            Abandoned: the user stopped the runs.
        """
        self._brought[seat], self._work = brought, work
        self._dtype_of_the_step = torch.get_default_dtype()
        self._work_if_all_have_come()
        with default_dtype(self._default_dtype):
            while seat not in self._answers and self._reason is None:
                self._turn.wait()
        if isinstance(self._reason, Exception):
            raise Failed(f"the common step ended in {type(self._reason).__name__}: {self._reason}") from self._reason
        if self._reason is not None:
            raise Abandoned from self._reason
        return self._answers.pop(seat)

    def _work_if_all_have_come(self) -> None:
        if not self._brought or len(self._brought) < len(self.present):
            return
        seats = list(self.present)
        brought, self._brought = [self._brought[seat] for seat in seats], {}
        all_s, own_s = time.process_time(), time.thread_time()
        try:
            with default_dtype(self._dtype_of_the_step):  # also if the last to arrive has ended its run
                self._answers = dict(zip(seats, self._work(brought), strict=True))
        except BaseException as error:
            self._reason = error
        share_s, own_s = (time.process_time() - all_s) / len(seats), time.thread_time() - own_s
        for seat in seats:
            seat.cpu_of_meetings_s += share_s - (own_s if seat.is_of_this_thread else 0.0)
        self._turn.notify_all()

    def forward(self, brought: Sequence[tuple[Network, Tensor]]) -> Sequence[Tensor]:
        """Return the logits [B, K] of each network on its batch, as leaves whose gradients `backward` takes."""
        if self._stacked != self.present:
            self._stack, self._stacked = Stack([network for network, _ in brought]), list(self.present)
        assert self._stack is not None
        with torch.enable_grad():
            self._logits = self._stack([x for _, x in brought])
        return [logits.detach().requires_grad_() for logits in self._logits]

    def backward(self, brought: Sequence[Tensor]) -> Sequence[None]:
        """Store in every network the gradients of its weights."""
        assert self._stack is not None
        gradients = dict(zip(self.present, brought, strict=True))
        whose = [(logits, gradients[seat]) for seat, logits in zip(self._stacked, self._logits, strict=True)
                 if seat in gradients]  # fmt: skip
        torch.autograd.backward([logits for logits, _ in whose], [gradient for _, gradient in whose])
        self._logits = ()
        self._stack.hand_on_gradients()
        now = time.monotonic()
        self.checkpoint_is_due = now - self._checkpoint_was_due_at >= self._checkpoint_every_s
        if self.checkpoint_is_due:
            self._checkpoint_was_due_at = now
        return [None] * len(brought)


class Seat:
    """One run's place among vectorized runs.

    Args:
        lockstep: where they meet.
    """

    def __init__(self, lockstep: Lockstep) -> None:
        self._lockstep = lockstep
        self._thread: int | None = None
        self._logits: Tensor | None = None
        self.cpu_of_meetings_s = 0.0

    @property
    def is_of_this_thread(self) -> bool:
        """Return whether its run is the one of the current thread."""
        return self._thread == threading.get_ident()

    @property
    def checkpoint_is_due(self) -> bool:
        """Return whether all runs write a checkpoint after the batch that they have just trained."""
        return self._lockstep.checkpoint_is_due

    def cpu_s(self) -> float:
        """Return the CPU time of its run: that of its thread, and its share of the common steps."""
        self._thread = threading.get_ident()
        return time.thread_time() + self.cpu_of_meetings_s

    def forward(self, network: Network, x_TBCHW: Tensor) -> Tensor:
        """Return the logits [B, K] of a training batch."""
        self._thread = threading.get_ident()
        logits: Tensor = self._lockstep.meet(self, (network, x_TBCHW), self._lockstep.forward)
        self._logits = logits
        return logits

    def backward(self) -> None:
        """Propagate the gradient of the logits to the network's weights."""
        assert self._logits is not None
        self._lockstep.meet(self, self._logits.grad, self._lockstep.backward)
        self._logits = None
