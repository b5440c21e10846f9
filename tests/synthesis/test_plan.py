"""Requests for images become counts: properties, and imbalanced-learn's own words."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.settings import SynthesizeSettings
from ganaug.synthesis.plan import call_strategy, plan_counts, resolve_classes

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


@given(real_counts, st.data())
def test_added_images_are_those_asked_for(counts, data):
    added = data.draw(st.dictionaries(st.sampled_from(list(counts)), amounts))
    assert plan(counts, add=added) == {name: added[name] for name in counts if name in added}


@given(real_counts, st.data())
def test_totals_are_reached_and_what_they_leave_out_gets_nothing(counts, data):
    totals = {name: count + data.draw(amounts) for name, count in counts.items() if data.draw(st.booleans())}
    planned = plan(counts, sampling_strategy=totals)
    assert {name: counts[name] + planned[name] for name in totals} == totals
    assert all(planned[name] == 0 for name in counts if name not in totals)


def test_a_total_below_what_is_there_is_refused():
    with pytest.raises(GanaugError, match="asks for 3 images of class b in all, and it has 5"):
        plan({"a": 2, "b": 5}, sampling_strategy={"b": 3})


def test_a_function_is_called_as_imbalanced_learn_does():
    seen = []

    def strategy(labels):
        seen.append(labels)
        return {"b": 7}

    assert call_strategy(strategy, {"a": 1, "b": 2}) == {"b": 7} and seen == [["a", "b", "b"]]
    with pytest.raises(GanaugError, match="must return a mapping"):
        call_strategy(lambda labels: 3, {"a": 1})


@given(real_counts, st.sampled_from(["all", "auto", "not-majority"]))
def test_balancing_all_levels_every_class(counts, word):
    planned = plan(counts, sampling_strategy=word)
    assert {count + planned[name] for name, count in counts.items()} == {max(counts.values())}


@given(real_counts)
def test_balancing_the_minority_levels_the_smallest_class_alone(counts):
    smallest, largest = min(counts.values()), max(counts.values())
    planned = plan(counts, sampling_strategy="minority")
    for name, count in counts.items():
        assert planned[name] == (largest - count if count == smallest else 0)


@given(real_counts, st.sampled_from(["all", "auto", "not majority", "not minority", "minority"]))
def test_the_words_mean_what_imbalanced_learn_says(counts, word):
    validation = pytest.importorskip("imblearn.utils")
    assume(len(counts) > 1)
    if (
        "minority" in word
    ):  # where several are smallest imbalanced-learn takes one; here equal classes are treated alike
        assume(Counter(counts.values())[min(counts.values())] == 1)
    labels = [name for name, count in counts.items() for _ in range(count)]
    theirs = validation.check_sampling_strategy(word, labels, "over-sampling")
    ours = {name: count for name, count in plan(counts, sampling_strategy=word).items() if count}
    assert ours == {name: count for name, count in theirs.items() if count}


@given(real_counts, st.data())
def test_chosen_classes_get_what_they_would_get_among_all(counts, data):
    chosen = data.draw(st.lists(st.sampled_from(list(counts)), min_size=1, unique=True))
    request = data.draw(
        st.sampled_from(
            [
                {},
                {"per_class": 7},
                {"target_per_class": 30},
                {"sampling_strategy": "all"},
                {"sampling_strategy": "minority"},
            ]
        )
    )
    everything = plan(counts, **request)
    assert plan(counts, **request, classes=chosen) == {name: everything[name] for name in counts if name in chosen}


@pytest.mark.parametrize(
    "request_",
    [
        {"per_class": 1, "sampling_strategy": "all"},
        {"per_class": 0, "target_per_class": 0},
        {"target_per_class": 5, "sampling_strategy": "minority"},
        {"per_class": 1, "target_per_class": 5, "sampling_strategy": "minority"},
    ],
)
def test_contradicting_requests_are_named(request_):
    with pytest.raises(GanaugError) as refusal:
        plan({"a": 1, "b": 2}, **request_)
    assert f"got {' and '.join(request_)}." in str(refusal.value)


def test_unknown_classes_are_named_with_the_nearest():
    with pytest.raises(GanaugError, match="unknown class 'catt': did you mean cat"):
        plan({"cat": 1, "dog": 2}, classes=("dog", "catt"))
    with pytest.raises(GanaugError, match="known classes: cat, dog"):
        resolve_classes(["xyz"], ["cat", "dog"])
    assert resolve_classes([], ["cat", "dog"]) == ("cat", "dog")


def test_a_class_that_is_not_there_is_refused_in_every_request():
    for request in ({"sampling_strategy": {"dent": 9}}, {"add": {"dent": 9}}, {"classes": ["dent"]}):
        with pytest.raises(GanaugError, match=r"unknown class 'dent': did you mean dint\?"):
            plan({"dint": 3, "scratch": 4}, **request)
