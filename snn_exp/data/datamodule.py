"""Batches of a data set: the order of an epoch, augmentation, the DataModule.

Shapes: N samples, B batch, T steps (of data with time only), C channels, H W space.

The order of an epoch and the augmentation of a sample derive from (seed, epoch, index) alone, so that a
resumed run repeats the undisturbed one, whatever the batches were.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from snn_exp.config.splits import num_left_out
from snn_exp.data.augment import Augment, own
from snn_exp.data.base import Dataset
from snn_exp.data.split import Split, as_float
from snn_exp.errors import UserError

EVAL_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class BatchIndex:
    """The samples and the epoch of one batch."""

    epoch: int
    indices: Tensor


def _generator(*key: int) -> torch.Generator:
    """Make a random generator from a key."""
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


class EpochSampler(Sampler[BatchIndex]):
    """Batches of an epoch, in an order that derives from (seed, epoch); Lightning sets the epoch.

    Args:
        num_samples: N.
        batch_size: samples per batch; a last batch of one sample is left out, since no batch norm can use it.
        seed: None keeps the order of the data and every sample.
        trained: an epoch, and how many of its first batches are left out, since they were trained before.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int | None, trained: tuple[int, int] = (0, 0)) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.trained = trained
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    @property
    def smallest_batch(self) -> int:
        """Return the number of samples in the last batch of an epoch."""
        return (self.num_samples - self._num_dropped() - 1) % self.batch_size + 1

    def _num_dropped(self) -> int:
        return 0 if self.seed is None else num_left_out(self.num_samples, self.batch_size)

    def __len__(self) -> int:
        return -(-(self.num_samples - self._num_dropped()) // self.batch_size)

    def __iter__(self) -> Iterator[BatchIndex]:
        # a generator, so that the order is drawn at the first batch: Lightning asks for the iterator of a
        # resumed epoch before it sets that epoch
        if self.seed is None:
            order = torch.arange(self.num_samples)
        else:
            order = torch.randperm(self.num_samples, generator=_generator(self.seed, self.epoch, 0))
        order = order[: self.num_samples - self._num_dropped()]
        epoch, num_batches = self.trained
        first = num_batches * self.batch_size if self.epoch == epoch else 0
        for start in range(first, len(order), self.batch_size):
            yield BatchIndex(self.epoch, order[start : start + self.batch_size])


class BatchedSplit(TorchDataset[tuple[Tensor, Tensor]]):
    """A split that is indexed, and augmented, a batch at a time.

    Args:
        split: the samples.
        seed: of the augmentation.
        augment: what happens to each sample; None leaves them as they are.
    """

    def __init__(self, split: Split, seed: int = 0, augment: Augment | None = None) -> None:
        self.split = split
        self.seed = seed
        self.augment = augment
        self._drawn: tuple[int, Tensor] | None = None
        self.seconds = 0.0  # spent on batches

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, batch: BatchIndex) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        x = as_float(self.split.take(batch.indices))
        if self.augment is not None:
            x = self.augment(x, self._draw(self.augment, batch.epoch)[batch.indices])
        labels = self.split.labels[batch.indices]
        self.seconds += time.perf_counter() - began
        return x, labels

    def _draw(self, augment: Augment, epoch: int) -> Tensor:
        """Draw the random numbers of all samples in an epoch."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, augment.draw(len(self.split), _generator(self.seed, epoch, 1)))
        return self._drawn[1]


class DataModule:
    """A data set's loaders; no Python work per sample.

    Args:
        dataset: the data set.
        batch_size: training samples per step.
        seed: of order and augmentation.
        augment: of the training samples; None is the shift and flip of the data set's own fields.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, augment: Augment | None = None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.augment = own(dataset.max_shift, dataset.flip) if augment is None else augment
        self._trained = (0, 0)
        self._training: BatchedSplit | None = None

    @property
    def loading_s(self) -> float:
        """Return the seconds that loading training batches took so far."""
        return self._training.seconds if self._training else 0.0

    @property
    def how_to_load_faster(self) -> str:
        """Say what would make loading faster."""
        return self.dataset.how_to_load_faster or (
            "the samples are in memory, so it is their augmentation; augment=none shows what it costs"
        )

    def go_on(self, epoch: int, num_batches: int) -> None:
        """Leave out the first batches of an epoch, which an interrupted run has trained."""
        self._trained = (epoch, num_batches)

    @property
    def num_batches(self) -> int:
        """Return the number of training batches per epoch."""
        return len(self._train_sampler())

    @property
    def num_train(self) -> int:
        """Return the number of training samples per epoch."""
        return len(self.dataset.train)

    def require_shares(self, num_processes: int) -> None:
        """Check that every process gets a share of every batch.

        Raises:
            UserError: the last batch of an epoch has no sample for some.
        """
        if (smallest := self._train_sampler().smallest_batch) < num_processes:
            raise UserError(
                f"the last batch of an epoch has {smallest} of the {self.num_train} training samples and "
                f"trainer.devices={num_processes} share it; type trainer.devices={smallest} or fewer, or another "
                f"optim.batch_size"
            )

    def _train_sampler(self) -> EpochSampler:
        return EpochSampler(self.num_train, self.batch_size, self.seed, self._trained)

    def train_dataloader(self) -> DataLoader[Any]:
        """Load the training set, shuffled and augmented."""
        self._training = BatchedSplit(self.dataset.train, self.seed, self.augment)
        return _loader(self._training, self._train_sampler())

    def val_dataloader(self) -> DataLoader[Any]:
        """Load the set in order, without augmentation."""
        return self._in_order(self.dataset.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """Load the set in order, without augmentation."""
        return self._in_order(self.dataset.test)

    def first_batch(self) -> tuple[Tensor, Tensor]:
        """Return the samples and classes of the first training step, shuffled and augmented."""
        batched = BatchedSplit(self.dataset.train, self.seed, self.augment)
        return batched[next(iter(EpochSampler(self.num_train, self.batch_size, self.seed)))]

    def some_validation_samples(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Return the first samples and classes of the validation set."""
        batched = BatchedSplit(self.dataset.val)
        return batched[BatchIndex(0, torch.arange(min(num_samples, len(batched))))]

    def _in_order(self, split: Split) -> DataLoader[Any]:
        return _loader(BatchedSplit(split), EpochSampler(len(split), EVAL_BATCH_SIZE, None))


def _loader(batched: BatchedSplit, sampler: EpochSampler) -> DataLoader[Any]:
    return DataLoader(batched, sampler=sampler, batch_size=None, num_workers=0)
