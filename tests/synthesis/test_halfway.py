"""A synthesis that is stopped or killed goes on where it was, and ends as if nothing had happened."""

import io
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from small import CLASS_NAMES, files_of
from tiny import ganaug

from ganaug import GanaugError, audit, rebuild
from ganaug.synthesis import harvest, synthesize
from ganaug.synthesis.halfway import NAME
from ganaug.synthesis.sample import CHUNK

PER_CLASS = CHUNK + 8  # two blocks of each class
BLOCKS = 2 * len(CLASS_NAMES)
CURATION = {"without": ["copy", "wrong-class", "outlier", "unrealistic"], "keep": 0.9}  # what was kept is compared with


def make(run, out, **settings):
    recipe = {"synthesize": {"per_class": PER_CLASS, **settings}, "curation": CURATION}
    return synthesize.synthesize(run, out, recipe=recipe, device="cpu")


@pytest.fixture(scope="module")
def whole(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    make(tiny_run, folder)
    return files_of(folder)


@pytest.fixture(autouse=True)
def saved_at_every_block(monkeypatch):
    monkeypatch.setattr(synthesize, "SAVE_INTERVAL", 0.0)


def at_block(monkeypatch, number, action):
    """Calls `action` before that block is made; notes all blocks."""
    sample, blocks = harvest.sample, []

    def acting(*arguments):
        blocks.append(arguments[2][0])
        if len(blocks) == number:
            action()
        return sample(*arguments)

    monkeypatch.setattr(harvest, "sample", acting)
    return blocks


class Killed(BaseException):
    pass


def kill():
    raise Killed


@pytest.mark.parametrize("block", [1, 2, 3, 5, 6])
def test_killed_in_any_block(tiny_run, tmp_path, monkeypatch, whole, block):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        at_block(patch, block, kill)
        with pytest.raises(Killed):
            make(tiny_run, out)
    assert not out.exists()
    with monkeypatch.context() as patch:
        blocks = at_block(patch, 0, None)
        assert make(tiny_run, out) == dict.fromkeys(CLASS_NAMES, PER_CLASS)
    assert len(blocks) == BLOCKS - block + 1
    assert files_of(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_while_it_wrote_rows_and_images(tiny_run, tmp_path, monkeypatch, whole):
    out, write, count = tmp_path / "out", Path.write_bytes, []

    def dying(path, content):
        if path.name.startswith("synthetic-") and path.suffix == ".png":
            count.append(path)
            if len(count) == PER_CLASS + 20:
                write(path, content[:30])  # half
                raise Killed
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", dying)
        with pytest.raises(Killed):
            make(tiny_run, out)
    left = files_of(tmp_path / ".out.partial")
    assert NAME in left and len(left) > PER_CLASS
    make(tiny_run, out)
    assert files_of(out) == whole


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_stops_after_the_block_and_says_how_to_go_on(tiny_run, tmp_path, monkeypatch, whole):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"curation": CURATION}))
    command = ("synthesize", tiny_run, "--out", tmp_path / "out", "--per-class", PER_CLASS, "--recipe", recipe)
    command = (*command, "--device", "cpu")
    monkeypatch.setattr(synthesize, "SAVE_INTERVAL", 1e6)
    with monkeypatch.context() as patch:
        blocks = at_block(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        errors = ganaug(*command, code=128 + signal.SIGTERM).stderr
    assert len(blocks) == 4 and errors.rstrip().endswith(f"go on with: ganaug {' '.join(map(str, command))}")
    with monkeypatch.context() as patch:
        blocks = at_block(patch, 0, None)
        ganaug(*command)
    assert len(blocks) == BLOCKS - 4
    assert files_of(tmp_path / "out") == whole


def test_a_damaged_state_is_named(tiny_run, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        at_block(patch, 4, kill)
        with pytest.raises(Killed):
            make(tiny_run, tmp_path / "out")
    partial = tmp_path / ".out.partial"
    saved, rows = (partial / NAME).read_bytes(), (partial / ".manifest.csv.tmp").read_bytes()
    (partial / NAME).write_bytes(saved[:-100])
    with pytest.raises(GanaugError, match=r"\.halfway\.npz cannot be read"):
        make(tiny_run, tmp_path / "out")
    (partial / NAME).write_bytes(saved)
    (partial / ".manifest.csv.tmp").write_bytes(rows[:1000])
    with pytest.raises(GanaugError, match="truncated"):
        make(tiny_run, tmp_path / "out")
    (partial / ".manifest.csv.tmp").write_bytes(rows)
    make(tiny_run, tmp_path / "out")
    assert files_of(tmp_path / "out") == whole


def test_swapped_referees_are_named(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    make(run, tmp_path / "one")
    first, second = (run / f"curation/referee-{fold}.safetensors" for fold in range(2))
    content = first.read_bytes()
    shutil.copy(second, first)
    with pytest.raises(GanaugError, match=r"referee-0\.safetensors cannot be loaded: .*not the one"):
        make(run, tmp_path / "two")
    first.write_bytes(content)
    make(run, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_pieces_of_a_study_that_were_swapped_are_named(tmp_path):
    from ganaug.study.pieces import _read

    for name in ("a", "b"):
        with (tmp_path / f"{name}.npz").open("wb") as file:
            np.savez(file, name=name, probabilities=np.zeros((1, 2)), curve=np.zeros((0, 3)))
    assert _read(tmp_path / "a.npz").probabilities.shape == (1, 2)
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")
    with pytest.raises(GanaugError, match=r"a\.npz cannot be read: it is that of another training, b"):
        _read(tmp_path / "a.npz")


@pytest.mark.parametrize("how", [{}, {"raw": True}, {"raw": True, "shards": True}])
def test_killed_while_the_folder_is_finished(tiny_run, tmp_path, monkeypatch, how):
    recipe = {"synthesize": {"per_class": 6}, "curation": CURATION}
    synthesize.synthesize(tiny_run, tmp_path / "whole", recipe=recipe, device="cpu", **how)
    with monkeypatch.context() as patch:
        patch.setattr(synthesize, "write_text", lambda path, text: kill())  # of the recipe: the manifest is there
        with pytest.raises(Killed):
            synthesize.synthesize(tiny_run, tmp_path / "out", recipe=recipe, device="cpu", **how)
    synthesize.synthesize(tiny_run, tmp_path / "out", recipe=recipe, device="cpu", **how)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_an_interrupted_synthesis_is_not_lost_to_another_request(tiny_run, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        at_block(patch, 3, kill)
        with pytest.raises(Killed):
            make(tiny_run, tmp_path / "out")
    with pytest.raises(GanaugError, match="holds an interrupted synthesis with other settings, or of another version"):
        make(tiny_run, tmp_path / "out", seed=5)
    make(tiny_run, tmp_path / "out")
    assert files_of(tmp_path / "out") == whole


def test_an_interrupted_synthesis_is_not_lost_to_a_rebuilding_or_an_audit(
    tiny_run, tiny_synthetic, digits, tmp_path, monkeypatch, whole
):
    with monkeypatch.context() as patch:
        at_block(patch, 3, kill)
        with pytest.raises(Killed):
            make(tiny_run, tmp_path / "out")
    waiting = files_of(tmp_path / ".out.partial")
    with pytest.raises(GanaugError, match=r"\.out\.partial holds an interrupted synthesis\. Repeat its"):
        rebuild(tiny_run, tiny_synthetic, tmp_path / "out", device="cpu")
    with pytest.raises(GanaugError, match=r"\.out\.partial holds an interrupted synthesis\. Repeat its"):
        audit(tiny_synthetic, digits, out=tmp_path / "out", recipe={"data": {"image_size": 16}}, device="cpu")
    assert files_of(tmp_path / ".out.partial") == waiting
    rebuild(tiny_run, tiny_synthetic, tmp_path / "elsewhere", device="cpu")
    make(tiny_run, tmp_path / "out")
    assert files_of(tmp_path / "out") == whole


def tampered(saved, **changes):
    """The bytes of a saved state with other values: of the first tally, or of the whole."""
    with np.load(io.BytesIO(saved)) as stored:
        arrays = dict(stored)
    content = json.loads(str(arrays["text"]))
    for name, value in changes.items():
        (content if name in content else content["tallies"][0])[name] = value
    file = io.BytesIO()
    np.savez(file, **arrays | {"text": np.array(json.dumps(content))})
    return file.getvalue()


@pytest.fixture(scope="module")
def stopped(tiny_run, tmp_path_factory):
    """A folder where a synthesis of shards was killed before its last file."""
    home = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesize, "SAVE_INTERVAL", 0.0)
        patch.setattr(synthesize, "write_text", lambda path, text: kill())
        with pytest.raises(Killed):
            shards(tiny_run, home / "out")
    return home


def shards(run, out):
    return synthesize.synthesize(run, out, recipe={"synthesize": {"per_class": 6}}, raw=True, shards=True, device="cpu")


def shard(file, size=0):
    return [{"file": file, "images": 0, "bytes": size}]


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": shard("../victim")},
        {"shards": shard("shard-000001.tar")},
        {"shards": shard("shard-000000.tar", -1)},
        {"shards": shard("shard-000000.tar", "0")},
        {"class_name": "../victims"},
        {"class_name": "0", "asked": 7},
        {"kept": -1},
        {"kept": 6.0},
        {"candidates": True},
        {"kept": 10**30},
        {"passed": None},
        {"reasons": {"copy": "x"}},
        {"pairs": [3]},
        {"size": -1},
        {"size": "x"},
        {"tallies": []},
        {"tallies": {"a": 1}},
    ],
)
def test_a_state_that_was_planted_touches_nothing_outside(stopped, tiny_run, tmp_path, changes):
    home = shutil.copytree(stopped, tmp_path / "home")
    (home / "victims").mkdir()
    for victim in (home / "victim", home / "victims/synthetic-000001.png"):
        victim.write_text("precious")
    state = home / ".out.partial" / NAME
    state.write_bytes(tampered(state.read_bytes(), **changes))
    before = files_of(home)
    with pytest.raises(GanaugError, match=r"\.halfway\.npz cannot be read: .* and repeat the command\.") as refused:
        shards(tiny_run, home / "out")
    assert "\n" not in str(refused.value)
    assert {name: content for name, content in files_of(home).items() if not name.startswith(".out.partial/")} == {
        name: content for name, content in before.items() if not name.startswith(".out.partial/")
    }


@pytest.mark.parametrize("place", ["shard-000000.tar", ".manifest.csv.tmp", "0"])
def test_links_among_what_was_left_are_refused(stopped, tiny_run, tmp_path, place):
    home = shutil.copytree(stopped, tmp_path / "home")
    victim = home / "victim"
    victim.write_text("precious")
    link = home / ".out.partial" / place
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    with pytest.raises(GanaugError, match=f"{place} is a link, which is not followed"):
        shards(tiny_run, home / "out")
    (home / ".out.partial").rename(home / "elsewhere")
    (home / ".out.partial").symlink_to(home / "elsewhere")
    with pytest.raises(GanaugError, match=r"\.out\.partial is a link, which is not followed"):
        shards(tiny_run, home / "out")
    assert victim.read_text() == "precious"


def test_a_state_that_was_not_planted_is_gone_on_with(stopped, tiny_run, tmp_path):
    home = shutil.copytree(stopped, tmp_path / "home")
    state = home / ".out.partial" / NAME
    state.write_bytes(tampered(state.read_bytes()))
    shards(tiny_run, home / "out")
    shards(tiny_run, tmp_path / "whole")
    assert files_of(home / "out") == files_of(tmp_path / "whole")
