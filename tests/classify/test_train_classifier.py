"""The training of a classifier: it learns, repeats itself, and weighs the images beside as it is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ganaug.classify import training
from ganaug.classify.backbones import build_classifier
from ganaug.classify.training import (
    Diet,
    Labeled,
    Mixing,
    Training,
    balanced_cross_entropy,
    class_shares,
    main_batches,
    predict,
    train_classifier,
)
from ganaug.gan.networks import Backbone

CPU = torch.device("cpu")
TRAINING = Training(
    updates=6, batch_size=8, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.1, precision="fp32"
)
MIXING = Mixing(ratio=0.5, weight=0.5, real_only_share=0.25)


def stripes(n, seed):
    """An easy set: horizontal against vertical stripes with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    wave = np.where(np.arange(16) % 8 < 4, 60, 190)
    pictures = np.where(labels[:, None, None] == 0, wave[None, :, None], wave[None, None, :])
    noisy = pictures + rng.normal(0, 25, (n, 16, 16))
    return Labeled(np.clip(noisy, 0, 255).astype(np.uint8)[:, None], labels)


def fresh(seed=0):
    torch.manual_seed(0)
    return build_classifier(Backbone(16, 1, 4), 2, "scratch", seed)


def trained(updates=6, beside=None, mixing=MIXING, seed=0, main=None, model=None, mirror="none", **changes):
    model = model or fresh(seed)
    diet = Diet(main or stripes(10, 0), beside)
    curve = train_classifier(model, diet, replace(TRAINING, updates=updates, **changes), mixing, mirror, seed, CPU)
    return model, curve


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def trained_weights(*arguments, **options):
    return weights(trained(*arguments, **options)[0])


def test_it_learns_an_easy_set():
    real, held = stripes(24, 0), stripes(60, 1)
    before = (predict(fresh(), held.images, CPU).argmax(1) == held.labels).mean()
    model, curve = trained(80, main=real)
    after = (predict(model, held.images, CPU).argmax(1) == held.labels).mean()
    assert before == pytest.approx(0.5) and after > 0.95
    assert curve[-1].loss < 0.6 * curve[0].loss and curve[-1].accuracy > 0.95


def test_it_learns_from_the_images_beside_too():
    """The main images carry the wrong labels in half of the cases; many right ones beside outweigh them."""
    noisy, held = stripes(8, 0), stripes(60, 1)
    main = Labeled(noisy.images, np.array([0, 1, 1, 0, 0, 1, 1, 0]))
    model, _ = trained(80, stripes(40, 2), Mixing(ratio=4.0, weight=1.0, real_only_share=0.0), main=main)
    assert (predict(model, held.images, CPU).argmax(1) == held.labels).mean() > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    beside = stripes(6, 3)
    once = trained_weights(beside=beside)
    assert torch.equal(trained_weights(beside=beside), once)
    assert not torch.equal(trained_weights(beside=beside, seed=1), once)
    assert not torch.equal(trained_weights(), once)


def test_augmentation_strength_and_mirror_are_used():
    usual = trained_weights()
    assert torch.equal(trained_weights(augmentation="classical", strength=1.0), usual)
    for other in (
        {"augmentation": "trivial"},
        {"strength": 1.6},
        {"mirror": "both"},
        {"cutmix": 1.0},
        {"backbone_rate": 0.3},
    ):
        assert not torch.equal(trained_weights(**other), usual), other


def test_dropout_depends_on_the_seed_and_not_on_what_ran_before():
    kept = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = torch.nn.Dropout(0.5), torch.nn.Linear(256, 2)

        def forward(self, images):
            kept.append(self.drop(torch.ones(20)).numpy())
            return self.head(self.drop(images.flatten(1)))

    found, masks = [], []
    for before, seed in ((11, 0), (12, 0), (11, 1)):
        torch.manual_seed(0)
        model = Watched()
        torch.manual_seed(before)
        state = torch.get_rng_state()
        found.append(trained_weights(model=model, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)  # what runs after does not depend on it either
        masks.append(np.stack(kept))
        kept.clear()
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])
    assert len({mask.tobytes() for mask in masks[0]}) == len(masks[0]) == 6  # another one in every update


def test_a_study_at_its_shortest():
    for updates in range(1, 8):
        model, curve = trained(updates)
        assert len(curve) == updates and [point.update for point in curve] == list(range(1, updates + 1))
        assert torch.isfinite(weights(model)).all()


def test_the_curve_has_at_most_twice_its_points_and_ends_near_the_end():
    _, curve = trained(95)
    assert [point.update for point in curve[:3]] == [2, 4, 6]  # 95 // 40
    assert len(curve) == 47
    assert all(0 <= point.accuracy <= 1 and point.loss > 0 for point in curve)


@pytest.mark.parametrize(
    "none",
    [replace(MIXING, real_only_share=1.0), replace(MIXING, ratio=0.0), replace(MIXING, ratio=0.06)],
    ids=["ended before they came", "no ratio", "less than half an image an update"],
)
def test_images_beside_that_never_come_change_nothing(none):
    assert torch.equal(trained_weights(beside=stripes(6, 3), mixing=none), trained_weights())


def test_the_loss_is_the_weighted_mean_of_main_and_beside(monkeypatch):
    """Of one update, against numpy: sum(w CE) / sum(w), with label smoothing."""
    logits, losses = [], []
    backward = torch.Tensor.backward

    def keep(values, targets, *others):
        logits.append((values.detach().numpy().astype(np.float64), targets.numpy()))
        return balanced_cross_entropy(values, targets, *others)

    monkeypatch.setattr(training, "balanced_cross_entropy", keep)
    monkeypatch.setattr(
        torch.Tensor,
        "backward",
        lambda self, *a, **k: (losses.append(float(self.detach())), backward(self, *a, **k))[1],
    )
    _, curve = trained(8, stripes(6, 3), Mixing(ratio=0.5, weight=0.3, real_only_share=0.25), batch_size=4)
    for (values, targets), loss, point in zip(logits, losses, curve, strict=True):
        smooth = np.full_like(values, 0.1 / 2)
        smooth[np.arange(len(targets)), targets] += 0.9
        log_probability = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        each = -(smooth * log_probability).sum(axis=1)
        weight = np.array([1.0] * 4 + [0.3] * (len(targets) - 4))
        assert loss == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-4)
        assert point.loss == pytest.approx(each[:4].mean(), rel=1e-4)  # the curve is that of the main images
        assert point.accuracy == pytest.approx((values[:4].argmax(axis=1) == targets[:4]).mean())
    assert [len(targets) for _, targets in logits] == [6] * 6 + [4] * 2


def test_rate_and_decay_are_those_of_the_training(monkeypatch):
    """One cycle: up to the peak in the first fifth, then down to next to nothing."""
    seen = []

    class Optimizer(torch.optim.AdamW):
        def step(self, closure=None):
            seen.append((self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Optimizer)
    trained(40, learning_rate=0.01, weight_decay=0.3)
    rates = np.array([rate for rate, _ in seen])
    assert {decay for _, decay in seen} == {0.3}
    assert rates.max() == pytest.approx(0.01, rel=0.02) and rates.argmax() in (7, 8)
    assert rates[0] < 0.1 * rates.max() and rates[-1] < 0.01 * rates.max()
    assert (np.diff(rates[:7]) > 0).all() and (np.diff(rates[9:]) < 0).all()


def test_layers_of_the_backbone_may_learn_slower_than_the_head(monkeypatch):
    seen = []

    class Optimizer(torch.optim.AdamW):
        def step(self, closure=None):
            seen.append([(len(group["params"]), group["lr"]) for group in self.param_groups])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Optimizer)
    model, _ = trained(20, learning_rate=0.01, backbone_rate=0.3)
    for (head, rate), (backbone, slower) in seen:
        assert head == 2 and head + backbone == len(list(model.parameters()))
        assert slower == pytest.approx(0.3 * rate)
    assert max(rate for (_, rate), _ in seen) == pytest.approx(0.01, rel=0.05)


def test_a_model_without_a_backbone_has_one_rate():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    (group,) = training.parameter_groups(model, replace(TRAINING, backbone_rate=0.3))
    assert group["lr"] == TRAINING.learning_rate and len(group["params"]) == 2


def test_a_pasted_patch_counts_by_its_area_for_the_class_of_the_image_it_comes_from(monkeypatch):
    asked, losses, backward = [], [], torch.Tensor.backward

    def keep(values, targets, *others):
        each = balanced_cross_entropy(values, targets, *others)
        asked.append((targets.numpy(), each.detach().numpy()))
        return each

    monkeypatch.setattr(training, "cutmix", lambda images, draws: (images, 2, 0.25))
    monkeypatch.setattr(training, "balanced_cross_entropy", keep)
    monkeypatch.setattr(
        torch.Tensor,
        "backward",
        lambda self, *a, **k: (losses.append(float(self.detach())), backward(self, *a, **k))[1],
    )
    trained(40, batch_size=5, cutmix=0.5)
    pasted, position = 0, 0
    for loss in losses:
        targets, each = asked[position]
        if loss == pytest.approx(each.mean(), rel=1e-5):
            position += 1
            continue
        partners, others = asked[position + 1]
        assert np.array_equal(partners, np.roll(targets, -2))
        assert loss == pytest.approx((0.75 * each + 0.25 * others).mean(), rel=1e-5)
        pasted, position = pasted + 1, position + 2
    assert position == len(asked) and 10 <= pasted <= 30  # every second update


def test_predictions_are_probabilities_and_do_not_depend_on_the_batch():
    model, _ = trained(10)
    images = stripes(300, 5).images  # more than one batch
    probabilities = predict(model, images, CPU)
    assert probabilities.shape == (300, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(predict(model, images[250:], CPU), probabilities[250:], atol=1e-5)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(images[:3]) / 127.5 - 1).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities[:3], expected, atol=1e-4)


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (3, 8), (8, 8), (1, 2)])
def test_batches_are_rounds_of_all_images(num_images, batch_size):
    order = main_batches(num_images, batch_size, seed=3)
    drawn = np.concatenate([next(order) for _ in range(10)])
    assert len(drawn) == 10 * batch_size
    for begin in range(0, len(drawn) - num_images + 1, num_images):
        assert sorted(drawn[begin : begin + num_images]) == list(range(num_images))


def test_all_images_beside_are_drawn_alike():
    """White ones of 4 with one black among them: it comes in about a quarter of the draws."""
    images = np.full((4, 1, 16, 16), 255, np.uint8)
    images[2] = 0
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(256, 2)

        def forward(self, batch):
            seen.append(batch[8:].detach().mean(dim=(1, 2, 3)).numpy().copy())
            return self.head(batch.flatten(1))

    beside = Labeled(images, np.array([0, 1, 0, 1]))
    trained(60, beside, Mixing(ratio=1.0, weight=1.0, real_only_share=0.0), model=Watching())
    drawn = np.concatenate(seen)
    assert len(drawn) == 480
    assert (drawn < 0).mean() == pytest.approx(0.25, abs=0.06)  # three standard errors


def test_of_equally_frequent_classes_it_is_the_plain_cross_entropy():
    logits, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])
    shares = class_shares(np.array([0, 1, 2, 0, 1, 2]), 3).expand(6, -1)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(balanced_cross_entropy(logits, targets, shares, 0.1), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("counts", [[90, 10], [5, 5], [600, 30, 2]])
def test_where_images_tell_nothing_every_class_is_as_likely_however_frequent(counts, smoothing):
    """The least expected loss over logits that are the same for every image."""
    labels = np.repeat(np.arange(len(counts)), counts)
    shares = class_shares(labels, len(counts)).expand(len(labels), -1)
    logits = torch.zeros(len(counts), requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = balanced_cross_entropy(
            logits.expand(len(labels), -1), torch.from_numpy(labels), shares, smoothing
        ).mean()
        value.backward()
        return value

    optimizer.step(loss)
    chances = logits.detach().softmax(dim=0)
    torch.testing.assert_close(chances, torch.full_like(chances, 1 / len(counts)), atol=2e-3, rtol=0)


def test_a_rare_class_is_not_seen_in_images_that_are_surely_others():
    """The least loss on images of the frequent class alone, where the other has one in a thousand of the images."""
    shares = torch.tensor([[0.999, 0.001]])
    values = torch.linspace(-12, 12, 2401)
    logits = torch.stack([torch.zeros_like(values), values], dim=1)
    losses = balanced_cross_entropy(
        logits, torch.zeros(len(values), dtype=torch.int64), shares.expand(len(values), -1), 0.1
    )
    assert values[losses.argmin()] < -2


def test_a_class_without_images_is_never_asked_for():
    shares = class_shares(np.array([0, 0, 1, 1]), 3).expand(2, -1)
    logits = torch.zeros(2, 3, requires_grad=True)
    balanced_cross_entropy(logits, torch.tensor([0, 1]), shares, 0.1).sum().backward()
    assert (logits.grad[:, 2] > 0).all()  # a step lowers it


def test_rare_classes_are_found_as_often_as_frequent_ones():
    """Two overlapping kinds of noise, nine to one: neither is preferred where both are as likely."""
    rng = np.random.default_rng(0)

    def noise(counts):
        labels = np.repeat([0, 1], counts)
        level = np.where(labels == 0, 118, 138)[:, None, None, None] + rng.normal(0, 12, (len(labels), 1, 1, 1))
        return Labeled(np.clip(np.broadcast_to(level, (len(labels), 1, 16, 16)), 0, 255).astype(np.uint8), labels)

    held = noise([200, 200])
    model, _ = trained(150, main=noise([90, 10]), batch_size=32, strength=0.0)
    found = predict(model, held.images, CPU).argmax(1)
    recalls = [(found[held.labels == k] == k).mean() for k in (0, 1)]
    assert abs(recalls[0] - recalls[1]) < 0.25 and min(recalls) > 0.6
