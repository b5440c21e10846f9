"""The generator of a run as one object: its images, its file, its card."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small import CLASS_NAMES, TRAIN_COUNTS, files_of, with_settings

import ganaug
from ganaug import GanaugError, Generator
from ganaug.data.images import decode
from ganaug.data.manifest import read_manifest
from ganaug.gan.training import fit
from ganaug.integrations import generator as module
from ganaug.runs import read_json, write_json

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.from_run(tiny_run)


@pytest.fixture(scope="module")
def saved(generator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "generator"
    generator.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def samples_of(generator):
    return np.stack([generator.sample(name, 6, seed=3, truncation=0.7) for name in CLASS_NAMES])


def test_its_images_are_those_of_synthesize(generator, tiny_synthetic):
    for name in CLASS_NAMES:  # of which no candidate was rejected
        files = read_manifest(tiny_synthetic).query("`class` == @name")["file"]
        written = np.stack([decode((tiny_synthetic / file).read_bytes()).pixels for file in files])
        np.testing.assert_array_equal(generator.sample(name, 5).transpose(0, 2, 3, 1), written)


def test_images_by_number_seed_and_truncation(generator):
    whole = generator.sample("1", 70)
    assert whole.shape == (70, 1, 16, 16) and whole.dtype == np.uint8
    np.testing.assert_array_equal(generator.sample("1", 3, first=66), whole[66:69])
    assert generator.sample("1", 0).shape == (0, 1, 16, 16)
    assert (generator.sample("1", 3, seed=1) != whole[:3]).any()
    assert generator.sample("1", 20, truncation=0.1).std(axis=0).mean() < 0.7 * whole[:20].std(axis=0).mean()


def test_a_mixed_batch_of_noise_and_labels(generator):
    noise, labels = torch.randn(6, generator.latent_size), torch.tensor([2, 0, 1, 0, 2, 2])
    with torch.no_grad():
        together = generator(noise, labels)
        alone = torch.cat([generator(noise[i : i + 1], labels[i : i + 1]) for i in range(6)])
    assert together.shape == (6, 1, 16, 16) and together.abs().max() <= 1
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(generator, saved):
    assert set(files_of(saved)) == {"model.safetensors", "config.json", "README.md"}
    loaded = Generator.from_pretrained(saved)
    assert not loaded.training and loaded.class_names == CLASS_NAMES
    state = loaded.state_dict()
    assert state.keys() == generator.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())
    np.testing.assert_array_equal(samples_of(loaded), samples_of(generator))


def test_saved_again_the_files_are_the_same(saved, tmp_path):
    Generator.from_pretrained(saved).save_pretrained(tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(saved)


@pytest.mark.parametrize("settings", [{"strategy": "per-class"}, {"strategy": "specialised"}, {"family": "mixing"}])
def test_other_runs(digits, tmp_path, settings):
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"steps": 4} | settings))
    made = Generator.from_run(run)
    assert len(made.networks) == (1 if "family" in settings else 3)
    made.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(samples_of(Generator.from_pretrained(tmp_path / "saved")), samples_of(made))
    written = ganaug.synthesize(run, tmp_path / "out", recipe={"synthesize": {"per_class": 2}}, device="cpu")
    for name in written:
        first = decode((tmp_path / f"out/{name}/synthetic-000000.png").read_bytes()).pixels
        np.testing.assert_array_equal(made.sample(name, 1)[0].transpose(1, 2, 0), first)
    warns = "holds the training images themselves" in (tmp_path / "saved/README.md").read_text()
    assert warns == ("family" in settings)


# the hub


def test_pushing_uploads_the_files_of_a_saved_one(generator, saved, monkeypatch):
    from types import SimpleNamespace

    from huggingface_hub import hub_mixin

    calls = {}

    class Api:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, **options):
            calls["created"] = repo_id
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path, repo_id, **options):
            calls["files"], calls["to"] = files_of(Path(folder_path)), repo_id
            return "https://hub/commit"

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    assert generator.push_to_hub("me/digits", token="secret") == "https://hub/commit"
    assert calls == {"token": "secret", "created": "me/digits", "to": "me/digits", "files": files_of(saved)}


def test_a_repository_is_fetched(saved, monkeypatch):
    import huggingface_hub.hub_mixin

    fetched = []

    def download(repo_id, filename, **options):
        fetched.append((repo_id, filename, options["revision"]))
        return str(saved / filename)

    monkeypatch.setattr(
        huggingface_hub.hub_mixin, "hf_hub_download", lambda repo_id, filename, **o: download(repo_id, filename, **o)
    )
    monkeypatch.setattr("ganaug.integrations.generator.hf_hub_download", download)
    loaded = Generator.from_pretrained("me/digits", revision="v1")
    assert fetched == [("me/digits", "config.json", "v1"), ("me/digits", "model.safetensors", "v1")]
    np.testing.assert_array_equal(samples_of(loaded), samples_of(Generator.from_pretrained(saved)))


def test_a_repository_that_cannot_be_fetched(monkeypatch, tmp_path):
    with pytest.raises(GanaugError, match="nobody/nothing is neither the folder of a saved generator nor a repo"):
        Generator.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no generator of ganaug's"),
        (lambda folder: write_json(folder / "config.json", {"hidden": 5}), "holds no generator of ganaug's"),
        (lambda folder: (folder / "config.json").write_text("{"), "neither the folder of a saved generator nor"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12"), r"model\.safetensors cannot be loaded"),
    ],
)
def test_damaged_folders(copy, damage, message):
    damage(copy)
    with pytest.raises(GanaugError, match=message):
        Generator.from_pretrained(copy)


def test_without_huggingface_hub_only_the_hub_is_missing(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    path = Path(module.__file__)
    spec = importlib.util.spec_from_file_location("ganaug.integrations.generator_alone", path)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    made = alone.Generator.from_run(tiny_run)
    assert made.sample("0", 2).shape == (2, 1, 16, 16)
    for call in (made.save_pretrained, made.push_to_hub, alone.Generator.from_pretrained):
        with pytest.raises(GanaugError, match=r"needs huggingface_hub\. Install it: pip install 'ganaug\[hub\]'"):
            call(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_name": "3"}, "unknown class '3'"),
        ({"truncation": 1.5}, r"expected a truncation above 0, up to 1.* got truncation 1\.5"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_impossible_samples(generator, options, message):
    with pytest.raises(GanaugError, match=message):
        generator.sample(**{"class_name": "0", "count": 2, **options})


def test_only_of_a_complete_run(tmp_path):
    with pytest.raises(GanaugError, match="is not a run"):
        Generator.from_run(tmp_path)


# the card


def test_the_card_tells_the_run(saved, tiny_run):
    from huggingface_hub import ModelCard

    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "ganaug" and "gan" in card.data.tags
    for name, number in TRAIN_COUNTS.items():
        assert f"| {name} | {number} |" in card.text
    assert "12 steps" in card.text and "16 x 16 pixels, gray, in 3 classes" in card.text
    assert "has not been measured here" in card.text
    assert str(Path(read_json(tiny_run / "run.json")["source"]).parent) not in card.text  # nobody's business


def test_the_card_tells_the_verdict_of_a_study(tiny_run, tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    sys.path.append(str(Path(__file__).parents[1] / "reporting"))
    try:
        from fake_study import write_study
    finally:
        sys.path.pop()
    write_study(study, list(CLASS_NAMES))
    values = read_json(study / "study.json")
    text = Generator.from_run(tiny_run, study=study).generate_model_card().text
    assert values["sentence"] in text.replace("\\", "") and "95% interval" in text and "measured here" not in text
    write_study(study, ["cat", "dog"])
    with pytest.raises(GanaugError, match="is about the classes cat, dog, the run about 0, 1, 2"):
        Generator.from_run(tiny_run, study=study)


def test_a_card_of_hostile_names_is_one_table(tmp_path):
    from ganaug.reporting.cards import model_card

    text = model_card({}, ["a | b", "<img>", "line\nbreak ```"], 16, 3)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5 and "<img>" not in text.split("```")[2]
    assert json.dumps("a | b") in text
