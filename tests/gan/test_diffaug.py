"""One contract for every differentiable augmentation, and what each may and may not change."""

import numpy as np
import pytest
import torch

from ganaug.gan.diffaug import augment, deform, reflect
from ganaug.settings import FitSettings

OPERATIONS = FitSettings().augment  # all of them
ALL = [(name,) for name in OPERATIONS] + [OPERATIONS]
SPATIAL = ("translation", "scale", "rotation")  # those that move pixels


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(n=8, channels=3, side=16):
    return torch.rand(n, channels, side, side, generator=seeded(9)) * 2 - 1


def ramp(n=16, side=32, axis=3):
    """Images whose brightness grows along one axis alone."""
    values = torch.linspace(-1, 1, side)
    row = values.view(1, 1, 1, side) if axis == 3 else values.view(1, 1, side, 1)
    return row.expand(n, 1, side, side).clone()


def test_every_operation_of_the_settings_is_known():
    assert set(SPATIAL) < set(OPERATIONS)
    images = random_images()
    for name in OPERATIONS:
        assert not torch.equal(augment(images, (name,), 1.0, seeded()), images)


@pytest.mark.parametrize("operations", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_finite_values(operations, channels):
    images = random_images(channels=channels)
    out = augment(images, operations, 1.0, seeded())
    assert out.shape == images.shape and out.dtype == images.dtype
    assert torch.isfinite(out).all() and out.abs().max() < 6
    assert not torch.equal(out, images)
    if "color" not in operations:  # a resampling or a grey square makes no new extremes
        assert images.min() <= out.min() and out.max() <= images.max()


@pytest.mark.parametrize("operations", ALL)
def test_strength_0_and_no_operations_change_nothing(operations):
    images = random_images()
    assert torch.equal(augment(images, operations, 0.0, seeded()), images)
    assert torch.equal(augment(images, (), 1.0, seeded()), images)


@pytest.mark.parametrize("operations", ALL)
def test_the_same_random_numbers_give_the_same_result(operations):
    images = random_images()
    first = augment(images, operations, 0.5, seeded(3))
    assert torch.equal(augment(images, operations, 0.5, seeded(3)), first)
    assert not torch.equal(augment(images, operations, 0.5, seeded(4)), first)


@pytest.mark.parametrize("operations", ALL)
def test_gradients_reach_every_image(operations):
    images = random_images().requires_grad_(True)
    augment(images, operations, 1.0, seeded()).square().sum().backward()
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_strength_is_the_share_of_changed_images(operation):
    images = random_images(n=600, channels=1, side=16)
    out = augment(images, (operation,), 0.25, seeded())
    changed = float(((out - images).abs().amax(dim=(1, 2, 3)) > 1e-4).float().mean())
    # color has two independent parts in a grey image: 1 - .75^2; one translation in 25 is by no pixel
    assert changed == pytest.approx(0.4375 if operation == "color" else 0.25, abs=0.07)


def test_scale_and_rotation_choose_the_same_images_and_leave_the_others_sharp():
    images = random_images(n=400)
    out = augment(images, ("scale", "rotation"), 0.3, seeded())
    same = (out == images).flatten(1).all(dim=1)  # to the last bit: not resampled
    assert float(same.float().mean()) == pytest.approx(0.7, abs=0.07)  # and not .7^2
    assert float((out - images)[~same].abs().flatten(1).mean(dim=1).min()) > 0.01


def test_deformations_change_their_share_of_images_a_little_and_the_others_not_at_all():
    images = random_images(n=400, channels=1, side=16)
    probability = torch.tensor([0.0, 0.25, 1.0, 0.25]).repeat(100)
    out = deform(images, ("rotation", "scale"), probability, seeded())
    changed = (out != images).flatten(1).any(dim=1).view(100, 4).float().mean(dim=0)
    assert changed[0] == 0 and changed[2] == 1
    assert float(changed[[1, 3]].mean()) == pytest.approx(0.25, abs=0.08)
    assert out.abs().max() <= 1
    ramp = torch.linspace(-0.8, 0.8, 16).view(1, 1, 1, 16).expand(64, 1, 16, 16)
    bent = deform(ramp, ("rotation", "scale"), torch.ones(64), seeded())
    assert 0.01 < float((bent - ramp).abs().mean()) < 0.2


@pytest.mark.parametrize(("operations", "angle", "stretch"), [(("rotation",), 20, 1.16), (("scale",), 0, 2**0.4)])
def test_deformations_stay_within_their_limits(operations, angle, stretch):
    """What becomes of a gentle ramp: a turn or a shear tilts its gradient, a zoom changes how steep it is."""
    side = 32
    ramp = torch.linspace(-0.2, 0.2, side).view(1, 1, 1, side).expand(500, 1, side, side)
    middle = slice(side // 2 - 3, side // 2 + 3)
    bent = deform(ramp, operations, torch.ones(500), seeded())[:, 0, middle, middle]
    along, across = bent.diff(dim=2).mean(dim=(1, 2)), bent.diff(dim=1).mean(dim=(1, 2))
    tilt = torch.rad2deg(torch.atan2(across, along)).abs()
    steepness = torch.hypot(along, across) / (0.4 / (side - 1))
    limit = angle + 19 if angle else 0  # a turn and a shear may add up
    assert float(tilt.max()) <= limit + 0.5 and (float(tilt.max()) > angle or not angle)
    assert 1 / stretch - 0.02 <= float(steepness.min()) and float(steepness.max()) <= stretch + 0.02
    assert "scale" not in operations or float(steepness.max()) > 1.2


def test_deformations_are_as_exact_under_autocast():
    images = random_images(n=8)
    expected = deform(images, ("rotation", "scale"), torch.ones(8), seeded())
    with torch.autocast("cpu", torch.bfloat16):
        found = deform(images, ("rotation", "scale"), torch.ones(8), seeded())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("operations", [(), ("color", "translation", "cutout")])
def test_forbidden_deformations_leave_real_images_as_they_are(operations):
    images = random_images()
    assert torch.equal(deform(images, operations, torch.ones(len(images)), seeded()), images)


def test_a_deformation_without_rotation_keeps_rows_straight():
    stripes = (torch.arange(16) // 4 % 2 * 2.0 - 1).view(1, 1, 16, 1).expand(8, 1, 16, 16)
    out = deform(stripes, ("scale",), torch.ones(8), seeded())
    torch.testing.assert_close(out, out[..., :1].expand_as(out))
    assert not torch.equal(out, stripes)


def test_color_is_one_affine_map_of_a_grey_image():
    images = random_images(channels=1)
    out = augment(images, ("color",), 1.0, seeded())
    for before, after in zip(images.flatten(1).numpy(), out.flatten(1).numpy(), strict=True):
        slope, shift = np.polyfit(before, after, 1)
        np.testing.assert_allclose(slope * before + shift, after, atol=1e-5)
        assert 0.8 <= slope <= 1.2
        assert abs(after.mean() - before.mean()) <= 0.2 + 1e-5


def test_color_changes_saturation_by_half_at_most():
    images = random_images(channels=3)
    out = augment(images, ("color",), 1.0, seeded())
    before, after = (x - x.mean(dim=1, keepdim=True) for x in (images, out))
    factor = (before * after).flatten(1).sum(dim=1) / before.square().flatten(1).sum(dim=1)  # contrast times saturation
    assert 0.8 * 0.5 <= float(factor.min()) < 0.9 and 1.1 < float(factor.max()) <= 1.2 * 1.5


def test_color_keeps_grey_pixels_grey():
    grey = random_images(channels=1).expand(-1, 3, -1, -1)
    out = augment(grey, ("color",), 1.0, seeded())
    torch.testing.assert_close(out, out.mean(dim=1, keepdim=True).expand_as(out), atol=1e-5, rtol=0)


@pytest.mark.parametrize("operation", SPATIAL)
def test_spatial_operations_leave_flat_images_alone(operation):
    flat = torch.full((8, 3, 16, 16), 0.4)
    torch.testing.assert_close(augment(flat, (operation,), 1.0, seeded()), flat)


@pytest.mark.parametrize("operation", ["translation", "scale"])
def test_only_rotation_turns(operation):
    out = augment(ramp(), (operation,), 1.0, seeded())
    torch.testing.assert_close(out, out[:, :, :1].expand_as(out), atol=1e-5, rtol=0)  # columns stay even
    turned = augment(ramp(), ("rotation",), 1.0, seeded())
    assert float((turned - turned[:, :, :1]).abs().max()) > 0.1


def test_translation_shifts_by_up_to_an_eighth_and_keeps_the_slope():
    side = 32
    images = ramp(n=200, side=side)
    step = 2 / (side - 1)
    middle = slice(side // 2 - 4, side // 2 + 4)
    out = augment(images, ("translation",), 1.0, seeded())
    slopes = out[:, 0, 0, middle].diff(dim=1)
    torch.testing.assert_close(slopes, torch.full_like(slopes, step), atol=1e-4, rtol=0)
    shifts = (out - images)[:, 0, 0, side // 2] / step  # pixels
    torch.testing.assert_close(shifts, shifts.round(), atol=1e-3, rtol=0)
    numbers, counts = shifts.round().unique(return_counts=True)
    assert numbers.tolist() == list(range(-side // 8, side // 8 + 1))
    assert counts.min() > 200 / 9 / 3  # all shifts come about alike


@pytest.mark.parametrize("side", [8, 16])
def test_translation_moves_pixels_along_both_axes_and_mirrors_the_borders(side):
    images, limit = random_images(n=40, side=side), side // 8
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (limit, limit), (limit, limit)), mode="symmetric")
    found = set()
    for i, image in enumerate(augment(images, ("translation",), 1.0, seeded()).numpy()):
        for y in range(2 * limit + 1):
            for x in range(2 * limit + 1):
                if np.array_equal(image, padded[i, :, y : y + side, x : x + side]):
                    found.add((i, y - limit, x - limit))
    assert len(found) == 40  # each is one shift of its image, to the last bit
    assert len({(y, x) for _, y, x in found}) > (2 * limit + 1) ** 2 / 2


def test_scale_keeps_the_centre_and_changes_the_slope():
    side = 32
    out = augment(ramp(n=200, side=side), ("scale",), 1.0, seeded())
    slopes = out[:, 0, 0, side // 2] - out[:, 0, 0, side // 2 - 1]
    ratios = slopes / (2 / (side - 1))
    assert ratios.min() >= 2**-0.25 - 1e-3 and ratios.max() <= 2**0.25 + 1e-3
    assert ratios.min() < 0.9 and ratios.max() > 1.1
    centre = out[:, 0, 0, side // 2 - 1 : side // 2 + 1].mean(dim=1)
    torch.testing.assert_close(centre, torch.zeros(200), atol=1e-5, rtol=0)


def test_rotation_turns_by_up_to_12_degrees_about_the_centre():
    side = 32
    out = augment(ramp(n=200, side=side), ("rotation",), 1.0, seeded())[:, 0]
    mid = slice(side // 2 - 4, side // 2 + 4)
    across = out[:, mid, side // 2 + 3].mean(1) - out[:, mid, side // 2 - 3].mean(1)
    down = out[:, side // 2 + 3, mid].mean(1) - out[:, side // 2 - 3, mid].mean(1)
    degrees = torch.rad2deg(torch.atan2(down, across))
    assert degrees.abs().max() <= 12.1 and degrees.min() < -9 and degrees.max() > 9


def test_cutout_greys_a_part_of_at_most_a_quarter_and_touches_nothing_else():
    images = random_images(n=100) + 3  # no pixel is grey
    out = augment(images, ("cutout",), 1.0, seeded())
    cut = out == 0
    assert torch.equal(out[~cut], images[~cut])
    assert torch.equal(cut.all(dim=1), cut.any(dim=1))  # all channels alike
    shares = cut[:, 0].float().mean(dim=(1, 2))
    assert shares.min() > 0 and shares.max() <= 0.25 + 1e-6


@pytest.mark.parametrize(("mirror", "axes"), [("none", []), ("horizontal", [3]), ("vertical", [2]), ("both", [2, 3])])
def test_reflections_are_along_the_harmless_axes_alone_and_alike_often(mirror, axes):
    images = random_images(n=400)
    out = reflect(images, mirror, seeded())
    assert torch.equal(reflect(images, mirror, seeded()), out)
    flips = [[]] + [[axis] for axis in axes] + ([axes] if len(axes) == 2 else [])
    shares = [float((images.flip(flip) == out).flatten(1).all(dim=1).float().mean()) for flip in flips]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([1 / len(flips)] * len(flips), abs=0.08)
