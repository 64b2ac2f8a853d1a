"""What an augmentation does to the images, and what it does not depend on."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from snn_exp.config.compose import compose
from snn_exp.data.augment import AUGMENTS, Augment, CropFlip, Cutout, RandAugment, Shift, ShiftFlip, own
from snn_exp.data.datamodule import BatchedSplit, BatchIndex
from snn_exp.data.digits import Digits
from snn_exp.data.split import Split
from snn_exp.errors import UserError
from snn_exp.testing.contracts import is_documented, refuses_bad_values


@functools.cache
def images() -> Split:
    return Digits(Path(), 0).train


def made(name: str, max_shift: int = 1, flip: bool = True) -> Augment:
    return AUGMENTS.make({"name": name}, max_shift, flip)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("augment", "digest"),
    [(ShiftFlip(max_shift=2), "ba6a4d0f53ef03c4"), (Shift(max_shift=1), "7f114486dc20a48f")],
    ids=["flip", "shift"],
)
def test_shift_and_flip_are_bit_for_bit_those_of_old_results(augment: Augment, digest: str) -> None:
    x, _ = BatchedSplit(images(), 0, augment)[BatchIndex(2, torch.arange(40))]
    assert hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", list(AUGMENTS))
def test_what_happens_to_a_sample_depends_on_seed_epoch_and_index_alone(name: str) -> None:
    indices = torch.tensor([7, 3, 500, 1000, 11, 12, 13])
    together, _ = BatchedSplit(images(), 0, made(name))[BatchIndex(2, indices)]
    data = BatchedSplit(images(), 0, made(name))
    data[BatchIndex(0, torch.arange(50))]  # an epoch before leaves no trace
    torch.manual_seed(4)  # nor does torch's own state
    for place, index in enumerate(indices):
        assert torch.equal(data[BatchIndex(2, index.view(1))][0][0], together[place])


@pytest.mark.parametrize("name", list(AUGMENTS))
@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 6, 9)])
def test_images_keep_shape_type_and_range_and_the_given_ones_are_left_alone(name: str, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=generator())
    before = x.clone()
    y = made(name)(x, made(name).draw(5, generator()))
    assert y.shape == x.shape and y.dtype == x.dtype and bool(((y >= 0) & (y <= 1)).all())
    assert torch.equal(x, before)
    assert torch.equal(x, y) == (name == "none")


@pytest.mark.parametrize("name", list(AUGMENTS))
def test_an_augmentation_is_documented_and_refuses_bad_values(name: str) -> None:
    option = AUGMENTS.options()[name]
    is_documented(AUGMENTS[name], option)
    refuses_bad_values(lambda **parameters: AUGMENTS.make({"name": name, **parameters}), option)


def test_every_operation_of_randaugment_is_that_of_torchvision_at_its_strength() -> None:
    """On one image torchvision draws one operation per call, which is looked for among ours."""
    x = torch.rand(1, 3, 12, 12, generator=generator())
    operations = RandAugment(magnitude=12)._operations
    ours = [operations.applied(x, name, negative=sign) for name in operations.names for sign in (False, True)]
    theirs = v2.RandAugment(num_ops=1, magnitude=12)
    found = set()
    for seed in range(150):
        torch.manual_seed(seed)
        y = theirs(x)
        equal = [number for number, image in enumerate(ours) if torch.equal(image, y)]
        assert equal
        found.update(equal)
    assert len(found) == len(ours) == 28


def test_randaugment_gives_each_image_the_operations_that_it_has_drawn() -> None:
    augment = RandAugment(num_ops=1)
    x = torch.rand(28, 1, 8, 8, generator=generator())
    which = torch.arange(28) // 2
    drawn = torch.stack([(which + 0.5) / 14, (torch.arange(28) % 2) * 0.75], dim=1)
    y = augment(x, drawn)
    for place, name in enumerate(augment._operations.names[number] for number in which):
        alone = augment._operations.applied(x[place : place + 1], name, negative=place % 2 == 0)
        assert torch.equal(y[place], alone[0].clamp(0, 1)), name


def test_a_cut_square_lies_where_it_was_drawn_and_may_stick_out() -> None:
    x = torch.ones(3, 1, 8, 8)
    y = Cutout(side=0.5)(x, torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.99, 0.5]]))
    assert (y[0, 0] == 0).nonzero().aminmax(dim=0).min.tolist() == [2, 2]
    assert (y == 0).flatten(1).sum(1).tolist() == [16, 4, 12]
    assert not y[1, 0, :2, :2].any()


def test_a_crop_is_the_rectangle_stretched_and_the_mirror_image_where_it_was_drawn() -> None:
    x = torch.rand(1, 1, 8, 8, generator=generator())
    half = CropFlip(min_area=0.25)
    corner = half(x, torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.9]]))  # the upper left quarter
    expected = v2.functional.resized_crop(x, 0, 0, 4, 4, [8, 8], antialias=False)
    # at the edge of the rectangle we see the pixel behind it, and torchvision repeats the last one
    torch.testing.assert_close(corner[..., :7, :7], expected[..., :7, :7])
    mirrored = half(x, torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.1]]))
    torch.testing.assert_close(mirrored, corner.flip(-1))


def test_cutout_and_randaugment_come_after_the_shift_and_flip_of_the_data_set() -> None:
    x = torch.rand(40, 1, 8, 8, generator=generator())
    first = own(1, True)
    expected = first(x, first.draw(40, generator()))
    augment = AUGMENTS.make({"name": "cutout", "side": 0.25}, 1, True)
    found = augment(x, augment.draw(40, generator()))
    assert torch.equal(found[found != 0], expected[found != 0])
    assert not torch.equal(found, expected)


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    return str(caught.value)


def test_images_are_not_cut_in_data_with_time() -> None:
    assert refused("dataset=digits_dvs", "augment=cutout").startswith(
        "augment=cutout changes images, and the samples of"
    )
    assert compose(["dataset=digits_dvs", "augment=shift"]).run_id == compose(["dataset=digits_dvs"]).run_id


def test_randaugment_refuses_images_of_two_channels_also_where_only_the_files_know() -> None:
    with pytest.raises(UserError, match="reads images of 1 or 3 channels, and these have 2"):
        RandAugment().require_channels(2)


def test_a_shift_that_is_none_or_said_twice_is_refused() -> None:
    assert "type augment.max_shift=1, or augment=none" in refused("augment=shift", "dataset.max_shift=0")
    assert "say two things" in refused("augment=none", "dataset.max_shift=2")
    assert "out of view; type augment.max_shift=2" in refused("augment=shift_flip", "augment.max_shift=8")
    assert "augment=auto, which is shift here" in refused("augment.max_shift=2")
