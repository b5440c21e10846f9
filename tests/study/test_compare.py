"""The stage `compare` end to end on a tiny run: its files, repeatability, resuming, foreign images, refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics
from small import CLASS_NAMES, TEST_PER_CLASS, TINY, TRAIN_COUNTS, files_of, with_settings

from ganaug import GanaugError, load_recipe
from ganaug.data.cache import load
from ganaug.data.images import encode_png
from ganaug.data.manifest import read_manifest
from ganaug.gan.training import fit
from ganaug.runs import read_json
from ganaug.study import compare as stage
from ganaug.study import pieces
from ganaug.study.arms import ARMS, QUESTIONS
from ganaug.study.compare import compare, load_synthetic
from ganaug.study.statistics import METRICS
from ganaug.study.verdict import judge

KEYS = {
    "schema",
    "verdict",
    "sentence",
    "primary",
    "arms",
    "differences",
    "per_class",
    "confusion",
    "class_names",
    "counts",
    "seeds",
    "updates",
    "settings",
    "versions",
    "source",
    "notes",
    "seconds",
    "run",
    "reproduce",
}
SET_BY_HAND = {"compare": TINY["compare"] | {"updates": 3}}


@pytest.fixture(scope="session")
def tiny_study(tiny_run, tmp_path_factory):
    """A complete study that drew its own images and chose its updates."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    compare(tiny_run, folder, recipe={"compare": TINY["compare"]})
    return folder


def numbers_of(folder):
    """study.json without what may differ between two runs of the same study."""
    study = read_json(folder / "study.json")
    return {key: value for key, value in study.items() if key not in ("seconds", "reproduce")}


def piece_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "pieces").iterdir()}


def test_all_files(tiny_study):
    names = {path.name for path in tiny_study.iterdir()}
    tables = {"metrics.csv", "curves.csv", "gan.csv", "examples.npz"}
    assert {"study.json", "recipe.yaml", "identity.json", "synthetic", "pieces"} | tables <= names
    pieces = {f"{arm.replace('/', '-')}-{seed}.npz" for arm in ARMS for seed in (0, 1)}
    inner = {f"inner-{updates}-{fold}.npz" for updates in (1, 2, 4, 8) for fold in (0, 1)}
    assert set(piece_files(tiny_study)) == pieces | inner


def test_study_json(tiny_study, tiny_run, digits):
    study = read_json(tiny_study / "study.json")
    assert set(study) == KEYS
    assert study["verdict"] in ("helps", "hurts", "inconclusive") and study["sentence"].endswith(".")
    assert study["primary"] == {
        "arm": "scratch/real+synthetic",
        "baseline": "scratch/real",
        "metric": "balanced_accuracy",
    }
    assert study["class_names"] == list(CLASS_NAMES) and study["seeds"] == [0, 1]
    assert study["counts"] == {
        "train": TRAIN_COUNTS,
        "test": dict.fromkeys(CLASS_NAMES, TEST_PER_CLASS),
        "synthetic": dict.fromkeys(CLASS_NAMES, 4),
    }
    assert study["source"] == str(digits) and study["run"] == str(tiny_run)
    assert study["seconds"] > 0
    assert [c["updates"] for c in study["updates"]["candidates"]] == [1, 2, 4, 8]
    assert study["updates"]["chosen"] in (1, 2, 4, 8) and study["updates"]["converged"] in (True, False)
    assert any("Only 2 seeds" in note for note in study["notes"])
    assert any("Only 30 test images" in note for note in study["notes"])
    assert load_recipe(study["settings"]).compare.seeds == 2
    assert all(command.startswith("ganaug ") for command in study["reproduce"])


def test_the_numbers_follow_from_the_stored_predictions(tiny_study, tiny_run):
    """Every score is computed again by scikit-learn from the pieces and the test labels of the run."""
    study = read_json(tiny_study / "study.json")
    _, truth = load(tiny_run / "data").subset("test")
    assert set(study["arms"]) == set(study["per_class"]) == set(study["confusion"]) == set(ARMS)
    for arm in ARMS:
        total = np.zeros((3, 3), int)
        for seed in (0, 1):
            with np.load(tiny_study / f"pieces/{arm.replace('/', '-')}-{seed}.npz") as piece:
                predicted = piece["probabilities"].argmax(axis=1)
            scores = {metric: study["arms"][arm][metric][seed] for metric in METRICS}
            assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
            assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
            f1 = metrics.f1_score(truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
            assert scores["macro_f1"] == pytest.approx(f1)
            recalls = metrics.recall_score(truth, predicted, labels=[0, 1, 2], average=None)
            assert [study["per_class"][arm][name][seed] for name in CLASS_NAMES] == pytest.approx(recalls)
            total += metrics.confusion_matrix(truth, predicted, labels=[0, 1, 2])
        assert study["confusion"][arm] == total.tolist()


def test_the_differences_follow_from_the_scores(tiny_study):
    study = read_json(tiny_study / "study.json")
    asked = [(d["arm"], d["baseline"], d["metric"]) for d in study["differences"]]
    assert asked == [(arm, baseline, metric) for arm, baseline in QUESTIONS for metric in METRICS]
    for d in study["differences"]:
        arm, baseline = (study["arms"][d[which]][d["metric"]] for which in ("arm", "baseline"))
        assert d["values"] == pytest.approx(np.subtract(arm, baseline))
        assert d["mean"] == pytest.approx(np.mean(d["values"])) and d["pairs"] == 2
        assert d["low"] <= d["mean"] <= d["high"]
        assert d["verdict"] == judge(d["low"], d["high"])
    primary = next(d for d in study["differences"] if {key: d[key] for key in study["primary"]} == study["primary"])
    assert study["verdict"] == primary["verdict"]
    assert f"{100 * primary['mean']:+.1f} points" in study["sentence"]


def test_tables_and_examples(tiny_study, tiny_run):
    study = read_json(tiny_study / "study.json")
    scores = pd.read_csv(tiny_study / "metrics.csv")
    assert list(scores) == ["arm", "seed", *METRICS] and len(scores) == 8
    for row in scores.to_dict("records"):
        for metric in METRICS:
            assert row[metric] == pytest.approx(study["arms"][row["arm"]][metric][row["seed"]])
    curves = pd.read_csv(tiny_study / "curves.csv")
    assert list(curves) == ["arm", "seed", "update", "loss", "accuracy"]
    chosen = study["updates"]["chosen"]
    assert (curves.groupby(["arm", "seed"])["update"].max() == chosen).all() and curves["arm"].nunique() == 4
    gan = pd.read_csv(tiny_study / "gan.csv")
    of_run = pd.read_csv(tiny_run / "members/joint/metrics.csv")
    pd.testing.assert_frame_equal(gan.drop(columns="member"), of_run)
    assert set(gan["member"]) == {"joint"}
    images, labels = load(tiny_run / "data").subset("train")
    with np.load(tiny_study / "examples.npz") as examples:
        assert examples["real"].shape[0] == examples["synthetic"].shape[0] == 3
        assert examples["real"].shape[2:] == (16, 16, 1) and examples["real"].dtype == np.uint8
        for k in range(3):
            np.testing.assert_array_equal(examples["real"][k, 0], images[labels == k][0].transpose(1, 2, 0))


def test_a_deleted_half_is_trained_again_to_the_same_numbers(tiny_study, tiny_run, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_study, tmp_path / "study")
    (folder / "study.json").unlink()
    lost = sorted((folder / "pieces").iterdir())[::2]
    for path in lost:
        path.unlink()
    trained, train_piece = [], pieces.train_piece
    monkeypatch.setattr(
        pieces, "train_piece", lambda piece, *rest: trained.append(piece.name) or train_piece(piece, *rest)
    )
    compare(tiny_run, folder, recipe={"compare": TINY["compare"]})
    assert sorted(trained) == sorted(path.stem for path in lost)
    assert numbers_of(folder) == numbers_of(tiny_study)
    for name in ("metrics.csv", "curves.csv", "gan.csv"):
        assert (folder / name).read_bytes() == (tiny_study / name).read_bytes()


def test_an_interrupted_study_goes_on_to_the_same_numbers(tiny_study, tiny_run, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    count, train_piece = [], pieces.train_piece

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 11:  # eight of the choice, then two of the arms
            raise KeyboardInterrupt
        return train_piece(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "train_piece", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare(tiny_run, folder, recipe={"compare": TINY["compare"]})
    assert not (folder / "study.json").exists()
    compare(tiny_run, folder, recipe={"compare": TINY["compare"]})
    assert numbers_of(folder) == numbers_of(tiny_study)


def test_a_complete_study_is_left_as_it_is(tiny_study, tiny_run, monkeypatch):
    before = files_of(tiny_study)
    monkeypatch.setattr(pieces, "train_piece", lambda *_: pytest.fail("trained again"))
    assert compare(tiny_run, tiny_study, recipe={"compare": TINY["compare"]}) == tiny_study / "study.json"
    assert files_of(tiny_study) == before


def test_the_stored_recipe_repeats_the_study(tiny_study, tiny_run, tmp_path):
    compare(tiny_run, tmp_path / "again", synthetic=tiny_study / "synthetic", recipe=tiny_study / "recipe.yaml")
    again, before = numbers_of(tmp_path / "again"), numbers_of(tiny_study)
    assert again["updates"] == {"chosen": before["updates"]["chosen"], "converged": None, "candidates": []}
    assert {key: again[key] for key in ("arms", "differences", "confusion")} == {
        key: before[key] for key in ("arms", "differences", "confusion")
    }


@pytest.mark.parametrize(
    "change", [{"seeds": 3}, {"updates": 5}, {"max_updates": 16}, {"learning_rate": 0.1}, {"pool_per_class": 5}]
)
def test_a_folder_with_another_study_is_refused(tiny_study, tiny_run, change):
    before = files_of(tiny_study)
    with pytest.raises(GanaugError, match="another --out"):
        compare(tiny_run, tiny_study, recipe={"compare": TINY["compare"] | change})
    assert files_of(tiny_study) == before


def test_another_run_or_other_images_are_refused_too(tiny_study, tiny_synthetic, tiny_run, digits, tmp_path):
    with pytest.raises(GanaugError, match="another --out"):
        compare(tiny_run, tiny_study, synthetic=tiny_synthetic, recipe={"compare": TINY["compare"]})
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"steps": 2}))
    with pytest.raises(GanaugError, match="another --out"):
        compare(other, tiny_study, recipe={"compare": TINY["compare"]})


def test_a_folder_with_other_things_is_refused(tiny_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("precious")
    with pytest.raises(GanaugError, match="not empty"):
        compare(tiny_run, tmp_path / "mine", recipe={"compare": TINY["compare"]})
    assert files_of(tmp_path / "mine") == {"notes.txt": b"precious"}


def write_foreign(folder, class_names=CLASS_NAMES, size=20, count=2):
    """Images of another tool: no manifest, another size, in colour."""
    rng = np.random.default_rng(0)
    for name in class_names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            (folder / name / f"image{i}.png").write_bytes(
                encode_png(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
            )
    return folder


def test_a_foreign_folder_without_a_manifest_works(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign")
    study = read_json(compare(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND))
    assert study["counts"]["synthetic"] == dict.fromkeys(CLASS_NAMES, 2)
    assert study["updates"] == {"chosen": 3, "converged": None, "candidates": []}
    assert any("set by hand" in note for note in study["notes"])
    assert str(foreign) in " ".join(study["reproduce"])


def test_the_arms_without_synthetic_images_do_not_depend_on_them(tiny_run, tiny_synthetic, tmp_path):
    studies = [
        read_json(compare(tiny_run, tmp_path / name, synthetic=folder, recipe=SET_BY_HAND))
        for name, folder in (("own", tiny_synthetic), ("foreign", write_foreign(tmp_path / "images")))
    ]
    for arm in ("scratch/real", "discriminator/real"):
        assert studies[0]["arms"][arm] == studies[1]["arms"][arm]
    pieces = [np.load(tmp_path / name / "pieces/scratch-real+synthetic-0.npz") for name in ("own", "foreign")]
    assert not np.array_equal(*(piece["probabilities"] for piece in pieces))


def test_unknown_classes_are_refused(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign", ("0", "1", "2", "owl"))
    with pytest.raises(GanaugError, match="classes that the run does not know: owl"):
        compare(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND)
    assert not (tmp_path / "study").exists()


def test_real_images_of_a_manifest_are_not_taken_for_synthetic_ones(tiny_run, digits, tmp_path):
    from ganaug.synthesis.synthesize import synthesize

    synthesize(tiny_run, tmp_path / "both", recipe={"synthesize": {"per_class": 2}}, with_real=digits)
    images = load(tiny_run / "data")
    pool = load_synthetic(tmp_path / "both", images, load_recipe())
    assert np.bincount(pool.labels).tolist() == [2, 2, 2]
    assert pool.images.shape == (6, 1, 16, 16)
    real = {image.tobytes() for image in images.images}
    assert not any(image.tobytes() in real for image in pool.images)


def test_a_damaged_synthetic_image_is_named(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign")
    (foreign / "1/image1.png").write_text("text")
    with pytest.raises(GanaugError, match=r"1/image1\.png cannot be decoded"):
        compare(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND)


def test_a_class_without_synthetic_images_is_noted(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign", ("0", "2"))
    study = read_json(compare(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND))
    assert study["counts"]["synthetic"] == {"0": 2, "1": 0, "2": 2}
    assert any(note == "There are no synthetic images of: 1." for note in study["notes"])


def test_the_choice_is_made_from_training_images_alone(tiny_run, tiny_synthetic, tmp_path, monkeypatch):
    images = load(tiny_run / "data")
    train, test = ({image.tobytes() for image in images.subset(split)[0]} for split in ("train", "test"))
    seen, choosing = [], []
    choose_updates, predict, train_classifier = stage.choose_updates, pieces.predict, pieces.train_classifier

    def watched(material, groups, *rest):
        assert len(groups) == len(material.train.labels) == sum(TRAIN_COUNTS.values())
        assert {image.tobytes() for image in material.train.images} == train
        choosing.append(True)
        choice = choose_updates(material, groups, *rest)
        choosing.clear()
        return choice

    def watch(pixels):
        if choosing:
            seen.append({image.tobytes() for image in pixels})

    monkeypatch.setattr(stage, "choose_updates", watched)
    monkeypatch.setattr(
        pieces, "predict", lambda model, pixels, device: watch(pixels) or predict(model, pixels, device)
    )
    monkeypatch.setattr(
        pieces,
        "train_classifier",
        lambda model, real, *rest: watch(real.images) or train_classifier(model, real, *rest),
    )
    compare(tiny_run, tmp_path / "study", synthetic=tiny_synthetic, recipe={"compare": TINY["compare"]})
    assert len(seen) == 2 * 8
    assert set().union(*seen) == train and not set().union(*seen) & test


def test_the_images_it_draws_are_those_of_the_run(tiny_study, tiny_synthetic):
    drawn = files_of(tiny_study / "synthetic")
    made = files_of(tiny_synthetic)
    pngs = {name for name in drawn if name.endswith(".png")}
    assert len(pngs) == 12 and all(drawn[name] == made[name] for name in pngs)
    assert yaml.safe_load((tiny_study / "recipe.yaml").read_text())["synthesize"]["per_class"] == 4


def test_its_own_settings_of_the_images_count(tiny_run, tmp_path):
    recipe = SET_BY_HAND | {"synthesize": {"truncation": 0.5, "seed": 3}}
    compare(tiny_run, tmp_path / "study", recipe=recipe)
    table = read_manifest(tmp_path / "study/synthetic")
    assert set(table["truncation"]) == {0.5} and table["class"].value_counts().eq(4).all()


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_other_strategies(digits, tmp_path, strategy):
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"strategy": strategy, "steps": 6}))
    study = read_json(compare(run, tmp_path / "study", recipe=SET_BY_HAND))
    assert study["counts"]["synthetic"] == dict.fromkeys(CLASS_NAMES, 4)
    assert set(pd.read_csv(tmp_path / "study/gan.csv")["member"]) == set(read_json(run / "run.json")["members"])
    assert any("One GAN for each class" in note for note in study["notes"]) == (strategy == "per-class")


def test_images_of_another_run_are_not_said_to_be_remade(tiny_run, tiny_synthetic, digits, tmp_path):
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"seed": 5, "steps": 1}))
    own = read_json(compare(tiny_run, tmp_path / "own", synthetic=tiny_synthetic, recipe=SET_BY_HAND))["reproduce"]
    foreign = read_json(compare(other, tmp_path / "foreign", synthetic=tiny_synthetic, recipe=SET_BY_HAND))["reproduce"]
    assert any(line.startswith("ganaug synthesize RUN") for line in own)
    assert not any(line.startswith("ganaug synthesize") for line in foreign)
    assert any(str(tiny_synthetic) in line for line in foreign)


def test_too_few_images_are_refused_before_the_folder_is_claimed(digits, tmp_path):
    settings = with_settings(data={"limit_per_class": 1}, fit={"steps": 1})
    run = fit(digits, tmp_path / "run", recipe=settings)
    with pytest.raises(GanaugError, match=r"--set compare\.updates"):
        compare(run, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    assert compare(run, tmp_path / "study", recipe=SET_BY_HAND).is_file()


def test_incomplete_runs_are_refused(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"complete": False}))
    with pytest.raises(GanaugError, match="not complete"):
        compare(run, tmp_path / "study", recipe=SET_BY_HAND)
    with pytest.raises(GanaugError, match="not a run"):
        compare(tmp_path, tmp_path / "study", recipe=SET_BY_HAND)
