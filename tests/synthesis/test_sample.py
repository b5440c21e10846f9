"""Seeds become noise, and noise images."""

import numpy as np
import pytest
import torch

from ganaug.gan.networks import Discriminator, Generator
from ganaug.synthesis.sample import CHUNK, image_seed, noise_of, sample

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return Generator(3, 16, 1, 4, 4).eval(), Discriminator(3, 16, 1, 4).eval()


def test_every_image_has_a_seed_of_its_own():
    seeds = {image_seed(s, k, number) for s in range(3) for k in range(4) for number in range(200)}
    assert len(seeds) == 3 * 4 * 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(5, 1, 7) == image_seed(5, 1, 7)


def test_noise_is_standard_normal_of_the_seed_alone_and_scaled_by_truncation():
    seeds = [image_seed(0, 0, number) for number in range(2000)]
    noise = noise_of(seeds, 6, 1.0)
    assert noise.shape == (2000, 6)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05) and float(noise.std()) == pytest.approx(1, abs=0.05)
    assert torch.equal(noise_of([seeds[7]], 6, 1.0)[0], noise[7])
    torch.testing.assert_close(noise_of(seeds, 6, 0.4), 0.4 * noise)


def test_an_image_does_not_depend_on_how_many_are_asked_for(networks):
    seeds = [image_seed(0, 1, number) for number in range(CHUNK + 6)]
    many = sample(*networks, seeds, 1, 1.0, CPU)
    assert many.images.shape == (CHUNK + 6, 1, 16, 16) and many.images.dtype == np.uint8
    for count in (1, 5, CHUNK, CHUNK + 1):
        few = sample(*networks, seeds[:count], 1, 1.0, CPU)
        np.testing.assert_array_equal(few.images, many.images[:count])
        np.testing.assert_array_equal(few.realism, many.realism[:count])


def test_samples_against_the_networks(networks):
    generator, discriminator = networks
    seeds = [image_seed(0, 2, number) for number in range(5)]
    samples = sample(generator, discriminator, seeds, 2, 0.7, CPU)
    labels = torch.full((5,), 2)
    with torch.no_grad():
        images = generator(noise_of(seeds, 4, 0.7), labels)
        np.testing.assert_allclose(samples.images, ((images + 1) * 127.5).numpy(), atol=0.51)
        verdicts = discriminator(torch.from_numpy(samples.images) / 127.5 - 1, labels, grouped=False)
    realism = (verdicts.unconditional + verdicts.conditional).numpy()
    np.testing.assert_allclose(samples.realism, realism, rtol=1e-3, atol=1e-4)


def test_an_image_does_not_depend_on_its_neighbours(networks):
    seeds = [image_seed(0, 1, number) for number in range(CHUNK)]
    order = np.random.default_rng(0).permutation(CHUNK)
    whole = sample(*networks, seeds, 1, 1.0, CPU)
    mixed = sample(*networks, [seeds[i] for i in order], 1, 1.0, CPU)
    np.testing.assert_array_equal(mixed.images, whole.images[order])
