"""How a training ends: early or in time, with its best checkpoint, in a folder that needs nothing else."""

import shutil
from types import SimpleNamespace

import pytest
import yaml
from interruptions import member_of, metrics_of, set_pace, take_four_checkpoints, trained
from safetensors.torch import load_file
from small import CLASS_NAMES, files_of, weights_of, with_settings

from ganaug.gan import member, shares, training
from ganaug.gan.strategies import STRATEGIES, member_steps
from ganaug.gan.training import fit
from ganaug.runs import open_run
from ganaug.synthesis.synthesize import synthesize


@pytest.fixture(autouse=True)
def four_checkpoints(monkeypatch):
    take_four_checkpoints(monkeypatch)


FIT = {"steps": 16, "log_interval": 4, "transition": (0.2, 0.2)}  # measured after 8, 12 and 16 steps


def steps_of(run, name="joint"):
    stored = member_of(run, name)
    return stored["steps"], stored["ended_at"], [checkpoint["step"] for checkpoint in stored["checkpoints"]]


def stall_after(monkeypatch, count):
    monkeypatch.setattr(member, "has_stalled", lambda checkpoints: len(checkpoints) >= count)


def test_a_training_without_gain_ends_early(digits, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ganaug")
    stall_after(monkeypatch, 2)
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit=FIT))
    assert steps_of(run) == (16, 12, [8, 12])
    assert member_of(run)["chosen"] in (8, 12)
    assert metrics_of(run)["step"].tolist() == [4, 8, 12]
    assert "ended early" in caplog.text and open_run(run)[1]["complete"] is True
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == 16  # which the stages depend on
    again = fit(digits, tmp_path / "again", recipe=run / "recipe.yaml")
    assert trained(again) == trained(run)


def test_a_training_with_gains_goes_on_to_its_end(digits, tmp_path, caplog):
    caplog.set_level("INFO", "ganaug")
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit=FIT))
    assert steps_of(run) == (16, 16, [8, 12, 16]) and "ended early" not in caplog.text


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_a_member_that_ends_early_leaves_the_others_their_steps(digits, tmp_path, monkeypatch, strategy):
    begun, train_member = [], member.train_member

    def noting(folder, member, *arguments):
        begun.append(member.name)
        return train_member(folder, member, *arguments)

    monkeypatch.setattr(training, "train_member", noting)
    monkeypatch.setattr(member, "has_stalled", lambda checkpoints: len(begun) == 2 and len(checkpoints) >= 1)
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"steps": 24, "strategy": strategy}))
    for number, each in enumerate(STRATEGIES[strategy](3)):
        steps, ended, _ = steps_of(run, each.name)
        assert steps == member_steps(each, 24)
        assert (ended < steps) == (number == 1)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == 24


def test_a_budget_is_planned_as_a_whole_however_early_it_ends(digits, tmp_path, monkeypatch):
    stall_after(monkeypatch, 1)
    set_pace(monkeypatch, [1.0])
    recipe = with_settings(fit={"steps": None, "budget": "40s", "log_interval": 1, "strategy": "per-class"})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = [steps_of(run, f"class-{k}") for k in range(3)]
    planned = round(40 / 3 * member.STEPS_SHARE)
    assert [planned_steps for planned_steps, *_ in steps] == [planned] * 3
    assert all(ended < planned for _, ended, _ in steps)
    stored = yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"]
    assert stored == pytest.approx(3 * planned, abs=2)


@pytest.mark.parametrize(("spent", "left"), [(8.0, 32.0), (39.0, 40 * training.LEAST_LEFT)])
def test_the_preparation_is_part_of_the_budget_as_far_as_it_leaves_enough(digits, tmp_path, monkeypatch, spent, left):
    moments = [0.0]
    set_pace(monkeypatch, [1.0])
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: moments.pop() if moments else spent))
    recipe = with_settings(fit={"steps": None, "budget": "40s", "log_interval": 1})
    assert steps_of(fit(digits, tmp_path / "run", recipe=recipe))[0] == round(left * member.STEPS_SHARE)


def test_the_chosen_checkpoint_becomes_the_member(digits, tmp_path, monkeypatch):
    """Its networks are those of a training that ended there, and not those of the last step."""
    choices, left = {}, {}
    for step in (8, 12, 16):
        with monkeypatch.context() as patch:
            patch.setattr(
                member, "choose", lambda checkpoints, step=step: next(c for c in checkpoints if c.step == step)
            )
            choices[step] = fit(digits, tmp_path / f"choice-{step}", recipe=with_settings(fit=FIT))
        with monkeypatch.context() as patch:
            stall_after(patch, (step - 4) // 4)
            patch.setattr(member, "choose", lambda checkpoints: checkpoints[-1])
            left[step] = fit(digits, tmp_path / f"left-{step}", recipe=with_settings(fit=FIT))
        assert member_of(choices[step])["chosen"] == member_of(left[step])["ended_at"] == step
        assert weights_of(choices[step]) == weights_of(left[step])
    assert len({weights_of(run)["generator"] for run in choices.values()}) == 3


@pytest.mark.parametrize("strategy", ["joint", "per-class"])
def test_a_mixing_run_synthesizes_from_itself_alone(digits, tmp_path, strategy):
    data = shutil.copytree(digits, tmp_path / "data")
    run = fit(data, tmp_path / "run", recipe=with_settings(fit={"family": "mixing", "strategy": strategy}))
    synthesize(run, tmp_path / "before", recipe={"synthesize": {"per_class": 3}})
    shutil.rmtree(data)
    moved = run.rename(tmp_path / "moved")
    made = synthesize(moved, tmp_path / "after", recipe={"synthesize": {"per_class": 3}})
    assert made == dict.fromkeys(CLASS_NAMES, 3)
    assert files_of(tmp_path / "after") == files_of(tmp_path / "before")
    assert len(set(files_of(tmp_path / "after").values())) == 9 + 8  # images, and the files beside them


def test_a_mixing_run_keeps_the_training_images_of_each_class_but_none_held_out(digits, tmp_path):
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"family": "mixing"}))
    folder, _ = open_run(run)
    weights = load_file(run / "members/joint/generator.safetensors")
    images, recipe = training.load(folder.data), training.load_recipe(folder.recipe)
    train, held_out = shares.split_images(images, recipe, weights["images"].device)
    assert weights["counts"].tolist() == [int((train.labels == k).sum()) for k in range(3)]
    stored = {image.numpy().tobytes() for image in weights["images"]}
    assert stored == {image.numpy().tobytes() for image in train.images}
    assert not stored & {image.numpy().tobytes() for image in held_out.images} and len(held_out.images) > 0
