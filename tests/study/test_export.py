"""The classifiers of a study as files: they predict what the study scored."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from small import CLASS_NAMES
from studies import DEMO

from ganaug.classify import predictor
from ganaug.classify.backbones import OWN
from ganaug.classify.predictor import HEADER, load_classifier, predict
from ganaug.data.cache import load
from ganaug.data.images import encode_png
from ganaug.data.source import open_unlabeled
from ganaug.errors import GanaugError
from ganaug.runs import read_json, write_json
from ganaug.study.arms import BASELINE
from ganaug.study.compare import compare
from ganaug.study.export import best_arm, describe_export, export_classifier


@pytest.fixture(scope="module")
def exported(tiny_study, tmp_path_factory):
    return export_classifier(tiny_study, tmp_path_factory.mktemp("exported") / "classifier.safetensors")


@pytest.fixture(scope="module")
def judged_images(tiny_run, tmp_path_factory):
    """The study's test images as files, in their order, and their labels."""
    folder = tmp_path_factory.mktemp("images")
    images, labels = load(tiny_run / "data").subset("test")
    for number, image in enumerate(images):
        (folder / f"{number:03d}.png").write_bytes(encode_png(image.transpose(1, 2, 0)))
    return folder, labels


def stored_probabilities(study, arm):
    """Of the first repetition, as the study scored them."""
    path = next((study / "pieces").glob(f"{arm.replace('/', '-')}-split-0-gan-0-0-*.safetensors"))
    with np.load(path.with_suffix(".npz")) as stored:
        return stored["probabilities"]


@pytest.mark.parametrize("arm", [BASELINE, "scratch/real+synthetic", "discriminator/real"])
def test_an_exported_classifier_predicts_what_the_study_scored(tiny_study, judged_images, tmp_path, arm):
    folder, labels = judged_images
    file = export_classifier(tiny_study, tmp_path / "a.safetensors", arm=arm)
    table = predict(file, folder)
    found = table[[f"p({name})" for name in CLASS_NAMES]].to_numpy()
    np.testing.assert_allclose(found, stored_probabilities(tiny_study, arm), atol=2e-5)
    assert list(table["file"]) == [f"{number:03d}.png" for number in range(len(labels))]
    assert list(table["class"]) == [CLASS_NAMES[k] for k in found.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"], found.max(axis=1), atol=1e-6)
    right = table["class"].to_numpy() == np.array(CLASS_NAMES)[labels]
    assert right.mean() == pytest.approx(read_json(tiny_study / "study.json")["arms"][arm]["accuracy"][0])
    assert load_classifier(file)[1].scores["accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_onnx_gives_the_same_in_another_program(tiny_study, tiny_run, exported, tmp_path):
    import onnxruntime

    path = export_classifier(tiny_study, tmp_path / "classifier.onnx")
    session = onnxruntime.InferenceSession(path)
    images = load(tiny_run / "data").subset("test")[0]
    expected = stored_probabilities(tiny_study, load_classifier(exported)[1].arm)
    for count in (1, len(images)):
        (found,) = session.run(["probabilities"], {"images": images[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
    card = json.loads(session.get_modelmeta().custom_metadata_map[HEADER])
    assert card["class_names"] == list(CLASS_NAMES) and card["resize"] == "crop"


def test_the_best_arm_is_that_of_the_inner_folds(standard_study):
    content = read_json(standard_study / "study.json")
    arms = list(content["arms"])
    choice = content["choices"][0] | {
        "chosen": 8,
        "candidates": [
            {"arm": arms[0], "step": "updates", "setting": {"updates": 4}, "log_loss": 0.1},
            {"arm": arms[0], "step": "updates", "setting": {"updates": 8}, "log_loss": 0.5},
            {"arm": arms[1], "step": "updates", "setting": {"updates": 8}, "log_loss": 0.4},
            {"arm": arms[1], "step": "updates", "setting": {"updates": 16}, "log_loss": 0.9},
            {"arm": arms[2], "step": "updates", "setting": {"updates": 4}, "log_loss": 0.45},
            {"arm": arms[3], "step": "training", "setting": {}, "log_loss": 0.01},
        ],
    }
    assert best_arm({"arms": content["arms"], "choices": [choice]}) == arms[1]
    assert best_arm({"arms": content["arms"], "choices": [choice | {"candidates": []}]}) == BASELINE
    assert best_arm(content) in arms


def test_images_of_any_kind_are_brought_to_what_the_classifier_takes(exported, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/color.png").write_bytes(encode_png(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)))
    (tmp_path / "gray.png").write_bytes(encode_png(rng.integers(0, 256, (9, 9, 1), dtype=np.uint8)))
    (tmp_path / "notes.txt").write_text("no image")
    table = predict(exported, tmp_path, tmp_path / "out.csv")
    assert list(table["file"]) == ["deep/er/color.png", "gray.png"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv", dtype={"class": str}), table, check_dtype=False)
    single = predict(exported, tmp_path / "gray.png")
    assert single.iloc[0].drop("file").tolist() == table.iloc[1].drop("file").tolist()


def test_unreadable_images_are_named_and_left_out(exported, tmp_path, caplog):
    (tmp_path / "good.png").write_bytes(encode_png(np.zeros((9, 9, 1), np.uint8)))
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert list(predict(exported, tmp_path)["file"]) == ["good.png"]
    assert "bad.png is left out: not an image" in caplog.text
    (tmp_path / "good.png").unlink()
    with pytest.raises(GanaugError, match="none of the images"):
        predict(exported, tmp_path)
    (tmp_path / "bad.png").unlink()
    with pytest.raises(GanaugError, match="holds no images"):
        predict(exported, tmp_path)


def test_what_is_heard_of_the_reading_is_what_has_been_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((8, 8, 1), np.uint8)))
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    monkeypatch.setattr(predictor, "BATCH", 2)
    card = predictor.Card(("x", "y"), 8, 1, "crop", OWN, 8, "scratch/real", {})
    heard = []
    source = open_unlabeled(tmp_path)
    batches = list(predictor.read_batches(source, card, lambda done, note="": heard.append(done)))
    assert [names for names, _ in batches] == [["a.png"], ["c.png"]]
    assert heard == [0, 1, 2, 2, 3]


def test_what_is_no_classifier_is_refused(exported, tiny_run, tmp_path):
    for content, message in ((b"", "cannot be read as a classifier"), (b"x" * 99, "cannot be read as a classifier")):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(GanaugError, match=message):
            load_classifier(tmp_path / "a.safetensors")
    with pytest.raises(GanaugError, match="cannot be read"):
        load_classifier(tmp_path / "nowhere.safetensors")
    with pytest.raises(GanaugError, match="no classifier of ganaug's"):
        load_classifier(next((tiny_run / "members").rglob("generator.safetensors")))
    weights, card = {"a": torch.zeros(1)}, json.dumps({"schema": 1, "class_names": ["a"]})
    for header, message in ((card, "is damaged"), ('{"schema": 9}', "another version")):
        save_file(weights, tmp_path / "a.safetensors", {HEADER: header})
        with pytest.raises(GanaugError, match=message):
            load_classifier(tmp_path / "a.safetensors")


def test_a_study_that_keeps_no_classifiers_says_how_to_get_them(tiny_study, tiny_run, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    shutil.rmtree(study / "classifiers")
    with pytest.raises(GanaugError, match=r"Delete .* and repeat ganaug compare"):
        export_classifier(study, tmp_path / "a.safetensors")
    (study / "study.json").unlink()
    for path in (study / "pieces").glob("*.safetensors"):
        path.unlink()
    compare(tiny_run, study, recipe=DEMO)
    export_classifier(study, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == export_classifier(
        tiny_study, tmp_path / "b.safetensors"
    ).read_bytes()


def test_the_arm_and_its_score_are_told_and_guessing_is_warned_of(tiny_study, tmp_path, caplog):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    content = read_json(study / "study.json")
    for scores, warned in (([0.3, 0.4], True), ([0.9, 0.95], False)):  # three classes of ten test images
        content["arms"][BASELINE]["balanced_accuracy"] = scores
        write_json(study / "study.json", content)
        caplog.clear()
        export_classifier(study, tmp_path / "a.safetensors", arm=BASELINE)
        assert ("cannot be told from guessing" in caplog.text) == warned
    assert describe_export(study, BASELINE) == (
        f"arm: {BASELINE}; balanced accuracy on the test images: 90.0 % of this classifier, 92.5 % in the mean of 2 repetitions"
    )


def test_what_cannot_be_exported_is_said(tiny_study, tmp_path):
    with pytest.raises(GanaugError, match=r"must end in \.safetensors or \.onnx"):
        export_classifier(tiny_study, tmp_path / "a.pt")
    with pytest.raises(GanaugError, match="not a finished study"):
        export_classifier(tmp_path, tmp_path / "a.onnx")
    with pytest.raises(GanaugError, match="it has scratch/real"):
        export_classifier(tiny_study, tmp_path / "a.onnx", arm="scratch/banana")
    shutil.copytree(tiny_study, tmp_path / "result/study")
    with pytest.raises(GanaugError, match=r"Did you mean .*result/study\?"):
        export_classifier(tmp_path / "result", tmp_path / "a.onnx")


def test_a_folder_is_no_classifier(tmp_path):
    with pytest.raises(GanaugError, match="is a folder, not the file of a classifier"):
        predict(tmp_path, tmp_path)


def test_a_study_with_holes_is_named_before_anything_is_written(tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    whole = read_json(study / "study.json")
    for hole in (
        {"counts": {}},
        {"counts": {"test": {}}},
        {"arms": whole["arms"] | {BASELINE: {}}},
        {"class_names": []},
    ):
        write_json(study / "study.json", whole | hole)
        with pytest.raises(GanaugError, match=r"study\.json is damaged"):
            export_classifier(study, tmp_path / "a.safetensors", arm=BASELINE)
    assert not (tmp_path / "a.safetensors").exists()
