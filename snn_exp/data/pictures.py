"""Pictures in a folder, one folder per class.

Shapes: C channels, H W space.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import PIL
from annotated_types import Unit
from PIL import Image

from snn_exp.config import own_files
from snn_exp.data.base import DATASETS
from snn_exp.data.on_disk import Array
from snn_exp.data.own import BLOCK, OwnData, Read
from snn_exp.errors import UserError
from snn_exp.files import Unreadable, printable, require_file
from snn_exp.registry import Count, Limit

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2**26
SIXTEEN_BIT = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TOO_LARGE = f"has more than {MOST_PIXELS:,} pixels, the limit; reduce it"
ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class PictureReader:
    """Reads pictures of one form.

    Args:
        root: the folder that no link may lead out of.
        color: the channels of what is returned.
        size: pixels per side to resize to; None takes only pictures as large as the first.
    """

    def __init__(self, root: Path, color: Literal["rgb", "gray"], size: int | None) -> None:
        self.root = root
        self.mode = {"rgb": "RGB", "gray": "L"}[color]
        self.size = size
        self._first: tuple[Path, tuple[int, int]] | None = None

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """Return a picture [C, H, W].

        Raises:
            UserError: it cannot be read, is animated, has 16 bits, transparency, or another size.
        """
        require_file(path, self.root)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path, formats=FORMATS) as opened:
                    self._check(path, opened)
                    picture: Image.Image = opened.convert(self.mode)
        except UserError:
            raise
        except Image.DecompressionBombError:
            raise Unreadable(path, _TOO_LARGE) from None
        # whatever a decoder meets in a file that was cut or made up
        except (OSError, ValueError, SyntaxError, EOFError, OverflowError, IndexError, KeyError, TypeError,
                struct.error, MemoryError) as error:  # fmt: skip
            raise Unreadable(path, f"cannot be read as a picture ({_in_words(error)}); replace or remove it") from None
        pixels = np.asarray(self._sized(picture))
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def shape_of(self, path: Path) -> tuple[int, int, int]:
        """Return (C, H, W) of the first picture, which the others must have; it is read."""
        c, h, w = self.read(path).shape
        return c, h, w

    def _check(self, path: Path, opened: Image.Image) -> None:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise Unreadable(path, _TOO_LARGE)
        # a MPO is a JPEG with further views behind it, as telephones write them
        if (num_frames := getattr(opened, "n_frames", 1)) > 1 and opened.format != "MPO":
            raise Unreadable(path, f"is animated, or has pages: {num_frames} of them; store one of them as a picture")
        if opened.mode in SIXTEEN_BIT or _bits(path, opened) > 8:
            raise Unreadable(path, "has more than 8 bits per channel, and a pixel is a byte here; convert it to 8 bits")
        if opened.mode in ALPHA or "transparency" in opened.info:
            raise Unreadable(
                path, "has transparency (an alpha channel), and nothing says what is behind it; store it without"
            )
        if self.size is not None:
            return
        if self._first is None:
            self._first = path, opened.size
        elif opened.size != self._first[1]:
            first, (w, h) = self._first
            raise Unreadable(
                path,
                f"is {height} x {width} pixels (height x width), and {printable(str(first), 200)} is {h} x {w}; type "
                f"dataset.size={min(h, w)}, and all of them are resized to that",
            )

    def _sized(self, picture: Image.Image) -> Image.Image:
        """Scale the shorter side to the size, and cut out the middle."""
        if self.size is None or picture.size == (self.size, self.size):
            return picture
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        middle = picture.crop((left, top, left + side, top + side))
        return middle.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _bits(path: Path, opened: Image.Image) -> int:
    """Return the bits per channel where Pillow would reduce them without a word."""
    if opened.format == "PNG":
        with path.open("rb") as file:
            head = file.read(25)
        return head[24] if len(head) == 25 else 8
    if opened.format == "PPM":
        with path.open("rb") as file:
            words = b" ".join(line.partition(b"#")[0] for line in file.read(512).splitlines()).split()
        if len(words) > 3 and words[0] in (b"P2", b"P3", b"P5", b"P6") and re.fullmatch(rb"\d{1,8}", words[3]):
            return int(words[3]).bit_length()
    if opened.format == "TIFF":
        bits: Any = getattr(opened, "tag_v2", {}).get(258, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _in_words(error: BaseException) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is none of " + ", ".join(FORMATS)
    return printable(" ".join(str(error).split()), 120) or "it is damaged"


@DATASETS.register("images")
class Images(OwnData):
    """Pictures in a folder with a folder per class.

    Definition:
        dataset.path has a folder of pictures per class, as torchvision's ImageFolder reads it, or such folders in
        train/, and in val/ and test/ if there are any. What is not given is drawn: a test part fixed by split_seed,
        validation redrawn by the run's seed. A picture that is resized and not square is scaled by its shorter
        side, bilinear, and cut in the middle

    Args:
        path: the folder; no part of the identity.
        size: pixels per side that all pictures are resized to; null takes them as they are, all of one size.
        color: rgb or gray.

    Raises:
        UserError: the folder is not as described, or a picture cannot be read, has another size, more than 8 bits,
            transparency or several frames.

    Source: the layout of torchvision.datasets.ImageFolder; sizes of the parts are our choice.

    Example:
        >>> Images.own
        True
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        num_steps: int = 1,
        *,
        size: Annotated[Count, Unit("pixels"), Limit(1024, "a picture takes more than 3 MiB")] | None = None,
        color: Literal["rgb", "gray"] = "rgb",
        **parent: Any,
    ) -> None:
        self.size = size
        self.color = color
        super().__init__(root, seed, num_steps, **parent)

    def _found_content(self) -> str:
        self._listing = own_files.listing(self.path)
        return self._listing.content

    def _reader(self) -> PictureReader:
        return PictureReader(self._listing.root, self.color, self.size)

    def _look(self) -> Read:
        pictures, classes = self._listing.pictures, self._listing.classes
        if len(classes) < 2:
            raise UserError(
                f"{self._listing.root} has one class, {printable(classes[0])}, and there must be at least two"
            )
        number = {name: label for label, name in enumerate(classes)}
        labels = np.array([number[picture.label] for picture in pictures], dtype=np.int64)
        parts, start = {}, 0
        for part in own_files.PARTS:
            count = sum(picture.part == part or (part == "train" and not picture.part) for picture in pictures)
            if count:
                parts[part] = (start, start + count)
            start += count
        shape = self._reader().shape_of(self._listing.root / pictures[0].name)
        return Read((len(pictures), *shape), "uint8", labels, parts, classes)

    def _key(self) -> dict[str, Any]:
        return {"size": self.size, "color": self.color, "pillow": PIL.__version__}

    def _samples(self, read: Read) -> Iterator[Array]:
        reader, pictures = self._reader(), self._listing.pictures
        for start in range(0, len(pictures), BLOCK):
            some = pictures[start : start + BLOCK]
            yield np.stack([reader.read(self._listing.root / picture.name) for picture in some])
