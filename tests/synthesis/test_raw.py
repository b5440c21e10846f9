"""Images without tests, and images in tar shards."""

import json
import tarfile

import pandas as pd
import pytest
from small import CLASS_NAMES, files_of

from ganaug import GanaugError
from ganaug.data.manifest import read_manifest
from ganaug.runs import open_run
from ganaug.settings import SynthesizeSettings
from ganaug.synthesis import raw, writing
from ganaug.synthesis.halfway import save_halfway
from ganaug.synthesis.raw import make_raw
from ganaug.synthesis.synthesize import synthesize
from ganaug.synthesis.tally import Tally

COUNTS = {"0": 5, "2": 3}
ASKED = {"synthesize": {"add": COUNTS}}


def asked():
    return [Tally(name, count) for name, count in COUNTS.items()]


@pytest.fixture(scope="module")
def shards(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "packed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "SHARD_BYTES", 5000)
        assert synthesize(tiny_run, folder, recipe=ASKED, raw=True, shards=True, device="cpu") == COUNTS
    return folder


def test_images_without_tests_are_those_that_tests_begin_with(tiny_run, tiny_synthetic, tmp_path):
    """The tiny run's own settings leave out all filters."""
    out = tmp_path / "out"
    assert synthesize(tiny_run, out, recipe={"synthesize": {"per_class": 5}}, raw=True, device="cpu") == dict.fromkeys(
        CLASS_NAMES, 5
    )
    made, tested = read_manifest(out), read_manifest(tiny_synthetic)
    columns = ["file", "class", "seed", "checkpoint", "truncation"]
    pd.testing.assert_frame_equal(made[columns], tested[columns])
    for file in made["file"]:
        assert (out / file).read_bytes() == (tiny_synthetic / file).read_bytes()


def test_processes_make_the_same_images(tiny_run, monkeypatch):
    monkeypatch.setattr(raw, "TASK", 2)
    folder, info = open_run(tiny_run)
    one, two = (
        list(make_raw(folder, info["strategy"], CLASS_NAMES, asked(), SynthesizeSettings(), raw.torch.device("cpu"), n))
        for n in (1, 2)
    )
    assert one == two and [row.file for row, _ in one][4:6] == ["0/synthetic-000004.png", "2/synthetic-000000.png"]


def test_shards_follow_webdatasets_convention(shards, tiny_run, tmp_path):
    table = read_rows(shards)
    found = {}
    told = json.loads((shards / "shards.json").read_text())
    assert len(told["shards"]) > 1 and sum(each["images"] for each in told["shards"]) == 8
    for shard in told["shards"]:
        assert (shards / shard["file"]).stat().st_size == shard["bytes"]
        with tarfile.open(shards / shard["file"]) as archive:
            names = archive.getnames()
            for key in {name.split(".")[0] for name in names}:  # the files of a sample stand side by side
                at = sorted(index for index, name in enumerate(names) if name.split(".")[0] == key)
                assert at[-1] - at[0] == len(at) - 1 == 2
            found |= {name: archive.extractfile(name).read() for name in names}
    assert {name for name in found if name.endswith(".png")} == set(table["file"])
    for row in table.itertuples():
        key = row.file.removesuffix(".png")
        assert CLASS_NAMES[int(found[f"{key}.cls"])] == row.file.split("/")[0]
        assert json.loads(found[f"{key}.json"])["seed"] == row.seed
    synthesize(tiny_run, tmp_path / "plain", recipe=ASKED, raw=True, device="cpu")
    plain = files_of(tmp_path / "plain")
    assert {name: plain[name] for name in table["file"]} == {name: found[name] for name in table["file"]}


def test_webdataset_reads_the_shards(shards):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("png", "cls", "json"))
    assert [label for _, label, _ in samples] == [0] * 5 + [2] * 3
    assert all(image.shape == (16, 16, 3) for image, _, _ in samples)


def test_packed_images_are_refused_where_folders_are_expected_until_they_are_unpacked(shards, tmp_path):
    with pytest.raises(GanaugError, match="Unpack them there"):
        read_manifest(shards)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for path in shards.iterdir():
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:  # extractall has no `filter` in the first releases of Python 3.11
                    (unpacked / member.name).parent.mkdir(exist_ok=True)
                    (unpacked / member.name).write_bytes(archive.extractfile(member).read())
        else:
            (unpacked / path.name).write_bytes(path.read_bytes())
    assert len(read_manifest(unpacked)) == 8


def test_shards_are_whole_or_not_there(tiny_run, tmp_path, monkeypatch):
    def interrupted(*arguments):
        made = make_raw(*arguments)
        yield next(made)
        raise KeyboardInterrupt

    monkeypatch.setattr("ganaug.synthesis.synthesize.make_raw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tiny_run, tmp_path / "out", recipe=ASKED, raw=True, shards=True, device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [1, 4, 6])
@pytest.mark.parametrize("packed", [True, False])
def test_what_was_stopped_goes_on_to_the_same_files(shards, tiny_run, tmp_path, monkeypatch, at, packed):
    """Also in the middle of a shard, and with images written that nobody has counted."""
    options = {"recipe": ASKED, "raw": True, "shards": packed, "device": "cpu"}
    monkeypatch.setattr(writing, "SHARD_BYTES", 5000)
    if packed:
        whole = files_of(shards)
    else:
        synthesize(tiny_run, tmp_path / "whole", **options)
        whole = files_of(tmp_path / "whole")
    begun = []

    def interrupted(*arguments):
        for number, made in enumerate(make_raw(*arguments)):
            if number == at:
                raise KeyboardInterrupt
            begun.append(made[0].file)
            yield made

    with monkeypatch.context() as patch:
        patch.setattr("ganaug.synthesis.synthesize.SAVE_INTERVAL", -1.0)
        patch.setattr(
            "ganaug.synthesis.synthesize.save_halfway",
            lambda *given: save_halfway(*given) if len(begun) < at else None,  # all but the last image
        )
        patch.setattr("ganaug.synthesis.synthesize.make_raw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesize(tiny_run, tmp_path / "out", **options)
    assert at == 1 or (tmp_path / ".out.partial").is_dir()

    def counting(*arguments):
        for made in make_raw(*arguments):
            begun.append(made[0].file)
            yield made

    monkeypatch.setattr("ganaug.synthesis.synthesize.make_raw", counting)
    del begun[at - 1 :]
    synthesize(tiny_run, tmp_path / "out", **options)
    assert files_of(tmp_path / "out") == whole
    assert len(begun) == len(set(begun)) == 8  # none was made twice


def test_real_images_do_not_go_into_shards(tiny_run, digits, tmp_path):
    with pytest.raises(GanaugError, match="--with-real"):
        synthesize(tiny_run, tmp_path / "out", with_real=digits, shards=True)
    assert not (tmp_path / "out").exists()


def read_rows(folder):
    return pd.read_csv(folder / "manifest.csv", dtype={"seed": "int64", "class": "str"})
