"""Finding the images: a folder or a zip of class folders, with or without train/, valid/ and test/ above them."""

import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

from ..errors import GanaugError, looked_in, printable

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
MAX_BYTES = 2**28  # of a file; a zip bomb, or an endless one, has more
MAX_RATIO = (
    1032  # to which a zip unpacks at most, as deflate does: what unpacks to more has its members over one another
)
MAX_NAME, MAX_DEPTH = 255, 64  # bytes of a name, as file systems allow; folders in one another
MAX_CLASS_NAME = 200  # bytes, so that a name for a file can be made of it

LABEL_FILE = "dataset.json"
OWN_FILES = (  # that ganaug writes beside the folders of the classes
    "manifest.csv",
    "manifest.parquet",
    "shards.json",
    "metadata.jsonl",
    LABEL_FILE,
    "curation.json",
    "curation.html",
    "pairs.npz",
    "recipe.yaml",
    "readme.md",
)
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
    but is not read: other files, images outside class folders, unsafe members of a zip. `outside_links` are read, and
    named with where they lead. `identity` changes with the content, as far as sizes and times of files or the checksums of a zip tell.
    """

    path: Path
    files: tuple[ImageFile, ...]
    class_names: tuple[str, ...]
    empty_classes: tuple[str, ...]
    ignored: tuple[str, ...]
    identity: str
    _places: Mapping[str, _Place] = field(repr=False)
    _archive: zipfile.ZipFile | None = field(repr=False)
    outside_links: tuple[str, ...] = ()

    def size(self, name: str) -> int:
        """Bytes of the file, 0 if it cannot be read; a zip may lie."""
        try:
            return _size(self._places[name])
        except OSError:
            return 0

    def open(self, name: str) -> IO[bytes]:
        """The file as a stream. Raises `GanaugError` if it cannot be opened or is empty; may be called from several threads."""
        place = self._places[name]
        return _open(place, self._archive_of(place))

    def read(self, name: str) -> bytes:
        """All bytes of the file. Raises `GanaugError` if they cannot be read, are more than MAX_BYTES or fail the zip's checksum."""
        place = self._places[name]
        return _read(place, self._archive_of(place))

    def has_lost(self, name: str) -> bool:
        """Whether the file, or all of the data, was there when it was listed and is gone."""
        place = self._places[name]
        return not self.path.exists() or (isinstance(place, Path) and not os.path.lexists(place))

    def locate(self, name: str) -> Path:
        """The path of a file of a folder."""
        place = self._places[name]
        assert isinstance(place, Path), "the files of a zip have no path"
        return place

    def part(self, files: Sequence[ImageFile]) -> "Source":
        """Those files alone, in a form that another process can be sent, whatever its working directory; it opens a zip anew."""
        places = {file.name: self._places[file.name] for file in files}
        absolute = {name: place.absolute() if isinstance(place, Path) else place for name, place in places.items()}
        return replace(
            self,
            path=self.path.absolute(),
            files=tuple(files),
            ignored=(),
            outside_links=(),
            _places=absolute,
            _archive=None,
        )

    def _archive_of(self, place: _Place) -> zipfile.ZipFile | None:
        return None if isinstance(place, Path) else self._archive or _reopened(self.path, self.identity)

    def has_split(self, split: Split) -> bool:
        return any(file.split == split for file in self.files)


@dataclass(frozen=True)
class _Listing:
    """Everything below a root by posix path: files, folders (with all parents), and names refused as unsafe."""

    places: dict[str, _Place]
    folders: set[str]
    unsafe: tuple[str, ...] = ()
    outside_links: tuple[str, ...] = ()


def open_source(path: str | Path) -> Source:
    """Lists a folder, or a zip in place.

    A single wrapping folder is descended. Links are followed, also out of the folder, but not to one that holds it. Folders
    named train, valid (val, validation) and test, in any case, with class folders inside are the splits. Images deeper
    inside a class folder belong to the class. Hidden files are passed over. Where dataset.json, as the StyleGAN family
    writes it, labels the images, its labels are the classes.

    Raises `GanaugError` for a missing path, a damaged or password-protected zip or a zip bomb, data without class folders, and
    classes whose names cannot become folders.
    """
    path = Path(path)
    listing, archive = _list(path)
    listing = _descend(listing)
    images = [name for name in listing.places if name.lower().endswith(SUFFIXES)]
    labels = _read_labels(listing, archive)
    files = _arrange_by_labels(images, labels) if labels else _arrange(images, str(path))
    used = {file.name for file in files}
    class_names = {file.class_name for file in files}
    _refuse_names(class_names)
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
        outside_links=listing.outside_links,
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


@lru_cache(maxsize=1)
def _reopened(path: Path, identity: str) -> zipfile.ZipFile:
    """The zip, opened once in a process that was sent a part of it."""
    return _open_archive(path)


def natural_key(text: str) -> tuple[list[str | tuple[int, str]], str]:
    """A sort key that puts 'class2' before 'class10'."""
    parts = re.split(r"(\d+)", text.casefold())  # not int(part): Python reads no more than 4,300 digits
    digits = [part.lstrip("0") for part in parts]
    return [(len(digits[index]), digits[index]) if index % 2 else part for index, part in enumerate(parts)], text


def _list(path: Path) -> tuple[_Listing, zipfile.ZipFile | None]:
    """What lies in a folder, or in a zip, which stays open. Raises `GanaugError` for anything else."""
    if not _is_text(str(path)):
        raise GanaugError(
            f"the data {printable(str(path))} has a name that is not valid UTF-8, or has a carriage return. Rename it."
        )
    if path.is_dir():
        return _list_folder(path), None
    if not path.is_file():
        raise GanaugError(f"the data {path} does not exist{looked_in(path)}. Give a folder of images, or a zip of one.")
    archive = _open_archive(path)
    return _list_archive(archive), archive


def _list_folder(root: Path) -> _Listing:
    """Follows links, each folder once, and none to a folder that holds the root: the whole disk is no class."""
    places: dict[str, _Place] = {}
    folders: set[str] = set()
    seen: set[str] = set()
    unsafe: list[str] = []
    outside: list[str] = []
    real_root = Path(os.path.realpath(root))

    def unreadable(error: OSError) -> None:
        unsafe.append(f"{printable(Path(error.filename).relative_to(root).as_posix())} ({error.strerror})")

    for here, subfolders, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(here)
        prefix = Path(here).relative_to(root).as_posix().removeprefix(".")
        if real in seen or prefix.count("/") >= MAX_DEPTH:
            subfolders.clear()
            continue
        seen.add(real)
        followed = []
        for name in sorted(name for name in (*subfolders, *names) if not _is_clutter(name)):
            place, shown = Path(here, name), f"{prefix}/{name}".lstrip("/")
            if not _is_text(name):
                unsafe.append(f"{printable(shown)} (its name is not valid UTF-8, or has a carriage return)")
                continue
            if place.is_symlink():
                target = Path(os.path.realpath(place))
                if real_root != target and real_root.is_relative_to(target):
                    unsafe.append(f"{shown} (a link to {printable(str(target))}, which holds this folder)")
                    continue
                if not target.is_relative_to(real_root) and target.exists():
                    outside.append(f"{shown} -> {printable(str(target))}")
            if place.is_dir():
                followed.append(name)
                folders.add(shown)
            elif place.is_file():
                places[shown] = place
            else:
                unsafe.append(f"{printable(shown)} ({'no file' if place.exists() else 'a link to nothing'})")
        subfolders[:] = followed
    return _Listing(places, folders, tuple(unsafe), tuple(outside))


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise GanaugError(f"the data {path} cannot be read: {error}") from None
    except Exception:  # damaged directories raise nearly anything
        kind = "a damaged zip" if path.suffix.lower() == ".zip" else "neither a folder nor a zip"
        raise GanaugError(f"the data {path} is {kind}. Give a folder of class folders, or a zip of one.") from None
    if any(member.flag_bits & 1 for member in archive.infolist()):
        raise GanaugError(f"the zip {path} is protected by a password. Unpack it and give the folder.")
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_RATIO * path.stat().st_size:
        raise GanaugError(
            f"the zip {path} is a bomb: it claims to hold {unpacked:,} bytes. Unpack what you trust and give the folder."
        )
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
            or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > MAX_NAME for part in parts)
            or len(parts) > MAX_DEPTH
            or not _is_text(name)
            or stat.S_ISLNK(member.external_attr >> 16)
        ):
            unsafe.append(printable(name[:MAX_NAME]))
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if member.is_dir() or name.endswith("/"):
            folders.add("/".join(parts))
        else:
            places[name] = member
    return _Listing(places, folders, tuple(unsafe))


def _size(place: _Place) -> int:
    return place.stat().st_size if isinstance(place, Path) else place.file_size


def _open(place: _Place, archive: zipfile.ZipFile | None) -> IO[bytes]:
    try:
        size = _size(place)
        if (
            not size
        ):  # as those of /proc say, too, of which some have no end, and some have none until something happens
            raise GanaugError("empty file")
        if size > MAX_BYTES:
            raise GanaugError(f"too large: {size:,} bytes, at most {MAX_BYTES // 2**20} MiB are read")
        if isinstance(place, Path):
            return place.open("rb")
        assert archive is not None
        return archive.open(place)
    except GanaugError:
        raise
    except Exception as error:  # damaged zips raise nearly anything
        raise GanaugError(f"cannot be read: {error}") from error


def _read(place: _Place, archive: zipfile.ZipFile | None) -> bytes:
    with _open(place, archive) as stream:
        try:
            return stream.read(MAX_BYTES)
        except Exception as error:  # as above
            raise GanaugError(f"cannot be read: {error}") from error


def _is_text(name: str) -> bool:
    """Whether the name can stand in JSON and in CSV: it is valid Unicode, and nothing in it ends a line for some readers only."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\r" not in name


def _refuse_names(class_names: Iterable[str]) -> None:
    """Raises `GanaugError` for a class that could not have a folder beside ganaug's own files."""
    for name in class_names:
        if name.casefold() in OWN_FILES:
            raise GanaugError(f"a class cannot be called {name}: ganaug writes a file of that name. Rename its folder.")
        if len(name.encode()) > MAX_CLASS_NAME:
            raise GanaugError(
                f"the class {printable(name[:40])}... has a name of more than {MAX_CLASS_NAME} bytes. Shorten it."
            )


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
            listing.outside_links,
        )


def _read_labels(listing: _Listing, archive: zipfile.ZipFile | None) -> dict[str, str]:
    """Class names by file from a StyleGAN dataset.json, {"labels": [[file, number], ...]}: the numbers. Empty where there is none, or one
    without labels, or one of ganaug's own, with "class_names": there the folders are the classes, also of images moved since."""
    place = listing.places.get(LABEL_FILE)
    if place is None:
        return {}
    try:
        found = json.loads(_read(place, archive))
        pairs = found.get("labels") or ()
        return {} if "class_names" in found else {str(file): str(int(label)) for file, label in pairs}
    except (GanaugError, ValueError, OverflowError, TypeError, AttributeError, RecursionError) as error:
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
