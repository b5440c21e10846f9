"""How many images of which class: every form of a request becomes one `{class: count}` dict."""

import difflib
from collections.abc import Iterable, Mapping

from ..errors import GanaugError
from ..settings import SynthesizeSettings

COUNT_REQUESTS = ("per_class", "target_per_class", "balance")  # settings of which at most one is given


def plan_counts(settings: SynthesizeSettings, real_counts: Mapping[str, int]) -> dict[str, int]:
    """Synthetic images to make of each class, in the order of `real_counts` (training images of each class).

    Without a request each class gets as many as it has real ones. The words of `balance` are imbalanced-learn's
    (https://imbalanced-learn.org/stable/references/over_sampling.html): each class named is brought up to the largest one.
    Raises `GanaugError` for contradicting requests and unknown classes.
    """
    given = [name for name in COUNT_REQUESTS if getattr(settings, name) is not None]
    if len(given) > 1:
        raise GanaugError(
            f"expected one of per_class, target_per_class and balance; got {' and '.join(given)}. Leave one out."
        )
    if settings.per_class is not None:
        counts = dict.fromkeys(real_counts, settings.per_class)
    elif settings.target_per_class is not None:
        counts = {name: max(0, settings.target_per_class - count) for name, count in real_counts.items()}
    elif settings.balance is not None:
        counts = _balancing_counts(settings.balance, real_counts)
    else:
        counts = dict(real_counts)
    chosen = resolve_classes(settings.classes, real_counts)
    return {name: count for name, count in counts.items() if name in chosen}


def resolve_classes(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The classes named, or all. Raises `GanaugError` for an unknown one, with the nearest known."""
    known = tuple(known)
    names = tuple(names) or known
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known classes: {', '.join(known)}."
            raise GanaugError(f"unknown class {name!r}: {hint}")
    return names


def _balancing_counts(word: str, real_counts: Mapping[str, int]) -> dict[str, int]:
    largest, smallest = max(real_counts.values()), min(real_counts.values())
    missing = {name: largest - count for name, count in real_counts.items()}
    if word == "minority":  # the smallest class, or those that share its size
        return {name: missing[name] if count == smallest else 0 for name, count in real_counts.items()}
    return missing  # "all" and "not-majority" differ only in naming the largest class, which lacks nothing
