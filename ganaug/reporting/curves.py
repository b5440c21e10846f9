"""The charts of what happened during training: the choice of the updates, the GAN's metrics, the classifiers' curves."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from .figures import arm_colour, is_first_start, within_percent
from .files import Column, Table
from .result import Candidate, Updates
from .svg import INK, MUTED, SERIES, SURFACE, WIDTH, canvas, figure_style, to_svg
from .words import describe_arm, describe_metric, percent

MOST_POINTS = 120  # of a line; longer ones are averaged within as many stretches
MOST_MEMBERS = 40  # GANs whose lines are drawn
MOST_PANELS = 12
ALIKE = 1.5  # times as many updates up to which trainings share an axis of updates
LineStyle = Literal["solid"] | tuple[float, tuple[float, float]]
NOT_PLOTTED = {"member", "step", "seconds", "index", "epoch"}

# title -> columns of the GAN's metrics that share a panel, with the word for each; further columns get a panel each
GAN_PANELS = {
    "Losses": {"loss_d": "discriminator", "loss_g": "generator"},
    "Balance: P(D(real) > D(generated))": {"separation": ""},
    "Memory: P(D(trained on) > D(held out))": {"memorized": ""},
    "Augmentation strength": {"augment": ""},
    "Pace of the discriminator": {"discriminator_pace": ""},
    "Variety, relative to real images": {"variety": "variety", "variety_weight": "push for more"},
    "Sameness: mode-seeking loss": {"mode_seeking": ""},
    "Class loss of D's classifier": {"class_loss": "real images", "class_loss_g": "generated"},
    "Class accuracy of D on real images": {"class_accuracy": ""},
}

# column of the GAN's checkpoints -> title of its panel, and whether it is a share
CHECKPOINT_PANELS = {
    "gap": ("Duality gap", False),
    "kid": ("KID to held-out images", False),
    "coverage": ("Coverage of held-out images", True),
    "consistency": ("Images of the right class", True),
    "copies": ("Close to a training image", True),
}


def draw_updates(updates: Updates, name: str) -> Markup:
    """Inner validation scores by updates, with the chosen count marked; a panel for each score that was recorded."""
    rows = updates.candidates
    panels: list[tuple[str, list[tuple[int, float]]]] = [
        (
            "Balanced accuracy",
            [(row.updates, 100 * row.balanced_accuracy) for row in rows if row.balanced_accuracy is not None],
        ),
        ("Log loss", [(row.updates, row.log_loss) for row in rows if row.log_loss is not None]),
    ]
    panels = [panel for panel in panels if panel[1]]
    with figure_style():
        figure, first = canvas(height=220, left=42, right=12, top=28, bottom=42)
        box = first.get_position()
        places = [first]
        if len(panels) > 1:
            first.set_position((box.x0, box.y0, 124 / WIDTH, box.height))
            places.append(figure.add_axes((222 / WIDTH, box.y0, 124 / WIDTH, box.height)))
        for axes, (title, points) in zip(places, panels, strict=True):
            _draw_candidates(axes, title, points, updates.chosen)
        return to_svg(
            figure,
            name,
            f"Inner validation by updates; {updates.chosen:,} updates were chosen. {_list_candidates(updates.candidates)}",
        )


def _draw_candidates(axes: Axes, title: str, points: Sequence[tuple[int, float]], chosen: int) -> None:
    x, y = zip(*sorted(points), strict=True)
    axes.axvline(chosen, color=INK, linewidth=1.2, linestyle=(0, (3, 3)))
    axes.plot(x, y, color=SERIES[0], marker="o", markersize=5.5, markerfacecolor=SURFACE)
    axes.plot([u for u in x if u == chosen], [v for u, v in points if u == chosen], "o", color=SERIES[0], markersize=8)
    axes.set_title(title, fontsize=11.5, loc="left", pad=10)
    axes.set_xlabel("updates", labelpad=5)
    axes.set_xscale("log", base=2)
    ticks = _thin(sorted({*x, chosen}), 3)
    axes.set_xticks(ticks, [_short_count(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.08, y=0.12)
    if title == "Balanced accuracy":
        _percent_axis(axes)


def _list_candidates(candidates: Sequence[Candidate]) -> str:
    return "; ".join(f"{row.updates:,}: {percent(row.balanced_accuracy)}" for row in candidates)


def _thin(values: Sequence[int], most: int) -> list[int]:
    """Evenly spaced values, the last one always among them."""
    step = -(-len(values) // most)
    return list(values[::-1][::step][::-1])


def _short_count(value: float) -> str:
    return f"{round(value / 1000, 2):g}k" if value >= 1000 else f"{value:g}"


def draw_gan(table: Table, name: str) -> list[tuple[str, Markup]]:
    """(title, chart) for each group of the GAN's metrics, by step; a line for each member, in faint colours if many."""
    drawn = [(title, words) for title, words in _gan_panels(table).items() if not _all_constant(table, words)]
    drawn = drawn[:MOST_PANELS]
    with figure_style():
        return [
            (title, _draw_gan_panel(table, title, words, f"{name}-{index}"))
            for index, (title, words) in enumerate(drawn)
        ]


def _gan_panels(table: Table) -> dict[str, dict[str, str]]:
    """title -> columns of the table, with the word for each."""
    numeric = [column for column in table.numeric_columns() if column not in NOT_PLOTTED]
    panels = {title: {c: word for c, word in words.items() if c in numeric} for title, words in GAN_PANELS.items()}
    known = {column for words in GAN_PANELS.values() for column in words}
    panels |= {describe_metric(column): {column: ""} for column in numeric if column not in known}
    return {title: words for title, words in panels.items() if words}


def constant_metrics(table: Table) -> list[tuple[str, str]]:
    """(title, value) of the panels whose lines would be flat from end to end, which `draw_gan` leaves out."""
    return [
        (title, ", ".join(f"{table.numbers(column)[0]:g}" for column in words))
        for title, words in _gan_panels(table).items()
        if _all_constant(table, words)
    ]


def _all_constant(table: Table, columns: Iterable[str]) -> bool:
    return all(_constant(table, column) for column in columns)


def constant_checkpoints(table: Table) -> list[tuple[str, str]]:
    """(title, value) of the measures that are alike at all checkpoints, which `draw_checkpoints` leaves out."""
    return [
        (title, f"{table.numbers(column)[0] * (100 if is_share else 1):.3g}{'%' if is_share else ''}")
        for column, (title, is_share) in CHECKPOINT_PANELS.items()
        if _constant(table, column)
    ]


def _constant(table: Table, column: str) -> bool:
    """Whether there are several values in it, all alike."""
    values = table.numbers(column) if column in table.columns else np.zeros(0)
    return len(values) > 1 and bool((values == values[0]).all())


def _draw_gan_panel(table: Table, title: str, words: dict[str, str], name: str) -> Markup:
    figure, axes = canvas(height=190, left=46, right=14, top=26 if any(words.values()) else 12, bottom=40)
    handles = []
    members = _members(table)
    for (column, word), colour in zip(words.items(), SERIES, strict=False):
        for rows in members:
            x, y = _without_stub(*_finite(_steps(table)[rows], table.numbers(column)[rows]))
            axes.plot(
                *average(x, y),
                color=colour,
                marker="o" if len(x) == 1 else None,  # a line of one point would not be seen
                markersize=5,
                alpha=1 if len(members) == 1 else 0.5,
                linewidth=1.8 if len(members) == 1 else 1.1,
            )
        handles.append(Line2D([], [], color=colour, label=word))
    _time_axis(axes, "step" if "step" in table.columns else "row")
    if any(words.values()):
        _legend(axes, handles)
    return to_svg(figure, name, f"{title} of the GAN during its training.")


def draw_checkpoints(table: Table, name: str) -> list[tuple[str, Markup]]:
    """(title, chart) for each measure of the GAN's checkpoints, by step; the kept one is marked, of many GANs with a dot alone."""
    numeric = table.numeric_columns()
    with figure_style():
        return [
            (title, _draw_checkpoint_panel(table, column, title, is_share, f"{name}-{column}"))
            for column, (title, is_share) in CHECKPOINT_PANELS.items()
            if column in numeric and not _constant(table, column)
        ]


def _draw_checkpoint_panel(table: Table, column: str, title: str, is_share: bool, name: str) -> Markup:
    figure, axes = canvas(height=190, left=46, right=14, top=12, bottom=40)
    steps, values, kept = table.numbers("step"), table.numbers(column) * (100 if is_share else 1), table.numbers("kept")
    members = _members(table)
    words = []
    for rows in members:
        x, y = _finite(steps[rows], values[rows])
        faint = len(members) > 1
        axes.plot(x, y, color=SERIES[0], alpha=0.5 if faint else 1, linewidth=1.1 if faint else 1.8,
            marker=None if faint else "o", markersize=5.5, markerfacecolor=SURFACE)  # fmt: skip
        for row in rows[kept[rows] == 1]:
            if not faint:
                axes.axvline(steps[row], color=INK, linewidth=1.2, linestyle=(0, (3, 3)))
            axes.plot([steps[row]], [values[row]], "o", color=SERIES[0], markersize=5 if faint else 8)
            words.append(f"{values[row]:.3g}{'%' if is_share else ''}")
    _time_axis(axes, "step")
    axes.margins(x=0.05)
    if is_share:
        _percent_axis(axes)
    at_kept = f" At the kept one: {', '.join(words)}." if words else ""
    return to_svg(figure, name, f"{title} at the checkpoints of the GAN.{at_kept}")


def _members(table: Table) -> list[NDArray[np.intp]]:
    """The rows of each member, in the order of the file."""
    names = table.columns.get("member")
    if names is None:
        return [np.arange(len(next(iter(table.columns.values()))))]
    return [np.flatnonzero(np.array(names) == member) for member in list(dict.fromkeys(names))[:MOST_MEMBERS]]


def _steps(table: Table) -> Column:
    return (
        table.numbers("step")
        if "step" in table.columns
        else np.arange(len(next(iter(table.columns.values()))), dtype=np.float64)
    )


def draw_classifiers(table: Table, arms: Sequence[str], name: str) -> list[tuple[str, Markup]]:
    """(title, chart) of loss and accuracy on the training batches by update: the mean over the repetitions of each arm."""
    titles = {"loss": "Loss on the batch", "accuracy": "Accuracy on the batch"}
    with figure_style():
        return [
            (title, _draw_classifier_panel(table, arms, column, title, f"{name}-{column}"))
            for column, title in titles.items()
            if column in table.numeric_columns()
        ]


def _draw_classifier_panel(table: Table, arms: Sequence[str], column: str, title: str, name: str) -> Markup:
    present = [arm for arm in arms if arm in table.columns["arm"]]
    figure, axes = canvas(height=200 + 17 * len(present), left=46, right=14, top=14 + 17 * len(present), bottom=40)
    handles = []
    scale = 100 if column == "accuracy" else 1
    updates, label = _training_axis(table)
    for index, arm in enumerate(present):
        rows = np.flatnonzero(np.array(table.columns["arm"]) == arm)
        x, y = _finite(updates[rows], scale * table.numbers(column)[rows])
        style: LineStyle = "solid" if is_first_start(arm, arms) else (0, (4, 2.5))
        axes.plot(
            *average(x, y), color=arm_colour(arm, arms), linestyle=style, zorder=3 - 0.01 * index
        )  # the first on top
        handles.append(Line2D([], [], color=arm_colour(arm, arms), linestyle=style, label=describe_arm(arm)))
    _time_axis(axes, label)
    if column == "accuracy":
        _percent_axis(axes)
    _legend(axes, handles, columns=1)
    return to_svg(figure, name, f"{title} during the training of the classifiers, a line for each arm.")


def _training_axis(table: Table) -> tuple[Column, str]:
    """Where each row lies in its training, and the name of that axis: shares of the training where some took far longer."""
    updates = table.numbers("update")
    trainings = list(zip(table.columns["arm"], table.columns.get("seed", table.columns["arm"]), strict=True))
    ends: dict[tuple[str, str], float] = {}
    for training, update in zip(trainings, updates.tolist(), strict=True):
        if np.isfinite(update):
            ends[training] = max(update, ends.get(training, 1.0))
    if not ends or max(ends.values()) <= ALIKE * min(ends.values()):
        return updates, "update"
    return 100 * updates / np.array([ends.get(training, 1.0) for training in trainings]), "% of the training's updates"


def _time_axis(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, labelpad=5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_count(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.01, y=0.08)


def _percent_axis(axes: Axes) -> None:
    """Once all is drawn. What lies on an end of the axis is not cut there."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    axes.set_ylim(*within_percent(*axes.get_ylim()))
    for line in axes.lines:
        line.set_clip_on(False)


def _legend(axes: Axes, handles: Sequence[Line2D], columns: int = 2) -> None:
    axes.legend(
        handles=list(handles), loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=11.5,
        borderaxespad=0.2, borderpad=0.2, labelspacing=0.25, handlelength=1.8, labelcolor=MUTED,
    )  # fmt: skip


def _finite(x: Column, y: Column) -> tuple[Column, Column]:
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _without_stub(x: Column, y: Column) -> tuple[Column, Column]:
    """Rows are means over the steps since the row before: one over few steps, at the end, would look like a sudden turn."""
    is_stub = len(x) > 2 and x[-1] - x[-2] < (x[-2] - x[-3]) / 2
    return (x[:-1], y[:-1]) if is_stub else (x, y)


def average(x: Column, y: Column, most: int = MOST_POINTS) -> tuple[Column, Column]:
    """Mean x and y at each distinct x, or within each of `most` equal stretches of x when there are more of them."""
    if not len(x):
        return x, y
    distinct, which = np.unique(x, return_inverse=True)
    if len(distinct) > most:
        edges = np.linspace(distinct[0], distinct[-1], most + 1)
        which = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, most - 1)
    size = np.bincount(which)
    filled = size > 0
    return (np.bincount(which, x) / np.maximum(size, 1))[filled], (np.bincount(which, y) / np.maximum(size, 1))[filled]
