"""Contracts of the networks at every size, with tiny widths."""

import doctest

import numpy as np
import pytest
import torch

import ganaug.gan.networks
from ganaug.gan.networks import SPREAD_GROUP, Backbone, Discriminator, Generator, local_means
from ganaug.settings import IMAGE_SIZES

NUM_CLASSES, LATENT, WIDTH = 3, 4, 4
SHAPES = [(size, channels) for size in IMAGE_SIZES for channels in (1, 3)]


def noise_and_labels(n=4):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, LATENT, generator=rng), torch.arange(n) % NUM_CLASSES


def random_images(n, channels, size):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_doctests():
    assert doctest.testmod(ganaug.gan.networks).failed == 0
    assert doctest.testmod(ganaug.gan.networks).attempted > 0


@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_generator(size, channels):
    torch.manual_seed(0)
    generator = Generator(NUM_CLASSES, size, channels, LATENT, WIDTH)
    noise, labels = noise_and_labels()
    images = generator(noise, labels)
    assert images.shape == (4, channels, size, size) and images.dtype == torch.float32
    assert images.abs().max() <= 1
    images.square().sum().backward()
    idle = [name for name, weight in generator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_discriminator(size, channels):
    torch.manual_seed(0)
    discriminator = Discriminator(NUM_CLASSES, size, channels, WIDTH)
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2])
    verdicts = discriminator(random_images(8, channels, size), labels)
    assert verdicts.unconditional.shape == verdicts.conditional.shape == (8,)
    assert verdicts.classes.shape == (8, NUM_CLASSES) and verdicts.spread.shape == (8, 1)
    assert all(torch.isfinite(part).all() for part in verdicts)
    sum(part.square().sum() for part in verdicts).backward()
    idle = [name for name, weight in discriminator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize(("size", "channels"), SHAPES)
def test_features_of_an_image_do_not_depend_on_its_batch(size, channels):
    torch.manual_seed(0)
    backbone = Backbone(size, channels, WIDTH).train()
    images = random_images(4, channels, size)
    together = backbone(images)
    assert together.shape == (4, backbone.num_features)
    alone = torch.cat([backbone(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    others = images.clone()
    others[1:] = -others[1:]
    torch.testing.assert_close(backbone(others)[0], together[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_local_means_are_those_of_average_pooling(channels):
    images = torch.rand(3, channels, 7, 9).to(memory_format=torch.channels_last).requires_grad_(True)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    expected = torch.nn.functional.avg_pool2d(padded, 3, stride=1)
    torch.testing.assert_close(local_means(images), expected)
    weights = torch.rand_like(expected)
    ours, theirs = (
        torch.autograd.grad((means * weights).sum(), images)[0] for means in (local_means(images), expected)
    )
    torch.testing.assert_close(ours, theirs)


def test_backbone_initialize_depends_on_the_seed_alone():
    torch.manual_seed(0)
    first, second = Backbone(16, 1, WIDTH), Backbone(16, 1, WIDTH)
    assert not torch.equal(first.project.weight, second.project.weight)
    for backbone in (first, second):
        torch.manual_seed(5)
        backbone.initialize()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize(("size", "refined"), [(16, []), (32, []), (64, ["8", "16"]), (128, ["8", "16", "32"])])
def test_a_refinement_of_large_images_is_a_shortcut_and_something_more(size, refined):
    torch.manual_seed(0)
    generator = Generator(2, size, 1, 8, 4).eval()
    assert list(generator.refinements) == refined
    noise, labels = torch.randn(3, 8), torch.tensor([0, 1, 1])
    with torch.no_grad():
        images = generator(noise, labels)
        for refinement in generator.refinements.values():
            refinement.convolution.weight.zero_()
            refinement.norm.bias.weight.zero_()
        without = generator(noise, labels)
        generator.refinements.clear()
        torch.testing.assert_close(generator(noise, labels), without)
    assert torch.equal(images, without) == (not refined)


def test_conditioning_scales_the_class_from_none_to_full():
    torch.manual_seed(0)
    generator = Generator(NUM_CLASSES, 16, 1, LATENT, WIDTH).eval()
    noise, _ = noise_and_labels()
    zeros, twos = torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    assert torch.equal(generator(noise, zeros, 0.0), generator(noise, twos, 0.0))
    assert not torch.allclose(generator(noise, zeros, 1.0), generator(noise, twos, 1.0))
    torch.testing.assert_close(generator(noise, zeros), generator(noise, zeros, 1.0))


def test_an_image_of_the_trained_generator_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    generator = Generator(NUM_CLASSES, 16, 1, LATENT, WIDTH).eval()
    noise, labels = noise_and_labels(6)
    torch.testing.assert_close(generator(noise, labels)[:2], generator(noise[:2], labels[:2]))


def test_group_spread_against_numpy():
    features = np.random.default_rng(0).normal(size=(2 * SPREAD_GROUP, 5))
    expected = [np.full(SPREAD_GROUP, group.std(axis=0).mean()) for group in np.split(features, 2)]
    found = Discriminator.group_spread(torch.from_numpy(features))
    np.testing.assert_allclose(found.numpy()[:, 0], np.concatenate(expected), rtol=1e-6)
    assert float(Discriminator.group_spread(torch.ones(SPREAD_GROUP, 5)).max()) < 1e-3  # one picture, no spread


def test_ungrouped_verdicts_assume_the_spread_of_real_images_and_ignore_the_batch():
    torch.manual_seed(0)
    discriminator = Discriminator(NUM_CLASSES, 16, 1, WIDTH).eval()
    images, labels = random_images(5, 1, 16), torch.tensor([0, 1, 2, 0, 1])
    before = discriminator(images, labels, grouped=False)
    torch.testing.assert_close(
        discriminator(images[2:3], labels[2:3], grouped=False).conditional, before.conditional[2:3]
    )
    discriminator.spread.fill_(2.0)
    after = discriminator(images, labels, grouped=False)
    assert torch.equal(after.spread, torch.full((5, 1), 2.0))
    moved = 2 * discriminator.unconditional.weight[0, -1]
    torch.testing.assert_close(after.unconditional - before.unconditional, moved.expand(5), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after.classes, before.classes)  # the classifier sees the image alone


def test_the_label_moves_the_conditional_logit_alone_by_its_projection():
    torch.manual_seed(0)
    discriminator = Discriminator(NUM_CLASSES, 16, 1, WIDTH)
    images = random_images(4, 1, 16)
    zeros, ones = discriminator(images, torch.zeros(4).long()), discriminator(images, torch.ones(4).long())
    features = discriminator.backbone(images)
    projection = discriminator.projection.weight
    torch.testing.assert_close(
        ones.conditional - zeros.conditional, features @ (projection[1] - projection[0]), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(ones.unconditional, zeros.unconditional) and torch.equal(ones.classes, zeros.classes)
