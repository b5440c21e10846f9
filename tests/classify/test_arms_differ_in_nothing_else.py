"""Two arms of a study differ in nothing but what their names say: recorded from what the model is given in each update."""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from ganaug.classify import training
from ganaug.classify.training import Labeled, Mixing, Training
from ganaug.gan.networks import Backbone
from ganaug.settings import CompareSettings
from ganaug.study import pieces
from ganaug.study.arms import ARMS, BASELINE, CONTROL, FACTORIAL, MIXED
from ganaug.study.material import Material
from ganaug.study.pieces import make_piece, train_piece

UPDATES, BATCH, NUM_REAL, NUM_BESIDE, NUM_POOL = 8, 6, 14, 3, 9
SETTINGS = CompareSettings(device="cpu")
TRAINING = Training(UPDATES, BATCH, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.1, precision="fp32")
MIXING = Mixing(ratio=0.5, weight=0.5, real_only_share=0.25)
PAIRS = [
    ("scratch/real", "scratch/real+synthetic"),
    ("discriminator/real", "discriminator/real+synthetic"),
    ("scratch/real", "discriminator/real"),
    ("scratch/real+synthetic", "discriminator/real+synthetic"),
]
BESIDE = [MIXED, "discriminator/real+synthetic", "scratch/duplicated", "scratch/smote"]


@dataclass
class Recording:
    """What happened in each update: images and labels that the model was given, the loss's weights, the rates."""

    inputs: list = field(default_factory=list)  # (N, C, S, S) in [-1, 1], augmented
    rows: list = field(default_factory=list)  # of the main images
    targets: list = field(default_factory=list)
    losses: list = field(default_factory=list)  # each image's own, and that of the update
    rates: list = field(default_factory=list)
    start: dict = field(default_factory=dict)  # the model's weights before the first update


def make_labeled(n, seed, low, high):
    rng = np.random.default_rng(seed)
    return Labeled(rng.integers(low, high, (n, 1, 16, 16), dtype=np.uint8), np.arange(n) % 2)


@pytest.fixture(scope="module")
def material():
    torch.manual_seed(0)
    # Synthetic images are white, so that they are told apart from the dark real ones whatever augmentation does.
    return Material(
        train=make_labeled(NUM_REAL, 0, 0, 90),
        judged=make_labeled(4, 1, 0, 90).images,
        pool=make_labeled(NUM_POOL, 2, 220, 256),
        num_beside=np.array([5, 4]),
        backbone=Backbone(16, 1, 4),
        num_classes=2,
        mirror="horizontal",
    )


@pytest.fixture(scope="module")
def record(material):
    """`record(arm, seed)`: the arm's training, recorded."""

    def run(arm, seed=0):
        recording = Recording()

        def batches(num_images, batch_size, seed):
            for rows in main_batches(num_images, batch_size, seed):
                recording.rows.append(rows)
                yield rows

        def cross_entropy(logits, targets, *others):
            recording.targets.append(targets.numpy().copy())
            each = own_loss(logits, targets, *others)
            recording.losses.append([each.detach().numpy().copy()])
            return each

        def backward(self, *arguments, **options):
            recording.losses[-1].append(float(self.detach()))
            return own_backward(self, *arguments, **options)

        class Optimizer(torch.optim.AdamW):
            def step(self, closure=None):
                recording.rates.append(self.param_groups[0]["lr"])
                return super().step(closure)

        def build(*arguments):
            model = build_classifier(*arguments)
            recording.start = {name: value.clone() for name, value in model.state_dict().items()}

            def keep(_, images):
                if model.training:
                    recording.inputs.append(images[0].numpy().copy())

            model.register_forward_pre_hook(keep)
            return model

        main_batches, build_classifier = training.main_batches, pieces.build_classifier
        own_loss = training.balanced_cross_entropy
        own_backward = torch.Tensor.backward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "main_batches", batches)
            patch.setattr(training, "balanced_cross_entropy", cross_entropy)
            patch.setattr(torch.optim, "AdamW", Optimizer)
            patch.setattr(torch.Tensor, "backward", backward)
            patch.setattr(pieces, "build_classifier", build)
            train_piece(make_piece(arm, "unit", "gan", 0, seed, TRAINING, MIXING), material, SETTINGS)
        return recording

    return functools.cache(run)


def test_the_factorial_arms_are_all_combinations_of_their_two_words():
    assert {(ARMS[name].init, ARMS[name].uses_pool) for name in FACTORIAL} == {
        (init, synthetic) for init in ("scratch", "discriminator") for synthetic in (False, True)
    }
    for name in FACTORIAL:
        arm = ARMS[name]
        assert name == f"{arm.init}/real{'+synthetic' if arm.uses_pool else ''}"
        # the words are all that tells them apart
        assert replace(arm, init="scratch", diet=ARMS[BASELINE].diet) == ARMS[BASELINE]
        assert arm.diet is ARMS[MIXED if arm.uses_pool else BASELINE].diet
    # the verdict's question changes the synthetic images alone
    assert ARMS[MIXED].init == ARMS[BASELINE].init and ARMS[MIXED].uses_pool and not ARMS[BASELINE].uses_pool


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_gets_the_same_updates_and_rates(record, arm):
    recording = record(arm)
    assert len(recording.inputs) == len(recording.targets) == len(recording.rates) == UPDATES
    assert recording.rates == record(BASELINE).rates


@pytest.mark.parametrize(("first", "second"), [*PAIRS, *((BASELINE, arm) for arm in BESIDE[2:])])
def test_the_real_images_of_every_update_are_the_same_pixels(record, first, second):
    one, other = record(first), record(second)
    for update in range(UPDATES):
        np.testing.assert_array_equal(one.rows[update], other.rows[update])
        np.testing.assert_array_equal(one.inputs[update][:BATCH], other.inputs[update][:BATCH])
        np.testing.assert_array_equal(one.targets[update][:BATCH], other.targets[update][:BATCH])


def test_synthetic_images_come_on_top_and_only_where_the_name_says_so(record):
    for name in FACTORIAL:
        sizes = [len(images) for images in record(name).inputs]
        mixed = UPDATES * 3 // 4  # the last quarter sees real images alone
        assert sizes == (
            [BATCH + NUM_BESIDE] * mixed + [BATCH] * (UPDATES - mixed) if ARMS[name].uses_pool else [BATCH] * UPDATES
        )
        for images in record(name).inputs:
            assert images[:BATCH].mean(axis=(1, 2, 3)).max() < 0 < images[BATCH:].mean(axis=(1, 2, 3)).min(initial=1)


@pytest.mark.parametrize("arm", BESIDE)
def test_all_that_stands_beside_comes_alike(record, arm):
    """In as many images, in the same updates, with the same weight."""
    one, other = record(arm), record(MIXED)
    assert [len(images) for images in one.inputs] == [len(images) for images in other.inputs]
    for each, loss in one.losses:
        weight = np.array([1.0] * BATCH + [MIXING.weight] * (len(each) - BATCH))
        assert loss == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-4)


def test_arms_that_mix_no_synthetic_images_see_none(record):
    for name, arm in ARMS.items():
        brightest = max(images.mean(axis=(1, 2, 3)).max() for images in record(name).inputs)
        assert (brightest > 0.7) == arm.uses_pool, name


def test_the_synthetic_images_are_the_same_for_both_initialisations(record):
    one, other = record("scratch/real+synthetic"), record("discriminator/real+synthetic")
    for first, second in zip(one.inputs, other.inputs, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pairs_start_from_the_same_weights_unless_their_names_differ_in_that(record, first, second):
    one, other = record(first).start, record(second).start
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    if ARMS[first].init == ARMS[second].init:
        assert differing == set()
    else:
        assert differing and all(name.startswith("backbone.") for name in differing)


def test_all_arms_from_scratch_start_from_the_same_weights(record):
    for name, arm in ARMS.items():
        same = all(torch.equal(value, record(name).start[key]) for key, value in record(BASELINE).start.items())
        assert same == (arm.init == "scratch" and name != CONTROL), name


def test_trivialaugment_changes_the_same_images_in_another_way(record):
    one, other = record(BASELINE), record("scratch/trivialaugment")
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.targets, other.targets)
    assert all(not np.array_equal(first, second) for first, second in zip(one.inputs, other.inputs, strict=True))


def test_the_control_differs_from_the_baseline_as_another_seed_does(record):
    shifted, control = record(BASELINE, ARMS[CONTROL].seed_shift), record(CONTROL)
    for first, second in zip(shifted.inputs, control.inputs, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(control.rows[0], record(BASELINE).rows[0])


def test_a_longer_training_begins_as_the_baseline_does(record):
    """Its updates are set by whoever makes the piece; nothing else is different."""
    one, other = record(BASELINE), record("scratch/longer")
    for first, second in zip(one.inputs, other.inputs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_every_image_comes_once_before_any_comes_again(record, material):
    rows = np.concatenate(record(BASELINE).rows[:UPDATES])
    assert sorted(rows[:NUM_REAL]) == list(range(NUM_REAL))
    assert sorted(rows[NUM_REAL : 2 * NUM_REAL]) == list(range(NUM_REAL))
    targets = np.concatenate(record(BASELINE).targets)
    np.testing.assert_array_equal(targets, material.train.labels[rows])


def test_another_seed_changes_order_augmentation_and_weights(record):
    one, other = record(BASELINE, 0), record(BASELINE, 1)
    assert not np.array_equal(one.rows[0], other.rows[0])
    assert not np.array_equal(one.inputs[0], other.inputs[0])
    assert not torch.equal(one.start["backbone.project.weight"], other.start["backbone.project.weight"])
