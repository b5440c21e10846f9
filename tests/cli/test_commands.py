"""The commands as a user types them, on real scans of digits."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import COMPARE, FIT, SHARED, ganaug, refused, stamps

from ganaug.data.manifest import read_manifest
from ganaug.data.source import open_source
from ganaug.runs import read_json
from ganaug.settings import VERDICTS


def run_in_shell(*arguments, **options):
    command = [sys.executable, "-m", "ganaug", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


# check


def test_check_of_clean_data(few):
    text = ganaug("check", few).stdout
    assert "60 readable images, 3 classes, no problems" in text


def test_check_as_json(few):
    result = ganaug("check", few, "--json")
    found = json.loads(result.stdout)  # progress goes to standard error
    assert found["classes"]["1"] == {"train": 12, "test": 8}
    assert found["exit_code"] == 0


def test_check_finds_problems(few, tmp_path):
    data = shutil.copytree(few, tmp_path / "data")
    first, second = sorted((data / "train/0").iterdir())[:2]
    first.write_bytes(first.read_bytes()[:40])
    shutil.copy(second, data / "test/1/leak.png")
    found = json.loads(ganaug("check", data, "--json", code=1).stdout)
    assert {"unreadable", "split-leak", "label-conflict"} <= {problem["kind"] for problem in found["problems"]}
    assert f"train/0/{first.name}" in ganaug("check", data, code=1).stdout


@pytest.mark.parametrize("name", ["mnist", "cifar10", "pcb-defects"])
def test_check_of_a_real_zip(name):
    path = SHARED / f"{name}.zip"
    if not path.is_file():
        pytest.skip("the shared data is not here")
    result = subprocess.run(
        [sys.executable, "-m", "ganaug", "-q", "check", "--json", path], capture_output=True, text=True
    )
    found = json.loads(result.stdout)
    assert result.returncode == found["exit_code"] in (0, 1)
    assert sum(sum(counts.values()) for counts in found["classes"].values()) > 2000


def test_check_with_nothing_to_check(tmp_path):
    (tmp_path / "cat").mkdir()
    assert "holds no images" in refused("check", tmp_path)
    assert "does not exist" in refused("check", tmp_path / "nowhere")


# fit


def test_fit_leaves_a_run_that_repeats_itself(few, shared_run, tmp_path):
    info = read_json(shared_run / "run.json")
    assert info["complete"] and info["class_names"] == ["0", "1", "2"]
    assert info["counts"] == {
        "train": {"0": 12, "1": 12, "2": 12},
        "valid": {"0": 0, "1": 0, "2": 0},
        "test": {"0": 8, "1": 8, "2": 8},
    }
    ganaug("fit", few, "--out", tmp_path / "again", "--recipe", shared_run / "recipe.yaml")
    weights = "members/joint/generator.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (shared_run / weights).read_bytes()


def test_a_dry_run_tells_and_writes_nothing(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = stamps(few)
    text = ganaug("fit", few, *FIT, "--dry-run").stdout
    assert "36 in 3 classes, 16 x 16 px" in text and "estimate: 6 steps" in text and "batch_size: 16" in text
    assert not list(tmp_path.iterdir()) and stamps(few) == before


def test_fit_resumed_when_complete_does_nothing(few, own_run):
    before = stamps(own_run)
    ganaug("fit", few, "--out", own_run, "--resume")
    assert stamps(own_run) == before


def test_fit_resumed_by_other_settings_is_refused(few, own_run):
    assert "fit.steps 6 -> 7" in refused("fit", few, "--out", own_run, "--resume", "--steps", "7")


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_a_strategy_from_fit_to_images(few, tmp_path, strategy):
    ganaug("fit", few, "--out", tmp_path / "run", *FIT, "--strategy", strategy)
    ganaug("synthesize", tmp_path / "run", "--out", tmp_path / "made", "--per-class", "2")
    assert open_source(tmp_path / "made").class_names == ("0", "1", "2")
    assert read_json(tmp_path / "run/run.json")["strategy"] == strategy


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.yaml", "fit: {steps: 3, width: 8}\ndata: {limit_per_class: 5}\n"),
        ("r.toml", "[fit]\nsteps = 3\nwidth = 8\n"),
    ],
)
def test_a_recipe_and_what_stands_over_it(few, tmp_path, name, text):
    recipe = tmp_path / name
    recipe.write_text(text)
    plain = ganaug("fit", few, "--dry-run", "--recipe", recipe).stdout
    assert "  steps: 3\n" in plain and ("15 in 3" if name == "r.yaml" else "36 in 3") in plain
    assert "  steps: 4\n" in ganaug("fit", few, "-n", "--recipe", recipe, "--set", "fit.steps=4").stdout
    assert "  steps: 5\n" in ganaug("fit", few, "-n", "--recipe", recipe, "--set", "fit.steps=4", "--steps", "5").stdout

    # synthesize


def counts_in(folder):
    return read_manifest(folder)["class"].value_counts().to_dict()


def test_synthesize_and_its_manifest(shared_run, tmp_path):
    ganaug("synthesize", shared_run, "--out", tmp_path / "a", "--per-class", "3", "--truncation", "0.5")
    table = read_manifest(tmp_path / "a")
    assert table["class"].tolist() == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert set(table["truncation"]) == {0.5} and table["seed"].nunique() == 9
    for file in table["file"]:
        with Image.open(tmp_path / "a" / file) as image:
            assert image.size == (16, 16) and image.mode == "L"


def test_seeds_decide_the_images(shared_run, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ganaug("synthesize", shared_run, "--out", tmp_path / name, "--per-class", "2", "--seed", seed)
    first = [(tmp_path / name / "1/synthetic-000000.png").read_bytes() for name in "abc"]
    assert first[0] == first[1] != first[2]


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ((), {"0": 12, "1": 12, "2": 12}),
        (("--class", "1", "--per-class", "4"), {"1": 4}),
        (("--class", "1", "--class", "2", "--target-per-class", "15"), {"1": 3, "2": 3}),
        (("--sampling-strategy", "all"), {}),
        (("--add", "2=3", "--add", "0=1"), {"0": 1, "2": 3}),
    ],
)
def test_how_many_of_which_class(shared_run, tmp_path, options, counts):
    ganaug("synthesize", shared_run, "--out", tmp_path / "made", *options)
    assert counts_in(tmp_path / "made") == counts


def test_real_images_beside_them(shared_run, few, tmp_path):
    ganaug("synthesize", shared_run, "--out", tmp_path / "both", "--per-class", "2", "--with-real", few)
    assert counts_in(tmp_path / "both") == {"0": 14, "1": 14, "2": 14}
    originals = {path.read_bytes() for path in (few / "train").rglob("*.png")}
    assert {path.read_bytes() for path in (tmp_path / "both").rglob("real-*.png")} == originals


def test_the_very_same_images_again(shared_run, tmp_path):
    ganaug("synthesize", shared_run, "--out", tmp_path / "made", "--per-class", "3", "--parquet")
    ganaug("synthesize", shared_run, "--out", tmp_path / "again", "--rebuild", tmp_path / "made/manifest.csv")
    for path in (tmp_path / "made").rglob("*.png"):
        assert (tmp_path / "again" / path.relative_to(tmp_path / "made")).read_bytes() == path.read_bytes()
    rows = pd.read_csv(tmp_path / "made/manifest.csv")
    assert len(pd.read_parquet(tmp_path / "made/manifest.parquet")) == len(rows) > 9


# audit


def test_an_audit_for_people_and_for_programs(few, tmp_path):
    beside = ("--real", few, "--mirror", "none", "--set", "fit.threads=1")
    shutil.copytree(few / "test", tmp_path / "other")
    shutil.copy(next((few / "train/1").iterdir()), tmp_path / "other/1/copied.png")
    printed = ganaug("audit", tmp_path / "other", *beside, "--json").stdout
    found = json.loads(printed)
    (copied,) = [entry for entry in found["images"] if entry["file"] == "1/copied.png"]
    assert "copy" in copied["reasons"] and not copied["kept"] and copied["nearest_real"].startswith("train/1/")
    assert found["summary"]["candidates"] == len(found["images"]) == 25
    text = ganaug(
        "audit",
        tmp_path / "other",
        "--real",
        few,
        "--mirror",
        "none",
        "--set",
        "fit.threads=1",
        "--out",
        tmp_path / "page",
    ).stdout
    assert "25 images were kept" in text and (tmp_path / "page/audit.html").is_file()
    assert "is not an empty folder" in refused("audit", few, "--real", few, "--out", tmp_path / "page")


# compare and report


def test_compare_and_report(study):
    found = read_json(study / "study.json")
    assert found["seeds"] == [0, 1] and found["updates"]["chosen"] == 5
    assert found["counts"]["test"] == {"0": 8, "1": 8, "2": 8}
    before = stamps(study)
    ganaug("report", study)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert found["sentence"].split(":")[0] in page
    assert (study / "report.md").is_file()
    assert {name: stamp for name, stamp in stamps(study).items() if name in before} == before


def test_a_study_is_repeated_by_its_seeds(shared_run, study, tmp_path):
    options = ("--set", "compare.pool_per_class=4", *COMPARE)
    ganaug("compare", shared_run, "--out", tmp_path / "again", *options)
    first, second = (read_json(folder / "study.json") for folder in (study, tmp_path / "again"))
    assert first["arms"] == second["arms"] and first["differences"] == second["differences"]


def test_a_complete_study_is_left_alone(shared_run, study):
    before = stamps(study)
    ganaug("compare", shared_run, "--out", study, "--set", "compare.pool_per_class=4", *COMPARE)
    assert stamps(study) == before


def test_more_jobs_than_trainings(shared_run, study, tmp_path):
    """Workers are processes of their own: the result must not depend on them, nor their number exceed the work."""
    options = ("--set", "compare.pool_per_class=4", *COMPARE[:-2], "--jobs", "99")
    shutil.copytree(study, tmp_path / "study")
    (tmp_path / "study/study.json").unlink()
    lost = list((tmp_path / "study/pieces").glob("scratch-real+synthetic-*.npz"))
    for path in lost:
        path.unlink()
    assert len(lost) == 2
    ganaug("compare", shared_run, "--out", tmp_path / "study", *options)
    assert read_json(tmp_path / "study/study.json")["arms"] == read_json(study / "study.json")["arms"]


def test_the_cost_of_a_study_without_training_it(shared_run, tmp_path):
    said = ganaug("compare", shared_run, "--out", tmp_path / "study", "--preset", "thorough", "-n").stdout
    assert said.startswith("thorough: 12 GANs to train") and "10 arms in 10 repetitions" in said
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_fails_a_check_where_that_is_asked(shared_run, study, tmp_path, verdict):
    copy = shutil.copytree(study, tmp_path / "study")
    found = read_json(copy / "study.json")
    (copy / "study.json").write_text(json.dumps(found | {"verdict": verdict}))
    options = ("--set", "compare.pool_per_class=4", *COMPARE)
    for failing in VERDICTS:
        result = ganaug(
            "compare", shared_run, "--out", copy, *options, "--fail-if", failing, code=1 if failing == verdict else 0
        )
        assert (f"failed: the verdict is {verdict}" in result.stderr) == (failing == verdict)
    others = [word for name in VERDICTS if name != verdict for word in ("--fail-if", name)]
    ganaug("compare", shared_run, "--out", copy, *options, *others)


def test_arms_are_chosen_by_name(shared_run, tmp_path):
    arms = ("--arms", "scratch/smote,scratch/oversampled", "--arms", "scratch/duplicated")
    ganaug("compare", shared_run, "--out", tmp_path / "study", "--set", "compare.pool_per_class=4", *arms, *COMPARE)
    found = read_json(tmp_path / "study/study.json")
    assert set(found["arms"]) == {"scratch/real", "scratch/duplicated", "scratch/oversampled", "scratch/smote"}
    assert "did you mean scratch/smote" in refused("compare", shared_run, "--arms", "scratch/smot", *COMPARE)
    assert "did you mean resnet18" in refused("compare", shared_run, "--classifier", "resnet-18", *COMPARE)


# odd but legitimate


def test_odd_class_names_survive_every_stage(few, tmp_path):
    names = ["ü ñ 猫", "with space", "qu\"ot'e", "--dash", "a,b;c", "<b>&", "%s{x}", "NaN", "train"]
    for number, name in enumerate(names):
        shutil.copytree(few / "train" / str(number % 3), tmp_path / "data" / name)
    data = tmp_path / "data"
    ganaug("fit", data, "--out", tmp_path / "run", *FIT)
    ganaug(
        "synthesize",
        tmp_path / "run",
        "--out",
        tmp_path / "made",
        "--class=--dash",
        "--class",
        "NaN",
        "--per-class",
        "1",
    )
    assert counts_in(tmp_path / "made") | {"NaN": 1} == {"--dash": 1, "NaN": 1}
    ganaug("compare", tmp_path / "run", "--set", "compare.pool_per_class=1", *COMPARE)
    ganaug("report", tmp_path / "run/study")
    assert set(read_json(tmp_path / "run/study/study.json")["class_names"]) == set(names)


# the program itself


def test_a_classifier_from_study_to_predictions(study, few, tmp_path):
    arm = "discriminator/real+synthetic"
    result = ganaug("export-classifier", study, "--out", tmp_path / "classifier.safetensors", "--arm", arm)
    assert f"next: ganaug predict {tmp_path / 'classifier.safetensors'} IMAGES" in result.stdout
    assert f"arm: {arm}; balanced accuracy on the test images: " in result.stdout
    shown = ganaug("predict", tmp_path / "classifier.safetensors", few / "test").stdout
    table = pd.read_csv(io.StringIO(shown), dtype={"class": str})
    right = [file.split("/")[0] == name for file, name in zip(table["file"], table["class"], strict=True)]
    assert np.mean(right) == pytest.approx(read_json(study / "study.json")["arms"][arm]["accuracy"][0])
    result = ganaug("predict", tmp_path / "classifier.safetensors", few / "test", "--out", tmp_path / "found.csv")
    assert f"{len(table)} predictions in {tmp_path / 'found.csv'}" in result.stdout
    assert (tmp_path / "found.csv").read_text().strip() == shown.strip()
    assert "it has scratch/real" in refused("export-classifier", study, "--out", tmp_path / "a.onnx", "--arm", "x")
    assert "cannot be read" in refused("predict", tmp_path / "nowhere", few)


def test_the_program_as_a_process(few, tmp_path):
    version = run_in_shell("--version")
    assert version.returncode == 0 and "ganaug" in version.stdout
    wrong = run_in_shell("fit", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and "Traceback" not in wrong.stderr
    fine = run_in_shell("-q", "fit", few, "--out", tmp_path / "run", *FIT)
    assert (fine.returncode, fine.stderr) == (0, "") and "next: ganaug synthesize" in fine.stdout
