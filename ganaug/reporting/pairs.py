"""The page on what was tested: what became of the images of each class, and the closest pairs of synthetic and real ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runs import write_text
from .page import render
from .pictures import PairPicture

MEASURES = ("precision", "recall", "density", "coverage", "kid")  # of a class, where an audit has measured them


def write_pairs_page(path: Path, title: str, found: Mapping[str, Any], pairs: Sequence[PairPicture]) -> None:
    """Writes the page. `found` is what `ganaug audit --json` prints, with or without its images."""
    context = {
        "title": title,
        "sentence": summary_sentence(found),
        "found": found,
        "reasons": sorted({name for values in found["classes"].values() for name in values["rejected"]}),
        "measured": [name for name in MEASURES if any(name in values for values in found["classes"].values())],
        "pairs": pairs,
    }
    write_text(path, render("pairs.html.j2", context))


def summary_sentence(found: Mapping[str, Any]) -> str:
    """What the page says first."""
    summary = found["summary"]
    copies, copying = summary["rejected"].get("copy", 0), summary["classes_that_copy"]
    first = f"{summary['kept']:,} of {summary['candidates']:,} images were kept; {copies:,} were rejected as copies of training images."
    if copying:
        return (
            f"{first} Classes whose images come nearer to the training images than real ones do: {', '.join(copying)}."
        )
    return first
