"""Copies are found however they were shifted, mirrored or brightened; images that merely resemble one another are not."""

import io

import numpy as np
import pytest
from PIL import Image

from ganaug.synthesis.memorization import (
    KNOWN_COPY,
    NUM_OTHERS,
    copy_limits,
    data_copying,
    find_nearest,
    prepare_real,
)

SIZE = 32


def pictures(count, seed=0, channels=3, size=SIZE):
    """Smooth random pictures (count, channels, size, size), all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size // 8, size // 8, channels)).astype(np.uint8)
    tiles = [Image.fromarray(each.squeeze()).resize((size, size), Image.Resampling.BICUBIC) for each in coarse]
    return np.stack([np.asarray(tile).reshape(size, size, channels).transpose(2, 0, 1) for tile in tiles])


def shifted(images, down, right):
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    size = images.shape[-1]
    return padded[:, :, 2 - down : 2 - down + size, 2 - right : 2 - right + size]


def as_jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=80)
    return np.asarray(Image.open(buffer)).transpose(2, 0, 1)


CHANGES = {
    "none": lambda images: images,
    "shift": lambda images: shifted(images, 2, -1),
    "darker": lambda images: (images * 0.95).astype(np.uint8),
    "brighter": lambda images: np.clip(images.astype(int) + 12, 0, 255).astype(np.uint8),
    "jpeg": lambda images: np.stack([as_jpeg(image) for image in images]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_nearest_to_its_original_and_far_nearer_than_to_others(change):
    real = pictures(30)
    found = find_nearest(CHANGES[change](real[5:15]), prepare_real(real, "none"))
    assert found.row.tolist() == list(range(5, 15))
    assert (found.relative < 0.3).all() and (found.distance < 0.3).all()


@pytest.mark.parametrize(
    ("mirror", "allowed"),
    [("none", ["plain"]), ("horizontal", ["plain", "mirrored"]), ("vertical", ["plain", "flipped"]), ("both", None)],
)
def test_reflections_count_only_where_they_are_allowed(mirror, allowed):
    real = pictures(30)
    few = real[:6]
    queries = {"plain": few, "mirrored": few[..., ::-1], "flipped": few[..., ::-1, :], "turned": few[..., ::-1, ::-1]}
    for name, images in queries.items():
        found = find_nearest(images.copy(), prepare_real(real, mirror))
        assert (found.distance < 1e-3).all() if allowed is None or name in allowed else (found.relative > 0.5).all()


def test_distances_against_a_computation_by_hand():
    real, query = pictures(12, channels=1), pictures(1, seed=9, channels=1)

    def seen(image, down, right):
        window = image[0, 2 + down : 30 + down, 2 + right : 30 + right] / 127.5 - 1
        small = window.reshape(14, 2, 14, 2).mean(axis=(1, 3)).ravel()
        return (small - small.mean()) / small.std() / 14

    every = [
        min(
            np.linalg.norm(seen(query[0], down, right) - seen(other, 0, 0))
            for down in range(-2, 3)
            for right in range(-2, 3)
        )
        for other in real
    ]
    found = find_nearest(query, prepare_real(real, "none"))
    order = np.argsort(every)
    assert found.row[0] == order[0]
    assert found.distance[0] == pytest.approx(every[order[0]], abs=1e-3)
    assert found.relative[0] == pytest.approx(
        every[order[0]] / np.mean([every[i] for i in order[1 : NUM_OTHERS + 1]]), abs=1e-3
    )


def test_an_image_among_the_real_ones_does_not_count_as_its_own_neighbour():
    real = pictures(8)
    found = find_nearest(real, prepare_real(real, "none"), own=np.arange(8))
    assert (found.row != np.arange(8)).all() and (found.relative > 0.5).all()
    alone = find_nearest(real[:1], prepare_real(real[:1], "none"), own=np.arange(1))
    assert alone.relative[0] == 1.0


def test_flat_images_are_no_copies_of_one_another():
    flat = np.full((3, 1, SIZE, SIZE), 128, np.uint8) + np.random.default_rng(0).integers(
        0, 2, (3, 1, SIZE, SIZE)
    ).astype(np.uint8)
    found = find_nearest(flat, prepare_real(pictures(20, channels=1), "none"))
    assert (found.relative > 0.5).all()


@pytest.mark.parametrize("size", [16, 64, 128])
def test_other_sizes(size):
    real = pictures(12, size=size)
    found = find_nearest(shifted(real[:4], 1, 1), prepare_real(real, "none"))
    assert found.row.tolist() == [0, 1, 2, 3] and (found.relative < 0.3).all()


def test_limits_are_deviations_below_the_median_of_each_class():
    rng = np.random.default_rng(0)
    logs = np.concatenate([rng.normal(-0.2, 0.1, 4000), rng.normal(-0.5, 0.1, 4000)])
    labels = np.repeat([0, 1], 4000)
    limits = copy_limits(np.exp(logs), labels, 3, deviations=3)
    assert limits[:2] == pytest.approx(np.exp([-0.5, -0.8]), rel=0.02)
    assert limits[2] == pytest.approx(np.exp(np.median(logs) - 0.3), rel=0.02)  # nothing is known of it


def test_a_small_class_leans_on_the_others_and_known_copies_tell_nothing():
    rng = np.random.default_rng(0)
    usual = np.exp(rng.normal(-0.2, 0.1, 500))
    few = np.array([0.3, 0.3])
    limits = copy_limits(np.concatenate([usual, few]), np.repeat([0, 1], [500, 2]), 2, 3)
    assert 0.85 * limits[0] < limits[1] < limits[0]
    with_copies = np.concatenate([usual, np.full(200, 0.01)])
    assert copy_limits(with_copies, np.zeros(700, int), 1, 3) == pytest.approx(limits[0], rel=0.02)
    assert copy_limits(np.zeros(0), np.zeros(0, int), 2, 3).tolist() == [KNOWN_COPY] * 2


def test_data_copying_is_the_z_score_of_the_mann_whitney_statistic():
    rng = np.random.default_rng(1)
    generated, real = rng.uniform(0, 1, 40), rng.uniform(0, 1, 30)
    farther = sum(float(g > r) for g in generated for r in real)
    expected = (farther - 600) / np.sqrt(40 * 30 * 71 / 12)
    assert data_copying(generated, real) == pytest.approx(expected)
    assert data_copying(generated * 0.3, real) < -3 < data_copying(generated, real) < 3
    assert data_copying(generated + 1, real) > 3
    assert np.isnan(data_copying(generated, real[:0]))
