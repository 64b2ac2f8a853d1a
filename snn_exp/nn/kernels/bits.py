"""Neurons that write their spikes as bits, for inference: 1/32 of the memory, and what convolutions by tables read.

Shapes: T steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_exp.nn.kernels.build import FireCall, library
from snn_exp.nn.kernels.forms import inference_form_of
from snn_exp.nn.kernels.fused import channel_numbers, scalar_numbers
from snn_exp.nn.kernels.layout import Layout, channels_last, computed_in
from snn_exp.nn.kernels.on_cpu import NUMBERS, threads_for
from snn_exp.nn.kernels.tables import WORD, bits_of, by_position, new_bits, require_same_numbers
from snn_exp.nn.neurons import Neuron


class FiringBits(nn.Module):
    """A neuron, with the constant in front of it, that emits 0 and 1 as bits.

    Shapes:
        x: [T, B, C, H, W] -> bits [T, B, H, W, ceil(C / 16)]

    Args:
        neuron: one that emits spikes and has a fused form; it is read once.
        constant: per channel, if there is one in front of it.

    Raises:
        ValueError: another neuron.

    Example:
        >>> from snn_exp.nn.neurons import S2NN
        >>> FiringBits(S2NN())(torch.tensor([2.0, 0.5, 1.5]).view(1, 1, 3, 1, 1)).flatten().tolist()
        [5]
    """

    threshold: Tensor

    def __init__(self, neuron: Neuron, constant: Tensor | None = None) -> None:
        super().__init__()
        form = inference_form_of(neuron)
        if form is None or neuron.emits != "spikes" or (constant is not None and not form.folded):
            raise ValueError(f"not a neuron that fires in one pass: {neuron}")
        self.form = form
        self.numbers, self.leak = scalar_numbers(neuron)
        given = channel_numbers(neuron, constant)
        self.names = tuple(given)
        for name, value in given.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=neuron.v_threshold.dtype).detach().flatten())

        self._calls: dict[tuple[torch.Size, torch.dtype], tuple[bytes, Callable[..., None]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_calls": {}}  # they hold addresses

    def forward(self, x: Tensor) -> Tensor:
        """Compute the bits."""
        x = x if channels_last(x) else by_position(x)
        template, run = self._calls.get((x.shape, x.dtype)) or self._prepared(x)
        call = FireCall.from_buffer_copy(template)
        call.x, call.threads = x.data_ptr(), threads_for(x)
        if x.shape[2] % WORD == 0:
            bits = new_bits(x)
            call.bits = bits.data_ptr()
            run(ctypes.byref(call))
            return bits
        s = torch.empty_like(x)  # words do not lie side by side: numbers are written, and packed
        call.s = s.data_ptr()
        run(ctypes.byref(call))
        return bits_of(s)

    def _prepared(self, x: Tensor) -> tuple[bytes, Callable[..., None]]:
        for name in self.names:
            value: Tensor = getattr(self, name).to(computed_in(x))
            setattr(self, name, value.expand(x.shape[2]).contiguous())
        call = FireCall(
            **Layout.of(x)._replace(channels_last=True)._asdict(), **self.numbers, num_thresholds=x.shape[2],
            leak=self.leak, **{name: getattr(self, name).data_ptr() for name in self.names},
        )  # fmt: skip
        run = library("fused.cpp", self.form.defines, *NUMBERS[x.dtype]).forward
        known = self._calls[x.shape, x.dtype] = bytes(call), run
        return known

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any) -> FiringBits:
        require_same_numbers(fn, self.threshold)
        return self
