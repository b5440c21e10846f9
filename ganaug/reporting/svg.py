"""matplotlib figures as inline SVG that takes its colours and its font from the page around it.

A figure is drawn in units of CSS pixels with stand-in colours; `to_svg` turns those into `currentColor` and CSS variables,
so that one drawing serves the light and the dark page, and gives its ids a prefix, so that several live in one document.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 360.0  # of a figure, in CSS pixels, near that of a phone; the page lets it grow by GROWTH
GROWTH = 1.3
INK, MUTED, RULE, SURFACE = "#000011", "#000012", "#000013", "#000014"
SERIES = tuple(f"#00002{index}" for index in range(1, 10))
VERDICTS = {"helps": "#000031", "hurts": "#000032", "inconclusive": "#000033", "equivalent": "#000034"}

CSS_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    SURFACE: "var(--surface)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)},
    **{colour: f"var(--{verdict})" for verdict, colour in VERDICTS.items()},
}

RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ganaug",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11.5,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Figures drawn and saved within this block are ready for the page."""
    with matplotlib.rc_context(cast(Any, RC)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has the fonts for every script
        yield


def canvas(
    height: float, left: float, right: float, top: float, bottom: float, width: float = WIDTH
) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` CSS pixels with one pair of axes inside these margins."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    return figure, figure.add_axes(box)


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element named by `label`; `name` must differ from that of every other figure on the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body[body.index(">") + 1 : body.rindex("</svg>")].replace("xlink:href=", "href=")
    body = _rename_ids(_round_numbers(body), name)
    body = re.sub(r"'DejaVu Sans', sans-serif", "var(--sans)", body)
    for colour, replacement in CSS_COLOURS.items():
        body = body.replace(colour, replacement)
    body = re.sub(r">\s+<", "><", body)
    width, height = (72 * size for size in figure.get_size_inches())
    return Markup(
        f'<svg class="figure" viewBox="0 0 {width:.0f} {height:.0f}" style="max-width: {GROWTH * width:.0f}px" role="img"'
        f' aria-label="{html.escape(label)}">{body}</svg>'
    )


def _rename_ids(body: str, name: str) -> str:
    """Prefixes the ids that something refers to and drops all others."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r' id="([^"]*)"', rename, body)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)


def _round_numbers(body: str) -> str:
    def shorten(match: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])

    return re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', shorten, body)
