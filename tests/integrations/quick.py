"""Estimators that train in a fraction of a second, images for them, and the libraries' own checks as tests."""

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ganaug.gan import member, training

QUICK = {
    "data": {"image_size": 16, "mirror": "none"},
    "fit": {
        "width": 4,
        "latent_size": 4,
        "batch_size": 4,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "validation": 0.0,
    },
    # a GAN of a few steps passes no test
    "curation": {"without": ["copy", "wrong-class", "outlier", "unrealistic", "duplicate"], "keep": 1.0},
    "compare": {"pool_per_class": 4, "batch_size": 8, "precision": "fp32", "device": "cpu"},
}


@pytest.fixture(scope="module", autouse=True)
def hasty_runs():
    """Without what a run records for later, of which an estimator keeps nothing: half of the time of so short a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(training, "describe_versions", dict)
        patch.setattr(member, "duality_gap", lambda *game: 0.0)
        yield


def quick(**stages):
    """The recipe with some settings changed: `quick(curation={"keep": 0.5})`."""
    return {stage: QUICK[stage] | stages.get(stage, {}) for stage in QUICK}


def digits(*counts):
    """Flat scans (N, 64), floats within 0..16, of the first digits, so many of each; and their labels."""
    scans = load_digits()
    rows = np.concatenate([np.flatnonzero(scans.target == k)[:count] for k, count in enumerate(counts)])
    return scans.data[rows], scans.target[rows]


def as_tests(generate, estimator, failing):
    """The checks of a library's generator; those that are `failing`, {name: reason}, must fail."""
    found = []
    for made, check in generate(estimator):
        name = check.func.__name__
        marks = pytest.mark.xfail(strict=True, reason=failing[name]) if name in failing else ()
        found.append(pytest.param(made, check, id=name, marks=marks))
    assert failing.keys() <= {param.id for param in found}, "a check that is no more"
    return found
