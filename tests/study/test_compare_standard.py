"""The stage `compare` with GANs, folds and splits of its own, all arms, other classifiers, and what it does about leaks."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from small import CLASS_NAMES, TEST_PER_CLASS, TINY, files_of, with_settings
from studies import SET_BY_HAND, STANDARD, assert_notes, pieces_of, write_foreign

from ganaug import GanaugError, load_recipe
from ganaug.data.cache import load
from ganaug.data.manifest import read_manifest
from ganaug.gan.training import fit
from ganaug.runs import read_json
from ganaug.study import material, pieces
from ganaug.study.arms import BASELINE, FACTORIAL, MIXED
from ganaug.study.compare import compare, estimate_compare
from ganaug.study.statistics import least_image_variance

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
    searched = {arm: [json.dumps(c["setting"]) for c in mine] for arm, mine in by_arm.items()}
    assert len({tuple(mine) for arm, mine in searched.items() if arm.startswith("scratch")}) == 1
    assert len({tuple(mine) for arm, mine in searched.items() if arm.startswith("discriminator")}) == 1
    assert (
        len({tuple(mine[:3]) for mine in searched.values()}) == 1
    )  # the fourth: gentle, or the transferred layers slower
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
    mixed = list((standard_study / "pieces").glob("scratch-real+synthetic-split-0-gan-0*.npz"))
    assert len(mixed) == 3 + 2 * 3  # repetitions and two probes of each
    assert len(list((standard_study / "pieces").glob("scratch-real-split-0-gan-0*.npz"))) == 3


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


def test_the_notes_say_what_holds_and_nothing_else(standard_study):
    assert_notes(
        read_json(standard_study / "study.json")["notes"],
        "What the arms were given was chosen once on inner folds",
        "Only 3 repetitions",
        "Only 30 test images",
        "The classifiers that judge synthetic images were trained once",
        "One split stands behind",
    )


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

    every = tuple(arm for arm in ARMS if not ARMS[arm].unlabeled)
    found = compare(
        tiny_run,
        tmp_path / "study",
        synthetic=tiny_synthetic,
        recipe={"compare": SET_BY_HAND["compare"] | {"arms": every}},
    )
    assert found.scores["arm"].unique().tolist() == list(every)
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
    assert any(note == "Test images left out, as copies of images that are trained on: 2." for note in study["notes"])


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
