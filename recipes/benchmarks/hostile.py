"""Whether hostile input is refused: ten thousand damaged images, and archives, checkpoints, manifests and recipes with traps.

    python recipes/benchmarks/hostile.py [--work DIR] [--images 10000] [--traps N]

The images go through `ganaug check` and `ganaug fit --dry-run`, as processes of their own, and through the decoder one by one with a
clock; each trap is opened by the command that it is for, in a process of its own, with a list of all files around it before and after.
Times are the processor's: other work on the machine does not count. Some six minutes on one core.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from image_mutants import write_mutants, write_seeds
from PIL import Image
from records import Bar, write_record

if TYPE_CHECKING:
    from traps import Material, Trap

SEED = 0
IN_A_FOLDER = 2500  # damaged images
SLOW = 5.0  # seconds of the processor for one file
PATIENCE = 3600.0  # and of the clock for one command, on whatever machine
FIT = (
    "--dry-run",
    "--image-size",
    "16",
    "--steps",
    "10",
    "--set",
    "fit.threads=1",
    "--set",
    "fit.width=8",
    "--set",
    "fit.batch_size=16",
)
STAGES = (
    "data.check",
    "gan.training",
    "synthesis.rebuild",
    "synthesis.synthesize",
    "classify.predictor",
    "integrations.generator",
)
UNUSABLE = ("unreadable", "truncated", "ignored-file")


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is negative where a signal ended it."""

    code: int
    out: str
    errors: str
    seconds: float  # of the processor
    mebibytes: float  # at most, of memory


def run_process(command: list[str], folder: Path) -> Ended:
    """The command, its output by way of files in the folder."""
    with (folder / "out").open("w+b") as out, (folder / "errors").open("w+b") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        return wait_for(process.pid, folder)


def wait_for(pid: int, folder: Path) -> Ended:
    """Ends the process after PATIENCE."""
    begun = time.monotonic()
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begun > PATIENCE:
            os.kill(pid, 9)
        time.sleep(0.01)
    out, errors = ((folder / name).read_bytes().decode(errors="replace") for name in ("out", "errors"))
    return Ended(os.waitstatus_to_exitcode(status), out, errors, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


# Damaged images


def write_folders(work: Path, count: int) -> Iterator[Path]:
    """Folders of class folders, one for each format, where whole images stand beside the damaged ones."""
    mutants = write_mutants(count, SEED)
    for start in range(0, count, IN_A_FOLDER):
        folder = work / f"images-{start // IN_A_FOLDER}"
        shutil.rmtree(folder, ignore_errors=True)
        for suffix, files in write_seeds(Random(SEED + start)).items():
            (folder / suffix[1:]).mkdir(parents=True)
            for number, content in enumerate(files):
                (folder / suffix[1:] / f"whole-{number}{suffix}").write_bytes(content)
        for _, (name, content) in zip(range(min(IN_A_FOLDER, count - start)), mutants, strict=False):
            (folder / name.rpartition(".")[2] / name).write_bytes(content)
        yield folder


def read_one_by_one(folder: Path) -> dict[str, Any]:
    """What each file does to the decoder: {name: [seconds, reason or None]}; and whether Pillow reads what ganaug reads."""
    from ganaug.data.images import DecodeError, decode

    warnings.simplefilter("ignore")
    found: dict[str, tuple[float, str | None]] = {}
    disputed = []
    for path in sorted(folder.rglob("*.*")):
        data, name = path.read_bytes(), path.relative_to(folder).as_posix()
        begun = time.process_time()
        try:
            decode(data)
            reason = None
        except DecodeError as error:
            reason = str(error)
        found[name] = (time.process_time() - begun, reason)
        if reason is None:
            try:
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
            except Exception:  # Pillow's decoders raise nearly everything
                disputed.append(name)
    return {"files": found, "disputed": disputed}


def measure_folder(folder: Path, work: Path) -> dict[str, Any]:
    """All figures of one folder of damaged images."""
    reader = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import hostile; from pathlib import Path; "
    reader += "print(json.dumps(hostile.read_one_by_one(Path(sys.argv[1]))))"
    ended = {
        "reader": run_process([sys.executable, "-c", reader, str(folder)], work),
        "check": run_process([sys.executable, "-m", "ganaug", "check", "--json", str(folder)], work),
        "fit": run_process([sys.executable, "-m", "ganaug", "fit", str(folder), *FIT], work),
    }
    crashed = [
        f"{word}: {one.code} {one.errors[-300:]}"
        for word, one in ended.items()
        if "Traceback" in one.errors or one.code not in (0, 1)
    ]
    figures = {
        "tracebacks": crashed,
        "codes": {word: one.code for word, one in ended.items()},
        "mebibytes": {word: round(one.mebibytes) for word, one in ended.items()},
        "seconds": {word: round(one.seconds, 1) for word, one in ended.items()},
    }
    if crashed:
        return {**figures, "images": 0, "unusable": 0, "not named": [], "slow": [], "slowest": 0.0, "disputed": []}
    alone, checked = json.loads(ended["reader"].out), json.loads(ended["check"].out)
    files: dict[str, tuple[float, str | None]] = alone["files"]
    unusable = {name for name, (_, reason) in files.items() if reason is not None}
    problems = [problem for problem in checked["problems"] if problem["kind"] in UNUSABLE]
    named = {name.split(" (")[0] for problem in problems for name in problem["files"]}
    readable = sum(count for counts in checked["classes"].values() for count in counts.values())
    told = re.search(r": ([\d,]+) readable images?", ended["fit"].out)
    missing = sorted((unusable | set(alone["disputed"])) - named)
    if told is None or int(told[1].replace(",", "")) != readable or readable + len(named) != len(files):
        missing.append(f"{readable} readable and {len(named)} named of {len(files)}; fit tells {told}")
    return {
        **figures,
        "images": sum("/whole-" not in name for name in files),
        "unusable": len(unusable),
        "not named": missing,
        "slow": [name for name, (seconds, _) in files.items() if seconds > SLOW],
        "slowest": round(max(seconds for seconds, _ in files.values()), 2),
        "disputed": alone["disputed"],
    }


def measure_images(work: Path, count: int) -> dict[str, Any]:
    """All figures of the damaged images; the folders that were measured already are kept."""
    parts = []
    for folder in write_folders(work, count):
        kept = work / f"{folder.name}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(measure_folder(folder, work)))
        shutil.rmtree(folder)
        parts.append(json.loads(kept.read_text()))
        print(f"{folder.name}: {kept.read_text()[:600]}", flush=True)
    words = parts[0]["seconds"]
    return {
        **{key: sum(part[key] for part in parts) for key in ("images", "unusable")},
        **{
            key: [each for part in parts for each in part[key]]
            for key in ("not named", "slow", "tracebacks", "disputed")
        },
        "slowest": max(part["slowest"] for part in parts),
        "codes": [part["codes"] for part in parts],
        "mebibytes": {word: max(part["mebibytes"][word] for part in parts) for word in words},
        "seconds": {word: round(sum(part["seconds"][word] for part in parts), 1) for word in words},
    }


# Traps


def load_state(path: Path) -> None:
    """As a training that goes on does, of a file whose seal somebody has made as well."""
    import torch

    from ganaug.gan.checkpoints import load_state as load
    from ganaug.gan.member import build_state
    from ganaug.gan.strategies import joint
    from ganaug.runs import write_sealed
    from ganaug.settings import FitSettings

    shape = {
        "family": "noise",
        "class_counts": [3, 3],
        "image_size": 16,
        "channels": 3,
        "mirror": "none",
        "operations": [],
        "latent_size": 4,
        "width": 4,
    }
    state = build_state(shape, FitSettings(width=4, latent_size=4), joint(2)[0], torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        sealed = Path(folder) / path.name
        write_sealed(sealed, path.read_bytes(), "somebody")
        load(sealed, state, "somebody")


def read_weights(path: Path) -> None:
    from ganaug.classify.backbones import read_weights as read

    read(path)


def open_generator(path: Path) -> None:
    from ganaug.integrations.generator import open_generator as load

    load(path).sample("cat", 1)


ACTIONS: dict[str, Callable[[Path], None]] = {
    "load_state": load_state,
    "read_weights": read_weights,
    "open_generator": open_generator,
}


def act(arguments: list[Any]) -> int:
    """The command line's, or the library's function's, exit code."""
    from ganaug.cli import main
    from ganaug.errors import GanaugError

    try:
        if arguments[0] in ACTIONS:
            ACTIONS[arguments[0]](arguments[1])
        else:
            main(["-q", *map(str, arguments)])
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except GanaugError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 3
    return 0


def spring(arguments: list[Any], folder: Path) -> Ended:
    """Runs the command in a copy of this process, which has loaded all that is heavy."""
    pid = os.fork()
    if pid == 0:
        code = 4
        with contextlib.suppress(BaseException):
            for number, name in ((1, "out"), (2, "errors")):
                os.dup2(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            os.chdir(folder)
            code = act(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return wait_for(pid, folder)


def list_files(folder: Path, *besides: Path) -> set[tuple[str, int, int]]:
    """Every file and folder, with size and time, but for what lies in `besides`."""
    found = set()
    for path in folder.rglob("*"):
        if not any(path.is_relative_to(other) for other in besides):
            state = path.lstat()
            found.add(
                (
                    str(path.relative_to(folder)),
                    state.st_size if path.is_file() else 0,
                    state.st_mtime_ns if path.is_file() else 0,
                )
            )
    return found


def judge(ended: Ended, named: str | None) -> str:
    """What is wrong with the answer; nothing where it is one line, or names what it goes on without."""
    errors = [line for line in ended.errors.splitlines() if line.strip()]
    if "Traceback" in ended.errors or ended.code < 0 or ended.code > 2:
        return f"ended with {ended.code}: {ended.errors[-400:]}"
    if named is not None and ended.out:  # the report of a check, which ends with 2 where nothing is left to train on
        return "" if named in ended.out else f"does not name {named}: {ended.out[-400:]}"
    if ended.code != 2:
        return f"was taken for good: {ended.out[-200:]}"
    starts = [line for line in errors if line.startswith("error: ")]
    if len(starts) != 1 or len(errors) != 1:
        return f"is not one line: {ended.errors[-400:]}"
    return "" if len(starts[0]) < 700 else f"is a line of {len(starts[0])} characters"


def all_traps(made: "Material") -> "Iterator[Trap]":
    from trapped_weights import checkpoints, classifiers, generators, runs
    from traps import archives, artefacts, manifests, recipes

    yield from archives()
    yield from recipes(made)
    yield from manifests(made)
    yield from artefacts(made)
    yield from runs(made)
    yield from checkpoints(made)
    yield from classifiers(made)
    yield from generators(made)


def choose(made: "Material", count: int | None) -> "list[Trap]":
    """All, or so many, drawn."""
    every = list(all_traps(made))
    return every if count is None else Random(SEED).sample(every, min(count, len(every)))


def measure_traps(work: Path, count: int | None) -> dict[str, Any]:
    """All figures of the traps."""
    import torch
    from traps import write_material

    for name in STAGES:  # loaded here, they cost no time in each copy of this process
        importlib.import_module(f"ganaug.{name}")
    torch.set_num_threads(1)
    made = write_material(work / "material")
    wrong: dict[str, str] = {}
    outside, executed, memory, seconds = [], [], 0.0, 0.0
    traps = choose(made, count)
    for number, trap in enumerate(traps):
        place = work / "traps" / f"{number:03d}" / "inside"
        place.mkdir(parents=True)
        arguments = trap.set_up(place)
        own = (place / "target", place / "target.csv", place / "out", place / "errors")
        before = list_files(work, *own)
        ended = spring(arguments, place)
        after = list_files(work, *own)
        if made.canary.exists() or list(place.rglob("CANARY")):
            executed.append(trap.name)
            made.canary.unlink(missing_ok=True)
        elif after != before:
            outside.append(f"{trap.name}: {sorted(after ^ before)[:3]}")
        if (place / "target").exists() and ended.code:
            outside.append(f"{trap.name}: a target in spite of the error")
        if reason := judge(ended, trap.named):
            wrong[trap.name] = reason
            print(f"{trap.name}: {reason}", file=sys.stderr, flush=True)
        memory, seconds = max(memory, ended.mebibytes), max(seconds, ended.seconds)
        shutil.rmtree(place.parent)
    kinds = sorted({trap.name.split(":")[0].split(",")[0] for trap in traps})
    return {
        "traps": len(traps),
        "kinds": kinds,
        "outside": outside,
        "executed": executed,
        "no clear line": wrong,
        "mebibytes": round(memory),
        "longest": round(seconds, 1),
    }


def bars_of(images: dict[str, Any], traps: dict[str, Any]) -> Iterator[Bar]:
    total = images["images"]
    yield Bar("damaged images", total, ">= 10,000", total >= 10_000)
    yield Bar("tracebacks and crashes", len(images["tracebacks"]), "0", not images["tracebacks"])
    yield Bar(f"files that take more than {SLOW:g} s", len(images["slow"]), "0", not images["slow"])
    most = max(images["mebibytes"][word] for word in ("check", "fit"))
    yield Bar("memory of check and fit, MiB", most, "<= 1,024", most <= 1024)
    yield Bar("unusable files that are not named", len(images["not named"]), "0", not images["not named"])
    yield Bar("traps", traps["traps"], ">= 200", traps["traps"] >= 200)
    yield Bar("files outside the target", len(traps["outside"]), "0", not traps["outside"])
    yield Bar("code executed", len(traps["executed"]), "0", not traps["executed"])
    yield Bar("traps without a clear line", len(traps["no clear line"]), "0", not traps["no clear line"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/hostile"),
        help="a folder for what is made; what is there is not made again",
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--traps", type=int, help="so many of them, drawn; all by default")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    images = measure_images(work, given.images)
    kept = work / "traps.json"
    if not kept.is_file():
        shutil.rmtree(work / "sprung", ignore_errors=True)
        (work / "sprung").mkdir()
        kept.write_text(json.dumps(measure_traps(work / "sprung", given.traps)))
    traps = json.loads(kept.read_text())
    write_record("hostile", list(bars_of(images, traps)), {"images": images, "traps": traps}, [SEED])


if __name__ == "__main__":
    main()
