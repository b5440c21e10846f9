"""Real and synthetic images as torch Datasets, for training loops that know nothing else of ganaug."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..data.labeled import FileItems, Items, LabeledItems, as_picture, open_labeled
from ..data.manifest import NAME, locate, read_manifest
from ..errors import GanaugError
from .generated import GeneratorDataset, refuse_negative, shared
from .transforms import Transform, apply_transform

Schedule = Callable[[int], float]


class AugmentedDataset(Dataset[tuple[Any, int]]):
    """Real images, followed by synthetic ones, as (image, label) pairs.

    real       a folder of class folders, of which train/ is used where there is one; or a map-style Dataset of (image, label) with
               `.targets`, as torchvision's are, a `TensorDataset`, a Hugging Face data set, a `Subset` or `ConcatDataset` of such
    synthetic  a folder written by `ganaug synthesize`, or a `GeneratorDataset`
    ratio      synthetic images for each real one of the class, rounded: a number, or {class: number}
    cap        most synthetic images of a class: a number, or {class: number}
    schedule   a function from the epoch to the share, 0 to 1, of the synthetic images that are used in it; the places of the others show
               real images of the same class, so that length, labels and samplers stay as they are. See `set_epoch`
    transform  an albumentations transform, or any function of a PIL image such as torchvision's transforms; without one an
               image is a float tensor (C, H, W) in 0..1. A Dataset's own `.transform` is applied to the synthetic images, too
    classes    names of a Dataset's labels, where it does not tell them or calls them otherwise than `synthetic` does
    mode       of the PIL images: "RGB" or "L" (gray)
    seed       of the random stream of an albumentations transform and of the real images in place of synthetic ones
    megabytes  of files that are decoded once, at the start, and kept in memory; 0 reads each anew whenever it is asked for

    A class that a mapping leaves out is not limited by it. Synthetic images are taken in the order of the manifest, so
    a smaller amount is a part of a larger one.

    An albumentations transform is reseeded for every (seed, epoch, index), because left alone it repeats one random
    stream in every worker and every epoch. Call `set_epoch(epoch)` before each epoch for new augmentations.

    Raises `GanaugError` for a synthetic folder without a manifest, with missing files, or with classes unknown to `real`, for a Dataset
    without targets, for real and synthetic images that come out different in shape, and when an image cannot be read.
    """

    def __init__(
        self,
        real: Any,
        synthetic: "str | Path | GeneratorDataset",
        *,
        ratio: float | Mapping[str, float] | None = None,
        cap: int | Mapping[str, int] | None = None,
        schedule: Schedule | None = None,
        transform: Transform | None = None,
        classes: Sequence[str] | None = None,
        mode: str = "RGB",
        seed: int = 0,
        megabytes: float = 256,
    ) -> None:
        if mode not in ("RGB", "L"):
            raise GanaugError(f"mode must be 'RGB' or 'L' (gray), got {mode!r}.")
        refuse_negative("seed", seed)
        self._real = open_labeled(real, classes, mode, megabytes / 2)
        self.classes = self._real.classes
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        counts = Counter(self._real.targets)
        limits = _limit({name: counts[index] for index, name in enumerate(self.classes)}, ratio, cap)
        self._synthetic = open_synthetic(synthetic, self.classes, limits, mode, megabytes / 2)
        self.targets = [*self._real.targets, *self._synthetic.targets]
        self.is_synthetic = [False] * len(self._real.targets) + [True] * len(self._synthetic.targets)
        if self._real.files is not None and self._synthetic.files is not None:
            self.samples = list(zip([*self._real.files, *self._synthetic.files], self.targets, strict=True))
        if transform is not None and self._real.transform is not None:
            raise GanaugError(
                f"both {type(real).__name__} and AugmentedDataset have a transform, and synthetic images would miss one of them. "
                "Give it to AugmentedDataset alone."
            )
        self.transform = transform if transform is not None else self._real.transform
        self.mode, self.seed, self.schedule, self._generated = mode, seed, schedule, synthetic
        self._now = shared(torch.zeros(2, dtype=torch.float64))  # epoch, share: seen by workers that outlive an epoch
        self._ranks = _ranks(self._synthetic.targets)
        self._places = defaultdict[int, list[int]](list)  # of the real images of each label
        for row, label in enumerate(self._real.targets):
            self._places[label].append(row)
        self.set_epoch(0)
        with torch.random.fork_rng(devices=[]):
            self._refuse_other_shapes()

    def set_epoch(self, epoch: int) -> None:
        """Starts new random streams of an albumentations transform, and has the schedule and a `GeneratorDataset` go on. Two equal
        epochs give equal images. Workers that outlive an epoch (`persistent_workers=True`) hear of it, too."""
        refuse_negative("epoch", epoch)
        share = 1.0 if self.schedule is None else self.schedule(epoch)
        if not (isinstance(share, int | float | np.number) and 0 <= share <= 1):
            raise GanaugError(f"schedule must return a share from 0 to 1; got {share!r} for epoch {epoch}.")
        if isinstance(self._generated, GeneratorDataset):
            self._generated.set_epoch(epoch)
        self._now.copy_(torch.tensor([epoch, float(share)]))

    @property
    def epoch(self) -> int:
        return int(self._now[0])

    def sampling_weights(self, synthetic_share: float | None = None) -> Tensor:
        """(N,) float64 for `torch.utils.data.WeightedRandomSampler`: every class is drawn as often as any other, and within each
        the synthetic images together with this share of the draws (without it: each image as often as any other)."""
        if synthetic_share is not None and not 0 <= synthetic_share <= 1:
            raise GanaugError(f"synthetic_share must be from 0 to 1; got {synthetic_share}.")
        labels, synthetic = torch.tensor(self.targets), torch.tensor(self.is_synthetic)
        weights = torch.zeros(len(labels), dtype=torch.float64)
        for label in sorted(set(self.targets)):
            kinds = [(labels == label) & ~synthetic, (labels == label) & synthetic]
            numbers = [int(kind.sum()) for kind in kinds]
            share = numbers[1] / sum(numbers) if synthetic_share is None or 0 in numbers else synthetic_share
            for kind, number, part in zip(kinds, numbers, (1 - share, share), strict=True):
                weights[kind] = part / max(number, 1)
        return weights

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = range(len(self))[index]
        label, row = self.targets[index], index - len(self._real.targets)
        if row < 0:
            return self._real_image(index, index), label
        if self.schedule is None or label not in self._places:
            return self._synthetic_image(row, index), label
        epoch, share = self._now.tolist()
        if self._ranks[row] < share:
            return self._synthetic_image(row, index), label
        stream = np.random.default_rng([self.seed, int(epoch), index, 1])
        return self._real_image(int(stream.choice(self._places[label])), index), label

    def _real_image(self, row: int, index: int) -> Any:
        item = self._real.items[row]
        if self._real.transform is not None:
            return item
        picture = item if self._real.files is not None else as_picture(item, self.mode)
        if picture is None:
            raise GanaugError(
                f"the real images come as {_describe(item)}: expected pictures (PIL, or uint8), so that synthetic images can be "
                "treated alike. Give what makes them so to AugmentedDataset as transform=, not to the data set."
            )
        return apply_transform(self.transform, picture, lambda: (self.seed, self.epoch, index))

    def _synthetic_image(self, row: int, index: int) -> Any:
        return apply_transform(self.transform, self._synthetic.items[row], lambda: (self.seed, self.epoch, index))

    def _refuse_other_shapes(self) -> None:
        """Raises `GanaugError` where synthetic images come out with other channels than real ones, or with another size, although the first
        and the last real image agree in theirs: they would not fit into one batch."""
        num_real = len(self._real.targets)
        if num_real == 0:
            return
        first, last = self._real_image(0, 0), self._real_image(num_real - 1, num_real - 1)
        if num_real == len(self) or not hasattr(first, "shape") or first.shape != last.shape:
            return
        synthetic = self._synthetic_image(0, num_real)
        if synthetic.shape != first.shape:
            raise GanaugError(
                f"the real images come as {_describe(first)}, the synthetic ones as {_describe(synthetic)}: expected the same shape. "
                "Give a transform that resizes to one size, and mode='L' for gray images, 'RGB' for those in color."
            )


def list_synthetic(folder: Path, classes: Sequence[str]) -> list[tuple[str, str]]:
    """(path, class) in the order of the manifest, without the real images that it may list as well. Raises `GanaugError` for missing
    files, and for classes that are not among `classes`."""
    table = read_manifest(folder)
    made = table[table["source"] != "real"]
    files = [(str(locate(folder, file)), name) for file, name in zip(made["file"], made["class"], strict=True)]
    _refuse_unknown(folder, (name for _, name in files), classes)
    missing = [path for path, _ in files if not Path(path).is_file()]
    if missing:
        raise GanaugError(f"{folder / NAME} names {len(missing)} files that do not exist, such as {missing[0]}.")
    return files


def open_synthetic(
    synthetic: str | Path | GeneratorDataset,
    classes: list[str],
    limits: Mapping[str, float],
    mode: str,
    megabytes: float,
) -> LabeledItems:
    """The first synthetic images of every class, as many as its limit, rounded, with labels of `classes`."""
    if not isinstance(synthetic, str | Path | GeneratorDataset):
        raise GanaugError(
            "expected a folder written by ganaug synthesize or a GeneratorDataset as synthetic images; got "
            f"{type(synthetic).__name__}. Of a run or a Generator, make ganaug.GeneratorDataset(...)."
        )
    if isinstance(synthetic, GeneratorDataset):
        _refuse_unknown("the generator", synthetic.counts, classes)
        names = [synthetic.classes[label] for label in synthetic.targets]
        rows = _take(names, limits)
        items: Items = _Pictures(synthetic, rows, mode)
        files = None
    else:
        listed = list_synthetic(Path(synthetic), classes)
        names = [name for _, name in listed]
        rows = _take(names, limits)
        files = [listed[row][0] for row in rows]
        items = FileItems(files, mode, megabytes)
    return LabeledItems(items, [classes.index(names[row]) for row in rows], classes, files=files)


class _Pictures:
    """Rows of a `GeneratorDataset` as pictures, whatever its transform."""

    def __init__(self, dataset: GeneratorDataset, rows: list[int], mode: str) -> None:
        self.dataset, self.rows, self.mode = dataset, rows, mode

    def __getitem__(self, index: int, /) -> Image.Image:
        return self.dataset.picture(self.rows[index], self.mode)


def _refuse_unknown(where: str | Path, names: Iterable[str], classes: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(classes)):
        raise GanaugError(
            f"{where} has classes that the real images do not have: {', '.join(unknown)}. The real ones are "
            f"{', '.join(classes)}; use the data that the run was fitted on, or name a Dataset's labels alike with classes=[...]."
        )


def _limit(
    real: Mapping[str, int], ratio: float | Mapping[str, float] | None, cap: int | Mapping[str, int] | None
) -> dict[str, float]:
    """Most synthetic images of every class, given its number of real ones."""

    def value(request: float | Mapping[str, float] | None, name: str) -> float:
        number = request.get(name) if isinstance(request, Mapping) else request
        return float("inf") if number is None else number

    for word, request in (("ratio", ratio), ("cap", cap)):
        numbers = request if isinstance(request, Mapping) else {} if request is None else dict.fromkeys(real, request)
        known = {
            name: name in real and isinstance(number, int | float | np.number) and number >= 0
            for name, number in numbers.items()
        }
        wrong = [f"{name}: {numbers[name]!r}" for name, is_right in known.items() if not is_right]
        if wrong:
            raise GanaugError(f"{word} must be 0 or more, for classes among {', '.join(real)}; got {', '.join(wrong)}.")
    return {name: min(value(ratio, name) * count, value(cap, name)) for name, count in real.items()}


def _take(names: Sequence[str], limits: Mapping[str, float]) -> list[int]:
    """The first rows of every class, as many as its limit, rounded."""
    taken: Counter[str] = Counter()
    chosen = []
    for row, name in enumerate(names):
        if taken[name] + 0.5 <= limits[name]:
            taken[name] += 1
            chosen.append(row)
    return chosen


def _ranks(labels: Sequence[int]) -> list[float]:
    """Where each image stands among those of its label, in (0, 1)."""
    counts, seen = Counter(labels), Counter[int]()
    ranks = []
    for label in labels:
        ranks.append((seen[label] + 0.5) / counts[label])
        seen[label] += 1
    return ranks


def _describe(item: Any) -> str:
    dtype = f"{str(item.dtype).removeprefix('torch.')} " if hasattr(item, "dtype") else ""
    return f"{dtype}{type(item).__name__}{f' {tuple(item.shape)}' if hasattr(item, 'shape') else ''}"
