"""Complete tiny studies that several modules read. Nothing may write into them."""

import pytest
from studies import DEMO, STANDARD

from ganaug.study.compare import compare


@pytest.fixture(scope="session")
def tiny_study(tiny_run, tmp_path_factory):
    """A complete study of one GAN that drew its own images and chose its updates."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    compare(tiny_run, folder, recipe=DEMO)
    return folder


@pytest.fixture(scope="session")
def standard_study(tiny_run, tmp_path_factory):
    """A complete study of three GANs, tuned and mixed on two inner folds with GANs of their own."""
    folder = tmp_path_factory.mktemp("studies") / "standard"
    compare(tiny_run, folder, recipe=STANDARD)
    return folder
