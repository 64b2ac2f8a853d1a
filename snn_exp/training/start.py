"""Start a run from the weights of another: what fits is taken, and what does not is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from snn_exp.config.experiment import ExperimentConfig
from snn_exp.errors import UserError
from snn_exp.files import printable
from snn_exp.runs.source import source_of
from snn_exp.runs.teacher import require_the_split
from snn_exp.training.build import how_to_train_again
from snn_exp.training.log import Say
from snn_exp.training.saved_weights import read_weights

MOST_NAMED = 4  # tensors of one kind, in one line


def start_from(network: nn.Module, config: ExperimentConfig, fingerprint: str, say: Say) -> dict[str, str]:
    """Give a network the weights of the run that the config names; return what the manifest keeps of it.

    Args:
        network: untrained.
        config: of the run; without init_from nothing happens.
        fingerprint: of the split of its data.
        say: called with a line on what was taken and what was not.

    Raises:
        UserError: as `source_of`; the weights are missing or damaged, or none of a layer fit; the data have
            changed since.
    """
    source = source_of(config)
    if source is None:
        return {}
    require_the_split("init_from", source, config, fingerprint)
    theirs = read_weights(source.weights, how_to_train_again(source))
    taken, differing = fitting(network.state_dict(), theirs)
    if not any(tensor.dim() > 1 for tensor in taken.values()):
        raise UserError(
            f"init_from={config.init_from} has no weights that fit: {_some(differing)}; choose a run of the same "
            f"network, or leave init_from out"
        )
    network.load_state_dict(taken, strict=False)
    num_ours, unused = len(network.state_dict()), sorted(set(theirs) - set(network.state_dict()))
    said = f"starts from run {config.init_from}: {len(taken)} of {num_ours} tensors taken"
    said += f"; new: {_some(differing)}" if differing else ""
    say(said + (f"; not used: {_some([printable(name) for name in unused])}" if unused else ""))
    weights = hashlib.sha256(source.weights.read_bytes()).hexdigest()[:16]
    return {"run": str(config.init_from), "weights": weights, "taken": f"{len(taken)} of {num_ours}"}


def fitting(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors that fit by name and shape, and a few words on each of ours that has none.

    Example:
        >>> import torch
        >>> ours = {"conv": torch.zeros(2, 3), "head": torch.zeros(5, 2), "norm": torch.zeros(2)}
        >>> taken, differing = fitting(ours, {"conv": torch.ones(2, 3), "head": torch.ones(4, 2)})
        >>> list(taken), differing
        (['conv'], ['head (5, 2), there (4, 2)', 'norm (2,), not there'])
    """
    taken, differing = {}, []
    for name, tensor in ours.items():
        if name in theirs and theirs[name].shape == tensor.shape:
            taken[name] = theirs[name]
        else:
            there = f"there {tuple(theirs[name].shape)}" if name in theirs else "not there"
            differing.append(f"{name} {tuple(tensor.shape)}, {there}")
    return taken, differing


def _some(words: Sequence[str]) -> str:
    return "; ".join(words[:MOST_NAMED]) + (f"; and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else "")
