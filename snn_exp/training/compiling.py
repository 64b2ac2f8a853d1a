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
    """Compile a trivial function, once per process, so that a missing compiler is reported before training.

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
        raise UserError(f"cannot use trainer.compile=true: {_first_line(error)}; {WITHOUT}") from error


def _a_line(x: Tensor) -> Tensor:
    return x.sin() + 1


def _with_its_backward(compiled: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call a compiled function for the first time, and compile its backward pass with it if this torch supports that.

    Older versions compile the backward pass lazily, so the measured time excludes it.
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
    """A network that is compiled for the shape of its first batch; batches of other shapes run uncompiled.

    The last batch of an epoch may be smaller, and is not worth a second compilation. Inductor caches compiled code on
    disk, so the next run of the same network and shapes reuses it.

    Args:
        network: its own forward stays uncompiled.
        say: called with a line on the compilation time.

    Example:
        >>> network = torch.nn.Linear(2, 2)
        >>> compiled = Compiled(network, say=lambda line: None)
        >>> compiled(torch.zeros(3, 2)).shape, compiled(torch.zeros(1, 2)).shape
        (torch.Size([3, 2]), torch.Size([1, 2]))
        >>> compiled.seconds > 0
        True
    """

    def __init__(self, network: nn.Module, say: Callable[[str], None]) -> None:
        torch.compiler.reset()  # earlier compilations count against the recompile limit of the process
        self.seconds: float | None = None  # wall time of the first forward pass, most of it the compilation
        self._network = network
        self._say = say
        self._compiled: Callable[[Tensor], Tensor] = torch.compile(network.forward, dynamic=False)
        self._shape = torch.Size()

    def __call__(self, x_TBCHW: Tensor) -> Tensor:
        """Return the logits [B, K] of a training batch.

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
