"""Choice of the kernels, reference, fused or events, with its reason; and their insertion into a network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from snn_exp.errors import UserError
from snn_exp.nn.graph import data_flow, part_at
from snn_exp.nn.kernels.build import Unavailable, library, toolchain
from snn_exp.nn.kernels.events import DTYPES
from snn_exp.nn.kernels.filtered import filtered
from snn_exp.nn.kernels.forms import (
    NORMS_WITH_A_FORM,
    Form,
    Trace,
    folded_form_of,
    form_of,
    has_a_moment_per_channel,
    trace_of,
)
from snn_exp.nn.kernels.fused import fire, fire_folded, fire_over
from snn_exp.nn.kernels.measured import card, fused_pays
from snn_exp.nn.kernels.on_cpu import NUMBERS
from snn_exp.nn.kernels.on_gpu import triton_version
from snn_exp.nn.layers import ChannelBias, Conv2d, Linear
from snn_exp.nn.networks import Network
from snn_exp.nn.neurons import Neuron
from snn_exp.nn.norms import BatchNorm, NoNorm, PSPNorm
from snn_exp.nn.synapses import IdentitySynapse, Synapse

FEW = 100_000  # values: as fast at 100,352, the plain path 2.3 times as fast at 12,544, the pass 2.2 times at 802,816
# trainer.precision -> the dtype that the convolutions pass to a neuron
_DTYPES = {"32-true": torch.float32, "64-true": torch.float64, "bf16-mixed": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Choice:
    """The kernels with which a run computes its norms and neurons, and its convolutions of spikes.

    Args:
        used: reference; fused, one pass for norm and neuron; events, these and convolutions by events.
        why: the reason, in words.
    """

    used: Literal["events", "fused", "reference"]
    why: str


def choose(
    neuron: Neuron,
    synapse: Synapse | None,
    *,
    kernels: Literal["auto", "reference", "fused", "events"],
    accelerator: str,
    precision: str,
    devices: int,
    compiled: bool,
) -> Choice:
    """Choose the kernels of a run, and build them if they are the fused ones.

    Args:
        neuron: one as the network has it.
        synapse: one as the network has it; if there is none, the filters are built where they are first used.
        kernels: what is asked for: auto takes the fused ones where they pay.
        accelerator: cpu, gpu or auto, as `is_on_a_gpu` takes it.
        precision: as in pytorch-lightning, such as 32-true.
        devices: number of devices that share every batch.
        compiled: whether torch.compile runs the training batches.

    Raises:
        UserError: kernels="fused" or "events", and these kernels cannot be used.

    Example:
        >>> from snn_exp.nn.neurons import LIF
        >>> choose(LIF(), None, kernels="auto", accelerator="cpu", precision="32-true", devices=1, compiled=True)
        Choice(used='reference', why='trainer.compile=true compiles the plain path')
    """
    if kernels == "reference":
        return Choice("reference", "trainer.kernels=reference")
    if compiled:
        return Choice("reference", "trainer.compile=true compiles the plain path")
    gpu = is_on_a_gpu(accelerator)
    if kernels == "events":
        reason = _why_no_events(neuron, gpu=gpu, precision=precision, devices=devices)
        if reason is None:
            return Choice("events", f"trainer.kernels=events; built by {Path(toolchain()[0]).name}")
        raise UserError(f"cannot use trainer.kernels=events: {reason}; leave it out, or type trainer.kernels=reference")
    why = "trainer.kernels=fused" if kernels == "fused" else "faster, see benchmarks/kernels.md"
    if kernels == "auto" and gpu:
        pays, why = fused_pays(card(), neuron)
        if not pays:
            return Choice("reference", why)
    elif kernels == "auto" and neuron.emits == "signs":
        return Choice("reference", "a step with signs is hardly faster fused, see benchmarks/kernels.md")
    reason = _why_not(neuron, synapse, gpu=gpu, precision=precision, devices=devices)
    if reason is None:
        return Choice("fused", f"{why}; built by {triton_version() if gpu else Path(toolchain()[0]).name}")
    if kernels == "fused":
        raise UserError(f"cannot use trainer.kernels=fused: {reason}; leave it out, or type trainer.kernels=reference")
    return Choice("reference", reason)


def is_on_a_gpu(accelerator: str) -> bool:
    """Return whether a run with this trainer.accelerator computes on a GPU of this machine."""
    return accelerator == "gpu" or (accelerator == "auto" and torch.accelerator.is_available())


def _why_not(neuron: Neuron, synapse: Synapse | None, *, gpu: bool, precision: str, devices: int) -> str | None:
    if precision not in _DTYPES:
        return f"the fused kernels are for trainer.precision={', '.join(_DTYPES)}, not {precision}"
    if devices > 1:
        return f"the fused kernels see one share of a batch, and trainer.devices is {devices}"
    form = form_of(neuron)
    if isinstance(form, str):
        return form
    try:
        if gpu:
            triton_version()
        else:
            numbers = NUMBERS[_DTYPES[precision]]
            library("fused.cpp", form.defines, *numbers)
            if synapse is not None and (trace := trace_of(synapse)):
                library("filter.cpp", trace.defines, *numbers)
    except Unavailable as reason:
        return str(reason)
    return None


def _why_no_events(neuron: Neuron, *, gpu: bool, precision: str, devices: int) -> str | None:
    real = DTYPES.get(_DTYPES.get(precision, torch.bfloat16))
    if gpu:
        return "convolutions by events are for a CPU"
    if real is None:
        return f"convolutions by events are for trainer.precision=32-true, 64-true, not {precision}"
    if devices > 1:
        return f"the fused kernels see one share of a batch, and trainer.devices is {devices}"
    if neuron.emits != "spikes":
        return f"convolutions by events read spikes, 0 and 1, and this neuron emits {neuron.emits}"
    try:
        library("events.cpp", (), real, real)
    except Unavailable as reason:
        return str(reason)
    return None


@torch.no_grad()
def fuse(network: Network, *, overwrite: bool = False, write_words: bool = False) -> None:
    """Make neurons, synapses and PSP norms of a network use the fused passes from now on.

    A neuron takes in the batch norm that it alone reads, a PSP norm the synapse. They do so in training only: in eval
    each computes by itself, so that the network is bitwise the plain one. A neuron with a norm folded in has a pass
    where no gradients are asked for. Parts without a fused form stay as they are. Names in the state_dict do as well.

    Args:
        network: it may be moved to another device later.
        overwrite: where no gradients are asked for, a neuron writes its spikes over a current that it alone reads,
            which takes half the memory and less time. A hook that keeps such a current keeps spikes then.
        write_words: in training, a neuron writes its spikes as bits besides, for `add_where_spikes_are`.
    """
    norm_of = dict(_norms_that_a_neuron_alone_reads(network))
    own = set(_neurons_with_a_current_of_their_own(network)) if overwrite else set()
    constants = dict(_constants_that_a_folded_neuron_alone_reads(network))
    for neuron in [module for module in network.modules() if isinstance(module, Neuron)]:
        if folded := folded_form_of(neuron):
            constant = constants.get(neuron)
            plain = neuron.forward
            _replace_forward(neuron, functools.partial(_fire_folded, neuron, plain, folded, constant, neuron in own))
            if constant is not None:
                _replace_forward(constant, functools.partial(_leave_to_the_folded, constant.forward))
            continue
        form = form_of(neuron)
        if isinstance(form, str):
            continue
        norm = norm_of.get(neuron)
        _replace_forward(neuron, functools.partial(_fire, neuron, form, norm, neuron in own, write_words))
        if norm is not None:
            _replace_forward(norm, functools.partial(_hand_on, norm, norm.forward))
    _fuse_filters(network)


def _fuse_filters(network: Network) -> None:
    taken_in = {norm: synapse for synapse, norm in _synapses_that_a_norm_alone_reads(network)}
    for part in list(network.modules()):
        if has_a_moment_per_channel(part):
            synapse = taken_in.get(part)
            trace = trace_of(synapse or IdentitySynapse())
            assert trace is not None
            _replace_forward(part, functools.partial(_filter, part, part.forward, trace, part))
            if synapse is not None:
                _replace_forward(synapse, functools.partial(_leave_to_the_norm, synapse, synapse.forward))
        elif isinstance(part, Synapse) and part not in taken_in.values():
            trace = trace_of(part)
            if trace is not None and trace.name != "Identity":
                _replace_forward(part, functools.partial(_filter, part, part.forward, trace, None))


def _synapses_that_a_norm_alone_reads(network: Network) -> Iterator[tuple[Synapse, PSPNorm]]:
    for node in data_flow(network).nodes:
        synapse = part_at(network, node)
        readers = [part_at(network, reader) for reader in node.users]
        if isinstance(synapse, Synapse) and trace_of(synapse) and len(readers) == 1:
            (norm,) = readers
            if has_a_moment_per_channel(norm):
                yield synapse, norm


def _norms_that_a_neuron_alone_reads(network: Network) -> Iterator[tuple[Neuron, BatchNorm]]:
    for node in data_flow(network).nodes:
        norm = part_at(network, node)
        readers = [part_at(network, reader) for reader in node.users]
        if type(norm) in NORMS_WITH_A_FORM and len(readers) == 1 and isinstance(readers[0], Neuron):
            assert isinstance(norm, BatchNorm)
            yield readers[0], norm


def _neurons_with_a_current_of_their_own(network: Network) -> Iterator[Neuron]:
    """Find the neurons that alone read what weights or a batch norm have just put into a new tensor."""
    for node in data_flow(network).nodes:
        neuron = part_at(network, node)
        if isinstance(neuron, Neuron):
            (read,) = node.all_input_nodes
            while isinstance(part_at(network, read), nn.Identity | NoNorm | ChannelBias) and len(read.users) == 1:
                (read,) = read.all_input_nodes  # what is left of a folded norm returns its input
            if isinstance(part_at(network, read), Conv2d | Linear | BatchNorm) and len(read.users) == 1:
                yield neuron


def _constants_that_a_folded_neuron_alone_reads(network: Network) -> Iterator[tuple[Neuron, ChannelBias]]:
    for node in data_flow(network).nodes:
        constant = part_at(network, node)
        readers = [part_at(network, reader) for reader in node.users]
        neuron = readers[0] if len(readers) == 1 else None
        if isinstance(constant, ChannelBias) and isinstance(neuron, Neuron) and folded_form_of(neuron):
            yield neuron, constant


def _replace_forward(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
    module.forward = forward


def _fire(
    neuron: Neuron, form: Form, norm: BatchNorm | None, overwrite: bool, write_words: bool, x_TBN: Tensor
) -> Tensor:
    taken_in = norm if norm is not None and _is_left_to_the_neuron(norm, x_TBN) else None
    if overwrite and taken_in is None and not torch.is_grad_enabled():
        return fire_over(neuron, form, x_TBN)
    return fire(neuron, form, taken_in, x_TBN, writes_words=write_words and neuron.training)


def _fire_folded(
    neuron: Neuron,
    forward: Callable[[Tensor], Tensor],
    form: Form,
    constant: ChannelBias | None,
    overwrite: bool,
    x_TBN: Tensor,
) -> Tensor:
    # without dynamics the plain path is a comparison, and of few values faster than a call of the pass
    if not _takes_a_folded_pass(x_TBN) or (neuron.single_step and x_TBN.numel() < FEW):
        return forward(x_TBN)
    return fire_folded(neuron, form, None if constant is None else constant.bias, x_TBN, overwrite=overwrite)


def _leave_to_the_folded(forward: Callable[[Tensor], Tensor], x_TBN: Tensor) -> Tensor:
    return x_TBN if _takes_a_folded_pass(x_TBN) else forward(x_TBN)


def _takes_a_folded_pass(x_TBN: Tensor) -> bool:
    return not torch.is_grad_enabled() and x_TBN.device.type == "cpu" and x_TBN.dtype in DTYPES


def _hand_on(norm: BatchNorm, forward: Callable[[Tensor], Tensor], x_TBN: Tensor) -> Tensor:
    return x_TBN if _is_left_to_the_neuron(norm, x_TBN) else forward(x_TBN)


def _is_left_to_the_neuron(norm: BatchNorm, x_TBN: Tensor) -> bool:
    return norm.training and x_TBN.numel() > x_TBN.shape[2]  # torch refuses a single value per channel


def _filter(
    part: nn.Module, forward: Callable[[Tensor], Tensor], trace: Trace, norm: PSPNorm | None, s_TBN: Tensor
) -> Tensor:
    return filtered(trace, norm, s_TBN) if _is_filtered_in_one_pass(part, s_TBN) else forward(s_TBN)


def _leave_to_the_norm(synapse: Synapse, forward: Callable[[Tensor], Tensor], s_TBN: Tensor) -> Tensor:
    return s_TBN if _is_filtered_in_one_pass(synapse, s_TBN) else forward(s_TBN)


def _is_filtered_in_one_pass(part: nn.Module, s_TBN: Tensor) -> bool:
    return part.training and s_TBN.device.type == "cpu"
