"""The classical augmentation: what it may change, and what its random stream depends on."""

import numpy as np
import pytest

from ganaug.classify.augmentation import augment_batch, classical_augmentation


def random_images(n=6, channels=1, side=16):
    return np.random.default_rng(0).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type(channels):
    images = random_images(channels=channels)
    before = images.copy()
    out = augment_batch(classical_augmentation("none", 0), images)
    assert out.shape == images.shape and out.dtype == np.uint8
    assert not np.array_equal(out, images)
    np.testing.assert_array_equal(images, before)  # not in place


def test_channels_stay_together_and_in_order():
    grey = np.repeat(random_images(), 3, axis=1)
    out = augment_batch(classical_augmentation("both", 1), grey)
    np.testing.assert_allclose(out[:, 0].astype(int), out[:, 1].astype(int), atol=1)
    levels = np.tile(np.array([20, 120, 220], np.uint8)[None, :, None, None], (8, 1, 16, 16))
    means = augment_batch(classical_augmentation("both", 1), levels).mean(axis=(2, 3))
    assert (np.diff(means, axis=1) > 20).all()


def test_the_seed_decides_all_and_calls_go_on():
    images = random_images()
    first, same, other = (classical_augmentation("both", seed) for seed in (3, 3, 4))
    once = augment_batch(first, images)
    np.testing.assert_array_equal(augment_batch(same, images), once)
    assert not np.array_equal(augment_batch(other, images), once)
    assert not np.array_equal(augment_batch(first, images), once)  # a later batch is changed in another way
    np.testing.assert_array_equal(augment_batch(same, images), augment_batch(classical_replay(3, images), images))


def classical_replay(seed, images):
    transform = classical_augmentation("both", seed)
    augment_batch(transform, images)
    return transform


def test_batches_draw_from_one_stream():
    images = random_images()
    whole = augment_batch(classical_augmentation("none", 5), images)
    transform = classical_augmentation("none", 5)
    halves = np.concatenate([augment_batch(transform, images[:2]), augment_batch(transform, images[2:])])
    np.testing.assert_array_equal(halves, whole)


@pytest.mark.parametrize(
    ("mirror", "horizontal", "vertical"),
    [("none", False, False), ("horizontal", True, False), ("vertical", False, True), ("both", True, True)],
)
def test_only_the_permitted_reflections(mirror, horizontal, vertical):
    """Small turns and shifts keep a bright quarter in its corner; a reflection does not."""
    image = np.zeros((1, 1, 32, 32), np.uint8)
    image[:, :, :16, :16] = 255
    out = augment_batch(classical_augmentation(mirror, 0), np.repeat(image, 60, axis=0))
    quarters = out.reshape(60, 2, 16, 2, 16).mean(axis=(2, 4))
    corners = {divmod(int(quarter.argmax()), 2) for quarter in quarters}
    assert corners == {(int(v), int(h)) for v in {False, vertical} for h in {False, horizontal}}


def test_the_parts_are_drawn_independently():
    """Shift and brightness must not follow one stream of numbers twice."""
    image = np.full((1, 1, 32, 32), 128, np.uint8)
    image[:, :, :, 12:20] = 160
    out = augment_batch(classical_augmentation("none", 0), np.repeat(image, 300, axis=0)).astype(float)[:, 0]
    brightness = out[:, 16, :2].mean(axis=1)
    profile = out.mean(axis=1) - out.mean(axis=1).min(axis=1, keepdims=True)
    position = (profile * np.arange(32)).sum(axis=1) / profile.sum(axis=1)
    assert brightness.std() > 2 and position.std() > 0.5
    assert abs(np.corrcoef(brightness, position)[0, 1]) < 0.3
