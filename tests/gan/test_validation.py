"""Which checkpoint is kept: scores, the veto on copies, the choice, the early end."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from ganaug.data.images import to_float
from ganaug.gan import judge as judging
from ganaug.gan.judge import train_judge
from ganaug.gan.validation import (
    PATIENCE,
    Checkpoint,
    LabeledTensors,
    Reference,
    choose,
    generate,
    has_stalled,
    kernel_scores,
    only,
    relative_distances,
    standard_error,
    validate,
)

SIDE = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw_features(seed, n=12, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(n, 5)) + shift).astype(np.float32)


def pictures(noise, labels):
    """Class k is a bright half, left for 0 and right for 1, with soft noise of its own: (N, 1, 16, 16) in [-1, 1]."""
    halves = torch.full((2, 1, SIDE, SIDE), -0.6)
    halves[0, :, :, : SIDE // 2], halves[1, :, :, SIDE // 2 :] = 0.6, 0.6
    return (
        halves[labels] + 0.35 * noise.view(-1, 1, 4, 4).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).tanh()
    )


def draw_labelled(seed, per_class=16):
    labels = torch.arange(2).repeat_interleave(per_class)
    images = pictures(torch.randn(len(labels), 16, generator=seeded(seed)), labels)
    return LabeledTensors(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), labels)


class Stub:
    """Stands in for a generator."""

    latent_size = 16

    def __init__(self, make):
        self.make = make

    def __call__(self, noise, labels):
        return self.make(noise, labels)


@pytest.fixture(scope="module")
def reference():
    train, held_out = draw_labelled(0), draw_labelled(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "NUM_UPDATES", 40)
        patch.setattr(judging, "BATCH_SIZE", 16)
        judge = train_judge(train.images, train.labels, 2, "none", seed=0, dtype=torch.float32)
    return Reference(judge, train, held_out)


def measure(make, reference):
    return validate(Stub(make), reference, classes=(0, 1), labels=(0, 1), step=7, gap=0.5)


def test_kernel_scores_against_explicit_loops():
    generated, real = draw_features(0, n=4), draw_features(1, n=3)

    def kernel(x, y):
        return (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / 5 + 1) ** 3

    within = sum(kernel(generated[i], generated[j]) for i in range(4) for j in range(4) if i != j) / 12
    expected = [within - 2 * sum(kernel(x, g) for g in generated) / 4 for x in real]
    assert kernel_scores(generated, real) == pytest.approx(expected, rel=1e-4)


def test_differences_of_the_mean_score_are_those_of_the_squared_mmd():
    """Unbiased, against the same real images; the biased one also counts each generated image as its own neighbour."""
    real = draw_features(9, n=7)

    def squared_mmd(generated, unbiased):
        kernels = [(x @ y.T / 5 + 1.0) ** 3 for x, y in ((generated, generated), (real, real), (generated, real))]
        if unbiased:
            kernels[:2] = [kernel[~np.eye(len(kernel), dtype=bool)] for kernel in kernels[:2]]
        return kernels[0].mean() + kernels[1].mean() - 2 * kernels[2].mean()

    one, other = draw_features(0, n=6), draw_features(1, n=9, shift=0.3)
    difference = kernel_scores(one, real).mean() - kernel_scores(other, real).mean()
    assert difference == pytest.approx(squared_mmd(one, True) - squared_mmd(other, True), rel=1e-4)
    assert difference != pytest.approx(squared_mmd(one, False) - squared_mmd(other, False), rel=0.05)


def make_checkpoint(step, *scores, **measures):
    return Checkpoint(step=step, gap=measures.pop("gap", 1.0), scores=scores, **measures)


def test_the_standard_error_is_that_of_the_paired_difference():
    first, second = make_checkpoint(1, 1.0, 5.0, 9.0), make_checkpoint(2, 1.5, 4.5, 9.5)
    assert standard_error(first, second) == pytest.approx(np.std([-0.5, 0.5, -0.5], ddof=1) / 3**0.5)
    shifted = make_checkpoint(3, 2.0, 6.0, 10.0)  # every image alike: a sure difference
    assert standard_error(first, shifted) == 0
    assert standard_error(make_checkpoint(1, 1.0), make_checkpoint(2, 5.0)) == 0


def test_the_latest_within_one_standard_error_of_the_best_is_kept():
    best = make_checkpoint(1, 0.0, 2.0, 4.0)
    within = make_checkpoint(2, 1.0, 1.5, 4.0)  # mean + 1/6, standard error .44
    beyond = make_checkpoint(3, 0.6, 2.5, 4.7)  # mean + .6, standard error .06
    assert choose([best, within, beyond]) is within
    assert choose([best, beyond]) is best
    assert choose([within, best, beyond]) is best
    assert choose([beyond]) is beyond


def test_copies_have_a_veto():
    copied = make_checkpoint(1, -5.0, -5.0, copies=0.3)
    honest, late = make_checkpoint(2, 0.0, 0.0, copies=0.2), make_checkpoint(3, 9.0, 9.0, copies=0.25)
    assert choose([copied, honest, late]) is honest
    assert choose([copied, late]) is late
    assert choose([copied, replace(honest, copies=0.9), replace(late, copies=0.4)]) is copied  # fewest


def test_without_held_out_images_the_last_is_kept():
    bare = [make_checkpoint(step, gap=gap) for step, gap in ((1, 0.1), (2, 3.0), (3, 2.0))]
    assert choose(bare) is bare[-1]


def test_a_training_has_stalled_when_neither_score_nor_gap_reaches_a_new_low():
    early = [make_checkpoint(step, 1.0, gap=1.0) for step in range(3)]
    flat = [make_checkpoint(10 + step, 1.0, gap=1.0) for step in range(PATIENCE)]
    assert has_stalled(early + flat)
    assert has_stalled(early[:1] + flat)
    assert not has_stalled(flat) and not has_stalled([])  # nothing to compare with
    for better in (make_checkpoint(12, 0.9, gap=1.0), make_checkpoint(12, 1.0, gap=0.9)):
        assert not has_stalled([*early, better, *flat[1:]])
        assert not has_stalled([*early, *flat[1:], better])
        assert has_stalled([better, *early, *flat])  # the low is an old one
    bare = [replace(checkpoint, scores=()) for checkpoint in early + flat]
    assert not has_stalled(bare)


def test_only_keeps_the_images_of_the_classes():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    part = only(LabeledTensors(images, torch.tensor([0, 2, 1, 2, 0, 1])), (2, 0))
    assert part.labels.tolist() == [0, 2, 2, 0]
    assert part.images.flatten().tolist() == [0, 1, 3, 4]


def test_a_checkpoint_survives_json():
    checkpoint = make_checkpoint(3, 0.5, -1.0, gap=0.25, kid=0.1, coverage=0.5, consistency=0.75, copies=0.125)
    assert Checkpoint.from_json(json.loads(json.dumps(asdict(checkpoint)))) == checkpoint


def test_generated_images_are_the_same_in_every_call_and_in_the_order_of_the_labels():
    made = generate(Stub(pictures), (1, 0), 3, torch.device("cpu"))
    assert made.shape == (6, 1, SIDE, SIDE) and made.dtype == torch.uint8
    right = made[..., SIDE // 2 :].float().mean(dim=(1, 2, 3)) > 127
    assert right.tolist() == [True] * 3 + [False] * 3
    assert torch.equal(generate(Stub(pictures), (1, 0), 3, torch.device("cpu")), made)
    assert len(made.unique(dim=0)) == 6  # no noise twice


def test_copies_are_nearer_to_training_images_than_held_out_images_are():
    train, held_out, fresh = (draw_labelled(seed, per_class=20) for seed in (0, 1, 2))
    images = train.images
    shifted = torch.cat([images[..., :1], images[..., :-1]], dim=3)
    swapped = images.roll(20, dims=0)  # copies, but of the other class
    for label in (0, 1):
        for copies in (images, images.flip(3), shifted):
            found, _ = relative_distances(LabeledTensors(copies, train.labels), train, held_out, label)
            assert found.max() < 0.5
        for others in (fresh, held_out, LabeledTensors(swapped, train.labels)):
            found, usual = relative_distances(others, train, held_out, label)
            assert found.mean() > 0.8 and usual.mean() == pytest.approx(1)


def test_real_images_that_are_copies_of_each_other_do_not_set_the_threshold():
    """Of so many images distances are computed from dot products, which leave a little between equal ones."""
    train, held_out = (draw_labelled(seed, per_class=50) for seed in (0, 1))
    images = held_out.images.clone()
    images[:6] = train.images[:6]
    images[6:9] = (train.images[6:9].int() + 1).clamp(0, 255).to(torch.uint8)  # as recompressed
    noise = torch.randint(-6, 7, train.images.shape, generator=torch.Generator().manual_seed(3))
    noisy = (train.images.int() + noise).clamp(0, 255).to(torch.uint8)
    found, usual = relative_distances(
        LabeledTensors(noisy, train.labels), train, LabeledTensors(images, held_out.labels), 0
    )
    assert len(usual) == 100 - 2 * 9 and (found < np.quantile(usual, 0.05)).all()


def test_right_classes_score_better_than_swapped_ones(reference):
    right, swapped = measure(pictures, reference), measure(lambda noise, labels: pictures(noise, 1 - labels), reference)
    assert (right.step, right.gap) == (7, 0.5)
    assert len(right.scores) == 32 and right.score < swapped.score
    assert right.score - swapped.score < -3 * standard_error(right, swapped)
    assert right.consistency > 0.9 and swapped.consistency < 0.1
    assert right.coverage > swapped.coverage
    assert right.kid - swapped.kid == pytest.approx(right.score - swapped.score, abs=1e-6)
    assert abs(right.kid) < 0.2 * swapped.kid  # 0 but for the noise of few images
    free = [replace(checkpoint, copies=0.0) for checkpoint in (right, swapped)]
    assert choose(free) is free[0]


def test_one_picture_a_class_scores_worse_than_many(reference):
    many = measure(pictures, reference)
    one = measure(lambda noise, labels: pictures(noise[:1].expand_as(noise), labels), reference)
    assert many.score < one.score and many.coverage > one.coverage


def test_a_generator_that_copies_is_told_apart_by_its_copies_alone(reference):
    train = reference.train
    rows = {label: torch.where(train.labels == label)[0] for label in (0, 1)}

    def copy(noise, labels):
        return to_float(train.images[torch.cat([rows[int(k)][i % 16 : i % 16 + 1] for i, k in enumerate(labels)])])

    copied = measure(copy, reference)
    assert (
        copied.copies == 1
        and copied.score < measure(lambda noise, labels: pictures(noise, 1 - labels), reference).score
    )


def test_classes_count_alike_and_a_member_answers_for_its_own(reference):
    """Class 1 with a single held-out image, then a member that knows class 1 as its only label, 0."""
    few = replace(reference, held_out=LabeledTensors(reference.held_out.images[:17], reference.held_out.labels[:17]))
    both = validate(Stub(pictures), few, (0, 1), (0, 1), 1, 0.0)
    alone = [
        validate(Stub(lambda noise, labels, k=k: pictures(noise, labels + k)), few, (k,), (0,), 1, 0.0) for k in (0, 1)
    ]
    assert [len(each.scores) for each in (both, *alone)] == [17, 16, 1]
    assert both.scores[0] == pytest.approx(alone[0].scores[0] * 17 / 16 / 2, rel=1e-3)
    assert alone[1].consistency > 0.9


def test_without_held_out_images_nothing_is_measured(reference):
    nothing = replace(reference, held_out=LabeledTensors(reference.held_out.images[:0], reference.held_out.labels[:0]))
    assert measure(pictures, nothing) == Checkpoint(7, 0.5)
