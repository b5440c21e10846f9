"""The rows of the page's tables, from the numbers of a study. Nothing here knows HTML or Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .result import Difference, Result
from .words import deviation, mean

MOST_CONFUSIONS = 8
MOST_WHOLE_PAIRS = 5  # comparisons up to which the chart shows each of them in every metric


@dataclass(frozen=True)
class ArmRow:
    """`scores` is metric -> (mean, sample standard deviation) over the repetitions, as fractions."""

    arm: str
    scores: Mapping[str, tuple[float | None, float | None]]
    repetitions: int
    is_primary: bool


@dataclass(frozen=True)
class ClassRow:
    """Recalls are means over the repetitions in 0..1; `bar` is the difference relative to the largest one, in -1..1.

    `difference` is the one that the interval `low` to `high` is about, where the study gives it.
    """

    name: str
    train: int | None
    synthetic: int | None
    test: int | None
    baseline: float | None
    arm: float | None
    difference: float | None
    low: float | None
    high: float | None
    bar: float

    @property
    def is_open(self) -> bool:
        """Whether its interval holds zero."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


@dataclass(frozen=True)
class ClassTable:
    arm: str
    baseline: str
    rows: Sequence[ClassRow]

    def counted(self) -> tuple[int, int, int]:
        """Classes with a higher, an equal and a lower recall in the arm than in the baseline."""
        shown = [round(100 * row.difference, 1) for row in self.rows if row.difference is not None]
        return sum(x > 0 for x in shown), sum(x == 0 for x in shown), sum(x < 0 for x in shown)

    def has_intervals(self) -> bool:
        return any(row.low is not None for row in self.rows)

    def decided(self) -> tuple[int, int]:
        """Classes whose interval lies above zero, and below."""
        above = sum(row.low is not None and row.low > 0 for row in self.rows)
        return above, sum(row.high is not None and row.high < 0 for row in self.rows)


@dataclass(frozen=True)
class NoiseRow:
    """A source of chance; `share` of the variance is None unless several sources are known, as one alone says nothing."""

    source: str
    deviation: float | None
    share: float | None


@dataclass(frozen=True)
class Confusion:
    """How often `truth` was taken for `predicted`, as shares of the test images of `truth`."""

    truth: str
    predicted: str
    baseline: float
    arm: float


def metric_names(result: Result) -> list[str]:
    """The metrics of any arm, the primary one first."""
    names = dict.fromkeys(metric for scores in result.arms.values() for metric in scores)
    return sorted(names, key=lambda name: name != result.primary.metric)


def arm_rows(result: Result) -> list[ArmRow]:
    pair = (result.primary.arm, result.primary.baseline)
    return [
        ArmRow(
            arm,
            {metric: (mean(values), deviation(values)) for metric, values in scores.items()},
            max((len(values) for values in scores.values()), default=0),
            arm in pair,
        )
        for arm, scores in result.arms.items()
    ]


def compared_pairs(result: Result) -> list[tuple[str, str]]:
    """(arm, baseline) of every comparison, the primary one first."""
    first = (result.primary.arm, result.primary.baseline)
    return list(dict.fromkeys([first, *((row.arm, row.baseline) for row in result.differences)]))


def charted_differences(result: Result) -> list[Difference]:
    """The differences that the chart shows: of many comparisons, all but the primary one in the primary metric alone."""
    if len(compared_pairs(result)) <= MOST_WHOLE_PAIRS:
        return list(result.differences)
    first = result.primary
    return [
        row
        for row in result.differences
        if row.metric == first.metric or (row.arm, row.baseline) == (first.arm, first.baseline)
    ]


def noise_rows(result: Result) -> list[NoiseRow]:
    """What a single repetition's difference owes to each source; [] if none of them was varied by itself."""
    known = sum(row.share is not None for row in result.variance)
    if not any(row.deviation is not None for row in result.variance):
        return []
    return [NoiseRow(row.source, row.deviation, row.share if known > 1 else None) for row in result.variance]


def class_tables(result: Result) -> list[ClassTable]:
    """A table for each comparison whose recalls are known; the largest gain first, the largest loss last."""
    pairs = [pair for pair in compared_pairs(result) if all(arm in result.per_class for arm in pair)]
    return [_class_table(result, arm, baseline) for arm, baseline in pairs]


def _class_table(result: Result, arm: str, baseline: str) -> ClassTable:
    measured = {row.class_name: row for row in result.class_differences if (row.arm, row.baseline) == (arm, baseline)}
    differences: dict[str, float | None] = {}
    recalls: dict[str, tuple[float | None, float | None]] = {}
    for name in result.class_names:
        before, after = (mean(result.per_class[key].get(name, [])) for key in (baseline, arm))
        recalls[name] = (before, after)
        if name in measured:
            differences[name] = measured[name].mean
        else:
            differences[name] = None if before is None or after is None else after - before
    largest = max((abs(value) for value in differences.values() if value is not None), default=0) or 1
    rows = [
        ClassRow(
            name,
            _number(result, "train", name),
            _number(result, "synthetic", name),
            _number(result, "test", name),
            *recalls[name],
            value,
            measured[name].low if name in measured else None,
            measured[name].high if name in measured else None,
            (value or 0) / largest,
        )
        for name, value in differences.items()
    ]
    rows.sort(key=lambda row: (row.difference is None, -(row.difference or 0)))
    return ClassTable(arm, baseline, rows)


def _number(result: Result, kind: str, name: str) -> int | None:
    return result.counts[kind].get(name, 0) if kind in result.counts else None


def frequent_confusions(result: Result) -> list[Confusion]:
    """The most frequent confusions of either arm of the primary comparison; [] if their matrices are not known."""
    pair = [result.confusion.get(arm) for arm in (result.primary.baseline, result.primary.arm)]
    before, after = pair
    if before is None or after is None:
        return []
    found = [
        Confusion(truth, predicted, before[i][j] / max(1, sum(before[i])), after[i][j] / max(1, sum(after[i])))
        for i, truth in enumerate(result.class_names)
        for j, predicted in enumerate(result.class_names)
        if i != j and before[i][j] + after[i][j] > 0
    ]
    found.sort(key=lambda item: -max(item.baseline, item.arm))
    return found[:MOST_CONFUSIONS]


def setting_groups(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(stage, [(name, value)]) of a nested recipe; what stands outside a stage comes first, under an empty stage."""
    loose = [(name, show_value(value)) for name, value in settings.items() if not isinstance(value, Mapping)]
    groups = [(name, list(_flatten(value))) for name, value in settings.items() if isinstance(value, Mapping)]
    return [group for group in [("", loose), *groups] if group[1]]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", show_value(value)


def show_value(value: object) -> str:
    """A setting as a person would write it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(show_value(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
