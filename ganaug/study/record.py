"""What a study leaves behind: study.json and the tables and images beside it."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..classify.training import Labeled
from ..data import manifest
from ..data.cache import ImageSet
from ..progress import warn
from ..runs import SCHEMA, RunFolder, checkpoint_of, describe_versions, read_json, written_whole
from ..settings import CompareSettings, Recipe
from .arms import ARMS, QUESTIONS
from .convergence import Choice
from .pieces import Material, Outcome, Piece
from .statistics import METRICS, confusion_matrices, paired_differences, recalls, score
from .verdict import explain, judge

PRIMARY_METRIC = "balanced_accuracy"
NUM_EXAMPLES = 20  # images of each class kept for the report
FEW_SEEDS, FEW_TEST_IMAGES = 6, 200


def describe_study(
    run: RunFolder,
    info: dict[str, Any],
    images: ImageSet,
    recipe: Recipe,
    material: Material,
    choice: Choice,
    pieces: list[Piece],
    outcomes: dict[str, Outcome],
    folder: Path,
    source: Path,
) -> dict[str, Any]:
    """study.json: scores of every arm and seed, paired differences, verdict, and all that tells how it was done.

    `source` is the folder of the synthetic images, `folder` the study's own.
    """
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
    counts = {
        "train": images.counts("train"),
        "test": images.counts("test"),
        "synthetic": dict(zip(names, synthetic_counts, strict=True)),
    }
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
            name: dict(zip(names, _recall_lists(matrix), strict=True)) for name, matrix in confusions.items()
        },
        "confusion": {name: matrix.sum(axis=0).astype(int).tolist() for name, matrix in confusions.items()},
        "class_names": names,
        "counts": counts,
        "seeds": list(range(recipe.compare.seeds)),
        "updates": choice.to_json(),
        "settings": recipe.model_dump(mode="json"),
        "versions": describe_versions(),
        "source": info["source"],
        "run": str(run.root),
        "notes": find_caveats(recipe.compare, choice, counts, info, read_json(run.check)),
        "reproduce": commands_to_reproduce(run, info, folder, source),
    }


def _recall_lists(confusion: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """(num_seeds, K, K) -> for each class its recall in each seed; None without a test image."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in recalls(confusion).T]


def find_caveats(
    settings: CompareSettings,
    choice: Choice,
    counts: dict[str, dict[str, int]],
    info: dict[str, Any],
    check: dict[str, Any],
) -> list[str]:
    """What a reader of the verdict must know, in plain sentences."""
    notes = []
    for problem in check["problems"]:
        if problem["kind"] in ("split-leak", "label-conflict"):
            notes.append(f"The check of the data found {problem['message']}; `ganaug check` names the files.")
    if choice.converged is None:
        notes.append("The number of updates was set by hand; whether the arms converged was not measured.")
    elif not choice.converged:
        notes.append(
            f"Not converged: with up to {choice.candidates[-1].updates} updates, the baseline was still improving or had "
            "learned nothing. An under-trained baseline makes any augmentation look good: repeat the study in another folder with a "
            "larger budget or compare.max_updates."
        )
    if choice.candidates and choice.candidates[-1].updates < settings.max_updates:
        notes.append(
            f"The budget allowed no more than {choice.candidates[-1].updates} of {settings.max_updates} updates."
        )
    if settings.seeds < FEW_SEEDS:
        notes.append(f"Only {settings.seeds} seeds: intervals are wide. {FEW_SEEDS} or more are advised.")
    num_test = sum(counts["test"].values())
    if num_test < FEW_TEST_IMAGES:
        notes.append(f"Only {num_test} test images: differences of a few points cannot be told from chance.")
    without = [name for name, count in counts["synthetic"].items() if count == 0]
    if without:
        notes.append(f"There are no synthetic images of: {', '.join(without)}.")
    if info["strategy"] == "per-class":
        notes.append(
            "One GAN for each class: the discriminator's arms start from that of the class with the most images."
        )
    notes.append("One generator and one split stand behind this verdict; another seed of the fit may give another.")
    return notes


def commands_to_reproduce(run: RunFolder, info: dict[str, Any], folder: Path, source: Path) -> list[str]:
    """The commands that give the same study again; of a foreign folder of synthetic images, that folder is needed."""
    recipe = shlex.quote(str(folder / "recipe.yaml"))
    request = source / "recipe.yaml"
    made_here = request.is_file() and was_made_by(run, info, source)
    return [
        f"ganaug fit {shlex.quote(info['source'])} --out RUN --recipe {recipe}",
        *([f"ganaug synthesize RUN --out SYNTHETIC --recipe {shlex.quote(str(request))}"] if made_here else []),
        f"ganaug compare RUN --out STUDY --recipe {recipe} "
        f"--synthetic {'SYNTHETIC' if made_here else shlex.quote(str(source))}",
        "ganaug report STUDY",
    ]


def was_made_by(run: RunFolder, info: dict[str, Any], source: Path) -> bool:
    """Whether all synthetic images of a folder come from the run's own generators, by its manifest."""
    if not (source / manifest.NAME).is_file():
        return False
    table = manifest.read_manifest(source)
    own = {checkpoint_of(run.member(name) / "generator.safetensors") for name in info["members"]}
    return "checkpoint" in table and set(table.loc[table["source"] != "real", "checkpoint"]) <= own


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
    gan = pd.concat([read_losses(run, name) for name in info["members"]], ignore_index=True)
    for name, table in (("metrics", pd.DataFrame(metrics)), ("curves", pd.DataFrame(curves)), ("gan", gan)):
        with written_whole(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    with written_whole(folder / "examples.npz") as temporary, temporary.open("wb") as file:
        real = first_of_each(material.train, material.num_classes)
        np.savez_compressed(file, real=real, synthetic=first_of_each(material.synthetic, material.num_classes))


def read_losses(run: RunFolder, member: str) -> pd.DataFrame:
    """The losses of a member's training; no rows where the file is gone or damaged, for which no verdict need wait."""
    try:
        return pd.read_csv(run.member(member) / "metrics.csv").assign(member=member)
    except (OSError, ValueError) as error:
        warn(f"the losses of {member} cannot be read, and the report will not show them: {error}")
        return pd.DataFrame()


def first_of_each(labeled: Labeled, num_classes: int) -> npt.NDArray[np.uint8]:
    """(K, NUM_EXAMPLES, S, S, C): the first images of every class; zeros stand for those that a class does not have."""
    channels, height, width = labeled.images.shape[1:]
    examples = np.zeros((num_classes, NUM_EXAMPLES, height, width, channels), np.uint8)
    for k in range(num_classes):
        mine = labeled.images[np.flatnonzero(labeled.labels == k)[:NUM_EXAMPLES]]
        examples[k, : len(mine)] = mine.transpose(0, 2, 3, 1)
    return examples
