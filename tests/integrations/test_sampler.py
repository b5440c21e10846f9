from collections import Counter

import numpy as np
import pytest
import torch
from imblearn.pipeline import Pipeline
from imblearn.utils.estimator_checks import estimator_checks_generator as imblearn_checks
from quick import as_tests, digits, hasty_runs, quick  # noqa: F401 (a fixture of all tests here)
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator as sklearn_checks

from ganaug import GanaugError, GANSampler
from ganaug.integrations import sampler
from ganaug.synthesis import harvest


def tiny(sampling_strategy="auto", **parameters):
    given = {"steps": 1, "random_state": 0, "recipe": quick()} | parameters
    return GANSampler(sampling_strategy, **given)


NOT_SPARSE = {"check_samplers_pandas_sparse": "images are dense; a frame of sparse columns is refused"}


@pytest.mark.parametrize(("estimator", "check"), as_tests(imblearn_checks, tiny(), NOT_SPARSE))
def test_imbalanced_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), as_tests(sklearn_checks, tiny(), {}))
def test_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("strategy", "counts", "wanted"),
    [
        ("auto", (4, 6, 9), (9, 9, 9)),
        ("not majority", (4, 6, 9), (9, 9, 9)),
        ("minority", (4, 6, 9), (9, 6, 9)),
        ("not minority", (4, 6, 9), (4, 9, 9)),
        ("all", (4, 6, 9), (9, 9, 9)),
        (0.75, (4, 12), (9, 12)),
        ({0: 10, 2: 11}, (4, 6, 9), (10, 6, 11)),
        (lambda y: {1: len(y)}, (4, 6, 9), (4, 19, 9)),
    ],
)
def test_a_strategy_means_what_it_means_in_imbalanced_learn(strategy, counts, wanted):
    X, y = digits(*counts)
    made = tiny(strategy)
    _, resampled = made.fit_resample(X, y)
    assert Counter(resampled.tolist()) == dict(enumerate(wanted))
    assert made.counts_ == {k: wanted[k] - counts[k] for k in range(len(counts))}


@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).integers(0, 256, (12, 10, 14), np.uint8),
        np.random.default_rng(0).integers(0, 256, (12, 3, 10, 14), np.uint8),
        np.random.default_rng(0).random((12, 10, 14, 3), np.float32),
        np.random.default_rng(0).integers(-5, 17, (12, 140)),
    ],
    ids=["gray", "color first", "floats", "flat"],
)
def test_real_images_come_first_and_synthetic_ones_are_like_them(X):
    y = np.array(["cat"] * 4 + ["dog"] * 8)
    image_shape = (10, 14) if X.ndim == 2 else None
    images, labels = tiny(image_shape=image_shape).fit_resample(X, y)
    assert np.array_equal(images[:12], X)
    assert labels.tolist() == [*y.tolist(), *["cat"] * 4]
    assert images.shape == (16, *X.shape[1:])
    assert images.dtype == X.dtype
    made = images[12:]
    assert len(np.unique(made.reshape(4, -1), axis=0)) == 4
    assert X.min() <= made.min() < made.max() <= max(X.max(), 1)


def test_synthetic_images_resemble_their_class():
    """Black or white images: a GAN learns that in a few steps."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.integers(0, 30, (24, 16, 16), np.uint8), rng.integers(226, 256, (8, 16, 16), np.uint8)])
    recipe = quick(fit={"width": 8, "batch_size": 16, "learning_rate": 2e-3})
    images, labels = tiny(steps=80, recipe=recipe).fit_resample(X, ["black"] * 24 + ["white"] * 8)
    assert labels[32:] == ["white"] * 16
    assert np.mean(images[32:]) > 180


def test_nothing_is_trained_where_nothing_lacks(monkeypatch):
    monkeypatch.setattr(sampler, "trained_gan", None)
    X, y = digits(6, 6)
    balanced = tiny()
    images, labels = balanced.fit_resample(X, y)
    assert np.array_equal(images, X)
    assert np.array_equal(labels, y)
    assert balanced.counts_ == {0: 0, 1: 0}


def test_a_random_state_repeats_and_nothing_global_is_touched():
    X, y = digits(4, 8)
    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (tiny(random_state=seed).fit_resample(X, y)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_class_that_cannot_be_filled_stays_smaller():
    X, y = digits(5, 40)
    strict = tiny(recipe=quick(curation={"without": [], "max_candidates": 1, "wrong_class": 0.9}))
    with pytest.warns(UserWarning, match="class 0: .* of 35 images"):
        images, labels = strict.fit_resample(X, y)
    assert strict.counts_[0] < 35
    assert strict.candidates_ == {0: 128, 1: 0}
    assert len(images) == len(labels) == 45 + strict.counts_[0]


def test_images_that_nothing_tests_are_those_that_pass_no_test(monkeypatch):
    X, y = digits(4, 8)
    plain = tiny().fit_resample(X, y)[0]
    monkeypatch.setattr(harvest, "is_untested", lambda curation: False)
    assert np.array_equal(tiny().fit_resample(X, y)[0], plain)


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"recipe": {"fit": {"device": "tpu"}}}, np.zeros((6, 64)), "unknown device"),
        ({"image_shape": (4, 4)}, np.zeros((6, 64)), "64 features"),
        ({"steps": 0}, np.zeros((6, 64)), "'steps' parameter of GANSampler"),
        ({"sampling_strategy": {0: 1}}, np.zeros((6, 64)), "greater or equal"),
        ({}, np.full((6, 64), np.nan), "NaN"),
        ({}, np.zeros((6, 8, 8, 2)), "1 or 3 channels"),
    ],
)
def test_bad_input_is_one_value_error(parameters, X, message):
    with pytest.raises(ValueError, match=message):
        tiny(**parameters).fit_resample(X, [0, 0, 1, 1, 1, 1])


def test_an_error_of_the_gan_is_ganaugs_too():
    with pytest.raises(GanaugError, match="unknown device"):
        tiny(recipe={"fit": {"device": "tpu"}}).fit_resample(np.zeros((6, 64)), [0, 0, 1, 1, 1, 1])


def test_a_pipeline_is_cross_validated():
    X, y = digits(8, 16)
    pipeline = Pipeline([("gan", tiny()), ("clf", KNeighborsClassifier(3))])
    assert cross_val_score(pipeline, X, y, cv=2, error_score="raise").mean() > 0.9
