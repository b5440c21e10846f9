"""What every arm makes of training images and a pool, and which questions a study asks."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE

from ganaug.classify.augmentation import AUGMENTATIONS
from ganaug.classify.training import Labeled
from ganaug.study.arms import (
    ARMS,
    BASELINE,
    CONTROL,
    FACTORIAL,
    MIXED,
    RIVALS,
    SELF_TRAINED,
    SMOTE_NEIGHBORS,
    duplicated,
    oversampled,
    questions,
    smote,
    synthetic_only,
    with_synthetic,
)

ALL = pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)


def labeled(sizes, seed=0, channels=1, side=4, low=0, high=120):
    """Images of as many of each class, in mixed order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return Labeled(rng.integers(low, high, (len(labels), channels, side, side), dtype=np.uint8), labels)


def copy_of(data):
    return Labeled(data.images.copy(), data.labels.copy())


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def rows_of(images, known):
    """For each image its first row among the known ones; fails where there is none."""
    where = {image.tobytes(): row for row, image in reversed(list(enumerate(known)))}
    return np.array([where[image.tobytes()] for image in images])


TRAIN, POOL, COUNTS = labeled([9, 4, 1]), labeled([5, 5, 5], seed=1, low=150, high=256), np.array([5, 7, 3])


@ALL
@pytest.mark.parametrize(
    ("sizes", "counts"), [([9, 4, 1], [5, 7, 3]), ([2, 2], [1, 4]), ([1, 1, 6], [4, 0, 2]), ([1, 1], [3, 3])]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_arm_gives_images_with_labels_that_exist(arm, sizes, counts, channels):
    train, pool = labeled(sizes, 0, channels), labeled([3] * len(sizes), 1, channels)
    before = copy_of(train), copy_of(pool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diet = arm.diet(train, pool, np.array(counts), 3)
    for part in (diet.main, diet.beside):
        if part is not None:
            assert part.images.dtype == np.uint8 and part.images.shape[1:] == train.images.shape[1:]
            assert part.labels.dtype == np.int64 and part.labels.shape == part.images.shape[:1] and len(part.labels)
            assert set(part.labels.tolist()) <= set(range(len(sizes)))
    assert same(train, before[0]) and same(pool, before[1])  # neither is changed in place
    assert (diet.beside is not None) == arm.mixes


@ALL
def test_every_arm_but_two_trains_on_the_real_images_as_they_are(arm):
    diet = arm.diet(TRAIN, POOL, COUNTS, 0)
    assert same(diet.main, TRAIN) == (arm.diet not in (oversampled, synthetic_only))


@ALL
def test_every_arm_is_repeatable_and_uses_the_pool_if_it_says_so(arm):
    one, other = (arm.diet(TRAIN, POOL, COUNTS, 5) for _ in range(2))
    assert same(one.main, other.main) and (one.beside is None or same(one.beside, other.beside))
    changed = arm.diet(TRAIN, labeled([4, 4, 4], 9), COUNTS, 5)
    equal = same(one.main, changed.main) and (one.beside is None or same(one.beside, changed.beside))
    assert equal == (not arm.uses_pool)


@ALL
def test_every_arm_names_an_augmentation_that_exists(arm):
    assert arm.augmentation in AUGMENTATIONS


def test_what_the_properties_say_of_each_arm():
    def those(name):
        return {arm for arm, found in ARMS.items() if getattr(found, name)}

    both = "scratch/real+unlabeled+synthetic"
    synthetic = {MIXED, "discriminator/real+synthetic", both, "scratch/synthetic"}
    assert those("uses_pool") == synthetic
    assert those("uses_gan") == synthetic | {"discriminator/real"}
    assert those("unlabeled") == {SELF_TRAINED, both}
    assert those("needs_fit") == synthetic | {"discriminator/real", SELF_TRAINED}
    assert those("mixes") == {MIXED, "discriminator/real+synthetic", both, "scratch/duplicated", "scratch/smote"}
    assert those("is_tuned_as_baseline") == {"scratch/longer", CONTROL}
    assert {arm for arm, found in ARMS.items() if found.augmentation != "classical"} == {"scratch/trivialaugment"}
    assert set(FACTORIAL) <= set(ARMS) and FACTORIAL[0] == BASELINE


def test_arms_that_take_over_the_baselines_tuning_have_its_diet():
    for name, arm in ARMS.items():
        if arm.is_tuned_as_baseline:
            base = ARMS[BASELINE]
            assert (arm.init, arm.diet, arm.augmentation) == (base.init, base.diet, base.augmentation), name


def test_the_controls_seeds_are_none_of_the_repetitions():
    assert ARMS[CONTROL].seed_shift >= 1_000_000  # a study has a few dozen seeds, from 0
    assert all(arm.seed_shift == 0 for name, arm in ARMS.items() if name != CONTROL)


def test_the_synthetic_images_stand_beside_the_real_ones():
    diet = with_synthetic(TRAIN, POOL, COUNTS, 0)
    assert same(diet.main, TRAIN) and same(diet.beside, POOL)


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 20)), min_size=2, max_size=4).filter(
        lambda pairs: any(count for _, count in pairs)
    )
)
def test_duplicated_puts_as_many_real_images_beside_the_real_ones_as_there_would_be_synthetic_ones(pairs):
    sizes, counts = (np.array(values) for values in zip(*pairs, strict=True))
    train = labeled(sizes.tolist())
    diet = duplicated(train, POOL, counts, 0)
    assert same(diet.main, train)
    assert np.bincount(diet.beside.labels, minlength=len(counts)).tolist() == counts.tolist()
    for k, count in enumerate(counts):
        made = diet.beside.images[diet.beside.labels == k]
        times = np.bincount(rows_of(made, train.images[train.labels == k]).astype(np.int64), minlength=sizes[k])
        assert times.max() - times.min() <= 1 and times.sum() == count  # each as often as any other


def test_duplicated_gives_no_copies_of_a_class_without_training_images():
    beside = duplicated(labeled([4, 4]), POOL, np.array([2, 6, 2]), 0).beside
    assert np.bincount(beside.labels).tolist() == [2, 6]


def test_synthetic_only_has_no_real_image():
    diet = synthetic_only(TRAIN, POOL, COUNTS, 0)
    assert same(diet.main, POOL) and diet.beside is None
    assert diet.main.images.min() > TRAIN.images.max()


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(0, 2**20))
def test_oversampling_balances_and_only_repeats(sizes, seed):
    train = labeled(sizes, seed)
    main = oversampled(train, POOL, COUNTS, seed).main
    assert np.bincount(main.labels).tolist() == [max(sizes)] * len(sizes)
    rows = rows_of(main.images, train.images)
    np.testing.assert_array_equal(train.labels[rows], main.labels)
    assert set(rows.tolist()) == set(range(len(train.labels)))  # none is lost
    np.testing.assert_array_equal(oversampled(train, POOL, COUNTS, seed).main.images, main.images)


def test_oversampling_draws_by_its_seed():
    one, other = (oversampled(TRAIN, POOL, COUNTS, seed).main.images for seed in (0, 1))
    assert not np.array_equal(one, other)


def lies_between(sample, parents):
    """Whether the sample is a + t (b - a), 0 <= t <= 1, of two different parents, but for half a level of rounding, twice:
    of the sample, and of the t that is found from it. Parents and sample are flat."""
    for number, a in enumerate(parents):
        others = np.delete(parents, number, axis=0) - a
        lengths = np.maximum((others**2).sum(axis=1), 1e-9)
        t = np.clip((others @ (sample - a)) / lengths, 0, 1)
        if (np.abs(a + t[:, None] * others - sample).max(axis=1) < 1).any():
            return True
    return False


@pytest.mark.parametrize("sizes", [[12, 8, 6], [9, 2, 3], [2, 2], [30, 1, 2, 5], [10, 1]])
def test_each_smote_image_lies_between_two_real_ones_of_its_class(sizes):
    train, counts = labeled(sizes), np.arange(3, 3 + len(sizes))
    beside = smote(train, POOL, counts, 0).beside
    assert np.bincount(beside.labels).tolist() == counts.tolist()
    for k in range(len(sizes)):
        made = beside.images[beside.labels == k].reshape(counts[k], -1).astype(float)
        real = train.images[train.labels == k].reshape(sizes[k], -1).astype(float)
        if sizes[k] == 1:
            np.testing.assert_array_equal(made, np.repeat(real, counts[k], axis=0))
        else:
            assert all(lies_between(image, real) for image in made)
            new = [image for image in made if (image != real).any(axis=1).all()]
            assert len(new) >= counts[k] - 1  # mixtures, not copies
            assert not any(lies_between(image + 40, real) for image in made)  # the check itself can fail


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 6)), min_size=2, max_size=4).filter(
        lambda pairs: any(count for _, count in pairs)
    ),
    st.integers(0, 1000),
)
def test_smote_makes_exactly_what_is_asked_for(pairs, seed):
    sizes, counts = (np.array(values) for values in zip(*pairs, strict=True))
    beside = smote(labeled(sizes.tolist()), POOL, counts, seed).beside
    assert np.bincount(beside.labels, minlength=len(counts)).tolist() == counts.tolist()


def test_a_class_without_training_images_gets_none():
    train = labeled([4, 4])
    beside = smote(train, POOL, np.array([2, 2, 2]), 0).beside
    assert np.bincount(beside.labels).tolist() == [2, 2]


def test_a_small_class_takes_no_neighbours_from_the_others():
    """Each of seven images of a class mixes with five others, though the other class has but two images."""
    points = np.random.default_rng(0).integers(0, 256, (9, 8), dtype=np.uint8)
    train = Labeled(points.reshape(9, 1, 2, 4), np.array([0] * 7 + [1] * 2))
    beside = smote(train, POOL, np.array([300, 2]), 0).beside
    pairs = [(i, j) for i in range(7) for j in range(i)]
    mixed = set()
    for image in beside.images[beside.labels == 0].reshape(-1, 8).astype(float):
        of = [pair for pair in pairs if lies_between(image, points[list(pair)].astype(float))]
        mixed.update(of if len(of) == 1 else [])  # near a parent there are several
    assert len(mixed) >= 7 * 5 / 2  # with one neighbour there are seven at most


def test_smote_agrees_with_imbalanced_learn():
    """Of two classes, one of which is asked for: the very same images."""
    train = labeled([12, 8])
    found = smote(train, POOL, np.array([0, 9]), 4).beside
    sampler = SMOTE(sampling_strategy={1: 17}, k_neighbors=SMOTE_NEIGHBORS, random_state=5)  # the seed and the class
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, labels = sampler.fit_resample(train.images.reshape(20, -1).astype(np.float32), train.labels)
    assert len(found.labels) == len(labels) - 20 == 9
    np.testing.assert_array_equal(found.images.reshape(9, -1), values[20:].round().astype(np.uint8))


def test_smote_draws_by_its_seed_and_its_class():
    one, other = (smote(TRAIN, POOL, COUNTS, seed).beside.images for seed in (0, 1))
    assert not np.array_equal(one, other)
    twins = labeled([6, 6])
    first = twins.images[twins.labels == 0]
    equal = Labeled(np.concatenate([first, first]), np.repeat([0, 1], 6))
    made = smote(equal, POOL, np.array([8, 8]), 0).beside
    assert not np.array_equal(made.images[:8], made.images[8:])


def test_the_first_question_is_that_of_the_synthetic_images():
    for arms in (tuple(ARMS), FACTORIAL, (BASELINE, MIXED), (BASELINE, "scratch/smote", MIXED)):
        assert questions(arms)[0] == (MIXED, BASELINE)
    assert questions((BASELINE, "scratch/smote", "scratch/longer"))[0] == ("scratch/smote", BASELINE)
    within = ("discriminator/real+synthetic", "discriminator/real")
    assert questions((BASELINE, *reversed(within)))[0] == within


def test_the_questions_of_the_factorial_arms():
    start = "discriminator/real"
    assert questions(FACTORIAL) == (
        (MIXED, BASELINE),
        (start, BASELINE),
        ("discriminator/real+synthetic", start),
        ("discriminator/real+synthetic", BASELINE),
    )


def test_synthetic_images_are_asked_for_against_what_needs_no_gan():
    assert questions((BASELINE, MIXED, "scratch/smote", "scratch/synthetic", CONTROL)) == (
        (MIXED, BASELINE),
        ("scratch/smote", BASELINE),
        ("scratch/synthetic", BASELINE),
        (CONTROL, BASELINE),
        (MIXED, "scratch/smote"),
    )
    assert set(RIVALS) == {arm for arm, found in ARMS.items() if not found.uses_gan and arm not in (BASELINE, CONTROL)}
    assert questions((BASELINE, "scratch/smote", "scratch/longer"))[1:] == (("scratch/longer", BASELINE),)


@given(st.sets(st.sampled_from([arm for arm in ARMS if arm != BASELINE]), min_size=1))
def test_every_arm_is_asked_for_once_against_the_baseline(chosen):
    arms = tuple(arm for arm in ARMS if arm in {*chosen, BASELINE})
    asked = questions(arms)
    inner = [("discriminator/real+synthetic", "discriminator/real"), ("scratch/real+unlabeled+synthetic", SELF_TRAINED)]
    within = [pair for pair in inner if set(pair) <= chosen]
    assert len(set(asked)) == len(asked)
    assert sorted(arm for arm, base in asked if base == BASELINE) == sorted(chosen)
    rivals = [(MIXED, arm) for arm in RIVALS if MIXED in chosen and arm in chosen]
    assert [pair for pair in asked if pair[1] != BASELINE] == within + rivals
    assert list(asked[len(asked) - len(rivals) :]) == rivals  # after all that is asked against the baseline
    assert (asked[0] == (MIXED, BASELINE)) == (MIXED in chosen)
