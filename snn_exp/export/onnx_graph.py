"""A network as an ONNX graph: samples in, logits out, encoding and all steps included.

Shapes: T steps, B batch, C channels, H W space, K classes.

The steps are unrolled, since T decides what a network computes; the batch stays free. A spike function is exported
as its forward, a comparison: without gradients torch traces a `torch.autograd.Function`'s operations, not the function.
Numbers that are no tensors, such as tau, are rounded to float32 by torch's exporter, whatever the precision is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.export.reading import Reader, name_with_version, require
from snn_exp.nn.encodings import Encoding, Rate
from snn_exp.nn.networks import Network

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class FromSamples(nn.Module):
    """Encoding and network in one: [B, C, H, W], or frames [B, T, C, H, W], -> logits [B, K].

    Args:
        encoding: one without chance.
        network: the network that reads the steps.

    Raises:
        UserError: the encoding draws at random.

    Example:
        >>> FromSamples(Rate(), nn.Identity())
        Traceback (most recent call last):
        snn_exp.errors.UserError: encoding=rate draws its spikes at random, ...
    """

    def __init__(self, encoding: Encoding, network: nn.Module) -> None:
        super().__init__()
        if isinstance(encoding, Rate):
            raise UserError(
                "encoding=rate draws its spikes at random, and an ONNX graph reads samples and gives the same logits "
                "each time; type --format safetensors or --format nir, which begin after the encoding"
            )
        self.encoding = encoding
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits."""
        logits: Tensor = self.network(self.encoding(x))
        return logits


@torch.no_grad()
def write_onnx(
    network: Network, encoding: Encoding, sample_shape: tuple[int, ...], path: Path, said: Mapping[str, str]
) -> None:
    """Write samples -> logits, in the precision of the network's parameters.

    Args:
        network: in eval.
        encoding: the encoding before it.
        sample_shape: of one sample, without the batch.
        path: the file.
        said: the file's description of itself.

    Raises:
        UserError: the encoding draws at random, or a package is not installed.
    """
    whole = FromSamples(encoding, network).eval()
    require("onnx", *PACKAGES)
    x = torch.zeros(2, *sample_shape, dtype=next(network.parameters()).dtype)  # of one sample torch would fix the batch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        program = torch.onnx.export(
            whole, (x,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["samples"],
            output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(said)
    program.save(path, external_data=False)


def read_onnx(path: Path) -> Reader:
    """Read the file, to be computed by onnxruntime."""
    require("onnx", *PACKAGES)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(x: Tensor) -> Tensor:
        (read,) = session.run(["logits"], {"samples": x.contiguous().numpy()})
        return torch.from_numpy(read)

    return Reader(name_with_version("onnxruntime"), "samples", logits)
