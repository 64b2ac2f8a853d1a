"""Reading the test set after every epoch, to learn what choosing by it would be worth; it changes no weights."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from snn_exp.data.datamodule import DataModule
from snn_exp.training.task import Classification


class Peek(pl.Callback):
    """Records the test accuracy after every epoch, which nothing chooses by.

    Args:
        data: of the run.
    """

    def __init__(self, data: DataModule) -> None:
        self._data = data
        self.accuracies: list[float] = []  # one per epoch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the present weights on the test set, and log peek/test_acc beside the metrics of the epoch."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, Classification)
        right, num = 0, 0
        with torch.no_grad():
            for number, batch in enumerate(self._data.test_dataloader()):
                x, y_B = (part.to(pl_module.device) for part in batch)
                with trainer.precision_plugin.forward_context():
                    logits_BK = pl_module.predict_step((x, y_B), number)
                right += int((logits_BK.argmax(1) == y_B).sum())
                num += len(y_B)
        del self.accuracies[trainer.current_epoch :]  # of an epoch that is trained again
        self.accuracies.append(right / num)
        trainer.callback_metrics["peek/test_acc"] = torch.tensor(right / num)

    def metrics(self, chosen_epoch: int | None) -> dict[str, float]:
        """Return what the best epoch on the test set has, and how much more than the one that validation chose.

        Args:
            chosen_epoch: counted from 0; None for a run that diverged, which has none of these.
        """
        if chosen_epoch is None or not self.accuracies:
            return {}
        best = max(self.accuracies)
        return {
            "peek/best_test_acc": best,
            "peek/best_epoch": float(self.accuracies.index(best)),
            "peek/chosen_test_acc": self.accuracies[chosen_epoch],
            "peek/price": best - self.accuracies[chosen_epoch],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the accuracies so far, which a checkpoint keeps."""
        return {"accuracies": list(self.accuracies)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.accuracies = [float(accuracy) for accuracy in state_dict["accuracies"]]
