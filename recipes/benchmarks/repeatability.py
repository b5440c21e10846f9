"""What repeats exactly, and how far the rest comes apart: same seed with the same threads, with others, with other versions.

    python recipes/benchmarks/repeatability.py [--work DIR] [--other PYTHON ...]

Digits of the demo. Of a GAN in training: weights after some steps, and the pictures of the same noise. Of a finished run: the images of
the same seeds, and a study with one and with two processes. `--other`: interpreters with other versions of the libraries, which start
from the same run. Each way is a process of its own. Some five minutes on one core.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from records import HERE, REPOSITORY, Bar, write_record

STEPS = (1, 10, 100, 400)  # after which the networks are looked at
WIDTH, SIZE, PER_CLASS, WANTED = 16, 32, 20, 20
LEVELS = 2  # grey levels that another number of threads, or another version, may change in an image of a given run
FIRST_STEP = 1e-3  # of the first step's length, by which its weights may come apart
Array = npt.NDArray[np.float32]
# The threads, the seed and the precision of each training.
WAYS = {
    "as it is": (1, 0, "bf16"),
    "again": (1, 0, "bf16"),
    "two threads": (2, 0, "bf16"),
    "fp32": (1, 0, "fp32"),
    "fp32, again": (1, 0, "fp32"),
    "fp32, two threads": (2, 0, "fp32"),
    "another seed": (1, 1, "bf16"),
}


def train(run: Path, threads: int, seed: int, precision: str, target: Path) -> None:
    """Keeps the weights and the pictures of a GAN of the run's images after each of STEPS."""
    import torch

    from ganaug.data.cache import load
    from ganaug.data.images import to_uint8
    from ganaug.gan.member import build_state, network_shape
    from ganaug.gan.steps import TrainingData, train_step
    from ganaug.gan.strategies import joint
    from ganaug.settings import FitSettings

    torch.set_num_threads(threads)
    images, labels = load(run / "data").subset("train")
    num_classes = int(labels.max()) + 1
    rows = tuple(torch.from_numpy(np.flatnonzero(labels == k)) for k in range(num_classes))
    data = TrainingData(torch.from_numpy(images), rows, tuple(range(num_classes)), "none")
    settings = FitSettings(width=WIDTH, seed=seed, device="cpu")
    (member,) = joint(num_classes)
    state = build_state(network_shape(data, member, settings), settings, member, torch.device("cpu"))
    noise = torch.randn(100, state.generator.latent_size, generator=torch.Generator().manual_seed(0))
    shown = torch.arange(num_classes).repeat(100 // num_classes)
    found = {}

    def keep(step: int) -> None:
        networks = (state.generator, state.discriminator)
        found[f"weights-{step}"] = torch.cat([w.detach().flatten() for net in networks for w in net.parameters()])
        with torch.no_grad():
            found[f"images-{step}"] = to_uint8(state.generator.eval()(noise[: len(shown)], shown))
        state.generator.train()

    keep(0)
    for step in range(1, STEPS[-1] + 1):
        train_step(state, data, settings, min(1.0, 2 * step / STEPS[-1]), getattr(torch, precision_name(precision)))
        if step in STEPS:
            keep(step)
    np.savez(target, allow_pickle=False, **{name: value.numpy() for name, value in found.items()})


def precision_name(precision: str) -> str:
    return {"bf16": "bfloat16", "fp32": "float32"}[precision]


def make(run: Path, threads: int, target: Path) -> None:
    """The first images of every class, which no test has chosen from."""
    import ganaug

    tests = ["copy", "wrong-class", "outlier", "unrealistic", "duplicate"]
    recipe = {
        "fit": {"threads": threads},
        "synthesize": {"per_class": WANTED},
        "curation": {"without": tests, "keep": 1.0},
    }
    ganaug.synthesize(run, target, recipe=recipe, device="cpu")


def study(run: Path, jobs: int, target: Path) -> None:
    import ganaug

    settings = {"preset": "demo", "seeds": 2, "updates": 60, "pool_per_class": 10, "jobs": jobs, "device": "cpu"}
    ganaug.compare(run, target, recipe={"compare": settings})


def prepare(run: Path) -> None:
    """A short training, of which everything else starts."""
    import ganaug
    from ganaug.pipeline import write_digits

    digits = write_digits(run.with_name("digits"), per_class=PER_CLASS)
    settings = {"steps": STEPS[-1], "width": WIDTH, "threads": 1, "device": "cpu"}
    ganaug.fit(digits, run, recipe={"data": {"image_size": SIZE}, "fit": settings})


def start(python: str, what: str, *arguments: object, threads: int = 1) -> None:
    """One of these functions in a process of its own."""
    place = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(REPOSITORY)}
    command = [python, str(HERE / "repeatability.py"), "--do", what, *map(str, arguments)]
    subprocess.run(command, check=True, env=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare_trainings(one: Path, other: Path) -> dict[str, dict[str, float]]:
    """After each of STEPS: the distance of the weights, relative to how far they have come, and the mean difference of the pictures."""
    found: dict[str, dict[str, float]] = {}
    with np.load(one) as a, np.load(other) as b:
        begun = a["weights-0"]
        for step in STEPS:
            way = float(np.linalg.norm(a[f"weights-{step}"] - begun))
            apart = float(np.linalg.norm(a[f"weights-{step}"] - b[f"weights-{step}"]))
            levels = np.abs(a[f"images-{step}"].astype(int) - b[f"images-{step}"].astype(int)).mean()
            found[str(step)] = {"weights": round(apart / way, 6), "grey levels": round(float(levels), 3)}
    return found


def compare_images(one: Path, other: Path) -> dict[str, float]:
    """Over all files of both folders, of which each must be in the other."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    if names != sorted(path.relative_to(other) for path in other.rglob("*.png")) or not names:
        raise RuntimeError(f"{one} and {other} do not hold the same files")
    pairs = [
        (np.asarray(Image.open(one / n)).astype(int), np.asarray(Image.open(other / n)).astype(int)) for n in names
    ]
    gaps = np.stack([np.abs(a - b) for a, b in pairs])
    return {"images": len(names), "most levels": int(gaps.max()), "changed pixels": round(float((gaps > 0).mean()), 5)}


def versions_of(python: str) -> dict[str, str]:
    code = "import json; from ganaug.runs import describe_versions; print(json.dumps(describe_versions()))"
    place = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    found: dict[str, str] = json.loads(
        subprocess.run([python, "-c", code], check=True, capture_output=True, env=place).stdout
    )
    return found


def measure(work: Path, others: list[str]) -> dict[str, Any]:
    run = work / "run"
    start(sys.executable, "prepare", run)
    trained = {}
    for way, (threads, seed, precision) in WAYS.items():
        trained[way] = work / f"{way}.npz"
        start(sys.executable, "train", run, threads, seed, precision, trained[way], threads=threads)
    pairs = {
        "same threads": ("as it is", "again"),
        "two threads": ("as it is", "two threads"),
        "fp32, same threads": ("fp32", "fp32, again"),
        "fp32, two threads": ("fp32", "fp32, two threads"),
        "another seed": ("as it is", "another seed"),
    }
    trainings = {name: compare_trainings(trained[a], trained[b]) for name, (a, b) in pairs.items()}
    folders = {"as it is": (sys.executable, 1), "same threads": (sys.executable, 1), "two threads": (sys.executable, 2)}
    folders |= {f"other versions {number}": (python, 1) for number, python in enumerate(others, 1)}
    for name, (python, threads) in folders.items():
        start(python, "make", run, threads, work / name, threads=threads)
    images = {name: compare_images(work / "as it is", work / name) for name in folders if name != "as it is"}
    for jobs in (1, 2):
        start(sys.executable, "study", run, jobs, work / f"study-{jobs}", threads=jobs)
    scores = [json.loads((work / f"study-{jobs}" / "study.json").read_text())["arms"] for jobs in (1, 2)]
    return {
        "trainings": trainings,
        "images of a run": images,
        "study, one and two processes": "identical" if scores[0] == scores[1] else "different",
        "other versions": {f"other versions {n}": versions_of(python) for n, python in enumerate(others, 1)},
    }


def bars_of(found: dict[str, Any]) -> list[Bar]:
    def add(name: str, value: float, most: float) -> None:
        bars.append(Bar(name, value, f"<= {most:g}", value <= most))

    bars: list[Bar] = []
    trainings, images = found["trainings"], found["images of a run"]
    for name in ("same threads", "fp32, same threads"):
        add(f"training, {name}: weights apart, at most", max(each["weights"] for each in trainings[name].values()), 0)
    apart = trainings["fp32, two threads"]["1"]["weights"]
    add("training, fp32, two threads: weights apart after a step", apart, FIRST_STEP)
    add("images of a run, same threads: grey levels, at most", images["same threads"]["most levels"], 0)
    for name in [name for name in images if name != "same threads"]:
        add(f"images of a run, {name}: grey levels, at most", images[name]["most levels"], LEVELS)
    same = found["study, one and two processes"]
    bars.append(Bar("study, one and two processes", same, "identical", same == "identical"))
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/repeatability"))
    parser.add_argument("--other", nargs="*", default=[], metavar="PYTHON")
    parser.add_argument("--do", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        what, run, *rest = given.do
        if what == "train":
            train(Path(run), int(rest[0]), int(rest[1]), rest[2], Path(rest[3]))
        elif what == "prepare":
            prepare(Path(run))
        else:
            {"make": make, "study": study}[what](Path(run), int(rest[0]), Path(rest[1]))
        return
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    found = measure(given.work.resolve(), given.other)
    write_record("repeatability", bars_of(found), found, seeds=[0, 1])


if __name__ == "__main__":
    main()
