"""A few real scans of digits, a run and a study of them, as the commands make them."""

import shutil

import pytest
from tiny import COMPARE, FIT, ganaug, write_few_digits


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Twelve training and eight test images of the digits 0, 1 and 2."""
    return write_few_digits(tmp_path_factory.mktemp("cli") / "few")


@pytest.fixture(scope="session")
def shared_run(few):
    run = few.with_name("run")
    ganaug("fit", few, "--out", run, *FIT)
    return run


@pytest.fixture
def own_run(shared_run, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(shared_run, tmp_path / "run")


@pytest.fixture(scope="session")
def study(shared_run):
    ganaug("compare", shared_run, "--out", shared_run.with_name("study"), "--set", "compare.pool_per_class=4", *COMPARE)
    return shared_run.with_name("study")
