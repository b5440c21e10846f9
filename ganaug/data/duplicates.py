"""Copies among the images: the same bytes, or the same picture saved again, resized or slightly brightened.

A copy that crosses from training to test inflates every score; one filed under two classes teaches a contradiction.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..progress import track
from .images import Pixels

SIDE = 16  # of a fingerprint
FLAT = 4.0  # gray levels of standard deviation under which an image has no fingerprint
MIN_CORRELATION = 0.995
MAX_DIFFERENCE = 0.35  # of any pixel of two fingerprints, in standard deviations of the image
BLOCK = 64  # rows of the correlation matrix at a time
PAIRS = 2**14  # that are compared pixel by pixel at a time
MANY = 4096  # fingerprints from which on a tree of their projections says which to correlate
DIRECTIONS = (8, 16, 32)  # of the projections, the fewest that will do
LOOKED_AT = 4096  # fingerprints that they are found from
CANDIDATES, SAMPLED = 64, 16  # for each fingerprint, up to which the tree pays; one in so many is asked


@dataclass(frozen=True)
class Copies:
    """Groups of two or more image indices, each sorted. `near` also holds the exact copies of its members.

    `group` (N,): images with equal numbers are copies of each other, exact or near; the others have their own number.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    group: npt.NDArray[np.int64]


def find_copies(contents: Sequence[Hashable], fingerprints: npt.NDArray[np.float32]) -> Copies:
    """Groups N images by equal `contents` (a hash of each file's bytes) and by their `fingerprints` (N, 16, 16).

    The limits of `near_pairs` were set on 18,062 images of four kinds: digits of 28 pixels, color photographs of 32,
    binary crops of circuit boards of 64, and photographs of hands of 100. Without added copies they flag 10 pairs in all,
    each looked at: a car known to be twice in its set, six pairs of round holes that do not differ to the eye, and three
    of a tiny defect on the same straight edge, which are false. Of 500 copies from each set they find all that were saved
    as JPEG of quality 80, doubled in size, or made 5 % brighter or darker. Halving is found where the half is still
    larger than the fingerprint: 100 % at 100 pixels, 99.6 % at 64, 74 % at 32, none at 28.
    """
    first: dict[Hashable, int] = {}
    origin = np.array([first.setdefault(content, index) for index, content in enumerate(contents)], np.int64)
    unique = np.array(list(first.values()), np.int64)
    pairs = unique[_near_links(fingerprints[unique])]
    links = np.concatenate([np.stack([np.arange(len(origin)), origin], axis=1), pairs])
    group = _join(len(origin), links)
    similar = set(group[pairs[:, 0]].tolist())
    return Copies(
        exact=tuple(_groups(origin)),
        near=tuple(members for members in _groups(group) if int(group[members[0]]) in similar),
        group=group,
    )


def fingerprint(pixels: Pixels) -> npt.NDArray[np.float32]:
    """uint8 (H, W, C) -> (16, 16): the gray image shrunk, with mean 0 and norm 1, blind to brightness and contrast.

    A nearly uniform image gets 0, which is like no other: what remains of it after shrinking is noise.
    """
    gray = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
    # Bilinear, as Pillow's box filter shifts edges by a share of a pixel that depends on the image's size.
    small = np.asarray(gray.convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=4.0))
    centered = small - small.mean()
    deviation = float(centered.std())
    if deviation < FLAT:
        return np.zeros((SIDE, SIDE), np.float32)
    return np.asarray(centered / (deviation * SIDE), np.float32)


def near_pairs(fingerprints: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Index pairs (P, 2), the smaller first, whose fingerprints (N, 16, 16) show one picture.

    They correlate above `MIN_CORRELATION` and nowhere differ by more than `MAX_DIFFERENCE`: saving, resizing and
    brightening an image change it a little everywhere, another object in the same place changes few pixels much.
    """
    flat = fingerprints.reshape(len(fingerprints), SIDE * SIDE)  # also of none
    if len(flat) >= MANY and (found := _pairs_by_tree(flat)) is not None:
        return found
    return np.concatenate([np.empty((0, 2), np.int64), *_pairs_by_block(flat)])


def new_pairs(
    known: npt.NDArray[np.float32], asked: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Those of `near_pairs` of `known` (N, 16, 16) and `asked` (M, 16, 16) that an asked one is in: (P, 2) of a known and an asked
    one, and (Q, 2) of two asked ones."""
    before, now = (part.reshape(len(part), SIDE * SIDE) for part in (known, asked))
    first, second = np.nonzero(before @ now.T > MIN_CORRELATION)
    crossing = np.stack([first, second], axis=1)
    return crossing[_differ_little(before, first, now, second)], near_pairs(asked)


def _near_links(fingerprints: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Pairs (P, 2), about CANDIDATES for each of N at most, that join the same groups as the `near_pairs`: ten thousand images that look
    alike have fifty million."""
    flat = fingerprints.reshape(len(fingerprints), SIDE * SIDE)
    if len(flat) >= MANY and (found := _pairs_by_tree(flat)) is not None:
        return found
    rows = np.arange(len(flat))
    group, links = rows.copy(), np.empty((0, 2), np.int64)
    for pairs in _pairs_by_block(flat, group):
        if len(pairs):
            group[:] = _join(len(flat), np.concatenate([links, pairs]))
            first = np.unique(group, return_index=True)[1][group]  # of each one's group
            links = np.stack([first, rows], axis=1)[first != rows]
    return links


def _pairs_by_block(
    flat: npt.NDArray[np.float32], group: npt.NDArray[np.int64] | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """The near pairs (P, 2) of each block, without those that `group` (N,) has together by then."""
    with track("looking for copies", 100, unit=" %") as advance:
        for start in range(0, len(flat), BLOCK):
            first, second = np.nonzero(flat[start : start + BLOCK] @ flat[start:].T > MIN_CORRELATION)
            pairs = np.stack([first, second], axis=1)[second > first] + start
            if group is not None:
                pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
            yield pairs[_differ_little(flat, pairs[:, 0], flat, pairs[:, 1])]
            left = max(0.0, 1 - (start + BLOCK) / len(flat))
            advance(100 * (1 - left**2))


def _pairs_by_tree(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.int64] | None:
    """All near pairs (P, 2), not from all N^2 of them. Fingerprints of norm 1 that correlate above c are nearer than sqrt(2 - 2 c), and no
    orthogonal projection draws them apart: neighbours in a few directions, those in which all vary most, are the candidates.
    None where they would be more than CANDIDATES for each."""
    rows = np.flatnonzero([part.any() for part in flat])  # those without a fingerprint are like no other
    if not len(rows):
        return np.empty((0, 2), np.int64)
    radius = sqrt(2 - 2 * MIN_CORRELATION) + 1e-3
    asked = np.random.default_rng(0).permutation(len(rows))[::SAMPLED]  # by chance: files may lie in any rhythm
    for count in DIRECTIONS:
        projected = _project(flat, rows, count)
        tree, few = cKDTree(projected), cKDTree(projected[asked])
        if few.count_neighbors(tree, radius) <= (2 * CANDIDATES + 1) * few.n:
            candidates = np.sort(rows[tree.query_pairs(radius, output_type="ndarray")], axis=1)
            pairs = _true_pairs(flat, candidates[:, 0], candidates[:, 1])
            return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return None


def _project(flat: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """(len(rows), count): those rows along the directions in which they vary most."""
    looked_at = flat[rows[:: -(-len(rows) // LOOKED_AT)]]
    directions = np.linalg.eigh(np.cov(looked_at.T))[1][:, -count:].astype(np.float32)
    return np.concatenate([flat[rows[i : i + MANY]] @ directions for i in range(0, len(rows), MANY)])


def _true_pairs(
    flat: npt.NDArray[np.float32], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Those of the pairs of rows that show one picture."""
    kept = [np.empty((0, 2), np.int64)]
    with track("looking for copies", len(first)) as advance:
        for start in range(0, len(first), PAIRS):
            one, other = first[start : start + PAIRS], second[start : start + PAIRS]
            alike = np.einsum("ij,ij->i", flat[one], flat[other]) > MIN_CORRELATION
            one, other = one[alike], other[alike]
            kept.append(np.stack([one, other], axis=1)[_differ_little(flat, one, flat, other)])
            advance(min(start + PAIRS, len(first)))
    return np.concatenate(kept)


def _differ_little(
    ones: npt.NDArray[np.float32],
    first: npt.NDArray[np.int64],
    others: npt.NDArray[np.float32],
    second: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Whether one fingerprint (256,) and the other nowhere differ by more than the limit, for each of P pairs of rows."""
    found = np.empty(len(first), bool)
    for start in range(0, len(first), PAIRS):
        part = slice(start, start + PAIRS)
        differences = np.abs(ones[first[part]] - others[second[part]]).max(axis=1, initial=0.0)
        found[part] = differences * SIDE < MAX_DIFFERENCE  # norm 1 -> standard deviation 1
    return found


def crossing_pairs(
    known: npt.NDArray[np.float32],
    asked: npt.NDArray[np.float32],
    labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
    block: int = BLOCK,
) -> dict[int, int]:
    """Which of the fingerprints `asked` (M, 16, 16) show the same as one of `known` (N, 16, 16), also mirrored along either axis or
    both: index in `asked` -> index of the most similar one in `known`, by the limits of `near_pairs`.

    `labels`: classes (N,) of the known and (M,) of the others. A mirrored twin of another class, an arrow to the left of one to
    the right, is then no copy.
    """
    mirrored = np.stack([known, known[:, :, ::-1], known[:, ::-1], known[:, ::-1, ::-1]])  # (4, N, 16, 16)
    flat = mirrored.reshape(4 * len(known), -1)
    found: dict[int, int] = {}
    with track("looking for copies", len(asked)) as advance:
        for start in range(0, len(asked), block):
            part = asked[start : start + block].reshape(-1, SIDE * SIDE)
            similarity = part @ flat.T
            first, second = np.nonzero(similarity > MIN_CORRELATION)
            close = _differ_little(part, first, flat, second)
            if labels is not None:
                close &= (second < len(known)) | (labels[0][second % len(known)] == labels[1][start + first])
            for mine, other in sorted(zip(first[close], second[close], strict=True), key=lambda p: similarity[p]):
                found[start + int(mine)] = int(other) % len(known)  # the most similar one comes last
            advance(start + len(part))
    return found


def join_groups(*keys: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """The finest groups (N,) that keep together what has an equal key in any of the sequences, each of length N."""
    links = []
    for sequence in keys:
        first: dict[Hashable, int] = {}
        links += [(index, first.setdefault(key, index)) for index, key in enumerate(sequence)]
    return _join(len(keys[0]), np.array(links, np.int64).reshape(-1, 2))


def _join(count: int, links: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The connected component (N,) of each of `count` nodes."""
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _groups(keys: npt.NDArray[np.int64]) -> list[tuple[int, ...]]:
    members = defaultdict(list)
    for index, key in enumerate(keys.tolist()):
        members[key].append(index)
    return [tuple(group) for group in members.values() if len(group) > 1]
