"""Do synthetic images and the discriminator's backbone lift accuracy? Small sets at 32 px, against the best that does without a GAN.

    python recipes/benchmarks/lift.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only mnist-10 ...]

Everything is the untuned default. Of each set one draw of the training pool explores: training and updates of every arm, the mixing,
and which of ganaug's arms is used, are chosen on its inner folds by the code of `ganaug compare`. Then six other draws (10 to 15; 0 to
5 were used up while arms still stopped too soon, see NOTES.md), each with a GAN
and classifiers of other seeds, are judged once by all test images, which are of other persons and boards than the pools. The GANs
take as many steps as five minutes of one core gave. Against: the best of the arms without a GAN on these test images, which flatters it.

Two sets at a time, one thread each. Choices and predictions are kept in results/lift/, what they came from in the work folder, and nothing
that is there is repeated. About three hours a set on one core.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from generators import open_pool, rounded
from records import REPOSITORY, RESULTS, Bar, write_record

import ganaug
from ganaug.classify.training import Diet, Mixing, Training, train_classifier
from ganaug.data import manifest
from ganaug.data.cache import ImageSet, load
from ganaug.data.images import encode_png
from ganaug.devices import resolve_precision
from ganaug.gan.member import build_state, network_shape
from ganaug.gan.shares import split_images, training_data
from ganaug.gan.steps import train_step
from ganaug.gan.strategies import joint
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder, describe_commit, filled_whole, read_json, write_json, written_whole
from ganaug.settings import CompareSettings
from ganaug.study.arms import ARMS, BASELINE, MIXED, SELF_TRAINED
from ganaug.study.case import claim_folder, settle_case
from ganaug.study.compare import choose_for, make_units, pace_of
from ganaug.study.cost import Pace, longer_updates
from ganaug.study.leaks import find_leaks
from ganaug.study.material import Sources
from ganaug.study.pieces import NO_MIXING, build_model, make_piece, material_of, train_pieces
from ganaug.study.search import Choice, base_training
from ganaug.study.statistics import paired_differences
from ganaug.study.units import gan_name, pool_recipe

EXPLORES, SCORES = 100, (10, 11, 12, 13, 14, 15)  # seeds: of the draw, its GAN and its classifiers
STEPS = 4000
PROBED = 32  # steps and updates that are timed; a multiple of the penalty's interval
KEPT = RESULTS / "lift"
UNIT = gan_name(0, 0)  # of a draw, which is a study of its own
TRANSFERRED = "discriminator/real+synthetic"
OURS = (MIXED, "discriminator/real", TRANSFERRED)
RIVALS = (BASELINE, "scratch/trivialaugment", "scratch/smote", "scratch/longer")
OVERSAMPLED = "scratch/oversampled"  # the baseline, where classes are alike
NUM_UNLABELED, NUM_RAREST = 1000, 3
Labels = npt.NDArray[np.int64]
Predictions = dict[str, Labels]  # of every arm, (R, N)


@dataclass(frozen=True)
class Set:
    """Which images, how many of each class, and what is asked."""

    archive: str
    counts: int | tuple[int, ...]  # images of every class, or of each
    image_size: int = 32
    data: dict[str, Any] = field(default_factory=dict)  # by which the pool is kept apart from the test images
    beside: str | None = None  # the set to whose labeled images unlabeled ones are added

    @property
    def arms(self) -> tuple[str, ...]:
        if self.beside is not None:
            return BASELINE, SELF_TRAINED
        return (*RIVALS, *OURS) if isinstance(self.counts, int) else (*RIVALS, OVERSAMPLED, *OURS)


PERSONS = {"group_regex": r"IMG_(\d+)\d\d\."}
SETS = {
    "mnist-10": Set("mnist", 10),
    "mnist-20": Set("mnist", 20),
    "sign-digits-10": Set("sign-digits", 10, data=PERSONS),
    "sign-digits-20": Set("sign-digits", 20, data=PERSONS),
    "pcb-defects-20": Set("pcb-defects", 20),
    "pcb-defects-50": Set("pcb-defects", 50),
    "cifar10-50": Set("cifar10", 50),
    "pcb-defects-imbalanced": Set("pcb-defects", (100, 50, 25, 12, 6, 3)),
    "mnist-10-unlabeled": Set("mnist", 10, beside="mnist-10"),
    "sign-digits-10-unlabeled": Set("sign-digits", 10, data=PERSONS, beside="sign-digits-10"),
}
SCORED = tuple(name for name, of in SETS.items() if of.beside is None)


def write_draw(of: Set, pool: ImageSet, seed: int, target: Path) -> None:
    """A user's folder: train/ and test/, and for some unlabeled/ beside it, without test images that copy one of the pool."""
    if target.exists():
        return
    rng = np.random.default_rng(seed)
    counts = [of.counts] * len(pool.class_names) if isinstance(of.counts, int) else of.counts
    leaked = {leak.test for leak in find_leaks(pool)}
    test = [row for row in pool.indices("test") if pool.files[row] not in leaked]
    train = pool.indices("train")
    drawn = [rng.permutation(train[pool.labels[train] == k])[:count] for k, count in enumerate(counts)]
    rest = rng.permutation(np.setdiff1d(train, np.concatenate(drawn)))[:NUM_UNLABELED]
    with filled_whole(target) as partial:
        for folder, rows in (("data/train", np.concatenate(drawn)), ("data/test", test), ("unlabeled", rest)):
            for row in rows if folder != "unlabeled" or of.beside is not None else ():
                of_class = "" if folder == "unlabeled" else pool.class_names[pool.labels[row]]
                path = partial / folder / of_class / f"{Path(pool.files[row]).stem}-{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(pool.images[row].transpose(1, 2, 0)))


def fit_draw(of: Set, pool: ImageSet, seed: int, work: Path) -> Path:
    """The run of a draw. Where unlabeled images are asked about, no arm uses the GAN, so that it is hardly trained."""
    folder, run = work / f"draw-{seed}", work / f"run-{seed}"
    write_draw(of, pool, seed, folder)
    steps, unlabeled = (STEPS, None) if of.beside is None else (1, str(folder / "unlabeled"))
    settings = {
        "data": {"image_size": of.image_size, "seed": seed, "unlabeled": unlabeled},
        "fit": {"steps": steps, "threads": 1, "seed": seed, "device": "cpu"},
    }
    return ganaug.fit(folder / "data", run, recipe=settings, resume=(run / "run.json").is_file())


def explore(name: str, pool: ImageSet, work: Path) -> None:
    """Keeps what the inner folds of the exploring draw choose for all arms."""
    begun, of = time.monotonic(), SETS[name]
    run = fit_draw(of, pool, EXPLORES, work)
    settings = {"preset": "standard", "arms": of.arms, "gans": 1, "seeds": 2, "jobs": 1, "device": "cpu"}
    case = settle_case(run, work / "study", None, {"compare": settings})
    case.folder.mkdir(parents=True, exist_ok=True)
    claim_folder(case)
    make_units(case)
    choice = choose_for(case, 0, pace_of(case))
    found = {
        "commit": describe_commit(REPOSITORY),
        "minutes": round((time.monotonic() - begun) / 60),
        "arm": chosen_arm(choice, OURS if of.beside is None else (SELF_TRAINED,)),
        "trainings": {arm: asdict(choice.training_of(arm)) for arm in of.arms},
        **choice.to_json(),
    }
    write_json(choice_path(name), found)


def chosen_arm(choice: Choice, arms: Sequence[str]) -> str:
    """The one with the lowest log loss on the inner folds, each with the last number of updates that was tried for it."""
    tried = [c for c in choice.candidates if c.step == "updates" and c.setting["updates"] <= choice.updates]
    losses = {candidate.arm: candidate.log_loss for candidate in tried}
    return min(arms, key=lambda arm: losses[arm])


def score_draw(name: str, pool: ImageSet, seed: int, work: Path) -> None:
    """Keeps what each arm predicts, trained on a draw as the exploring one chose."""
    of, choice = SETS[name], read_json(choice_path(name))
    run, synthetic = RunFolder(fit_draw(of, pool, seed, work)), work / f"pool-{seed}"
    recipe = load_recipe({"compare": {"jobs": 1, "device": "cpu"}})
    mixing = Mixing(**choice["mixing"])
    if any(ARMS[arm].uses_pool for arm in of.arms) and not (synthetic / manifest.NAME).is_file():
        wanted = pool_recipe(recipe, recipe.compare.pool_per_class, mixing.truncation)
        ganaug.synthesize(run.root, synthetic, recipe=wanted, device="cpu")
    sources = Sources(run.root, {UNIT: run.root}, {(UNIT, mixing.truncation): synthetic}, None, recipe, {UNIT: 1})
    pace = pace_of_draw(KEPT / f"{name}-{seed}.json", run, sources, recipe.compare)
    pieces = {}
    for arm in of.arms:
        training = Training(**choice["trainings"][arm])
        if ARMS[arm].given_the_gans_time:
            own = Pace(pace["update"], training.updates)
            training = replace(training, updates=longer_updates(training.updates, pace["gan"], own, recipe.compare))
        pieces[arm] = make_piece(arm, UNIT, UNIT, 0, seed, training, mixing)
    folder = work / f"pieces-{seed}"
    outcomes = train_pieces("arms", list(pieces.values()), sources, recipe.compare, folder, pace["update"])
    found = {arm: outcomes[piece.name].probabilities.argmax(axis=1).astype(np.uint8) for arm, piece in pieces.items()}
    with written_whole(predictions_path(name, seed)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, truth=sources.truth(UNIT).astype(np.uint8), **found)


def pace_of_draw(path: Path, run: RunFolder, sources: Sources, settings: CompareSettings) -> dict[str, float]:
    """Seconds of the GAN's training and of an update of the baseline: of processor time, which other work hardly changes, and both
    measured here and now. They are kept, so that a draw that is gone on with gives the same."""
    if not path.is_file():
        gan_step, train_baseline = steps_of_gan(run), updates_of_baseline(sources, settings)
        steps = sum(read_json(member)["ended_at"] for member in run.root.glob("members/*/member.json"))
        seconds = steps * processor_seconds(gan_step) / PROBED
        write_json(path, {"gan": seconds, "update": processor_seconds(train_baseline) / PROBED})
    found: dict[str, float] = read_json(path)
    return found


def processor_seconds(work: Callable[[], Any]) -> float:
    """Of this process; the first time warms up."""
    taken = []
    for _ in range(4):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken[1:])


def steps_of_gan(run: RunFolder) -> Callable[[], Any]:
    """PROBED steps of the run's training, from its beginning on."""
    recipe, images, device = load_recipe(run.recipe), load(run.data), torch.device("cpu")
    member = joint(len(images.class_names))[0]
    data = training_data(split_images(images, recipe, device), member, recipe.data.mirror)
    state = build_state(network_shape(data, member, recipe.fit), recipe.fit, member, device)
    dtype = resolve_precision(recipe.fit.precision, device)
    return lambda: [train_step(state, data, recipe.fit, 1.0, dtype) for _ in range(PROBED)]


def updates_of_baseline(sources: Sources, settings: CompareSettings) -> Callable[[], Any]:
    """PROBED of them."""
    training = replace(base_training(settings), updates=PROBED)
    piece = make_piece(BASELINE, UNIT, "", 0, 0, training, NO_MIXING)
    material = material_of(piece, sources, settings)
    diet, device = Diet(material.train), torch.device("cpu")

    def train() -> None:
        train_classifier(build_model(piece, material, settings), diet, training, NO_MIXING, material.mirror, 0, device)

    return train


def choice_path(name: str) -> Path:
    return KEPT / f"{name}.json"


def predictions_path(name: str, seed: int) -> Path:
    return KEPT / f"{name}-{seed}.npz"


def is_complete(name: str) -> bool:
    return choice_path(name).is_file() and all(predictions_path(name, seed).is_file() for seed in SCORES)


def summarize(name: str) -> dict[str, Any]:
    """The figures of a set from its predictions."""
    choice = read_json(choice_path(name))
    truth, of_arm = read_predictions(name)
    num_classes = int(truth.max()) + 1
    recalls = {
        arm: np.stack([(rows == truth)[:, truth == k].mean(1) for k in range(num_classes)], 1)
        for arm, rows in of_arm.items()
    }
    means = {arm: float(values.mean()) for arm, values in recalls.items()}
    rivals = [arm for arm in of_arm if arm in (*RIVALS, OVERSAMPLED)]
    best = max(rivals, key=lambda arm: means[arm])
    pairs = {(arm, rival) for arm in of_arm if arm != best for rival in (best, BASELINE) if arm != rival}
    if TRANSFERRED in of_arm:
        pairs.add((TRANSFERRED, MIXED))
    differences = []
    for arm, rival in sorted(pairs):
        difference = paired_differences(truth, of_arm[arm], of_arm[rival], num_classes)["balanced_accuracy"]
        figures = {key: getattr(difference, key) for key in ("mean", "low", "high", "p_value", "values")}
        differences.append({"arm": arm, "rival": rival, **figures})
    return {
        "commit": choice["commit"],
        "test_images": len(truth),
        "updates": choice["chosen"],
        "converged": choice["converged_arms"],
        "worth_mixing": str(choice["worth_mixing"]),
        "chosen": choice["arm"],
        "rival": best,
        "balanced_accuracy": means,
        "recalls": {arm: values.mean(axis=0).tolist() for arm, values in recalls.items()},
        "differences": differences,
    }


def read_predictions(name: str) -> tuple[Labels, Predictions]:
    """Labels (N,) of the test images, and of every arm the predictions (R, N)."""
    draws = []
    for seed in SCORES:
        with np.load(predictions_path(name, seed)) as stored:
            draws.append({key: stored[key].astype(np.int64) for key in stored.files})
    truth = draws[0]["truth"]
    if any(not np.array_equal(truth, draw["truth"]) for draw in draws):
        raise RuntimeError(f"{name}: the draws are not judged by the same test images")
    return truth, {arm: np.stack([draw[arm] for draw in draws]) for arm in draws[0] if arm != "truth"}


def set_bars(found: dict[str, dict[str, Any]]) -> list[Bar]:
    bars: list[Bar] = []
    sets = {name: found[name] for name in SCORED if name in found}
    lifts = {name: of_pair(values, values["chosen"], values["rival"]) for name, values in sets.items()}
    whole = len(sets) == len(SCORED)

    def add(what: str, value: float | str, bar: str, met: bool, open_: bool = False) -> None:
        rounded_value = round(value, 5) if isinstance(value, float) else value
        bars.append(Bar(what, rounded_value, bar, None if open_ else met))

    if sets:
        lift = float(np.mean([row["mean"] for row in lifts.values()]))
        removed = float(
            np.mean([lifts[name]["mean"] / (1 - of["balanced_accuracy"][of["rival"]]) for name, of in sets.items()])
        )
        above = sum(row["low"] > 0 for row in lifts.values())
        harmed = sum(row["high"] < 0 or row["low"] < -0.005 for row in lifts.values())
        transfers = [of_pair(values, TRANSFERRED, MIXED)["mean"] for values in sets.values()]
        add(f"mean lift in balanced accuracy, {len(sets)} sets", lift, ">= .03", lift >= 0.03, not whole)
        add("mean share of the error removed", removed, ">= .2", removed >= 0.2, not whole)
        add("sets with the interval wholly above 0", above, ">= 5 of 8", above >= 5, not whole)
        add("sets with the interval wholly below 0, or its lower end under -.005", harmed, "0", harmed == 0, not whole)
        transfer = float(np.mean(transfers))
        add(
            "discriminator-initialised against scratch, both with synthetic",
            transfer,
            ">= .01",
            transfer >= 0.01,
            not whole,
        )
        worse = sum(value < 0 for value in transfers)
        add("and worse on so many sets", worse, "0", worse == 0, not whole)
    for name, row in lifts.items():
        against = f"{sets[name]['chosen']} against {sets[name]['rival']}"
        interval = f"{100 * row['mean']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        add(f"{name}: {against}", interval, "interval above 0", row["low"] > 0)
    if uneven := sets.get("pcb-defects-imbalanced"):
        rare = {arm: float(np.mean(values[-NUM_RAREST:])) for arm, values in uneven["recalls"].items()}
        gain = rare[uneven["chosen"]] - rare[uneven["rival"]]
        add("imbalanced draw, recall of the three rarest classes", gain, ">= .08", gain >= 0.08)
    for name, of in SETS.items():
        if of.beside is not None and name in found and of.beside in found:
            without = found[of.beside]
            best = max(without["balanced_accuracy"].values())
            gain = found[name]["balanced_accuracy"][SELF_TRAINED] - best
            add(f"{name}: more than the best arm without", gain, ">= .02", gain >= 0.02)
    return bars


def of_pair(values: dict[str, Any], arm: str, rival: str) -> dict[str, Any]:
    row: dict[str, Any] = next(r for r in values["differences"] if (r["arm"], r["rival"]) == (arm, rival))
    return row


def run_set(name: str, work: Path) -> None:
    """Each piece that is missing, in a process of its own with one thread."""
    for seed in (EXPLORES, *SCORES):
        if (choice_path(name) if seed == EXPLORES else predictions_path(name, seed)).is_file():
            continue
        command = [sys.executable, __file__, "--work", str(work), "--piece", name, str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with (work / f"{name}.log").open("a") as log:
            subprocess.run(command, check=True, env=environment, stdout=log, stderr=log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist.zip, pcb-defects.zip and the others")
    parser.add_argument("--work", type=Path, default=Path("runs/lift"))
    parser.add_argument("--only", nargs="*", choices=tuple(SETS), default=tuple(SETS))
    parser.add_argument("--jobs", type=int, default=2, help="sets at a time")
    parser.add_argument("--piece", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    if arguments.piece:
        torch.set_num_threads(1)
        name, seed = arguments.piece[0], int(arguments.piece[1])
        pool = load(work / f"pool-{SETS[name].archive}")
        if seed == EXPLORES:
            explore(name, pool, work / name)
        else:
            score_draw(name, pool, seed, work / name)
        return
    missing = [name for name in arguments.only if not is_complete(name)]
    for of in {SETS[name].archive: SETS[name] for name in missing}.values():
        open_pool(of, arguments.data, work)
    with ThreadPoolExecutor(arguments.jobs) as workers:
        for _ in workers.map(lambda name: run_set(name, work), missing):
            pass
    found = {name: rounded(summarize(name)) for name in SETS if is_complete(name)}
    write_record("lift", set_bars(found), found, seeds=SCORES)


if __name__ == "__main__":
    main()
