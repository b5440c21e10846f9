"""Requests for images become counts: properties, and imbalanced-learn's own words."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.settings import SynthesizeSettings
from ganaug.synthesis.plan import plan_counts, resolve_classes

real_counts = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 60), min_size=1, max_size=6)
amounts = st.integers(0, 100)


def plan(counts, **settings):
    return plan_counts(SynthesizeSettings(**settings), counts)


@given(real_counts)
def test_by_default_as_many_as_there_are_real_ones(counts):
    assert plan(counts) == counts


@given(real_counts, amounts)
def test_per_class(counts, amount):
    planned = plan(counts, per_class=amount)
    assert list(planned) == list(counts) and set(planned.values()) == {amount}


@given(real_counts, amounts)
def test_target_per_class_fills_up_and_never_takes_away(counts, amount):
    planned = plan(counts, target_per_class=amount)
    assert list(planned) == list(counts)
    for name, count in counts.items():
        assert planned[name] >= 0
        assert count + planned[name] == max(amount, count)


@given(real_counts, st.sampled_from(["all", "not-majority"]))
def test_balancing_all_levels_every_class(counts, word):
    planned = plan(counts, balance=word)
    assert {count + planned[name] for name, count in counts.items()} == {max(counts.values())}


@given(real_counts)
def test_balancing_the_minority_levels_the_smallest_class_alone(counts):
    smallest, largest = min(counts.values()), max(counts.values())
    planned = plan(counts, balance="minority")
    for name, count in counts.items():
        assert planned[name] == (largest - count if count == smallest else 0)


@given(real_counts, st.sampled_from(["all", "not-majority", "minority"]))
def test_balance_words_mean_what_imbalanced_learn_says(counts, word):
    validation = pytest.importorskip("imblearn.utils")
    assume(len(counts) > 1)
    if (
        word == "minority"
    ):  # where several are smallest imbalanced-learn takes one; here equal classes are treated alike
        assume(Counter(counts.values())[min(counts.values())] == 1)
    labels = [name for name, count in counts.items() for _ in range(count)]
    theirs = validation.check_sampling_strategy(word.replace("-", " "), labels, "over-sampling")
    ours = {name: count for name, count in plan(counts, balance=word).items() if count}
    assert ours == {name: count for name, count in theirs.items() if count}


@given(real_counts, st.data())
def test_chosen_classes_get_what_they_would_get_among_all(counts, data):
    chosen = data.draw(st.lists(st.sampled_from(list(counts)), min_size=1, unique=True))
    request = data.draw(
        st.sampled_from([{}, {"per_class": 7}, {"target_per_class": 30}, {"balance": "all"}, {"balance": "minority"}])
    )
    everything = plan(counts, **request)
    assert plan(counts, **request, classes=chosen) == {name: everything[name] for name in counts if name in chosen}


@pytest.mark.parametrize(
    "request_",
    [
        {"per_class": 1, "balance": "all"},
        {"per_class": 0, "target_per_class": 0},
        {"target_per_class": 5, "balance": "minority"},
        {"per_class": 1, "target_per_class": 5, "balance": "minority"},
    ],
)
def test_contradicting_requests_are_named(request_):
    with pytest.raises(GanaugError) as refusal:
        plan({"a": 1, "b": 2}, **request_)
    assert f"got {' and '.join(request_)}." in str(refusal.value)


def test_unknown_classes_are_named_with_the_nearest():
    with pytest.raises(GanaugError, match="unknown class 'catt': did you mean 'cat'"):
        plan({"cat": 1, "dog": 2}, classes=("dog", "catt"))
    with pytest.raises(GanaugError, match="known classes: cat, dog"):
        resolve_classes(["xyz"], ["cat", "dog"])
    assert resolve_classes([], ["cat", "dog"]) == ("cat", "dog")
