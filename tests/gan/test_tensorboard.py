"""A training that is watched in TensorBoard: what it shows, and that a resumed one goes on where it stood."""

import sys

import pandas as pd
import pytest
from interruptions import EVERY_STEP, diverge_at, interrupted_fit, member_of, take_four_checkpoints, trained
from small import with_settings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import python, refused

from ganaug.errors import GanaugError
from ganaug.gan import member
from ganaug.gan.forecast import estimate_fit
from ganaug.gan.training import fit
from ganaug.runs import RunFolder, read_json
from ganaug.watch import status

STEPS = 16  # with rows of metrics after each second, checkpoints after 8, 12 and 16
FIT = {"steps": STEPS, "checkpoint_interval": EVERY_STEP, "sample_interval": EVERY_STEP, "transition": (0.2, 0.2)}
WATCHED = with_settings(fit=FIT | {"tensorboard": True})


@pytest.fixture(autouse=True)
def four_checkpoints(monkeypatch):
    take_four_checkpoints(monkeypatch)


@pytest.fixture(scope="module")
def watched(digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        take_four_checkpoints(patch)
        return fit(digits, tmp_path_factory.mktemp("watched") / "run", recipe=WATCHED)


def events_of(run, name="joint"):
    return EventAccumulator(str(run / "tensorboard" / name), size_guidance={"images": 0}).Reload()


def steps_of(events, tag):
    return [event.step for event in events.Scalars(tag)]


def test_the_curves_are_the_metrics(watched):
    events, rows = events_of(watched), pd.read_csv(watched / "members/joint/metrics.csv")
    names = set(rows.columns) - {"step"}
    assert {"loss_d", "loss_g", "memorized", "augment"} <= names
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("training/")} == {f"training/{n}" for n in names}
    for name in names:
        curve = events.Scalars(f"training/{name}")
        assert [event.step for event in curve] == rows["step"].tolist() == list(range(2, STEPS + 1, 2))
        assert [event.value for event in curve] == pytest.approx(rows[name].tolist())


def test_the_checkpoints_are_those_of_the_run(watched):
    events, checkpoints = events_of(watched), member_of(watched)["checkpoints"]
    for name in ("gap", "kid", "coverage", "consistency", "copies"):
        curve = events.Scalars(f"held-out/{name}")
        assert [event.step for event in curve] == [8, 12, 16]
        assert [event.value for event in curve] == pytest.approx([checkpoint[name] for checkpoint in checkpoints])


def test_the_pictures_are_those_of_the_run(watched, tmp_path):
    from PIL import Image

    pictures = events_of(watched).Images("samples")
    sheets = sorted((watched / "samples").glob("*.png"))
    assert [f"joint-step-{picture.step:06d}.png" for picture in pictures] == [sheet.name for sheet in sheets]
    assert len(sheets) == STEPS // 2
    (tmp_path / "last.png").write_bytes(pictures[-1].encoded_image_string)
    with Image.open(tmp_path / "last.png") as shown, Image.open(sheets[-1]) as sheet:
        assert shown.convert("RGB").tobytes() == sheet.convert("RGB").tobytes()


def test_it_trains_the_same_as_one_that_nobody_watches(digits, tmp_path, watched):
    plain = fit(digits, tmp_path / "plain", recipe=with_settings(fit=FIT))
    assert trained(plain) == trained(watched)
    assert not (plain / "tensorboard").exists()


@pytest.mark.parametrize("at", [6, 11])
def test_a_resumed_training_goes_on_with_the_curves(digits, tmp_path, monkeypatch, watched, at):
    """The last saved state is older than the last events, where saving is what is stopped."""
    with monkeypatch.context() as patch:
        out = interrupted_fit(patch, digits, tmp_path / "run", WATCHED, at, "save_state" if at == 6 else "train_step")
    fit(digits, out, resume=True)
    whole, resumed = events_of(watched), events_of(out)
    assert len(list((out / "tensorboard/joint").iterdir())) == 2
    assert resumed.Tags() == whole.Tags()
    for tag in whole.Tags()["scalars"]:
        assert steps_of(resumed, tag) == steps_of(whole, tag)
    assert [picture.step for picture in resumed.Images("samples")] == list(range(2, STEPS + 1, 2))


def test_what_diverged_is_not_shown(digits, tmp_path, monkeypatch):
    diverge_at(monkeypatch, (12, 1.0))
    run = fit(digits, tmp_path / "run", recipe=WATCHED)
    assert member_of(run)["rollbacks"] == 1
    events = events_of(run)
    assert steps_of(events, "training/loss_d") == list(range(2, STEPS + 1, 2))
    assert all(event.value == event.value for event in events.Scalars("training/loss_d"))


def test_metrics_and_samples_are_there_while_it_trains(digits, tmp_path, monkeypatch):
    """In files, too, for who has no TensorBoard; `status` names the newest sheet."""
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(fit=FIT), 13)
    assert pd.read_csv(out / "members/joint/metrics.csv")["step"].tolist() == list(range(2, 13, 2))
    (found,) = status(out)
    assert found.state == "stopped" and str(out / "samples/joint-step-000012.png") in found.note


def test_each_member_has_its_own_curves(digits, tmp_path):
    recipe = with_settings(fit=FIT | {"tensorboard": True, "strategy": "per-class", "steps": 12})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    names = read_json(RunFolder(run).info)["members"]
    assert len(names) == 3 and {path.name for path in (run / "tensorboard").iterdir()} == set(names)
    assert all(steps_of(events_of(run, name), "training/loss_d") for name in names)


def test_without_the_package_nothing_is_begun(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(member, "train_step", None)
    for begin in (lambda: fit(digits, tmp_path / "run", recipe=WATCHED), lambda: estimate_fit(digits, recipe=WATCHED)):
        with pytest.raises(GanaugError, match=r"pip install 'ganaug\[tensorboard\]'"):
            begin()
    assert not (tmp_path / "run").exists()
    assert "ganaug[tensorboard]" in refused("fit", digits, "--out", tmp_path / "run", "--tensorboard")
    assert "ganaug[tensorboard]" in refused("run", digits, "--out", tmp_path / "all", "--tensorboard")


def test_nothing_of_it_is_imported_unless_it_is_wanted():
    found = python("import ganaug.gan.training, sys; print('tensorboard' in sys.modules)")
    assert found.stdout.strip() == "False", found.stderr
