"""Whether a verdict may be trusted: false alarms, coverage, power, leaks, and what a study takes.

    python recipes/benchmarks/verdict.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only aa coverage leaks studies speed]

aa        1,000 simulated studies of an arm against itself, for each of three sets: predictions of 40 seeds are trained once and kept in
          results/, and every study draws seeds and test images from them
coverage  1,000 simulated studies of a known effect, for each number of repetitions and of test images
leaks     100 sets into whose test images ten training images were copied, one of them mirrored
studies   20 real studies of an arm against itself, on as many draws of digits
speed     the standard preset on digits, with two trainings at a time and with one

About three hours on two cores, most of them for `studies` and the GANs of `speed`.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from generators import CASES, open_pool, rounded, write_folder
from joblib import Parallel, delayed
from records import RESULTS, Bar, write_record
from simulated import (
    METRIC,
    PER_STUDY,
    REPETITIONS,
    SITUATIONS,
    TEST_IMAGES,
    simulated_study,
    study_of_itself,
    true_accuracy,
)

import ganaug
from ganaug.classify.training import Labeled, Training
from ganaug.data.cache import prepare
from ganaug.data.images import decode, encode_png
from ganaug.errors import GanaugError
from ganaug.gan.networks import Backbone
from ganaug.pipeline import write_digits
from ganaug.recipe import load_recipe
from ganaug.runs import describe_commit, read_json
from ganaug.settings import CompareSettings, DataSettings
from ganaug.study.arms import BASELINE, CONTROL
from ganaug.study.case import refuse_leaky
from ganaug.study.leaks import find_leaks
from ganaug.study.material import Material
from ganaug.study.pieces import NO_MIXING, make_piece, train_piece
from ganaug.study.search import base_training
from ganaug.study.verdict import judge

JOBS = 2
MARGIN = 0.01
NUM_STUDIES = 1000
Labels = npt.NDArray[np.int64]

# aa ---------------------------------------------------------------------------------------------------------------------

NUM_SEEDS, UPDATES = 40, 1200
SETS = {"digits": 20, "mnist": 10, "pcb-defects": 20}  # images a class


def kept_predictions(name: str, data: Path, work: Path) -> tuple[Labels, Labels]:
    """Labels (N,) and predictions (NUM_SEEDS, N) of the baseline on the test images; trained where they are not kept."""
    path = RESULTS / f"predictions-{name}.npz"
    if not path.is_file():
        if name == "digits":
            source = write_digits(work / "digits")
        else:
            case = next(case for case in CASES.values() if case.archive == name)
            source = work / f"folder-{name}"
            write_folder(open_pool(case, data, work), None, source)
        settings = DataSettings(image_size=16 if name == "digits" else 32, limit_per_class=SETS[name], mirror="none")
        images, _ = prepare(source, settings, work / f"aa-{name}", "cpu")
        names, channels, size = images.class_names, images.channels, images.image_size
        train = Labeled(*images.subset("train"))
        test, truth = images.subset("test")
        backbone, nothing = Backbone(size, channels, 32), Labeled(train.images[:0], train.labels[:0])
        material = Material(train, test, nothing, np.zeros(len(names), int), backbone, len(names), "none")
        training = Training(**{**vars(base_training(CompareSettings())), "updates": UPDATES})
        pieces = [make_piece(BASELINE, "", "", 0, seed, training, NO_MIXING) for seed in range(NUM_SEEDS)]
        work_of = (delayed(train_piece)(piece, material, CompareSettings(device="cpu")) for piece in pieces)
        found = [outcome.probabilities.argmax(axis=1) for outcome, _ in Parallel(JOBS)(work_of)]
        np.savez_compressed(path, truth=truth.astype(np.uint8), predictions=np.stack(found).astype(np.uint8))
    with np.load(path) as stored:
        return stored["truth"].astype(np.int64), stored["predictions"].astype(np.int64)


def measure_aa(data: Path, work: Path) -> dict[str, Any]:
    found = {}
    for name in SETS:
        truth, predictions = kept_predictions(name, data, work)
        studies = Parallel(JOBS)(delayed(study_of_itself)(truth, predictions, n) for n in range(NUM_STUDIES))
        words = [judge(low, high, MARGIN) for low, high in studies]
        found[name] = {
            "accuracy": float((predictions == truth).mean()),
            "deviation_of_seeds": float((predictions == truth).mean(axis=1).std(ddof=1)),
            "test_images": len(truth),
            "verdicts": {
                word: words.count(word) / NUM_STUDIES for word in ("helps", "hurts", "equivalent", "inconclusive")
            },
            "excludes_0": float(np.mean([low > 0 or high < 0 for low, high in studies])),
            "half_width": float(np.mean([(high - low) / 2 for low, high in studies])),
        }
    return found


# coverage ---------------------------------------------------------------------------------------------------------------


def measure_coverage(data: Path, work: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, of in SITUATIONS.items():
        accuracy = true_accuracy(of, -1)
        effect = true_accuracy(of, 1) - accuracy
        rows = {}
        for repetitions in REPETITIONS:
            for images in TEST_IMAGES:
                studies = np.array(
                    Parallel(JOBS)(delayed(simulated_study)(of, repetitions, images, n) for n in range(NUM_STUDIES))
                )
                low, high = studies.T
                rows[f"{repetitions} x {images}"] = {
                    "coverage": float(((low <= effect) & (effect <= high)).mean()),
                    "power": float((low > 0).mean()),
                    "half_width": float((high - low).mean() / 2),
                }
                print(name, repetitions, images, rows[f"{repetitions} x {images}"], flush=True)
        found[name] = {"effect": effect, "accuracy": accuracy, "studies": rows}
    return found


# leaks ------------------------------------------------------------------------------------------------------------------

TRIES, PLANTED, PER_CLASS = 100, 10, 20
LEAKY = ("digits", "mnist", "sign-digits", "cifar10", "pcb-defects")


def measure_leaks(data: Path, work: Path) -> dict[str, Any]:
    found: dict[str, Any] = {name: {"tries": 0, "all_found": 0, "refused": 0, "others": 0} for name in LEAKY}
    for number in range(TRIES):
        name = LEAKY[number % len(LEAKY)]
        result = plant_leak(source_of(name, data, work), number)
        found[name]["tries"] += 1
        for key, value in result.items():
            found[name][key] += value
    return found


def source_of(name: str, data: Path, work: Path) -> Path:
    if name == "digits":
        return write_digits(work / "digits")
    case = next(case for case in CASES.values() if case.archive == name)
    write_folder(open_pool(case, data, work), None, work / f"folder-{name}")
    return work / f"folder-{name}"


def plant_leak(source: Path, number: int) -> dict[str, int]:
    """Copies PLANTED training images into the test images of a small draw, the first of them mirrored."""
    rng = np.random.default_rng(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "test"):
            for of_class in sorted((source / split).iterdir()):
                target = folder / "data" / split / of_class.name
                target.mkdir(parents=True)
                files = sorted(of_class.iterdir())
                for row in rng.permutation(len(files))[:PER_CLASS]:
                    shutil.copy(files[row], target / files[row].name)
        files = sorted((folder / "data" / "train").rglob("*.png"))
        planted = []
        for position, row in enumerate(rng.permutation(len(files))[:PLANTED]):
            content = files[row].read_bytes()
            if position == 0:
                content = encode_png(np.ascontiguousarray(decode(content).pixels[:, ::-1]))
            path = folder / "data" / "test" / files[row].parent.name / f"planted-{position}.png"
            path.write_bytes(content)
            planted.append(path.relative_to(folder / "data").as_posix())
        images, _ = prepare(folder / "data", load_recipe().data, folder / "prepared", "cpu")
        leaks = {leak.test for leak in find_leaks(images)}
        try:
            refuse_leaky(images, source, CompareSettings())
            refused = 0
        except GanaugError:
            refused = 1
    return {"all_found": int(set(planted) <= leaks), "refused": refused, "others": len(leaks - set(planted))}


# studies ----------------------------------------------------------------------------------------------------------------

NUM_REAL = 20


def measure_studies(data: Path, work: Path) -> dict[str, Any]:
    """Real studies of an arm against itself, each on other training and test images. The GAN, which no arm uses, is hardly trained."""
    rows = []
    for number in range(NUM_REAL):
        folder = work / f"itself-{number}"
        if not (folder / "study" / "study.json").is_file():
            digits = write_digits(folder / "digits", seed=100 + number)
            run = ganaug.fit(
                digits,
                folder / "run",
                recipe={"fit": {"steps": 1, "threads": 1, "device": "cpu"}, "data": {"mirror": "none"}},
                resume=(folder / "run" / "run.json").is_file(),
            )
            settings = {"arms": [CONTROL], "preset": "demo", "max_updates": 1200, "jobs": JOBS, "device": "cpu"}
            ganaug.compare(run, folder / "study", recipe={"compare": settings})
        study = read_json(folder / "study" / "study.json")
        main = next(row for row in study["differences"] if row["metric"] == METRIC)
        rows.append({key: main[key] for key in ("mean", "low", "high")} | {"verdict": study["verdict"]})
        print(number, rows[-1], flush=True)
    words = [row["verdict"] for row in rows]
    return {
        "verdicts": {word: words.count(word) for word in sorted(set(words))},
        "excludes_0": sum(row["low"] > 0 or row["high"] < 0 for row in rows),
        "studies": rows,
    }


# speed ------------------------------------------------------------------------------------------------------------------


def measure_speed(data: Path, work: Path) -> dict[str, Any]:
    """The standard preset on scikit-learn's digits, 20 a class; the GANs, then the study with one and with two cores."""
    folder = work / "speed"
    run = folder / "run"
    if not (run / "run.json").is_file() or not read_json(run / "run.json")["complete"]:
        ganaug.fit(
            write_digits(folder / "digits"),
            run,
            recipe={"fit": {"budget": "2m", "threads": 1, "device": "cpu"}},
            resume=(run / "run.json").is_file(),
        )
    found: dict[str, Any] = {}
    for jobs in (2, 1):
        study = folder / f"study-{jobs}"
        if not (study / "study.json").is_file():
            if jobs == 1:  # the same GANs
                shutil.rmtree(study, ignore_errors=True)
                shutil.copytree(folder / "study-2" / "units", study / "units")
                for curation in study.glob("units/*/curation"):
                    shutil.rmtree(curation)
                shutil.copy(folder / "study-2" / "identity.json", study / "identity.json")
            shutil.rmtree(run / "curation", ignore_errors=True)  # whose classifiers a study trains, too
            ganaug.compare(run, study, recipe={"compare": {"preset": "standard", "jobs": jobs, "device": "cpu"}})
        content = read_json(study / "study.json")
        found[f"{jobs} cores"] = {
            "seconds_of": content["seconds_of"],
            "after_the_gans": sum(content["seconds_of"].values()) - content["seconds_of"]["gans"],
            "updates": content["updates"]["chosen"],
            "converged": content["updates"]["converged"],
            "verdict": content["verdict"],
            "sentence": content["sentence"],
            "numbers": content["arms"],
        }
    found["speedup"] = found["1 cores"]["after_the_gans"] / found["2 cores"]["after_the_gans"]
    found["same_numbers"] = found["1 cores"].pop("numbers") == found["2 cores"].pop("numbers")
    return found


# ------------------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "aa": measure_aa,
    "coverage": measure_coverage,
    "leaks": measure_leaks,
    "studies": measure_studies,
    "speed": measure_speed,
}


def set_bars(found: dict[str, Any]) -> list[Bar]:
    bars = []
    for name, values in found.get("aa", {}).get("found", {}).items():
        alarms = values["verdicts"]["helps"] + values["verdicts"]["hurts"]
        bars.append(Bar(f"{name}: an arm against itself helps or hurts", round(alarms, 4), "<= .06", alarms <= 0.06))
        share = values["excludes_0"]
        bars.append(Bar(f"{name}: its interval excludes 0", round(share, 4), "<= .06", share <= 0.06))
    for name, values in found.get("coverage", {}).get("found", {}).items():
        for size, row in values["studies"].items():
            share = row["coverage"]
            bars.append(Bar(f"coverage, {name}, {size} test images", share, ".93 to .97", 0.93 <= share <= 0.97))
    if "leaks" in found:
        rows = found["leaks"]["found"].values()
        complete, refused = (sum(row[key] for row in rows) for key in ("all_found", "refused"))
        bars.append(Bar("planted leaks found whole", complete, "100 of 100", complete == TRIES))
        bars.append(Bar("and the study refused", refused, "100 of 100", refused == TRIES))
        others = sum(row["others"] for row in rows)
        bars.append(Bar("other test images taken for copies, of 20,000 or fewer", others, "<= 20", others <= 20))
    if "studies" in found:
        words = found["studies"]["found"]["verdicts"]
        alarms = words.get("helps", 0) + words.get("hurts", 0)
        bars.append(Bar("real studies of an arm against itself that help or hurt", alarms, "<= 2 of 20", alarms <= 2))
    if "speed" in found:
        values = found["speed"]["found"]
        seconds = values["2 cores"]["after_the_gans"]
        bars += [
            Bar("standard preset after the GANs, seconds", round(seconds, 1), "<= 360", seconds <= 360),
            Bar("a second core, times as fast", round(values["speedup"], 3), ">= 1.8", values["speedup"] >= 1.8),
            Bar("with the same numbers", str(values["same_numbers"]), "True", values["same_numbers"]),
        ]
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mnist.zip, pcb-defects.zip and the others"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/verdict"))
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    arguments = parser.parse_args()
    record = RESULTS / "verdict.json"
    found: dict[str, Any] = read_json(record)["measured"] if record.is_file() else {}
    for name in arguments.only:
        begun = time.monotonic()
        values = rounded(PARTS[name](arguments.data, arguments.work))
        found[name] = {
            "commit": describe_commit(Path(__file__).parent),
            "seconds": round(time.monotonic() - begun),
            "found": values,
        }
        write_record("verdict", set_bars(found), found, seeds=range(PER_STUDY))


if __name__ == "__main__":
    main()
