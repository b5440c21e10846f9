"""What the commands must refuse: one message, no traceback, nothing lost."""

import os
import shutil

import pytest
from tiny import COMPARE, FIT, IS_ROOT, ganaug, refused, stamps


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
    "no unit": (lambda few, tmp: ("run", few, "--out", tmp / "all", "--budget", "10"), "give a unit: 10m"),
    "no unit of a setting": (lambda few, tmp: ("fit", few, "-n", "--set", "fit.budget=10"), "give a unit: 10m"),
    "diverging": (
        lambda few, tmp: ("fit", few, "--out", tmp / "run", *FIT, "--set", "fit.learning_rate=1e9"),
        "diverged",
    ),
    "too large": (
        lambda few, tmp: ("fit", few, "--out", tmp / "run", *FIT, "--set", "fit.width=1000000"),
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


def test_a_run_for_nothing_leaves_nothing(few, tmp_path):
    assert "does not exist" in refused("run", tmp_path / "nowhere", "--out", tmp_path / "result")
    shutil.copytree(few / "train/0", tmp_path / "data/0")
    assert "one class alone" in refused("run", tmp_path / "data", "--out", tmp_path / "result")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    (tmp_path / "result").mkdir()
    refused("run", tmp_path / "nowhere", "--out", tmp_path / "result")
    assert not list((tmp_path / "result").iterdir())


def test_a_damaged_piece_of_a_study_is_named(shared_run, study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "study")
    (copy / "study.json").unlink()
    piece = next((copy / "pieces").glob("scratch-real-*.npz")).name
    spoil(copy, f"pieces/{piece}", b"abc")
    options = ("--set", "compare.pool_per_class=4", *COMPARE)
    assert f"{piece} cannot be read" in refused("compare", shared_run, "--out", copy, *options)


def test_a_damaged_file_of_an_unfinished_study_is_named(shared_run, study, tmp_path):
    copy = shutil.copytree(study, tmp_path / "study")
    (copy / "study.json").unlink()
    spoil(copy, "pace.json", b"{}")
    options = ("--set", "compare.pool_per_class=4", *COMPARE)
    assert "pace.json is damaged: it lacks seconds_per_update" in refused(
        "compare", shared_run, "--out", copy, *options
    )


@pytest.mark.parametrize("content", [b"{}", b"[", b'{"classes": {}}'])
def test_a_damaged_check_of_the_data_is_named(own_run, tmp_path, content):
    spoil(own_run, "check.json", content)
    assert "check.json" in refused("compare", own_run, "--out", tmp_path / "study", *COMPARE)
    assert not (tmp_path / "study").exists()  # nothing has been trained in vain


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
