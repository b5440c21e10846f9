"""What is left of a command that is killed, or whose disk is full, and whether it then ends as if nothing had happened.

    python recipes/benchmarks/crashes.py [--kills 100] [--full 20] [--work FOLDER]

`fit`, of one GAN and of one for each class, `synthesize`, with and without tests, in files and shards, and `compare` run to their end
once each. Then each is started again and again, on a copy of what it began from,
killed with SIGKILL at a random moment of that duration, one time in five a second time, and repeated to its end. Everything that
then lies there, hidden files and empty folders included, must be as the uninterrupted command left it, byte for byte but for the
times in left_behind.TIMES; and between the two, no file may be half. For the full disk (Linux, root), the same on a file system in
memory that has a random part of the room that the command needs.

The processes are real ones that run the command line; they are forked from one that has imported everything, so that a kill costs
seconds. CONSTANTS of the program are smaller than usual there, so that seconds have many steps, checkpoints and savings in them.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from left_behind import contents, differences, half_files
from records import Bar, write_record
from sklearn.datasets import load_digits

from ganaug.cli import main as command_line
from ganaug.data.images import encode_png
from ganaug.gan import convergence, judge, member, validation
from ganaug.study import cost
from ganaug.synthesis import synthesize

CONSTANTS: list[tuple[Any, str, Any]] = [
    (judge, "NUM_UPDATES", 2),
    (convergence, "RIVAL_STEPS", 1),
    (convergence, "NUM_JUDGED", 1),
    (validation, "IMAGES_PER_CLASS", 4),
    (member, "MIN_STEPS_BETWEEN", 3),
    (cost, "PROBE_UPDATES", 2),
    (synthesize, "SAVE_INTERVAL", 0.0),
]
RECIPE = {
    "data": {"image_size": 16},
    "fit": {
        "steps": 12,
        "width": 4,
        "latent_size": 4,
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "log_interval": 2,
        "checkpoint_interval": 0.001,
        "sample_interval": "10h",  # how many sheets there are would depend on the pace
    },
    "curation": {"without": ["copy", "wrong-class", "outlier", "unrealistic", "duplicate"], "keep": 1.0},
    "compare": {
        "preset": "standard",
        "arms": ["scratch/real", "scratch/real+synthetic", "discriminator/real"],
        "gans": 2,
        "seeds": 2,
        "updates": 2,
        "tune": False,
        "batch_size": 6,
        "pool_per_class": 4,
        "precision": "fp32",
        "device": "cpu",
        "jobs": 1,
    },
}
PER_CLASS = 100
TESTED = {"curation": {"without": [], "keep": 0.5}}  # all tests, whose classifiers are trained first
SHARES = {
    "fit": 0.25,
    "fit per class": 0.15,
    "synthesize": 0.15,
    "synthesize tested": 0.15,
    "shards": 0.1,
    "compare": 0.2,
}  # of the kills
TWICE = 0.2
LIMIT = 600.0  # seconds after which a command counts as stuck


@dataclass(frozen=True)
class Stage:
    """A command, the folder that it works in, what lies there before, and what it leaves there in how many seconds."""

    name: str
    place: Path
    before: Path
    arguments: tuple[str, ...]
    left: dict[str, Any]
    seconds: float
    size: int = 0  # bytes that it writes at most


def write_data(folder: Path) -> None:
    """Three classes of real scans of digits, twelve to train on and eight to score."""
    scans = load_digits()
    for digit in range(3):
        for number, row in enumerate(np.flatnonzero(scans.target == digit)[:20]):
            path = folder / ("train" if number < 12 else "test") / str(digit) / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.round(scans.images[row] * (255 / 16)).astype(np.uint8)
            path.write_bytes(encode_png(pixels[:, :, None]))


def start(arguments: tuple[str, ...], log: Path) -> int:
    """The process of a command, forked."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with log.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        command_line(list(arguments), prog_name="ganaug")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int, seconds: float = LIMIT) -> int | None:
    """The exit code, or minus the signal; None if it still runs after that time."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.005, max(0.0, end - time.monotonic())))


def run(arguments: tuple[str, ...], log: Path) -> int | None:
    """Runs the command to its end."""
    process = start(arguments, log)
    code = wait(process)
    if code is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return code


def again(stage: Stage) -> tuple[str, ...]:
    """The command that goes on with a killed one."""
    begun = stage.arguments[0] == "fit" and (stage.place / "run/run.json").is_file()
    return (*stage.arguments, "--resume") if begun else stage.arguments


def is_complete(stage: Stage) -> bool:
    return stage.arguments[0] == "synthesize" and (stage.place / "made/manifest.csv").is_file()


def begin(stage: Stage) -> None:
    """Empties the place and puts there what the command begins from."""
    for path in stage.place.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(stage.before, stage.place, dirs_exist_ok=True)


def commands_in(work: Path, place: Path) -> dict[str, tuple[str, ...]]:
    """The commands of the stages in `place`, on data in `work` that are written here."""
    data, recipe, tested = work / "data", work / "recipe.yaml", work / "tested.yaml"
    write_data(data)
    recipe.write_text(json.dumps(RECIPE))  # which is YAML, too
    tested.write_text(json.dumps(RECIPE | TESTED))
    run, made, study = (str(place / name) for name in ("run", "made", "study"))
    with_recipe, many = ("--recipe", str(recipe)), ("--per-class", str(PER_CLASS))
    return {
        "fit": ("fit", str(data), "--out", run, *with_recipe),
        "fit per class": ("fit", str(data), "--out", run, "--strategy", "per-class", "--jobs", "1", *with_recipe),
        "synthesize": ("synthesize", run, "--out", made, *many, *with_recipe),
        "synthesize tested": ("synthesize", run, "--out", made, "--per-class", "4", "--recipe", str(tested)),
        "shards": ("synthesize", run, "--out", made, *many, "--raw", "--shards", *with_recipe),
        "compare": ("compare", run, "--out", study, *with_recipe),
    }


def prepare(work: Path, place: Path, log: Path) -> list[Stage]:
    """The stages, each run once to its end."""
    for name in ("fit", "fit per class"):
        (work / f"before-{name}").mkdir()
        (work / f"before-{name}/notes.txt").write_text("of somebody else\n")
    stages = []
    for name, command in commands_in(work, place).items():
        stage = Stage(name, place, work / f"before-{name}", command, {}, 0.0)
        begin(stage)
        begun, room = time.monotonic(), used(place)
        if run(stage.arguments, log) != 0:
            raise SystemExit(f"{name} does not work:\n{log.read_text()[-3000:]}")
        seconds = time.monotonic() - begun
        stages.append(replace(stage, left=contents(place), seconds=seconds, size=used(place) - room))
        print(
            f"{name}: {seconds:.1f} s, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.1f} s of the processor so far, "
            f"{len(stages[-1].left)} files",
            flush=True,
        )
        if name == "fit":
            for other in SHARES.keys() - {"fit", "fit per class"}:
                shutil.copytree(place, work / f"before-{other}")
    return stages


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kill_once(stage: Stage, arguments: tuple[str, ...], moment: float, log: Path) -> bool:
    """Whether it was still running at that moment."""
    process = start(arguments, log)
    if wait(process, moment) is not None:
        return False
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def try_kill(stage: Stage, rng: random.Random, log: Path) -> dict[str, Any]:
    """Kills the command, perhaps twice, and repeats it to its end; what was found."""
    log.write_bytes(b"")
    begin(stage)
    moments: list[float] = []
    arguments, most = stage.arguments, 2 if rng.random() < TWICE else 1
    for _ in range(20):  # a moment may be after the end, where the machine is faster than it was
        moment = rng.uniform(0, stage.seconds)
        if kill_once(stage, arguments, moment, log):
            moments.append(round(moment, 3))
            arguments = again(stage)
            if len(moments) == most:
                break
        elif moments:
            break
        else:
            begin(stage)
    half = half_files(stage.place)
    had = sorted(path.name for path in stage.place.rglob("*.*") if path.name.startswith("."))
    code = run(again(stage), log)
    wrong = differences(contents(stage.place), stage.left)
    done = code == 0 or (code == 2 and is_complete(stage))
    return {
        "stage": stage.name,
        "killed_at": moments,
        "share": [round(moment / stage.seconds, 3) for moment in moments],
        "hidden_files_after_the_kill": had,
        "half": half,
        "code": code,
        "different": wrong,
        "alike": bool(moments) and done and not wrong and not half,
        "log": [] if done and not wrong else log.read_text().splitlines()[-30:],
    }


def try_full(stage: Stage, rng: random.Random, log: Path) -> dict[str, Any]:
    """Runs the command with a random part of the room that it needs, then again with enough."""
    log.write_bytes(b"")
    begin(stage)
    before = contents(stage.place)
    free = int(rng.uniform(0, 0.9) * stage.size) // 4096 * 4096
    filler = stage.place / "filler"
    room = shutil.disk_usage(stage.place).free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, room - free))
    code = run(stage.arguments, log)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
    after = contents(stage.place)
    damaged = [name for name in before if after.get(name, 0) != before[name]]
    half = half_files(stage.place)
    filler.unlink()
    clear = code == 2 and len(said) == 1 and "disk is full" in said[0] and "Traceback" not in log.read_text()
    last = run(again(stage), log)
    wrong = differences(contents(stage.place), stage.left)
    return {
        "stage": stage.name,
        "free_bytes": free,
        "code": code,
        "said": said,
        "one_clear_line": clear,
        "damaged": damaged,
        "half": [name for name in half if not name.startswith("filler")],
        "code_with_room": last,
        "different": wrong,
        "alike": last == 0 and not wrong,
        "log": [] if clear and last == 0 and not wrong else log.read_text().splitlines()[-30:],
    }


def preload(work: Path) -> None:
    """Imports what the commands import when they need it, as a first process tells, so that no other one has to. Nothing is computed
    here: torch does not go on after a fork once it has computed gradients."""
    names = work / "modules.json"
    if not (process := os.fork()):
        stages = work / "first"
        (stages / "disk").mkdir(parents=True)
        for arguments in commands_in(stages, stages / "disk").values():
            shutil.rmtree(
                stages / "disk" / {"fit": "run", "synthesize": "made"}.get(arguments[0], "study"), ignore_errors=True
            )
            command_line(list(arguments), standalone_mode=False)
        names.write_text(json.dumps(sorted(sys.modules)))
        os._exit(0)
    os.waitpid(process, 0)
    for name in json.loads(names.read_text()):
        with suppress(Exception):
            importlib.import_module(name)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    others = [name for name in threads if name != "jemalloc_bg_thd"]  # pyarrow's allocator, which is made for forks
    if len(others) > 1:
        raise SystemExit(f"a process of several threads is not forked safely: {', '.join(others)}")


def measure(work: Path, num_kills: int, num_full: int, seed: int) -> None:
    """The tries of one job; what was found is found.json."""
    rng, log, disk = random.Random(seed), work / "log.txt", work / "disk"
    disk.mkdir()
    stages = prepare(work, disk, log)
    kills: list[dict[str, Any]] = []
    full: list[dict[str, Any]] = []
    for _ in range(num_kills):
        name = rng.choices(list(SHARES), list(SHARES.values()))[0]
        kills.append(try_kill(next(stage for stage in stages if stage.name == name), rng, log))
        print(seed, len(kills), {key: value for key, value in kills[-1].items() if key != "share"}, flush=True)
    if num_full:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
        try:
            for number in range(num_full):
                full.append(try_full(stages[(seed + number) % len(stages)], rng, log))
                print(seed, number, full[-1], flush=True)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    told = [
        {"name": stage.name, "seconds": round(stage.seconds, 2), "files": len(stage.left), "bytes": stage.size}
        for stage in stages
    ]
    (work / "found.json").write_text(json.dumps({"stages": told, "kills": kills, "full": full}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="tries at a time")
    parser.add_argument("--work", type=Path, help="a folder to work in; a temporary one by default")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # a process of one thread may be forked safely
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        )
    torch.set_num_threads(1)
    for module, name, value in CONSTANTS:
        assert hasattr(module, name), (module, name)
        setattr(module, name, value)
    parts = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        preload(work)
        workers = []
        for job in range(arguments.jobs):
            num_kills, num_full = (
                count // arguments.jobs + (job < count % arguments.jobs) for count in (arguments.kills, arguments.full)
            )
            (work / str(job)).mkdir()
            if not (process := os.fork()):
                try:
                    measure(work / str(job), num_kills, num_full, arguments.seed + job)
                except BaseException:
                    traceback.print_exc()
                os._exit(0)
            workers.append(process)
        for job, process in enumerate(workers):
            os.waitpid(process, 0)
            parts.append(json.loads((work / str(job) / "found.json").read_text()))
    kills, full = ([each for part in parts for each in part[name]] for name in ("kills", "full"))
    alike = sum(each["alike"] for each in kills)
    halves = sum(len(each["half"]) for each in (*kills, *full))
    damaged = sum(len(each["damaged"]) for each in full)
    num_kills = sum(len(each["killed_at"]) for each in kills)
    bars = [
        Bar("kills with SIGKILL at random moments, some runs twice", num_kills, ">= 100", num_kills >= 100),
        Bar("runs killed and resumed that end alike", f"{alike} of {len(kills)}", "all", alike == len(kills)),
        Bar("half files after a kill or a full disk", halves, "0", halves == 0),
    ]
    if full:
        went_on, clear = (sum(each[key] for each in full) for key in ("alike", "one_clear_line"))
        bars += [
            Bar("disks filled at random moments", len(full), ">= 20", len(full) >= 20),
            Bar("files damaged by a full disk", damaged, "0", damaged == 0),
            Bar("full disks told of in one clear line", f"{clear} of {len(full)}", "all", clear == len(full)),
            Bar("full disks after which it ends alike", f"{went_on} of {len(full)}", "all", went_on == len(full)),
        ]
    measured = {
        "stages": [part["stages"] for part in parts],
        "not_compared_for_their_times": {
            "metrics.csv, gan.csv": "the column seconds",
            "member.json": "seconds",
            "pace.json": "seconds_per_update",
            "seconds.json": "the values",
            "study.json": "seconds, seconds_of",
        },
        "constants": {f"{module.__name__}.{name}": value for module, name, value in CONSTANTS},
        "recipe": RECIPE,
        "kills": kills,
        "full": full,
    }
    write_record("crashes", bars, measured, seeds=[arguments.seed + job for job in range(arguments.jobs)])


if __name__ == "__main__":
    main()
