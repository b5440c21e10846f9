"""The training of a classifier: it learns, repeats itself, and weighs the images beside as it is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ganaug.classify import training
from ganaug.classify.backbones import build_classifier
from ganaug.classify.training import Diet, Labeled, Mixing, Training, main_batches, predict, train_classifier
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
    for other in ({"augmentation": "trivial"}, {"strength": 1.6}, {"mirror": "both"}):
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
    cross_entropy, backward = torch.nn.functional.cross_entropy, torch.Tensor.backward

    def keep(values, targets, **options):
        logits.append((values.detach().numpy().astype(np.float64), targets.numpy()))
        return cross_entropy(values, targets, **options)

    monkeypatch.setattr(training.F, "cross_entropy", keep)
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
