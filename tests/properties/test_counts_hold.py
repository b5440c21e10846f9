"""What must be true of any plan of counts, whichever way it was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.settings import SynthesizeSettings
from ganaug.synthesis.plan import COUNT_REQUESTS, call_strategy, plan_counts, resolve_classes

real_counts = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 60), min_size=1, max_size=6)
amounts = st.integers(0, 100)
WORDS = ("all", "auto", "not-majority", "not-minority", "minority")


@st.composite
def requests(draw, counts):
    """Settings that ask for images of these classes, in one of the ways that there are, or in none."""
    name = draw(st.sampled_from([None, *COUNT_REQUESTS]))
    if name is None:
        return {}
    if name == "add":
        return {name: draw(st.dictionaries(st.sampled_from(list(counts)), amounts))}
    if name == "sampling_strategy":
        totals = {each: count + draw(amounts) for each, count in counts.items() if draw(st.booleans())}
        return {name: draw(st.sampled_from([*WORDS, totals]))}
    return {name: draw(amounts)}


def plan(counts, **settings):
    return plan_counts(SynthesizeSettings(**settings), counts)


@given(real_counts, st.data())
def test_a_plan_asks_for_no_less_than_nothing_of_known_classes_in_their_order(counts, data):
    planned = plan(counts, **data.draw(requests(counts)))
    assert all(count >= 0 for count in planned.values())
    assert list(planned) == [name for name in counts if name in planned]


@given(real_counts, st.data())
def test_the_order_of_classes_changes_no_count(counts, data):
    request = data.draw(requests(counts))
    turned = dict(reversed(counts.items()))
    assert plan(turned, **request) == plan(counts, **request)


@given(real_counts, st.data())
def test_a_choice_of_classes_takes_away_the_others_and_nothing_else(counts, data):
    request = data.draw(requests(counts))
    chosen = data.draw(st.lists(st.sampled_from(list(counts)), unique=True))
    everything = plan(counts, **request)
    expected = {name: count for name, count in everything.items() if name in (chosen or counts)}
    assert plan(counts, **request, classes=chosen) == expected


@given(real_counts, st.sampled_from(WORDS))
def test_balanced_classes_lack_nothing_and_balancing_twice_adds_nothing(counts, word):
    planned = plan(counts, sampling_strategy=word)
    totals = {name: count + planned[name] for name, count in counts.items()}
    assert max(totals.values()) == max(counts.values())
    if word in ("all", "auto", "not-majority"):
        assert not any(plan(totals, sampling_strategy=word).values())


@given(real_counts, amounts)
def test_the_same_total_of_each_class_is_its_mapping_of_totals(counts, more):
    total = max(counts.values()) + more
    assert plan(counts, target_per_class=total) == plan(counts, sampling_strategy=dict.fromkeys(counts, total))


@given(real_counts, st.data())
def test_a_function_and_its_totals_ask_for_the_same(counts, data):
    totals = {name: count + data.draw(amounts) for name, count in counts.items()}
    found = call_strategy(lambda labels: {name: totals[name] for name in labels}, counts)
    assert found == totals and plan(counts, sampling_strategy=found) == plan(counts, sampling_strategy=totals)


@given(real_counts, st.data())
def test_two_requests_contradict_each_other(counts, data):
    first, second = data.draw(requests(counts)), data.draw(requests(counts))
    if len(first | second) < 2:
        plan(counts, **(first | second))
        return
    try:
        plan(counts, **first, **second)
    except GanaugError as refusal:
        assert " and ".join(name for name in COUNT_REQUESTS if name in first | second) in str(refusal)
    else:
        raise AssertionError("two requests were taken for one")


@given(real_counts, st.text("abcdefg", min_size=1, max_size=5))
def test_only_unknown_classes_are_refused(counts, name):
    try:
        assert resolve_classes([name], counts) == (name,) and name in counts
    except GanaugError as refusal:
        assert name not in counts and repr(name) in str(refusal)
