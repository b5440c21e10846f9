"""What people decide about the images of a synthetic folder: journal first, then the file, then the manifest. Whenever the process
dies, every decision that was acknowledged is either in the manifest or in the journal, from which the next start completes it.

A rejected image leaves its class folder, so that no tool that reads folders learns from it: it becomes `.rejected-<hash of its
path>` beside the manifest. Not a folder of rejected ones, which torchvision's ImageFolder would take for a class, and no suffix of
an image, which the StyleGAN family's tools look for in hidden places, too.
"""

import hashlib
import importlib.util
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ..data.interop import DATASET_NAME, METADATA_NAME, rewrite_interop
from ..data.manifest import (
    BY_HAND,
    JOURNAL,
    NAME,
    PARQUET_NAME,
    amend_reasons,
    locate,
    read_manifest,
    read_pending,
    rewrite_manifest,
    write_parquet,
)
from ..data.source import MAX_BYTES
from ..errors import GanaugError
from ..progress import warn
from ..runs import read_regular, sync_folder

LOCK = ".browse.lock"
PAUSE = 0.5  # seconds between two writings of the manifest
SCORES = ("realism", "class_probability", "strangeness", "relative_distance", "distance")


@dataclass(frozen=True)
class Entry:
    """A synthetic image that has a file, here or among the rejected ones. A score that it lacks is None."""

    file: str
    class_name: str
    kept: bool
    reasons: str
    nearest_real: str
    scores: dict[str, float | None]


@dataclass
class Desk:
    """A folder whose images are being decided about: the state of one process, which holds the folder's lock."""

    folder: Path
    entries: dict[int, Entry]  # by the number of its row in the manifest, as it was at the start
    pending: dict[str, bool] = field(default_factory=dict)  # what the journal holds
    size: int = 0  # of the journal, in bytes
    version: int = 0  # decisions so far
    first: dict[int, bool] = field(default_factory=dict)  # by row: kept at the start? Of those decided about
    trouble: str = ""  # why the manifest could not be written last
    lock: threading.Lock = field(default_factory=threading.Lock)
    wake: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def open_desk(folder: str | Path) -> Iterator[Desk]:
    """Completes what a killed process has left, and writes decisions into the manifest as they come and at the end.

    Raises `GanaugError` for a folder without a manifest, one that another process browses, a manifest that names files outside the
    folder or one of them twice, and where decisions cannot be written; then they stay in the journal.
    """
    from filelock import FileLock, Timeout

    root = Path(folder)
    read_manifest(root)  # a folder that is none gets no lock file
    lock = FileLock(root / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise GanaugError(
            f"{folder} is being browsed already, by another `ganaug browse`. Use its page, in as many tabs as you like, or end it first."
        ) from None
    except OSError as error:
        raise GanaugError(f"{folder} cannot be written to: {error}. Decisions could not be kept.") from None
    try:
        if (root / PARQUET_NAME).is_file() and importlib.util.find_spec("pyarrow") is None:
            raise GanaugError(
                f"{root / PARQUET_NAME} could not follow the decisions without pyarrow. Install it (pip install 'ganaug[parquet]'), or "
                "remove the file."
            )
        if (root / JOURNAL).is_symlink():
            raise GanaugError(f"{root / JOURNAL} is a link, which is not followed. Remove it.")
        desk = Desk(root, read_entries(root))
        recover(desk)
        writer = threading.Thread(target=write_as_they_come, args=(desk,), name="ganaug-manifest", daemon=True)
        writer.start()
        try:
            yield desk
        finally:
            with desk.lock:
                desk.ended.set()
            desk.wake.set()
            writer.join()
            settle(desk)
            (root / JOURNAL).unlink(missing_ok=True)
    finally:
        lock.release()


def read_entries(folder: Path) -> dict[int, Entry]:
    """The synthetic images of the manifest that have a file, by row number; warns of those whose file is gone. Raises `GanaugError`
    for a file outside the folder or without the suffix of an image, and one that is named twice."""
    table = read_manifest(folder, rejected=True)
    named = table[(table["file"] != "") & (table["source"] != "real")]
    twice = named["file"][named["file"].duplicated()]
    if len(twice):
        raise GanaugError(f"{folder / NAME} names {twice.iloc[0]!r} twice. Remove one of the rows.")
    kept = named["kept"].astype(bool) if "kept" in named else pd.Series(True, index=named.index)
    absent = pd.Series("", index=named.index)
    reasons, nearest = named.get("reasons", absent), named.get("nearest_real", absent)
    scores = {name: pd.to_numeric(named[name], errors="coerce").to_dict() for name in SCORES if name in named}
    entries, missing = {}, []
    for row in map(int, named.index):
        file = str(named.at[row, "file"])
        if not (locate(folder, file).is_file() or parcel(folder, file).is_file()):
            missing.append(file)
            continue
        values = {name: float(column[row]) for name, column in scores.items()}
        entries[row] = Entry(
            file=file,
            class_name=str(named.at[row, "class"]),
            kept=bool(kept.at[row]),
            reasons=str(reasons.at[row]),
            nearest_real=str(nearest.at[row]),
            scores={name: value if abs(value) < float("inf") else None for name, value in values.items()},
        )
    if missing:
        warn(f"{folder / NAME} names {len(missing)} files that do not exist, such as {missing[0]}; they are left out.")
    if not entries:
        raise GanaugError(f"{folder} holds no synthetic image to look at.")
    return entries


def parcel(folder: Path, file: str) -> Path:
    """Where the image lies while a person has rejected it. Raises `GanaugError` where a link has that name."""
    path = folder / f".rejected-{hashlib.sha256(file.encode()).hexdigest()[:24]}"
    if path.is_symlink():
        raise GanaugError(f"{path} is a link. Put the image itself there.")
    return path


def read_image(desk: Desk, row: int) -> bytes:
    """The bytes of an image, rejected or not. Raises `KeyError` for an unknown row, `GanaugError` or `OSError` if it cannot be read."""
    file = desk.entries[row].file
    inside, outside = locate(desk.folder, file), parcel(desk.folder, file)
    for path in (inside, outside, inside):  # it may just be moving
        with suppress(FileNotFoundError):
            return read_regular(path, MAX_BYTES)
    raise GanaugError(f"{file} is gone from {desk.folder}.")


def decide(desk: Desk, decisions: Sequence[tuple[int, bool]]) -> None:
    """Keeps or rejects images, (row, kept) each; when it returns, the decisions outlive this process and the files lie where they
    belong. Raises `KeyError` for an unknown row, and `GanaugError` that names those which cannot be carried out: they have not been
    made, and all others have."""
    with desk.lock:
        if desk.ended.is_set():
            raise GanaugError("ganaug browse has ended. Start it again.")
        lines = [(desk.entries[row].file, kept) for row, kept in decisions]
        size, pending = desk.size, dict(desk.pending)
        append(desk, lines)
        made, failed = [], []
        try:
            for (row, kept), line in zip(decisions, lines, strict=True):
                entry = desk.entries[row]
                try:
                    move(desk.folder, entry.file, kept)
                except (OSError, GanaugError) as error:
                    failed.append(f"{entry.file} cannot be {'kept' if kept else 'rejected'}: {error}")
                    continue
                made.append(line)
                desk.first.setdefault(row, entry.kept)
                desk.entries[row] = replace(entry, kept=kept, reasons=amend_reasons(entry.reasons, kept))
                desk.version += 1
            if failed:
                desk.size, desk.pending = size, pending
                append(desk, made)
                raise GanaugError(" ".join(failed))
        finally:
            desk.wake.set()


def append(desk: Desk, decisions: Sequence[tuple[str, bool]]) -> None:
    """Adds to the journal, on the disk, or not at all. Raises `GanaugError` if it cannot."""
    path = desk.folder / JOURNAL
    try:
        is_new = not path.exists()
        if is_new:  # also where somebody has removed it
            desk.size, decisions = 0, [*desk.pending.items(), *decisions]
        lines = "".join(json.dumps({"file": file, "kept": kept}, ensure_ascii=False) + "\n" for file, kept in decisions)
        with path.open("r+b" if not is_new else "w+b", buffering=0) as file:
            try:
                file.truncate(desk.size)
                file.seek(desk.size)
                content = memoryview(lines.encode())
                while content:
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(desk.size)
                raise
            desk.size = file.tell()
    except OSError as error:
        raise GanaugError(f"the decision cannot be written to {path}: {error}. It has not been made.") from None
    if is_new:
        sync_folder(desk.folder)
    desk.pending.update(decisions)


def move(folder: Path, file: str, kept: bool) -> None:
    """Puts the image where it belongs; nothing happens where it is there. Raises `GanaugError` where there is none, or another in its
    place; nothing is ever overwritten."""
    inside, outside = locate(folder, file), parcel(folder, file)
    source, target = (outside, inside) if kept else (inside, outside)
    if os.path.lexists(target):
        if os.path.lexists(source):
            raise GanaugError(f"it lies there twice, also as {outside.name}. Remove one of both.")
        return
    if not source.is_file():
        raise GanaugError("its file is gone.")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(
        target
    )  # a class without images keeps its folder: without it, torchvision would number the others anew


def recover(desk: Desk) -> None:
    """Completes the decisions of a process that was killed. Raises `GanaugError` if they cannot be written."""
    for name in (NAME, PARQUET_NAME, METADATA_NAME, DATASET_NAME):
        for left in desk.folder.glob(f".{name}.*.tmp"):  # while it wrote
            left.unlink()
    desk.pending = read_pending(desk.folder)
    for entry in desk.entries.values():  # which have what is pending
        rejected = not entry.kept and BY_HAND in entry.reasons.split()
        wrong = locate(desk.folder, entry.file) if rejected else parcel(desk.folder, entry.file)
        if wrong.exists():
            try:
                move(desk.folder, entry.file, not rejected)
            except (OSError, GanaugError) as error:
                raise GanaugError(f"{desk.folder / entry.file}: {error}") from None
    if (desk.folder / JOURNAL).is_file():
        desk.size = (desk.folder / JOURNAL).stat().st_size
        settle(desk)


def write_as_they_come(desk: Desk) -> None:
    """Until the desk has ended; what cannot be written is told of, and tried again."""
    while not desk.ended.is_set():
        desk.wake.wait()
        desk.wake.clear()
        try:
            settle(desk)
            desk.trouble = ""
        except Exception as error:  # told to whoever decides; the journal has it all
            desk.trouble = str(error) or type(error).__name__
            desk.wake.set()
        desk.ended.wait(PAUSE)


def settle(desk: Desk) -> None:
    """Writes what the journal holds into the manifest and the files that follow it, then empties the journal. Raises `GanaugError`."""
    with desk.lock:
        size, decisions = desk.size, dict(desk.pending)
    if size:
        try:
            rewrite_manifest(desk.folder, decisions)
            rewrite_interop(desk.folder, read_manifest(desk.folder))
            if (desk.folder / PARQUET_NAME).is_file():
                write_parquet(desk.folder)
            sync_folder(desk.folder)
            with desk.lock:
                if desk.size == size:  # else the next round has these, too
                    with suppress(FileNotFoundError):
                        os.truncate(desk.folder / JOURNAL, 0)
                    desk.size = 0
                    desk.pending.clear()
        except (OSError, ValueError) as error:
            raise GanaugError(
                f"{desk.folder / NAME} cannot be written: {error}. The decisions are safe in {JOURNAL}; ganaug browse completes it."
            ) from None


def summarize(desk: Desk) -> dict[str, int]:
    """{"rejected", "kept"}: images decided about since the start that are now otherwise than before."""
    changed = [desk.entries[row].kept for row, before in desk.first.items() if desk.entries[row].kept != before]
    return {"rejected": changed.count(False), "kept": changed.count(True)}
