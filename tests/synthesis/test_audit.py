"""Images of any origin: planted copies, wrong classes, duplicates and broken files are named, and sound ones are left alone."""

import json
import shutil

import numpy as np
import pytest
from hurry import with_other
from test_curation import bars

from ganaug import GanaugError, audit
from ganaug.data.images import encode_png
from ganaug.gan import judge
from ganaug.synthesis import referees

NAMES = ("lying", "standing")
RECIPE = {"data": {"mirror": "none"}, "fit": {"threads": 1}}


@pytest.fixture(scope="module", autouse=True)
def trained_judges():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(referees, "train_judge", with_other(judge.train_judge, judge, NUM_UPDATES=100))
        yield


def write(folder, images, labels, prefix=""):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / NAMES[label] / f"{prefix}{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image.transpose(1, 2, 0)))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "real"
    write(folder / "train", *bars(20))
    write(folder / "test", *bars(15, seed=7))
    return folder


@pytest.fixture(scope="module")
def synthetic(real):
    """Thirty other bars of each class, of which some were tampered with."""
    folder = real.with_name("synthetic")
    images, labels = bars(30, seed=3)
    write(folder, images, labels)
    copy = bars(20)[0][4].copy()
    copy[:, :, 1:] = copy[:, :, :-1].copy()  # a pixel to the right
    write(folder, copy[None], [0], "copy-")
    write(folder, images[1:2], [0], "moved-")  # a standing bar among the lying ones
    shutil.copy(folder / "standing/005.png", folder / "standing/zz-again.png")
    (folder / "lying/broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(synthetic, real):
    return audit(synthetic, real, synthetic.with_name("audit"), recipe=RECIPE, device="cpu")


def reasons(found, file):
    (entry,) = [entry for entry in found["images"] if entry["file"] == file]
    assert entry["kept"] == (not entry["reasons"])
    return entry["reasons"]


def test_what_was_planted_is_named(found):
    assert "copy" in reasons(found, "lying/copy-000.png")
    assert "wrong-class" in reasons(found, "lying/moved-000.png")
    assert "duplicate" in reasons(found, "standing/zz-again.png")
    assert reasons(found, "lying/broken.png") == ["unreadable"]


def test_a_copy_names_its_original(found):
    (entry,) = [entry for entry in found["images"] if entry["file"] == "lying/copy-000.png"]
    assert entry["nearest_real"] == "train/lying/004.png" and entry["relative_distance"] < 0.2


def test_most_sound_images_are_kept(found):
    sound = [entry for entry in found["images"] if entry["file"].split("/")[1][0].isdigit()]
    assert len(sound) == 60 and sum(entry["kept"] for entry in sound) >= 48


def test_counts_agree(found):
    assert found["summary"]["candidates"] == len(found["images"]) == 64
    assert found["summary"]["kept"] == sum(entry["kept"] for entry in found["images"])
    for name, values in found["classes"].items():
        mine = [entry for entry in found["images"] if entry["class"] == name]
        assert values["candidates"] == len(mine) and values["kept"] == sum(entry["kept"] for entry in mine)
        for reason, count in values["rejected"].items():
            assert count == sum(reason in entry["reasons"] for entry in mine)


def test_fidelity_and_diversity_of_each_class(found):
    for values in found["classes"].values():
        assert values["compared"] == 15
        assert all(0 <= values[name] <= 1 for name in ("precision", "recall", "coverage"))
        assert values["precision"] > 0.4 and values["coverage"] > 0.4 and np.isfinite(values["kid"])


def test_the_folder_holds_the_same_and_a_page(found, synthetic):
    folder = synthetic.with_name("audit")
    assert sorted(path.name for path in folder.iterdir()) == ["audit.html", "audit.json"]
    assert json.loads((folder / "audit.json").read_text()) == json.loads(json.dumps(found))
    page = (folder / "audit.html").read_text()
    assert "copy-000.png" in page and "<script" not in page


def test_nothing_was_changed(found, synthetic):
    assert sum(1 for path in synthetic.rglob("*") if path.is_file()) == 64


def test_without_a_split_everything_real_is_compared(real, tmp_path):
    write(tmp_path / "few", *bars(4, seed=3))
    found = audit(tmp_path / "few", real / "train", recipe=RECIPE, device="cpu")
    assert {values["real"] for values in found["classes"].values()} == {20}
    assert len(found["images"]) == 8


def test_unknown_classes_are_refused(real, tmp_path):
    write(tmp_path / "few", *bars(4, seed=3))
    (tmp_path / "few/lying").rename(tmp_path / "few/leaning")
    with pytest.raises(GanaugError, match=r"has classes that .* does not have: leaning"):
        audit(tmp_path / "few", real)
