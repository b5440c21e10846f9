"""Two arms of a study differ in nothing but what their names say: recorded from what the model is given in each update."""

import functools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from ganaug.classify import training
from ganaug.classify.training import Labeled
from ganaug.gan.networks import Backbone
from ganaug.settings import CompareSettings
from ganaug.study import pieces
from ganaug.study.arms import ARMS, BASELINE, QUESTIONS
from ganaug.study.pieces import Material, Piece, train_piece

UPDATES, BATCH, NUM_REAL, NUM_SYNTHETIC = 8, 6, 14, 3
SETTINGS = CompareSettings(batch_size=BATCH, synthetic_ratio=0.5, real_only_share=0.25, precision="fp32")
PAIRS = [
    ("scratch/real", "scratch/real+synthetic"),
    ("discriminator/real", "discriminator/real+synthetic"),
    ("scratch/real", "discriminator/real"),
    ("scratch/real+synthetic", "discriminator/real+synthetic"),
]


@dataclass
class Recording:
    """What happened in each update: images and labels that the model was given, the loss's weights, the rates."""

    inputs: list = field(default_factory=list)  # (N, C, S, S) in [-1, 1], augmented
    rows: list = field(default_factory=list)  # of the real images
    targets: list = field(default_factory=list)
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
        backbone=Backbone(16, 1, 4),
        num_classes=2,
        train=make_labeled(NUM_REAL, 0, 0, 90),
        held=make_labeled(4, 1, 0, 90),
        synthetic=make_labeled(9, 2, 220, 256),
        mirror="horizontal",
    )


@pytest.fixture(scope="module")
def record(material):
    """`record(arm, seed)`: the arm's training, recorded."""

    def run(arm, seed=0):
        recording = Recording()

        def batches(num_images, batch_size, seed):
            for rows in real_batches(num_images, batch_size, seed):
                recording.rows.append(rows)
                yield rows

        def cross_entropy(logits, targets, **options):
            recording.targets.append(targets.numpy().copy())
            return functional.cross_entropy(logits, targets, **options)

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

        real_batches, functional, build_classifier = training.real_batches, training.F, pieces.build_classifier
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "real_batches", batches)
            patch.setattr(training, "F", type("F", (), {"cross_entropy": staticmethod(cross_entropy)}))
            patch.setattr(torch.optim, "AdamW", Optimizer)
            patch.setattr(pieces, "build_classifier", build)
            train_piece(Piece("recorded", arm, seed, UPDATES), material, SETTINGS, torch.device("cpu"))
        return recording

    return functools.cache(run)


def test_the_arms_are_all_combinations_of_their_two_words():
    assert {(arm.init, arm.synthetic) for arm in ARMS.values()} == {
        (init, synthetic) for init in ("scratch", "discriminator") for synthetic in (False, True)
    }
    for name, arm in ARMS.items():
        assert name == f"{arm.init}/real{'+synthetic' if arm.synthetic else ''}"
    assert ARMS[BASELINE].init == "scratch" and not ARMS[BASELINE].synthetic
    assert all(arm in ARMS and baseline in ARMS and arm != baseline for arm, baseline in QUESTIONS)
    # the verdict's question changes the synthetic images alone
    asked, baseline = (ARMS[name] for name in QUESTIONS[0])
    assert asked.init == baseline.init and asked.synthetic and not baseline.synthetic


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_gets_the_same_updates_and_rates(record, arm):
    recording = record(arm)
    assert len(recording.inputs) == len(recording.targets) == len(recording.rates) == UPDATES
    assert recording.rates == record(BASELINE).rates


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_real_images_of_every_update_are_the_same_pixels(record, first, second):
    one, other = record(first), record(second)
    for update in range(UPDATES):
        np.testing.assert_array_equal(one.rows[update], other.rows[update])
        np.testing.assert_array_equal(one.inputs[update][:BATCH], other.inputs[update][:BATCH])
        np.testing.assert_array_equal(one.targets[update][:BATCH], other.targets[update][:BATCH])


def test_synthetic_images_come_on_top_and_only_where_the_name_says_so(record):
    for name, arm in ARMS.items():
        sizes = [len(images) for images in record(name).inputs]
        mixed = UPDATES * 3 // 4  # the last quarter sees real images alone
        assert sizes == (
            [BATCH + NUM_SYNTHETIC] * mixed + [BATCH] * (UPDATES - mixed) if arm.synthetic else [BATCH] * UPDATES
        )
        for images in record(name).inputs:
            assert images[:BATCH].mean(axis=(1, 2, 3)).max() < 0 < images[BATCH:].mean(axis=(1, 2, 3)).min(initial=1)


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
