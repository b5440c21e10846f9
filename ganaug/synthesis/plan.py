"""How many images of which class: every form of a request becomes one `{class: count}` dict."""

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import GanaugError, suggest
from ..settings import SynthesizeSettings

COUNT_REQUESTS = ("per_class", "target_per_class", "add", "sampling_strategy")  # of which at most one is given

SamplingFunction = Callable[[list[str]], Mapping[Any, int]]


def plan_counts(settings: SynthesizeSettings, real_counts: Mapping[str, int]) -> dict[str, int]:
    """Synthetic images to make of each class, in the order of `real_counts` (training images of each class).

    Without a request each class gets as many as it has real ones. The words of `sampling_strategy` are imbalanced-learn's
    (https://imbalanced-learn.org/stable/references/over_sampling.html): each class named is brought up to the largest one;
    its mapping says how many images there are of a class in the end, and cannot take any away.
    Raises `GanaugError` for contradicting requests and unknown classes.
    """
    given = [name for name in COUNT_REQUESTS if getattr(settings, name) is not None]
    if len(given) > 1:
        raise GanaugError(
            f"expected one of {', '.join(COUNT_REQUESTS[:-1])} and {COUNT_REQUESTS[-1]}; got {' and '.join(given)}. Leave one out."
        )
    if settings.per_class is not None:
        counts = dict.fromkeys(real_counts, settings.per_class)
    elif settings.target_per_class is not None:
        counts = {name: max(0, settings.target_per_class - count) for name, count in real_counts.items()}
    elif settings.add is not None:
        resolve_classes(settings.add, real_counts)
        counts = {name: settings.add[name] for name in real_counts if name in settings.add}
    elif isinstance(settings.sampling_strategy, dict):
        counts = _missing_to_totals(settings.sampling_strategy, real_counts)
    elif settings.sampling_strategy is not None:
        counts = _balancing_counts(settings.sampling_strategy, real_counts)
    else:
        counts = dict(real_counts)
    chosen = resolve_classes(settings.classes, real_counts)
    return {name: count for name, count in counts.items() if name in chosen}


def call_strategy(strategy: SamplingFunction, real_counts: Mapping[str, int]) -> dict[str, int]:
    """The totals that a function asks for, which is called as imbalanced-learn does: with the class of each training image."""
    wanted = strategy([name for name, count in real_counts.items() for _ in range(count)])
    if not isinstance(wanted, Mapping):
        raise GanaugError(f"sampling_strategy must return a mapping {{class: images in all}}; got {wanted!r}.")
    if not all(isinstance(count, numbers.Integral) for count in wanted.values()):
        raise GanaugError(f"sampling_strategy must return whole numbers of images; got {dict(wanted)!r}.")
    return {str(name): int(count) for name, count in wanted.items()}


def resolve_classes(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The classes named, or all. Raises `GanaugError` for an unknown one, with the nearest known."""
    known = tuple(known)
    names = tuple(names) or known
    for name in names:
        if name not in known:
            otherwise = f"known classes: {', '.join(known)}."
            raise GanaugError(f"unknown class {name!r}: {suggest(str(name), known, otherwise)}")
    return names


def _missing_to_totals(totals: Mapping[str, int], real_counts: Mapping[str, int]) -> dict[str, int]:
    if totals:
        resolve_classes(totals, real_counts)
    for name, total in totals.items():
        if total < real_counts[name]:
            raise GanaugError(
                f"sampling_strategy asks for {total} images of class {name} in all, and it has {real_counts[name]} real ones "
                "already. Ask for as many at least, or give the images to make with add."
            )
    return {name: totals.get(name, count) - count for name, count in real_counts.items()}


def _balancing_counts(word: str, real_counts: Mapping[str, int]) -> dict[str, int]:
    largest, smallest = max(real_counts.values()), min(real_counts.values())
    missing = {name: largest - count for name, count in real_counts.items()}
    if word == "minority":  # the smallest class, or those that share its size
        return {name: missing[name] if count == smallest else 0 for name, count in real_counts.items()}
    if word == "not-minority":
        return {name: 0 if count == smallest else missing[name] for name, count in real_counts.items()}
    return missing  # "all", "auto" and "not-majority" differ only in naming the largest class, which lacks nothing
