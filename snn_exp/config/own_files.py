"""Files of one's own, a folder of pictures or an .npz of arrays: what they are, before a pixel is read. No torch.

Those of time series are in series_files.py.

A folder has a folder per class, as torchvision's ImageFolder reads it, or such folders in train/, and in val/ and test/
if there are any. The *content* of files is 16 hex digits of what they hold and how they are named below the folder: the
same pictures in another folder are the same content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from snn_exp.config import series_files
from snn_exp.errors import UserError
from snn_exp.files import MIB, Unreadable, printable, read_text, require_file, write_text

READ = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # by ImageFolder
OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".svg", ".jp2", ".psd", ".raw", ".dng", ".npy", ".jfif", ".ico")
PARTS = ("train", "val", "test")
ARRAYS = ("x", "y", "x_val", "y_val", "x_test", "y_test")
MOST_FILES = 5_000_000
MOST_BLIND = 256 * MIB  # of an archive, unpacked, whose packing is not looked at
MOST_RATIO = 100  # of unpacked to packed bytes beyond that
KEPT_FROM = 64 * MIB  # bytes from which on a content is kept between commands


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file of a listing.

    Args:
        part: train, val, test, or "" where they are not told apart.
        label: name of its class.
        name: below the folder, with slashes.
        size: bytes.
        changed: time of its last modification and of its last change, ns.
    """

    part: str
    label: str
    name: str
    size: int
    changed: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Listing:
    """The pictures of a folder, sorted by part, class and name.

    Args:
        root: the folder.
        pictures: its pictures.
        folders: all folders that were looked at -> time of their last modification, ns.
    """

    root: Path
    pictures: tuple[Picture, ...]
    folders: Mapping[str, int]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, sorted; their positions are the labels."""
        return tuple(sorted({picture.label for picture in self.pictures}))

    def counts(self, *parts: str) -> list[int]:
        """Return the number of pictures per class in some parts."""
        found = dict.fromkeys(self.classes, 0)
        for picture in self.pictures:
            if picture.part in parts:
                found[picture.label] += 1
        return list(found.values())

    @cached_property
    def signature(self) -> str:
        """Hash names, sizes and times; no file is opened."""
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self.root)))
        for p in self.pictures:
            digest.update(f"{p.part}/{p.name}\0{p.size} {p.changed}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @cached_property
    def content(self) -> str:
        """Hash what the files hold, and their names, to 16 hex digits."""
        total = sum(picture.size for picture in self.pictures)
        kept = _cache() / self.signature
        if total >= KEPT_FROM:
            with contextlib.suppress(OSError, UserError):
                if re.fullmatch("[0-9a-f]{16}", known := read_text(kept, 100)):
                    return known
        digest = hashlib.sha256()
        for picture in self.pictures:
            path = self.root / picture.name
            require_file(path, self.root)
            with path.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{picture.part}/{picture.label}/{picture.name}\0{inner}\n".encode(errors="surrogateescape"))
        found = digest.hexdigest()[:16]
        if total >= KEPT_FROM:
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_text(kept, found)
        return found

    def is_as_it_was(self) -> bool:
        """Return whether no file was added, removed or renamed since."""
        with contextlib.suppress(OSError):
            return all(Path(folder).stat().st_mtime_ns == time for folder, time in self.folders.items())
        return False


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snn_exp" / "contents"


_listings: dict[str, Listing] = {}


def forget() -> None:
    """Look at all files anew."""
    _listings.clear()


def listing(path: str) -> Listing:
    """List the pictures of a folder; a second time only if a file came or went, or after `forget`.

    Raises:
        UserError: it is not a folder with a folder per class, or something in it cannot be a picture of it.
    """
    key = os.path.abspath(path)  # noqa: PTH100  links stay
    if key not in _listings or not _listings[key].is_as_it_was():
        _listings[key] = _listed(_existing(path, "images"))
    return _listings[key]


def _existing(path: str, name: str) -> Path:
    """Return the path, if it is what the data set reads.

    Raises:
        UserError: it is not.
    """
    is_folder = name == "images"
    if not path:
        what = "a folder with a folder of pictures per class" if is_folder else "an .npz file with the arrays x and y"
        raise UserError(f"dataset={name} reads {what}, and dataset.path is not given; type dataset.path=...")
    given, shown = Path(path).expanduser(), printable(path, 300)
    try:
        kind = given.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"dataset.path={shown} does not exist; type dataset.path=... with one that does") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "null character"
        raise UserError(f"dataset.path={shown} cannot be read ({reason}); type dataset.path=... with another") from None
    if is_folder and not stat.S_ISDIR(kind):
        raise UserError(f"dataset.path={shown} is not a folder; type dataset=arrays, if it is an .npz file")
    if not is_folder and stat.S_ISDIR(kind):
        raise UserError(f"dataset.path={shown} is a folder; type dataset=images, if it holds a folder per class")
    return given


def _listed(root: Path) -> Listing:
    folders: dict[str, int] = {}
    names = _class_folders(root, root, folders)
    parts = _parts(root, names, folders)
    found: list[Picture] = []
    for part in parts or ("",):
        for label in _class_folders(root / part, root, folders) if part else names:
            below = sorted(_below(root, root / part / label, folders), key=lambda found: os.path.split(found[0]))
            if not below:
                raise UserError(
                    f"{root / part / printable(label)} holds no picture, and is a class by its place; put pictures "
                    f"({', '.join(READ)}) into it, or remove it"
                )
            found += (Picture(part, label, name, size, changed) for name, size, changed in below)
            if len(found) > MOST_FILES:
                raise UserError(f"{root} holds more than {MOST_FILES:,} pictures, the limit")
    listed = Listing(root, tuple(found), folders)
    _refuse_classes_of_one_part(listed)
    return listed


def _parts(root: Path, names: list[str], folders: dict[str, int]) -> list[str]:
    """Return which of train, val and test there are; [] where the folders are classes, one of which may be `train`."""
    if "train" not in names or not _entries(root / "train", root, folders)[0]:
        return []
    if strange := [name for name in names if name not in PARTS]:
        nearest = "val" if strange[0].startswith("val") else "test" if strange[0].startswith("test") else ""
        raise UserError(
            f"{root} has folders in train/, and beside it {printable(strange[0])}/, which is not read; "
            f"{f'rename it {nearest}/' if nearest else 'put it elsewhere'}, or put all classes directly into {root}"
        )
    return [part for part in PARTS if part in names]


def _class_folders(folder: Path, root: Path, folders: dict[str, int]) -> list[str]:
    """Return the names of the folders of a folder that holds classes or parts, sorted."""
    inner, loose = _entries(folder, root, folders)
    if pictures := sorted(name for name in loose if _extension(name) in READ):
        raise UserError(
            f"{folder / printable(pictures[0])} belongs to no class; {_FORM.format(root=root)}, so move it into the "
            f"folder of its class"
        )
    if not inner:
        raise UserError(f"{folder} holds no folder; {_FORM.format(root=root)}")
    return sorted(entry.name for entry in inner)


_FORM = (
    "{root} must hold a folder of pictures per class, or such folders in train/, and in val/ and test/ if there are any"
)


def _refuse_classes_of_one_part(listed: Listing) -> None:
    for part in dict.fromkeys(picture.part for picture in listed.pictures):
        for label, count in zip(listed.classes, listed.counts(part), strict=True):
            if not count:
                raise UserError(
                    f"{listed.root / part} has no folder {printable(label)}, which is a class elsewhere in "
                    f"{listed.root}; every part needs every class"
                )


def _entries(folder: Path, root: Path, folders: dict[str, int]) -> tuple[list[os.DirEntry[str]], list[str]]:
    """Return the folders within a folder, and the names of its files; hidden ones are left out.

    Raises:
        UserError: it cannot be read, or holds a link to a folder.
    """
    try:
        folders[str(folder)] = folder.stat().st_mtime_ns
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as error:
        raise Unreadable(folder, f"cannot be read ({error.strerror})") from None
    inner = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry)
        elif entry.is_symlink() and entry.is_dir():
            raise UserError(
                f"{printable(entry.path, 300)} is a link to a folder, and such links are not followed; put the folder "
                f"itself into {root}"
            )
    known = {entry.name for entry in inner}
    return inner, [entry.name for entry in entries if entry.name not in known]


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  a hundred thousand of them


def _below(root: Path, folder: Path, folders: dict[str, int]) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yield name, size and times of each picture of a class."""
    pending = [folder]
    while pending:
        at = pending.pop()
        inner, names = _entries(at, root, folders)
        pending += [at / entry.name for entry in inner]
        for name in names:
            path = at / name
            if _extension(name) in OTHER_PICTURES:
                raise UserError(
                    f"{printable(str(path), 300)} is of a kind that is not read; convert it to one of "
                    f"{', '.join(READ)}, or remove it"
                )
            if _extension(name) not in READ:
                continue
            try:
                require_file(path, root)
                known = path.stat()
            except FileNotFoundError:  # gone meanwhile
                continue
            yield path.relative_to(root).as_posix(), known.st_size, (known.st_mtime_ns, known.st_ctime_ns)


# an .npz ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Archive:
    """The arrays of an .npz that are read.

    Args:
        path: the file.
        members: array -> (bytes, CRC) of its .npy.
        signature: of the file: its place, size and times.
    """

    path: Path
    members: Mapping[str, tuple[int, int]]
    signature: str

    @property
    def content(self) -> str:
        """Hash what the arrays hold, as the archive sums them up, to 16 hex digits; packing them changes nothing."""
        lines = [f"{name} {size} {crc}\n" for name, (size, crc) in sorted(self.members.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def archive(path: str) -> Archive:
    """Look into an .npz file.

    Raises:
        UserError: it is not one, or lacks x or y, or a part of them.
    """
    file = _existing(path, "arrays")
    require_file(file)
    try:
        with zipfile.ZipFile(file) as opened:
            members = {info.filename.removesuffix(".npy"): info for info in opened.infolist()}
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise Unreadable(
            file, f"is not an .npz file ({printable(str(error))}); write one with numpy.savez(FILE, x=..., y=...)"
        ) from None
    wanted = {name: (info.file_size, info.CRC) for name, info in members.items() if name in ARRAYS}
    for name in (
        "x",
        "y",
        *(other for x in ("x_val", "x_test") if {x, f"y{x[1:]}"} & set(wanted) for other in (x, f"y{x[1:]}")),
    ):
        if name not in wanted:
            raise UserError(
                f"{file} has no array {name}; it has {_some(members)}, and must have x and y, and may have x_val and "
                f"y_val, x_test and y_test"
            )
    packed = sum(members[name].compress_size for name in wanted)
    unpacked = sum(size for size, _ in wanted.values())
    if unpacked > MOST_BLIND and unpacked > MOST_RATIO * packed:
        raise UserError(
            f"{file} unpacks to {unpacked / MIB:,.0f} MiB from {packed / MIB:,.1f} MiB, as no pictures do; if it is "
            f"right, write it with numpy.savez, unpacked"
        )
    known = file.stat()
    signature = f"{os.path.realpath(file)} {known.st_size} {known.st_mtime_ns} {known.st_ctime_ns}"
    return Archive(file, wanted, hashlib.sha256(os.fsencode(signature)).hexdigest())


def _some(names: Iterable[str]) -> str:
    shown = [printable(name, 40) for name in names]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "") if shown else "none"


# either -----------------------------------------------------------------------------------------------------


def content_of(name: str, path: str) -> str:
    """Return the content of the files of dataset=NAME.

    Raises:
        UserError: as `listing`, `archive` and `series_files.both`.
    """
    if name == "series":
        return series_files.both(path).content
    return listing(path).content if name == "images" else archive(path).content


def signature_of(name: str, path: str) -> str | None:
    """Hash names, sizes and times of the files of dataset=NAME; None if they cannot be read."""
    try:
        if name == "series":
            return series_files.signature_of(path)
        return listing(path).signature if name == "images" else archive(path).signature
    except UserError:
        return None
