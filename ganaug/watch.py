"""What is going on in a folder, for who looks from another terminal."""

import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import GanaugError
from .progress import format_duration
from .runs import STATUS, RunFolder, open_run, read_json

SILENT_AFTER = 900.0  # seconds without a sign, after which a process that cannot be asked for counts as gone
State = Literal["complete", "running", "stopped"]


@dataclass(frozen=True)
class Status:
    """Of one run or study. `seconds_left` is that of the step at hand, None where it is not known; `hint` what to do next."""

    folder: Path
    kind: Literal["run", "study"]
    state: State
    doing: str
    seconds_left: float | None
    note: str
    hint: str


def status(path: str | Path) -> list[Status]:
    """The states of a run, a study, or both in a folder of `ganaug run`; reads small files alone and writes none.

    Raises `GanaugError` for a folder that holds neither.
    """
    root = Path(path)
    found = [_of_run(folder) for folder in (root, root / "run") if _holds(folder, "run.json", "check.json")]
    found += [
        _of_study(folder)
        for folder in (root, root / "study", root / "run" / "study")
        if _holds(folder, "identity.json")
    ]
    if not found:
        raise GanaugError(f"{path} holds no run and no study. Give the --out of ganaug fit, compare or run.")
    return found


def _holds(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)


def _of_run(root: Path) -> Status:
    folder = RunFolder(root)
    info = read_json(folder.info) if folder.info.is_file() else {}
    samples = sorted(folder.samples.glob("*.png"), key=lambda file: file.stat().st_mtime)
    seen = f"latest samples: {samples[-1]}" if samples else ""
    if info.get("complete"):
        info = open_run(root)[1]
        steps = [read_json(folder.member(name) / "member.json", keys=("steps",))["steps"] for name in info["members"]]
        trained = f"{sum(steps):,} steps, {len(info['class_names'])} classes"
        return Status(root, "run", "complete", trained, None, seen, f"ganaug synthesize {root} --out AUGMENTED")
    again = f"ganaug fit {shlex.quote(str(info.get('source', 'DATA')))} --out {shlex.quote(str(root))}" + (
        " --resume" if info else ""
    )
    return _of_unfinished(root, "run", seen, again)


def _of_study(root: Path) -> Status:
    if (root / "study.json").is_file():
        study = read_json(root / "study.json", keys=("verdict", "sentence"))
        said = f"{study['verdict']}. {study['sentence']}"
        return Status(root, "study", "complete", said, None, "", f"ganaug report {root}")
    return _of_unfinished(root, "study", "", "repeat the ganaug compare that began it")


def _of_unfinished(root: Path, kind: Literal["run", "study"], seen: str, again: str) -> Status:
    sign = _read_sign(root / STATUS)
    if "ended" in sign:
        return Status(root, kind, "stopped", f"it ended: {sign['ended']}", None, seen, again)
    doing = f"{sign['label']}: {sign['done']}/{sign['total']}{sign['unit']}" if "label" in sign else ""
    note = "; ".join(part for part in (sign.get("note", ""), seen) if part)
    if sign and _is_alive(sign):
        return Status(root, kind, "running", doing, sign.get("seconds_left"), note, "")
    return Status(root, kind, "stopped", f"its process is gone; it was at {doing}" if doing else "", None, note, again)


def _read_sign(path: Path) -> dict[str, Any]:
    """Empty where there is none: it may go at any moment."""
    try:
        return read_json(path, keys=("pid", "host", "time"))
    except GanaugError:
        return {}


def _is_alive(sign: dict[str, Any]) -> bool:
    """Whether the process that left the sign still runs; on another machine, and on Windows, whether it has left one lately."""
    if sign["host"] != socket.gethostname() or os.name == "nt":
        return bool(time.time() - sign["time"] < SILENT_AFTER)
    try:
        os.kill(sign["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True


def format_status(found: list[Status]) -> str:
    """For people: a line for each, and below it what there is to see or to do."""
    lines = []
    for one in found:
        left = f", {format_duration(one.seconds_left)} left of this" if one.seconds_left is not None else ""
        lines.append(f"{one.kind} {one.folder}: {one.state}{': ' if one.doing else ''}{one.doing}{left}")
        lines += [f"  {one.note}"] * bool(one.note) + [f"  next: {one.hint}"] * bool(one.hint)
    return "\n".join(lines)
