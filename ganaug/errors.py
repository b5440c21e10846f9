"""The one exception that a user is meant to read, what it suggests for a mistyped name, and names as a terminal may show them."""

import difflib
from collections.abc import Iterable
from pathlib import Path

LEAST_LIKENESS = 0.5  # of a suggestion, by difflib's ratio: smote is .56 like scratch/smote


def printable(text: str, keep: str = "") -> str:
    """The text as a terminal may show it: whatever steers it, breaks its lines or turns its direction, but for `keep`, as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def looked_in(path: Path) -> str:
    """Where a path that was not found was looked for, as the end of a message: ` in /home/me`; nothing, where it says so itself."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


class GanaugError(Exception):
    """Bad input. The message says what was expected, what came, and how to mend it; the command line prints it alone."""


def suggest(name: str, known: Iterable[str], otherwise: str = "", most: int = 1, before: str = "") -> str:
    """The end of a message about a mistyped name: `'fti' -> 'did you mean fit?'`, `before` standing before what is suggested.
    Where nothing is near: `otherwise`, or all that is known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=most, cutoff=LEAST_LIKENESS)
    if close:
        return f"did you mean {' or '.join(before + each for each in close)}?"
    return otherwise or f"known: {', '.join(known)}."
