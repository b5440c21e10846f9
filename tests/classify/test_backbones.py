"""Classifiers on the discriminator's backbone."""

import pytest
import torch

from ganaug.classify.backbones import build_classifier
from ganaug.gan.networks import Backbone
from ganaug.settings import IMAGE_SIZES


@pytest.fixture
def trained():
    torch.manual_seed(7)
    backbone = Backbone(16, 1, 4)
    backbone.convolutions[:-1].requires_grad_(False)  # as a specialised member leaves it
    return backbone


def differing(first, second):
    other = second.state_dict()
    return {name for name, value in first.state_dict().items() if not torch.equal(value, other[name])}


def test_the_two_initialisations_differ_in_the_backbone_alone(trained):
    scratch = build_classifier(trained, 3, "scratch", 5)
    started = build_classifier(trained, 3, "discriminator", 5)
    assert set(scratch.state_dict()) == set(started.state_dict())
    names = differing(scratch, started)
    assert names == {name for name in names if name.startswith("backbone.")}
    assert {name for name in scratch.state_dict() if name.endswith("weight")} - {"head.weight"} == names
    assert not scratch.head.weight.any() and not started.head.weight.any()  # a head that knows nothing yet
    for name, value in trained.state_dict().items():
        assert torch.equal(started.state_dict()[f"backbone.{name}"], value)


def test_scratch_depends_on_the_seed_alone(trained):
    first = build_classifier(trained, 3, "scratch", 5)
    torch.manual_seed(99)
    assert differing(build_classifier(Backbone(16, 1, 4), 3, "scratch", 5), first) == set()
    assert differing(build_classifier(trained, 3, "scratch", 6), first)
    assert (
        differing(build_classifier(trained, 3, "discriminator", 6), build_classifier(trained, 3, "discriminator", 5))
        == set()
    )


def test_the_backbone_is_copied_and_all_of_it_is_trained(trained):
    for init in ("scratch", "discriminator"):
        model = build_classifier(trained, 3, init, 0)
        assert all(weight.requires_grad for weight in model.parameters())
        before = trained.project.weight.clone()
        with torch.no_grad():
            model.backbone.project.weight.zero_()
        assert torch.equal(trained.project.weight, before)
    assert not trained.convolutions[0].weight.requires_grad


@pytest.mark.parametrize("size", IMAGE_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_of_every_size(size, channels):
    torch.manual_seed(0)
    model = build_classifier(Backbone(size, channels, 4), 5, "scratch", 0)
    torch.nn.init.normal_(model.head.weight)
    images = torch.rand(3, channels, size, size) * 2 - 1
    logits = model(images)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(model(images[1:2]), logits[1:2], rtol=1e-4, atol=1e-4)


def test_logits_do_not_depend_on_the_scale_of_the_features(trained):
    """A discriminator's features have whatever scale they need; the head must start alike."""
    model = build_classifier(trained, 3, "discriminator", 0)
    torch.nn.init.normal_(model.head.weight)
    images = torch.rand(2, 1, 16, 16)
    before = model(images)
    with torch.no_grad():
        for value in (model.backbone.project.weight, model.backbone.project.bias):
            value.mul_(50)
    torch.testing.assert_close(model(images), before, rtol=1e-3, atol=1e-3)
