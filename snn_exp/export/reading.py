"""The base of all formats: a reader that knows only the file, and the comparison with the network.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from snn_exp.errors import UserError

Samples = Iterable[tuple[Tensor, Tensor, Tensor]]  # as the data set has them, as the network reads them, labels


@dataclasses.dataclass(frozen=True)
class Reader:
    """A file that was read back.

    Args:
        name: the program that reads it.
        begins: at the samples as the data set has them, or after the encoding, at the steps.
        logits: of a batch [K classes].
    """

    name: str
    begins: str
    logits: Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class ReadBackCheck:
    """A network and the one that was read back, on the same samples.

    Args:
        num_samples: that were compared.
        num_flipped: of them, those that are given another class.
        logit_error: largest difference of a logit, relative to the largest logit where that is above 1.
        acc: accuracy of the network, a fraction.
        acc_read: accuracy of the network that was read back, a fraction.
    """

    num_samples: int
    num_flipped: int
    logit_error: float
    acc: float
    acc_read: float


@torch.no_grad()
def check(network: nn.Module, reader: Reader, samples: Samples, dtype: torch.dtype) -> ReadBackCheck:
    """Run the network and the reader on the same samples, and compare.

    Args:
        network: [T, B, C, H, W] -> logits [B, K], in eval.
        reader: the file.
        samples: batches.
        dtype: of both.
    """
    num = flipped = hits = hits_read = 0
    error, largest = torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)
    for x, x_TBCHW, y_B in samples:
        logits = network(x_TBCHW.to(dtype))
        read = reader.logits((x if reader.begins == "samples" else x_TBCHW).to(dtype))
        num += len(y_B)
        flipped += int((logits.argmax(1) != read.argmax(1)).sum())
        hits += int((logits.argmax(1) == y_B).sum())
        hits_read += int((read.argmax(1) == y_B).sum())
        error = torch.maximum(error, (logits - read).abs().max())  # keeps a NaN, unlike max()
        largest = torch.maximum(largest, logits.abs().max())
    return ReadBackCheck(num, flipped, float(error / largest), hits / num, hits_read / num)


def require(export_format: str, *packages: str) -> None:
    """Check that the packages of a format are installed, and say what to install.

    Raises:
        UserError: a package is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise UserError(
                f"--format {export_format} needs the package {package}, which is not installed; type pip install "
                f"'snn-exp[export]'"
            )


def name_with_version(package: str) -> str:
    """Return name and version of a package, such as `onnxruntime 1.22.0`."""
    return f"{package} {version(package)}"
