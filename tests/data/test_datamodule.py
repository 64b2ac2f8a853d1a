"""From a data set to batches: the order of an epoch, what augmentation shows, the loaders."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_exp.data.augment import ShiftFlip, shifted
from snn_exp.data.datamodule import BatchedSplit, BatchIndex, DataModule, EpochSampler
from snn_exp.data.digits import Digits
from snn_exp.data.split import Split


def keys(images: Tensor) -> list[bytes]:
    """What tells the images apart."""
    return [np.asarray(image).tobytes() for image in images]


@functools.cache
def digits() -> Digits:
    return Digits(Path(), 0)


# augmentation ---------------------------------------------------------------------------------------------


def augmented(seed: int = 0) -> BatchedSplit:
    return BatchedSplit(digits().train, seed, ShiftFlip(max_shift=2))


def test_the_augmentation_of_a_sample_does_not_know_its_batch() -> None:
    indices = torch.tensor([7, 3, 500, 1000])
    together, labels = augmented()[BatchIndex(2, indices)]
    data = augmented()
    data[BatchIndex(0, torch.arange(50))]  # an epoch before leaves no trace
    for place, index in enumerate(indices):
        alone, label = data[BatchIndex(2, index.view(1))]
        assert torch.equal(alone[0], together[place])
        assert label.item() == labels[place] == digits().train.labels[index]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_another_epoch_or_seed_augments_otherwise(seed: int, epoch: int) -> None:
    indices = torch.arange(100)
    first, _ = augmented()[BatchIndex(0, indices)]
    other, _ = augmented(seed)[BatchIndex(epoch, indices)]
    differ = (first != other).flatten(1).any(1)
    assert differ.float().mean() > 0.8


def test_an_augmented_image_is_a_shift_of_the_image_or_its_mirror_and_all_occur() -> None:
    image = torch.arange(1.0, 26.0).view(1, 1, 5, 5)
    split = Split(image.expand(2000, 1, 5, 5), torch.zeros(2000, dtype=torch.int64))
    found, _ = BatchedSplit(split, 0, ShiftFlip(max_shift=1))[BatchIndex(0, torch.arange(2000))]
    allowed = {
        shifted(turned, torch.tensor([[down, right]]), 1)[0].numpy().tobytes()
        for turned in (image, image.flip(-1))
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    assert len(allowed) == 18
    assert set(keys(found)) == allowed


def test_no_augmentation_leaves_the_images_as_they_are() -> None:
    data = digits()
    x, labels = BatchedSplit(data.train)[BatchIndex(4, torch.arange(20))]
    assert torch.equal(x, data.train.samples[:20])
    assert torch.equal(labels, data.train.labels[:20])


@pytest.mark.parametrize("down", [-3, -2, 0, 1, 3])
@pytest.mark.parametrize("right", [-3, -1, 0, 2, 3])
def test_a_shift_moves_in_zeros_and_never_wraps(down: int, right: int) -> None:
    x = torch.arange(1.0, 1 + 2 * 3 * 4 * 5).view(2, 3, 4, 5)
    expected = torch.zeros_like(x)
    for row in range(4):
        for column in range(5):
            if 0 <= row - down < 4 and 0 <= column - right < 5:
                expected[..., row, column] = x[..., row - down, column - right]
    assert torch.equal(shifted(x, torch.tensor([[down, right]] * 2), 3), expected)


def test_each_image_is_moved_by_its_own_shift() -> None:
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    shifts = torch.tensor([[1, 0], [0, -2], [0, 0]])
    together = shifted(x, shifts, 2)
    for place in range(3):
        assert torch.equal(together[place], shifted(x[place : place + 1], shifts[place : place + 1], 2)[0])
    assert torch.equal(together[2], x[2])


def test_all_steps_of_a_sample_are_shifted_and_mirrored_alike() -> None:
    frames = torch.rand(6, 3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    for t in range(3):
        split, step = (Split(x, torch.zeros(6, dtype=torch.int64)) for x in (frames, frames[:, t]))
        found, _ = BatchedSplit(split, 0, ShiftFlip(max_shift=2))[BatchIndex(0, torch.arange(6))]
        expected, _ = BatchedSplit(step, 0, ShiftFlip(max_shift=2))[BatchIndex(0, torch.arange(6))]
        assert not torch.equal(expected, frames[:, t])
        assert torch.equal(found[:, t], expected)


def test_counts_are_shown_as_they_are() -> None:
    counts = torch.arange(8, dtype=torch.int16).view(2, 2, 1, 1, 2) * 100
    x, _ = BatchedSplit(Split(counts, torch.zeros(2, dtype=torch.int64)))[BatchIndex(0, torch.arange(2))]
    assert x.dtype == torch.float32 and x.flatten().tolist() == [0, 100, 200, 300, 400, 500, 600, 700]


def test_validation_and_test_are_in_order_and_not_augmented() -> None:
    data = digits()
    module = DataModule(data, 64, 0)
    for loader, part in ((module.val_dataloader(), data.val), (module.test_dataloader(), data.test)):
        for _ in range(2):
            batches = list(loader)
            assert torch.equal(torch.cat([x for x, _ in batches]), part.samples)
            assert torch.equal(torch.cat([y for _, y in batches]), part.labels)


def test_training_batches_are_augmented_shuffled_and_complete() -> None:
    data = digits()
    module = DataModule(data, 64, 0)
    batches = list(module.train_dataloader())
    labels = torch.cat([y for _, y in batches])
    assert [len(y) for _, y in batches] == [64] * 16 + [54]
    assert module.num_train == len(labels) == 1078
    assert torch.equal(torch.bincount(labels), torch.bincount(data.train.labels))
    assert not torch.equal(labels, data.train.labels)
    assert set(keys(torch.cat([x for x, _ in batches]))) != set(keys(data.train.samples))


# order ----------------------------------------------------------------------------------------------------


def order(sampler: EpochSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return [index for batch in sampler for index in batch.indices.tolist()]


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize(("num_samples", "batch_size"), [(10, 5), (10, 4), (10, 20), (1, 4), (7, 1), (8, 7)])
def test_an_epoch_shows_every_sample_once_but_a_lone_last_one(num_samples: int, batch_size: int, epoch: int) -> None:
    sampler = EpochSampler(num_samples, batch_size, seed=0)
    found = order(sampler, epoch)
    shown = 7 if (num_samples, batch_size) == (8, 7) else num_samples
    assert len(set(found)) == len(found) == shown
    assert set(found) <= set(range(num_samples))
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {batch.epoch for batch in batches} == {epoch}


@pytest.mark.parametrize("seed", [0, 3])
def test_the_order_derives_from_seed_and_epoch_alone(seed: int) -> None:
    sampler = EpochSampler(100, 8, seed)
    orders = [order(sampler, epoch) for epoch in range(4)]
    assert len({tuple(found) for found in orders}) == 4
    assert order(EpochSampler(100, 32, seed), 2) == orders[2] == order(sampler, 2)
    assert order(EpochSampler(100, 8, seed + 1), 2) != orders[2]


def test_without_a_seed_the_order_is_that_of_the_data_and_no_sample_is_dropped() -> None:
    sampler = EpochSampler(9, 4, None)
    assert order(sampler, 0) == order(sampler, 5) == list(range(9))
    assert [len(batch.indices) for batch in sampler] == [4, 4, 1]
    assert len(sampler) == 3


def test_the_order_is_drawn_at_the_first_batch() -> None:
    sampler = EpochSampler(50, 8, 0)
    asked_early = iter(sampler)
    sampler.set_epoch(6)
    batches = list(asked_early)
    assert {batch.epoch for batch in batches} == {6}
    assert [index for batch in batches for index in batch.indices.tolist()] == order(EpochSampler(50, 8, 0), 6)
