"""A small synthetic folder for the tests of the page."""

import pytest
from synthetic_folder import write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "augmented")
