"""The classifiers of a study as files that predict."""

import shutil
from pathlib import Path
from typing import Any

from ..classify.predictor import export_onnx, load_classifier
from ..errors import GanaugError
from ..runs import read_json, written_whole
from .arms import BASELINE

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
    if not (folder / "study.json").is_file():
        raise GanaugError(f"{folder} is not a finished study. Make one with: ganaug compare RUN --out {folder}")
    content = read_json(folder / "study.json", keys=("arms", "choices"))
    chosen = arm or best_arm(content)
    if chosen not in content["arms"]:
        raise GanaugError(f"{folder} has no arm {chosen!r}; it has {', '.join(content['arms'])}.")
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
    return target


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
