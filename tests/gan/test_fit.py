"""The stage `fit` on a few real digits: its files, repeatability, resuming, strategies, budgets and refusals."""

import json
import logging
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from interruptions import EVERY_STEP, Interrupt, interrupted_fit, member_of, metrics_of
from small import CLASS_NAMES, TEST_PER_CLASS, TRAIN_COUNTS, files_of, weights_of, with_settings

from ganaug import GanaugError, load_recipe
from ganaug.data.cache import load
from ganaug.data.images import decode
from ganaug.gan import member, record, training
from ganaug.gan.shares import split_images, training_data
from ganaug.gan.strategies import STRATEGIES, member_steps
from ganaug.gan.training import fit
from ganaug.runs import RunFolder, open_run
from ganaug.synthesis.synthesize import synthesize

TOOLS_FILES = ("README.md", "curation.html", "curation.json", "dataset.json", "metadata.jsonl", "pairs.npz")


def test_exact_files(tiny_run):
    made = [name for name in files_of(tiny_run) if not name.startswith("curation/")]  # which `synthesize` adds
    assert sorted(made) == [
        "check.json",
        "data/images.npy",
        "data/index.csv",
        "data/set.json",
        "members/joint/discriminator.safetensors",
        "members/joint/generator.safetensors",
        "members/joint/member.json",
        "members/joint/metrics.csv",
        "recipe.yaml",
        "run.json",
        "samples/joint-step-000012.png",
    ]


def test_run_json_describes_the_run(tiny_run, digits):
    folder, info = open_run(tiny_run)
    assert folder.root == tiny_run
    assert info["complete"] is True and info["schema"] == 1
    assert info["class_names"] == list(CLASS_NAMES)
    assert info["counts"]["train"] == TRAIN_COUNTS
    assert info["counts"]["test"] == dict.fromkeys(CLASS_NAMES, TEST_PER_CLASS)
    assert (info["image_size"], info["channels"], info["strategy"]) == (16, 1, "joint")
    assert info["members"] == ["joint"] and info["source"] == str(digits)
    assert {"ganaug", "torch", "python"} <= set(info["versions"])


def test_metrics_have_a_row_at_every_interval_and_checkpoint(tiny_run):
    table = pd.read_csv(tiny_run / "members/joint/metrics.csv")
    checkpoints = [checkpoint["step"] for checkpoint in member_of(tiny_run)["checkpoints"]]
    assert table["step"].tolist() == sorted({2, 4, 6, 8, 10, 12, *checkpoints}) and checkpoints[-1] == 12
    assert {"seconds", "loss_d", "loss_g", "separation", "class_loss", "class_accuracy", "augment"} <= set(table)
    assert {"memorized", "discriminator_pace"} <= set(table)
    assert np.isfinite(table.to_numpy()).all()
    assert table["separation"].between(0, 1).all()
    assert table["seconds"].is_monotonic_increasing


def test_the_sheet_has_a_row_for_every_class(tiny_run):
    sheet = decode((tiny_run / "samples/joint-step-000012.png").read_bytes())
    assert sheet.height >= 16 * len(CLASS_NAMES) and sheet.width >= 16 * record.SAMPLE_COLUMNS
    assert sheet.height < sheet.width


def split_of(run, **settings):
    return split_images(load(run / "data"), load_recipe(with_settings(fit=settings)), torch.device("cpu"))


def test_the_test_images_are_not_trained_on(tiny_run):
    data = training_data(split_of(tiny_run, validation=0), STRATEGIES["joint"](3)[0], "none")
    assert len(data.images) == sum(TRAIN_COUNTS.values())
    assert [len(rows) for rows in data.class_rows] == list(TRAIN_COUNTS.values())
    train, labels = load(tiny_run / "data").subset("train")
    for k, rows in enumerate(data.class_rows):
        np.testing.assert_array_equal(data.images[rows].numpy(), train[labels == k])


def test_a_member_of_one_class_sees_that_class_alone(tiny_run):
    split = split_of(tiny_run)
    data = training_data(split, STRATEGIES["per-class"](3)[1], "none")
    for images, part in zip((data.images, data.held_out[0]), split, strict=True):
        assert len(images) > 0
        np.testing.assert_array_equal(images.numpy(), part.images[part.labels == 1].numpy())
    assert data.labels == (0,) and data.class_rows[0].tolist() == list(range(len(data.images)))
    assert data.held_out[1].tolist() == [0] * len(data.held_out[0])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny_run, digits, tmp_path):
    again = fit(digits, tmp_path / "again", recipe=with_settings())
    assert weights_of(again) == weights_of(tiny_run)
    pd.testing.assert_frame_equal(metrics_of(again), metrics_of(tiny_run))
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"seed": 1}))
    assert weights_of(other)["generator"] != weights_of(tiny_run)["generator"]


def test_the_stored_recipe_reproduces_the_run(tiny_run, digits, tmp_path):
    repeated = fit(digits, tmp_path / "repeated", recipe=tiny_run / "recipe.yaml")
    assert weights_of(repeated) == weights_of(tiny_run)
    assert (repeated / "recipe.yaml").read_bytes() == (tiny_run / "recipe.yaml").read_bytes()


@pytest.mark.parametrize("at", [1, 2, 8, 12])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_run, digits, tmp_path, monkeypatch, at):
    recipe = with_settings(fit={"checkpoint_interval": EVERY_STEP})
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, at)
    saved = max([0, *(step for step in metrics_of(tiny_run)["step"] if step < at)])  # with every row of metrics
    assert (out / "members/joint/state.pt").is_file() == (saved > 0)
    with pytest.raises(GanaugError, match=r"not complete.*--resume"):
        open_run(out)
    rest = Interrupt(monkeypatch, at=None)
    fit(digits, out, recipe=recipe, resume=True)
    assert rest.calls == 12 - saved  # it went on, rather than began again
    assert weights_of(out) == weights_of(tiny_run)
    pd.testing.assert_frame_equal(metrics_of(out), metrics_of(tiny_run))
    assert not (out / "members/joint/state.pt").exists()
    assert open_run(out)[1]["complete"] is True


def test_an_interruption_before_the_second_checkpoint_loses_rows_but_nothing_else(
    tiny_run, digits, tmp_path, monkeypatch
):
    """metrics.csv may be ahead of state.pt, when the process ends between the two writes."""
    recipe = with_settings(fit={"checkpoint_interval": EVERY_STEP})
    with monkeypatch.context() as patch:
        saved, save = [], member.save_state

        def save_twice(path, state, *others):
            saved.append(state.step)
            if len(saved) == 3:
                raise KeyboardInterrupt
            save(path, state, *others)

        patch.setattr(member, "save_state", save_twice)
        with pytest.raises(KeyboardInterrupt):
            fit(digits, tmp_path / "run", recipe=recipe)
    assert metrics_of(tmp_path / "run")["step"].tolist() == saved == metrics_of(tiny_run)["step"].tolist()[:3]
    fit(digits, tmp_path / "run", resume=True)
    assert weights_of(tmp_path / "run") == weights_of(tiny_run)
    pd.testing.assert_frame_equal(metrics_of(tmp_path / "run"), metrics_of(tiny_run))


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_other_strategies_train_resume_and_synthesize(digits, tmp_path, monkeypatch, strategy):
    recipe = with_settings(fit={"strategy": strategy, "steps": 15, "checkpoint_interval": EVERY_STEP})
    whole = fit(digits, tmp_path / "whole", recipe=recipe)
    members = STRATEGIES[strategy](3)
    assert sorted(path.name for path in (whole / "members").iterdir()) == sorted(m.name for m in members)
    for each in members:
        stored = json.loads((whole / "members" / each.name / "member.json").read_text())
        assert stored["steps"] == member_steps(each, 15)
        assert len(stored["shape"]["class_counts"]) == each.num_classes

    out = interrupted_fit(monkeypatch, digits, tmp_path / "resumed", recipe, at=14)  # in the last member
    fit(digits, out, recipe=recipe, resume=True)
    for each in members:
        assert weights_of(out, each.name) == weights_of(whole, each.name)

    target = tmp_path / "synthetic"
    assert synthesize(whole, target, recipe={"synthesize": {"per_class": 2}}) == dict.fromkeys(CLASS_NAMES, 2)
    assert {path.split("/")[0] for path in files_of(target)} == {
        *CLASS_NAMES,
        "manifest.csv",
        "recipe.yaml",
        *TOOLS_FILES,
    }
    checkpoints = pd.read_csv(target / "manifest.csv", dtype=str).groupby("class")["checkpoint"].unique()
    assert len({str(hashes) for hashes in checkpoints}) == 3  # each class has a generator of its own


def test_a_specialised_member_starts_from_the_trunk_and_keeps_its_first_layers_and_classifier(digits, tmp_path):
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"strategy": "specialised", "steps": 15}))
    folder, _ = open_run(run)
    trunk, special = member.load_member(folder, "joint")[1], member.load_member(folder, "class-1")[1]
    first, last = ([net.backbone.convolutions[i].weight.detach().numpy() for net in (trunk, special)] for i in (0, -1))
    np.testing.assert_array_equal(*first)
    assert not np.array_equal(*last)
    np.testing.assert_array_equal(*(net.classifier.weight.detach().numpy() for net in (trunk, special)))


@pytest.mark.parametrize(
    ("stage", "key", "value", "shown"),
    [
        ("fit", "width", 8, "fit.width 4 -> 8"),
        ("fit", "seed", 3, "fit.seed 0 -> 3"),
        ("fit", "steps", 99, "fit.steps 12 -> 99"),
        ("data", "image_size", 32, "data.image_size 16 -> 32"),
        ("data", "mirror", "both", "data.mirror 'none' -> 'both'"),
    ],
)
def test_changed_settings_are_refused_by_name(digits, tmp_path, monkeypatch, stage, key, value, shown):
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(), at=3)
    before = files_of(out)
    with pytest.raises(GanaugError) as refusal:
        fit(digits, out, recipe=with_settings(**{stage: {key: value}}), resume=True)
    assert f"other settings: {shown}." in str(refusal.value)
    assert files_of(out) == before


def test_settings_that_do_not_matter_may_change_on_resume(tiny_run, digits, tmp_path, monkeypatch):
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(), at=3)
    fit(digits, out, recipe={"fit": {"log_interval": 3, "sample_interval": 1}, "compare": {"seeds": 9}}, resume=True)
    assert weights_of(out) == weights_of(tiny_run)


def test_a_complete_run_is_left_as_it_is(tiny_run, digits, tmp_path, caplog):
    caplog.set_level(logging.INFO, "ganaug")
    out = shutil.copytree(tiny_run, tmp_path / "run")
    before = files_of(out)
    assert fit(digits, out, recipe=with_settings(), resume=True) == out
    assert "complete already" in caplog.text and files_of(out) == before
    with pytest.raises(GanaugError, match=r"already holds a run.*--resume"):
        fit(digits, out, recipe=with_settings())
    assert files_of(out) == before


def test_a_folder_with_other_things_is_refused(digits, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("precious")
    for resume, message in ((False, "not empty"), (True, "no run to go on with")):
        with pytest.raises(GanaugError, match=message):
            fit(digits, tmp_path / "mine", recipe=with_settings(), resume=resume)
    assert files_of(tmp_path / "mine") == {"notes.txt": b"precious"}
    with pytest.raises(GanaugError, match="not empty"):
        fit(digits, tmp_path / "mine/notes.txt", recipe=with_settings())


def test_other_data_are_refused_on_resume(digits, tmp_path, monkeypatch):
    data = shutil.copytree(digits, tmp_path / "data")
    out = interrupted_fit(monkeypatch, data, tmp_path / "run", with_settings(), at=3)
    before = files_of(out)
    sorted((data / "train/0").iterdir())[0].unlink()
    with pytest.raises(GanaugError, match="files were added, removed or changed"):
        fit(data, out, recipe=with_settings(), resume=True)
    assert files_of(out) == before


def test_a_run_interrupted_while_it_read_its_data_begins_anew(tiny_run, digits, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_describe_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(digits, tmp_path / "run", recipe=with_settings(data={"image_size": 32}))
    assert not (tmp_path / "run/run.json").exists()
    with pytest.raises(GanaugError, match="no run to go on with"):  # its settings are not known yet
        fit(digits, tmp_path / "run", recipe=with_settings(), resume=True)
    fit(digits, tmp_path / "run", recipe=with_settings())
    assert weights_of(tmp_path / "run") == weights_of(tiny_run)


def test_wrong_settings_leave_nothing_behind(digits, tmp_path):
    with pytest.raises(GanaugError, match=r"did you mean fit\.steps\?"):
        fit(digits, tmp_path / "run", recipe={"fit": {"stps": 3}})
    assert not (tmp_path / "run").exists()


def test_missing_data_is_a_clear_error_and_the_folder_can_be_used_again(digits, tmp_path):
    with pytest.raises(GanaugError, match="nowhere"):
        fit(tmp_path / "nowhere", tmp_path / "run", recipe=with_settings())
    fit(digits, tmp_path / "run", recipe=with_settings(fit={"steps": 1}))


@pytest.mark.parametrize("damage", [lambda content: content[:500], lambda content: b"", lambda content: b"x" * 900])
def test_a_damaged_checkpoint_is_named(digits, tmp_path, monkeypatch, damage):
    recipe = with_settings(fit={"checkpoint_interval": EVERY_STEP})
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, at=5)
    state = out / "members/joint/state.pt"
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(GanaugError, match=r"state\.pt cannot be loaded: .*Delete it"):
        fit(digits, out, recipe=recipe, resume=True)


@pytest.mark.parametrize(
    ("key", "value"), [("width", 0), ("channels", 0), ("latent_size", -1), ("class_counts", []), ("image_size", 0)]
)
def test_networks_of_nothing_are_refused(tiny_run, tmp_path, key, value):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    path = run / "members/joint/member.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"shape": stored["shape"] | {key: value}}))
    with warnings.catch_warnings(), pytest.raises(GanaugError, match=r"member\.json is damaged: .*Fit again"):
        warnings.simplefilter("error")
        member.load_member(RunFolder(run), "joint")


@pytest.mark.parametrize(("device", "message"), [("warp", "unknown device"), ("meta", "not supported")])
def test_unknown_devices_are_refused(digits, tmp_path, device, message):
    with pytest.raises(GanaugError, match=message):
        fit(digits, tmp_path / "run", recipe=with_settings(fit={"device": device}))
