"""Which of a run's images are trained on, which are held out, and what of them each of its GANs learns from."""

import math

import numpy as np
import numpy.typing as npt
import torch

from ..data.cache import ImageSet
from ..data.split import draw, hold_out
from ..settings import Recipe
from .steps import TrainingData
from .stored import StoredImages, resident_bytes
from .strategies import Member
from .validation import LabeledTensors, TrainingImages, only

JUDGED, HELD_OUT = 2048, 512  # images at most that a training is judged by: to learn from, and held out
MIN_TO_HOLD_OUT = 5  # training images of a class, of which one may be spared


def split_images(images: ImageSet, recipe: Recipe, device: torch.device) -> tuple[TrainingImages, LabeledTensors]:
    """The images to train on, with those of the unlabeled ones whose labels were found, and those held out to judge the training
    by, on the device; the former on disk, where they are more than `resident_bytes`.

    The data's own validation split, where it has one; else `fit.validation` of every class of at least MIN_TO_HOLD_OUT
    training images, where groups stay on one side; HELD_OUT of either at most, drawn alike from all classes. The test split is in
    neither.
    """
    train, held_out = images.indices("train"), images.indices("valid")
    each = max(1, HELD_OUT // len(images.class_names))  # of a class
    if not len(held_out) and recipe.fit.validation > 0:
        labels, groups = images.labels[train], np.unique(images.group_numbers()[train], return_inverse=True)[1]
        small = np.bincount(labels, minlength=len(images.class_names))[labels] < MIN_TO_HOLD_OUT
        spared = np.flatnonzero(~np.isin(groups, groups[small]))  # whole groups without an image of a small class
        asked = draw(labels[spared], math.ceil(each / recipe.fit.validation), recipe.fit.seed)
        spared = spared[np.isin(groups[spared], groups[spared[asked]])]
        if len(spared):
            chosen = hold_out(labels[spared], groups[spared], recipe.fit.validation, recipe.fit.seed)
            held_out = train[spared[chosen]]
            train = np.setdiff1d(train, held_out)
    if len(held_out) > HELD_OUT:
        held_out = held_out[draw(images.labels[held_out], each, recipe.fit.seed)]
    held_out_ones = to_tensors(images, held_out, device)
    sure = images.unlabeled is not None and images.unlabeled.labels is not None
    if (
        isinstance(images.images, np.memmap)
        and images.images[:1].nbytes * len(train) > resident_bytes(device)
        and not sure
    ):
        stored = StoredImages(images.images, torch.from_numpy(train), device)
        return TrainingImages(stored, torch.from_numpy(images.labels[train])), held_out_ones
    labeled = to_tensors(images, train, device)
    if images.unlabeled is None:
        return TrainingImages(labeled.images, labeled.labels), held_out_ones
    pixels, found = (torch.from_numpy(part) for part in images.unlabeled.sure())
    more = torch.cat([labeled.images, pixels.to(device)])
    return TrainingImages(more, torch.cat([labeled.labels, found])), held_out_ones


def judged(train: TrainingImages, num_classes: int, seed: int) -> LabeledTensors:
    """Those that judges learn from and generated images are compared with: all, or JUDGED drawn alike from all classes."""
    rows = torch.arange(len(train.labels))
    if len(rows) > JUDGED:
        rows = torch.from_numpy(draw(train.labels.numpy(), max(1, JUDGED // num_classes), seed))
    elif isinstance(train.images, torch.Tensor):
        return LabeledTensors(train.images, train.labels)
    return LabeledTensors(train.images[rows.to(train.images.device)], train.labels[rows])


def to_tensors(images: ImageSet, rows: npt.NDArray[np.int64], device: torch.device) -> LabeledTensors:
    """Those rows of the images, on the device."""
    if isinstance(images.images, np.memmap):
        pixels = StoredImages(images.images, torch.from_numpy(rows), device)[torch.arange(len(rows))]
    else:
        pixels = torch.from_numpy(np.asarray(images.images[rows])).to(device)
    return LabeledTensors(pixels, torch.from_numpy(images.labels[rows]))


def training_data(split: tuple[TrainingImages, LabeledTensors], member: Member, mirror: str) -> TrainingData:
    """What a member learns from: the images of its classes."""
    images, held_out = split[0].images, only(split[1], member.classes)
    kept = torch.isin(split[0].labels, torch.tensor(member.classes))
    labels = split[0].labels[kept]
    if not kept.all():
        images = images.part(kept) if isinstance(images, StoredImages) else images[kept.to(images.device)]
    rows = tuple(torch.where(labels == k)[0] for k in member.classes)
    network_labels = torch.zeros(max(member.classes) + 1, dtype=torch.int64)
    network_labels[list(member.classes)] = torch.tensor(member.labels)
    others = (held_out.images, network_labels[held_out.labels]) if len(held_out.labels) else None
    return TrainingData(images, rows, member.labels, mirror, others)
