"""Affine maps: what each number does to a picture."""

from math import pi

import pytest
import torch

from ganaug.warp import affine_maps, resample


def seen(angle=0.0, shear=(0.0, 0.0), zoom=(1.0, 1.0), shift=(0.0, 0.0), images=None):
    if images is None:
        images = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = affine_maps(torch.tensor([angle]), torch.tensor([shear]), torch.tensor([zoom]), torch.tensor([shift]))
    return images, resample(images, maps)


def test_nothing_changes_nothing():
    images, out = seen()
    assert torch.allclose(out, images, atol=1e-6)


@pytest.mark.parametrize(("zoom", "axis"), [((-1.0, 1.0), 3), ((1.0, -1.0), 2)])
def test_a_negative_zoom_reflects(zoom, axis):
    images, out = seen(zoom=zoom)
    assert torch.allclose(out, images.flip(axis), atol=1e-6)


def test_a_quarter_turn_is_a_quarter_turn_also_of_a_reflected_picture():
    images, out = seen(angle=pi / 2)
    assert torch.allclose(out, torch.rot90(images, 1, (2, 3)), atol=1e-5)
    images, out = seen(angle=pi / 2, zoom=(-1.0, 1.0))
    assert torch.allclose(out, torch.rot90(images, 1, (2, 3)).flip(3), atol=1e-5)


def test_shifts_along_both_axes_and_borders_that_mirror():
    images, out = seen(shift=(0.25, 0.0))  # an eighth of the side: a pixel
    assert torch.allclose(out[..., :-1], images[..., 1:], atol=1e-5)
    assert torch.allclose(out[..., -1], images[..., -1], atol=1e-5)
    images, out = seen(shift=(0.0, 0.25))
    assert torch.allclose(out[..., :-1, :], images[..., 1:, :], atol=1e-5)


@pytest.mark.parametrize(("shear", "axis"), [((0.5, 0.0), 2), ((0.0, 0.5), 3)])
def test_a_shear_moves_along_one_axis_with_the_other(shear, axis):
    """A picture of what lies at which place along the sheared axis; each line of the other is moved by half its distance."""
    along = torch.linspace(-0.875, 0.875, 8)
    picture = along.expand(8, 8) if axis == 2 else along[:, None].expand(8, 8)
    _, out = seen(shear=shear, images=picture[None, None].contiguous())
    middle = out[0, 0].select(1 if axis == 2 else 0, 4)  # along the axis that shears
    expected = 0.125 + 0.5 * along
    assert torch.allclose(middle, expected, atol=1e-5)


def test_every_image_has_its_own_map():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    zoom = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    out = resample(images, affine_maps(torch.zeros(2), torch.zeros(2, 2), zoom, torch.zeros(2, 2)))
    assert torch.allclose(out[0], images[0], atol=1e-6) and torch.allclose(out[1], images[1].flip(2), atol=1e-6)
