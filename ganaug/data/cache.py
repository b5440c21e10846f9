"""The prepared data of a run: decoded once, split once, then read as one array by every later stage."""

import csv
import hashlib
import io
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..errors import GanaugError, suggest
from ..progress import say, warn
from ..runs import SCHEMA, read_json, write_json, write_text, written_whole
from ..settings import IMAGE_SIZES, DataSettings
from .check import CheckReport, format_problem, inspect_scan, summarize_problem
from .duplicates import join_groups
from .images import Pixels, match_channels
from .scan import FileRecord, Scan, peek_sizes, scan
from .source import Source, Split, open_source, open_unlabeled
from .split import draw, group_of, hold_out
from .unlabeled import Unlabeled, load_unlabeled, read_unlabeled, save_unlabeled

IMAGES = "images.npy"
BLOCK = 1024  # images copied at a time
LARGEST_SIZE = 32  # that "auto" picks on a CPU: what trains in minutes there
LARGEST_SIZE_CUDA = 128
URGENT = ("unreadable", "truncated", "split-leak", "label-conflict", "small-class", "empty-class", "nested-classes")
COLUMNS = ("file", "class", "label", "split", "group", "sha256", "width", "height")


class Column(Sequence[str]):
    """A column of index.csv: read anew, line by line, where it is iterated; kept in memory once single values are asked for. Raises
    `ValueError` where there is none of that name, and in iterating where a row is cut off."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        with path.open(newline="", encoding="utf-8") as file:
            self.header = next(csv.reader(file), [])
        self.place = self.header.index(name)

    @cached_property
    def values(self) -> list[str]:
        return [value for value in self]  # noqa: C416 `list` would ask for the length

    def __iter__(self) -> Iterator[str]:
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows, None)
            for row in rows:
                if len(row) != len(self.header):
                    raise ValueError(
                        f"line {rows.line_num} of {self.path.name} has {len(row)} of {len(self.header)} values"
                    )
                yield row[self.place]

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.values == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self.values[at]


@dataclass(frozen=True)
class ImageSet:
    """Prepared images: `images` uint8 (N, C, S, S), mapped from disk; `labels` int64 (N,) index `class_names`.

    `splits` (N,) holds "train", "valid" or "test"; `files` the names inside the data; images with equal
    `groups` belong on one side of any split. `image_size` is S in pixels,
    `channels` is C: 1 where all images are gray, else 3. `unlabeled` images are in no split.
    """

    images: Pixels
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    files: Sequence[str]
    groups: Sequence[str]
    class_names: tuple[str, ...]
    image_size: int
    channels: int
    unlabeled: Unlabeled | None = None

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.splits == split)

    def group_numbers(self) -> npt.NDArray[np.int64]:
        """(N,): equal where the groups are."""
        return np.fromiter(map(_number, self.groups), np.int64)

    def subset(self, split: Split) -> tuple[Pixels, npt.NDArray[np.int64]]:
        """Images (n, C, S, S) and labels (n,) of one split, in memory."""
        chosen = self.indices(split)
        return np.asarray(self.images[chosen]), self.labels[chosen]

    def counts(self, split: Split) -> dict[str, int]:
        """Images of every class in one split; 0 where there are none."""
        numbers = np.bincount(self.labels[self.indices(split)], minlength=len(self.class_names))
        return dict(zip(self.class_names, numbers.tolist(), strict=True))


def prepare(data: str | Path, settings: DataSettings, folder: Path, device_kind: str) -> tuple[ImageSet, CheckReport]:
    """Reads, checks and splits `data` and writes it to `folder`, or loads what lies there if it is the same already.

    Unreadable files are left out with a warning. Without a test split one is held out of the training images by class,
    where files of one group (`settings.group_regex`) and copies, exact or near, stay on one side. `limit_per_class`
    applies to the training images only, and those not drawn are left out. `image_size` "auto" takes the size nearest to
    the median short side, at most 128 for a `device_kind` "cuda" and 32 for any other.

    Raises `GanaugError` if the data is unusable or a class has no training image.
    """
    source = open_source(data)
    largest = LARGEST_SIZE_CUDA if device_kind == "cuda" else LARGEST_SIZE
    wanted = _describe(source, settings, largest)
    info_path = folder / "set.json"
    if info_path.is_file():
        found = read_json(info_path)
        if found.get("request") == wanted:
            return load(folder), CheckReport.from_json(found["check"])
    image_size = _choose_size(source, largest) if settings.image_size == "auto" else settings.image_size
    scanned = scan(source, image_size, settings.resize)
    report = inspect_scan(source, scanned)
    if not report.usable:
        raise GanaugError("\n".join([f"{data} cannot be used:", *map(format_problem, report.problems)]))
    for problem in report.problems:
        (warn if problem.kind in URGENT else say)(summarize_problem(problem))
    chosen, splits, groups = _choose(scanned, source.class_names, settings)
    info = {"request": wanted, "check": report.to_json(), "image_size": image_size}
    _write(folder, source, scanned, chosen, splits, groups, info, settings)
    return load(folder), report


def verify_source(data: str | Path, unlabeled: Path | None, folder: Path) -> None:
    """Raises `GanaugError` if `folder` was prepared from other images than those that `data` and `unlabeled` hold now."""
    request = read_json(folder / "set.json").get("request", {})
    for given, known, found in (
        (data, request.get("identity"), open_source(data).identity),
        (unlabeled, request.get("unlabeled"), _identify_unlabeled(unlabeled)),
    ):
        if known != found:
            raise GanaugError(
                f"{given} is not what {folder.parent} was begun with: files were added, removed or changed. "
                "Give the same data, or another --out."
            )


def load(folder: Path) -> ImageSet:
    """What `prepare` wrote to `folder`. Raises `GanaugError` if it is missing, incomplete or damaged."""
    info = read_json(folder / "set.json")
    try:
        images = np.load(folder / IMAGES, mmap_mode="r")
        index = folder / "index.csv"
        labels = np.fromiter(iter(Column(index, "label")), np.int64)
        image_set = ImageSet(
            images=images,
            labels=labels,
            splits=np.fromiter(iter(Column(index, "split")), "<U5", len(labels)),
            files=Column(index, "file"),
            groups=Column(index, "group"),
            class_names=tuple(info["class_names"]),
            image_size=int(info["image_size"]),
            channels=int(info["channels"]),
            unlabeled=load_unlabeled(folder),
        )
    except (OSError, EOFError, ValueError, KeyError, csv.Error) as error:
        raise GanaugError(
            f"the prepared data in {folder} cannot be read: {error}. Delete the folder and run again."
        ) from None
    shape = (image_set.channels, image_set.image_size, image_set.image_size)
    if images.shape != (len(labels), *shape):
        raise GanaugError(
            f"the prepared data in {folder} is damaged: its images have shape {images.shape}, "
            f"its index tells {(len(labels), *shape)}. Delete the folder and run again."
        )
    return image_set


def write_images(path: Path, shape: tuple[int, int, int, int], parts: Iterable[Pixels]) -> None:
    """Writes uint8 images (N, C, S, S) as a .npy file, `parts` (n, C, S, S) of them at a time."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for part in parts:
            file.write(np.ascontiguousarray(part).data)


def resplit(source: Path, target: Path, splits: npt.NDArray[np.str_]) -> None:
    """Writes the prepared images of `source` to `target` with other `splits` (N,); those with an empty one are left out."""
    info = {key: value for key, value in read_json(source / "set.json").items() if key != "request"}
    with (source / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen, found = np.flatnonzero(splits != ""), load(source)
    parts = (found.images[chosen[i : i + BLOCK]] for i in range(0, len(chosen), BLOCK))
    write_images(target / IMAGES, (len(chosen), *found.images.shape[1:]), parts)
    if (unlabeled := found.unlabeled) is not None:  # what they show is asked anew, of those that train now
        save_unlabeled(target, unlabeled.images, unlabeled.files)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**rows[row], "split": splits[row]} for row in chosen)
    write_text(target / "index.csv", text.getvalue())
    write_json(target / "set.json", info)


def _number(group: str) -> int:
    """Its own of a group; those that `prepare` wrote are numbers already."""
    if group.isdecimal() and len(group) < 16:
        return int(group)
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=7).digest())


def _describe(source: Source, settings: DataSettings, largest: int) -> dict[str, Any]:
    """What decides the result: two equal descriptions give the same prepared data. Mirroring happens later."""
    values = settings.model_dump(mode="json", exclude={"mirror", "unlabeled"})
    if settings.image_size == "auto":
        values["largest_size"] = largest
    return {"identity": source.identity, "unlabeled": _identify_unlabeled(settings.unlabeled), "settings": values}


def _identify_unlabeled(path: Path | None) -> str | None:
    return None if path is None else open_unlabeled(path).identity


def _choose_size(source: Source, largest: int) -> int:
    short_sides = [min(size) for size in peek_sizes(source)]
    if not short_sides:
        return IMAGE_SIZES[0]  # nothing is readable: the check will say so
    median = statistics.median(short_sides)
    nearest = min(IMAGE_SIZES, key=lambda size: abs(math.log(size / median)))
    image_size, seen = min(nearest, largest), f"the median short side is {median:g} pixels"
    if nearest > largest:
        kind = "GPU" if largest == LARGEST_SIZE_CUDA else "CPU"
        say(
            f"image size {image_size}, the most on a {kind} unless --image-size says more ({seen}); details smaller than "
            f"{median / image_size:.0f} of those pixels vanish"
        )
    else:
        say(f"image size {image_size}, the nearest one ({seen}); --image-size sets another")
    return image_size


def _choose(
    scanned: Scan, class_names: tuple[str, ...], settings: DataSettings
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_], npt.NDArray[np.int64]]:
    """Indices of the records to keep, sorted, and the split (n,) and the group (n,) of each."""
    records = scanned.records
    labels = np.array([class_names.index(record.class_name) for record in records], np.int64)
    splits = np.array([record.split or "train" for record in records], np.str_)
    splits[[record.error is not None for record in records]] = ""
    keys = group_of([record.name for record in records], settings.group_regex)
    groups = join_groups(keys, scanned.copies.group.tolist())
    if (splits == "test").any():
        _warn_of_crossing(keys, splits)
    else:
        pool = np.flatnonzero(splits == "train")
        splits[pool[hold_out(labels[pool], groups[pool], settings.test_fraction, settings.seed)]] = "test"
    train = np.flatnonzero(splits == "train")
    if settings.limit_per_class is not None:
        drawn = train[draw(labels[train], _limits(settings.limit_per_class, class_names), settings.seed)]
        splits[np.setdiff1d(train, drawn)] = ""
    chosen = np.flatnonzero(splits != "")
    return chosen, splits[chosen], groups[chosen]


def _limits(given: int | dict[str, int], class_names: tuple[str, ...]) -> int | dict[int, int]:
    """The limits by the numbers of the classes. Raises `GanaugError` for a class that the data does not have."""
    if isinstance(given, int):
        return given
    if unknown := [name for name in given if name not in class_names]:
        raise GanaugError(
            f"data.limit_per_class: {unknown[0]!r} is not a class of the data: {suggest(unknown[0], class_names)}"
        )
    return {class_names.index(name): limit for name, limit in given.items()}


def _warn_of_crossing(keys: list[str], splits: npt.NDArray[np.str_]) -> None:
    """A split that came with the data is kept, even where a group of `settings.group_regex` lies on both of its sides."""
    sides = [{key for key, split in zip(keys, splits, strict=True) if split == side} for side in ("train", "test")]
    both = sorted(sides[0] & sides[1])
    if both:
        warn(
            f"split-leak: {len(both)} groups of data.group_regex lie in both train/ and test/, such as {both[0].removeprefix('match ')}"
        )


def _write(
    folder: Path,
    source: Source,
    scanned: Scan,
    chosen: npt.NDArray[np.int64],
    splits: npt.NDArray[np.str_],
    groups: npt.NDArray[np.int64],
    info: dict[str, Any],
    settings: DataSettings,
) -> None:
    """images.npy, index.csv, those without labels, and set.json last: its presence says that the others are whole."""
    stored = scanned.pixels
    assert stored is not None
    records = [scanned.records[index] for index in chosen]
    channels, size = max(record.channels for record in records), info["image_size"]
    (folder / "set.json").unlink(missing_ok=True)
    pixels = (match_channels(one, channels) for index in chosen if (one := stored[index]) is not None)
    images = (np.moveaxis(one, 2, 0)[None] for one in pixels)
    write_images(folder / IMAGES, (len(chosen), channels, size, size), images)
    write_text(folder / "index.csv", _format_index(records, splits, groups, source.class_names))
    if settings.unlabeled is not None:
        labeled = np.load(folder / IMAGES, mmap_mode="r")
        save_unlabeled(folder, *read_unlabeled(settings.unlabeled, labeled, settings.resize))
    names = {"class_names": list(source.class_names), "channels": channels, "source": source.path.name}
    write_json(folder / "set.json", {"schema": SCHEMA, **names, **info})


def _format_index(
    records: list[FileRecord], splits: npt.NDArray[np.str_], groups: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record, split, group in zip(records, splits, groups, strict=True):
        label = class_names.index(record.class_name)
        place = (record.name, record.class_name, label, split, group)
        writer.writerow((*place, record.sha256, record.width, record.height))
    return text.getvalue()
