"""One core, hasty checkpoints, and one tiny trained run that many tests read. Nothing may write into the session's folders."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from hurry import hurry
from hypothesis import settings
from small import CLASS_NAMES, TEST_PER_CLASS, TINY, TRAIN_COUNTS

import ganaug.study.pieces
from ganaug.gan import crew, training
from ganaug.gan.training import fit
from ganaug.pipeline import write_digits
from ganaug.synthesis.synthesize import synthesize

settings.register_profile("ganaug", max_examples=30, deadline=None)  # no test asserts a speed
settings.register_profile(
    "thorough", max_examples=10_000, deadline=None, database=None
)  # recipes/benchmarks/properties.py
settings.load_profile("ganaug")


@pytest.fixture(scope="module")
def browser():
    """A real headless Chromium, where there is one."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    if not os.access(chromium, os.X_OK):
        pytest.skip("no chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="session", autouse=True)
def no_handler_of_coverage():
    """It would be taken for somebody else's, which stay."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def one_core():
    """The program sees a single core: nothing runs in parallel, and what a test patches is what runs."""
    with pytest.MonkeyPatch.context() as patch:
        for stage in (training, crew, ganaug.study.pieces):
            patch.setattr(stage, "num_cores", lambda: 1)
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session", autouse=True)
def hasty_checkpoints():
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder of a few of scikit-learn's digits: train/ with TRAIN_COUNTS, test/ with TEST_PER_CLASS of each class."""
    import numpy as np
    from sklearn import datasets

    scans = datasets.load_digits()
    rows = np.concatenate([np.flatnonzero(scans.target == k)[: 8 + TEST_PER_CLASS] for k in range(len(CLASS_NAMES))])
    few = SimpleNamespace(images=scans.images[rows], target=scans.target[rows])
    folder = tmp_path_factory.mktemp("digits") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", lambda: few)
        write_digits(folder, per_class=8)
    for name, count in TRAIN_COUNTS.items():
        for extra in sorted((folder / "train" / name).iterdir())[count:]:
            extra.unlink()
    return folder


@pytest.fixture(scope="session")
def tiny_run(digits, tmp_path_factory):
    """A complete run of the joint strategy."""
    return fit(digits, tmp_path_factory.mktemp("runs") / "joint", recipe=TINY)


@pytest.fixture(scope="session")
def tiny_synthetic(tiny_run, tmp_path_factory):
    """Five synthetic images of each class, with seed 0."""
    folder = tmp_path_factory.mktemp("synthetic") / "five"
    synthesize(tiny_run, folder, recipe={"synthesize": {"per_class": 5}}, device="cpu")
    return folder
