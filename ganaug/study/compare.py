"""The stage `compare`: four arms, paired over seeds, judged once on the untouched test images."""

import hashlib
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ..classify.training import Labeled
from ..data.cache import ImageSet, load
from ..data.images import decode, match_channels, resize
from ..data.source import open_source
from ..data.split import group_of
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.strategies import STRATEGIES
from ..progress import say
from ..runs import SCHEMA, RunFolder, describe_versions, open_run, read_json, write_json, write_text, written_whole
from ..settings import Recipe, RecipeLike, dump_recipe, load_recipe
from ..synthesis import manifest
from ..synthesis.synthesize import synthesize
from .arms import ARMS, QUESTIONS
from .convergence import Choice, affordable_updates, choose_updates
from .pieces import Material, Outcome, Piece, train_pieces
from .statistics import METRICS, confusion_matrices, paired_differences, recalls, score
from .verdict import explain, judge

PRIMARY_METRIC = "balanced_accuracy"
NUM_EXAMPLES = 20  # images of each class kept for the report
FEW_SEEDS, FEW_TEST_IMAGES = 6, 200


def compare(
    run: str | Path, out: str | Path | None = None, *, synthetic: str | Path | None = None, recipe: RecipeLike = None
) -> Path:
    """Says whether synthetic images help: trains every arm of `ARMS` with the same seeds and writes the study's folder.

    run: a complete run, which holds the training and the untouched test images.
    out: the study's folder, RUN/study by default. An interrupted study of the same settings goes on where it was.
    synthetic: a folder of class folders, from `synthesize` or any other tool; without it, images are drawn from the run.
    recipe: settings that differ from the run's own, e.g. {"compare": {"seeds": 10}}; see `CompareSettings`.

    Returns the path of study.json; beside it metrics.csv, curves.csv, gan.csv and examples.npz.
    Raises `GanaugError` for an incomplete run, a folder with another study, classes that the run does not know.
    """
    begun = time.monotonic()
    run_folder, info = open_run(run)
    folder = Path(out) if out is not None else run_folder.root / "study"
    of_run = load_recipe(run_folder.recipe)
    resolved = of_run.model_copy(update={"compare": load_recipe(recipe, base=of_run).compare})
    settings = resolved.compare
    images = load(run_folder.data)
    if not len(images.indices("test")):
        raise GanaugError(
            f"{run} holds no test images, so nothing can be compared. Fit again on data with more images."
        )
    synthetic = folder / "synthetic" if synthetic is None else Path(synthetic)
    if synthetic == folder / "synthetic":
        request = {"per_class": settings.pool_per_class, "target_per_class": None, "balance": None, "classes": ()}
        resolved = resolved.model_copy(update={"synthesize": resolved.synthesize.model_copy(update=request)})
    if synthetic == folder / "synthetic" and not (synthetic / manifest.NAME).is_file():
        synthesize(run, synthetic, recipe=resolved)
    pool = load_synthetic(synthetic, images)
    claim_folder(folder, run_folder, resolved, pool)
    if (folder / "study.json").is_file():
        say(f"{folder}: the study is complete already")
        return folder / "study.json"
    device = resolve_device(settings.device)
    jobs = (settings.jobs or num_cores()) if device.type == "cpu" else 1
    material = Material(
        backbone=load_member(run_folder, most_trained_member(info))[1].backbone,
        num_classes=len(images.class_names),
        train=Labeled(*images.subset("train")),
        held=Labeled(*images.subset("test")),
        synthetic=pool,
        mirror=resolved.data.mirror,
    )
    choice = settle_updates(material, images, resolved, folder, device, jobs)
    pieces = [
        Piece(f"{arm.replace('/', '-')}-{seed}", arm, seed, choice.chosen)
        for seed in range(settings.seeds)
        for arm in ARMS
    ]
    outcomes = train_pieces("compare", pieces, material, settings, folder / "pieces", device, jobs)
    final = resolved.model_copy(update={"compare": settings.model_copy(update={"updates": choice.chosen})})
    write_text(folder / "recipe.yaml", dump_recipe(final))
    study = assemble(info, images, resolved, material, choice, pieces, outcomes)
    study |= {
        "reproduce": commands_to_reproduce(info, folder, synthetic),
        "run": str(run_folder.root),
        "seconds": round(time.monotonic() - begun, 1),
    }
    write_tables(folder, run_folder, info, pieces, outcomes, study, material)
    write_json(folder / "study.json", study)
    say(study["sentence"])
    return folder / "study.json"


def load_synthetic(folder: Path, images: ImageSet) -> Labeled:
    """The synthetic images of a folder of class folders, at the size and with the channels of the run's own.

    Real images that a manifest lists are left out. Raises `GanaugError` for classes that the run does not know, and
    where a class of the run has no image.
    """
    source = open_source(folder)
    unknown = sorted(set(source.class_names) - set(images.class_names))
    if unknown:
        raise GanaugError(
            f"{folder} has classes that the run does not know: {', '.join(unknown)}. Remove or rename these folders."
        )
    real: set[str] = set()
    if (folder / manifest.NAME).is_file():
        table = manifest.read_manifest(folder)
        real = set(table.loc[table["source"] == "real", "file"])
    pixels, labels = [], []
    for file in source.files:
        if file.name not in real:
            square = resize(decode(source.read(file.name)).pixels, images.image_size, "crop")
            pixels.append(match_channels(square, images.channels).transpose(2, 0, 1))
            labels.append(images.class_names.index(file.class_name))
    missing = [name for k, name in enumerate(images.class_names) if k not in set(labels)]
    if missing:
        raise GanaugError(
            f"{folder} has no synthetic image of: {', '.join(missing)}. Every class of the run needs some."
        )
    return Labeled(np.stack(pixels), np.array(labels, np.int64))


def claim_folder(folder: Path, run: RunFolder, recipe: Recipe, pool: Labeled) -> None:
    """Binds the study's folder to what decides its result. Raises `GanaugError` if it belongs to another study."""
    decisive = recipe.compare.model_dump(mode="json", exclude={"budget", "jobs", "device", "updates", "max_updates"})
    identity = {
        "settings": decisive | {"mirror": recipe.data.mirror},
        "run": hashlib.sha256((run.data / "index.csv").read_bytes() + run.info.read_bytes()).hexdigest(),
        "synthetic": hashlib.sha256(pool.images.tobytes() + pool.labels.tobytes()).hexdigest(),
    }
    path = folder / "identity.json"
    if path.is_file():
        if read_json(path) != identity:
            raise GanaugError(
                f"{folder} holds a study of another run, other images or other settings. Give another --out."
            )
    else:
        write_json(path, identity)


def settle_updates(
    material: Material, images: ImageSet, recipe: Recipe, folder: Path, device: torch.device, jobs: int
) -> Choice:
    """The updates of every arm: as set, or chosen once and kept in updates.json for when the study goes on."""
    if recipe.compare.updates is not None:
        return Choice(recipe.compare.updates, None, ())
    path = folder / "updates.json"
    longest = (
        int(read_json(path)["longest"])
        if path.is_file()
        else affordable_updates(material, recipe.compare, device, jobs)
    )
    write_json(path, {"longest": longest})
    names = [images.files[index] for index in images.indices("train")]
    groups = group_of(names, recipe.data.group_regex)
    return choose_updates(material, groups, recipe.compare, longest, folder / "pieces", device, jobs)


def assemble(
    info: dict[str, Any],
    images: ImageSet,
    recipe: Recipe,
    material: Material,
    choice: Choice,
    pieces: list[Piece],
    outcomes: dict[str, Outcome],
) -> dict[str, Any]:
    """study.json: scores of every arm and seed, paired differences, verdict, and all that tells how it was done."""
    names, truth = list(images.class_names), material.held.labels
    predictions = {
        arm: np.stack([outcomes[piece.name].probabilities.argmax(axis=1) for piece in pieces if piece.arm == arm])
        for arm in ARMS
    }
    confusions = {arm: confusion_matrices(truth, predicted, len(names)) for arm, predicted in predictions.items()}
    differences: list[dict[str, Any]] = [
        {
            "arm": arm,
            "baseline": baseline,
            "metric": metric,
            "mean": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "pairs": len(difference.values),
            "values": difference.values,
            "verdict": judge(difference.low, difference.high),
        }
        for arm, baseline in QUESTIONS
        for metric, difference in paired_differences(truth, predictions[arm], predictions[baseline], len(names)).items()
    ]
    arm, baseline = QUESTIONS[0]
    asked = next(d for d in differences if (d["arm"], d["baseline"], d["metric"]) == (arm, baseline, PRIMARY_METRIC))
    synthetic_counts = np.bincount(material.synthetic.labels, minlength=len(names)).tolist()
    return {
        "schema": SCHEMA,
        "verdict": asked["verdict"],
        "sentence": explain(
            asked["verdict"], PRIMARY_METRIC, asked["mean"], asked["low"], asked["high"], asked["pairs"]
        ),
        "primary": {"arm": arm, "baseline": baseline, "metric": PRIMARY_METRIC},
        "arms": {
            name: {key: value.tolist() for key, value in score(matrix).items()} for name, matrix in confusions.items()
        },
        "differences": differences,
        "per_class": {
            name: dict(zip(names, recalls(matrix).T.tolist(), strict=True)) for name, matrix in confusions.items()
        },
        "confusion": {name: matrix.sum(axis=0).astype(int).tolist() for name, matrix in confusions.items()},
        "class_names": names,
        "counts": {
            "train": images.counts("train"),
            "test": images.counts("test"),
            "synthetic": dict(zip(names, synthetic_counts, strict=True)),
        },
        "seeds": list(range(recipe.compare.seeds)),
        "updates": choice.to_json(),
        "settings": recipe.model_dump(mode="json"),
        "versions": describe_versions(),
        "source": info["source"],
        "notes": find_caveats(recipe, choice, images, info),
    }


def commands_to_reproduce(info: dict[str, Any], folder: Path, synthetic: Path) -> list[str]:
    """The commands that give the same study again; of a foreign folder of synthetic images, that folder is needed."""
    recipe = shlex.quote(str(folder / "recipe.yaml"))
    made_here = (synthetic / manifest.NAME).is_file()
    return [
        f"ganaug fit {shlex.quote(info['source'])} --out RUN --recipe {recipe}",
        *([f"ganaug synthesize RUN --out SYNTHETIC --recipe {recipe}"] if made_here else []),
        f"ganaug compare RUN --out STUDY --recipe {recipe} --synthetic {'SYNTHETIC' if made_here else shlex.quote(str(synthetic))}",
        "ganaug report STUDY",
    ]


def find_caveats(recipe: Recipe, choice: Choice, images: ImageSet, info: dict[str, Any]) -> list[str]:
    """What a reader of the verdict must know, in plain sentences."""
    notes = []
    if choice.converged is None:
        notes.append("The number of updates was set by hand; whether the arms converged was not measured.")
    elif not choice.converged:
        notes.append(
            f"Not converged: the baseline was still improving at {choice.chosen} updates, the most that were allowed. "
            "An under-trained baseline makes any augmentation look good; raise compare.max_updates or the budget."
        )
    if recipe.compare.seeds < FEW_SEEDS:
        notes.append(f"Only {recipe.compare.seeds} seeds: intervals are wide. {FEW_SEEDS} or more are advised.")
    num_test = len(images.indices("test"))
    if num_test < FEW_TEST_IMAGES:
        notes.append(f"Only {num_test} test images: differences of a few points cannot be told from chance.")
    if info["strategy"] == "per-class":
        notes.append(
            "One GAN for each class: the discriminator's arms start from that of the class with the most images."
        )
    notes.append("One generator and one split stand behind this verdict; another seed of the fit may give another.")
    return notes


def write_tables(
    folder: Path,
    run: RunFolder,
    info: dict[str, Any],
    pieces: list[Piece],
    outcomes: dict[str, Outcome],
    study: dict[str, Any],
    material: Material,
) -> None:
    """metrics.csv, curves.csv, gan.csv and examples.npz, for the report and for readers of tables."""
    metrics = [
        {"arm": arm, "seed": seed, **{metric: scores[metric][i] for metric in METRICS}}
        for arm, scores in study["arms"].items()
        for i, seed in enumerate(study["seeds"])
    ]
    curves = [
        {
            "arm": piece.arm,
            "seed": piece.seed,
            "update": int(update),
            "loss": round(loss, 5),
            "accuracy": round(accuracy, 5),
        }
        for piece in pieces
        for update, loss, accuracy in outcomes[piece.name].curve.tolist()
    ]
    gan = pd.concat(
        [pd.read_csv(run.member(name) / "metrics.csv").assign(member=name) for name in info["members"]],
        ignore_index=True,
    )
    for name, table in (("metrics", pd.DataFrame(metrics)), ("curves", pd.DataFrame(curves)), ("gan", gan)):
        with written_whole(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    with written_whole(folder / "examples.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, real=first_of_each(material.train), synthetic=first_of_each(material.synthetic))


def first_of_each(labeled: Labeled) -> npt.NDArray[np.uint8]:
    """(K, n, S, S, C): the first n images of every class, n what the smallest class allows, at most NUM_EXAMPLES."""
    classes = range(int(labeled.labels.max()) + 1)
    rows = [np.flatnonzero(labeled.labels == k) for k in classes]
    count = min(NUM_EXAMPLES, *(len(r) for r in rows))
    return np.stack([labeled.images[r[:count]].transpose(0, 2, 3, 1) for r in rows])


def most_trained_member(info: dict[str, Any]) -> str:
    """The member whose discriminator has seen the most images: the joint one where there is one."""
    counts = list(info["counts"]["train"].values())
    members = STRATEGIES[info["strategy"]](len(counts))
    return max(members, key=lambda member: sum(counts[k] for k in member.classes)).name
