"""What must be true of any split, draw and set of folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.data.duplicates import join_groups
from ganaug.data.split import draw, group_of, hold_out
from ganaug.study.search import inner_folds
from ganaug.synthesis.referees import NUM_FOLDS, assign_folds

members = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40)
seeds = st.integers(0, 1000)


def columns(pairs):
    return tuple(np.array(column, np.int64) for column in zip(*pairs, strict=True))


@given(members, st.floats(0.05, 0.95), seeds)
def test_groups_stay_whole_every_class_trains_and_whoever_can_gives_test_images(pairs, fraction, seed):
    labels, groups = columns(pairs)
    test = hold_out(labels, groups, fraction, seed)
    assert not set(groups[test]) & set(groups[~test]) and set(labels[~test]) == set(labels)
    left = {label: set(groups[~test & (labels == label)]) for label in set(labels)}
    for label in set(labels) - set(labels[test]):
        for group in left[label]:  # each is the last one of some class that it holds
            assert any(left[other] == {group} for other in set(labels[groups == group]))


@given(members, st.floats(0.05, 0.95), seeds, st.permutations(range(10)))
def test_a_split_does_not_depend_on_what_groups_are_called(pairs, fraction, seed, order):
    labels, groups = columns(pairs)
    named = [f"patient {order[group]}" for group in groups]
    assert np.array_equal(hold_out(labels, groups, fraction, seed), hold_out(labels, named, fraction, seed))


@given(st.lists(st.integers(2, 30), min_size=1, max_size=4), st.floats(0.05, 0.95), seeds)
def test_single_images_are_held_out_to_the_nearest_number_of_every_class(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    held = np.bincount(labels[hold_out(labels, range(len(labels)), fraction, seed)], minlength=len(counts))
    for count, number in zip(counts, held, strict=True):
        expected = min(max(round(fraction * count), 1), count - 1)
        assert abs(number - expected) <= (abs(fraction * count % 1 - 0.5) < 1e-9)


@given(members, st.lists(st.floats(0.05, 0.95), min_size=4, max_size=4), seeds)
def test_equal_fractions_of_the_classes_are_one_fraction(pairs, fractions, seed):
    labels, groups = columns(pairs)
    number = len(set(labels))
    each = hold_out(labels, groups, np.full(number, fractions[0]), seed)
    assert np.array_equal(each, hold_out(labels, groups, fractions[0], seed))
    own = hold_out(labels, groups, np.array(fractions[:number]), seed)
    assert not set(groups[own]) & set(groups[~own]) and set(labels[~own]) == set(labels)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 12), st.integers(1, 12), seeds)
def test_draws_keep_to_the_limit_and_smaller_ones_are_parts_of_larger_ones(labels, limit, more, seed):
    labels = np.array(labels, np.int64)
    small, large = (draw(labels, number, seed) for number in (limit, limit + more))
    assert set(small.tolist()) <= set(large.tolist()) and sorted(set(small.tolist())) == small.tolist()
    for label in set(labels.tolist()):
        assert (labels[small] == label).sum() == min(limit, (labels == label).sum())


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), min_size=1, max_size=20))
def test_files_belong_together_exactly_where_the_expression_finds_the_same(files):
    names = [f"train/a/person{person}-{shot}.png" for person, shot in files]
    keys = group_of(names, r"person(\d+)-")
    assert [[one == other for other in keys] for one in keys] == [
        [one[0] == other[0] for other in files] for one in files
    ]
    assert group_of(names, None) == names


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25))
def test_joined_groups_are_the_finest_that_tear_nothing_apart(pairs):
    first, second = columns(pairs)
    found = join_groups(first.tolist(), second.tolist())
    for keys in (first, second):
        assert all(len(set(found[keys == key])) == 1 for key in keys)
    for group in set(found.tolist()):  # from one member all others are reached
        mine = np.flatnonzero(found == group)
        reached, grown = {int(mine[0])}, True
        while grown:
            more = {int(i) for i in mine for j in reached if first[i] == first[j] or second[i] == second[j]}
            grown, reached = not more <= reached, reached | more
        assert reached == set(mine.tolist())


@given(members, st.integers(2, 5))
def test_inner_folds_judge_each_image_at_most_once_and_never_beside_its_group(pairs, number):
    labels, groups = columns(pairs)
    groups_of_class = [len(set(groups[labels == label])) for label in set(labels)]
    try:
        folds = inner_folds(labels, [str(group) for group in groups], number)
    except GanaugError:
        assert min(groups_of_class) < 2, "each class could be trained on and judged"
        return
    judged = np.concatenate([judged for _, judged in folds])
    assert 1 <= len(folds) <= number and len(judged) == len(set(judged.tolist()))
    for rows, held in folds:
        assert set(labels[rows]) == set(labels) and len(held)
        assert not set(groups[rows]) & set(groups[held]) and len(rows) + len(held) == len(labels)


@given(members, seeds)
def test_every_real_image_has_a_referee_that_has_not_seen_it(pairs, seed):
    labels, groups = columns(pairs)
    folds = assign_folds(labels, groups.astype(str), seed)
    number = min(NUM_FOLDS, int(np.bincount(labels).max()))
    if number < 2:
        assert not folds.any()
        return
    assert set(folds.tolist()) <= set(range(number)) and len(set(folds.tolist())) >= 2
    if len(set(groups)) >= 2 * number:
        assert all(len(set(folds[groups == group])) == 1 for group in groups)
    else:  # spread evenly
        for label in set(labels.tolist()):
            sizes = np.bincount(folds[labels == label], minlength=number)
            assert sizes.max() - sizes.min() <= 1


def test_folds_of_nothing_to_judge_are_refused():
    with pytest.raises(GanaugError, match=r"compare\.updates"):
        inner_folds(np.array([0, 1]), ["a", "b"], 2)
