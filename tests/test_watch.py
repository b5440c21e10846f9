"""Signs of life: what a long stage leaves in its folder, and what `ganaug status` makes of it."""

import json
import os
import shutil
import socket
import time

import pytest
from small import TINY
from tiny import IS_ROOT, ganaug, python

from ganaug import progress
from ganaug.errors import GanaugError
from ganaug.gan import member, training
from ganaug.gan.training import fit
from ganaug.progress import signs_in, track
from ganaug.reporting.page import report
from ganaug.runs import STATUS, RunFolder, read_json, write_json
from ganaug.study.export import export_classifier
from ganaug.watch import STAGES, Status, format_status, status

GONE = 2**22 + 1  # no process has this number


def sign(folder):
    return json.loads((folder / STATUS).read_text())


def begun(folder, **changes):
    """An interrupted run, or one under way: with the sign of this process, or `changes` to it."""
    write_json(folder / "run.json", {"schema": 1, "complete": False, "source": "images"})
    content = {
        "label": "fit joint",
        "done": 40,
        "total": 100,
        "unit": " %",
        "seconds_left": 90.0,
        "note": "D sees more",
    }
    write_json(
        folder / STATUS, {**content, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), **changes}
    )
    return folder


def test_a_block_leaves_its_state_and_removes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SIGN_INTERVAL", 0.0)
    with signs_in(tmp_path):
        assert list(tmp_path.iterdir()) == []
        with track("steps", 8, 2, " %") as advance:
            first = sign(tmp_path)
            assert (first["label"], first["done"], first["total"], first["unit"]) == ("steps", 2, 8, " %")
            assert first["seconds_left"] is None and first["pid"] == os.getpid()
            time.sleep(0.02)
            advance(4, "well")
            later = sign(tmp_path)
            assert later["done"] == 4 and later["note"] == "well"
            assert 0.03 < later["seconds_left"] < 5  # two in .02 s, four to go
    assert list(tmp_path.iterdir()) == []
    with track("outside", 3) as advance:
        advance(3)
    assert list(tmp_path.iterdir()) == []


def test_signs_are_left_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(progress, "write_json", lambda path, content: written.append(content["done"]))
    with signs_in(tmp_path), track("steps", 1000) as advance:
        for done in range(1, 1001):
            advance(done)
    assert written == [0, 1000]


def test_the_reason_of_a_bad_end_stays(tmp_path):
    (tmp_path / "check.json").touch()  # without anything, there is nothing to tell of
    for error in (GanaugError("no space is left"), KeyboardInterrupt()):
        with pytest.raises(type(error)), signs_in(tmp_path), track("steps", 3):
            raise error
        assert sign(tmp_path)["ended"] == (str(error) or "KeyboardInterrupt")


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path):
    tmp_path.chmod(0o500)
    with signs_in(tmp_path), track("steps", 1) as advance:
        advance(1)
    tmp_path.chmod(0o700)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_gone_stops_nothing_and_is_not_made_anew(tmp_path):
    with signs_in(tmp_path / "gone"), track("steps", 1) as advance:
        advance(1)
    assert not (tmp_path / "gone").exists()


def test_a_training_leaves_signs_while_it_runs_and_none_after(digits, tmp_path, monkeypatch):
    seen, step = [], member.train_step

    def watched(*arguments):
        seen.extend(status(tmp_path / "run"))
        return step(*arguments)

    monkeypatch.setattr(member, "train_step", watched)
    run = fit(digits, tmp_path / "run", recipe=TINY)
    assert {found.state for found in seen} == {"running"} and seen[0].doing == "fit joint: 0/100 %"
    assert not (run / STATUS).exists()


def test_a_training_that_ends_while_it_reads_begins_anew(digits, tmp_path, monkeypatch):
    def fail(*_):
        raise GanaugError("the lights went out")

    with monkeypatch.context() as patch, pytest.raises(GanaugError, match="lights"):
        patch.setattr(training, "train_run", fail)
        fit(digits, tmp_path / "run", recipe=TINY)
    (found,) = status(tmp_path / "run")
    assert found.state == "stopped" and "lights" in found.doing and found.hint.startswith("ganaug fit")
    assert read_json(fit(digits, tmp_path / "run", recipe=TINY) / "run.json")["complete"]


def test_a_complete_run_says_what_was_trained(tiny_run):
    (found,) = status(tiny_run)
    steps = read_json(RunFolder(tiny_run).member("joint") / "member.json")["steps"]
    assert (found.kind, found.state) == ("run", "complete") and f"{steps} steps" in found.doing
    assert found.note == f"latest samples: {tiny_run / 'samples' / f'joint-step-{steps:06d}.png'}"
    assert found.hint == f"ganaug synthesize {tiny_run} --out AUGMENTED"


def test_a_run_under_way(tmp_path):
    begun(tmp_path)
    samples = tmp_path / "samples"
    samples.mkdir()
    for number, name in enumerate(("joint-step-9.png", "joint-step-10.png")):
        (samples / name).touch()
        os.utime(samples / name, (number, number))
    (found,) = status(tmp_path)
    note = f"D sees more; latest samples: {samples / 'joint-step-10.png'}"
    assert found == Status(tmp_path, "run", "running", "fit joint: 40/100 %", 90.0, note, "")
    assert format_status([found]) == f"run {tmp_path}: running: fit joint: 40/100 %, 1m30s left of this\n  {note}"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"pid": GONE}, "stopped"),
        ({"host": "elsewhere"}, "running"),
        ({"host": "elsewhere", "time": 0.0}, "stopped"),
        ({"pid": 1}, "running"),  # someone else's, where this is not root
    ],
)
def test_whether_the_process_lives(tmp_path, changes, state):
    (found,) = status(begun(tmp_path, **changes))
    assert found.state == state
    if state == "stopped":
        assert "40/100" in found.doing and found.hint == f"ganaug fit images --out {tmp_path} --resume"


def test_a_process_that_was_killed_is_seen_to_be_gone(tmp_path):
    code = (
        "import os, sys, signal; from pathlib import Path; from ganaug.progress import signs_in, track\n"
        "with signs_in(Path(sys.argv[1])), track('fit joint', 9, 3): os.kill(os.getpid(), signal.SIGKILL)"
    )
    begun(tmp_path)
    assert python(code, tmp_path).returncode != 0
    (found,) = status(tmp_path)
    assert found.state == "stopped" and "fit joint: 3/9" in found.doing


def test_a_study_and_the_run_of_one_command(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "study").mkdir()
    write_json(tmp_path / "study" / "identity.json", {})
    write_json(tmp_path / "study" / STATUS, sign(begun(tmp_path / "other")) | {"label": "arms"})
    of_run, of_study = status(tmp_path)
    assert (of_run.state, of_study.kind, of_study.state) == ("complete", "study", "running")
    assert of_study.doing.startswith("arms: ")
    write_json(tmp_path / "study" / "study.json", {"verdict": "helps", "sentence": "It does."})
    of_study = status(tmp_path)[1]
    assert of_study.state == "complete" and of_study.doing == "helps. It does."


@pytest.fixture
def result(tmp_path):
    """The folder of a `ganaug run` that is under way, or was interrupted, while it trains the GAN."""
    begun(tmp_path / "run")
    (tmp_path / "recipe.yaml").touch()
    write_json(tmp_path / STATUS, {key: sign(tmp_path / "run")[key] for key in ("pid", "host", "time")})
    return tmp_path


def finish(root, *stages):
    """Leaves what the stages of `ganaug run` leave."""
    for stage in stages:
        path = root / STAGES[stage]
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"verdict": "helps", "sentence": "It does."})


def test_all_stages_under_way(result, tiny_run):
    assert format_status(status(result)[:1]) == (
        f"{result}: running: stage 1 of 4: fit, fit joint: 40/100 %, 1m30s left of this"
    )
    assert not any(one.hint for one in status(result))
    shutil.rmtree(result / "run")
    shutil.copytree(tiny_run, result / "run")
    write_json(result / STATUS, sign(result) | {"label": "synthesize", "done": 3, "total": 9, "unit": ""})
    whole, of_run = status(result)
    assert (whole.doing, of_run.state) == ("stage 2 of 4: synthesize, 3/9", "complete")
    finish(result, "synthesize")
    assert status(result)[0].doing.startswith("stage 3 of 4: compare")
    finish(result, "compare")
    assert status(result)[0].doing.startswith("stage 4 of 4: report")
    finish(result, "report")
    (result / STATUS).unlink()
    whole, *others = status(result)
    assert (whole.state, whole.hint) == ("complete", f"open {result / 'report.html'}")
    assert not any(one.hint for one in others)


def test_all_stages_after_an_interruption(result):
    for folder in (result, result / "run"):
        write_json(folder / STATUS, sign(folder) | {"pid": GONE})
    whole = status(result)[0]
    assert (whole.state, whole.hint) == ("stopped", "repeat the ganaug run that began it")
    assert whole.doing == "stage 1 of 4: fit, its process is gone; it was at fit joint: 40/100 %"
    write_json(result / STATUS, sign(result) | {"pid": os.getpid()})  # it was repeated, and reads its images
    assert (status(result)[0].state, status(result)[0].doing) == ("running", "stage 1 of 4: fit")


def test_an_unfinished_study_says_how_far_it_is(result):
    (result / "study").mkdir()
    write_json(result / "study/identity.json", {})
    for pid, words in ((os.getpid(), r"under way \(arms: 3/8\).*ganaug status"), (GONE, "repeat the ganaug run that")):
        write_json(
            result / "study" / STATUS, sign(result) | {"label": "arms", "done": 3, "total": 8, "unit": "", "pid": pid}
        )
        for refuse in (report, lambda study: export_classifier(study, result / "a.onnx")):
            with pytest.raises(GanaugError, match=words):
                refuse(result / "study")


def test_what_does_not_exist_is_said_not_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanaugError, match=rf"nothing does not exist in {tmp_path}\. Give the --out"):
        status("nothing")


def test_a_sign_that_cannot_be_read_is_none(tmp_path):
    (begun(tmp_path) / STATUS).write_text("{")
    (found,) = status(tmp_path)
    assert found.state == "stopped" and found.doing == "" and "--resume" in found.hint


def test_a_folder_with_neither_is_refused(tmp_path):
    with pytest.raises(GanaugError, match="no run and no study"):
        status(tmp_path)


def test_the_command(tmp_path):
    begun(tmp_path)
    assert "fit joint: 40/100 %, 1m30s left" in ganaug("status", tmp_path).stdout


TITLE = "\x1b]0;a terminal's title\x07"


@pytest.mark.parametrize(
    "changes",
    [
        {name: value}
        for name in ("pid", "host", "time", "label", "done", "total", "unit", "seconds_left", "note", "ended")
        for value in ([], {}, True, -1, 10**40, float("nan"), float("inf"), None)
        if (name, value) not in (("seconds_left", None), ("time", 0))
    ],
)
def test_a_damaged_sign_is_none(tmp_path, changes):
    begun(tmp_path)
    (tmp_path / STATUS).write_text(json.dumps(sign(tmp_path) | changes))
    (found,) = status(tmp_path)
    assert found.state == "stopped" and found.doing == ""
    assert format_status([found])


@pytest.mark.parametrize("name", ["done", "total", "unit", "host", "pid", "time"])
def test_a_sign_that_lacks_something_is_none(tmp_path, name):
    begun(tmp_path)
    (tmp_path / STATUS).write_text(json.dumps({key: value for key, value in sign(tmp_path).items() if key != name}))
    (found,) = status(tmp_path)
    assert found.state == "stopped" and found.doing == ""


@pytest.mark.parametrize("steps", [None, "6", [6], {}, 6.5])
def test_damaged_steps_are_named(tiny_run, tmp_path, steps):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    path = run / "members/joint/member.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": steps}))
    with pytest.raises(GanaugError, match="is damaged: its steps are"):
        status(run)


@pytest.mark.parametrize("changes", [{"note": TITLE}, {"label": TITLE}, {"unit": TITLE}, {"ended": TITLE}])
def test_no_text_steers_the_terminal(tmp_path, changes):
    shown = ganaug("status", begun(tmp_path, **changes)).stdout
    assert TITLE[0] not in shown and "\\x1b]0;a terminal's title\\x07" in shown


def test_no_text_of_a_study_steers_the_terminal(tmp_path):
    write_json(tmp_path / "identity.json", {})
    write_json(tmp_path / "study.json", {"verdict": f"helps{TITLE}", "sentence": TITLE})
    shown = ganaug("status", tmp_path).stdout
    assert TITLE[0] not in shown and shown.count("\\x1b") == 2
