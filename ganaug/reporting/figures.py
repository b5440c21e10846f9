"""The charts of the page as inline SVG: scores of the arms, differences with intervals, and confusion matrices.

A colour stands for what an arm was trained on, a marker for where its weights started, everywhere on the page.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from .result import Difference, Primary
from .svg import INK, MUTED, RULE, SERIES, SURFACE, VERDICTS, WIDTH, canvas, figure_style, to_svg
from .words import (
    describe_arm,
    describe_metric,
    describe_pair,
    deviation,
    interval,
    mean,
    percent,
    shorten,
    signed,
    split_arm,
)

ROW = 56.0  # pixels for an arm: its name above, its dots below
PAIR_ROW = 40.0  # pixels for a difference
HEADING, HEADING_LINE = 0.3, 0.45  # rows for the name of a comparison: its margin, and each of its lines
HEADING_LETTERS = 56  # in a line
VERDICT_MARKERS = {"helps": "^", "hurts": "v", "equivalent": "s", "inconclusive": "o"}
EQUIVALENCE_OPACITY = 0.16
MOST_CELL_NUMBERS = 12  # classes up to which a confusion matrix has numbers in its cells
MOST_CELL_LABELS = 32  # classes up to which it has names at its sides
CONFUSION_RIGHT = (0x1F / 255, 0x6F / 255, 0xD6 / 255)  # blue, by transparency: it lies on a light or a dark page
CONFUSION_WRONG = (0xE0 / 255, 0x6C / 255, 0x0A / 255)  # orange
STRONGEST_CELL = 0.6  # opacity; text on it stays readable in both themes


def arm_colour(arm: str, arms: Sequence[str]) -> str:
    """One colour for each diet (real, real+synthetic, ...) in the order in which the study lists them; grey for the rest."""
    diets = list(dict.fromkeys(split_arm(name)[1] or name for name in arms))
    return dict(zip(diets, SERIES, strict=False)).get(split_arm(arm)[1] or arm, MUTED)


def is_first_start(arm: str, arms: Sequence[str]) -> bool:
    """Whether the arm starts where the study's first arm does; the others get another marker or dash."""
    return split_arm(arm)[0] == split_arm(arms[0])[0]


def draw_arms(arms: dict[str, dict[str, list[float]]], metric: str, name: str, chance: float | None = None) -> Markup:
    """A dot for each repetition and a bar at the mean, a row for each arm that has the metric; a dotted line at what guesses reach,
    `chance`, where that is near the scores."""
    rows = [(arm, scores[metric]) for arm, scores in arms.items() if scores.get(metric)]
    guessed = None if chance is None else _near(100 * chance, [100 * value for _, values in rows for value in values])
    with figure_style():
        top = 0 if guessed is None else 22
        figure, axes = canvas(height=ROW * len(rows) + 46 + top, left=4, right=8, top=top, bottom=44)
        axes.set_ylim(len(rows), 0)
        for index, (arm, values) in enumerate(rows):
            colour = arm_colour(arm, list(arms))
            filled = colour if is_first_start(arm, list(arms)) else SURFACE
            y = index + 0.68
            axes.scatter(
                100 * np.array(values),
                np.full(len(values), y),
                s=42,
                facecolors=filled,
                edgecolors=colour,
                linewidths=1.5,
                zorder=3,
                clip_on=False,
            )
            middle = 100 * float(np.mean(values))
            axes.plot([middle, middle], [y - 0.2, y + 0.2], color=INK, linewidth=2.2, zorder=4)
            _row_text(axes, index + 0.32, describe_arm(arm), _mean_and_spread(values), ("normal", "bold"))
        shown = [100 * value for _, values in rows for value in values]
        _pad_limits(axes, shown if guessed is None else [*shown, guessed])
        if guessed is not None:
            _draw_chance(axes, guessed)
        _percent_axis(axes, f"{describe_metric(metric)} on the real test images")
        axes.yaxis.set_major_locator(NullLocator())
        summary = "; ".join(f"{describe_arm(arm)}: {percent(mean(values))}" for arm, values in rows)
        guesses = "" if guessed is None else f" Dotted line: guesses reach {guessed:.0f}%."
        return to_svg(
            figure, name, f"{describe_metric(metric)} of each arm, mean over the repetitions. {summary}.{guesses}"
        )


def _near(value: float, values: Sequence[float]) -> float | None:
    """The value, where it lies within the others or no farther off than half their range; else None."""
    if not values:
        return None
    room = 0.5 * (max(values) - min(values))
    return value if min(values) - room <= value <= max(values) + room else None


def _draw_chance(axes: Axes, value: float) -> None:
    """Its words above the rows, on the side of the line that has room for them."""
    axes.axvline(value, color=INK, linewidth=1.2, linestyle=(0, (1.2, 2.4)), zorder=1.5)
    low, high = axes.get_xlim()
    side, shift = ("left", -2) if value < (low + high) / 2 else ("right", 2)
    axes.annotate(
        f"guessing {value:.0f}%", (value, 1), xycoords=("data", "axes fraction"), xytext=(shift, 5), textcoords="offset pixels",
        ha=side, color=MUTED, fontsize=11.5,
    )  # fmt: skip


def _mean_and_spread(values: Sequence[float]) -> str:
    spread = deviation(values)
    return percent(mean(values)) + (f" ± {100 * spread:.1f}" if spread is not None else "")


def _row_text(
    axes: Axes, y: float, left: str, right: str, weights: tuple[str, str] = ("normal", "normal"), colour: str = INK
) -> None:
    """A line of text over the whole width; behind it the grid is covered."""
    transform = axes.get_yaxis_transform()  # x in 0..1 of the axes, y in data
    cover = {"facecolor": SURFACE, "edgecolor": "none", "pad": 1}
    for x, text, side, weight in zip((0, 1), (left, right), ("left", "right"), weights, strict=True):
        if text:
            axes.text(
                x,
                y,
                text,
                transform=transform,
                ha=side,
                va="center",
                fontweight=weight,
                color=colour,
                bbox=cover,
                zorder=2,
            )


def _pad_limits(axes: Axes, values: Sequence[float]) -> None:
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    pad = max(0.5, 0.08 * (high - low))
    axes.set_xlim(*within_percent(low - pad, high + pad))


def within_percent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of percent, none beyond what there is."""
    return max(low, 0.0), min(high, 100.0)


def _percent_axis(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, labelpad=6)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))


def draw_forest(
    differences: Sequence[Difference], primary: Primary, name: str, equivalence: float | None = None
) -> Markup:
    """Differences in points with their intervals around the line of no difference; a faint dot for each repetition.

    Behind them, within `equivalence` of zero, the differences that make none in practice.
    """
    groups: dict[tuple[str, str], list[Difference]] = {}
    for row in differences:
        groups.setdefault((row.arm, row.baseline), []).append(row)
    headings = {pair: textwrap.wrap(describe_pair(*pair), HEADING_LETTERS) for pair in groups}
    lines = len(differences) + sum(HEADING + HEADING_LINE * len(texts) for texts in headings.values())
    with figure_style():
        figure, axes = canvas(height=PAIR_ROW * lines + 68, left=4, right=8, top=24, bottom=44)
        axes.set_ylim(lines, 0)
        axes.axvline(0, color=INK, linewidth=1.2, zorder=1.5)
        y = 0.0
        for pair, rows in groups.items():
            y += HEADING
            for text in headings[pair]:
                _row_text(axes, y + 0.2 * HEADING_LINE, text, "", colour=MUTED)
                y += HEADING_LINE
            for row in rows:
                if equivalence:
                    _shade_equivalence(axes, y, equivalence)
                is_primary = (row.arm, row.baseline, row.metric) == (primary.arm, primary.baseline, primary.metric)
                _draw_difference(axes, row, y, is_primary)
                y += 1
        _difference_limits(axes, differences, equivalence or 0.0)
        axes.set_xlabel("difference in points", labelpad=6)
        axes.yaxis.set_major_locator(NullLocator())
        _direction_labels(axes)
        summary = "; ".join(
            f"{describe_pair(row.arm, row.baseline)}, {describe_metric(row.metric)}: {signed(row.mean)} ({interval(row.low, row.high)})"
            for row in differences
        )
        return to_svg(figure, name, f"Differences in points with 95% intervals. {summary}.")


def _draw_difference(axes: Axes, row: Difference, top: float, is_primary: bool) -> None:
    colour, y = VERDICTS[row.verdict], top + 0.72
    axes.scatter(
        100 * np.array(row.values), np.full(len(row.values), y), s=16, color=MUTED, alpha=0.5, linewidths=0, zorder=3.5
    )
    bounds = ""
    if row.low is not None and row.high is not None:
        axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=3.4 if is_primary else 2, zorder=3)
        bounds = f"  ({interval(row.low, row.high)})"
    axes.scatter(
        [100 * row.mean],
        [y],
        s=84 if is_primary else 50,
        marker=VERDICT_MARKERS[row.verdict],
        color=colour,
        linewidths=0,
        zorder=4,
    )
    _row_text(
        axes,
        top + 0.3,
        describe_metric(row.metric),
        signed(row.mean) + bounds,
        ("bold", "bold") if is_primary else ("normal", "normal"),
    )


def _shade_equivalence(axes: Axes, top: float, equivalence: float) -> None:
    """Beside the row's interval alone: behind its text it would be in pieces."""
    axes.add_patch(
        Rectangle(
            (-100 * equivalence, top + 0.5),
            200 * equivalence,
            0.44,
            linewidth=0,
            facecolor=VERDICTS["equivalent"],
            alpha=EQUIVALENCE_OPACITY,
            zorder=1,
        )
    )


def _difference_limits(axes: Axes, differences: Sequence[Difference], equivalence: float) -> None:
    """Both sides of zero get some room, for the words at the top if for nothing else."""
    values = [
        -100 * equivalence,
        100 * equivalence,
        *(
            100 * value
            for row in differences
            for value in (row.mean, row.low, row.high, *row.values)
            if value is not None
        ),
    ]
    low, high = min(values), max(values)
    low, high = min(low, -0.25 * high, -0.2), max(high, -0.25 * low, 0.2)
    pad = 0.05 * (high - low)
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: signed(value / 100, 0 if float(value).is_integer() else 1))
    )


def _direction_labels(axes: Axes) -> None:
    for text, shift, side, verdict in (("← hurts", -6, "right", "hurts"), ("helps →", 6, "left", "helps")):
        axes.annotate(
            text, (0, 1), xycoords=("data", "axes fraction"), xytext=(shift, 6), textcoords="offset pixels",
            ha=side, color=VERDICTS[verdict], fontsize=11.5,
        )  # fmt: skip


def draw_confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str], arm: str, name: str) -> Markup:
    """Shares of each true class, a row each: blue where right, orange where wrong. Opacity grows with the share."""
    counts = np.array(matrix, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(shares)
    named = num_classes <= MOST_CELL_LABELS
    names = [shorten(class_name, 13) for class_name in class_names]
    margin = 18 + (6.2 * max(len(class_name) for class_name in names) if named else 24)
    side = WIDTH - margin - 8
    with figure_style():
        figure, axes = canvas(height=side + margin + 26, left=margin, right=8, top=26, bottom=margin)
        axes.imshow(_confusion_colours(shares), interpolation="none", aspect="equal")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Predicted", labelpad=4)
        axes.set_ylabel("True", labelpad=4)
        axes.xaxis.set_label_position("top")
        size = min(11.5, 0.9 * side / num_classes)
        if named:
            axes.set_xticks(range(num_classes), names, rotation=0 if max(map(len, names)) <= 2 else 90, fontsize=size)
            axes.set_yticks(range(num_classes), names, fontsize=size)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        if num_classes <= MOST_CELL_NUMBERS:
            _write_cells(axes, shares, size=min(12.0, 0.38 * side / num_classes))
        axes.add_line(_frame(num_classes))
        right = percent(float(np.trace(counts) / max(1.0, counts.sum())))
        return to_svg(
            figure, name, f"Confusion matrix of {describe_arm(arm)}: {right} of the test images on the diagonal."
        )


def _confusion_colours(shares: np.ndarray) -> np.ndarray:
    """(K, K) shares -> (K, K, 4) RGBA in 0..1. The root shows rare confusions, which matter most."""
    colours = np.empty((*shares.shape, 4))
    colours[..., :3] = CONFUSION_WRONG
    colours[np.arange(len(shares)), np.arange(len(shares)), :3] = CONFUSION_RIGHT
    colours[..., 3] = STRONGEST_CELL * np.sqrt(shares)
    return colours


def _write_cells(axes: Axes, shares: np.ndarray, size: float) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size)


def _frame(num_classes: int) -> Line2D:
    low, high = -0.5, num_classes - 0.5
    return Line2D([low, high, high, low, low], [low, low, high, high, low], color=RULE, linewidth=1)
