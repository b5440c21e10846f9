"""The classifiers of a study as files that predict."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..classify.predictor import export_onnx, load_classifier
from ..errors import GanaugError
from ..progress import warn
from ..runs import read_json, written_whole
from ..watch import refuse_unfinished
from .arms import BASELINE
from .statistics import guessing_limit

SUFFIXES = (".safetensors", ".onnx")


def export_classifier(study: str | Path, out: str | Path, *, arm: str | None = None) -> Path:
    """Writes the classifier of an arm, as it was trained and scored in the study's first repetition.

    study: a complete study.
    out: the file: `.safetensors` for `ganaug predict`, `.onnx` for other programs.
    arm: by default the one with the lowest log loss on the inner folds, where the test images played no part; the baseline where
        nothing was chosen there.

    Returns `out`. Raises `GanaugError` for an unfinished study, an arm that it does not have, and another suffix.
    """
    folder, target = Path(study), Path(out)
    if target.suffix.lower() not in SUFFIXES:
        raise GanaugError(f"{target} must end in {' or '.join(SUFFIXES)}, which says what is written.")
    content, chosen = find_arm(folder, arm)
    path = classifier_file(folder, chosen)
    if not path.is_file():
        raise GanaugError(
            f"{folder} keeps no classifier of {chosen}: an earlier ganaug made it, or the file was removed. Delete "
            f"{folder / 'study.json'} and repeat ganaug compare: it trains again what is missing."
        )
    model, card = load_classifier(path)
    if target.suffix.lower() == ".onnx":
        export_onnx(target, model, card)
    else:
        with written_whole(target) as temporary:
            shutil.copyfile(path, temporary)
    if guesses(content, chosen):
        warn(
            f"on the test images {chosen} cannot be told from guessing, so that what {target} says may be worth nothing. The notes in the "
            "study's report say what to look at."
        )
    return target


def find_arm(study: Path, arm: str | None) -> tuple[dict[str, Any], str]:
    """What study.json says, and the arm that is asked for in it, or the best one. Raises `GanaugError` as `export_classifier` does."""
    refuse_unfinished(study)
    content = read_json(study / "study.json", keys=("arms", "choices", "counts", "class_names"))
    chosen = arm or best_arm(content)
    if chosen not in content["arms"]:
        raise GanaugError(f"{study} has no arm {chosen!r}; it has {', '.join(content['arms'])}.")
    counts, scores = content["counts"].get("test", {}), content["arms"][chosen].get("balanced_accuracy")
    if not scores or not content["class_names"] or set(content["class_names"]) - set(counts):
        raise GanaugError(
            f"{study / 'study.json'} is damaged: it lacks scores of {chosen}, or the numbers of test images. Repeat the study."
        )
    return content, chosen


def describe_export(study: str | Path, arm: str | None = None) -> str:
    """Whose classifier `export_classifier` writes, and how well it does on the test images, for people."""
    content, chosen = find_arm(Path(study), arm)
    scores = [100 * value for value in content["arms"][chosen]["balanced_accuracy"]]
    mean = f"{sum(scores) / len(scores):.1f} % in the mean of {len(scores)} repetitions"
    return f"arm: {chosen}; balanced accuracy on the test images: {scores[0]:.1f} % of this classifier, {mean}"


def guesses(study: dict[str, Any], arm: str) -> bool:
    """Whether the arm's mean over the repetitions cannot be told from guessing on the (first split's) test images."""
    truth = np.repeat(
        np.arange(len(study["class_names"])), [study["counts"]["test"][name] for name in study["class_names"]]
    )
    return bool(np.mean(study["arms"][arm]["balanced_accuracy"]) < guessing_limit(truth))


def classifier_file(study: Path, arm: str) -> Path:
    return study / "classifiers" / f"{arm.replace('/', '-')}.safetensors"


def best_arm(study: dict[str, Any]) -> str:
    """The arm that did best on the inner folds of the first split, each with the last number of updates that was tried for it up to
    the one chosen."""
    choice = study["choices"][0]
    losses = {
        candidate["arm"]: candidate["log_loss"]
        for candidate in choice["candidates"]
        if candidate["step"] == "updates" and candidate["setting"]["updates"] <= choice["chosen"]
    }
    return min((arm for arm in study["arms"] if arm in losses), key=lambda arm: losses[arm], default=BASELINE)
