"""The commands as a user types them, on real scans of digits."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image
from tiny import COMPARE, FIT, IS_ROOT, SHARED, ganaug, refused, stamps, write_few_digits

from ganaug.data.manifest import read_manifest
from ganaug.data.source import open_source
from ganaug.runs import read_json
from ganaug.settings import VERDICTS


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


# what must be refused, with one message


def spoil(run, name, content):
    (run / name).write_bytes(content)
    return run


BAD_FITS = {
    "missing data": (lambda few, tmp: ("fit", tmp / "nowhere", "--out", tmp / "run"), "does not exist"),
    "a file": (lambda few, tmp: ("fit", __file__, "--out", tmp / "run"), "neither a folder nor a zip"),
    "no class folders": (lambda few, tmp: ("fit", few / "train/0", "--out", tmp / "run"), "directly in the root"),
    "no --out": (lambda few, tmp: ("fit", few), "needs --out"),
    "--out not empty": (lambda few, tmp: ("fit", few, "--out", few.parent), "is not empty"),
    "--out a file": (lambda few, tmp: ("fit", few, "--out", __file__), "is not empty"),
    "--out in the data": (lambda few, tmp: ("fit", few, "--out", few / "train/run"), "lies inside the data"),
    "run in the data": (lambda few, tmp: ("run", few, "--out", few / "result"), "lies inside the data"),
    "another GPU": (lambda few, tmp: ("fit", few, "--out", tmp / "run", "--device", "cuda:99"), "not on this machine"),
    "no such device": (lambda few, tmp: ("fit", few, "--out", tmp / "run", "--device", "banana"), "unknown device"),
    "size": (lambda few, tmp: ("fit", few, "--out", tmp / "run", "--image-size", "17"), "'17' is not one of"),
    "wrong type": (lambda few, tmp: ("fit", few, "-n", "--steps", "many"), "fit.steps = 'many'"),
    "unknown key": (lambda few, tmp: ("fit", few, "-n", "--set", "fit.step=3"), "did you mean fit.steps?"),
    "unknown stage": (lambda few, tmp: ("fit", few, "-n", "--set", "fitt.steps=3"), "did you mean fit?"),
    "no equals sign": (lambda few, tmp: ("fit", few, "-n", "--set", "fit.steps"), "expects stage.key=value"),
    "order": (lambda few, tmp: ("fit", few, "-n", "--set", "fit.augment_limits=[0.9,0.1]"), "smaller value first"),
    "regex": (lambda few, tmp: ("fit", write_few_flat(few, tmp), "-n", "--group-regex", "("), "regular expression"),
    "no recipe": (lambda few, tmp: ("fit", few, "-n", "--recipe", tmp / "nowhere.yaml"), "cannot be read"),
    "budget": (lambda few, tmp: ("run", few, "--out", tmp / "all", "--budget", "soon"), "expected a duration"),
    "diverging": (
        lambda few, tmp: ("fit", few, "--out", tmp / "run", *FIT, "--set", "fit.learning_rate=1e30"),
        "diverged",
    ),
    "too large": (
        lambda few, tmp: ("fit", few, "--out", tmp / "run", *FIT, "--set", "fit.width=10000000000"),
        "out of memory",
    ),
}


def write_few_flat(few, tmp):
    return shutil.copytree(few / "train", tmp / "flat")


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_of_fit(few, tmp_path, case):
    arguments, message = BAD_FITS[case]
    before = stamps(few)
    assert message in refused(*arguments(few, tmp_path))
    assert stamps(few) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "fit: {steps: x}", "fit.steps = 'x'"),
        ("a.yaml", "fit: {stepps: 3}", "did you mean fit.steps?"),
        ("a.yaml", "- 1", "must hold sections"),
        ("a.yaml", "fit: [", "not valid YAML"),
        ("a.toml", "[fit", "not valid TOML"),
        ("a.yaml", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_recipes(few, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refused("fit", few, "--dry-run", "--recipe", tmp_path / name)


def test_every_wrong_setting_is_named_at_once(few):
    message = refused("fit", few, "-n", "--set", "fit.steps=x", "--set", "compare.seeds=1")
    assert "fit.steps" in message and "compare.seeds" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--class", "seven"), "unknown class 'seven'"),
        (("--per-class", "2", "--sampling-strategy", "all"), "got per_class and sampling_strategy"),
        (("--per-class", "-1"), "greater than or equal to 0"),
        (("--truncation", "2"), "less than or equal to 1"),
        (("--device", "cuda:99"), "not on this machine"),
        (("--with-real", "nowhere"), "does not exist"),
        (("--add", "seven=1"), "unknown class 'seven'"),
        (("--add", "1"), "expects CLASS=N"),
        (("--add", "1=2", "--per-class", "2"), "got per_class and add"),
        (("--no-filter", "ugly"), "'ugly' is not one of 'copy'"),
        (("--add", "1=2", "--add", "1=3"), "twice"),
        (("--rebuild", "nowhere"), "cannot be read"),
        (("--rebuild", "nowhere", "--per-class", "3"), "no other options"),
    ],
)
def test_bad_input_of_synthesize(shared_run, tmp_path, options, message):
    assert message in refused("synthesize", shared_run, "--out", tmp_path / "made", *options)
    assert not (tmp_path / "made").exists()


def test_nothing_is_written_over(shared_run, few):
    before = stamps(few)
    assert "nothing in it is overwritten" in refused("synthesize", shared_run, "--out", few)
    assert stamps(few) == before


@pytest.mark.parametrize("command", ["synthesize", "compare"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"", "cannot be read as JSON"),
        ("run.json", b"[]", "must hold a JSON object"),
        ("run.json", b'{"complete": true}', "is damaged: it lacks class_names"),
        ("run.json", b'{"complete": true, "schema": 9}', "Update ganaug"),
        ("run.json", b'{"complete": false}', "--resume"),
        ("members/joint/generator.safetensors", b"x" * 500, "cannot be loaded"),
        ("members/joint/generator.safetensors", b"", "cannot be loaded"),
        ("members/joint/member.json", b'{"shape": {}}', "is damaged: it lacks"),
    ],
)
def test_a_damaged_run(own_run, tmp_path, command, name, content, message):
    spoil(own_run, name, content)
    assert message in refused(command, own_run, "--out", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY"])
def test_damaged_images_of_a_run(own_run, tmp_path, content):
    spoil(own_run, "data/images.npy", content)
    assert "cannot be read" in refused("compare", own_run, "--out", tmp_path / "out")


def test_what_is_no_run_or_study(few, tmp_path):
    for command in ("synthesize", "compare"):
        assert "is not a run" in refused(command, few, "--out", tmp_path / "out")
    assert "is not a finished study" in refused("report", few)
    assert "is not a folder" in refused("report", tmp_path / "nowhere")


def test_a_damaged_piece_of_a_study_is_named(shared_run, study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "study")
    (copy / "study.json").unlink()
    piece = next((copy / "pieces").glob("scratch-real-*.npz")).name
    spoil(copy, f"pieces/{piece}", b"abc")
    options = ("--set", "compare.pool_per_class=4", *COMPARE)
    assert f"{piece} cannot be read" in refused("compare", shared_run, "--out", copy, *options)


def test_lost_losses_do_not_cost_the_verdict(own_run, tmp_path):
    spoil(own_run, "members/joint/metrics.csv", b"")
    result = ganaug("compare", own_run, "--out", tmp_path / "study", "--set", "compare.pool_per_class=4", *COMPARE)
    assert "the losses of joint cannot be read" in result.stderr
    ganaug("report", tmp_path / "study")


def test_other_peoples_classes_are_refused(shared_run, few, tmp_path):
    shutil.copytree(few / "train/0", tmp_path / "made/zebra")
    assert "does not know: zebra" in refused("compare", shared_run, "--synthetic", tmp_path / "made", *COMPARE)


def test_one_class_is_enough_to_fit_but_not_to_compare(few, tmp_path):
    shutil.copytree(few / "train/0", tmp_path / "data/0")
    assert "one class alone" in refused("run", tmp_path / "data", "--out", tmp_path / "all", *FIT[:-2])
    ganaug("fit", tmp_path / "data", "--out", tmp_path / "run", *FIT)
    assert "one class alone" in refused("compare", tmp_path / "run", *COMPARE)


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(few, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused("fit", few, "--out", tmp_path / "locked" / "run", *FIT)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc, which not even root can write to")  # noqa: PTH112
def test_a_place_that_no_one_can_write_to(few):
    assert "/proc/" in refused("fit", few, "--out", "/proc/nowhere/run", *FIT)


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


def test_the_program_as_a_process(few, tmp_path):
    version = run_in_shell("--version")
    assert version.returncode == 0 and "ganaug" in version.stdout
    wrong = run_in_shell("fit", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and "Traceback" not in wrong.stderr
    fine = run_in_shell("-q", "fit", few, "--out", tmp_path / "run", *FIT)
    assert (fine.returncode, fine.stderr) == (0, "") and "next: ganaug synthesize" in fine.stdout
