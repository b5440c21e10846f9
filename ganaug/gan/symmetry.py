"""Which reflections keep the class of an image: found out from the data, so that no set of digits is flipped by default."""

from collections.abc import Collection
from math import sqrt

import torch
from scipy.stats import t

from ..devices import resolve_precision
from ..progress import say, track
from ..settings import Mirror, Recipe
from .judge import AUGMENT, examine, train_judge
from .validation import LabeledTensors

NUM_FOLDS = 2
MIN_IMAGES, MIN_OF_CLASS = 40, 8  # fewer cannot tell
RETAINED = 0.8  # of what a classifier knows beyond chance, at least, must hold for mirrored images
CONFIDENCE = 0.95


def settle_mirror(recipe: Recipe, train: LabeledTensors, num_classes: int) -> Recipe:
    """The recipe with the reflections that the training images are found to survive, where it names none."""
    if recipe.data.mirror != "auto":
        return recipe
    dtype = resolve_precision(recipe.fit.precision, train.images.device)
    mirror = safe_reflections(train, num_classes, recipe.fit.seed, dtype, recipe.fit.augment)
    if mirror is None:
        few = len(train.labels) < MIN_IMAGES
        why = (
            f"fewer than {MIN_IMAGES} images cannot tell"
            if few
            else "classifiers of these images hardly tell the classes apart"
        )
        harmless = "if mirroring is harmless, --mirror horizontal (or both)"
        say(f"reflections that keep the class: not known, so none: {why}; {harmless}")
        mirror = "none"
    else:
        say(f"reflections that keep the class: {mirror} (--mirror sets others)")
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"mirror": mirror})})


def safe_reflections(
    train: LabeledTensors, num_classes: int, seed: int, dtype: torch.dtype, allowed: Collection[str] = AUGMENT
) -> Mirror | None:
    """The axes along which held-out training images may be mirrored without a classifier losing their class.

    Classifiers of one part of the images, never mirrored while they learn (`allowed` as in `train_judge`), judge the other
    part as it is and mirrored. An axis is safe when, with 95 % confidence, the accuracy beyond chance stays above RETAINED of
    what it was, and there is no class, of MIN_OF_CLASS images, of which it does not, with the same confidence over all
    classes. Where a classifier knows little or images are few, nothing is safe. It does not see a reflection that is no
    image of the class, but nearer to it than to the others, such as a mirrored 2 where there are only 2 and 7.

    None where that is so because nothing can be known: of few images, or of a classifier no better than guessing.
    """
    if num_classes < 2:
        return "none"
    if len(train.labels) < MIN_IMAGES:
        return None
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
    fold_of = torch.empty_like(order)
    for k in range(num_classes):
        rows = order[train.labels[order] == k]
        fold_of[rows] = torch.arange(len(rows)) % NUM_FOLDS
    hits: dict[str, list[torch.Tensor]] = {"as it is": [], "horizontal": [], "vertical": []}
    labels: list[torch.Tensor] = []
    with track("testing which reflections keep the class", NUM_FOLDS) as advance:
        for fold in range(NUM_FOLDS):
            learned, others = fold_of != fold, fold_of == fold
            judge = train_judge(
                train.images[learned.to(train.images.device)],
                train.labels[learned],
                num_classes,
                "none",
                seed,
                dtype,
                allowed,
            )
            images = train.images[others.to(train.images.device)]
            for name, seen in (("as it is", images), ("horizontal", images.flip(3)), ("vertical", images.flip(2))):
                hits[name].append((examine(judge, seen)[1].argmax(dim=1) == train.labels[others]).float())
            labels.append(train.labels[others])
            advance(fold + 1)
    plain, classes = torch.cat(hits["as it is"]), torch.cat(labels)
    known = float(plain.mean()) - 1 / num_classes
    safe = {}
    for name in ("horizontal", "vertical"):
        # mirrored - chance >= RETAINED (plain - chance), image by image
        margin = torch.cat(hits[name]) - RETAINED * plain
        needed = (1 - RETAINED) / num_classes
        kept = known > 0 and limit(margin, 1 - CONFIDENCE) >= needed
        judged = [k for k in range(num_classes) if int((classes == k).sum()) >= MIN_OF_CLASS]
        each = (limit(margin[classes == k], 1 - (1 - CONFIDENCE) / num_classes) for k in judged)
        safe[name] = kept and all(highest >= needed for highest in each)
    if safe["horizontal"]:
        return "both" if safe["vertical"] else "horizontal"
    weights = len(classes) / (num_classes * classes.bincount()[classes])  # all classes count alike
    guesses = limit(plain * weights, 1 - CONFIDENCE) <= 1 / num_classes
    return "vertical" if safe["vertical"] else None if guesses else "none"


def limit(values: torch.Tensor, share: float) -> float:
    """Below which the mean of what `values` (n,) are drawn from lies with probability `share`."""
    error = float(values.std()) / sqrt(len(values))
    return float(values.mean()) + float(t.ppf(share, len(values) - 1)) * error
