"""torch.compile of the training batches of a run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
import torch._functorch.config
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from snn_exp.errors import UserError

WITHOUT = "leave trainer.compile out"


@functools.cache
def require_compiler(device: str) -> None:
    """Compiles a line, so that what a machine lacks is said before training; once a process.

    Args:
        device: cpu or cuda.

    Raises:
        UserError: there is no compiler, or it does not run.

    Example:
        >>> require_compiler("cpu")
    """
    try:
        _with_its_backward(torch.compile(_a_line, dynamic=False), torch.zeros(8, device=device, requires_grad=True))
    except TorchDynamoException as error:
        raise UserError(f"trainer.compile=true cannot be: {_first_line(error)}; {WITHOUT}") from error


def _a_line(x: Tensor) -> Tensor:
    return x.sin() + 1


def _with_its_backward(compiled: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call it for the first time, and compile the backward pass with it where this torch can be told to.

    Older ones compile it when it comes to it, so that the time they are seen to take leaves it out.
    """
    options = torch._functorch.config
    if not hasattr(options, "force_non_lazy_backward_lowering"):
        return compiled(x)
    with options.patch(force_non_lazy_backward_lowering=True):
        return compiled(x)


def _first_line(error: TorchDynamoException) -> str:
    reason = getattr(error, "inner_exception", error)
    return ": ".join([type(reason).__name__, *str(reason).splitlines()[:1]]).rstrip(".")


class Compiled:
    """A network that is compiled for the shape of its first batch; a batch of another goes the plain way.

    The last batch of an epoch may be smaller, and is not worth a second compilation. Inductor keeps what it compiled on
    disk, so that the next run of the same network and shapes takes it from there.

    Args:
        network: it keeps its own forward.
        say: told how long the compilation took.

    Example:
        >>> network = torch.nn.Linear(2, 2)
        >>> compiled = Compiled(network, say=lambda line: None)
        >>> compiled(torch.zeros(3, 2)).shape, compiled(torch.zeros(1, 2)).shape
        (torch.Size([3, 2]), torch.Size([1, 2]))
        >>> compiled.seconds > 0
        True
    """

    def __init__(self, network: nn.Module, say: Callable[[str], None]) -> None:
        torch.compiler.reset()  # what a process compiled before counts against a limit, past which nothing is compiled
        self.seconds: float | None = None  # wall time of the first forward pass, most of it the compilation
        self._network = network
        self._say = say
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(network.forward, dynamic=False)
        self._shape = torch.Size()

    def __call__(self, x_TBCHW: Tensor) -> Tensor:
        """The logits [B, K] of a training batch.

        Raises:
            UserError: the network cannot be compiled.
        """
        if self.seconds is None:
            return self._first(x_TBCHW)
        logits: Tensor = (self._compiled if x_TBCHW.shape == self._shape else self._network)(x_TBCHW)
        return logits

    def _first(self, x_TBCHW: Tensor) -> Tensor:
        start = time.perf_counter()
        try:
            logits = _with_its_backward(self._compiled, x_TBCHW)
        except TorchDynamoException as error:
            raise UserError(f"torch.compile ended in {_first_line(error)}; {WITHOUT}") from error
        self._shape, self.seconds = x_TBCHW.shape, time.perf_counter() - start
        self._say(f"compiled in {self.seconds:.1f} s")
        return logits
