"""Whether the fused passes pay on a GPU: what benchmarks/gpu.py measured on it, which gpus.json keeps.

A step of a network on the fused passes beside one on the plain path, card by card. As long as a card was not measured,
`trainer.kernels=auto` is the plain path there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from snn_exp.nn.neurons import Neuron

FILE = Path(__file__).with_name("gpus.json")
PAGE = "benchmarks/gpu.md"

Kind = Literal["many steps", "one step", "signs"]


@dataclasses.dataclass(frozen=True)
class Measured:
    """Time of a fused training step as a share of the plain one's, over rounds.

    Args:
        median: of the rounds' ratios.
        upper: their upper quartile.
    """

    median: float
    upper: float

    @property
    def pays(self) -> bool:
        """Whether the fused passes are faster in three rounds of four."""
        return self.upper < 1


def kind_of(neuron: Neuron) -> Kind:
    """Return for which kind of neuron the passes are measured: what they do differs by kind, not by neuron.

    Example:
        >>> from snn_exp.nn.neurons import LIF, S2NN, Sign
        >>> kind_of(LIF()), kind_of(S2NN()), kind_of(Sign())
        ('many steps', 'one step', 'signs')
    """
    if neuron.emits == "signs":
        return "signs"
    return "one step" if neuron.single_step else "many steps"


def card() -> str:
    """Return the name of the GPU that a run computes on.

    Raises:
        RuntimeError: there is none.
    """
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        raise RuntimeError("there is no GPU")
    return str(accelerator.type)


def fused_pays(name: str, neuron: Neuron) -> tuple[bool, str]:
    """Return whether the fused passes of a neuron are known to be faster on a card, and why in words.

    Args:
        name: of the card, as `card` returns it.
        neuron: one as the network has it.

    Example:
        >>> from snn_exp.nn.neurons import LIF
        >>> fused_pays("a card that was never built", LIF())[0]
        False
    """
    found = read().get(name, {}).get(kind_of(neuron))
    if found is None:
        return False, (
            f"the fused kernels were not measured on {name} yet; trainer.kernels=fused takes them, and make gpu "
            f"measures them"
        )
    faster = "faster" if found.pays else "not faster"
    return found.pays, f"{faster} on {name} ({found.median:.2f} of the plain step), see {PAGE}"


def read() -> dict[str, dict[str, Measured]]:
    """Return card -> kind of neuron -> what was measured."""
    stored: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: {kind: Measured(float(found["median"]), float(found["upper"])) for kind, found in kinds.items()}
        for name, kinds in stored.items()
    }


def keep(name: str, found: Mapping[Kind, Measured]) -> None:
    """Store what was measured on a card in place of what was before, beside the other cards'."""
    stored = {card: {kind: dataclasses.asdict(of) for kind, of in kinds.items()} for card, kinds in read().items()}
    stored[name] = {
        kind: {"median": round(of.median, 3), "upper": round(of.upper, 3)} for kind, of in found.items()
    }  # fmt: skip
    FILE.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")
