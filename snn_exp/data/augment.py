"""Augmentation of training images, a whole batch at a time, each sample by random numbers of its own.

The random numbers of all samples are drawn at once, per epoch, from a generator of (seed, epoch): what happens to a
sample depends on neither its batch nor the batches before, so a resumed run repeats the undisturbed one. The transforms
of torchvision draw one set of parameters per call, so a batch goes through them in groups of equal parameters.

Shapes: N samples, B batch, T steps (of data with time only), C channels, H W space, U random numbers per sample.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval
from torch import Generator, Tensor
from torch.nn import functional

from snn_exp.data.base import MaxShift
from snn_exp.errors import UserError
from snn_exp.registry import Count, Limit, OpenFraction, Registry

AUGMENTS: Registry[Augment] = Registry("augment", traits=("reads_images_only", "takes_its_own", "channels"))


class Augment(ABC):
    """Random changes of training samples.

    Args:
        max_shift: the data set's own `max_shift`, pixels.
        flip: the data set's own `flip`.
    """

    reads_images_only: ClassVar[bool] = True  # and so is refused for data with time
    takes_its_own: ClassVar[bool] = True  # instead of the shift and flip of the data set
    channels: ClassVar[tuple[int, ...] | None] = None  # that it can read; None is any number

    def __init__(self, max_shift: int = 0, flip: bool = False) -> None:
        self.max_shift = max_shift
        self.flip = flip

    def require_channels(self, channels: int) -> None:
        """Check that it can read images of so many channels.

        Raises:
            UserError: it cannot.
        """
        if self.channels is not None and channels not in self.channels:
            raise UserError(
                f"augment={AUGMENTS.name_of(type(self))} reads images of {' or '.join(map(str, self.channels))} "
                f"channels, and these have {channels}; leave augment out, or type augment=shift"
            )

    @abstractmethod
    def draw(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw the random numbers [N, U] of all samples in one epoch."""

    @abstractmethod
    def __call__(self, x: Tensor, drawn_BU: Tensor) -> Tensor:
        """Return samples changed by their random numbers, in the same shape.

        Args:
            x: float images [B, C, H, W] in [0, 1], or frames [B, T, C, H, W].
            drawn_BU: the rows of `draw` that belong to them.
        """


@AUGMENTS.register("none")
class NoAugment(Augment):
    """No augmentation: every epoch shows the same images.

    Definition:
        y = x

    Source: our choice, to measure what augmentation is worth.

    Example:
        >>> NoAugment()(torch.ones(1, 1, 2, 2), torch.empty(1, 0)).sum().item()
        4.0
    """

    reads_images_only = False

    def __init__(self, *supplied: Any) -> None:
        super().__init__(*supplied)

    def draw(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw nothing."""
        return torch.empty(num_samples, 0)

    def __call__(self, x: Tensor, drawn_BU: Tensor) -> Tensor:
        """Return the samples as they are."""
        return x


@AUGMENTS.register("shift")
class Shift(Augment):
    """Move each image by a whole number of pixels; zeros move in.

    Definition:
        down and right uniform in -max_shift..max_shift, which is a random crop of the image padded by max_shift zeros

    Args:
        max_shift: largest shift, pixels; null is that of the data set, dataset.max_shift.

    Source: the padding and crop of He et al. 2016, arXiv 1512.03385.

    Example:
        >>> Shift(max_shift=1)(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[0, 1, 0]]))
        tensor([[[[0., 1.]]]])
    """

    reads_images_only = False

    def __init__(self, *supplied: Any, max_shift: MaxShift | None = None) -> None:
        super().__init__(*supplied)
        self.max_shift = self.max_shift if max_shift is None else max_shift
        self.flip = False

    def draw(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw rows, columns and whether to flip; these numbers decide results of old, so they stay as they are."""
        shifts = torch.randint(-self.max_shift, self.max_shift + 1, (num_samples, 2), generator=generator)
        flips = torch.rand(num_samples, generator=generator) < 0.5
        return torch.cat([shifts, flips.long().unsqueeze(1)], dim=1)

    def __call__(self, x: Tensor, drawn_BU: Tensor) -> Tensor:
        """Flip, then shift."""
        if self.flip:
            x = torch.where(drawn_BU[:, 2].bool().view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        return shifted(x, drawn_BU[:, :2], self.max_shift) if self.max_shift else x


@AUGMENTS.register("shift_flip")
class ShiftFlip(Shift):
    """Move each image by a whole number of pixels, and mirror every other one.

    Definition:
        as shift, after mirroring left and right with probability 1/2

    Args:
        max_shift: largest shift, pixels; null is that of the data set, dataset.max_shift.

    Source: the augmentation of CIFAR in He et al. 2016, arXiv 1512.03385.

    Example:
        >>> ShiftFlip(max_shift=0)(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[0, 0, 1]]))
        tensor([[[[2., 1.]]]])
    """

    reads_images_only = True

    def __init__(self, *supplied: Any, max_shift: MaxShift | None = None) -> None:
        super().__init__(*supplied, max_shift=max_shift)
        self.flip = True


def own(max_shift: int, flip: bool) -> Augment:
    """Return the augmentation that the fields of a data set ask for.

    Example:
        >>> type(own(0, False)).__name__, type(own(2, False)).__name__, type(own(0, True)).__name__
        ('NoAugment', 'Shift', 'ShiftFlip')
    """
    if flip:
        return ShiftFlip(max_shift=max_shift)
    return Shift(max_shift=max_shift) if max_shift else NoAugment()


@AUGMENTS.register("crop_flip")
class CropFlip(Augment):
    """Cut a random rectangle out of each image, stretch it to the image's size, and mirror every other one.

    Definition:
        area uniform in [min_area, 1] of the image's, log of the sides' ratio uniform in [log 3/4, log 4/3], no side
        longer than the image's, anywhere within it; bilinear; then as the mirroring of shift_flip

    Args:
        min_area: least area of the rectangle, as a share of the image's.

    Source: Szegedy et al. 2015, arXiv 1409.4842, as torchvision's RandomResizedCrop; the least area is our choice:
        theirs of 0.08 leaves too little of an image of 8 to 32 pixels.

    Example:
        >>> whole = CropFlip()(torch.eye(3).view(1, 1, 3, 3), torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.9]]))
        >>> bool((whole - torch.eye(3)).abs().max() < 1e-6)
        True
    """

    def __init__(self, *supplied: Any, min_area: OpenFraction = 0.5) -> None:
        super().__init__(*supplied)
        self.min_area = min_area

    def draw(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw area, ratio, row, column and mirroring, each in [0, 1)."""
        return torch.rand(num_samples, 5, generator=generator)

    def __call__(self, x: Tensor, drawn_BU: Tensor) -> Tensor:
        """Crop, stretch and mirror: one affine map per image."""
        area, ratio, row, column, mirrored = drawn_BU.unbind(1)
        root = (self.min_area + (1 - self.min_area) * area).sqrt()
        stretch = ((2 * ratio - 1) * math.log(4 / 3) / 2).exp()
        height, width = (root / stretch).clamp(max=1), (root * stretch).clamp(max=1)  # of the image's
        sign = torch.where(mirrored < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(area)
        theta_B23 = torch.stack([
            torch.stack([sign * width, zero, (1 - width) * (2 * column - 1)], dim=1),
            torch.stack([zero, height, (1 - height) * (2 * row - 1)], dim=1),
        ], dim=1)  # fmt: skip
        grid = functional.affine_grid(theta_B23, list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


class _OnTop(Augment):
    """Changes that follow the data set's own shift and flip."""

    takes_its_own = False
    extra: int  # random numbers per sample, in [0, 1), beside those of the data set's own

    def __init__(self, *supplied: Any) -> None:
        super().__init__(*supplied)
        self._own = own(self.max_shift, self.flip)

    def draw(self, num_samples: int, generator: Generator) -> Tensor:
        """Draw those of the data set's own first."""
        first = self._own.draw(num_samples, generator)
        return torch.cat([first.float(), torch.rand(num_samples, self.extra, generator=generator)], dim=1)

    def __call__(self, x: Tensor, drawn_BU: Tensor) -> Tensor:
        """Change as the data set says, then further."""
        first, rest = drawn_BU[:, : -self.extra], drawn_BU[:, -self.extra :]
        return self._changed(self._own(x, first.long()), rest)

    @abstractmethod
    def _changed(self, x_BCHW: Tensor, drawn_BU: Tensor) -> Tensor:
        """Change images that are shifted and mirrored already."""


@AUGMENTS.register("cutout")
class Cutout(_OnTop):
    """Shift and mirror each image as the data set says, then set a square in it to zero.

    Definition:
        the centre uniform over all pixels, so that a part of the square may lie outside; its side a share of the
        image's shorter side, rounded to whole pixels

    Args:
        side: of the square, as a share of the image's shorter side.

    Source: DeVries and Taylor 2017, arXiv 1708.04552; a side of 1/2 is theirs for CIFAR-10.

    Example:
        >>> x = torch.ones(1, 1, 4, 4)
        >>> Cutout()(x, torch.tensor([[0.5, 0.5]])).sum().item()
        12.0
    """

    extra = 2

    def __init__(self, *supplied: Any, side: OpenFraction = 0.5) -> None:
        super().__init__(*supplied)
        self.side = side

    def _changed(self, x_BCHW: Tensor, drawn_BU: Tensor) -> Tensor:
        h, w = x_BCHW.shape[-2:]
        side = max(1, round(self.side * min(h, w)))
        first_B2 = (drawn_BU * torch.tensor([h, w])).floor() - side // 2
        inside = [
            (torch.arange(size) >= first_B2[:, axis, None]) & (torch.arange(size) < first_B2[:, axis, None] + side)
            for axis, size in ((0, h), (1, w))
        ]
        return x_BCHW.masked_fill((inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1), 0.0)


@AUGMENTS.register("randaugment")
class RandAugment(_OnTop):
    """Shift and mirror each image as the data set says, then apply random operations of one strength.

    Definition:
        num_ops times one of 14 operations, each as likely: none, shear and translation along either axis, rotation,
        brightness, saturation, contrast, sharpness, posterize, solarize, autocontrast, equalize; of either sign where
        an operation has one

    Args:
        num_ops: operations per image.
        magnitude: their strength, from 0 to 30.

    Raises:
        UserError: images of neither 1 nor 3 channels.

    Source: Cubuk et al. 2020, arXiv 1909.13719; the operations are those of torchvision.transforms.v2.RandAugment.

    Example:
        >>> x = torch.rand(2, 1, 8, 8)
        >>> y = RandAugment()(x, RandAugment().draw(2, torch.Generator().manual_seed(0)))
        >>> y.shape == x.shape, bool(((y >= 0) & (y <= 1)).all())
        (True, True)
    """

    channels = (1, 3)

    def __init__(
        self,
        *supplied: Any,
        num_ops: Annotated[Count, Limit(10, "nothing remains of an image")] = 2,
        magnitude: Annotated[int, Interval(ge=0, le=30)] = 9,
    ) -> None:
        super().__init__(*supplied)
        self.num_ops = num_ops
        self.extra = 2 * num_ops
        self._operations = _Operations(magnitude)

    def _changed(self, x_BCHW: Tensor, drawn_BU: Tensor) -> Tensor:
        num_names = len(self._operations.names)
        for drawn_B2 in drawn_BU.view(len(drawn_BU), self.num_ops, 2).unbind(1):
            which_B, sign_B = (drawn_B2[:, 0] * num_names).long(), drawn_B2[:, 1]
            x_BCHW = self._operations(x_BCHW, 2 * which_B + (sign_B < 0.5))
        return x_BCHW.clamp(0, 1)


class _Operations:
    """The operations of torchvision's RandAugment, each on all images of a batch that have drawn it.

    Args:
        magnitude: from 0 to 30.
    """

    def __init__(self, magnitude: int) -> None:
        self.magnitude = magnitude

    @functools.cached_property
    def _theirs(self) -> Any:
        from torchvision.transforms import v2

        return v2.RandAugment()

    @property
    def names(self) -> list[str]:
        """Name the operations, as torchvision does."""
        return list(self._theirs._AUGMENTATION_SPACE)

    def __call__(self, x_BCHW: Tensor, chosen_B: Tensor) -> Tensor:
        """Apply to each image the operation chosen // 2, of negative sign where chosen is odd."""
        y_BCHW = x_BCHW.clone()
        for chosen in chosen_B.unique().tolist():
            mine = chosen_B == chosen
            y_BCHW[mine] = self.applied(x_BCHW[mine], self.names[chosen // 2], negative=bool(chosen % 2))
        return y_BCHW

    def applied(self, x_BCHW: Tensor, name: str, *, negative: bool) -> Tensor:
        """Apply one operation to all images."""
        magnitudes, signed = self._theirs._AUGMENTATION_SPACE[name]
        strengths = magnitudes(self._theirs.num_magnitude_bins, *x_BCHW.shape[-2:])
        strength = 0.0 if strengths is None else float(strengths[self.magnitude])
        y_BCHW: Tensor = self._theirs._apply_image_or_video_transform(
            x_BCHW, name, -strength if signed and negative else strength,
            interpolation=self._theirs.interpolation, fill=self._theirs._fill,
        )  # fmt: skip
        return y_BCHW


def shifted(x: Tensor, shifts_B2: Tensor, max_shift: int) -> Tensor:
    """Move each sample [C, H, W] or [T, C, H, W] down and right by its own shift; zeros move in.

    Example:
        >>> shifted(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[0, 1]]), 1)
        tensor([[[[0., 1.]]]])
    """
    b, *_, h, w = x.shape
    padded = functional.pad(x.reshape(b, -1, h, w), (max_shift,) * 4)
    rows = torch.arange(h) + max_shift - shifts_B2[:, :1]
    columns = torch.arange(w) + max_shift - shifts_B2[:, 1:]
    batch, channel = torch.arange(b).view(-1, 1, 1, 1), torch.arange(padded.shape[1]).view(1, -1, 1, 1)
    return padded[batch, channel, rows.view(b, 1, h, 1), columns.view(b, 1, 1, w)].view(x.shape)
