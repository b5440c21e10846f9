"""The result of a study as tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..runs import read_json
from .statistics import METRICS


@dataclass(frozen=True)
class Comparison:
    """The result of a study. All scores and differences are fractions; intervals are of 95 %.

    scores: arm, repetition, split, gan, draw, seed, accuracy, balanced_accuracy, macro_f1
    differences: arm, baseline, metric, mean, low, high, p_value, p_holm, verdict
    classes: arm, baseline, class, mean, low, high; of the classes' recalls
    variance: source, deviation, share; of a single repetition's difference
    mcnemar: arm, baseline, arm_only, baseline_only, p_value; of the ensembles of all repetitions
    needed: repetitions, or times as many test images, that would settle an inconclusive verdict
    choices: split, arm, step, setting, balanced_accuracy, log_loss, chosen; what was tried on inner folds
    """

    folder: Path  # of study.json
    verdict: str  # helps, hurts, equivalent or inconclusive
    sentence: str  # the verdict in words, with its figures
    scores: pd.DataFrame
    differences: pd.DataFrame
    classes: pd.DataFrame
    variance: pd.DataFrame
    mcnemar: pd.DataFrame
    needed: dict[str, float | None]
    choices: pd.DataFrame


def read_comparison(folder: str | Path) -> Comparison:
    """The tables of a complete study. Raises `GanaugError` where it is not complete."""
    study = read_json(Path(folder) / "study.json")
    candidates = [
        {"split": split, **candidate}
        for split, choice in enumerate(study["choices"])
        for candidate in choice["candidates"]
    ]
    return Comparison(
        folder=Path(folder),
        verdict=study["verdict"],
        sentence=study["sentence"],
        scores=pd.DataFrame(score_rows(study)),
        differences=pd.DataFrame(study["differences"]).drop(columns=["values"]),
        classes=pd.DataFrame(study["class_differences"]),
        variance=pd.DataFrame(study["variance"]),
        mcnemar=pd.DataFrame(study["mcnemar"]),
        needed=study["needed"],
        choices=pd.DataFrame(candidates),
    )


def score_rows(study: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "repetition": number, **repetition, **{metric: scores[metric][number] for metric in METRICS}}
        for arm, scores in study["arms"].items()
        for number, repetition in enumerate(study["repetitions"])
    ]
