"""A classifier for scikit-learn that trains a GAN on what it is given, and learns from the GAN's images, too."""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from ..classify.backbones import OWN, refuse_unfit
from ..classify.training import Labeled, predict, train_classifier
from ..data.cache import ImageSet
from ..devices import resolve_device
from ..errors import GanaugError
from ..gan.networks import Backbone
from ..gan.settling import DEFAULT_WIDTH
from ..gan.shares import to_tensors
from ..gan.symmetry import settle_mirror
from ..recipe import RecipeLike
from ..settings import Recipe
from ..study.arms import ARMS, real
from ..study.material import Material, load_backbone
from ..study.pieces import NO_MIXING, build_model, classifier_size, make_piece
from ..study.search import base_mixing, base_training
from .arrays import (
    ArrayError,
    as_guest,
    choose_size,
    draw,
    find_layout,
    flatten,
    image_set,
    settle_recipe,
    to_pixels,
    trained_gan,
)
from .sampler import GAN_CONSTRAINTS

Chances = npt.NDArray[np.float64]

USABLE_ARMS = tuple(
    name for name, arm in ARMS.items() if not (arm.given_the_gans_time or arm.seed_shift or arm.unlabeled)
)


class GANClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An image classifier that first trains a GAN on its training images, so that in a cross-validation no GAN has seen the fold that
    judges it.

    X, steps, budget, random_state, recipe, image_shape: as of `GANSampler`.
    arm: how the classifier is trained, one of the study's arms: "discriminator/real+synthetic" starts from the discriminator's weights
        and has synthetic images beside the real ones; "scratch/real" is the baseline, without a GAN; so are "scratch/oversampled",
        "scratch/smote", "scratch/duplicated" and "scratch/trivialaugment".
    updates: of the classifier; by default `compare.updates` of the recipe, or else `compare.max_updates`. Other settings of its
        training and the number of synthetic images stand under `compare:`, too (`pool_per_class`, `synthetic_ratio`, `learning_rate`,
        `classifier`, ...).

    classes_;  model_: the torch module, from images in [-1, 1] to logits, on the CPU;  counts_: {class: synthetic images}
    recipe_: the settings as they were settled;  layout_, image_size_: how a row of X is an image, and the side of those that the
        model sees;  n_features_in_, feature_names_in_
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "arm": [StrOptions(set(USABLE_ARMS))],
        "updates": GAN_CONSTRAINTS["steps"],
        **GAN_CONSTRAINTS,
    }

    def __init__(
        self,
        arm: str = "discriminator/real+synthetic",
        *,
        steps: int | None = None,
        budget: str | float | None = None,
        updates: int | None = None,
        random_state: Any = None,
        recipe: RecipeLike = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.arm = arm
        self.steps = steps
        self.budget = budget
        self.updates = updates
        self.random_state = random_state
        self.recipe = recipe
        self.image_shape = image_shape

    def fit(self, X: Any, y: Any) -> Self:
        """Trains the GAN, where the arm needs one, and the classifier. Raises ValueError for what is no set of images."""
        self._validate_params()
        flat, row_shape = flatten(X)
        rows, y = validate_data(self, flat, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ArrayError(f"y has one class, {self.classes_[0]!r}: at least two are needed to tell apart.")
        self.layout_ = find_layout(rows, row_shape, self.image_shape)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        recipe = settle_recipe(self.recipe, self.steps, self.budget, seed)
        if self.updates is not None:
            recipe = recipe.model_copy(update={"compare": recipe.compare.model_copy(update={"updates": self.updates})})
        with as_guest():
            device = resolve_device(recipe.fit.device)
            self.image_size_ = choose_size(self.layout_, recipe, device)
            refuse_contradiction(self.arm, recipe, len(self.classes_), self.image_size_)
            pixels = to_pixels(rows, self.layout_, self.image_size_)
            images = image_set(pixels, labels.astype(np.int64), [str(name) for name in self.classes_])
            material, self.recipe_ = gather(self.arm, images, recipe, device)
            self.model_ = train(self.arm, material, self.recipe_, seed)
        made = np.bincount(material.pool.labels, minlength=len(self.classes_)).tolist()
        self.counts_ = dict(zip(self.classes_.tolist(), made, strict=True))
        return self

    def predict_proba(self, X: Any) -> Chances:
        """(N, num_classes): the probability of each of `classes_`, were they equally frequent."""
        check_is_fitted(self)
        flat, row_shape = flatten(X)
        rows = validate_data(self, flat, reset=False)
        if not self.layout_.fits(row_shape):
            raise ArrayError(
                f"X has images of shape {row_shape}; the classifier was fitted on {self.layout_.shape} (height, width, channels)."
            )
        device = resolve_device(self.recipe_.compare.device)
        model = self.model_ if device.type == "cpu" else copy.deepcopy(self.model_).to(device)
        found = predict(model, to_pixels(rows, self.layout_, self.image_size_), device)
        chances: Chances = found.astype(np.float64)
        chances /= chances.sum(axis=1, keepdims=True)
        return chances

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """(N,): the most probable class of each image."""
        chances = self.predict_proba(X)
        found: npt.NDArray[Any] = self.classes_[chances.argmax(axis=1)]
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def refuse_contradiction(arm: str, recipe: Recipe, num_classes: int, image_size: int) -> None:
    """Raises `GanaugError` where the recipe names another classifier than the arm needs, or one that cannot be built."""
    settings = recipe.compare
    if settings.classifier == OWN:
        return
    if ARMS[arm].init == "discriminator":
        raise GanaugError(
            f"arm {arm!r} has the discriminator's weights; compare.classifier {settings.classifier!r} cannot."
        )
    size = classifier_size(settings, image_size)
    refuse_unfit(settings.classifier, num_classes, size, settings.classifier_weights)


def gather(arm: str, images: ImageSet, recipe: Recipe, device: torch.device) -> tuple[Material, Recipe]:
    """What the arm's classifier is made from, with a GAN if it needs one; and the recipe as it was settled."""
    num_classes = len(images.class_names)
    train = Labeled(images.images, images.labels)
    counts, pool = np.full(num_classes, recipe.compare.pool_per_class), Labeled(train.images[:0], train.labels[:0])
    if ARMS[arm].uses_gan:
        with trained_gan(images, recipe, device) as (folder, recipe):
            backbone = load_backbone(folder.root)
            if ARMS[arm].uses_pool:
                pool = draw(folder, images, recipe, counts.tolist(), device)[0]
    else:
        recipe = settle_mirror(recipe, to_tensors(images, images.indices("train"), device), num_classes)
        width = DEFAULT_WIDTH if recipe.fit.width == "auto" else recipe.fit.width
        backbone = Backbone(
            images.image_size, images.channels, width
        )  # `build_model` draws its weights anew, from the seed
    own = backbone if recipe.compare.classifier == OWN else None
    return Material(train, train.images[:0], pool, counts, own, num_classes, recipe.data.mirror), recipe


def train(arm: str, material: Material, recipe: Recipe, seed: int) -> nn.Module:
    """The trained classifier, on the CPU. Without any synthetic image an arm that has them beside the real ones has these alone.

    Raises `GanaugError` for an arm that has nothing else.
    """
    settings = recipe.compare
    piece = make_piece(arm, "", "", 0, seed, base_training(settings), base_mixing(recipe))
    model = build_model(piece, material, settings)
    diet_of = ARMS[arm].diet
    if ARMS[arm].uses_pool and not len(material.pool.labels):
        if not ARMS[arm].mixes:
            raise GanaugError(
                "no synthetic image passed the tests. Train the GAN longer, or leave filters out (curation.without)."
            )
        diet_of = real
    diet = diet_of(material.train, material.pool, material.num_beside, seed)
    device = resolve_device(settings.device)
    train_classifier(model, diet, piece.training, piece.mixing or NO_MIXING, material.mirror, seed, device)
    return model.cpu().eval()
