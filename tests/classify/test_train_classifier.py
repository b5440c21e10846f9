"""The training of a classifier: it learns, repeats itself, and weighs synthetic images as it is told."""

import numpy as np
import pytest
import torch

from ganaug.classify import training
from ganaug.classify.backbones import build_classifier
from ganaug.classify.training import Labeled, predict, real_batches, train_classifier
from ganaug.gan.networks import Backbone
from ganaug.settings import CompareSettings

CPU = torch.device("cpu")
SETTINGS = CompareSettings(batch_size=8, precision="fp32")


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


def trained(updates=6, synthetic=None, settings=SETTINGS, seed=0, real=None):
    model = fresh(seed)
    curve = train_classifier(model, real or stripes(10, 0), synthetic, updates, settings, "none", seed, CPU)
    return model, curve


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_it_learns_an_easy_set():
    real, held = stripes(24, 0), stripes(60, 1)
    before = (predict(fresh(), held.images, CPU).argmax(1) == held.labels).mean()
    model, curve = trained(80, real=real)
    after = (predict(model, held.images, CPU).argmax(1) == held.labels).mean()
    assert before == pytest.approx(0.5) and after > 0.95
    assert curve[-1].loss < 0.6 * curve[0].loss and curve[-1].accuracy > 0.95


def test_it_learns_from_synthetic_images_too():
    """The real images carry the wrong labels in half of the cases; many right synthetic ones outweigh them."""
    noisy, held = stripes(8, 0), stripes(60, 1)
    real = Labeled(noisy.images, np.array([0, 1, 1, 0, 0, 1, 1, 0]))
    settings = SETTINGS.model_copy(update={"synthetic_ratio": 4.0, "synthetic_weight": 1.0, "real_only_share": 0.0})
    model, _ = trained(80, stripes(40, 2), settings, real=real)
    assert (predict(model, held.images, CPU).argmax(1) == held.labels).mean() > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    synthetic = stripes(6, 3)
    assert torch.equal(weights(trained(synthetic=synthetic)[0]), weights(trained(synthetic=synthetic)[0]))
    assert not torch.equal(weights(trained(synthetic=synthetic)[0]), weights(trained(synthetic=synthetic, seed=1)[0]))
    assert not torch.equal(weights(trained(synthetic=synthetic)[0]), weights(trained()[0]))


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


def test_synthetic_images_stop_after_their_share(monkeypatch):
    """With `real_only_share` 1 they never come, and the training is that of the real images."""
    only_real = SETTINGS.model_copy(update={"real_only_share": 1.0})
    assert torch.equal(weights(trained(synthetic=stripes(6, 3), settings=only_real)[0]), weights(trained()[0]))


def test_the_loss_is_the_weighted_mean_of_real_and_synthetic(monkeypatch):
    """Of one update, against numpy: sum(w CE) / sum(w), with label smoothing."""
    settings = SETTINGS.model_copy(update={"batch_size": 4, "synthetic_ratio": 0.5, "synthetic_weight": 0.3})
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
    trained(8, stripes(6, 3), settings)
    for (values, targets), loss in zip(logits, losses, strict=True):
        smooth = np.full_like(values, 0.1 / 2)
        smooth[np.arange(len(targets)), targets] += 0.9
        log_probability = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        each = -(smooth * log_probability).sum(axis=1)
        weight = np.array([1.0] * 4 + [0.3] * (len(targets) - 4))
        assert loss == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-4)
    assert [len(targets) for _, targets in logits] == [6] * 6 + [4] * 2


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
    order = real_batches(num_images, batch_size, seed=3)
    drawn = np.concatenate([next(order) for _ in range(10)])
    assert len(drawn) == 10 * batch_size
    for begin in range(0, len(drawn) - num_images + 1, num_images):
        assert sorted(drawn[begin : begin + num_images]) == list(range(num_images))
