"""The same job with PyTorch-StudioGAN, with lightweight-gan and with ganaug: what must be typed and written by hand for each.

    python recipes/benchmarks/side_by_side.py

Counted are the commands of the page recipes/docs/howto/side-by-side.md and the files in peers/ that they need. A step is a command
typed or a file written; a line is one of code or of settings (no blank ones, comments or docstrings; a wrapped shell command is one),
or a command typed.

The hand-written files are run, on a few digits, as they stand but for fewer seeds, updates and pixels. The peers need a GPU;
`stand_in.py` writes what they would. The copies among it, and those planted among the photographs, must be gone at the end. What the
classifiers score then means nothing. The commands of ganaug are run as those of every page, by the tests.
"""

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from records import HERE, REPOSITORY, Bar, write_record
from sklearn.datasets import load_digits
from stand_in import KINDS, SIZE

PAGE = REPOSITORY / "recipes" / "docs" / "howto" / "side-by-side.md"
PEERS = HERE / "peers"
SHARED = ("split.py", "curate.py", "classify.py", "verdict.py")
FILES = {
    "PyTorch-StudioGAN": ("studiogan.yaml", "studiogan.sh", *SHARED),
    "lightweight-gan": ("lightweight_gan.sh", *SHARED),
    "ganaug": (),
}
PEER_TOOLS = [tool for tool in FILES if tool != "ganaug"]
SHARE = 0.2  # of a peer's steps and lines, at most

DIGITS, PER_CLASS, COPIES = (
    {0: "darkred", 1: "darkgreen", 7: "darkblue"},
    20,
    3,
)  # coloured: few updates tell them apart
SEEDS = 2
SMALLER = {  # what a file says: what it says here
    "classify.py": {
        "SEEDS, SIZE, UPDATES, BATCH = 6, 64, 3200, 64": f"SEEDS, SIZE, UPDATES, BATCH = {SEEDS}, {SIZE}, 20, 12"
    },
    "studiogan.sh": {"0 1 2 3 4 5": " ".join(map(str, range(SEEDS)))},
    "lightweight_gan.sh": {"0 1 2 3 4 5": " ".join(map(str, range(SEEDS)))},
}
STAND_INS = {"studiogan": "PyTorch-StudioGAN/src/main.py", "lightweight_gan": "bin/lightweight_gan"}


# counting


def commands_of(page: str, tool: str) -> list[str]:
    """The commands in the first block of code of the tool's section; a line may hold only one."""
    found = re.search(rf"^### {re.escape(tool)}\n.*?^```(?:text|sh)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"{PAGE} has no section '### {tool}' with a block of commands.")
    return [line for line in found[1].splitlines() if line.strip()]


def count_lines(path: Path) -> int:
    """Lines that hold code or settings."""
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    text = re.sub(r'\A""".*?"""', "", text, flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())


def count(tool: str, page: str) -> dict[str, Any]:
    commands = commands_of(page, tool)
    files = {name: count_lines(PEERS / name) for name in FILES[tool]}
    return {
        "commands": len(commands),
        "files": len(files),
        "steps": len(commands) + len(files),
        "lines": len(commands) + sum(files.values()),
        "lines_of_files": files,
        "typed": commands,
    }


# running


def write_photos(folder: Path) -> None:
    """`folder`/photos/<digit>/*.png: a few digits of each class and, of some of them, a mirrored and brighter copy."""
    scans = load_digits()
    for digit, colour in DIGITS.items():
        target = folder / "photos" / str(digit)
        target.mkdir(parents=True)
        for number, pixels in enumerate(scans.images[scans.target == digit][: PER_CLASS - COPIES]):
            scan = Image.fromarray((pixels * 15).astype(np.uint8)).resize((40, 40), Image.Resampling.BILINEAR)
            image = ImageOps.colorize(scan, colour, "lightgray")
            image.save(target / f"{number}.png")
            if number < COPIES:
                ImageOps.mirror(image).point(lambda value: value + 30).save(target / f"{number}-again.png")


def run_tool(tool: str, commands: list[str]) -> dict[str, Any]:
    """What came of the page's commands, in a folder of their own, checked."""
    with TemporaryDirectory(prefix="side-by-side-") as work:
        return check(Path(work), run_commands(tool, commands, Path(work)))


def run_commands(tool: str, commands: list[str], work: Path) -> str:
    """Runs the page's commands in `work`, beside the hand-written files and the stand-ins. What the last one says."""
    write_photos(work)
    for name in FILES[tool]:
        text = (PEERS / name).read_text(encoding="utf-8")
        for usual, here in SMALLER.get(name, {}).items():
            assert usual in text, f"{name} does not hold {usual!r}"
            text = text.replace(usual, here)
        (work / name).write_text(text, encoding="utf-8")
    for name, path in STAND_INS.items():
        start = (
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(HERE)!r})\nimport stand_in\nstand_in.{name}()\n"
        )
        (work / path).parent.mkdir(parents=True)
        (work / path).write_text(start, encoding="utf-8")
        (work / path).chmod(0o755)
    places = (str(work / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    environment = os.environ | {"PATH": os.pathsep.join(places)}
    said = ""
    for line in commands:
        ended = subprocess.run(shlex.split(line), cwd=work, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"{tool}: {line}\n{ended.stdout}{ended.stderr}")
        said = ended.stdout
    return said


def check(work: Path, said: str) -> dict[str, Any]:
    """How many images of each kind are left among the synthetic ones, and the verdict. None of the copies may be."""
    train, valid = (list((work / "data" / part).rglob("*.png")) for part in ("train", "valid"))
    assert len(train) + len(valid) < len(list((work / "photos").rglob("*.png"))), "no copy was left out"
    names = {path.relative_to(work / "data" / "train").as_posix() for path in train}
    leaks = [path for path in valid if twin_of(path.relative_to(work / "data" / "valid").as_posix()) in names]
    assert not leaks, f"held out, though trained on: {leaks}"
    kept = [path.name.removeprefix("synthetic-") for path in (work / "augmented").glob("*/*/synthetic-*")]
    kinds = {kind: sum(name.startswith(kind[0]) for name in kept) for kind in KINDS}
    assert not kinds["copied"] and kinds["foreign"] < 0.2 * kinds["deformed"], kinds
    assert (work / "page.html").read_text(encoding="utf-8").count("<img") == len(DIGITS)
    assert re.match(r"(helps|hurts|equivalent|inconclusive): [+-]", said), said
    return {"kept": kinds, "said": said.strip()}


def twin_of(name: str) -> str:
    """The planted copy of an image, or the image of a planted copy."""
    return name.replace("-again", "") if "-again" in name else name.replace(".png", "-again.png", 1)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    counted = {tool: count(tool, page) for tool in FILES}
    with ThreadPoolExecutor() as pool:
        running = {tool: pool.submit(run_tool, tool, counted[tool]["typed"]) for tool in PEER_TOOLS}
        ran = {tool: future.result() for tool, future in running.items()}
    bars = []
    for peer in PEER_TOOLS:
        for what in ("steps", "lines"):
            share = counted["ganaug"][what] / counted[peer][what]
            bars.append(Bar(f"ganaug's {what}, of those of {peer}", round(share, 3), f"<= {SHARE}", share <= SHARE))
    write_record("side_by_side", bars, {"counted": counted, "ran": ran}, seeds=list(range(SEEDS)))


if __name__ == "__main__":
    main()
