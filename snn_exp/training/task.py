"""The LightningModule: step, loss, metrics, optimizer. No files, no config tree.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional

from snn_exp.metrics.operations import FiringRate, firing_metrics
from snn_exp.nn.distributed import gathered, num_processes, share_of
from snn_exp.nn.encodings import Encoding
from snn_exp.nn.networks import Network, outputs_of
from snn_exp.nn.neurons import Neuron
from snn_exp.training.classifier import Batch, Classifier, mixed, seed_all_draws
from snn_exp.training.compiling import Compiled
from snn_exp.training.losses import logits_by_step, temporal_efficient_training
from snn_exp.training.optim import Optim
from snn_exp.training.vectorized import Seat

TIE_BREAK = 1e-3  # small enough to decide between equal accuracies only, on some hundred validation samples


class Classification(Classifier, pl.LightningModule):
    """A classifier in training, as Lightning trains it.

    Randomness of a step (such as rate encoding) derives from (seed, global step), so that a resumed run
    repeats the undisturbed one.

    Where several processes train, each reads and encodes the whole batch, so that all draw the same, and trains on its
    share of it; the loss is weighted so that the mean of their gradients is that of the batch. In an evaluation each
    counts all samples.

    Args:
        network: [T, B, C, H, W] -> logits [B, K].
        encoding: pixels [B, C, H, W] or frames [B, T, C, H, W] -> [T, B, C, H, W].
        optim: optimizer, schedule and loss terms.
        num_classes: K.
        seed: of the run.
    """

    def __init__(self, network: Network, encoding: Encoding, optim: Optim, num_classes: int, seed: int) -> None:
        super().__init__(network, encoding, optim, num_classes, seed)
        self._teachers: list[Classifier] = []  # a plain list, and so none of our weights
        self._seat: Seat | None = None
        self._compiled: Compiled | None = None
        self.train_acc = _accuracy(num_classes)
        self.train_loss = WeightedMean()
        self.eval_acc = nn.ModuleDict(
            {split: _accuracy(num_classes, sync_on_compute=False) for split in ("val_", "test_")}
        )
        self.eval_loss = torchmetrics.MeanMetric(sync_on_compute=False)
        self.firing_rate = FiringRate(network)
        neurons = [module for module in network.modules() if isinstance(module, Neuron)]
        self._penalized = neurons if optim.rate_penalty else []
        self._widths = {neuron.surrogate: neuron.surrogate.width for neuron in neurons}

    @classmethod
    def of(cls, made: Classifier) -> Classification:
        """Put a classifier into training; it shares the network."""
        return cls(made.network, made.encoding, made.optim, made.num_classes, made.seed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, K] of pixels in [0, 1], or of frames; of this process's share of them."""
        if self.training and self._seat is not None:
            return self._seat.forward(self.network, share_of(self.encoding(x), axis=1))
        if self.training and self._compiled is not None:
            return self._compiled(share_of(self.encoding(x), axis=1))
        return super().forward(x)

    @contextmanager
    def training_through(self, *, seat: Seat | None, compiled: Compiled | None) -> Iterator[None]:
        """Route training batches inside the block through a seat of vectorized runs, or a compiled network."""
        self._seat, self._compiled = seat, compiled
        try:
            yield
        finally:
            self._seat = self._compiled = None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of the loss."""
        super().backward(loss, *args, **kwargs)
        if self._seat is not None:
            self._seat.backward()

    def learn_from(self, teacher: Classifier) -> None:
        """Add a teacher, with whose logits on the same batch the loss compares from here on."""
        self._teachers.append(teacher.eval())

    def on_fit_start(self) -> None:
        """Put the network into training mode, which Lightning leaves as it is and a folded network refuses."""
        self.network.train()
        for teacher in self._teachers:
            teacher.to(self.device).to(next(self.parameters()).dtype)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the width of the surrogates, which depends on the epoch alone.

        It is set at each batch, since Lightning calls no epoch hook when it resumes within an epoch.
        """
        if self.optim.width_schedule == "constant":
            return
        factor = self.optim.width_factor(self.current_epoch, int(self.trainer.max_epochs or 1))
        for surrogate, width in self._widths.items():
            surrogate.width = factor * width
        width = next(iter(self._widths)).width
        self.log("train/surrogate_width", width, on_step=False, on_epoch=True, reduce_fx="max")

    def on_train_end(self) -> None:
        """Restore the width of the config, so that probes before and after training see the same gradient."""
        for surrogate, width in self._widths.items():
            surrogate.width = width

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss, mixed with the distance to a teacher, plus a penalty on the mean output."""
        x, whole_y_B = batch
        y_B = share_of(whole_y_B, axis=0)
        seed_all_draws(self.device, mixed(self.seed, self.global_step))
        by_step: AbstractContextManager[list[Tensor]] = (
            logits_by_step(self.network) if self.optim.loss == "tet" else nullcontext([])
        )
        with outputs_of(self._penalized) as outputs, by_step as steps:
            logits_BK = self(x)
        loss = self._loss(logits_BK, y_B, steps)
        for teacher in self._teachers:
            with torch.no_grad():
                taught_BK = teacher(x)
            share = self.optim.teacher_weight
            loss = (1 - share) * loss + share * distance(logits_BK, taught_BK, self.optim.teacher_temperature)
        if outputs:
            loss = loss + self.optim.rate_penalty * torch.stack([s.mean() for s in outputs.values()]).mean()
        loss = loss * (num_processes() * len(y_B) / len(whole_y_B))  # 1 where the shares are equal
        self.train_acc.update(logits_BK, y_B)
        self.train_loss.update(loss.detach(), len(whole_y_B))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def _loss(self, logits_BK: Tensor, y_B: Tensor, steps: list[Tensor]) -> Tensor:
        """Compute the loss of the logits, or of those of each step where they were collected."""
        smoothing = self.optim.label_smoothing
        if not steps:
            return functional.cross_entropy(logits_BK, y_B, label_smoothing=smoothing)
        (logits_TBK,) = steps
        return temporal_efficient_training(
            logits_TBK, y_B, weight=self.optim.tet_weight, target=self.optim.tet_target, label_smoothing=smoothing
        )

    def epoch_so_far(self) -> dict[str, dict[str, list[Tensor]]]:
        """Return the sums of the training metrics: metric -> sum -> one per process; all processes must call it."""
        return {
            name: {key: gathered(value) for key, value in metric.metric_state.items()}  # type: ignore[arg-type]
            for name, metric in self._training_metrics().items()
        }

    def go_on_within_epoch(self, sums: Mapping[str, Mapping[str, list[Tensor]]], rank: int, num: int) -> None:
        """Restore the sums that `epoch_so_far` returned.

        Args:
            sums: as returned; if the number of processes is unchanged, each takes its own, else the first takes all.
            rank: number of this process.
            num: of the processes.
        """
        for name, metric in self._training_metrics().items():
            for key, of_each in sums[name].items():
                if len(of_each) == num:
                    setattr(metric, key, of_each[rank].to(metric.device))
                elif rank == 0:
                    setattr(metric, key, torch.stack(of_each).sum(0).to(metric.device))

    def _training_metrics(self) -> dict[str, torchmetrics.Metric]:
        return {"train/loss": self.train_loss, "train/acc": self.train_acc}

    def _eval_acc(self, split: str) -> torchmetrics.Metric:
        metric = self.eval_acc[f"{split}_"]  # 'test_' and not 'test': a ModuleDict has attributes of its own
        assert isinstance(metric, torchmetrics.Metric)
        return metric

    def _eval_step(self, split: str, batch: Batch, batch_idx: int) -> None:
        y_B = batch[1]
        with self.firing_rate.listening():
            logits_BK = self.predict_step(batch, batch_idx)
        accuracy = self._eval_acc(split)
        accuracy.update(logits_BK, y_B)
        loss = functional.cross_entropy(logits_BK, y_B)
        self.eval_loss.update(loss, weight=len(y_B))
        self.log(f"{split}/loss", self.eval_loss, on_step=False, on_epoch=True)
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update accuracy, loss and firing rates with a validation batch."""
        self._eval_step("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update accuracy, loss and firing rates with a test batch."""
        self._eval_step("test", batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """Reset the firing rates."""
        self.firing_rate.reset()

    def on_test_epoch_start(self) -> None:
        """Reset the firing rates."""
        self.firing_rate.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the firing rates and the score that selects the best epoch: accuracy, ties by loss."""
        self.log_dict(firing_metrics(self.firing_rate, "val"))
        score = self._eval_acc("val").compute() - TIE_BREAK * self.eval_loss.compute()
        self.log("val/score", score)

    def on_test_epoch_end(self) -> None:
        """Log the firing rates, mean and per layer."""
        self.log_dict(firing_metrics(self.firing_rate, "test"))

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as Lightning does, also for a fused optimizer in bfloat16, which Lightning refuses needlessly."""
        if self.trainer.precision == "bf16-mixed" and gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule, which steps once per batch."""
        optimizer, schedule = self.optim.build(self.network, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class WeightedMean(torchmetrics.Metric):
    """A mean over batches, in the precision of the values, and float32 at least.

    Lightning's own keeps its sums where a checkpoint within an epoch cannot store them; torchmetrics' uses float32.

    Example:
        >>> mean = WeightedMean()
        >>> mean.update(torch.tensor(1.0), 1)
        >>> mean.update(torch.tensor(4.0), 2)
        >>> float(mean.compute())
        3.0
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: int) -> None:
        """Add the value of a batch."""
        self.total = self.total + value.to(torch.promote_types(value.dtype, torch.float32)) * weight
        self.weight = self.weight + weight

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.weight


def distance(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> Tensor:
    """Return the distillation loss, whose gradient has the same scale at any temperature.

    Equation:
        temperature^2 KL(softmax(teacher / temperature) || softmax(student / temperature)), mean over B

    Source: Hinton et al. 2015, arXiv 1503.02531.

    Example:
        >>> x = torch.tensor([[1.0, 0.0]])
        >>> float(distance(x, x, 4.0))
        0.0
    """
    student, teacher = ((logits / temperature).log_softmax(1) for logits in (student_BK, teacher_BK))
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _accuracy(num_classes: int, *, sync_on_compute: bool = True) -> torchmetrics.Metric:
    return torchmetrics.classification.MulticlassAccuracy(num_classes, average="micro", sync_on_compute=sync_on_compute)
