import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganaug.data.split import draw, group_of, hold_out
from ganaug.errors import GanaugError


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def test_hold_out_takes_the_fraction_of_every_class():
    labels = labels_of(100, 50, 10)
    test = hold_out(labels, range(160), 0.2, seed=0)
    assert np.bincount(labels[test]).tolist() == [20, 10, 2]


def test_hold_out_is_decided_by_the_seed():
    labels = labels_of(40, 40)
    first, again, other = (hold_out(labels, range(80), 0.25, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_single_images_train_and_pairs_are_shared():
    labels = labels_of(1, 2, 3)
    test = hold_out(labels, range(6), 0.2, seed=0)
    assert np.bincount(labels[test], minlength=3).tolist() == [0, 1, 1]


@settings(max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_groups_are_whole_and_every_class_trains(pairs, fraction, seed):
    labels, groups = (np.array(values) for values in zip(*pairs, strict=True))
    test = hold_out(labels, groups, fraction, seed)
    assert not set(groups[test]) & set(groups[~test])
    assert set(labels[~test]) == set(labels)


def test_grouped_hold_out_comes_near_the_fraction():
    groups = np.repeat(np.arange(30), 20)
    labels = np.tile(np.arange(10), 60)
    test = hold_out(labels, groups, 0.2, seed=3)
    assert (np.bincount(labels[test]) == 12).all()


def test_group_of_takes_the_parenthesised_group_or_the_match():
    names = ["train/a/group1_x.png", "train/b/group1_y.png", "train/a/group2_x.png"]
    for regex in (r"group\d+", r"(group\d+)_"):
        keys = group_of(names, regex)
        assert keys[0] == keys[1] != keys[2]
    assert len(set(group_of(names, None))) == 3


def test_group_of_says_how_many_files_do_not_match(caplog):
    caplog.set_level(logging.WARNING, "ganaug")
    keys = group_of(["a/p1_0.png", "a/other.png", "a/another.png"], r"p(\d)")
    assert len(set(keys)) == 3
    assert "matches 1 of 3 files" in caplog.text and "a/other.png" in caplog.text


def test_group_of_names_an_invalid_expression():
    with pytest.raises(GanaugError, match=r"group_regex.*'\(p'"):
        group_of(["a.png"], "(p")


def test_draw_takes_the_limit_of_every_class_sorted():
    labels = labels_of(30, 5, 20)
    chosen = draw(labels, 10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 10]
    assert (np.diff(chosen) > 0).all()


def test_draw_of_a_class_does_not_depend_on_the_others():
    alone = draw(labels_of(30), 10, seed=4)
    beside = draw(labels_of(30, 50, 7), 10, seed=4)
    assert np.array_equal(alone, beside[beside < 30])
    assert not np.array_equal(alone, draw(labels_of(30), 10, seed=5))


def test_smaller_draws_are_parts_of_larger_ones():
    labels = labels_of(30, 40)
    assert set(draw(labels, 5, 0)) < set(draw(labels, 10, 0)) < set(draw(labels, 35, 0))
