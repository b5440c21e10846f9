"""Measures of synthetic images against explicit loops, other libraries and made cases."""

import numpy as np
import prdc
import pytest
from scipy.spatial.distance import pdist

from ganaug.measures import coverage, density, diversity, high_frequency_power, kid, nearest_distances, precision


def draw_features(seed, n=12, num_features=5, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, num_features)) + shift).astype(np.float32)


def draw_images(seed, n=4, channels=1, side=16):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side)).astype(np.uint8)


def draw_centred(seed, n=4):
    """Random squares on an even grey border of four pixels, which a shift of two pixels leaves in the image."""
    images = np.full((n, 1, 16, 16), 90, np.uint8)
    images[:, :, 4:12, 4:12] = draw_images(seed, n, side=8)
    return images


def kernel(x, y):
    return (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def test_kid_is_the_unbiased_squared_mmd():
    first, second = draw_features(0, n=6), draw_features(1, n=4, shift=0.5)
    n, m = len(first), len(second)
    within_first = sum(kernel(first[i], first[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_second = sum(kernel(second[i], second[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    apart = sum(kernel(x, y) for x in first for y in second) / (n * m)
    assert kid(first, second) == pytest.approx(within_first + within_second - 2 * apart, rel=1e-4)


def test_kid_is_0_on_average_for_one_distribution_and_grows_with_the_distance():
    alike = [kid(draw_features(seed), draw_features(seed + 100)) for seed in range(60)]
    assert min(alike) < 0 < max(alike)  # unbiased: on both sides of 0
    assert abs(np.mean(alike)) < 4 * np.std(alike) / len(alike) ** 0.5
    apart = [kid(draw_features(0), draw_features(1, shift=shift)) for shift in (0.5, 1, 2)]
    assert max(alike) < apart[1] and apart == sorted(apart)


def test_coverage_by_hand():
    """Real images at 0, 1 and 3: the nearest neighbours are 1, 1 and 2 away, the second nearest 3, 2 and 3."""
    real = np.array([[0.0], [1.0], [3.0]], np.float32)
    assert coverage(real, np.array([[-0.9]], np.float32), neighbours=1) == pytest.approx(1 / 3)
    assert coverage(real, np.array([[2.5]], np.float32), neighbours=1) == pytest.approx(1 / 3)
    assert coverage(real, np.array([[2.5]], np.float32), neighbours=2) == 1
    assert coverage(real, np.array([[2.5]], np.float32)) == 1  # no more neighbours than there are
    assert coverage(real, np.array([[9.0]], np.float32), neighbours=1) == 0
    assert coverage(real, np.array([[0.5], [2.5]], np.float32), neighbours=1) == 1


def test_coverage_of_a_subset_keeps_the_radii_of_all():
    real = np.array([[0.0], [10.0], [11.0]], np.float32)
    synthetic = np.array([[4.0], [10.5]], np.float32)
    assert coverage(real, synthetic, neighbours=1, subset=1) == 1  # 4 < 10, the distance to an image out of the subset
    assert coverage(real, synthetic[1:], neighbours=1, subset=1) == 0
    assert coverage(real, synthetic[1:], neighbours=1) == pytest.approx(2 / 3)


def test_precision_recall_and_density_against_prdc():
    rng = np.random.default_rng(4)
    real, synthetic = rng.normal(size=(60, 5)), rng.normal(0.4, 0.7, size=(45, 5))
    expected = prdc.compute_prdc(real, synthetic, nearest_k=5)
    assert precision(real, synthetic) == pytest.approx(expected["precision"])
    assert precision(synthetic, real) == pytest.approx(expected["recall"]) != expected["precision"]
    assert density(real, synthetic) == pytest.approx(expected["density"])


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_coverage_against_prdc(neighbours):
    real, synthetic = draw_features(0, n=40), draw_features(1, n=25, shift=0.7)
    expected = prdc.compute_prdc(real, synthetic, nearest_k=neighbours)["coverage"]
    assert 0.1 < expected < 0.9
    assert coverage(real, synthetic, neighbours) == pytest.approx(expected)


def test_diversity_is_the_mean_distance_of_pairs():
    features = draw_features(0)
    assert diversity(features) == pytest.approx(pdist(features).mean(), rel=1e-5)
    assert diversity(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)) == pytest.approx(5)
    assert diversity(np.repeat(features[:1], 3, axis=0)) == pytest.approx(0, abs=1e-3)
    assert diversity(features[:1]) == 0


def test_all_power_of_a_checkerboard_is_high():
    """+-1 in turn has all its power at the Nyquist frequency, which the window spreads to its neighbours at most; frequencies
    6, 7 and 8 of 16 are high, +- alike: 5 of 16 along an axis. The power of all frequencies is 256 times that of the pixels.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 17) / 17)
    whole = 256 * (window**2).sum() ** 2 / (16 * 16 - 11 * 11)
    checkers = (255 * (np.indices((16, 16)).sum(axis=0) % 2)).astype(np.uint8)[None, None]
    assert high_frequency_power(checkers) == pytest.approx(whole, rel=1e-3)
    stripes = (255 * (np.arange(16) % 2)).astype(np.uint8)[None, None, None].repeat(16, axis=2)
    assert high_frequency_power(stripes) == pytest.approx(whole, rel=1e-3)  # one axis is enough
    both = np.concatenate([checkers, np.full_like(checkers, 40)])
    assert high_frequency_power(both) == pytest.approx(whole / 2, rel=1e-3)


def test_smooth_images_have_little_high_frequency_power():
    noise = draw_images(0, n=20)
    waves = 127.5 + 127 * np.sin(2 * np.pi * np.arange(16) / 16)[None, None, None].repeat(16, axis=2)
    assert high_frequency_power(waves.astype(np.uint8)) < 1e-3 * high_frequency_power(noise)
    blurred = sum(np.roll(noise.astype(float), shift, axis=(2, 3)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))) / 4
    assert high_frequency_power(blurred.astype(np.uint8)) < 0.2 * high_frequency_power(noise)
    ramp = np.linspace(0, 255, 16)[None, None, None].repeat(16, axis=2).astype(np.uint8)
    assert high_frequency_power(ramp) < 1e-3 * high_frequency_power(noise)  # though its two ends meet in the transform


@pytest.mark.parametrize("change", [lambda x: x, lambda x: np.roll(x, (2, -1), axis=(2, 3)), lambda x: x[..., ::-1]])
def test_copies_shifted_copies_and_mirrored_copies_are_found(change):
    images = draw_centred(0)
    found = nearest_distances(np.ascontiguousarray(change(images)), images[[2, 0, 3, 1]])
    np.testing.assert_allclose(found, 0, atol=1e-3)
    assert found.shape == (4,)


def test_what_is_no_copy_is_not_found():
    images = draw_centred(0)
    unrelated = nearest_distances(draw_centred(1), images)
    upside_down = nearest_distances(np.ascontiguousarray(images[:, :, ::-1]), images)
    shifted_too_far = nearest_distances(np.roll(images, 3, axis=3), images)
    mirrored = nearest_distances(np.ascontiguousarray(images[..., ::-1]), images, mirror=False)
    still = nearest_distances(np.roll(images, 1, axis=3), images, max_shift=0)
    for found in (unrelated, upside_down, shifted_too_far, mirrored, still):
        assert found.min() > 0.1


def test_the_distance_is_a_root_mean_square_of_the_range_minus_1_to_1():
    black, white = np.zeros((1, 3, 16, 16), np.uint8), np.full((2, 3, 16, 16), 255, np.uint8)
    assert nearest_distances(black, white) == pytest.approx(2)
    images, others = draw_images(0, n=5), draw_images(1, n=3)
    difference = (images[:, None].astype(float) - others[None]) / 127.5
    expected = np.sqrt((difference**2).mean(axis=(2, 3, 4))).min(axis=1)
    np.testing.assert_allclose(nearest_distances(images, others, mirror=False, max_shift=0), expected, rtol=1e-4)


def test_a_copy_among_many_images_is_found():
    """From 25 images on torch computes distances from dot products, which loses some digits."""
    images = draw_images(0, n=60, channels=3)
    found = nearest_distances(images[:40], np.concatenate([images[:30], draw_images(1, n=10, channels=3)]))
    assert found[:30].max() < 0.01 and found[30:].min() > 0.5


def test_a_copy_cut_at_the_border_is_near():
    """A shift brings pixels from beyond the border, which are those of the border again."""
    ramp = np.linspace(0, 255, 16)[None, None, None].repeat(16, axis=2).astype(np.uint8)
    cut = np.concatenate([ramp[..., 2:], ramp[..., -1:], ramp[..., -1:]], axis=3)
    assert float(nearest_distances(cut, ramp)[0]) == pytest.approx(0, abs=1e-3)
    assert float(nearest_distances(cut, ramp, max_shift=0)[0]) > 0.1


def test_without_others_an_image_is_no_neighbour_of_its_own():
    images = draw_centred(0, n=5)
    images[3] = np.roll(images[1], 1, axis=2)  # a shifted copy
    found = nearest_distances(images)
    assert found[[1, 3]].max() < 1e-3 and found[[0, 2, 4]].min() > 0.1
    expected = [nearest_distances(images[i : i + 1], np.delete(images, i, axis=0))[0] for i in range(5)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert nearest_distances(images[:1])[0] == np.inf
