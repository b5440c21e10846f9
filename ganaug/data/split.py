"""Who trains and who tests: the held-out split, groups that must not be torn apart, and the limited draw."""

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import GanaugError
from ..progress import warn


def hold_out(
    labels: npt.NDArray[np.int64],
    groups: Sequence[Hashable] | npt.NDArray[np.int64],
    fraction: float | npt.NDArray[np.float64],
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Mask (N,), true for the test: about `fraction` of every class, or for each its own (K,), and every group whole on one side.

    Groups are visited in an order that `seed` shuffles. One goes to the test if that brings the shares of the classes
    nearer to `fraction`, in squared distance. Then a class that gave nothing gives the smallest group that it can spare.
    No class ever gives its last training group, so a class of one image or one group stays in training.
    """
    numbers: dict[Hashable, int] = {}
    group_index = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    _, label_index = np.unique(labels, return_inverse=True)
    sizes = np.zeros((len(numbers), label_index.max(initial=-1) + 1))
    np.add.at(sizes, (group_index, label_index), 1)
    shares = sizes / sizes.sum(axis=0)  # (G, K): a group's part of each class
    holds = sizes > 0
    remaining = holds.sum(axis=0)  # (K,) groups of each class left in training
    tested = np.zeros(len(sizes), bool)
    order = np.random.default_rng(seed).permutation(len(sizes))

    def can_spare(group: int) -> bool:
        return not tested[group] and bool((remaining[holds[group]] > 1).all())

    def take(group: int) -> None:
        nonlocal remaining
        tested[group] = True
        remaining = remaining - holds[group]

    missing = np.broadcast_to(np.asarray(fraction, np.float64), sizes.shape[1])
    for group in order:
        if can_spare(group) and ((missing - shares[group]) ** 2).sum() < (missing**2).sum():
            take(group)
            missing = missing - shares[group]
    for label in range(sizes.shape[1]):
        if not holds[tested, label].any():
            candidates = [group for group in order if holds[group, label] and can_spare(group)]
            if candidates:
                take(min(candidates, key=lambda group: sizes[group].sum()))
    return tested[group_index]


def group_of(names: Sequence[str], regex: str | None) -> list[str]:
    """A key for each file: files with equal keys belong together.

    The key is what `regex` finds in the name (the path inside the data): its first parenthesised group, or the whole
    match if it has none. A file without a match is a group of its own, as is every file where `regex` is None.
    Raises `GanaugError` for an invalid regular expression.
    """
    if regex is None:
        return list(names)
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise GanaugError(f"data.group_regex must be a regular expression; {regex!r} is not: {error}.") from None
    matches = [pattern.search(name) for name in names]
    keys = [match and match.group(1 if pattern.groups else 0) for match in matches]
    unmatched = [name for name, key in zip(names, keys, strict=True) if key is None]
    if unmatched:
        warn(
            f"data.group_regex {regex!r} matches {len(names) - len(unmatched)} of {len(names)} files; "
            f"each other file, such as {unmatched[0]}, is a group of its own."
        )
    return [f"file {name}" if key is None else f"match {key}" for name, key in zip(names, keys, strict=True)]


def draw(labels: npt.NDArray[np.int64], limit: int | Mapping[int, int], seed: int) -> npt.NDArray[np.int64]:
    """Indices, sorted, of `limit` images of every class without replacement, or all of a smaller class. Where each class has a limit
    of its own, all of those that have none.

    The draw of a class depends on its label, its size and `seed` only; a smaller limit draws a subset of a larger one.
    """
    chosen = [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))[
            : limit if isinstance(limit, int) else limit.get(label)
        ]
        for label in np.unique(labels).tolist()
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
