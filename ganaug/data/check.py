"""What is wrong with the data, said before any training: unreadable files, copies, leaks, tiny and empty classes."""

import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import printable
from .duplicates import Copies
from .scan import FileRecord, Scan, scan
from .source import SPLITS, Source, open_source

Kind = Literal[
    "unreadable",
    "truncated",
    "empty-class",
    "nested-classes",
    "split-leak",
    "label-conflict",
    "exact-duplicate",
    "near-duplicate",
    "small-class",
    "odd-size",
    "case-collision",
    "outside-link",
    "animated",
    "ignored-file",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

SMALL_CLASS = 10  # training images
ODD_RATIO = 2  # a short side this many times off the median, or a long side this many times the short one, is odd
LISTED = 10  # files of a problem that the text names; the JSON names all
WITHOUT_SPLIT = "all"  # heading of the counts where the data has no split


@dataclass(frozen=True)
class Problem:
    """One kind of finding. `files` names all files concerned; `groups` says which of them belong together (copies)."""

    kind: Kind
    message: str
    files: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """`classes` {class: {"train" | "valid" | "test" | "all": readable images}}; `sizes` {"WxH": n}; `modes` {mode: n}.

    `usable` is false where nothing can be trained: fewer than two readable images, or a class without
    a readable one to train on.
    """

    source: str
    classes: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    problems: tuple[Problem, ...]
    usable: bool

    @property
    def exit_code(self) -> int:
        """0: nothing to report, 1: problems, 2: unusable."""
        return 2 if not self.usable else 1 if self.problems else 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "CheckReport":
        """Inverts `to_json`, also after a passage through a file."""
        fields = {key: value[key] for key in ("source", "classes", "sizes", "modes", "usable")}
        problems = tuple(
            Problem(item["kind"], item["message"], tuple(item["files"]), tuple(map(tuple, item["groups"])))
            for item in value["problems"]
        )
        return cls(**fields, problems=problems)


def check(data: str | Path) -> CheckReport:
    """Decodes every image of a folder or zip and reports all that is wrong with it, without changing anything.

    Raises `GanaugError` where there is nothing to look at: a missing path, a damaged zip, no class folders.
    """
    source = open_source(data)
    return inspect_scan(source, scan(source))


def inspect_scan(source: Source, scanned: Scan) -> CheckReport:
    """The report on a scan that has been made already."""
    readable = [record for record in scanned.records if record.error is None]
    problems = [
        *_find_unreadable(scanned.records),
        *_find_small_classes(source, readable),
        *_find_nested_classes(source),
        *_find_copies(scanned.records, scanned.copies),
        *_find_odd_sizes(readable),
        *_find_alike_names(source.class_names),
        *_listed(
            "outside-link",
            "lies outside the data, behind a link; it is read like the others",
            "lie outside the data, behind a link; they are read like the others",
            source.outside_links,
        ),
        *_listed(
            "animated",
            "holds several frames; only the first is used",
            "hold several frames; only the first is used",
            (r.name for r in readable if r.frames > 1),
        ),
        *_listed(
            "ignored-file",
            "is not read (no image, outside the class folders, or unsafe)",
            "are not read (no image, outside the class folders, or unsafe)",
            source.ignored,
        ),
    ]
    return CheckReport(
        source=str(source.path),
        classes=_count_classes(source, readable),
        sizes=_count(f"{record.width}x{record.height}" for record in readable),
        modes=_count(record.mode for record in readable),
        problems=tuple(sorted(problems, key=lambda problem: KINDS.index(problem.kind))),
        usable=len(readable) >= 2 and not _find_untrained(source, readable),
    )


def format_report(report: CheckReport) -> str:
    """The report as plain text: a table of classes, sizes and modes, then every problem with its first files."""
    present = {split for counts in report.classes.values() for split in counts}
    columns = [split for split in ("train", "valid", "test", WITHOUT_SPLIT) if split in present]
    rows = [["class", *columns]]
    rows += [[printable(name), *(str(counts[split]) for split in columns)] for name, counts in report.classes.items()]
    totals = [sum(counts.get(split, 0) for counts in report.classes.values()) for split in columns]
    rows.append(["total", *map(str, totals)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    found = _plural(len(report.problems), "problem") if report.problems else "no problems"
    verdict = found if report.usable else f"unusable, {found}"
    counts = f"{_plural(sum(totals), 'readable image')}, {_plural(len(report.classes), 'class', 'classes')}"
    return "\n".join(
        [
            f"{printable(report.source)}: {counts}, {verdict}",
            "",
            *table,
            "",
            f"sizes: {_format_counts(report.sizes)}",
            f"modes: {_format_counts(report.modes)}",
            *(f"\n{format_problem(problem)}" for problem in report.problems),
        ]
    )


def format_problem(problem: Problem) -> str:
    """The message, then a line for each file or group of copies, at most `LISTED` of them."""
    lines = [" = ".join(group) for group in problem.groups] or list(problem.files)
    more = [f"and {len(lines) - LISTED:,} more"] if len(lines) > LISTED else []
    return "\n    ".join([printable(f"{problem.kind}: {problem.message}"), *map(printable, lines[:LISTED]), *more])


def summarize_problem(problem: Problem) -> str:
    """The message on one line, with the first file or group as an example."""
    example = " = ".join(problem.groups[0]) if problem.groups else next(iter(problem.files), "")
    return printable(f"{problem.kind}: {problem.message}{f', such as {example}' if example else ''}")


def _listed(kind: Kind, one: str, several: str, files: Iterable[str]) -> Iterator[Problem]:
    """The problem '1 file ONE' or 'N files SEVERAL', if there are any."""
    names = tuple(files)
    if names:
        yield Problem(kind, f"{_plural(len(names), 'file')} {one if len(names) == 1 else several}", names)


def _find_unreadable(records: Iterable[FileRecord]) -> Iterator[Problem]:
    broken = [record for record in records if record.error is not None]
    truncated = [record.name for record in broken if record.error == "truncated"]
    yield from _listed("truncated", "ends too early; copy it again", "end too early; copy them again", truncated)
    others = [f"{record.name} ({record.error})" for record in broken if record.error != "truncated"]
    yield from _listed(
        "unreadable", "cannot be decoded; repair or remove it", "cannot be decoded; repair or remove them", others
    )


def _find_small_classes(source: Source, readable: Iterable[FileRecord]) -> Iterator[Problem]:
    for name in source.empty_classes:
        yield Problem("empty-class", f"the folder of class {name} holds no image; the class is left out")
    for name, counts in _count_classes(source, readable).items():
        count = counts.get("train", counts.get(WITHOUT_SPLIT, 0))
        if count <= 1:
            what = "a single training image" if count else "no training image"
            yield Problem("small-class", f"class {name} has {what}: no GAN can learn what varies in it")
        elif count < SMALL_CLASS:
            yield Problem(
                "small-class", f"class {name} has {count} training images: expect copies rather than new images"
            )


def _find_nested_classes(source: Source) -> Iterator[Problem]:
    """Class folders that seem to hold class folders, as those of a folder of data sets do. One with folders of images is none where all
    classes are alike in that, as with a folder for each patient; one with train/ in it is, or where the classes differ in depth."""
    below: dict[str, set[tuple[str, ...]]] = defaultdict(set)  # of each class folder, the folders with images
    for file in source.files:
        first, *inner, _ = file.name.split("/")
        if file.split is None and first == file.class_name and first.lower() not in SPLITS:
            below[first].add(tuple(inner))
    depths = {name: {len(inner) for inner in folders} for name, folders in below.items()}
    unlike = len(set(map(frozenset, depths.values()))) > 1
    deep = sum(max(each) > 1 for each in depths.values()) > 1
    nested = []
    for name, folders in below.items():
        holds = 0 not in depths[name] and len({inner[0] for inner in folders}) > 1
        split = any(len(inner) > 1 and inner[0].lower() in SPLITS for inner in folders)
        if split or (unlike and (holds or (deep and max(depths[name]) > 1))):
            nested.append((not split and depths[name] != {1}, name))
    if nested:
        names = [name for _, name in nested]
        those = f"the class folder{'s' * (len(names) > 1)} {' and '.join(names[:LISTED])} seem{'s' * (len(names) == 1)}"
        yield Problem(
            "nested-classes",
            f"{those} to hold class folders in turn, whose images are of one class here. If {min(nested)[1]} alone was meant, give that "
            "folder; folders of patients or dates are all right",
            tuple("/".join((name, *max(below[name]))) for name in names),
        )


def _find_alike_names(class_names: Iterable[str]) -> Iterator[Problem]:
    alike = defaultdict(list)
    for name in class_names:
        alike[unicodedata.normalize("NFKC", name).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = " and ".join(names)
            yield Problem(
                "case-collision", f"classes {shown} differ in case or spelling alone: elsewhere their folders are one"
            )


def _find_untrained(source: Source, readable: Iterable[FileRecord]) -> set[str]:
    """Classes without a readable image to train on."""
    return set(source.class_names) - {r.class_name for r in readable if r.split in ("train", None)}


def _find_copies(records: tuple[FileRecord, ...], copies: Copies) -> Iterator[Problem]:
    def problem(kind: Kind, what: str, groups: list[tuple[int, ...]]) -> Iterator[Problem]:
        if groups:
            names = tuple(tuple(records[index].name for index in group) for group in groups)
            yield Problem(kind, f"{_plural(len(groups), 'group')} of {what}", sum(names, ()), names)

    in_near = {index for group in copies.near for index in group}
    every = [*copies.near, *(group for group in copies.exact if group[0] not in in_near)]
    yield from problem("exact-duplicate", "files with the same bytes", list(copies.exact))
    yield from problem("near-duplicate", "images that look the same", list(copies.near))
    crossing = [group for group in every if len({records[index].split for index in group}) > 1]
    yield from problem("split-leak", "copies on both sides of a split: the test scores what was trained on", crossing)
    torn = [group for group in every if len({records[index].class_name for index in group}) > 1]
    yield from problem("label-conflict", "copies in different classes: only one label can be right", torn)


def _find_odd_sizes(readable: list[FileRecord]) -> Iterator[Problem]:
    if not readable:
        return
    median = statistics.median(min(record.width, record.height) for record in readable)
    odd = []
    for record in readable:
        short, long = sorted((record.width, record.height))
        if max(short / median, median / short) > ODD_RATIO or long / short > ODD_RATIO:
            odd.append(f"{record.name} ({record.width}x{record.height})")
    yield from _listed(
        "odd-size",
        f"is oblong, or far from the median short side of {median:g} pixels",
        f"are oblong, or far from the median short side of {median:g} pixels",
        odd,
    )


def _count_classes(source: Source, readable: Iterable[FileRecord]) -> dict[str, dict[str, int]]:
    splits = {file.split or WITHOUT_SPLIT for file in source.files}
    classes = {name: dict.fromkeys(sorted(splits), 0) for name in source.class_names}
    for record in readable:
        classes[record.class_name][record.split or WITHOUT_SPLIT] += 1
    return classes


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _format_counts(counts: Mapping[str, int]) -> str:
    parts = [f"{value} ({count:,})" for value, count in list(counts.items())[:LISTED]]
    return ", ".join(parts + [f"and {len(counts) - LISTED:,} more"] * (len(counts) > LISTED)) or "none"


def _plural(count: int, noun: str, several: str = "") -> str:
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"
