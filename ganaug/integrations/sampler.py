"""An over-sampler for imbalanced-learn: synthetic images of a GAN that is trained on X and y."""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.utils import check_target_type
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data

from ..devices import resolve_device
from ..recipe import RecipeLike
from ..settings import Recipe
from .arrays import (
    Rows,
    as_guest,
    choose_size,
    draw,
    find_layout,
    flatten,
    from_pixels,
    image_set,
    settle_recipe,
    to_pixels,
    trained_gan,
)

GAN_CONSTRAINTS: dict[str, list[Any]] = {  # of the parameters that both estimators have
    "steps": [Interval(Integral, 1, None, closed="left"), None],
    "budget": [Interval(Real, 0, None, closed="neither"), str, None],
    "random_state": ["random_state"],
    "recipe": [Mapping, Recipe, str, os.PathLike, None],
    "image_shape": [tuple, list, None],
}


class GANSampler(BaseOverSampler):  # type: ignore[misc]
    """Brings classes up to size with the images of a GAN that is trained on X and y, of those that pass ganaug's tests.

    X: images (N, H, W) or (N, H, W, 1 or 3), or (N, 1 or 3, H, W) where only that can be meant; or flat, (N, n_features), as a
        pipeline passes them on. uint8, floats within 0..1, or any numbers, the least of which is then black and the largest white.
    sampling_strategy: as of all of imbalanced-learn's over-samplers: "auto", "minority", "not minority", "not majority", "all",
        a ratio of two classes' sizes, {class: images in all}, or a function from y to that.
    steps: of the GAN's training; by default those that fit into `budget`, e.g. "10m" or seconds, by default the recipe's.
    random_state: decides everything, if `steps` are given; what fits into a budget depends on the machine, too.
    recipe: any other setting; a file, or a mapping such as {"fit": {"width": 16}, "curation": {"keep": 0.5}}. See
        `ganaug.load_recipe`. What it says of seeds, of numbers of images, and of how oblong ones become square (these are stretched, so
        that they can be stretched back), does not count.
    image_shape: of flat images: (H, W), (H, W, 3) or (3, H, W); by default gray squares. What is no square is filled up to one, so
        that any table of numbers passes, for what that is worth.

    `fit_resample` returns the real images, as they came, then the synthetic ones, class by class, in the shape and type of X. A class
    of which too few images pass the tests stays smaller, with a UserWarning.

    sampling_strategy_: {class: images to make};  counts_: {class: images made};  candidates_: {class: images that were tested}
    recipe_: the settings as they were settled;  layout_: how a row of X is an image;  n_features_in_, feature_names_in_
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {**BaseOverSampler._parameter_constraints, **GAN_CONSTRAINTS}

    def __init__(
        self,
        sampling_strategy: Any = "auto",
        *,
        steps: int | None = None,
        budget: str | float | None = None,
        random_state: Any = None,
        recipe: RecipeLike = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.steps = steps
        self.budget = budget
        self.random_state = random_state
        self.recipe = recipe
        self.image_shape = image_shape

    def _check_X_y(self, X: Any, y: Any, accept_sparse: Any = None) -> tuple[Rows, Any, bool]:
        """X with flat rows, y with one label each, and whether y was one-hot."""
        y, one_hot = check_target_type(y, indicate_one_vs_all=True)
        flat, row_shape = flatten(X)
        rows, y = validate_data(self, flat, y, reset=True)
        self.layout_ = find_layout(rows, row_shape, self.image_shape)
        return rows, y, one_hot

    def _fit_resample(self, X: Rows, y: Any, **params: Any) -> tuple[Any, Any]:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        recipe = settle_recipe(self.recipe, self.steps, self.budget, seed)
        classes, labels = np.unique(y, return_inverse=True)
        asked = [int(self.sampling_strategy_.get(name, 0)) for name in classes]
        made, tested = [0] * len(classes), [0] * len(classes)
        if any(asked):
            with as_guest():
                device = resolve_device(recipe.fit.device)
                pixels = to_pixels(X, self.layout_, choose_size(self.layout_, recipe, device))
                images = image_set(pixels, labels.astype(np.int64), [str(name) for name in classes])
                with trained_gan(images, recipe, device) as (folder, recipe):
                    drawn, tallies = draw(folder, images, recipe, asked, device)
            made, tested = [tally.kept for tally in tallies], [tally.candidates for tally in tallies]
            X = np.concatenate([X, from_pixels(drawn.images, self.layout_, X.shape[1], X.dtype)])
            y = np.concatenate([y, classes[drawn.labels]])
        self.recipe_ = recipe
        self.counts_ = dict(zip(classes.tolist(), made, strict=True))
        self.candidates_ = dict(zip(classes.tolist(), tested, strict=True))
        return X.reshape(-1, *self.layout_.row_shape), y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags
