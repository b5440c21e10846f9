"""The stage `fit` on a few real digits: its files, repeatability, resuming, strategies, budgets and refusals."""

import json
import logging
import math
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from interruptions import EVERY_STEP, Interrupt, interrupted_fit, member_of, metrics_of, set_pace
from small import CLASS_NAMES, TEST_PER_CLASS, TINY, TRAIN_COUNTS, files_of, weights_of, with_settings

from ganaug import GanaugError, load_recipe
from ganaug.data.cache import load
from ganaug.data.images import decode
from ganaug.gan import forecast, member, record, settling, training
from ganaug.gan.forecast import estimate_fit, format_estimate
from ganaug.gan.shares import split_images, training_data
from ganaug.gan.strategies import STRATEGIES, member_steps
from ganaug.gan.training import fit
from ganaug.runs import RunFolder, open_run
from ganaug.settings import FitSettings
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


def test_a_budget_settles_the_steps_and_the_recipe_then_repeats_them(digits, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ganaug")
    recipe = with_settings(fit={"steps": None, "budget": "20s", "log_interval": 1})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = round(20 * member.STEPS_SHARE)
    assert f"{steps} steps fit into 20s" in caplog.text
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == steps
    assert metrics_of(run)["step"].tolist() == list(range(1, steps + 1))
    repeated = fit(digits, tmp_path / "repeated", recipe=run / "recipe.yaml")
    assert weights_of(repeated) == weights_of(run)


def test_a_budget_is_repeated_even_after_a_sudden_pause(digits, tmp_path, monkeypatch):
    """The pause falls on the step that settles the plan, so most of the budget is gone before the conditioning begins."""
    recipe = with_settings(fit={"steps": None, "budget": "20s"})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0, 1.0, 1.0, 14.0, 1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"]
    assert 5 <= steps <= 20
    repeated = fit(digits, tmp_path / "repeated", recipe=run / "recipe.yaml")
    assert weights_of(repeated) == weights_of(run)


def test_a_budget_is_shared_by_all_members(digits, tmp_path, monkeypatch):
    recipe = with_settings(fit={"steps": None, "budget": "30s", "strategy": "per-class"})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = [json.loads((run / f"members/class-{k}/member.json").read_text())["steps"] for k in range(3)]
    assert steps == [10, 10, 10]
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == 30


@pytest.mark.parametrize("at", [3, 12])
def test_a_budget_survives_an_interruption_before_and_after_the_plan(digits, tmp_path, monkeypatch, at):
    recipe = with_settings(
        fit={"steps": None, "budget": "20s", "checkpoint_interval": EVERY_STEP, "log_interval": 1},
    )
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, at)
        set_pace(patch, [1.0])
        fit(digits, tmp_path / "run", resume=True)
    steps = round(20 * member.STEPS_SHARE)
    assert metrics_of(tmp_path / "run")["step"].tolist() == list(range(1, steps + 1))
    repeated = fit(digits, tmp_path / "repeated", recipe=tmp_path / "run/recipe.yaml")
    assert weights_of(repeated) == weights_of(tmp_path / "run")


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


def test_what_a_run_has_settled_answers_what_a_recipe_leaves_open(tiny_run, digits):
    before = weights_of(tiny_run)
    open_again = with_settings(data={"image_size": "auto"}, fit={"threads": None, "precision": "auto", "steps": None})
    assert fit(digits, tiny_run, recipe=open_again, resume=True) == tiny_run
    assert weights_of(tiny_run) == before


def test_the_fastest_threads_are_found_once_and_kept(digits, tmp_path, monkeypatch):
    tried = []

    def measure_pace(data, member, settings, device, threads):
        tried.append(threads)
        return {1: 0.05, 2: 0.03, 4: 0.04}[threads]

    monkeypatch.setattr(settling, "num_cores", lambda: 4)
    monkeypatch.setattr(settling, "measure_pace", measure_pace)
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"threads": None, "steps": 1}))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["threads"] == 2 and set(tried) == {1, 2, 4}
    tried.clear()
    again = fit(digits, tmp_path / "again", recipe=run / "recipe.yaml")
    assert yaml.safe_load((again / "recipe.yaml").read_text())["fit"]["threads"] == 2 and set(tried) <= {2}


def test_bf16_is_taken_where_single_precision_is_not_clearly_faster(digits, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for plain, threads, chosen in ((0.95, None, "bf16"), (0.8, None, "fp32"), (0.8, 1, "fp32"), (9.0, 1, "bf16")):
        paces = {"auto": 1.0, "fp32": plain}
        monkeypatch.setattr(settling, "measure_pace", lambda *given, paces=paces: paces[given[2].precision])
        open_ones = {"threads": threads, "precision": "auto", "width": "auto"}
        assert estimate_fit(digits, recipe=with_settings(fit=open_ones)).recipe.fit.precision == chosen


def pace_of_width(paces):
    return lambda data, member, settings, device, threads: paces[settings.width]


def test_the_widest_networks_that_leave_enough_steps_are_taken(digits, monkeypatch):
    narrow, wide = settling.WIDTHS["cpu"]
    budget = {"steps": None, "budget": 2.0 * settling.ENOUGH_STEPS, "width": "auto"}
    for pace, strategy, chosen in ((1.9, "joint", wide), (2.1, "joint", narrow), (1.9, "per-class", narrow)):
        monkeypatch.setattr(settling, "measure_pace", pace_of_width({narrow: 0.5, wide: pace}))
        recipe = with_settings(fit=budget | {"strategy": strategy})
        assert estimate_fit(digits, recipe=recipe).recipe.fit.width == chosen


def test_a_given_number_of_steps_settles_the_width_whatever_the_pace(digits, monkeypatch):
    widths = set()
    for pace in (0.001, 1000.0):
        monkeypatch.setattr(settling, "measure_pace", lambda *_, pace=pace: pace)
        widths.add(estimate_fit(digits, recipe=with_settings(fit={"width": "auto"})).recipe.fit.width)
    assert len(widths) == 1 and "auto" not in widths


@pytest.mark.parametrize(
    ("changes", "paces", "chosen"),
    [
        ({}, {8: 1.0, 16: 1.1, 32: 1.3}, 32),
        ({}, {8: 1.0, 16: 1.3, 32: 1.3}, 8),
        ({}, {8: 1.0, 16: 1.1, 32: 1.4}, 16),
        ({}, {8: 1.0, 16: 1.22}, 8),
        ({}, {8: 1.0, 16: math.inf}, 8),  # more than the memory holds
        ({}, {8: math.inf, 4: math.inf, 16: math.inf, 32: math.inf}, 8),  # nothing fits, for the moment
        ({}, {8: math.inf, 4: 1.0, 16: 1.0}, 8),  # 8 did not fit when it was tried
        ({"threads": None, "width": "auto"}, {8: 1.0, 16: 1.1, 32: 1.1}, 32),
        ({"batch_size": 12}, {12: 1.0}, 12),
        ({"steps": 9}, {32: 1.0}, 32),  # the same on any device
    ],
)
def test_batches_grow_where_a_step_takes_hardly_longer(digits, monkeypatch, changes, paces, chosen):
    monkeypatch.setattr(settling, "WIDTHS", {"cpu": (4, 8)})
    monkeypatch.setattr(settling, "BATCHES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr(settling, "measure_pace", lambda *given: paces[given[2].batch_size])
    recipe = with_settings(fit={"steps": None, "budget": "20s", "batch_size": "auto"} | changes)
    assert estimate_fit(digits, recipe=recipe).recipe.fit.batch_size == chosen


def test_batches_do_not_grow_on_a_cpu(digits, monkeypatch):
    measured = set()
    monkeypatch.setattr(settling, "measure_pace", lambda *given: measured.add(given[2].batch_size) or 1.0)
    recipe = with_settings(fit={"steps": None, "budget": "20s", "batch_size": "auto", "threads": None})
    assert estimate_fit(digits, recipe=recipe).recipe.fit.batch_size == 32 and measured == {32}
    assert settling.BATCHES["cuda"] == (32, 64, 128)


def test_the_width_and_the_batch_that_the_pace_has_settled_are_kept(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(settling, "WIDTHS", {"cpu": (4, 8)})
    monkeypatch.setattr(settling, "ENOUGH_STEPS", 10)
    monkeypatch.setattr(settling, "measure_pace", pace_of_width({4: 1.0, 8: 1.5}))
    monkeypatch.setattr(settling, "BATCHES", {"cpu": (8, 16)})
    open_ones = {"width": "auto", "batch_size": "auto"}
    recipe = with_settings(fit={"steps": None, "budget": "20s", "checkpoint_interval": EVERY_STEP} | open_ones)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        interrupted_fit(patch, digits, out, recipe, at=5)
        monkeypatch.setattr(settling, "measure_pace", pace_of_width({4: 1.0, 8: 99.0}))
        monkeypatch.setattr(settling, "BATCHES", {"cpu": (8,)})
        set_pace(patch, [1.0])
        fit(digits, out, recipe=recipe, resume=True)
    kept = yaml.safe_load((out / "recipe.yaml").read_text())["fit"]
    assert (kept["width"], kept["batch_size"]) == (8, 16)
    assert json.loads((out / "members/joint/member.json").read_text())["shape"]["width"] == 8


def test_the_stored_recipe_settles_what_the_machine_decided(digits, tmp_path):
    run = fit(digits, tmp_path / "run", recipe={"fit": TINY["fit"] | {"precision": "auto", "steps": 1}})
    stored = load_recipe(run / "recipe.yaml")
    assert stored.data.image_size == 16 and stored.fit.precision in ("fp32", "bf16")


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


def test_an_estimate_writes_nothing_and_counts_what_fit_would_use(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate = estimate_fit(digits, recipe=with_settings())
    assert list(tmp_path.iterdir()) == []
    assert (estimate.steps, estimate.counts, estimate.image_size, estimate.channels) == (12, TRAIN_COUNTS, 16, 1)
    assert estimate.seconds > 12 * estimate.seconds_per_step > 0
    text = format_estimate(estimate)
    assert "19 in 3 classes" in text and "estimate: 12 steps" in text and "width: 4" in text


def test_an_estimate_counts_the_checkpoints_and_the_bytes_of_the_training(digits, tiny_run):
    found = estimate_fit(digits, recipe=with_settings())
    joint = STRATEGIES["joint"](3)[0]
    settings = load_recipe(tiny_run / "recipe.yaml").fit
    assert forecast.checkpoints_of(12, joint, settings) == len(member_of(tiny_run)["checkpoints"])
    weighty = [path for path in tiny_run.rglob("*") if path.suffix in (".safetensors", ".npy", ".png")]
    stored = sum(path.stat().st_size for path in weighty if "curation" not in path.parts)
    assert stored <= found.disk < found.disk_peak and found.disk == pytest.approx(stored, rel=0.25)
    assert found.memory > 10**8


def test_an_estimate_tells_the_memory_of_the_gpu_apart(digits):
    found = estimate_fit(digits, recipe=with_settings())
    assert found.gpu_memory is None and "GPU" not in format_estimate(found)
    text = format_estimate(replace(found, gpu_memory=1_500_000_000))
    assert text.splitlines()[-1] == "on the GPU: 1.5 GB of its memory"


def test_an_estimate_turns_a_budget_into_steps(digits, monkeypatch):
    monkeypatch.setattr(forecast, "measure", lambda *_: forecast.Costs(0.05, 0.0, 0, 0, 0))
    assert estimate_fit(digits, recipe=with_settings(fit={"steps": None, "budget": "2m"})).steps == round(
        member.STEPS_SHARE * 2400
    )


@pytest.mark.parametrize(("device", "message"), [("warp", "unknown device"), ("meta", "not supported")])
def test_unknown_devices_are_refused(digits, tmp_path, device, message):
    with pytest.raises(GanaugError, match=message):
        fit(digits, tmp_path / "run", recipe=with_settings(fit={"device": device}))


def test_a_plan_never_reaches_into_the_transition():
    """The steps before the plan were trained without the class; the transition may not have begun by then."""
    assert FitSettings().transition[0] >= member.PLAN_SHARE
    with pytest.raises(GanaugError, match="transition"):
        load_recipe({"fit": {"transition": [0.1, 0.5]}})
    assert load_recipe({"fit": {"transition": [0.2, 0.2]}}).fit.transition == (0.2, 0.2)
