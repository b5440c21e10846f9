"""Each filter rejects what it is there for, and that alone."""

from dataclasses import replace

import numpy as np
import pytest

from ganaug.synthesis.filters import FILTERS, Evidence, Limits, apply_filters

N = 20
LIMITS = Limits(
    class_probability=np.array([0.2, 0.5]),
    relative=np.array([0.4, 0.6]),
    distance=np.array([1.2, 1.4]),
    strangeness=np.array([2.0, 3.0]),
    unrealistic=0.0,
)
NONE_KEPT = np.empty((0, 16, 16), np.float32)


def fingerprints(count, seed=0):
    flat = np.random.default_rng(seed).normal(size=(count, 256))
    flat -= flat.mean(axis=1, keepdims=True)
    return (flat / np.linalg.norm(flat, axis=1, keepdims=True)).reshape(-1, 16, 16).astype(np.float32)


def sound():
    """Candidates of two classes in turn that nothing speaks against."""
    return Evidence(
        labels=np.arange(N) % 2,
        class_probability=np.full(N, 0.9),
        realism=np.zeros(N),
        nearest=np.zeros(N, int),
        distance=np.ones(N),
        relative=np.full(N, 0.9),
        strangeness=np.ones(N),
        fingerprints=fingerprints(N),
        features=np.zeros((N, 3), np.float32),
        cells=np.zeros(N, int),
    )


def changed(field, rows, value):
    values = getattr(sound(), field).copy()
    values[rows] = value
    return replace(sound(), **{field: values})


def rejected(evidence, limits=LIMITS, kept=NONE_KEPT, without=()):
    """{row: reasons} of the candidates that something speaks against."""
    return {row: why for row, why in enumerate(apply_filters(evidence, limits, kept, without)) if why}


def test_sound_candidates_pass_every_filter():
    assert rejected(sound()) == {}


@pytest.mark.parametrize(
    ("name", "evidence"),
    [
        ("wrong-class", changed("class_probability", [3, 4], [0.4, 0.1])),  # limits .5 and .2
        ("copy", changed("relative", [3, 4], [0.5, 0.3])),
        ("outlier", changed("strangeness", [3, 4], [3.5, 2.5])),
        ("outlier", changed("distance", [3, 4], [1.5, 1.3])),
        ("duplicate", replace(sound(), fingerprints=fingerprints(N)[[*range(3), 0, 0, *range(5, N)]])),
    ],
)
def test_every_filter_gives_its_name_as_the_reason_and_can_be_left_out(name, evidence):
    assert rejected(evidence) == {3: (name,), 4: (name,)}
    assert rejected(evidence, without=(name,)) == {}


def test_limits_are_those_of_the_candidates_class():
    assert rejected(changed("class_probability", slice(None), 0.3)) == dict.fromkeys(range(1, N, 2), ("wrong-class",))
    assert rejected(changed("relative", slice(None), 0.5)) == dict.fromkeys(range(1, N, 2), ("copy",))
    assert rejected(changed("strangeness", slice(None), 2.5)) == dict.fromkeys(range(0, N, 2), ("outlier",))


def test_the_least_real_share_of_the_candidates_is_dropped():
    evidence = replace(sound(), realism=np.arange(N)[::-1].astype(float))
    assert set(rejected(evidence, replace(LIMITS, unrealistic=0.1))) == {N - 1, N - 2}
    assert rejected(replace(evidence, realism=None), replace(LIMITS, unrealistic=0.1)) == {}


def test_all_reasons_are_given():
    evidence = replace(
        changed("relative", [2], 0.1), class_probability=changed("class_probability", [2], 0.0).class_probability
    )
    assert rejected(evidence) == {2: ("copy", "wrong-class")}


def test_a_duplicate_of_a_rejected_image_is_none_and_one_of_a_kept_image_is():
    doubled = fingerprints(N)[[*range(3), 0, *range(4, N)]]
    first_rejected = replace(changed("relative", [0], 0.1), fingerprints=doubled)
    assert rejected(first_rejected) == {0: ("copy",)}
    assert rejected(sound(), kept=fingerprints(N)[[7]]) == {7: ("duplicate",)}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_is_a_function_from_candidates_to_a_mask(name):
    mask = FILTERS[name](sound(), LIMITS, np.ones(N, bool), NONE_KEPT)
    assert mask.shape == (N,) and mask.dtype == bool and mask.all()
