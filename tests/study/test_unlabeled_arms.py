"""A study of a run that has learned from unlabeled images, too."""

from dataclasses import replace

import numpy as np
import pytest
from small import with_settings
from studies import DEMO, STANDARD

from ganaug import GanaugError
from ganaug.data.cache import load
from ganaug.data.images import encode_png
from ganaug.gan import training
from ganaug.gan.training import fit
from ganaug.recipe import load_recipe
from ganaug.reporting.page import report
from ganaug.runs import read_json
from ganaug.study.arms import BASELINE, FACTORIAL, SELF_TRAINED
from ganaug.study.compare import compare
from ganaug.study.material import Sources, found_labels

BOTH = "scratch/real+unlabeled+synthetic"


@pytest.fixture(scope="module", autouse=True)
def always_sure():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SURE", 0.0)
        yield


@pytest.fixture(scope="module")
def unlabeled_run(digits, tmp_path_factory):
    heap = tmp_path_factory.mktemp("heap")
    rng = np.random.default_rng(0)
    for number in range(9):
        (heap / f"{number}.png").write_bytes(encode_png(rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)))
    return fit(digits, tmp_path_factory.mktemp("runs") / "run", recipe=with_settings(data={"unlabeled": heap}))


@pytest.fixture(scope="module")
def study(unlabeled_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "study"
    return compare(unlabeled_run, folder, recipe=STANDARD)


def test_both_arms_are_compared_with_the_baseline_and_with_one_another(study):
    assert set(study.scores["arm"]) == {*FACTORIAL, SELF_TRAINED, BOTH}
    asked = set(zip(study.differences["arm"], study.differences["baseline"], strict=True))
    assert {(SELF_TRAINED, BASELINE), (BOTH, BASELINE), (BOTH, SELF_TRAINED)} <= asked
    assert ("scratch/real+synthetic", SELF_TRAINED) in asked  # what could have done the same without a GAN


def test_every_unit_has_looked_at_the_unlabeled_images(study):
    units = sorted((study.folder / "units").iterdir())
    assert len(units) == 4  # two more GANs, two folds
    found = [load(unit / "data").unlabeled for unit in units]
    assert all(each.labels is not None and (each.labels >= 0).all() for each in found)


def test_the_unlabeled_images_are_trained_on_as_real_ones(unlabeled_run):
    sources = Sources(unlabeled_run, {"unit": unlabeled_run}, {}, None, load_recipe(), {})
    images = sources.images("unit")
    plain, more = (sources.material("unit", "", 0, None, own=False, unlabeled=which) for which in (False, True))
    np.testing.assert_array_equal(plain.train.images, images.subset("train")[0])
    np.testing.assert_array_equal(more.train.images[: len(plain.train.labels)], plain.train.images)
    np.testing.assert_array_equal(more.train.images[len(plain.train.labels) :], images.unlabeled.images)
    np.testing.assert_array_equal(more.judged, plain.judged)


def test_without_tuning_and_with_given_images(unlabeled_run, tiny_synthetic, tmp_path):
    wanted = DEMO["compare"] | {"updates": 2, "arms": (SELF_TRAINED, BOTH)}
    found = compare(unlabeled_run, tmp_path / "study", synthetic=tiny_synthetic, recipe={"compare": wanted})
    assert set(found.scores["arm"]) == {BASELINE, SELF_TRAINED, BOTH}
    assert read_json(tmp_path / "study/study.json")["primary"]["arm"] == BOTH


def test_the_report_names_them(study, tmp_path):
    text = report(study.folder, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "real + unlabeled" in text and "real + unlabeled + synthetic" in text


def test_unlabeled_images_that_nobody_has_looked_at_are_refused(unlabeled_run):
    images = load(unlabeled_run / "data")
    assert len(found_labels(images, "split-0").labels) == 9
    for unlabeled in (None, replace(images.unlabeled, labels=None)):
        with pytest.raises(GanaugError, match="split-0 has no unlabeled images whose classes were found"):
            found_labels(replace(images, unlabeled=unlabeled), "split-0")
