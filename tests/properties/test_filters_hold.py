"""What must be true of the filters and of the choice among candidates, whatever the evidence."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganaug.data.duplicates import near_pairs
from ganaug.synthesis.curation import choose_spread
from ganaug.synthesis.filters import FILTERS, Evidence, Limits, apply_filters

NUM_CLASSES = 3
PICTURES = np.random.default_rng(0).normal(size=(4, 256))
ALONE = tuple(name for name in FILTERS if name != "duplicate")  # filters that judge each candidate by itself


def prints(recipes):
    """(number of a picture, how far it has gone towards the next one) -> fingerprints, of which some are near pairs."""
    flat = np.array([PICTURES[i % 4] + share * PICTURES[(i + 1) % 4] for i, share in recipes]).reshape(-1, 256)
    flat -= flat.mean(axis=1, keepdims=True)
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).reshape(-1, 16, 16).astype(np.float32)


shown = st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.03, 0.06, 0.09, 0.5]))


def values(count, high):
    return arrays.arrays(np.float64, count, elements=st.integers(0, 20).map(lambda step: high * step / 20))


@st.composite
def candidates(draw):
    count = draw(st.integers(1, 12))
    return Evidence(
        labels=draw(arrays.arrays(np.int64, count, elements=st.integers(0, NUM_CLASSES - 1))),
        class_probability=draw(values(count, 1)),
        realism=draw(st.none() | values(count, 8)),
        nearest=np.zeros(count, np.int64),
        distance=draw(values(count, 2)),
        relative=draw(values(count, 1)),
        strangeness=draw(values(count, 4)),
        fingerprints=prints(draw(st.lists(shown, min_size=count, max_size=count))),
        features=np.zeros((count, 2), np.float32),
        cells=np.zeros(count, np.int64),
    )


@st.composite
def thresholds(draw):
    return Limits(
        class_probability=draw(values(NUM_CLASSES, 1)),
        relative=draw(values(NUM_CLASSES, 1)),
        distance=draw(values(NUM_CLASSES, 2)),
        strangeness=draw(values(NUM_CLASSES, 4)),
        unrealistic=draw(st.sampled_from([0.0, 0.05, 0.3])),
    )


kept_ones = st.lists(shown, max_size=4).map(prints)
some_filters = st.sets(st.sampled_from(list(FILTERS))).map(tuple)


def at(evidence, rows):
    """The evidence on some of the candidates, in that order."""
    found = {field.name: getattr(evidence, field.name) for field in fields(evidence)}
    return Evidence(**{name: value if value is None else value[rows] for name, value in found.items()})


@given(candidates(), thresholds(), kept_ones, some_filters)
def test_reasons_are_names_of_filters_once_and_in_their_order(evidence, limits, kept, without):
    order = list(FILTERS)
    reasons = apply_filters(evidence, limits, kept, without)
    assert len(reasons) == len(evidence.labels)
    for names in reasons:
        assert not set(names) & set(without) and sorted(set(names), key=order.index) == list(names)
    if set(without) == set(FILTERS):
        assert not any(reasons)


@given(candidates(), thresholds(), kept_ones, st.sampled_from(ALONE))
def test_a_filter_left_out_takes_its_reason_and_no_other_with_it(evidence, limits, kept, name):
    every = apply_filters(evidence, limits, kept, ("duplicate",))
    fewer = apply_filters(evidence, limits, kept, ("duplicate", name))
    assert fewer == [tuple(reason for reason in reasons if reason != name) for reasons in every]


@given(candidates(), thresholds(), kept_ones, st.integers(1, 4))
def test_wider_limits_reject_none_but_what_narrower_ones_reject(evidence, limits, kept, steps):
    wider = Limits(
        class_probability=limits.class_probability - 0.1 * steps,
        relative=limits.relative - 0.1 * steps,
        distance=limits.distance + 0.1 * steps,
        strangeness=limits.strangeness + 0.1 * steps,
        unrealistic=limits.unrealistic / (steps + 1),
    )
    narrow, wide = (apply_filters(evidence, each, kept, ("duplicate",)) for each in (limits, wider))
    assert all(set(fewer) <= set(more) for fewer, more in zip(wide, narrow, strict=True))


@given(candidates(), thresholds(), kept_ones, st.randoms(use_true_random=False))
def test_the_order_of_candidates_counts_for_duplicates_alone(evidence, limits, kept, random):
    rows = list(range(len(evidence.labels)))
    random.shuffle(rows)
    found = apply_filters(at(evidence, rows), limits, kept, ("duplicate",))
    assert found == [apply_filters(evidence, limits, kept, ("duplicate",))[row] for row in rows]


@given(candidates(), thresholds(), kept_ones)
def test_what_passes_shows_no_picture_twice_and_what_is_a_duplicate_has_a_twin_before_it(evidence, limits, kept):
    reasons = apply_filters(evidence, limits, kept)
    passed = [row for row, names in enumerate(reasons) if not names]
    prints_of_passed = np.concatenate([kept, evidence.fingerprints[passed]])
    twins = near_pairs(prints_of_passed)
    assert (twins < len(kept)).all(), "among the kept ones alone"
    for row, names in enumerate(reasons):
        if "duplicate" in names:
            assert names == ("duplicate",), "what another filter rejects is no duplicate"
            before = np.concatenate([kept, evidence.fingerprints[[i for i in passed if i < row]]])
            pairs = near_pairs(np.concatenate([before, evidence.fingerprints[[row]]]))
            assert (pairs[:, 1] == len(before)).any()


@given(candidates(), thresholds(), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_no_more_are_unrealistic_than_their_share(evidence, limits, share):
    others = tuple(name for name in FILTERS if name != "unrealistic")
    reasons = apply_filters(evidence, replace(limits, unrealistic=share), prints([]), others)
    rejected = [row for row, names in enumerate(reasons) if names]
    assert len(rejected) <= np.ceil(share * len(reasons))
    if evidence.realism is None:
        assert not rejected
    elif rejected:
        accepted = [row for row in range(len(reasons)) if row not in rejected]
        assert evidence.realism[rejected].max() < evidence.realism[accepted].min()


@st.composite
def classes_of_cells(draw):
    num_cells = draw(st.integers(1, 5))
    sizes = np.array(draw(st.lists(st.integers(1, 9), min_size=num_cells, max_size=num_cells)))
    cells = np.array(draw(st.lists(st.integers(0, num_cells - 1), max_size=40)), np.int64)
    passed = [i for i in range(len(cells)) if draw(st.booleans())]
    return cells, draw(st.permutations(passed)), sizes / sizes.sum()


@given(classes_of_cells(), st.integers(0, 40), st.integers(0, 40))
def test_a_choice_in_two_parts_keeps_the_quota_and_is_that_in_one(case, first, second):
    cells, passed, shares = case
    at_once, in_parts = np.zeros(len(shares), np.int64), np.zeros(len(shares), np.int64)
    whole = choose_spread(cells, passed, shares, at_once, first + second)
    begun = choose_spread(cells, passed, shares, in_parts, first)
    rest = choose_spread(cells, [i for i in passed if i not in begun], shares, in_parts, second)
    assert len(whole) == min(first + second, len(passed)) and [*begun, *rest] == whole
    assert at_once.tolist() == in_parts.tolist() == np.bincount(cells[whole], minlength=len(shares)).tolist()


@given(classes_of_cells(), st.integers(0, 40))
def test_within_a_cell_the_choice_keeps_the_order_and_no_cell_outruns_its_share_while_others_have_more(case, most):
    cells, passed, shares = case
    taken = np.zeros(len(shares), np.int64)
    chosen = choose_spread(cells, passed, shares, taken, most)
    for cell in range(len(shares)):
        mine = [i for i in passed if cells[i] == cell]
        assert [i for i in chosen if cells[i] == cell] == mine[: taken[cell]]
    if all(taken[cell] < sum(cells[i] == cell for i in passed) for cell in range(len(shares))):
        assert (taken <= shares * taken.sum() + 1 + 1e-9).all()
