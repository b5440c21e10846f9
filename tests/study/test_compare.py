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
from ganaug.settings import VERDICTS
from ganaug.study import material, pieces, units
from ganaug.study.arms import BASELINE, FACTORIAL, MIXED, questions
from ganaug.study.compare import compare, estimate_compare
from ganaug.study.material import load_synthetic
from ganaug.study.statistics import METRICS, least_image_variance
from ganaug.study.verdict import judge

KEYS = {
    "schema",
    "verdict",
    "sentence",
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
DEMO = {"compare": TINY["compare"] | {"preset": "demo"}}
SET_BY_HAND = {"compare": DEMO["compare"] | {"updates": 3}}
STANDARD = {"compare": TINY["compare"] | {"preset": "standard", "seeds": 3, "max_updates": 4}}
FREE = ("seconds", "seconds_of", "reproduce", "run", "settings")  # what may differ between two runs of the same study


@pytest.fixture(scope="session")
def tiny_study(tiny_run, tmp_path_factory):
    """A complete study of one GAN that drew its own images and chose its updates."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    compare(tiny_run, folder, recipe=DEMO)
    return folder


@pytest.fixture(scope="session")
def standard_study(tiny_run, tmp_path_factory):
    """A complete study of three GANs, tuned and mixed on two inner folds with GANs of their own."""
    folder = tmp_path_factory.mktemp("studies") / "standard"
    compare(tiny_run, folder, recipe=STANDARD)
    return folder


def numbers_of(folder):
    return {key: value for key, value in read_json(folder / "study.json").items() if key not in FREE}


def piece_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "pieces").iterdir()}


def pieces_of(folder, arm, unit="split-0-gan-0"):
    """Seed -> class probabilities of an arm's pieces in a unit; of a study without probes."""
    found = {}
    for path in (folder / "pieces").glob(f"{arm.replace('/', '-')}-{unit}-*.npz"):
        with np.load(path) as stored:
            found[int(path.stem.split("-")[-2])] = stored["probabilities"]
    return found


def test_all_files(tiny_study):
    names = {path.name for path in tiny_study.iterdir()}
    tables = {"metrics.csv", "differences.csv", "classes.csv", "variance.csv", "curves.csv", "gan.csv", "examples.npz"}
    assert {"study.json", "recipe.yaml", "identity.json", "pools", "pieces", "units", "seconds.json"} | tables <= names
    assert {path.name for path in (tiny_study / "units").iterdir()} == {"split-0-fold-0", "split-0-fold-1"}
    for arm in FACTORIAL:
        assert sorted(pieces_of(tiny_study, arm)) == [0, 1]
    for fold in (0, 1):  # of four and of eight updates
        assert len(list((tiny_study / "pieces").glob(f"scratch-real-split-0-fold-{fold}-*"))) == 2
    assert len(piece_files(tiny_study)) == 4 * 2 + 2 * 2


def test_study_json(tiny_study, tiny_run, digits):
    study = read_json(tiny_study / "study.json")
    assert set(study) == KEYS
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
    assert any("Only 2 repetitions" in note for note in study["notes"])
    assert any("Only 30 test images" in note for note in study["notes"])
    assert any("is no evidence" in note and "--preset standard" in note for note in study["notes"])
    assert any("One GAN stands behind" in note for note in study["notes"])
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
    assert sorted(trained) == sorted(path.stem for path in lost)
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


# what a standard study adds


def test_each_repetition_has_a_gan_of_its_own(standard_study, tiny_run):
    study = read_json(standard_study / "study.json")
    assert study["repetitions"] == [{"split": 0, "gan": k, "draw": 0, "seed": k} for k in (0, 1, 2)]
    runs = [tiny_run, *(standard_study / "units" / f"split-0-gan-{k}" for k in (1, 2))]
    weights = {(run / "members/joint/generator.safetensors").read_bytes() for run in runs}
    assert len(weights) == 3
    base = load(tiny_run / "data")
    for run in runs[1:]:
        images = load(run / "data")
        assert images.files == base.files and (images.splits == base.splits).all()
        np.testing.assert_array_equal(images.images, base.images)


def test_the_gans_of_inner_folds_have_seen_neither_the_fold_nor_the_test(standard_study, tiny_run):
    base = load(tiny_run / "data")
    train, test = ({image.tobytes() for image in base.subset(split)[0]} for split in ("train", "test"))
    judged = []
    for number in (0, 1):
        images = load(standard_study / "units" / f"split-0-fold-{number}" / "data")
        seen, held = ({image.tobytes() for image in images.subset(split)[0]} for split in ("train", "test"))
        everything = {image.tobytes() for image in images.images}
        assert everything == train and not everything & test and not seen & held
        judged.append(held)
    assert judged[0] | judged[1] == train and not judged[0] & judged[1]


def test_every_arm_gets_the_same_search(standard_study):
    choice = read_json(standard_study / "study.json")["choices"][0]
    by_arm = {arm: [c for c in choice["candidates"] if (c["arm"], c["step"]) == (arm, "training")] for arm in FACTORIAL}
    assert len({json.dumps([c["setting"] for c in mine]) for mine in by_arm.values()}) == 1
    assert all(len(mine) == 4 and sum(c["chosen"] for c in mine) == 1 for mine in by_arm.values())
    mixed = [c for c in choice["candidates"] if c["step"] == "mixing"]
    assert [c["setting"]["ratio"] for c in mixed] == [0.0, 0.5, 0.25, 1.0, 0.5, 0.5, 0.5]
    assert sum(c["chosen"] for c in mixed) == 1 and not mixed[0]["chosen"]
    assert len({training["updates"] for training in choice["trainings"].values()}) == 1
    for arm, training in choice["trainings"].items():
        chosen = next(c["setting"] for c in by_arm[arm] if c["chosen"])
        assert training == chosen | {"updates": training["updates"], "augmentation": "classical"}


def test_each_source_of_chance_is_varied_by_itself(standard_study):
    study = read_json(standard_study / "study.json")
    found = {row["source"]: row for row in study["variance"]}
    assert found["split"]["share"] is None
    assert all(found[name]["deviation"] >= 0 for name in ("gan", "draw", "seed", "test images"))
    shares = [row["share"] for row in found.values() if row["share"] is not None]
    assert sum(shares) == pytest.approx(1) or sum(shares) == 0
    mixed = [path for path in piece_files(standard_study) if path.startswith("scratch-real+synthetic-split-0-gan-0")]
    assert len(mixed) == 3 + 2 * 3  # repetitions and two probes of each
    assert len([path for path in piece_files(standard_study) if path.startswith("scratch-real-split-0-gan-0")]) == 3


def test_the_draws_from_one_gan_share_no_image(standard_study):
    table = read_manifest(
        standard_study / "pools" / next(p.name for p in (standard_study / "pools").glob("split-0-gan-1-*"))
    )
    assert table["class"].value_counts().eq(2 * 4).all()
    folder = standard_study
    pool = material.Sources(folder, {"gan": folder}, {("gan", 1.0): folder}, None, load_recipe(), {"gan": 2})
    images = np.arange(24, dtype=np.uint8)[:, None, None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material.Sources, "images", lambda *_: None)
        patch.setattr(material, "load_synthetic", lambda *_: material.Labeled(images, np.repeat([0, 1, 2], 8)))
        draws = [pool.pool("gan", 1.0, number) for number in (0, 1)]
    assert not set(draws[0].images.ravel()) & set(draws[1].images.ravel())
    assert [np.bincount(draw.labels).tolist() for draw in draws] == [[4, 4, 4]] * 2


def test_more_splits_have_other_test_images_and_gans(tiny_run, digits, tmp_path):
    flat = tmp_path / "flat"
    for name in CLASS_NAMES:
        shutil.copytree(digits / "train" / name, flat / name)
        for path in (digits / "test" / name).iterdir():
            shutil.copy(path, flat / name / f"more-{path.name}")
    run = fit(flat, tmp_path / "run", recipe=TINY)
    settings = SET_BY_HAND["compare"] | {"splits": 3, "arms": (MIXED,)}
    found = compare(run, tmp_path / "study", recipe={"compare": settings})
    study = read_json(tmp_path / "study/study.json")
    assert sorted({row["split"] for row in study["repetitions"]}) == [0, 1, 2] and len(study["repetitions"]) == 6
    held = []
    paths = (run, *(tmp_path / "study/units" / f"split-{k}-gan-0" for k in (1, 2)))
    for path in paths:
        images = load(path / "data")
        held.append({images.files[row] for row in images.indices("test")})
        assert not held[-1] & {images.files[row] for row in images.indices("train")}
    assert len({frozenset(names) for names in held}) == 3
    values = found.scores.pivot(index=["split", "repetition"], columns="arm", values="balanced_accuracy")
    means = (values[MIXED] - values[BASELINE]).groupby("split").mean()
    row = found.differences.query("metric == 'balanced_accuracy'").iloc[0]
    assert row["mean"] == pytest.approx(means.mean())
    images = load(run / "data")
    ratio = np.mean([len(h) / (len(images.files) - len(h)) for h in held])
    counts = np.mean([np.bincount(load(path / "data").subset("test")[1]) for path in paths], axis=0).astype(int)
    spread = max(means.var(ddof=1), least_image_variance(counts, "balanced_accuracy"))
    half = 4.302652729911275 * np.sqrt((1 / 3 + ratio) * spread)  # t of two degrees of freedom
    assert row["high"] - row["mean"] == pytest.approx(half)
    assert study["mcnemar"] == []


def test_when_no_share_of_synthetic_images_wins_the_report_says_so(tiny_run, tmp_path, monkeypatch):
    from ganaug.study import search

    monkeypatch.setattr(search, "is_better", lambda one, other: False)
    study = compare(
        tiny_run, tmp_path / "study", recipe={"compare": STANDARD["compare"] | {"seeds": 2, "arms": (MIXED,)}}
    )
    assert "not worth using here" in study.sentence
    assert read_json(tmp_path / "study/study.json")["choices"][0]["worth_mixing"] is False


def test_the_cost_is_shown_first(tiny_run, tmp_path, caplog):
    said = estimate_compare(tiny_run, recipe=STANDARD)
    assert said.startswith(
        "standard: 4 GANs to train as the run's own was (2 of them for inner folds), 4 arms in 3 repetitions"
    )
    assert "up to 4 updates" in said and not (tiny_run / "study").exists()
    with caplog.at_level("INFO", logger="ganaug"):
        compare(tiny_run, tmp_path / "study", recipe=SET_BY_HAND)
    assert caplog.messages[0].startswith("demo: 4 arms in 2 repetitions, up to 3 updates of ")


def test_all_arms_at_once(tiny_run, tiny_synthetic, tmp_path):
    from ganaug.study.arms import ARMS

    found = compare(
        tiny_run,
        tmp_path / "study",
        synthetic=tiny_synthetic,
        recipe={"compare": SET_BY_HAND["compare"] | {"arms": tuple(ARMS)}},
    )
    assert found.scores["arm"].unique().tolist() == list(ARMS)
    assert len(found.differences) == 3 * (11 + 5)  # five rivals of the synthetic images
    curves = pd.read_csv(tmp_path / "study/curves.csv").groupby("arm")["update"].max()
    assert curves.drop("scratch/longer").eq(3).all() and curves["scratch/longer"] > 3
    same = found.scores.pivot(index="repetition", columns="arm", values="accuracy")
    assert not same["scratch/other-seeds"].equals(same[BASELINE])


def test_a_torchvision_classifier(tiny_run, tiny_synthetic, tmp_path):
    settings = SET_BY_HAND["compare"] | {"classifier": "squeezenet1_1", "updates": 1}
    found = compare(tiny_run, tmp_path / "study", synthetic=tiny_synthetic, recipe={"compare": settings})
    assert found.scores["arm"].unique().tolist() == [BASELINE, MIXED]
    assert any("squeezenet1_1" in note for note in read_json(tmp_path / "study/study.json")["notes"])


# leaks


def leaking_run(digits, tmp_path, count=2):
    data = shutil.copytree(digits, tmp_path / "data")
    for number, path in enumerate(sorted((data / "train/0").iterdir())[:count]):
        shutil.copy(path, data / "test/0" / f"leak{number}.png")
    return fit(data, tmp_path / "run", recipe=with_settings(fit={"steps": 1}))


def test_a_leaking_split_is_refused_until_its_copies_are_dropped(digits, tmp_path):
    run = leaking_run(digits, tmp_path)
    with pytest.raises(
        GanaugError, match=r"2 of 32 test images .* copy images that are trained on .*--drop-duplicates"
    ):
        compare(run, tmp_path / "study", recipe=SET_BY_HAND)
    assert not (tmp_path / "study").exists()
    recipe = {"compare": SET_BY_HAND["compare"] | {"drop_duplicates": True}}
    compare(run, tmp_path / "study", recipe=recipe)
    study = read_json(tmp_path / "study/study.json")
    assert study["left_out"] == ["test/0/leak0.png", "test/0/leak1.png"]
    assert study["counts"]["test"] == dict.fromkeys(CLASS_NAMES, TEST_PER_CLASS)
    assert {len(p) for p in pieces_of(tmp_path / "study", BASELINE).values()} == {30}
    assert any("2 test images were left out" in note for note in study["notes"])


def test_given_images_that_copy_test_images_are_a_leak(tiny_run, digits, tmp_path):
    foreign = write_foreign(tmp_path / "foreign")
    stolen = sorted((digits / "test/1").iterdir())[0]
    shutil.copy(stolen, foreign / "1/stolen.png")
    with pytest.raises(GanaugError, match=f"1 of 30 test images .*{stolen.name} = an image of"):
        compare(tiny_run, tmp_path / "study", synthetic=foreign, recipe=SET_BY_HAND)


def test_test_images_that_change_on_the_way_are_not_scored(tiny_run, tmp_path, monkeypatch):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    train_piece = pieces.train_piece

    def tampering(*arguments):
        images = np.load(run / "data/images.npy")
        images[load(run / "data").indices("test")[0]] += 1
        np.save(run / "data/images.npy", images)
        return train_piece(*arguments)

    monkeypatch.setattr(pieces, "train_piece", tampering)
    with pytest.raises(GanaugError, match=r"test images .* have changed"):
        compare(run, tmp_path / "study", recipe=SET_BY_HAND)
    assert not (tmp_path / "study/study.json").exists()


def test_the_choice_does_not_depend_on_the_test_images(tiny_run, tmp_path):
    """A study on a run whose test images are black chooses the very same."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(run / "study", ignore_errors=True)
    images = np.load(run / "data/images.npy")
    rows = load(tiny_run / "data").indices("test")
    images[rows] = np.random.default_rng(0).integers(0, 256, images[rows].shape, dtype=np.uint8)
    np.save(run / "data/images.npy", images)
    recipe = {"compare": STANDARD["compare"] | {"seeds": 2, "arms": (MIXED,)}}
    studies = [compare(path, tmp_path / name, recipe=recipe).folder for path, name in ((tiny_run, "a"), (run, "b"))]
    choices = [read_json(folder / "study.json")["choices"] for folder in studies]
    assert choices[0] == choices[1]
    units_of = [files_of(folder / "units/split-0-fold-0/members") for folder in studies]
    assert units_of[0]["joint/generator.safetensors"] == units_of[1]["joint/generator.safetensors"]


def study_of(*arguments, **options):
    return read_json(compare(*arguments, **options).folder / "study.json")


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
