"""Rows of X as images of the networks, and back."""

import numpy as np
import pytest
from quick import quick

from ganaug import GanaugError
from ganaug.integrations.arrays import as_guest, find_layout, flatten, from_pixels, settle_recipe, to_pixels

HEIGHT, WIDTH = 12, 20


def smooth(*shape, low=0.0, high=1.0):
    """Images (N, H, W, C) without detail that resizing would lose."""
    n, height, width, channels = shape
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[:, None]
    part = np.random.default_rng(0).random((n, 1, 1, channels))
    return low + (high - low) * (part * down + (1 - part) * right)


def there_and_back(X, size, image_shape=None):
    rows, row_shape = flatten(X)
    layout = find_layout(rows, row_shape, image_shape)
    pixels = to_pixels(rows, layout, size)
    assert pixels.shape == (len(X), layout.shape[2], size, size)
    assert pixels.dtype == np.uint8
    back = from_pixels(pixels, layout, rows.shape[1], rows.dtype)
    assert back.dtype == X.dtype
    return pixels, back.reshape(X.shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_networks_size_survive_exactly(channels):
    X = np.random.default_rng(0).integers(0, 256, (5, 16, 16, channels), np.uint8)
    pixels, back = there_and_back(X, 16)
    assert np.array_equal(pixels, X.transpose(0, 3, 1, 2))
    assert np.array_equal(back, X)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint8, 0, 255), (np.float32, 0, 1), (np.float64, -1, 1), (np.float64, 0, 16), (np.int64, 0, 4095)],
)
def test_oblong_images_of_any_type_come_back(dtype, low, high):
    X = smooth(6, HEIGHT, WIDTH, 3, low=low, high=high).astype(dtype)
    pixels, back = there_and_back(X, 32)
    assert pixels.min() < 20
    assert pixels.max() > 235
    assert np.abs(back.astype(float) - X).max() < 0.02 * (high - low)


def test_channels_may_come_first():
    X = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8)
    pixels, back = there_and_back(X, 16)
    assert np.array_equal(pixels, X)
    assert np.array_equal(back, X)
    flat_pixels, _ = there_and_back(X.reshape(5, -1), 16, image_shape=(3, 16, 16))
    assert np.array_equal(flat_pixels, X)


def test_three_rows_of_three_columns_are_not_taken_for_channels_that_come_first():
    layout = find_layout(np.zeros((2, 3 * 7 * 3)), (3, 7, 3), None)
    assert layout.shape == (3, 7, 3)
    assert not layout.channels_first


def test_flat_rows_are_squares_that_are_filled_up():
    X = np.arange(30, dtype=np.float64).reshape(3, 10)
    rows, row_shape = flatten(X)
    layout = find_layout(rows, row_shape, None)
    assert layout.shape == (4, 4, 1)
    assert (to_pixels(rows, layout, 16)[:, 0, -1, -1] == 0).all()
    assert np.abs(there_and_back(X, 16)[1] - X).max() < 3


def test_values_beyond_those_of_the_training_are_clamped():
    rows = np.linspace(-1, 2, 2 * 256).reshape(2, 256)
    layout = find_layout(rows, (256,), None)
    assert set(to_pixels(10 * rows, layout, 16)[[0, 1], 0, [0, 15], [0, 15]]) == {0, 255}


def test_an_image_of_one_value_is_black():
    rows = np.full((2, 256), 7.0)
    assert not to_pixels(rows, find_layout(rows, (256,), None), 16).any()


@pytest.mark.parametrize(
    ("row_shape", "image_shape", "message"),
    [
        ((3072,), None, "image_shape=(32, 32, 3)"),
        ((64,), (8, 9), "72 values"),
        ((8, 9), (9, 8), "rows of shape (8, 9)"),
        ((8, 8, 4), None, "1 or 3 channels"),
        ((2, 8, 8), None, "1 or 3 channels"),
        ((4, 4, 4, 3), None, "1 or 3 channels"),
        ((64,), (64,), "1 or 3 channels"),
    ],
)
def test_what_is_no_image_is_refused(row_shape, image_shape, message):
    rows = np.zeros((2, np.prod(row_shape)))
    with pytest.raises(ValueError) as refused:
        find_layout(rows, row_shape, image_shape)
    assert message in str(refused.value)
    assert isinstance(refused.value, GanaugError)


@pytest.mark.parametrize(
    ("recipe", "budget", "message"),
    [
        ({"fit": {"stps": 3}}, None, "did you mean fit.steps?"),
        ({"data": {"limit_per_class": 3}}, None, "data.limit_per_class speaks of files"),
        ({"fit": {"cluster": "tcp://127.0.0.1:1"}}, None, "fit.cluster needs a folder that its workers see"),
        ({}, "soon", "expected a duration"),
    ],
)
def test_wrong_settings_are_value_errors(recipe, budget, message):
    with pytest.raises(ValueError, match=message):
        settle_recipe(recipe, None, budget, 0)


def test_parameters_win_over_the_recipe():
    recipe = quick(fit={"steps": 7, "seed": 3})
    assert settle_recipe(recipe, None, None, 5).fit.steps == 7
    assert settle_recipe(recipe, 9, "1m", 5).fit.steps == 9
    by_budget = settle_recipe(recipe, None, "1m", 5).fit
    assert (by_budget.steps, by_budget.budget, by_budget.seed) == (None, 60.0, 5)


def test_given_steps_leave_nothing_to_measure():
    settled = settle_recipe({"fit": {"steps": 7}}, None, None, 0).fit
    assert isinstance(settled.threads, int)
    assert isinstance(settled.width, int)


def test_only_errors_of_ganaug_are_turned():
    with pytest.raises(KeyError), as_guest():
        raise KeyError("a bug")
