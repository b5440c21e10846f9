"""Labeled images wherever a user has them: class folders, a torch Dataset with targets, a Hugging Face data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..errors import GanaugError
from .images import read_pillow
from .source import open_source

TARGETS = ("targets", "labels", "_labels")  # where torchvision's data sets have them
HOW_TO_NAME = "Give them: classes=[...]"


class Items(Protocol):
    """Images by their number: PIL, or whatever a data set with a transform of its own makes of them."""

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Labeled:
    """`items[i]` shows the class `classes[targets[i]]`."""

    items: Items
    targets: list[int]
    classes: list[str]
    transform: Callable[..., Any] | None = None  # of the data set's own: `items` have been through it
    files: list[str] | None = None  # paths, where `items` are files


class FileItems:
    """Files as PIL images of the mode, the first of them kept in memory, as many as `megabytes` hold once decoded."""

    def __init__(self, files: Sequence[str], mode: str, megabytes: float) -> None:
        self.files, self.mode = files, mode
        self.kept: list[Image.Image] = []
        left = megabytes * 2**20
        for file in files:
            image = read_file(file, mode)
            left -= image.width * image.height * len(image.getbands())
            if left < 0:
                break
            self.kept.append(image)

    def __getitem__(self, index: int, /) -> Image.Image:
        return self.kept[index].copy() if index < len(self.kept) else read_file(self.files[index], self.mode)


@dataclass(frozen=True)
class DatasetItems:
    """The images of a data set whose items are (image, ...) or {key: image, ...}."""

    dataset: Any
    key: int | str

    def __getitem__(self, index: int, /) -> Any:
        return self.dataset[index][self.key]


def open_labeled(data: Any, classes: Sequence[str] | None, mode: str, megabytes: float) -> Labeled:
    """Training images as labeled ones.

    data: a folder of class folders, of which train/ is used where there is one; or a map-style torch Dataset of (image, label) with
        `.targets` or `.labels`, as torchvision's are, a `Subset` or `ConcatDataset` of such, a `TensorDataset`; or a Hugging Face
        data set with an image and a label column.
    classes: names, for a data set that does not tell them.
    mode, megabytes: of images from files, see `FileItems`.

    Raises `GanaugError` for anything else.
    """
    if isinstance(data, str | Path):
        return _open_folder(Path(data), mode, megabytes)
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _open_hugging_face(data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise GanaugError(
            f"expected a folder or a map-style Dataset of (image, label), got {type(data).__name__}. Save its images "
            "as <class>/<image>, or collect them in a list-like Dataset with .targets."
        )
    targets = [int(label) for label in _find(data, _own_targets, f"{type(data).__name__} has no .targets or .labels")]
    names = classes if classes is not None else _find(data, _own_classes, "", optional=True)
    if names is None:
        raise GanaugError(f"{type(data).__name__} does not name its classes. {HOW_TO_NAME}")
    names = [str(name) for name in names]
    if targets and not 0 <= min(targets) <= max(targets) < len(names):
        raise GanaugError(
            f"{type(data).__name__} has labels from {min(targets)} to {max(targets)}; expected 0 to {len(names) - 1} for "
            f"{len(names)} classes. {HOW_TO_NAME}"
        )
    return Labeled(DatasetItems(data, 0), targets, names, _find(data, _own_transform, "", optional=True))


def list_folder(folder: Path) -> list[tuple[str, str]]:
    """(path, class) of the training images, in natural order of the classes. Raises `GanaugError` where there are none."""
    if folder.is_file():
        raise GanaugError(f"the real images {folder} must be a folder of class folders; unpack a zip first.")
    source = open_source(folder)
    split = "train" if source.has_split("train") else None
    files = [(str(source.locate(file.name)), file.class_name) for file in source.files if file.split == split]
    if not files:
        raise GanaugError(f"{folder} has no training images: expected <class>/<image> or train/<class>/<image>.")
    return files


def read_file(file: str, mode: str) -> Image.Image:
    """A file as an upright PIL image of the mode. Raises `GanaugError`, with its name, if it cannot be read."""
    try:
        return read_pillow(Path(file), mode)
    except (OSError, GanaugError) as error:
        raise GanaugError(f"the image {file} cannot be read: {error}") from error


def _open_folder(folder: Path, mode: str, megabytes: float) -> Labeled:
    files, names = zip(*list_folder(folder), strict=True)
    classes = list(dict.fromkeys(names))
    return Labeled(
        FileItems(files, mode, megabytes), [classes.index(name) for name in names], classes, files=list(files)
    )


def _open_hugging_face(data: Any) -> Labeled:
    """The first column of kind Image, and the first ClassLabel."""
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    images, labels = ([name for name, kind in kinds.items() if kind == wanted] for wanted in ("Image", "ClassLabel"))
    if not images or not labels:
        raise GanaugError(
            f"expected a column of images and one of class labels, got {kinds}. "
            "Cast them: data.cast_column('image', datasets.Image()), data.class_encode_column('label')."
        )
    if data.format["type"] is not None:
        raise GanaugError(
            f"the data set has the format {data.format['type']!r}, and its images are no longer pictures. "
            "Take it off with data.with_format(None), and give the transform to AugmentedDataset."
        )
    return Labeled(DatasetItems(data, images[0]), list(data[labels[0]]), list(data.features[labels[0]].names))


def _find(data: Any, own: Callable[[Any], Any], complaint: str, optional: bool = False) -> Any:
    """What `own` finds in a data set or, of a Subset or ConcatDataset, in what it is made of; None where there is none.
    Lists with a value for each image are cut and joined as the images are."""
    found = own(data)
    if found is None and hasattr(data, "indices") and hasattr(data, "dataset"):  # torch.utils.data.Subset
        inner = _find(data.dataset, own, complaint, optional)
        found = [inner[index] for index in data.indices] if own is _own_targets else inner
    elif found is None and hasattr(data, "datasets"):  # torch.utils.data.ConcatDataset
        parts = [_find(part, own, complaint, optional) for part in data.datasets]
        if own is not _own_targets and any(part != parts[0] for part in parts):
            raise GanaugError(f"the parts of {type(data).__name__} differ in their classes or transforms: {parts}.")
        found = list(chain.from_iterable(parts)) if own is _own_targets else parts[0]
    if found is None and not optional:
        raise GanaugError(f"{complaint}: expected a Dataset that tells the label of each image without loading it.")
    return found


def _own_targets(data: Any) -> Iterable[Any] | None:
    for name in TARGETS:
        if getattr(data, name, None) is not None:
            found: Iterable[Any] = getattr(data, name)
            return found
    if len(tensors := getattr(data, "tensors", ())) == 2:  # torch.utils.data.TensorDataset
        labels: Iterable[Any] = tensors[1]
        return labels
    return None


def _own_classes(data: Any) -> Any:
    return getattr(data, "classes", None)


def _own_transform(data: Any) -> Any:
    """Also a `transforms` of images and labels together would be one, and is refused where it is more than that."""
    if getattr(data, "target_transform", None) is not None:
        raise GanaugError(
            f"{type(data).__name__} has a target_transform, which changes the labels that .targets tells. Leave it out."
        )
    return getattr(data, "transform", None)


def as_picture(item: Any) -> Image.Image | None:
    """A PIL image, uint8 array (H, W[, C]) or uint8 tensor (C, H, W) as a PIL image; None for anything else, such as what a transform
    has made floats of."""
    if isinstance(item, Image.Image):
        return item
    array = np.asarray(item)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        return None
    if array.ndim == 3 and not isinstance(item, np.ndarray):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(array) if array.ndim == 2 or array.shape[2] == 3 else None
