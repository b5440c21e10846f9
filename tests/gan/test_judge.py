"""The judge of checkpoints: learns the classes, repeats with its seed, sees images one by one."""

import numpy as np
import pytest
import torch

from ganaug.gan import judge as judging
from ganaug.gan.judge import examine, shrink, train_judge


def draw_images(n, seed):
    """Half of them class 0, bright on the left, and half class 1, bright on the right, all with noise: (n, 1, 16, 16) uint8."""
    labels = torch.arange(n) % 2
    noise = torch.randint(-60, 60, (n, 1, 16, 16), generator=torch.Generator().manual_seed(seed))
    bright = torch.stack([torch.arange(16) < 8, torch.arange(16) >= 8])[labels].view(n, 1, 1, 16)
    return (80 + 100 * bright + noise).clamp(0, 255).to(torch.uint8), labels


def train(num_updates, seed=0, num_classes=2, n=16):
    images, labels = draw_images(n, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "NUM_UPDATES", num_updates)
        patch.setattr(judging, "BATCH_SIZE", 16)
        return train_judge(images, labels, num_classes, "vertical", seed, torch.float32)


def test_it_learns_from_what_is_allowed_alone(monkeypatch):
    images, labels = draw_images(16, seed=0)
    asked = []
    monkeypatch.setattr(judging, "NUM_UPDATES", 1)
    monkeypatch.setattr(judging, "augment", lambda batch, operations, *_: asked.append(list(operations)) or batch)
    train_judge(images, labels, 2, "none", 0, torch.float32, ("cutout", "scale", "color"))
    train_judge(images, labels, 2, "none", 0, torch.float32)
    assert asked == [["color", "scale"], list(judging.AUGMENT)]


@pytest.fixture(scope="module")
def judge():
    return train(num_updates=40)


def test_it_learns_what_is_easy(judge):
    images, labels = draw_images(20, seed=1)
    features, chances = examine(judge, images)
    assert features.shape == (20, 2 * judging.NUM_FEATURES) and chances.shape == (20, 2)
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(20))
    assert torch.equal(chances.argmax(dim=1), labels)
    assert not judge.training and not any(weight.requires_grad for weight in judge.parameters())


def test_features_do_not_depend_on_the_batch(judge):
    images, _ = draw_images(10, seed=1)
    parts = torch.cat([examine(judge, images[i : i + 3])[0] for i in range(0, 10, 3)])
    torch.testing.assert_close(parts, examine(judge, images)[0], atol=1e-4, rtol=1e-4)


def test_half_of_the_features_are_those_of_an_untrained_network(judge):
    images, _ = draw_images(10, seed=1)
    early, late = (examine(each, images)[0] for each in (train(num_updates=1), judge))
    trained, random = slice(judging.NUM_FEATURES), slice(judging.NUM_FEATURES, None)
    assert torch.equal(early[:, random], late[:, random])
    assert not torch.allclose(early[:, trained], late[:, trained], atol=0.1)


def test_equal_seeds_train_equal_judges():
    before = torch.random.get_rng_state()

    def weights_of(seed):
        judge = train(num_updates=2, seed=seed, num_classes=3)  # one class has no image
        return torch.cat([value.flatten() for value in judge.state_dict().values()])

    assert torch.equal(weights_of(0), weights_of(0))
    assert not torch.equal(weights_of(0), weights_of(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_shrinking_averages_and_never_enlarges():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = images.numpy().reshape(2, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(shrink(images, 32).numpy(), expected, rtol=1e-5)
    assert torch.equal(shrink(images, 64), images) and torch.equal(shrink(images, 128), images)
