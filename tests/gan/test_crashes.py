"""What stops a training from outside: signals, a full disk, damaged files, another process, data that vanish, memory."""

import errno
import json
import os
import shutil
import signal

import pytest
import torch
import yaml
from interruptions import EVERY_STEP, interrupted_fit, member_of, take_four_checkpoints, trained
from small import files_of, with_settings
from tiny import ganaug, refused

from ganaug import GanaugError, sessions
from ganaug.data.source import Source
from ganaug.gan import forecast, member, settling
from ganaug.gan.member import load_member
from ganaug.gan.settling import measure_pace
from ganaug.gan.training import fit
from ganaug.runs import RunFolder, read_json
from ganaug.sessions import LOCK, Stopped, sole

FIT = {"steps": 8, "log_interval": 4, "transition": (0.2, 0.2), "sample_interval": 1e6}
OFTEN = FIT | {"checkpoint_interval": EVERY_STEP}


@pytest.fixture(autouse=True)
def four_checkpoints(monkeypatch):
    take_four_checkpoints(monkeypatch)
    monkeypatch.setattr(sessions, "PATIENCE", 0.0)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        take_four_checkpoints(patch)
        return trained(fit(digits, tmp_path_factory.mktemp("whole") / "run", recipe=with_settings(fit=FIT)))


@pytest.fixture(scope="module")
def stopped(digits, tmp_path_factory):
    """A run that was interrupted after its sixth step."""
    with pytest.MonkeyPatch.context() as patch:
        take_four_checkpoints(patch)
        out = tmp_path_factory.mktemp("stopped") / "run"
        return interrupted_fit(patch, digits, out, with_settings(fit=OFTEN), 7)


def during(monkeypatch, step, action):
    """Calls `action` before that step, once."""
    train_step, calls = member.train_step, []

    def acting(state, *arguments):
        calls.append(state.step)
        if len(calls) == step:
            action()
        return train_step(state, *arguments)

    monkeypatch.setattr(member, "train_step", acting)
    return calls


def hidden(folder):
    return list(folder.rglob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 6), (signal.SIGTERM, 8)])
def test_a_signal_stops_after_the_step_with_all_that_was_learned(digits, tmp_path, monkeypatch, whole, number, step):
    """Between two rows of metrics and two savings, too."""
    with monkeypatch.context() as patch:
        calls = during(patch, step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=number.name):
            fit(digits, tmp_path / "run", recipe=with_settings(fit=FIT))
        assert len(calls) == step
    assert not hidden(tmp_path)
    calls = during(monkeypatch, 0, None)
    fit(digits, tmp_path / "run", resume=True)
    assert calls == list(range(step, 8))
    assert trained(tmp_path / "run") == whole


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_command_says_how_to_go_on_and_that_works(digits, tmp_path, monkeypatch, whole):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(with_settings(fit=FIT)))))
    command = ("fit", digits, "--out", tmp_path / "run", "--recipe", recipe)
    with monkeypatch.context() as patch:
        during(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        errors = ganaug(*command, code=128 + signal.SIGTERM).stderr.splitlines()
    assert errors[-1] == (
        f"stopped by SIGTERM. What was finished is kept; go on with: ganaug {' '.join(map(str, command))} --resume"
    )
    ganaug(*command, "--resume")
    assert trained(tmp_path / "run") == whole


def test_a_full_disk_is_told_in_one_line_and_costs_nothing(digits, tmp_path, monkeypatch, whole):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(with_settings(fit=OFTEN)))))
    command = ("fit", digits, "--out", tmp_path / "run", "--recipe", recipe)
    fsync, written = os.fsync, []

    def full(file):
        written.append(file)
        if len(written) >= 25:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        line = refused(*command)
    assert "the disk is full" in line and str(tmp_path / "run") in line and "\n" not in line
    assert line.endswith("--resume")
    ganaug(*command, "--resume")
    assert trained(tmp_path / "run") == whole
    assert not hidden(tmp_path)


def test_a_read_only_target_is_told_in_one_line(digits, tmp_path, monkeypatch):
    def read_only(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(sessions.Path, "mkdir", read_only)
    line = refused("fit", digits, "--out", tmp_path / "run", "--steps", "1")
    assert line.startswith(f"error: Read-only file system: {tmp_path / 'run'}.")
    assert "--resume" not in line  # nothing has begun
    assert not list(tmp_path.iterdir())


def test_data_that_vanish_while_they_are_read_are_no_small_data(digits, tmp_path, monkeypatch):
    data, read, names = shutil.copytree(digits, tmp_path / "data"), Source.read, []

    def vanishing(source, name):
        names.append(name)
        if len(names) == 4:
            shutil.rmtree(data)
        return read(source, name)

    monkeypatch.setattr(Source, "read", vanishing)
    assert "vanished while it was read" in refused("fit", data, "--out", tmp_path / "run", "--steps", "1")
    assert not list(tmp_path.iterdir())


def test_data_that_vanish_later_are_asked_for_and_nothing_is_lost(digits, tmp_path, monkeypatch, whole):
    data = shutil.copytree(digits, tmp_path / "data")
    out = interrupted_fit(monkeypatch, data, tmp_path / "run", with_settings(fit=OFTEN), 6)
    before = files_of(out)
    data.rename(tmp_path / "away")
    with pytest.raises(GanaugError, match="does not exist"):
        fit(data, out, resume=True)
    assert files_of(out) == before
    (tmp_path / "away").rename(data)
    fit(data, out, resume=True)
    assert trained(out) == whole


def test_a_run_that_is_at_work_is_left_alone(digits, tmp_path, stopped):
    out = shutil.copytree(stopped, tmp_path / "run")
    before = files_of(out)
    with sole(out / LOCK, out):
        assert "another process is at work" in refused("fit", digits, "--out", out, "--resume")
    assert files_of(out) == before


def test_what_a_killed_process_left_goes_when_the_run_goes_on(digits, tmp_path, stopped, whole):
    out = shutil.copytree(stopped, tmp_path / "run")
    for name in (LOCK, "members/joint/.state.pt.4711.tmp", ".run.json.4711.tmp", "data/.images.npy.4711.tmp"):
        (out / name).write_bytes(b"half")
    fit(digits, out, resume=True)
    assert trained(out) == whole and not hidden(out)


@pytest.mark.parametrize("left", [LOCK, ".status.json.12.tmp"])
def test_a_run_that_was_killed_before_anything_was_written_begins(digits, tmp_path, whole, left):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / left).touch()
    fit(digits, tmp_path / "run", recipe=with_settings(fit=FIT))
    assert trained(tmp_path / "run") == whole and not hidden(tmp_path)


def reseal(content, **changes):
    line, _, rest = content.partition(b"\n")
    return json.dumps(json.loads(line) | changes).encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-7], "truncated"),
        (lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:], "has changed"),
        (lambda content: content.partition(b"\n")[2], "does not begin"),
        (lambda content: b"", "does not begin"),
        (lambda content: reseal(content, schema=2), r"schema 2.*Update ganaug"),
        (lambda content: reseal(content, owner="?"), "another training"),
    ],
)
def test_a_damaged_state_is_named(digits, tmp_path, stopped, damage, reason):
    out = shutil.copytree(stopped, tmp_path / "run")
    path = out / "members/joint/state.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GanaugError, match=rf"state\.pt cannot be loaded: .*{reason}"):
        fit(digits, out, resume=True)


def test_the_state_of_another_seed_is_not_gone_on_with(digits, tmp_path, monkeypatch, stopped):
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(fit=OFTEN | {"seed": 1}), 7)
    shutil.copy(stopped / "members/joint/state.pt", out / "members/joint/state.pt")
    with pytest.raises(GanaugError, match=r"state\.pt.*another training"):
        fit(digits, out, resume=True)


def test_a_state_holds_no_code(stopped):
    """torch's own loader of numbers alone reads it all."""
    content = (stopped / "members/joint/state.pt").read_bytes().partition(b"\n")[2]
    (stopped.parent / "content.pt").write_bytes(content)
    assert set(torch.load(stopped.parent / "content.pt", weights_only=True)) == {"now", "good", "logged"}


def test_swapped_weights_are_named(digits, tmp_path, tiny_run):
    """Of the same shape, so that nothing else tells."""
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"seed": 1}))
    run = shutil.copytree(tiny_run, tmp_path / "run")
    load_member(RunFolder(run), "joint")
    for name in ("generator", "discriminator"):
        path = run / f"members/joint/{name}.safetensors"
        right = path.read_bytes()
        shutil.copy(other / f"members/joint/{name}.safetensors", path)
        with pytest.raises(GanaugError, match=rf"{name}\.safetensors cannot be loaded: .*not the one"):
            load_member(RunFolder(run), "joint")
        path.write_bytes(right)


def test_a_member_of_a_newer_ganaug_is_refused(tmp_path, tiny_run):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    path = run / "members/joint/member.json"
    path.write_text(json.dumps(read_json(path) | {"schema": 2}))
    with pytest.raises(GanaugError, match=r"member\.json has schema 2.*Update ganaug"):
        load_member(RunFolder(run), "joint")


def exhaust(monkeypatch, most):
    """A GPU whose memory holds batches of `most` images."""
    train_step, sizes = member.train_step, []

    def stepping(state, *arguments):
        sizes.append(state.batch_size)
        if state.step >= 5 and state.batch_size > most:
            state.generator_optimizer.state.clear()  # half of a step
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return train_step(state, *arguments)

    monkeypatch.setattr(member, "train_step", stepping)
    return sizes


def test_out_of_memory_halves_the_batch_and_goes_on(digits, tmp_path, monkeypatch, caplog):
    recipe = with_settings(fit=FIT | {"batch_size": 20})
    with monkeypatch.context() as patch:
        sizes = exhaust(patch, 8)
        run = fit(digits, tmp_path / "run", recipe=recipe)
    assert sizes == [20] * 6 + [8] * 4  # from the checkpoint after four steps
    assert (member_of(run)["batch_size"], member_of(run)["ended_at"], member_of(run)["rollbacks"]) == (8, 8, 0)
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "fit joint: out of memory; back to step 4, and on with batches of 8 images"
    ]
    with monkeypatch.context() as patch:
        exhaust(patch, 8)
        out = interrupted_fit(patch, digits, tmp_path / "again", recipe | {"fit": recipe["fit"] | OFTEN}, 9)
        sizes = exhaust(patch, 8)
        fit(digits, out, resume=True)
    assert set(sizes) == {8} and trained(out) == trained(run)


def test_memory_is_no_less_to_be_had_while_the_speed_is_measured(digits, tmp_path, monkeypatch, caplog):
    """By default threads and width are measured before the training begins."""
    monkeypatch.setattr(settling, "measure_pace", measure_pace)
    train_step, build_state, widths = settling.train_step, settling.build_state, []

    def building(shape, *arguments):
        widths.append(shape["width"])
        return build_state(shape, *arguments)

    def stepping(state, *arguments):
        if state.batch_size > 8 or widths[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return train_step(state, *arguments)

    for module in (settling, member, forecast):
        monkeypatch.setattr(module, "train_step", stepping)
        monkeypatch.setattr(module, "build_state", building)
    monkeypatch.setattr(settling, "WIDTHS", {"cpu": (4, 8)})
    monkeypatch.setattr(settling, "ENOUGH_STEPS", 1)
    open_ones = {"steps": None, "threads": None, "width": "auto", "budget": "10s"}
    recipe = with_settings(fit=FIT | {"batch_size": 40} | open_ones)
    estimate = forecast.estimate_fit(digits, recipe=recipe)
    assert (estimate.recipe.fit.width, estimate.recipe.fit.batch_size, set(widths)) == (4, 40, {4, 8})
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        f"out of memory: measured with batches of {size} images, to which the training would come down"
        for size in (20, 8)
    ]
    run = fit(digits, tmp_path / "run", recipe=recipe | {"fit": estimate.recipe.fit.model_dump() | {"steps": 4}})
    assert member_of(run)["batch_size"] == 8


def test_out_of_memory_at_a_checkpoint_halves_the_batch_too(digits, tmp_path, monkeypatch):
    gap = member.duality_gap

    def measuring(state, *arguments):
        if state.batch_size > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return gap(state, *arguments)

    monkeypatch.setattr(member, "duality_gap", measuring)
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit=FIT | {"batch_size": 20}))
    found = member_of(run)
    assert (found["batch_size"], found["ended_at"]) == (8, 8)
    steps = [each["step"] for each in found["checkpoints"]]
    assert steps == sorted(set(steps)) and steps[-1] == 8


def test_memory_that_holds_no_batch_is_told_in_one_line(digits, tmp_path, monkeypatch):
    exhaust(monkeypatch, 2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(with_settings(fit=FIT)))))
    line = refused("fit", digits, "--out", tmp_path / "run", "--recipe", recipe)
    assert line.startswith("error: out of memory. Lower") and line.endswith("--resume")
