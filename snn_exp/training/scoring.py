"""Metrics and operations of a network on validation or test data, where nothing trains: without Lightning.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

from snn_exp.data.datamodule import DataModule
from snn_exp.metrics.operations import FiringRate, SynapticOperations, firing_metrics
from snn_exp.training.classifier import Classifier

SplitName = Literal["val", "test"]


def evaluate(classifier: Classifier, data: DataModule, split: SplitName = "test") -> dict[str, float]:
    """Return accuracy, loss, firing rates and operations of a network with its present weights.

    Bitwise what the evaluation at the end of a run gives in its default precision, on a GPU if there is one.

    Args:
        classifier: the network with its encoding; it stays on its device and in its mode.
        data: of the run, or others of the same shape.
        split: val or test.
    """
    before, was_training = next(classifier.parameters()).device, classifier.training
    device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or before
    rate, operations = FiringRate(classifier.network), SynapticOperations(classifier.network)
    loader = {"val": data.val_dataloader, "test": data.test_dataloader}[split]()
    loss, hits, num = torch.zeros((), device=device), 0, 0
    try:
        classifier.eval().to(device)
        with torch.inference_mode(), rate.listening(), operations.listening():
            for number, (x, y) in enumerate(loader):
                y_B = y.to(device)
                logits_BK = classifier.predict_step((x.to(device), y_B), number)
                loss += functional.cross_entropy(logits_BK, y_B).float() * len(y_B)
                hits += int((logits_BK.argmax(1) == y_B).sum())
                num += len(y_B)
    finally:
        classifier.train(was_training).to(before)
    found = {f"{split}/loss": loss / num, f"{split}/acc": torch.tensor(hits) / num, **firing_metrics(rate, split)}
    counted = {f"{split}/synops_{name}": count for name, count in operations.compute().items()}
    return {name: float(value) for name, value in (found | counted).items()}
