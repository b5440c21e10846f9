import io
import pickle

import joblib
import numpy as np
import pytest
from quick import as_tests, digits, hasty_runs, quick  # noqa: F401 (a fixture of all tests here)
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from ganaug import GANClassifier
from ganaug.integrations import arrays
from ganaug.integrations.classifier import USABLE_ARMS
from ganaug.study.arms import ARMS

BASELINE = "scratch/real"


def tiny(arm="discriminator/real+synthetic", **parameters):
    given = {"steps": 1, "updates": 20, "random_state": 0, "recipe": quick()} | parameters
    return GANClassifier(arm, **given)


@pytest.fixture
def trained_on(monkeypatch):
    """The images of every GAN that is trained."""
    found, train_run = [], arrays.train_run

    def remember(folder, source, images, *arguments):
        found.append(images)
        train_run(folder, source, images, *arguments)

    monkeypatch.setattr(arrays, "train_run", remember)
    return found


@pytest.mark.parametrize(("estimator", "check"), as_tests(estimator_checks_generator, tiny(), {}))
def test_scikit_learns_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize("arm", USABLE_ARMS)
def test_every_arm_trains(arm, trained_on):
    X, y = digits(6, 9, 7)
    fitted = tiny(arm, updates=5).fit(X, y)
    assert fitted.predict_proba(X).shape == (22, 3)
    assert len(trained_on) == ARMS[arm].uses_gan
    assert fitted.counts_ == dict.fromkeys(range(3), 4 if ARMS[arm].uses_pool else 0)


def test_images_with_names_are_learned():
    X, y = digits(30, 30, 30)
    images, names = np.uint8(X.reshape(-1, 8, 8) * 15.9), np.array(["nought", "one", "two"])[y]
    learned = tiny(updates=60, recipe=quick(fit={"width": 8})).fit(images[::2], names[::2])
    assert learned.classes_.tolist() == ["nought", "one", "two"]
    assert learned.n_features_in_ == 64
    assert learned.score(images[1::2], names[1::2]) > 0.9
    flat = images[1::2].reshape(-1, 64)
    assert np.array_equal(learned.predict_proba(flat), learned.predict_proba(images[1::2]))


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_a_fitted_one_survives_a_file(dump):
    X, y = digits(6, 9)
    fitted, file = tiny(updates=5).fit(X, y), io.BytesIO()
    dump(fitted, file)
    file.seek(0)
    loaded = joblib.load(file) if dump is joblib.dump else pickle.load(file)
    assert np.array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_in_a_cross_validation_no_gan_sees_the_fold_that_judges_it(trained_on):
    X, y = digits(8, 8)
    scores = cross_val_score(tiny(updates=5), X, y, cv=2, error_score="raise")
    assert len(scores) == len(trained_on) == 2
    first, second = ({image.tobytes() for image in part.images} for part in trained_on)
    assert len(first) == len(second) == 8
    assert not first & second


def test_a_search_compares_arms(trained_on):
    X, y = digits(8, 8)
    arms = [BASELINE, "discriminator/real+synthetic"]
    found = GridSearchCV(tiny(updates=5), {"arm": arms}, cv=2, error_score="raise").fit(X, y)
    assert found.best_params_["arm"] in arms
    assert len(trained_on) == 2 + (found.best_params_["arm"] != BASELINE)


def test_without_synthetic_images_the_real_ones_remain():
    X, y = digits(6, 9)
    strict = quick(curation={"without": [], "keep": 0.75, "max_candidates": 1, "wrong_class": 0.9})
    rejecting = {"steps": 1, "updates": 5, "recipe": strict}
    fitted = tiny(**rejecting)
    with pytest.warns(UserWarning, match="0 of 4 images"):
        fitted.fit(X, y)
    assert fitted.counts_ == {0: 0, 1: 0}
    assert fitted.predict(X).shape == (15,)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no synthetic image passed"):
        tiny("scratch/synthetic", **rejecting).fit(X, y)


def test_another_architecture_learns_from_scratch_alone():
    X, y = digits(4, 4)
    recipe = quick(compare={"classifier": "squeezenet1_1"})
    assert tiny(BASELINE, updates=1, recipe=recipe).fit(X, y).predict_proba(X).shape == (8, 2)
    with pytest.raises(ValueError, match="has the discriminator's weights"):
        tiny(recipe=recipe).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({"arm": "scratch/longer"}, [0, 0, 1, 1], "'arm' parameter of GANClassifier"),
        ({}, [0, 0, 0, 0], "one class"),
        ({"budget": "soon", "steps": None}, [0, 0, 1, 1], "expected a duration"),
    ],
)
def test_bad_input_is_one_value_error(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        tiny(**parameters).fit(np.zeros((4, 64)), y)


def test_images_of_another_shape_are_refused():
    fitted = tiny(BASELINE, updates=1).fit(np.random.default_rng(0).random((6, 6, 10)), [0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"fitted on \(6, 10, 1\)"):
        fitted.predict(np.zeros((2, 10, 6)))
    assert fitted.layout_.fits((60,)) and fitted.layout_.fits((6, 10)) and fitted.layout_.fits((6, 10, 1))


def test_a_flat_layout_knows_where_its_channels_stand():
    layout = arrays.find_layout(np.zeros((2, 768), np.uint8), (768,), (16, 16, 3))
    assert layout.fits((16, 16, 3)) and layout.fits((768,)) and not layout.fits((3, 16, 16))
