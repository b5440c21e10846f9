"""Finding the images: a folder or a zip of class folders, with or without train/, valid/ and test/ above them."""

import hashlib
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import IO, Literal

from ..errors import GanaugError

Split = Literal["train", "valid", "test"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")  # what operating systems leave behind
MAX_MEMBER_BYTES = 2**30  # no image is larger; a zip bomb is

LABEL_FILE = "dataset.json"
LAYOUT = "Expected <class>/<image>, or train/<class>/<image> and test/<class>/<image>."

_Place = Path | zipfile.ZipInfo  # where the bytes of a file are


@dataclass(frozen=True)
class ImageFile:
    """An image by its posix path inside the data root, with what the folders say about it."""

    name: str
    class_name: str
    split: Split | None


@dataclass(frozen=True)
class Source:
    """The images of a folder or zip, sorted; nothing has been decoded.

    `class_names` are those with images in natural order, `empty_classes` those without; `ignored` names what lies there
    but is not read: other files, images outside class folders, unsafe members of a zip. `identity` changes with the
    content, as far as sizes and times of files or the checksums of a zip tell.
    """

    path: Path
    files: tuple[ImageFile, ...]
    class_names: tuple[str, ...]
    empty_classes: tuple[str, ...]
    ignored: tuple[str, ...]
    identity: str
    _places: Mapping[str, _Place] = field(repr=False)
    _archive: zipfile.ZipFile | None = field(repr=False)

    def open(self, name: str) -> IO[bytes]:
        """The file as a stream. Raises `GanaugError` if it cannot be opened; may be called from several threads."""
        place = self._places[name]
        try:
            if isinstance(place, Path):
                return place.open("rb")
            if place.file_size > MAX_MEMBER_BYTES:
                raise GanaugError(f"too large: {place.file_size:,} bytes")
            return (self._archive or _reopened(self.path)).open(place)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise GanaugError(f"cannot be read: {error}") from error

    def read(self, name: str) -> bytes:
        """All bytes of the file. Raises `GanaugError` if they cannot be read or fail the zip's checksum."""
        with self.open(name) as stream:
            try:
                return stream.read()
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise GanaugError(f"cannot be read: {error}") from error

    def locate(self, name: str) -> Path:
        """The path of a file of a folder."""
        place = self._places[name]
        assert isinstance(place, Path), "the files of a zip have no path"
        return place

    def size_of(self, name: str) -> int:
        """Bytes of the file, uncompressed; 0 if it is gone."""
        place = self._places[name]
        try:
            return place.stat().st_size if isinstance(place, Path) else place.file_size
        except OSError:
            return 0

    def part(self, files: Sequence[ImageFile]) -> "Source":
        """Those files alone, in a form that another process can be sent; it opens a zip anew."""
        places = {file.name: self._places[file.name] for file in files}
        return replace(self, files=tuple(files), ignored=(), _places=places, _archive=None)

    def has_split(self, split: Split) -> bool:
        return any(file.split == split for file in self.files)


@dataclass(frozen=True)
class _Listing:
    """Everything below a root by posix path: files, folders (with all parents), and names refused as unsafe."""

    places: dict[str, _Place]
    folders: set[str]
    unsafe: tuple[str, ...] = ()


def open_source(path: str | Path) -> Source:
    """Lists a folder, or a zip in place.

    A single wrapping folder is descended. Folders named train, valid (val, validation) and test, in any case, with
    class folders inside are the splits. Images deeper inside a class folder belong to the class. Hidden files are passed
    over. Where dataset.json, as the StyleGAN family writes it, labels the images, its labels are the classes.

    Raises `GanaugError` for a missing path, a damaged or password-protected zip, and data without class folders.
    """
    path = Path(path)
    listing, archive = _list(path)
    listing = _descend(listing)
    images = [name for name in listing.places if name.lower().endswith(SUFFIXES)]
    labels = _read_labels(listing, archive)
    files = _arrange_by_labels(images, labels) if labels else _arrange(images, str(path))
    used = {file.name for file in files}
    class_names = {file.class_name for file in files}
    ignored = [name for name in listing.places if name not in used and (name != LABEL_FILE or not labels)]
    empty = set() if labels else _find_empty_classes(listing, files)
    return Source(
        path=path,
        files=tuple(
            sorted(files, key=lambda file: (natural_key(file.class_name), file.split or "", natural_key(file.name)))
        ),
        class_names=tuple(sorted(class_names, key=natural_key)),
        empty_classes=tuple(sorted(empty, key=natural_key)),
        ignored=tuple(sorted((*ignored, *listing.unsafe), key=natural_key)),
        identity=_identify(listing, used | {LABEL_FILE} if labels else used),
        _places=listing.places,
        _archive=archive,
    )


def open_unlabeled(path: str | Path) -> Source:
    """Lists all images of a folder or zip, wherever they lie in it, or a single image file; none has a class or a split.

    Raises `GanaugError` for a missing path, a damaged or password-protected zip, and where there is no image.
    """
    path = Path(path)
    if path.is_file() and path.name.lower().endswith(SUFFIXES):
        listing, archive = _Listing({path.name: path}, set()), None
    else:
        listing, archive = _list(path)
    images = sorted((name for name in listing.places if name.lower().endswith(SUFFIXES)), key=natural_key)
    if not images:
        raise GanaugError(f"{path} holds no images ({', '.join(suffix[1:] for suffix in SUFFIXES)}).")
    return Source(
        path=path,
        files=tuple(ImageFile(name, "", None) for name in images),
        class_names=(),
        empty_classes=(),
        ignored=tuple(sorted((*(listing.places.keys() - set(images)), *listing.unsafe), key=natural_key)),
        identity=_identify(listing, images),
        _places=listing.places,
        _archive=archive,
    )


def refuse_inside(data: str | Path, out: str | Path, kind: str = "a class") -> None:
    """Raises `GanaugError` where `out` lies in the folder `data`: what is written there would be read as `kind`."""
    if Path(data).is_dir() and Path(out).resolve().is_relative_to(Path(data).resolve()):
        raise GanaugError(f"{out} lies inside the data {data}, where it would be taken for {kind}. Give another --out.")


@cache
def _reopened(path: Path) -> zipfile.ZipFile:
    """The zip, opened once in a process that was sent a part of it."""
    return zipfile.ZipFile(path)


def natural_key(text: str) -> tuple[list[str | int], str]:
    """A sort key that puts 'class2' before 'class10'."""
    parts = re.split(r"(\d+)", text.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], text


def _list(path: Path) -> tuple[_Listing, zipfile.ZipFile | None]:
    """What lies in a folder, or in a zip, which stays open. Raises `GanaugError` for anything else."""
    if path.is_dir():
        return _list_folder(path), None
    if not path.is_file():
        raise GanaugError(f"the data {path} does not exist. Give a folder of images, or a zip of one.")
    archive = _open_archive(path)
    return _list_archive(archive), archive


def _list_folder(root: Path) -> _Listing:
    """Follows links, each folder once."""
    places: dict[str, _Place] = {}
    folders: set[str] = set()
    seen: set[str] = set()
    for here, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        prefix = Path(here).relative_to(root).as_posix().removeprefix(".")
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _is_clutter(name))
        folders.update(f"{prefix}/{name}".lstrip("/") for name in subfolders)
        for name in names:
            place = Path(here, name)
            if not _is_clutter(name) and place.is_file():
                places[f"{prefix}/{name}".lstrip("/")] = place
    return _Listing(places, folders)


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        kind = "a damaged zip" if path.suffix.lower() == ".zip" else "neither a folder nor a zip"
        raise GanaugError(f"the data {path} is {kind}. Give a folder of class folders, or a zip of one.") from None
    except OSError as error:
        raise GanaugError(f"the data {path} cannot be read: {error}") from None
    if any(member.flag_bits & 1 for member in archive.infolist()):
        raise GanaugError(f"the zip {path} is protected by a password. Unpack it and give the folder.")
    return archive


def _list_archive(archive: zipfile.ZipFile) -> _Listing:
    places: dict[str, _Place] = {}
    folders: set[str] = set()
    unsafe: list[str] = []
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        parts = name.rstrip("/").split("/")
        if any(_is_clutter(part) for part in parts if part not in (".", "..")):
            continue
        if (
            ":" in parts[0]
            or any(part in ("", ".", "..") for part in parts)
            or stat.S_ISLNK(member.external_attr >> 16)
        ):
            unsafe.append(name)
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if member.is_dir() or name.endswith("/"):
            folders.add("/".join(parts))
        else:
            places[name] = member
    return _Listing(places, folders, tuple(unsafe))


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _descend(listing: _Listing) -> _Listing:
    """The listing seen from below its wrapping folders: one folder at the top, with folders but no image inside."""
    while True:
        tops = {name for name in listing.folders if "/" not in name}
        top = next(iter(tops), "") + "/"
        images = [name for name in listing.places if name.lower().endswith(SUFFIXES)]
        inside = [name.removeprefix(top) for name in images if name.startswith(top)]
        wraps = len(tops) == 1 and len(inside) == len(images) > 0 and all("/" in name for name in inside)
        if not wraps or top[:-1].lower() in SPLITS:
            return listing
        listing = _Listing(
            {name.removeprefix(top): place for name, place in listing.places.items() if name.startswith(top)},
            {name.removeprefix(top) for name in listing.folders if name.startswith(top)},
            listing.unsafe,
        )


def _read_labels(listing: _Listing, archive: zipfile.ZipFile | None) -> dict[str, str]:
    """Class names by file from a StyleGAN dataset.json, {"labels": [[file, number], ...]}: the numbers. Empty where there is none, or one
    without labels, or one of ganaug's own, with "class_names": there the folders are the classes, also of images moved since."""
    place = listing.places.get(LABEL_FILE)
    if place is None:
        return {}
    try:
        content = place.read_bytes() if isinstance(place, Path) else archive.read(place) if archive else b""
        found = json.loads(content)
        pairs = found.get("labels") or ()
        return {} if "class_names" in found else {str(file): str(int(label)) for file, label in pairs}
    except (OSError, ValueError, OverflowError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise GanaugError(
            f'{LABEL_FILE} is not one of the StyleGAN family ({error}): expected {{"labels": [["a.png", 0], ...]}}. '
            "Mend it, or remove it to take the folders for the classes."
        ) from None


def _arrange_by_labels(images: Iterable[str], labels: Mapping[str, str]) -> list[ImageFile]:
    found = [name for name in images if name in labels]
    if not found:
        raise GanaugError(f"{LABEL_FILE} labels no image that is there. Remove it to take the folders for the classes.")
    return [ImageFile(name, labels[name], SPLITS.get(name.split("/")[0].lower())) for name in found]


def _arrange(images: Iterable[str], where: str) -> list[ImageFile]:
    """The images that lie in class folders, by the layout that the folders show. Raises `GanaugError` if none does."""
    paths = {name: name.split("/") for name in images}
    if not paths:
        raise GanaugError(f"{where} holds no images ({', '.join(suffix[1:] for suffix in SUFFIXES)}). {LAYOUT}")
    tops = {parts[0] for parts in paths.values() if len(parts) > 1}
    if not tops:
        raise GanaugError(f"{where} has its images directly in the root: the class of none is known. {LAYOUT}")
    named_as_split = {top for top in tops if top.lower() in SPLITS}
    with_classes = {
        top for top in named_as_split if any(parts[0] == top and len(parts) > 2 for parts in paths.values())
    }
    if named_as_split == tops and not with_classes:
        raise GanaugError(
            f"{where} has images directly in {'/, '.join(sorted(tops))}/: their classes are unknown. {LAYOUT}"
        )
    if with_classes == tops or any(SPLITS[top.lower()] == "train" for top in with_classes):
        return [
            ImageFile(name, parts[1], SPLITS[parts[0].lower()])
            for name, parts in paths.items()
            if len(parts) > 2 and parts[0] in with_classes
        ]
    return [ImageFile(name, parts[0], None) for name, parts in paths.items() if len(parts) > 1]


def _find_empty_classes(listing: _Listing, files: Iterable[ImageFile]) -> set[str]:
    """Folders where class folders stand that hold no image, in any split."""
    roots = {file.name.split("/")[0] if file.split else "" for file in files}
    class_names = {file.class_name for file in files}
    folders = (name.rpartition("/") for name in listing.folders)
    return {name for root, _, name in folders if root in roots and name not in class_names}


def _identify(listing: _Listing, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        place = listing.places[name]
        if isinstance(place, Path):
            state = place.stat()
            stamp = (name, state.st_size, state.st_mtime_ns)
        else:
            stamp = (name, place.file_size, place.CRC)
        digest.update(repr(stamp).encode())
    return digest.hexdigest()
