"""What is going on in a folder, for who looks from another terminal."""

import os
import shlex
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .errors import GanaugError, looked_in
from .progress import format_duration
from .runs import STATUS, RunFolder, open_run, read_json

LARGEST = 2**53  # of a number that is believed
SILENT_AFTER = 900.0  # seconds without a sign, after which a process that cannot be asked for counts as gone
State = Literal["complete", "running", "stopped"]
STAGES = {  # of `ganaug run`, in order, and what is there once they are complete (of fit, when it says so)
    "fit": "run/run.json",
    "synthesize": "synthetic/manifest.csv",
    "compare": "study/study.json",
    "report": "report.html",
}


@dataclass(frozen=True)
class Status:
    """Of one run or study, or of all that `ganaug run` makes. `seconds_left` is that of the step at hand, None where it is not known;
    `hint` what to do next."""

    folder: Path
    kind: Literal["all", "run", "study"]
    state: State
    doing: str
    seconds_left: float | None
    note: str
    hint: str


def status(path: str | Path) -> list[Status]:
    """The states of a run, a study, or in a folder of `ganaug run` first of all stages, then of both; reads small files alone and writes
    none.

    Raises `GanaugError` for a path that does not exist, and for a folder that holds neither.
    """
    root = Path(path)
    if not root.exists():
        raise GanaugError(f"{path} does not exist{looked_in(root)}. Give the --out of ganaug fit, compare or run.")
    found = [_of_run(folder) for folder in (root, root / "run") if _holds(folder, "run.json", "check.json")]
    found += [
        _of_study(folder)
        for folder in (root, root / "study", root / "run" / "study")
        if _holds(folder, "identity.json")
    ]
    if _is_of_all(root):
        return [_of_all(root, found), *(replace(one, hint="") for one in found)]
    if not found:
        raise GanaugError(f"{path} holds no run and no study. Give the --out of ganaug fit, compare or run.")
    return found


def _is_of_all(root: Path) -> bool:
    """Whether `ganaug run` or `demo` has made the folder, and not another stage, whose recipe is beside other files."""
    own = _holds(root, "recipe.yaml") and not _holds(root, "run.json", "check.json", "identity.json", "manifest.csv")
    return own and ((root / "run").is_dir() or _holds(root, STATUS))


def _of_all(root: Path, found: list[Status]) -> Status:
    """Which stage is under way, with what the stage itself tells of it; the sign in `root` tells whether the process lives."""
    of_run = next((one for one in found if one.kind == "run"), None)
    complete = [_holds(root, name) for name in STAGES.values()]
    complete[0] = of_run is not None and of_run.state == "complete"
    if all(complete):
        page = root / STAGES["report"]
        return Status(root, "all", "complete", f"all {len(STAGES)} stages", None, "", f"open {page}")
    number = complete.index(False)
    name = list(STAGES)[number]
    whole = _of_unfinished(root, "all", "", f"repeat the ganaug {_command_of(root)} that began it")
    inner = next((one for one in found if one.kind == {"fit": "run", "compare": "study"}.get(name)), None)
    told = whole if inner is None or (whole.state == "running" and inner.state != "running") else inner
    state: State = "running" if "running" in (whole.state, told.state) else "stopped"
    parts = (f"stage {number + 1} of {len(STAGES)}: {name}", told.doing.removeprefix(f"{name}: "))
    doing = ", ".join(filter(None, parts))
    return replace(
        whole, state=state, doing=doing, seconds_left=told.seconds_left, hint="" if state == "running" else whole.hint
    )


def refuse_unfinished(folder: Path) -> None:
    """Raises `GanaugError` unless the folder holds a finished study: with the one that was meant, or how far it has come."""
    if (folder / "study.json").is_file():
        return
    if _holds(folder, "identity.json"):
        found = _of_study(folder)
        doing = f" ({found.doing})" if found.doing else ""
        if found.state == "running":
            raise GanaugError(
                f"the study in {folder} is still under way{doing}. Wait for its end: ganaug status {folder}"
            )
        raise GanaugError(f"the study in {folder} was interrupted{doing}. Go on with it: {found.hint}.")
    inside = (folder / "study", folder / "run" / "study")
    meant = next((each for each in inside if _holds(each, "study.json", "identity.json")), None)
    how = f"Did you mean {meant}?" if meant else f"Make one with: ganaug compare RUN --out {folder}"
    raise GanaugError(f"{folder} is not a finished study: it has no study.json. {how}")


def _holds(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)


def _of_run(root: Path) -> Status:
    folder = RunFolder(root)
    info = read_json(folder.info) if folder.info.is_file() else {}
    samples = sorted(folder.samples.glob("*.png"), key=lambda file: file.stat().st_mtime)
    seen = f"latest samples: {samples[-1]}" if samples else ""
    if info.get("complete"):
        info = open_run(root)[1]
        trained = (
            f"{sum(_steps_of(folder, name) for name in info['members']):,} steps, {len(info['class_names'])} classes"
        )
        return Status(root, "run", "complete", trained, None, seen, f"ganaug synthesize {root} --out AUGMENTED")
    again = f"ganaug fit {shlex.quote(str(info.get('source', 'DATA')))} --out {shlex.quote(str(root))}" + (
        " --resume" if info else ""
    )
    return _of_unfinished(root, "run", seen, again)


def _steps_of(folder: RunFolder, member: str) -> int:
    path = folder.member(member) / "member.json"
    steps = read_json(path, keys=("steps",))["steps"]
    if type(steps) is not int:
        raise GanaugError(f"{path} is damaged: its steps are {str(steps)[:40]}. Fit again, with another --out.")
    return steps


def _of_study(root: Path) -> Status:
    if (root / "study.json").is_file():
        study = read_json(root / "study.json", keys=("verdict", "sentence"))
        said = f"{study['verdict']}. {study['sentence']}"
        return Status(root, "study", "complete", said, None, "", f"ganaug report {root}")
    stage = _command_of(root.parent) if root.name == "study" and _is_of_all(root.parent) else "compare"
    return _of_unfinished(root, "study", "", f"repeat the ganaug {stage} that began it")


def _command_of(root: Path) -> str:
    return "demo" if (root / "digits").is_dir() else "run"


def _of_unfinished(root: Path, kind: Literal["all", "run", "study"], seen: str, again: str) -> Status:
    sign = _read_sign(root / STATUS)
    if "ended" in sign:
        return Status(root, kind, "stopped", f"it ended: {sign['ended']}", None, seen, again)
    doing = f"{sign['label']}: {sign['done']}/{sign['total']}{sign['unit']}" if "label" in sign else ""
    note = "; ".join(part for part in (sign.get("note", ""), seen) if part)
    if sign and _is_alive(sign):
        return Status(root, kind, "running", doing, sign.get("seconds_left"), note, "")
    return Status(root, kind, "stopped", f"its process is gone; it was at {doing}" if doing else "", None, note, again)


def _read_sign(path: Path) -> dict[str, Any]:
    """What `progress.leave_sign` has written; empty where there is none, as it may go at any moment, and where it is damaged."""
    try:
        sign = read_json(path, keys=("pid", "host", "time"))
    except GanaugError:
        return {}
    numbers: dict[str, tuple[type, ...]] = {"pid": (int,), "time": (int, float), "seconds_left": (int, float)}
    texts = ["host", *(name for name in ("ended", "note") if name in sign)]
    if "label" in sign:
        texts += ["label", "unit"]
        numbers |= {"done": (int,), "total": (int,)}
    if sign.get("seconds_left") is None:
        del numbers["seconds_left"]
    sound = all(isinstance(sign.get(name), str) for name in texts)
    sound &= all(type(sign.get(name)) in kinds and 0 <= sign[name] < LARGEST for name, kinds in numbers.items())
    return sign if sound and 0 < sign["pid"] < 2**31 else {}


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
        what = "" if one.kind == "all" else f"{one.kind} "
        lines.append(f"{what}{one.folder}: {one.state}{': ' if one.doing else ''}{one.doing}{left}")
        lines += [f"  {one.note}"] * bool(one.note) + [f"  next: {one.hint}"] * bool(one.hint)
    return "\n".join(lines)
