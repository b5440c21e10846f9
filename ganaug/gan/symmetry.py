"""Which reflections keep the class of an image: found out from the data, so that no digit is ever flipped by default."""

import torch

from ..settings import Mirror
from .judge import examine, train_judge
from .validation import LabeledTensors

NUM_FOLDS = 2
MIN_IMAGES = 40  # fewer cannot tell
RETAINED = 0.8  # of what a classifier knows beyond chance, at least, must hold for mirrored images
CONFIDENCE = 1.64  # standard errors: with 95 % confidence


def safe_reflections(train: LabeledTensors, num_classes: int, seed: int, dtype: torch.dtype) -> Mirror:
    """The axes along which held-out training images may be mirrored without a classifier losing their class.

    Classifiers of one part of the images, never mirrored while they learn, judge the other part as it is and mirrored. An
    axis is safe when, with 95 % confidence, the accuracy beyond chance stays above RETAINED of what it was. Where a
    classifier knows little or images are few, nothing is safe.
    """
    if num_classes < 2 or len(train.labels) < MIN_IMAGES:
        return "none"
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
    fold_of = torch.empty_like(order)
    for k in range(num_classes):
        rows = order[train.labels[order] == k]
        fold_of[rows] = torch.arange(len(rows)) % NUM_FOLDS
    hits: dict[str, list[torch.Tensor]] = {"as it is": [], "horizontal": [], "vertical": []}
    for fold in range(NUM_FOLDS):
        learned, others = fold_of != fold, fold_of == fold
        judge = train_judge(
            train.images[learned.to(train.images.device)], train.labels[learned], num_classes, "none", seed, dtype
        )
        images = train.images[others.to(train.images.device)]
        for name, seen in (("as it is", images), ("horizontal", images.flip(3)), ("vertical", images.flip(2))):
            hits[name].append((examine(judge, seen)[1].argmax(dim=1) == train.labels[others]).float())
    plain = torch.cat(hits["as it is"])
    known = float(plain.mean()) - 1 / num_classes
    safe = {}
    for name in ("horizontal", "vertical"):
        # mirrored - chance >= RETAINED (plain - chance), image by image
        margin = torch.cat(hits[name]) - RETAINED * plain
        needed = (1 - RETAINED) / num_classes
        error = float(margin.std()) / len(margin) ** 0.5
        safe[name] = known > 0 and float(margin.mean()) - CONFIDENCE * error >= needed
    if safe["horizontal"]:
        return "both" if safe["vertical"] else "horizontal"
    return "vertical" if safe["vertical"] else "none"
