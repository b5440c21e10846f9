"""LabeledItems images wherever a user has them: class folders, a torch Dataset with targets, a Hugging Face data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..errors import GanaugError
from ..progress import track
from .images import match_channels, read_pillow, to_mode, to_pillow
from .source import open_source

TARGETS = ("targets", "labels", "_labels")  # where torchvision's data sets have them
HOW_TO_NAME = "Give them: classes=[...]"


class Items(Protocol):
    """Images by their number: PIL, or whatever a data set with a transform of its own makes of them."""

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class LabeledItems:
    """`items[i]` shows the class `classes[targets[i]]`."""

    items: Items
    targets: list[int]
    classes: list[str]
    transform: Callable[..., Any] | None = None  # of the data set's own: `items` have been through it
    files: list[str] | None = None  # paths, where `items` are files


class FileItems:
    """Files as PIL images of the mode, the first of them kept in memory, as many as `megabytes` hold once decoded."""

    def __init__(self, files: Sequence[str], mode: str, megabytes: float) -> None:
        self.files, self.mode = [Path(file) for file in files], mode
        self.kept: list[Image.Image] = []
        left = megabytes * 2**20
        with track("reading images into memory", len(self.files)) as advance:
            for file in self.files if left > 0 else ():
                image = read_file(file, mode)
                left -= image.width * image.height * len(image.getbands())
                if left < 0:
                    break
                self.kept.append(image)
                advance(len(self.kept))

    def __getitem__(self, index: int, /) -> Image.Image:
        return self.kept[index].copy() if index < len(self.kept) else read_file(self.files[index], self.mode)


@dataclass(frozen=True)
class DatasetItems:
    """The images of a data set whose items are (image, ...) or {key: image, ...}."""

    dataset: Any
    key: int | str

    def __getitem__(self, index: int, /) -> Any:
        return self.dataset[index][self.key]


@dataclass(frozen=True)
class _Known:
    """What a data set tells of itself without loading an image; None where it does not."""

    targets: list[Any] | None = None
    classes: list[str] | None = None
    transform: Callable[..., Any] | None = None
    key: int | str = 0  # of the image in an item


def open_labeled(data: Any, classes: Sequence[str] | None, mode: str, megabytes: float) -> LabeledItems:
    """Training images as labeled ones.

    data: a folder of class folders, of which train/ is used where there is one; or a map-style torch Dataset of (image, label) with
        `.targets` or `.labels`, as torchvision's are, or a `TensorDataset`; or a Hugging Face data set with an image and a label
        column; or a `Subset` or `ConcatDataset` of such.
    classes: names, for a data set that does not tell them, or in place of its own.
    mode, megabytes: of images from files, see `FileItems`.

    Raises `GanaugError` for anything else.
    """
    if isinstance(data, str | Path):
        if classes is not None:
            raise GanaugError(f"classes names the labels of a Dataset, and {data} is a folder, which names its own.")
        return _open_folder(Path(data), mode, megabytes)
    kind = type(data).__name__
    if isinstance(data, dict):
        raise GanaugError(f"expected one Dataset, got a {kind} of {', '.join(map(str, data))}. Choose: data['train']")
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise GanaugError(
            f"expected a folder or a map-style Dataset of (image, label), got {kind}, which has no length or no order. "
            "Save its images as <class>/<image>, or collect them in a Dataset with .targets."
        )
    known = _examine(data)
    if known.targets is None:
        raise GanaugError(
            f"{kind} has no .targets or .labels: expected a Dataset that tells the label of each image without loading it."
        )
    targets = _to_labels(known.targets, kind)
    if len(targets) != len(data):
        raise GanaugError(f"{kind} has {len(data)} images and {len(targets)} labels: expected as many.")
    names = known.classes if classes is None else [str(name) for name in classes]
    if names is None:
        raise GanaugError(f"{kind} does not name its classes. {HOW_TO_NAME}")
    if targets and not 0 <= min(targets) <= max(targets) < len(names):
        raise GanaugError(
            f"{kind} has labels from {min(targets)} to {max(targets)}; expected 0 to {len(names) - 1} for "
            f"{len(names)} classes. {HOW_TO_NAME}"
        )
    return LabeledItems(DatasetItems(data, known.key), targets, names, known.transform)


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


def read_file(file: Path, mode: str) -> Image.Image:
    """A file as an upright PIL image of the mode. Raises `GanaugError`, with its name, if it cannot be read."""
    try:
        return read_pillow(file, mode)
    except (OSError, GanaugError) as error:
        raise GanaugError(f"the image {file} cannot be read: {error}") from error


def as_picture(item: Any, mode: str) -> Image.Image | None:
    """A PIL image, uint8 array (H, W[, C]) or uint8 tensor ([C,] H, W) as a new PIL image of the mode; None for anything else, such as
    what a transform has made floats of."""
    if isinstance(item, Image.Image):
        return to_mode(item, mode)
    array = np.asarray(item)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        return None
    if array.ndim == 2:
        array = array[:, :, None]
    elif not isinstance(item, np.ndarray):
        array = np.moveaxis(array, 0, 2)
    return to_pillow(match_channels(array, 3 if mode == "RGB" else 1)) if array.shape[2] in (1, 3) else None


def _open_folder(folder: Path, mode: str, megabytes: float) -> LabeledItems:
    files, names = (list(column) for column in zip(*list_folder(folder), strict=True))
    classes = list(dict.fromkeys(names))
    index = {name: label for label, name in enumerate(classes)}
    return LabeledItems(FileItems(files, mode, megabytes), [index[name] for name in names], classes, files=files)


def _examine(data: Any) -> _Known:
    """A data set's own word, or else that of what it is made of: lists with a value for each image are cut and joined as they are."""
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _examine_hugging_face(data)
    inner = _Known()
    if hasattr(data, "indices") and hasattr(data, "dataset"):  # torch.utils.data.Subset
        inner = _examine(data.dataset)
        if inner.targets is not None:
            inner = replace(inner, targets=[inner.targets[index] for index in data.indices])
    elif hasattr(data, "datasets"):  # torch.utils.data.ConcatDataset
        inner = _join(type(data).__name__, [_examine(part) for part in data.datasets])
    if getattr(data, "target_transform", None) is not None:
        raise GanaugError(
            f"{type(data).__name__} has a target_transform, which changes the labels that .targets tells. Leave it out."
        )
    transform = getattr(data, "transform", None)
    if transform is not None and inner.transform is not None:
        raise GanaugError(
            f"{type(data).__name__} and the data set within it have a transform each, and synthetic images would miss one. "
            "Give one to AugmentedDataset instead."
        )
    classes = getattr(data, "classes", None)
    targets = _own_targets(data)
    return _Known(
        targets=inner.targets if targets is None else targets,
        classes=inner.classes if classes is None else [str(name) for name in classes],
        transform=inner.transform if transform is None else transform,
        key=inner.key,
    )


def _join(kind: str, parts: Sequence[_Known]) -> _Known:
    for what in ("classes", "transform", "key"):
        if any(getattr(part, what) != getattr(parts[0], what) for part in parts):
            found = "; ".join(str(getattr(part, what)) for part in parts)
            raise GanaugError(f"the parts of {kind} differ in {what}: {found}. Expected the same for all of them.")
    targets = [part.targets for part in parts if part.targets is not None]
    return replace(parts[0], targets=list(chain(*targets)) if len(targets) == len(parts) else None)


def _examine_hugging_face(data: Any) -> _Known:
    """The first column of kind Image, and the first ClassLabel."""
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    images, labels = ([name for name, kind in kinds.items() if kind == wanted] for wanted in ("Image", "ClassLabel"))
    if not images or not labels:
        raise GanaugError(
            "expected a column of images and one of class labels, got "
            f"{', '.join(f'{name} ({kind})' for name, kind in kinds.items())}. "
            "Cast them: data.cast_column('image', datasets.Image()), data.class_encode_column('label')."
        )
    if data.format["type"] is not None:
        raise GanaugError(
            f"the data set has the format {data.format['type']!r}, and its images are no longer pictures. "
            "Take it off with data.with_format(None), and give the transform to AugmentedDataset."
        )
    return _Known(list(data[labels[0]]), list(data.features[labels[0]].names), key=images[0])


def _own_targets(data: Any) -> list[Any] | None:
    found = next((getattr(data, name) for name in TARGETS if getattr(data, name, None) is not None), None)
    tensors: Any = getattr(data, "tensors", ())  # of torch.utils.data.TensorDataset
    if found is None and len(tensors) == 2:
        found = tensors[1]
    return None if found is None else list(found.tolist() if hasattr(found, "tolist") else found)


def _to_labels(targets: Sequence[Any], kind: str) -> list[int]:
    try:
        return [int(label) for label in targets]
    except (TypeError, ValueError):
        raise GanaugError(
            f"{kind} has labels such as {targets[0]!r}: expected one whole number, a class, for each image."
        ) from None
