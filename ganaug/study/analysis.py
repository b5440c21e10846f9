"""From the outcomes of all trainings to differences, tests, sources of variance and the verdict. No file, no training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..classify.training import Labeled, Training
from ..settings import Verdict
from .arms import ARMS, BASELINE, MIXED, questions
from .design import Plan, Repetition
from .pieces import Outcome, Weights
from .search import Choice
from .statistics import (
    METRICS,
    Difference,
    class_metric,
    holm,
    mcnemar,
    needed_images,
    needed_repetitions,
    paired_differences,
    resampled_differences,
    single_differences,
    variance_components,
)
from .verdict import explain, judge

PRIMARY_METRIC = "balanced_accuracy"
SIGNIFICANT = 0.05
TOGETHER = "all together"  # but the test images, which the repetitions share


@dataclass(frozen=True)
class Evidence:
    """All that the verdict rests on."""

    outcomes: Mapping[tuple[str, Repetition], Outcome]  # of repetitions and probes
    truths: Sequence[npt.NDArray[np.int64]]  # labels of each split's test images
    judged_groups: npt.NDArray[
        np.int64
    ]  # (N,) of the first split's test images; those with equal numbers belong together
    num_train: Sequence[int]  # training images of each split
    choices: tuple[Choice, ...]  # of each split
    trainings: Sequence[Mapping[str, Training]]  # of each split, what every arm was given in the end
    longest: int  # updates that the budget allowed an arm
    example_pool: Labeled | None  # a draw of synthetic images
    classifiers: Mapping[str, Weights]  # of every arm in the first repetition

    def predictions(self, arm: str, repetitions: Sequence[Repetition]) -> npt.NDArray[np.int64]:
        """(R, N) for repetitions of one split."""
        return np.stack([self.outcomes[arm, r].probabilities.argmax(axis=1) for r in repetitions])

    def both(
        self, pair: tuple[str, str], repetitions: Sequence[Repetition]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The predictions of an arm and its baseline."""
        return self.predictions(pair[0], repetitions), self.predictions(pair[1], repetitions)

    def ensemble(self, arm: str, repetitions: Sequence[Repetition]) -> npt.NDArray[np.int64]:
        """(N,): what the mean of the repetitions' probabilities says."""
        mean = np.mean([self.outcomes[arm, r].probabilities for r in repetitions], axis=0)
        return np.asarray(mean.argmax(axis=1), np.int64)


@dataclass(frozen=True)
class Results:
    primary: tuple[str, str]  # (arm, baseline)
    metric: str
    verdict: Verdict
    sentence: str
    outlook: str  # what would settle an inconclusive verdict, after a space; else empty
    differences: list[dict[str, Any]]
    class_differences: list[dict[str, Any]]
    variance: list[dict[str, Any]]
    needed: dict[str, float | None]
    mcnemar: list[dict[str, Any]]


def analyse(plan: Plan, evidence: Evidence, num_classes: int, margin: float) -> Results:
    """`margin`: the region of practical equivalence, as a fraction."""
    asked = questions(plan.arms)
    found = {pair: differences_of(plan, evidence, pair, num_classes) for pair in asked}
    primary = asked[0]
    main = found[primary][PRIMARY_METRIC]
    verdict = judge(main.low, main.high, margin)
    repetitions = len(plan.repetitions())
    figures = (PRIMARY_METRIC, main.mean, main.low, main.high, margin, repetitions)
    needed: dict[str, float | None] = {}
    outlook = ""
    if verdict == "inconclusive":
        needed = {"repetitions": needed_repetitions(main, margin), "times_test_images": needed_images(main, margin)}
        what = "splits" if plan.splits > 1 else "GANs" if is_clustered(plan, primary) else "repetitions"
        outlook = f" {describe_needed(needed, what)}"
    return Results(
        primary=primary,
        metric=PRIMARY_METRIC,
        verdict=verdict,
        sentence=explain(verdict, primary, *figures),
        outlook=outlook,
        differences=difference_rows(found, primary, margin),
        class_differences=[
            {"arm": arm, "baseline": base, "class": k, "mean": d.mean, "low": d.low, "high": d.high}
            for (arm, base), metrics in found.items()
            for k in range(num_classes)
            if (d := metrics.get(class_metric(k))) is not None
        ],
        variance=variance_rows(plan, evidence, primary, num_classes, main.of_images),
        needed=needed,
        mcnemar=mcnemar_rows(plan, evidence, asked),
    )


def differences_of(plan: Plan, evidence: Evidence, pair: tuple[str, str], num_classes: int) -> dict[str, Difference]:
    """The differences of a question. Over one split by the hierarchical bootstrap; over several by the corrected t interval."""
    if plan.splits == 1:
        repetitions = plan.repetitions()
        gans = [repetition.gan for repetition in repetitions] if is_clustered(plan, pair) else None
        predictions = evidence.both(pair, repetitions)
        return paired_differences(evidence.truths[0], *predictions, num_classes, gans, evidence.judged_groups)
    per_split = []
    for split, truth in enumerate(evidence.truths):
        mine = [repetition for repetition in plan.repetitions() if repetition.split == split]
        per_split.append(single_differences(truth, *evidence.both(pair, mine), num_classes))
    ratio = float(np.mean([len(truth) / n for truth, n in zip(evidence.truths, evidence.num_train, strict=True)]))
    counts = np.mean([np.bincount(truth, minlength=num_classes) for truth in evidence.truths], axis=0)
    return resampled_differences(per_split, ratio, counts.astype(np.int64))


def is_clustered(plan: Plan, pair: tuple[str, str]) -> bool:
    """Whether several repetitions share a GAN, so that the GANs are what is independent."""
    return ARMS[pair[0]].uses_gan and 1 < plan.gans < plan.seeds


def difference_rows(
    found: Mapping[tuple[str, str], Mapping[str, Difference]], primary: tuple[str, str], margin: float
) -> list[dict[str, Any]]:
    """A row for each question and metric. The primary question in the primary metric was decided beforehand and stands for itself; of
    the others, only those help or hurt that do so after Holm's adjustment for all questions."""
    rows = []
    adjusted = {metric: holm([metrics[metric].p_value for metrics in found.values()]) for metric in METRICS}
    for number, (pair, metrics) in enumerate(found.items()):
        for metric in METRICS:
            difference, p_holm = metrics[metric], adjusted[metric][number]
            verdict = judge(difference.low, difference.high, margin)
            if (pair, metric) != (primary, PRIMARY_METRIC) and verdict in ("helps", "hurts") and p_holm >= SIGNIFICANT:
                verdict = "inconclusive"
            rows.append(
                {
                    "arm": pair[0],
                    "baseline": pair[1],
                    "metric": metric,
                    "mean": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                    "p_value": difference.p_value,
                    "p_holm": p_holm,
                    "pairs": len(difference.values),
                    "values": difference.values,
                    "verdict": verdict,
                }
            )
    return rows


def variance_rows(
    plan: Plan, evidence: Evidence, primary: tuple[str, str], num_classes: int, of_images: float
) -> list[dict[str, Any]]:
    """What a single repetition's difference owes to each source: standard deviation, and share of the variance of those known.

    None where a source was not varied by itself. Where the split is fixed, `of_images` is what the draw of the test images gives
    all repetitions alike; what it gives each of them counts for their seeds.
    """
    probed = plan.probes() if primary == (MIXED, BASELINE) else []
    repetitions = list(dict.fromkeys([*plan.repetitions(), *probed]))  # in this order
    values = [
        single_differences(evidence.truths[r.split], *evidence.both(primary, [r]), num_classes)[PRIMARY_METRIC][0]
        for r in repetitions
    ]
    uses_gan, uses_pool = ARMS[primary[0]].uses_gan, ARMS[primary[0]].uses_pool
    places = [(r.split, r.gan if uses_gan else 0, r.draw if uses_pool else 0, r.seed) for r in repetitions]
    parts = variance_components(np.array(values), places)
    if plan.splits == 1:
        parts["test images"] = of_images
    total = sum(part for part in parts.values() if part is not None)
    measured = float(np.var(values[: len(plan.repetitions())], ddof=1))
    rows = [
        {
            "source": name,
            "deviation": None if part is None else part**0.5,
            "share": None if part is None or total == 0 else part / total,
        }
        for name, part in parts.items()
    ]
    return [*rows, {"source": TOGETHER, "deviation": measured**0.5, "share": None}]


def mcnemar_rows(plan: Plan, evidence: Evidence, asked: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """McNemar's exact test of each question, between the ensembles of all repetitions; none where they have other test images."""
    if plan.splits > 1:
        return []
    rows = []
    for arm, baseline in asked:
        test = mcnemar(evidence.truths[0], *(evidence.ensemble(name, plan.repetitions()) for name in (arm, baseline)))
        rows.append(
            {
                "arm": arm,
                "baseline": baseline,
                "arm_only": test.arm_only,
                "baseline_only": test.baseline_only,
                "p_value": test.p_value,
            }
        )
    return rows


def describe_needed(needed: Mapping[str, float | None], what: str) -> str:
    """What would settle an inconclusive verdict, were the difference as it was measured. `what` is repeated independently."""
    more, times = needed["repetitions"], needed["times_test_images"]
    ways = [f"{more:.0f} {what}"] if more is not None else []
    ways += [f"{times:.3g} times as many test images"] if times is not None else []
    if not ways:
        return f"Neither more {what} nor more test images alone would settle it."
    return f"If the difference is as measured, {' or '.join(ways)} would settle it."
