"""Generators that mix two real images of a class: parents, masks, reconstruction, storage."""

import numpy as np
import pytest
import torch

from ganaug.data.images import to_float
from ganaug.gan import mixing
from ganaug.gan.mixing import CHOICE, MASK, SHARPNESS, WARP, MixingGenerator, draw_mask, reconstruction, warp
from ganaug.runs import load_weights, save_weights

COUNTS, STYLE = (3, 1, 5), 4
WARPS = ("rotation", "scale", "translation")
LATENT = CHOICE + MASK + 2 * WARP + STYLE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_generator(counts=COUNTS, side=16, channels=1, seed=0, mirror="none", operations=WARPS):
    """A generator of untrained weights, in evaluation mode, that keeps random images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = MixingGenerator(counts, side, channels, STYLE, 4, mirror, operations)
    images = torch.randint(256, (sum(counts), channels, side, side), generator=seeded(9), dtype=torch.uint8)
    generator.keep(images)
    return generator.eval().requires_grad_(False)


def draw_noise(n, seed=0):
    return torch.randn(n, LATENT, generator=seeded(seed))


def still(noise):
    """The same noise without warps."""
    noise[:, CHOICE + MASK : CHOICE + MASK + 2 * WARP] = 0
    return noise


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (16, 3), (32, 4)])
def test_images_have_their_shape_and_range(side, channels):
    images = make_generator(side=side, channels=channels)(draw_noise(6), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert images.shape == (6, channels, side, side)
    assert images.abs().max() <= 1 and images.std() > 0


def test_parents_are_of_the_class_and_differ_where_it_has_two():
    generator = make_generator()
    labels = torch.tensor([0, 1, 2]).repeat_interleave(400)
    first, second = generator.parents(draw_noise(1200)[:, :CHOICE], labels)
    class_of = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    assert torch.equal(class_of[first], labels) and torch.equal(class_of[second], labels)
    assert (first != second)[labels != 1].all()
    assert (first == second)[labels == 1].all()


def test_all_pairs_of_parents_come_alike():
    generator = make_generator()
    first, second = generator.parents(draw_noise(6000)[:, :CHOICE], torch.zeros(6000, dtype=torch.long))
    counts = torch.bincount(3 * first + second, minlength=9).view(3, 3)
    assert not counts.diagonal().any()
    assert (counts[~torch.eye(3, dtype=torch.bool)] - 1000).abs().max() < 150  # five standard deviations


def test_extreme_noise_still_names_parents_of_the_class():
    extremes = torch.tensor([-50.0, 50.0])
    first, second = make_generator().parents(torch.cartesian_prod(extremes, extremes), torch.full((4,), 2))
    assert first.tolist() == [4, 4, 8, 8]
    assert second.tolist() == [5, 8, 4, 7]


def test_a_class_of_one_image_gives_that_images_reconstruction():
    """Where its noise does not warp it."""
    generator, noise, labels = make_generator(), still(draw_noise(5)), torch.ones(5, dtype=torch.long)
    image = to_float(generator.images[3:4]).expand(5, -1, -1, -1)
    expected = generator.reconstruct(image, noise, labels)
    torch.testing.assert_close(generator(noise, labels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_extreme_mask_gives_a_parents_reconstruction(monkeypatch, value):
    generator, noise, labels = make_generator(), still(draw_noise(6)), torch.tensor([0, 0, 0, 2, 2, 2])
    monkeypatch.setattr(mixing, "draw_mask", lambda noise, side: torch.full((len(noise), 1, side, side), value))
    parent = generator.parents(noise[:, :CHOICE], labels)[0 if value else 1]
    expected = generator.reconstruct(to_float(generator.images[parent]), noise, labels)
    torch.testing.assert_close(generator(noise, labels), expected, atol=1e-4, rtol=1e-4)


def test_a_mask_takes_half_of_each_parent():
    masks = draw_mask(draw_noise(500)[:, CHOICE : CHOICE + MASK], side=4)
    assert masks.shape == (500, 1, 4, 4) and masks.min() >= 0 and masks.max() <= 1
    assert float(masks.mean()) == pytest.approx(0.5, abs=0.01)
    assert (masks.mean(dim=(1, 2, 3)) - 0.5).abs().max() < 0.2  # each of them, not only on average
    assert masks.var(dim=(1, 2, 3)).min() > 0.02  # no even blend


def test_the_mask_is_the_smooth_picture_of_its_cells():
    cells = draw_noise(3)[:, CHOICE : CHOICE + MASK]
    torch.testing.assert_close(
        draw_mask(cells, 4), torch.sigmoid(SHARPNESS * (cells - cells.mean(1, keepdim=True))).view(-1, 1, 4, 4)
    )
    torch.testing.assert_close(draw_mask(cells + 7, 8), draw_mask(cells, 8))
    torch.testing.assert_close(draw_mask(-cells, 8), 1 - draw_mask(cells, 8))  # the parents exchanged


def test_the_same_noise_gives_the_same_image_in_any_batch():
    generator, noise, labels = make_generator(), draw_noise(6), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = generator(noise, labels)
    assert torch.equal(generator(noise, labels), whole)
    torch.testing.assert_close(torch.cat([generator(noise[i : i + 1], labels[i : i + 1]) for i in range(6)]), whole)
    assert not torch.allclose(generator(draw_noise(6, seed=1), labels)[0], whole[0])


def test_every_part_of_the_noise_matters():
    generator, noise = make_generator(counts=(5, 5)), draw_noise(8)
    labels = torch.zeros(8, dtype=torch.long)
    whole = generator(noise, labels)
    for part in (0, 1, CHOICE, CHOICE + MASK, CHOICE + MASK + WARP, -1):
        other = noise.clone()
        other[:, part] = -other[:, part]
        assert (generator(other, labels) != whole).flatten(1).any(dim=1).any()


def test_a_warp_of_nothing_changes_nothing_and_a_reflection_is_exact():
    images = torch.rand(4, 1, 16, 16, generator=seeded())
    noise = torch.zeros(4, WARP)
    torch.testing.assert_close(warp(images, noise, torch.tensor([True, True])), images, atol=1e-5, rtol=1e-5)
    noise[1, 4] = noise[2, 5] = noise[3, 4] = noise[3, 5] = -1
    allowed = {"none": (False, False), "horizontal": (True, False), "both": (True, True)}
    for mirror, flags in allowed.items():
        assert make_generator(mirror=mirror).mirrored.tolist() == list(flags)
        axes = [(), (3,) * flags[0], (2,) * flags[1], (3,) * flags[0] + (2,) * flags[1]]
        expected = torch.stack([image[None].flip(flipped)[0] for image, flipped in zip(images, axes, strict=True)])
        torch.testing.assert_close(warp(images, noise, torch.tensor(flags)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("operation", "numbers"), [("rotation", [0]), ("scale", [1]), ("translation", [2, 3])])
def test_parents_are_warped_by_what_is_allowed_alone(operation, numbers):
    labels, noise, warps = torch.tensor([0, 2]).repeat(4), draw_noise(8), slice(CHOICE + MASK, CHOICE + MASK + 2 * WARP)
    others = noise.clone()
    others[:, [CHOICE + MASK + offset + number for offset in (0, WARP) for number in numbers]] = 0
    rest = make_generator(operations=[name for name in WARPS if name != operation])
    assert torch.equal(rest(noise, labels), rest(others, labels))
    assert not torch.allclose(make_generator()(noise, labels), make_generator()(others, labels))
    still_noise = noise.clone()
    still_noise[:, warps] = 0
    assert torch.equal(make_generator(operations=())(noise, labels), make_generator()(still_noise, labels))


def test_a_warp_is_cut_at_two_standard_deviations():
    images = torch.rand(1, 1, 16, 16, generator=seeded())
    far, limit = torch.full((1, WARP), 9.0), torch.full((1, WARP), 2.0)
    assert torch.equal(warp(images, far, torch.tensor([True, True])), warp(images, limit, torch.tensor([True, True])))


def test_training_reaches_every_weight():
    generator = make_generator().train().requires_grad_(True)
    (
        generator(draw_noise(8), torch.tensor([0, 2]).repeat(4)) * torch.randn(8, 1, 16, 16, generator=seeded())
    ).sum().backward()
    for name, weight in generator.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def pyramid(image, levels=3):
    """Laplacian pyramid of a (C, S, S) array with 2 x 2 means, without its last mean image."""
    bands = []
    while len(bands) < levels and image.shape[-1] >= 2:
        half = image.shape[-1] // 2
        coarse = image.reshape(len(image), half, 2, half, 2).mean(axis=(2, 4))
        bands.append(image - coarse.repeat(2, axis=1).repeat(2, axis=2))
        image = coarse
    return bands


@pytest.mark.parametrize(("side", "levels"), [(16, 3), (64, 3)])
def test_reconstruction_against_numpy(side, levels):
    rng = np.random.default_rng(0)
    images, target = rng.uniform(-1, 1, (2, 3, 3, side, side))
    expected = ((images - target) ** 2).mean()
    pyramids = [[pyramid(image) for image in part] for part in (images, target)]
    assert len(pyramids[0][0]) == levels
    for level in range(levels):
        difference = [one[level] - other[level] for one, other in zip(*pyramids, strict=True)]
        expected += np.abs(difference).mean()
    assert float(reconstruction(torch.from_numpy(images), torch.from_numpy(target))) == pytest.approx(expected)


def test_reconstruction_is_0_for_equal_images_alone():
    images = torch.rand(2, 1, 16, 16, generator=seeded()) * 2 - 1
    assert float(reconstruction(images, images)) == 0
    assert float(reconstruction(images, images + 0.5)) == pytest.approx(0.25, rel=1e-4)  # no band sees brightness


def test_weights_and_images_survive_their_file(tmp_path):
    generator, other = make_generator(channels=3), MixingGenerator(COUNTS, 16, 3, STYLE, 4, "none", WARPS).eval()
    save_weights(tmp_path / "generator.safetensors", generator)
    load_weights(tmp_path / "generator.safetensors", other)
    assert torch.equal(other.images, generator.images) and other.images.dtype == torch.uint8
    noise, labels = draw_noise(6), torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(other(noise, labels), generator(noise, labels))
