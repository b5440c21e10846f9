"""Files that outlive a process: whole or not at all, of a known schema, restored exactly."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny import refused
from torch import nn

from ganaug import GanaugError
from ganaug.data.manifest import JOURNAL, read_pending
from ganaug.recipe import load_recipe
from ganaug.runs import (
    SCHEMA,
    describe_versions,
    load_tensors,
    load_weights,
    open_run,
    read_json,
    read_sealed,
    save_weights,
    write_json,
    write_text,
    written_whole,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_file_stays_when_the_block_raises(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), written_whole(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names_in(tmp_path) == ["file.txt"]


def test_a_new_file_appears_only_at_the_end(tmp_path):
    path = tmp_path / "deep/below/file.txt"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # on the same disk, so that it can take the place at once
    assert path.read_text() == "new" and names_in(path.parent) == ["file.txt"]


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with path.open() as reader:
        write_text(path, "new")
        assert reader.read() == "old"  # it was replaced, not written over
    assert path.read_text() == "new"


def test_the_old_file_stays_when_the_disk_fails(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old" and names_in(tmp_path) == ["file.txt"]


def test_json_round_trip(tmp_path):
    value = {"schema": SCHEMA, "class_names": ["ü", "日本", 'a "b"\n'], "counts": {"x": 3}, "share": 0.1, "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "日本" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_numbers_that_json_does_not_know_leave_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"x": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]", b"3"])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GanaugError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(GanaugError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")


def test_a_file_without_what_is_needed_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1}')
    assert read_json(tmp_path / "a.json", keys=("x",)) == {"x": 1}
    with pytest.raises(GanaugError, match=r"a\.json is damaged: it lacks y"):
        read_json(tmp_path / "a.json", keys=("x", "y"))


@pytest.mark.parametrize("schema", [SCHEMA + 1, 99, "2", None])
def test_a_newer_schema_is_refused(tmp_path, schema):
    (tmp_path / "a.json").write_text(json.dumps({"schema": schema}))
    with pytest.raises(GanaugError, match="schema"):
        read_json(tmp_path / "a.json")


def test_a_run_of_a_newer_program_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"schema": SCHEMA + 1, "complete": True}))
    with pytest.raises(GanaugError, match="Update ganaug"):
        open_run(tmp_path)


def test_open_run_tells_what_is_missing(tmp_path):
    with pytest.raises(GanaugError, match=r"is not a run.*ganaug fit"):
        open_run(tmp_path)
    write_json(tmp_path / "result/run/run.json", {})
    with pytest.raises(GanaugError, match=r"Did you mean .*result/run\?"):
        open_run(tmp_path / "result")
    write_json(tmp_path / "run.json", {"schema": SCHEMA, "complete": False, "source": "birds.zip"})
    with pytest.raises(GanaugError, match=r"not complete.*birds\.zip.*--resume"):
        open_run(tmp_path)
    write_json(tmp_path / "run.json", {"schema": SCHEMA, "complete": False, "source": "x; rm -rf ~"})
    with pytest.raises(GanaugError, match=r"ganaug fit 'x; rm -rf ~' --out"):
        open_run(tmp_path)
    write_json(tmp_path / "run.json", {"schema": SCHEMA, "complete": True})
    with pytest.raises(GanaugError, match="damaged: it lacks class_names"):
        open_run(tmp_path)
    write_json(tmp_path / "run.json", WHOLE)
    folder, info = open_run(str(tmp_path))
    assert folder.info == tmp_path / "run.json" and info["complete"] is True


WHOLE = {
    "schema": SCHEMA,
    "complete": True,
    "class_names": ["cat", "dog"],
    "counts": {"train": {"cat": 3, "dog": 4}},
    "source": "photos",
    "strategy": "joint",
    "members": ["joint"],
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ["../../out", "dog"]}, "cannot be a folder's name"),
        ({"class_names": ["/", "dog"]}, "cannot be a folder's name"),
        ({"class_names": ["..", "dog"]}, "cannot be a folder's name"),
        ({"class_names": ["cat", "cat"]}, "list of different names"),
        ({"class_names": [1, 2]}, "list of different names"),
        ({"members": ["../.."]}, "cannot be a folder's name"),
        ({"counts": {"train": {"cat": 3}}}, "not those of its classes"),
        ({"counts": {"train": {"cat": "3", "dog": 4}}}, "not those of its classes"),
        ({"counts": 3}, "not those of its classes"),
    ],
)
def test_a_run_whose_names_lead_elsewhere_is_refused(tmp_path, changed, message):
    write_json(tmp_path / "run.json", {**WHOLE, **changed})
    with pytest.raises(GanaugError, match=message):
        open_run(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_json_that_is_too_deep_or_has_too_many_digits_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(GanaugError, match="cannot be read as JSON"):
        read_json(tmp_path / "a.json")


class Network(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.convolution = nn.Conv2d(1, size, 3)
        self.norm = nn.BatchNorm2d(size)
        self.register_buffer("spread", torch.zeros(()))


def test_weights_round_trip_exactly(tmp_path):
    torch.manual_seed(0)
    network = Network().to(memory_format=torch.channels_last)
    network.spread.fill_(1 / 3)
    network.norm(torch.randn(2, 3, 4, 4))  # running statistics
    save_weights(tmp_path / "a.safetensors", network)
    other = Network()
    load_weights(tmp_path / "a.safetensors", other)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    save_weights(tmp_path / "b.safetensors", other)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-4],
        lambda content: b"\xff" * len(content),
        lambda content: content[:8] + b"[" + content[9:],
    ],
)
def test_damaged_weights_are_named(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    save_weights(path, Network())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GanaugError, match=r"a\.safetensors cannot be loaded"):
        load_weights(path, Network())


def test_missing_weights_and_those_of_another_network_are_named(tmp_path):
    with pytest.raises(GanaugError, match=r"none\.safetensors cannot be loaded"):
        load_weights(tmp_path / "none.safetensors", Network())
    save_weights(tmp_path / "a.safetensors", Network(4))
    with pytest.raises(GanaugError, match=r"a\.safetensors cannot be loaded"):
        load_weights(tmp_path / "a.safetensors", Network(3))
    with pytest.raises(GanaugError, match=r"a\.safetensors cannot be loaded"):
        load_weights(tmp_path / "a.safetensors", nn.Linear(2, 2))


def test_versions_name_every_library(monkeypatch):
    versions = describe_versions()
    assert {"python", "platform", "torch", "numpy", "scipy"} <= set(versions)
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]


def open_journal(path):
    return read_pending(path.rename(path.with_name(JOURNAL)).parent)


READERS = [read_json, load_tensors, load_recipe, open_journal, lambda path: read_sealed(path, "somebody")]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "file")
    with pytest.raises((GanaugError, OSError), match="it is no regular file"):
        read(tmp_path / "file")
    (tmp_path / "file2").symlink_to("/dev/zero")
    with pytest.raises((GanaugError, OSError), match="it is no regular file"):
        read(tmp_path / "file2")


@pytest.mark.parametrize("read", READERS)
def test_what_is_too_large_is_not_read(tmp_path, read):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)  # that take no place
    with pytest.raises((GanaugError, OSError), match="it has more than"):
        read(tmp_path / "file")


def test_weights_of_more_bytes_than_their_network_are_not_read(tmp_path):
    network = nn.Linear(2, 3)
    save_weights(tmp_path / "file", network)
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(2**31)
    with pytest.raises(GanaugError, match="it has more than"):
        load_weights(tmp_path / "file", network)


@pytest.mark.parametrize("name", ["recipe.yaml", "data/index.csv", "data/images.npy", "members/joint/metrics.csv"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_run_with_a_pipe_is_not_opened(tiny_run, tmp_path, name):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(GanaugError, match=f"{name} is no regular file"):
        open_run(run)
    info = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", info | {"complete": False})
    assert f"{name} is no regular file" in refused("fit", tmp_path, "--out", run, "--resume")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the shell's <(command)")
def test_a_recipe_may_come_from_another_command():
    end, writing = os.pipe()
    os.write(writing, b"fit: {steps: 7}")
    os.close(writing)
    assert load_recipe(f"/dev/fd/{end}").fit.steps == 7
    os.close(end)


@pytest.mark.parametrize("text", ['{"a": ["\\ud800"]}', '{"\\uDFFF": 1}', '{"a": "\\ude00\\ud83d"}'])
def test_half_a_character_is_damage(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(GanaugError, match="is damaged: it has a text that is not valid Unicode") as refused:
        read_json(tmp_path / "file")
    str(refused.value).encode()


def test_both_halves_are_a_character(tmp_path):
    (tmp_path / "file").write_text('{"a": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "file") == {"a": "\N{GRINNING FACE}"}
