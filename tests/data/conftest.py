"""Small folders of real image files."""

import zipfile
from pathlib import Path

import pytest
from folders import write_image

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def shared_data():
    """The folder of the four real data sets, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the shared data is not here")
    return SHARED


@pytest.fixture
def make_folder(tmp_path):
    """`make_folder({"cat": 3, "train/dog": 2})`: a folder with that many different images in each place."""

    def make(counts, name="data", size=(24, 24), mode="RGB", suffix=".png"):
        root = tmp_path / name
        seed = 0
        for place, count in counts.items():
            (root / place).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                seed += 1
                write_image(root / place / f"{index}{suffix}", seed, size, mode)
        return root

    return make


@pytest.fixture
def make_zip(tmp_path):
    """Packs a folder into a zip, below an optional wrapping folder."""

    def make(folder, wrapper=""):
        path = tmp_path / f"{folder.name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, wrapper + file.relative_to(folder).as_posix())
        return path

    return make
