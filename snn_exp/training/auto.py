"""What `auto` is for a run on this machine: its CPU threads and the layout of its maps, each with the reason."""

from __future__ import annotations

from typing import Any

from snn_exp.config import execution_rules
from snn_exp.config.execution_rules import Chosen
from snn_exp.config.experiment import ExperimentConfig
from snn_exp.config.processor import num_cores
from snn_exp.nn.kernels import Choice, is_on_a_gpu


def threads(config: ExperimentConfig) -> Chosen[int]:
    """Return the number of CPU threads of a process of a run; what was given, or what the rule says.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> threads(compose(["trainer.num_threads=2"])).value
        2
    """
    return execution_rules.num_threads(config, num_cores(), on_a_gpu=is_on_a_gpu(config.trainer.accelerator))


def layout(config: ExperimentConfig, kernels: Choice | None) -> Chosen[bool]:
    """Return whether the maps of a run are laid out channels-last; what was given, or what the rule says.

    Args:
        config: of the run.
        kernels: of the run; None is the plain path.
    """
    used = "reference" if kernels is None else kernels.used
    return execution_rules.channels_last(config, used, on_a_gpu=is_on_a_gpu(config.trainer.accelerator))


def answers(config: ExperimentConfig, kernels: Choice | None) -> dict[str, Chosen[Any]]:
    """Return field -> answer of each field of the trainer group that is auto and has a rule.

    Example:
        >>> from snn_exp.config.compose import compose
        >>> list(answers(compose(["trainer.channels_last=auto"]), None))
        ['channels_last']
    """
    found: dict[str, Chosen[Any]] = {}
    if config.trainer.num_threads == "auto":
        found["num_threads"] = threads(config)
    if config.trainer.channels_last == "auto":
        found["channels_last"] = layout(config, kernels)
    return found


def sentences(found: dict[str, Chosen[Any]]) -> list[str]:
    """Return a line for each answer.

    Example:
        >>> sentences({"channels_last": Chosen(True, "faster")})
        ['trainer.channels_last=auto is true: faster']
    """
    return [f"trainer.{field}=auto is {str(answer.value).lower()}: {answer.why}" for field, answer in found.items()]
