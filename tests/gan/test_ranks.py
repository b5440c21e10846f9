"""Several processes train as one would alone: the same data in the same order, the same networks; and end together."""

import pickle
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from game import make_data, make_state, with_changes
from interruptions import EVERY_STEP, interrupted_fit, member_of, metrics_of, take_four_checkpoints
from small import with_settings
from tiny import FIT, ganaug, refused
from together import GAMES, play, play_together

from ganaug import GanaugError
from ganaug.gan import forecast, ranks, settling, training
from ganaug.gan.checkpoints import capture, restore
from ganaug.gan.diffaug import augment
from ganaug.gan.networks import SPREAD_GROUP
from ganaug.gan.ranks import ALONE, Part, current
from ganaug.gan.steps import TrainingData, draw_batch, train_step
from ganaug.gan.training import fit
from ganaug.runs import open_run
from ganaug.sessions import Stopped

EVERYTHING = ("color", "translation", "scale", "rotation", "cutout")


def test_the_command_to_go_on_with_is_that_of_torchrun_again(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(training, "fit", stop)
    plain = ganaug("fit", "photos", "--out", tmp_path / "run", code=130).stderr
    assert f"with: ganaug fit photos --out {tmp_path / 'run'}\n" in plain
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    launched = ganaug("fit", "photos", "--out", tmp_path / "run", code=130).stderr
    assert f"with: torchrun --nproc-per-node 3 -m ganaug fit photos --out {tmp_path / 'run'}\n" in launched
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    of_two_machines = ganaug("fit", "photos", "--out", tmp_path / "run", code=130).stderr
    assert (
        f"with: torchrun --nnodes 2 --nproc-per-node 3 -m ganaug fit photos --out {tmp_path / 'run'} ("
        in of_two_machines
    )
    assert "on each machine, with the other arguments of torchrun as before" in of_two_machines


def put_together(parts):
    """Batches (n, ...) of each process -> the batch (N, ...)."""
    return torch.stack([part.unflatten(0, (-1, SPREAD_GROUP)) for part in parts], 1).flatten(0, 2)


@pytest.mark.parametrize("world", [2, 3, 6])
def test_the_data_and_their_order_are_the_same_however_many_share_them(world):
    settings = with_changes(batch_size=24, deformed_size=4)

    def drawn(part):
        state = make_state(settings)
        state.part = part
        batches = [draw_batch(state, make_data("both"), settings) for _ in range(3)]
        seen = [augment(real, EVERYTHING, 0.7, state.rng, part) for real, _, _ in batches]
        return [*batches, seen], state.rng.get_state()

    whole, rng = drawn(ALONE)
    parts, rngs = zip(*(drawn(Part(rank, world)) for rank in range(world)), strict=True)
    assert all(torch.equal(rng, other) for other in rngs)
    for position, batch in enumerate(whole):
        for kind, values in enumerate(batch):
            torch.testing.assert_close(put_together([part[position][kind] for part in parts]), values)


def test_what_processes_tell_each_other_arrives_and_is_never_code(tmp_path, monkeypatch):
    """Between them stands the network: whoever answers in the first one's place must not run anything."""
    sent = []

    def pass_on(order):
        with monkeypatch.context() as patch:
            patch.setattr(ranks.dist, "broadcast", lambda tensor, source: sent.append(tensor.clone()))
            Part(0, 2).tell(order)
            patch.setattr(ranks.dist, "broadcast", lambda tensor, source: tensor.copy_(sent.pop(0)))
            return Part(1, 2).hear()

    assert pass_on(None) is None and pass_on(("step", 0.5)) == ("step", 0.5)
    state, data = make_state(with_changes()), make_data("both")
    heard = TrainingData.from_plain(pass_on((torch.bfloat16, data.to_plain()))[1])
    assert torch.equal(heard.images, data.images) and heard.labels == data.labels and heard.mirror == "both"
    word, saved = pass_on(("state", capture(state)))
    restore(state, saved)
    assert word == "state" and torch.equal(saved["rng"], state.rng.get_state())
    with pytest.raises(pickle.UnpicklingError):
        pass_on(Trap(tmp_path / "sprung"))
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_rows_of_a_batch_are_found_in_its_parts():
    batch = torch.arange(24)
    for rank in range(3):
        part = Part(rank, 3)
        mine, places = part.find(batch)
        assert torch.equal(part.of(batch)[places], batch[mine]) and len(places) == 8


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    return play_together(tmp_path_factory.mktemp("together"))


@pytest.mark.parametrize("game", GAMES)
def test_two_processes_equal_one(played, game):
    alone, together = play(GAMES[game], ALONE), played[game]
    for mine in together:
        assert mine["told"] == [pytest.approx(row, rel=1e-3, abs=1e-3) for row in alone["told"]]
        assert mine["gap"] == pytest.approx(alone["gap"], rel=1e-3, abs=1e-3)
        assert mine["state"]["balance"] == pytest.approx(alone["state"]["balance"], rel=1e-3)
        assert torch.equal(mine["state"]["rng"], alone["state"]["rng"])
        for values, others in zip(mine["state"]["networks"], alone["state"]["networks"], strict=True):
            torch.testing.assert_close(values, others, rtol=1e-3, atol=1e-3)


def test_both_hold_the_same_networks_to_the_last_bit(played):
    for first, second in played.values():
        for values, others in zip(first["state"]["networks"], second["state"]["networks"], strict=True):
            assert all(torch.equal(values[name], others[name]) for name in values)


def test_a_killed_process_ends_the_training_which_goes_on(digits, tmp_path, monkeypatch):
    """Begun by one process, gone on with by two, of which one is killed, and by the two that torchrun starts in their place."""
    take_four_checkpoints(monkeypatch)
    recipe = with_settings(fit={"steps": 12, "log_interval": 1, "checkpoint_interval": EVERY_STEP})
    whole = fit(digits, tmp_path / "whole", recipe=recipe)
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, at=4)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command = [Path(__file__).with_name("together.py"), tmp_path, "fit", digits, "--out", out, "--resume"]
    found = subprocess.run([*launch, *map(str, command)], capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr
    ends = [line for line in found.stderr.splitlines() if "go on" in line]
    assert len(ends) == 1, found.stderr  # of what was lost or, where torchrun's signal comes first, of that
    assert "another process of this training was killed" in ends[0] or "SIGTERM" in ends[0]
    assert f"fit {digits} --out {out} --resume" in ends[0]
    assert (tmp_path / "killed").exists() and found.stdout.count("next: ") == 1
    assert found.stderr.count("2 processes, each with 4 of 8 images") == 2  # before and after, from one of them
    assert open_run(out)[1]["complete"] is True
    pd.testing.assert_frame_equal(metrics_of(out), metrics_of(whole), rtol=1e-3, atol=2e-3)
    assert [each["step"] for each in member_of(out)["checkpoints"]] == [
        each["step"] for each in member_of(whole)["checkpoints"]
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 16}, "3 processes cannot share .* must be a multiple of 12"),
        ({"batch_size": 24, "family": "mixing"}, "3 processes cannot share .* must be a multiple of 48"),
        ({"batch_size": 12, "cluster": "tcp://127.0.0.1:1"}, r"train one GAN together\. Leave out fit\.cluster"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(digits, tmp_path, monkeypatch, settings, said):
    @contextmanager
    def among_three(how_to_go_on):
        yield Part(0, 3)

    monkeypatch.setattr(training, "joined", among_three)
    with pytest.raises(GanaugError, match=said):
        fit(digits, tmp_path / "run", recipe=with_settings(fit=settings))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def first_of_two(monkeypatch):
    """As torchrun starts it; nobody answers."""
    place = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "test"}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))


def test_a_dry_run_refuses_the_batch_that_fit_refuses_and_measures_its_part_of_others(
    digits, first_of_two, monkeypatch
):
    def take_step(state, *given):
        sizes.add(state.batch_size)
        return train_step(state, *given)

    sizes: set[int] = set()
    monkeypatch.setattr(forecast, "train_step", take_step)
    monkeypatch.setattr(settling, "train_step", take_step)
    options = ("fit", digits, *FIT, "--set", "fit.width=auto", "--set", "data.image_size=16", "--dry-run")
    assert "must be a multiple of 8" in refused(*options, "--set", "fit.batch_size=12")
    text = ganaug(*options).stdout
    assert sizes == {8} and "batch_size: 16" in text
    assert "of each of 2 processes, with 8 of 16 images of a batch" in text and current() is ALONE
    monkeypatch.setenv("RANK", "1")
    assert ganaug(*options).stdout == ""


def test_a_dry_run_ends_where_several_processes_would(digits, first_of_two, monkeypatch):
    def fail(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(forecast, "train_step", fail)
    assert "out of memory. Lower fit.batch_size" in refused("fit", digits, *FIT, "--dry-run")


def test_a_process_of_several_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [Part(3, 4).device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert ALONE.device("cuda:1") == "cuda:1"
    with pytest.raises(GanaugError, match="each of 4 processes needs a GPU of its own"):
        Part(3, 4).device("cuda:1")


def test_other_commands_are_for_one_process(digits, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "Start check without torchrun" in refused("check", digits)
