"""Predictions of a trained network for single samples: class, probability, spikes and energy of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from snn_exp.config.experiment import EnergyConfig
from snn_exp.metrics.energy import energy_pj
from snn_exp.metrics.operations import FiringRate, SynapticOperations
from snn_exp.nn.neurons import Neuron
from snn_exp.training.classifier import Classifier
from snn_exp.training.samples import SampleCheck


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says of one sample, and at what cost.

    Args:
        sample: its name.
        predicted: the class with the largest logit, by name.
        probability: of that class: softmax of the logits, which nothing has calibrated.
        spikes: non-zero outputs of all neurons over all steps.
        energy_pj: of its operations in the inference form, pJ.
        label: its true class, by name; None where it is not known.
    """

    sample: str
    predicted: str
    probability: float
    spikes: int
    energy_pj: float
    label: str | None = None


def predictions(
    task: Classifier, check: SampleCheck, samples: Iterable[tuple[str, Any, int | None]], profile: EnergyConfig
) -> Iterator[Prediction]:
    """Yield the prediction of each sample, one by one; where the encoding is random, it draws by the sample's number.

    Args:
        task: a trained network, in eval.
        check: of the samples.
        samples: name, pixels of one sample, and the number of its class if it is known.
        profile: the energy per operation.

    Raises:
        UserError: a sample does not fit, or is out of range.
    """
    operations, rate = SynapticOperations(task.network), FiringRate(task.network)
    with torch.inference_mode(), operations.listening(), rate.listening():
        for number, (name, pixels, label) in enumerate(samples):
            logits_BK = task.network(task.encoded(check.checked(pixels[None]), number))
            probability, predicted = logits_BK[0].double().softmax(0).max(0)
            counts = {f"test/synops_{key}": float(count) for key, count in operations.compute().items()}
            yield Prediction(
                sample=name,
                predicted=class_name(task, int(predicted)),
                probability=float(probability),
                spikes=int(rate.spikes.sum()),
                energy_pj=sum(energy_pj(counts, "test", profile).values()),
                label=None if label is None else class_name(task, label),
            )
            operations.reset()
            rate.reset()


def class_name(task: Classifier, number: int) -> str:
    """Return the name of a class; its number where it has none."""
    return task.class_names[number] if 0 <= number < len(task.class_names) else str(number)


def spikes_are_spikes(task: Classifier) -> bool:
    """Return whether all neurons emit spikes, so that non-zero outputs may be called so."""
    return all(module.emits == "spikes" for module in task.network.modules() if isinstance(module, Neuron))
