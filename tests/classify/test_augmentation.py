"""The augmentations: what they may change, and what their random streams depend on."""

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from ganaug.classify.augmentation import (
    AUGMENTATIONS,
    MOVED,
    NUM_CUTS,
    NUM_MOVES,
    NUM_TONES,
    SHEAR,
    SHIFT,
    TONE,
    TONED,
    TURN,
    ZOOM,
    cutmix,
    move,
    tone,
)
from ganaug.warp import affine_maps, resample


def on_arrays(name):
    """The augmentation, of uint8 arrays, and with values of 0 to 255."""

    def build(mirror, strength, seed):
        augment = AUGMENTATIONS[name](mirror, strength, seed)
        return lambda images: (augment(torch.from_numpy(images)).numpy() + 1) * 127.5

    return build


classical, trivial = on_arrays("classical"), on_arrays("trivial")
BUILDERS = pytest.mark.parametrize("build", [classical, trivial], ids=["classical", "trivial"])
MIRRORS = pytest.mark.parametrize(
    ("mirror", "horizontal", "vertical"),
    [("none", False, False), ("horizontal", True, False), ("vertical", False, True), ("both", True, True)],
)


def random_images(n=6, channels=1, side=16):
    return np.random.default_rng(0).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


@pytest.fixture
def without_operations(monkeypatch):
    """Of TrivialAugment, what comes before it: reflections and shifts."""
    monkeypatch.setattr(v2, "TrivialAugmentWide", lambda: lambda image: image)


@BUILDERS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 16, 33])
def test_shape_and_type(build, channels, side):
    images = random_images(20, channels, side)
    before = images.copy()
    out = build("both", 1.0, 0)(images)
    assert out.shape == images.shape and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 255
    assert side < 3 or np.abs(out - images).max() > 1
    np.testing.assert_array_equal(images, before)  # not in place


@BUILDERS
def test_a_color_image_of_grays_stays_gray(build):
    gray = np.repeat(random_images(60), 3, axis=1)
    out = build("both", 1.0, 1)(gray)
    assert np.abs(out - out[:, :1]).max() <= 1


def test_channels_stay_in_order():
    levels = np.tile(np.array([20, 120, 220], np.uint8)[None, :, None, None], (8, 1, 16, 16))
    means = classical("both", 1.0, 1)(levels).mean(axis=(2, 3))
    assert (np.diff(means, axis=1) > 20).all()


@BUILDERS
def test_the_seed_decides_all_and_calls_go_on(build):
    images = random_images(12)
    first, same, other = (build("both", 1.0, seed) for seed in (3, 3, 4))
    once = first(images)
    np.testing.assert_array_equal(same(images), once)
    assert not np.array_equal(other(images), once)
    twice = first(images)
    assert not np.array_equal(twice, once)  # a later batch is changed in another way
    np.testing.assert_array_equal(same(images), twice)


@BUILDERS
def test_batches_draw_from_one_stream(build):
    images = random_images(12)
    whole = build("horizontal", 1.0, 5)(images)
    augment = build("horizontal", 1.0, 5)
    parts = np.concatenate([augment(images[:2]), augment(images[2:3]), augment(images[3:])])
    np.testing.assert_array_equal(parts, whole)


@BUILDERS
def test_no_global_random_stream_is_read_or_moved(build):
    images = random_images(12)
    expected = build("both", 1.0, 7)(images)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    np.testing.assert_array_equal(build("both", 1.0, 7)(images), expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@BUILDERS
@MIRRORS
def test_only_the_permitted_reflections(build, mirror, horizontal, vertical, without_operations):
    """Small turns and shifts keep a bright quarter in its corner; a reflection does not."""
    image = np.zeros((1, 1, 32, 32), np.uint8)
    image[:, :, :16, :16] = 255
    out = build(mirror, 1.0, 0)(np.repeat(image, 60, axis=0))
    quarters = out.reshape(60, 2, 16, 2, 16).mean(axis=(2, 4))
    corners = {divmod(int(quarter.argmax()), 2) for quarter in quarters}
    assert corners == {(int(v), int(h)) for v in {False, vertical} for h in {False, horizontal}}


@BUILDERS
def test_without_strength_reflections_are_left(build, without_operations):
    images = random_images(40)
    np.testing.assert_allclose(build("none", 0.0, 0)(images), images, atol=1e-2)
    out = build("horizontal", 0.0, 0)(images).round()
    turned = [np.array_equal(after, before[..., ::-1]) for after, before in zip(out, images, strict=True)]
    kept = [np.array_equal(after, before) for after, before in zip(out, images, strict=True)]
    assert all(np.logical_xor(turned, kept)) and 8 < sum(turned) < 32


def displacements(augment, n=300, side=64):
    """(n,) how far the middle of a spot is moved, in shares of the side."""
    rows, columns = np.mgrid[:side, :side] - side / 2 + 0.5
    spot = np.exp(-(rows**2 + columns**2) / 18) * 200
    out = augment(np.repeat(spot.astype(np.uint8)[None, None], n, axis=0)).astype(float)[:, 0]
    bright = out - out.min(axis=(1, 2), keepdims=True)  # whatever brightness has been added
    middles = [(bright * axis).sum(axis=(1, 2)) / bright.sum(axis=(1, 2)) for axis in (rows, columns)]
    return np.hypot(*middles) / side


@BUILDERS
def test_the_strength_scales_the_shifts(build, without_operations):
    half, usual, double = (displacements(build("none", strength, 0)) for strength in (0.5, 1.0, 2.0))
    moved = usual > 0.02  # an image in ten is not moved
    assert usual.max() < 0.1 * 2**0.5 + 0.03 and moved.mean() > 0.75
    assert np.median(half[moved] / usual[moved]) == pytest.approx(0.5, abs=0.08)
    assert np.median(double[moved] / usual[moved]) == pytest.approx(2.0, abs=0.3)


def test_the_strength_scales_turns_and_tones():
    """Turns by how far a bar's ends go apart; tones by the brightness of a plain image."""
    bar = np.zeros((300, 1, 64, 64), np.uint8)
    bar[:, :, :, 30:34] = 200
    plain = np.full((300, 1, 16, 16), 120, np.uint8)

    def turn(strength):
        out = classical("none", strength, 0)(bar).astype(float)[:, 0]
        middles = (out * np.arange(64)).sum(axis=2) / np.maximum(out.sum(axis=2), 1)
        return (middles[:, 44] - middles[:, 20]).std()

    def tone(strength):
        return classical("none", strength, 0)(plain).astype(float).mean(axis=(1, 2, 3)).std()

    assert 1.4 * turn(0.5) < turn(1.0) < turn(2.0) / 1.4
    assert 1.4 * tone(0.5) < tone(1.0) < tone(2.0) / 1.4


def draws_of(count, **numbers):
    """Numbers that change nothing, but for those given by their place."""
    draws = torch.full((1, count), 0.5)
    for place, value in numbers.items():
        draws[0, int(place[1:])] = value
    return draws


@pytest.mark.parametrize(
    ("place", "angle", "shear", "zoom", "shift"),
    [
        (3, TURN, (0, 0), (1, 1), (0, 0)),
        (4, 0, (SHEAR, 0), (1, 1), (0, 0)),
        (5, 0, (0, SHEAR), (1, 1), (0, 0)),
        (6, 0, (0, 0), (1 + ZOOM, 1), (0, 0)),
        (7, 0, (0, 0), (1, 1 + ZOOM), (0, 0)),
        (8, 0, (0, 0), (1, 1), (2 * SHIFT, 0)),
        (9, 0, (0, 0), (1, 1), (0, 2 * SHIFT)),
    ],
)
def test_each_number_moves_in_its_own_way(place, angle, shear, zoom, shift):
    images = torch.from_numpy(random_images(1, 3)).float() / 127.5 - 1
    for sign, drawn in ((1.0, 1.0), (-1.0, 0.0)):
        zooms = torch.tensor([zoom]) if sign > 0 else 2 - torch.tensor([zoom])
        maps = affine_maps(
            sign * torch.tensor([float(angle)]), sign * torch.tensor([shear]), zooms, sign * torch.tensor([shift])
        )
        moved = move(images, draws_of(NUM_MOVES, **{f"n{place}": drawn}), "none", shift=1.0, others=1.0)
        assert torch.allclose(moved, resample(images, maps.float()), atol=1e-5)
        assert not torch.allclose(moved, images, atol=1e-2)
        still = move(images, draws_of(NUM_MOVES, **{f"n{place}": drawn, "n2": MOVED}), "none", shift=1.0, others=1.0)
        assert torch.allclose(still, images, atol=1e-5)


def test_each_number_changes_the_tone_in_its_own_way():
    images = torch.linspace(-0.5, 0.5, 64).reshape(1, 1, 8, 8)
    brighter = tone(images, draws_of(NUM_TONES, n0=0.0, n1=1.0), 1.0)
    assert torch.allclose(brighter, images + 2 * TONE, atol=1e-5)
    flatter = tone(images + 0.2, draws_of(NUM_TONES, n0=0.0, n2=0.0), 1.0)
    assert torch.allclose(flatter, images * (1 - TONE) + 0.2, atol=1e-5)
    assert torch.equal(tone(images, draws_of(NUM_TONES, n0=TONED, n1=1.0, n2=1.0), 1.0), images)
    assert tone(images + 0.5, draws_of(NUM_TONES, n0=0.0, n1=1.0), 1.0).max() == 1.0


def test_one_image_in_ten_stays_in_its_place_and_one_in_two_keeps_its_tone():
    ramp = torch.linspace(-0.5, 0.5, 64).reshape(1, 1, 8, 8).expand(2000, 1, 8, 8)
    draws = torch.rand(2000, NUM_MOVES + NUM_TONES, generator=torch.Generator().manual_seed(0))
    moved = (move(ramp, draws[:, :NUM_MOVES], "none", 1.0, 1.0) - ramp).abs().amax((1, 2, 3)) > 1e-4
    toned = (tone(ramp, draws[:, NUM_MOVES:], 1.0) - ramp).abs().amax((1, 2, 3)) > 1e-4
    assert moved.float().mean().item() == pytest.approx(0.9, abs=0.02)
    assert toned.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_parts_are_drawn_independently():
    """Shift and brightness must not follow one stream of numbers twice."""
    image = np.full((1, 1, 32, 32), 128, np.uint8)
    image[:, :, :, 12:20] = 160
    out = classical("none", 1.0, 0)(np.repeat(image, 300, axis=0)).astype(float)[:, 0]
    brightness = out[:, 16, :2].mean(axis=1)
    profile = out.mean(axis=1) - out.mean(axis=1).min(axis=1, keepdims=True)
    position = (profile * np.arange(32)).sum(axis=1) / profile.sum(axis=1)
    assert brightness.std() > 2 and position.std() > 0.5
    assert abs(np.corrcoef(brightness, position)[0, 1]) < 0.3


@pytest.mark.parametrize("channels", [1, 3])
def test_trivial_is_torchvisions_own(channels):
    images = random_images(80, channels, 32)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        transform = v2.TrivialAugmentWide()
        expected = np.stack([transform(torch.from_numpy(image)).numpy() for image in images])
    out = trivial("none", 0.0, 6)(images)
    np.testing.assert_allclose(out, expected, atol=1e-2)
    assert 0.5 < np.mean(np.abs(out - images).max(axis=(1, 2, 3)) > 0.5) < 1


@pytest.mark.parametrize("num_images", [2, 3, 7])
def test_cutmix_pastes_the_same_patch_from_as_many_rows_further_on(num_images):
    rng = np.random.default_rng(0)
    images = torch.rand(num_images, 2, 8, 12)
    untouched, steps, sizes = images.clone(), set(), []
    for _ in range(300):
        mixed, step, pasted = cutmix(images, rng.random(NUM_CUTS).tolist())
        from_other = (mixed != images)[:, 0]
        rows, columns = from_other[0].any(dim=1).nonzero(), from_other[0].any(dim=0).nonzero()
        assert torch.equal(from_other, from_other[:1].expand_as(from_other))
        assert torch.equal(torch.where(from_other[:, None], images.roll(-step, 0), images), mixed)
        assert pasted == pytest.approx(float(from_other[0].float().mean()))
        assert int(from_other[0].sum()) == len(rows) * len(columns)  # a whole rectangle
        steps.add(step)
        sizes.append(pasted)
    assert torch.equal(images, untouched) and steps == set(range(1, num_images))
    assert 0.25 < np.mean(sizes) < 0.45 and max(sizes) > 0.8  # uniform shares, cut at the borders
