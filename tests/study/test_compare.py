"""The stage `compare` end to end on a tiny run: its files, repeatability, resuming, foreign images, refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics
from small import CLASS_NAMES, TEST_PER_CLASS, TRAIN_COUNTS, files_of, with_settings
from studies import (
    DEMO,
    SET_BY_HAND,
    STANDARD,
    assert_notes,
    numbers_of,
    piece_files,
    pieces_of,
    study_of,
    write_foreign,
)

from ganaug import GanaugError, load_recipe
from ganaug.data.cache import load
from ganaug.data.manifest import read_manifest
from ganaug.gan.training import fit
from ganaug.runs import read_json
from ganaug.settings import VERDICTS
from ganaug.study import pieces, units
from ganaug.study.arms import BASELINE, FACTORIAL, MIXED, questions
from ganaug.study.compare import compare
from ganaug.study.material import load_synthetic
from ganaug.study.record import GUESSES
from ganaug.study.statistics import METRICS
from ganaug.study.verdict import judge

KEYS = {
    "schema",
    "verdict",
    "sentence",
    "baseline_guesses",
    "preset",
    "primary",
    "equivalence",
    "arms",
    "differences",
    "class_differences",
    "variance",
    "needed",
    "mcnemar",
    "per_class",
    "confusion",
    "class_names",
    "counts",
    "repetitions",
    "seeds",
    "updates",
    "choices",
    "left_out",
    "settings",
    "versions",
    "source",
    "notes",
    "seconds",
    "seconds_of",
    "run",
    "reproduce",
}


def test_all_files(tiny_study):
    names = {path.name for path in tiny_study.iterdir()}
    tables = {"metrics.csv", "differences.csv", "classes.csv", "variance.csv", "curves.csv", "gan.csv", "examples.npz"}
    assert {"study.json", "recipe.yaml", "identity.json", "pools", "pieces", "units", "seconds.json"} | tables <= names
    assert {path.name for path in (tiny_study / "units").iterdir()} == {"split-0-fold-0", "split-0-fold-1"}
    for arm in FACTORIAL:
        assert sorted(pieces_of(tiny_study, arm)) == [0, 1]
    for fold in (0, 1):  # of four and of eight updates
        assert len(list((tiny_study / "pieces").glob(f"scratch-real-split-0-fold-{fold}-*"))) == 2
    assert len(piece_files(tiny_study)) == 4 * 2 + 2 * 2 + 4  # and the weights of the arms' first classifiers
    files = {path.name for path in (tiny_study / "classifiers").iterdir()}
    assert files == {f"{arm.replace('/', '-')}.safetensors" for arm in FACTORIAL}


def test_study_json(tiny_study, tiny_run, digits):
    study = read_json(tiny_study / "study.json")
    assert set(study) == KEYS
    assert study["baseline_guesses"] == (GUESSES in study["sentence"])
    assert study["verdict"] in VERDICTS and study["sentence"].endswith(
        "no evidence: one GAN, and arms that were not tuned."
    )
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
    assert study["seconds"] == pytest.approx(sum(study["seconds_of"].values())) and study["seconds"] > 0
    assert [c["updates"] for c in study["updates"]["candidates"]] == [4, 8]
    assert study["updates"]["chosen"] in (4, 8) and study["updates"]["converged"] in (True, False)
    assert_notes(
        study["notes"],
        "The preset demo shows how it works and is no evidence",
        f"Whether they converged was measured for {BASELINE}, and not for {MIXED}, discriminator/real, ",
        "Only 2 repetitions",
        "Only 30 test images",
        "The classifiers that judge synthetic images were trained once",
        "One GAN stands behind",
        "One split stands behind",
    )
    assert load_recipe(study["settings"]).compare.seeds == 2
    assert all(command.startswith("ganaug ") for command in study["reproduce"])
    assert study["repetitions"] == [{"split": 0, "gan": 0, "draw": seed, "seed": seed} for seed in (0, 1)]


def test_the_numbers_follow_from_the_stored_predictions(tiny_study, tiny_run):
    """Every score is computed again by scikit-learn from the pieces and the test labels of the run."""
    study = read_json(tiny_study / "study.json")
    _, truth = load(tiny_run / "data").subset("test")
    assert set(study["arms"]) == set(study["per_class"]) == set(study["confusion"]) == set(FACTORIAL)
    for arm in FACTORIAL:
        total = np.zeros((3, 3), int)
        for seed, probabilities in pieces_of(tiny_study, arm).items():
            predicted = probabilities.argmax(axis=1)
            scores = {metric: study["arms"][arm][metric][seed] for metric in METRICS}
            assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
            assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
            f1 = metrics.f1_score(truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
            assert scores["macro_f1"] == pytest.approx(f1)
            recalls = metrics.recall_score(truth, predicted, labels=[0, 1, 2], average=None)
            assert [study["per_class"][arm][name][seed] for name in CLASS_NAMES] == pytest.approx(recalls)
            total += metrics.confusion_matrix(truth, predicted, labels=[0, 1, 2])
        assert study["confusion"][arm] == total.tolist()


@pytest.mark.parametrize("fixture", ["tiny_study", "standard_study"])
def test_the_differences_follow_from_the_scores(fixture, request):
    study = read_json(request.getfixturevalue(fixture) / "study.json")
    asked = [(d["arm"], d["baseline"], d["metric"]) for d in study["differences"]]
    assert asked == [(arm, baseline, metric) for arm, baseline in questions(FACTORIAL) for metric in METRICS]
    for d in study["differences"]:
        arm, baseline = (study["arms"][d[which]][d["metric"]] for which in ("arm", "baseline"))
        assert d["values"] == pytest.approx(np.subtract(arm, baseline))
        assert d["mean"] == pytest.approx(np.mean(d["values"])) and d["pairs"] == len(study["seeds"])
        assert d["low"] <= d["mean"] <= d["high"] and d["p_value"] <= d["p_holm"] <= 1
        assert (d["p_value"] < 0.05) == (not d["low"] <= 0 <= d["high"])
        alone = judge(d["low"], d["high"], 0.01)
        is_primary = {key: d[key] for key in study["primary"]} == study["primary"]
        counts = is_primary or d["p_holm"] < 0.05 or alone == "equivalent"
        assert d["verdict"] == (alone if counts else "inconclusive")
    primary = next(d for d in study["differences"] if {key: d[key] for key in study["primary"]} == study["primary"])
    assert study["verdict"] == primary["verdict"]
    assert f"{100 * primary['mean']:+.1f} points" in study["sentence"]
    for row in study["class_differences"]:
        recalls = [np.mean(study["per_class"][row[which]][row["class"]]) for which in ("arm", "baseline")]
        assert row["mean"] == pytest.approx(recalls[0] - recalls[1]) and row["low"] <= row["mean"] <= row["high"]
    assert len(study["class_differences"]) == 4 * 3


def test_tables_and_examples(tiny_study, tiny_run):
    study = read_json(tiny_study / "study.json")
    scores = pd.read_csv(tiny_study / "metrics.csv")
    assert list(scores) == ["arm", "repetition", "split", "gan", "draw", "seed", *METRICS] and len(scores) == 8
    for row in scores.to_dict("records"):
        for metric in METRICS:
            assert row[metric] == pytest.approx(study["arms"][row["arm"]][metric][row["repetition"]])
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


def test_the_tables_that_it_returns(standard_study, tiny_run):
    study, found = read_json(standard_study / "study.json"), compare(tiny_run, standard_study, recipe=STANDARD)
    assert (found.verdict, found.sentence, found.folder) == (study["verdict"], study["sentence"], standard_study)
    assert all(
        isinstance(getattr(found, name), pd.DataFrame) for name in ("scores", "differences", "classes", "variance")
    )
    pd.testing.assert_frame_equal(found.scores, pd.read_csv(standard_study / "metrics.csv"))
    assert found.differences["mean"].tolist() == [d["mean"] for d in study["differences"]]
    assert found.classes["class"].unique().tolist() == list(CLASS_NAMES)
    assert found.variance["source"].tolist() == ["split", "gan", "draw", "seed", "test images", "all together"]
    assert set(found.choices["step"]) == {"training", "mixing", "updates"}


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
    compare(tiny_run, folder, recipe=DEMO)
    assert sorted(trained) == sorted({path.stem for path in lost})
    assert numbers_of(folder) == numbers_of(tiny_study)
    for name in ("metrics.csv", "curves.csv", "gan.csv"):
        assert (folder / name).read_bytes() == (tiny_study / name).read_bytes()


@pytest.mark.parametrize("stops", [(3,), (5, 9)])
def test_an_interrupted_study_goes_on_to_the_same_numbers(tiny_study, tiny_run, tmp_path, monkeypatch, stops):
    folder = tmp_path / "study"
    train_piece = pieces.train_piece
    for stop in stops:  # four of the choice, then eight of the arms
        count = []

        def interrupted(*arguments, count=count, stop=stop):
            count.append(1)
            if len(count) == stop:
                raise KeyboardInterrupt
            return train_piece(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(pieces, "train_piece", interrupted)
            if stop == stops[-1] and len(stops) > 1:
                compare(tiny_run, folder, recipe=DEMO)  # eight are left
            else:
                with pytest.raises(KeyboardInterrupt):
                    compare(tiny_run, folder, recipe=DEMO)
                assert not (folder / "study.json").exists()
    compare(tiny_run, folder, recipe=DEMO)
    assert numbers_of(folder) == numbers_of(tiny_study)


def test_a_standard_study_interrupted_in_every_part_goes_on(standard_study, tiny_run, tmp_path, monkeypatch):
    """While a GAN of a fold is trained, while pools are drawn, among the last trainings."""
    folder = tmp_path / "study"
    for module, name, at in ((units, "refit", 2), (units, "synthesize", 5), (pieces, "train_piece", 10)):
        count, function = [], getattr(module, name)

        def interrupted(*arguments, count=count, at=at, function=function, **options):
            count.append(1)
            if len(count) == at:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                compare(tiny_run, folder, recipe=STANDARD)
        assert not (folder / "study.json").exists()
    compare(tiny_run, folder, recipe=STANDARD)
    assert numbers_of(folder) == numbers_of(standard_study)
    assert piece_files(folder).keys() == piece_files(standard_study).keys()


def test_a_complete_study_is_left_as_it_is(tiny_study, tiny_run, monkeypatch):
    before = files_of(tiny_study)
    monkeypatch.setattr(pieces, "train_piece", lambda *_: pytest.fail("trained again"))
    assert compare(tiny_run, tiny_study, recipe=DEMO).folder == tiny_study
    assert files_of(tiny_study) == before


def test_the_stored_recipe_repeats_the_study(tiny_study, tiny_run, tmp_path):
    compare(tiny_run, tmp_path / "again", recipe=tiny_study / "recipe.yaml")
    assert numbers_of(tmp_path / "again") == numbers_of(tiny_study)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 3},
        {"updates": 5},
        {"max_updates": 16},
        {"learning_rate": 0.1},
        {"pool_per_class": 5},
        {"arms": FACTORIAL[:2]},
    ],
)
def test_a_folder_with_another_study_is_refused(tiny_study, tiny_run, change):
    before = files_of(tiny_study)
    with pytest.raises(GanaugError, match="another --out"):
        compare(tiny_run, tiny_study, recipe={"compare": DEMO["compare"] | change})
    assert files_of(tiny_study) == before


def test_another_run_or_other_images_are_refused_too(tiny_study, tiny_synthetic, tiny_run, digits, tmp_path):
    with pytest.raises(GanaugError, match="another --out"):
        compare(tiny_run, tiny_study, synthetic=tiny_synthetic, recipe=DEMO)
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"steps": 2}))
    with pytest.raises(GanaugError, match="another --out"):
        compare(other, tiny_study, recipe=DEMO)


def test_a_folder_with_other_things_is_refused(tiny_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("precious")
    with pytest.raises(GanaugError, match="not empty"):
        compare(tiny_run, tmp_path / "mine", recipe=DEMO)
    assert files_of(tmp_path / "mine") == {"notes.txt": b"precious"}


def test_a_foreign_folder_without_a_manifest_works(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign")
    study = study_of(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND)
    assert study["counts"]["synthetic"] == dict.fromkeys(CLASS_NAMES, 2)
    assert study["updates"] == {"chosen": 3, "converged": None, "candidates": []}
    assert any("set by hand" in note for note in study["notes"])
    assert str(foreign) in " ".join(study["reproduce"])


def test_the_arms_without_synthetic_images_do_not_depend_on_them(tiny_run, tiny_synthetic, tmp_path):
    studies = [
        study_of(tiny_run, tmp_path / name, synthetic=folder, recipe=SET_BY_HAND)
        for name, folder in (("own", tiny_synthetic), ("foreign", write_foreign(tmp_path / "images")))
    ]
    for arm in ("scratch/real", "discriminator/real"):
        assert studies[0]["arms"][arm] == studies[1]["arms"][arm]
    found = [pieces_of(tmp_path / name, MIXED)[0] for name in ("own", "foreign")]
    assert not np.array_equal(*found)


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
    study = study_of(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND)
    assert study["counts"]["synthetic"] == {"0": 2, "1": 0, "2": 2}
    assert any(note == "There are no synthetic images of: 1." for note in study["notes"])


def test_the_images_it_draws_are_those_of_the_run(tiny_study, tiny_synthetic):
    drawn = files_of(tiny_study / "pools/split-0-gan-0-1")
    made = files_of(tiny_synthetic)
    pngs = {name for name in drawn if name.endswith(".png")}
    assert len(pngs) == 2 * 12 and all(drawn[name] == made[name] for name in made if name.endswith(".png"))
    assert yaml.safe_load((tiny_study / "recipe.yaml").read_text())["synthesize"]["per_class"] == 4


def test_its_own_settings_of_the_images_count(tiny_run, tmp_path):
    recipe = SET_BY_HAND | {"synthesize": {"truncation": 0.5, "seed": 3}}
    compare(tiny_run, tmp_path / "study", recipe=recipe)
    table = read_manifest(tmp_path / "study/pools/split-0-gan-0-0.5")
    assert set(table["truncation"]) == {0.5} and table["class"].value_counts().eq(2 * 4).all()


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_other_strategies(digits, tmp_path, strategy):
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"strategy": strategy, "steps": 6}))
    study = study_of(run, tmp_path / "study", recipe=SET_BY_HAND)
    assert study["counts"]["synthetic"] == dict.fromkeys(CLASS_NAMES, 4)
    assert set(pd.read_csv(tmp_path / "study/gan.csv")["member"]) == set(read_json(run / "run.json")["members"])
    assert any("One GAN for each class" in note for note in study["notes"]) == (strategy == "per-class")


def test_images_of_another_run_are_not_said_to_be_remade(tiny_run, tiny_synthetic, digits, tmp_path):
    other = fit(digits, tmp_path / "other", recipe=with_settings(fit={"seed": 5, "steps": 1}))
    own = study_of(tiny_run, tmp_path / "own", synthetic=tiny_synthetic, recipe=SET_BY_HAND)["reproduce"]
    foreign = study_of(other, tmp_path / "foreign", synthetic=tiny_synthetic, recipe=SET_BY_HAND)["reproduce"]
    assert any(line.startswith("ganaug synthesize RUN") for line in own)
    assert not any(line.startswith("ganaug synthesize") for line in foreign)
    assert any(str(tiny_synthetic) in line for line in foreign)


def test_too_few_images_are_refused_before_the_folder_is_claimed(digits, tmp_path):
    settings = with_settings(data={"limit_per_class": 1}, fit={"steps": 1})
    run = fit(digits, tmp_path / "run", recipe=settings)
    with pytest.raises(GanaugError, match=r"--set compare\.updates"):
        compare(run, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    assert compare(run, tmp_path / "study", recipe=SET_BY_HAND).verdict in VERDICTS


def test_incomplete_runs_are_refused(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"complete": False}))
    with pytest.raises(GanaugError, match="not complete"):
        compare(run, tmp_path / "study", recipe=SET_BY_HAND)
    with pytest.raises(GanaugError, match="not a run"):
        compare(tmp_path, tmp_path / "study", recipe=SET_BY_HAND)
