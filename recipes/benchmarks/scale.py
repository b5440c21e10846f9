"""How large data may be: files checked and images written a second, memory and time of a training against the number of images, of
classes and of pixels, and of a study against the number of its processes.

    python recipes/benchmarks/scale.py [--work DIR] [--only check synthesis images classes pixels processes]

Made-up images; each figure is that of a process of its own, which is given the higher priority where the system allows it, since other
work on the machine halves any of them. A plain loop of the same kind runs in the same minute and is told beside it. Needs 4 GB of disk in
--work for a minute. Parts that are measured already are kept in scale.json.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image
from records import RESULTS, Bar, write_record

import ganaug
from ganaug.data.cache import load, write_images
from ganaug.pipeline import write_digits
from ganaug.runs import RunFolder, write_json

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
NUM_FILES, FILES_BAR = 100_000, 2000
NUM_MADE, NUM_TESTED, IMAGES_BAR = 100_000, 2000, 2000
NUM_IMAGES, MEMORY_BAR = (1_000, 10_000, 100_000, 1_000_000), 0.1
NUM_CLASSES, PIXELS, PROCESSES = (2, 10, 50, 200), (16, 32, 64, 128, 256), (1, 2, 4)
STEPS, BLOCK, REPEATS = 32, 1000, 2
FIT = {"steps": STEPS, "width": 16, "threads": 1, "precision": "fp32", "device": "cpu", "log_interval": 10}
PARTS = ("check", "synthesis", "images", "classes", "pixels", "processes")


def pictures(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, 3, size, size) uint8: smooth blobs."""
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    made = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]
    return np.stack(made).transpose(0, 3, 1, 2)


def write_files(folder: Path, count: int) -> Path:
    """Class folders of PNG files of 32 px, all different."""
    rng = np.random.default_rng(0)
    for number in range(count):
        if number % BLOCK == 0:
            block = pictures(rng, BLOCK, 32).transpose(0, 2, 3, 1)
        path = folder / f"class-{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(block[number % BLOCK])).save(path, compress_level=1)
    return folder


def write_cache(folder: Path, count: int, num_classes: int, size: int) -> None:
    """What `ganaug fit` makes of so many files: the same BLOCK images over and over."""
    names = [f"class-{k}" for k in range(num_classes)]
    block = pictures(np.random.default_rng(0), BLOCK, size)

    def parts() -> Iterator[np.ndarray]:
        for begin in range(0, count, BLOCK):
            yield block[: count - begin]

    write_images(folder / "images.npy", (count, 3, size, size), parts())
    with (folder / "index.csv").open("w") as file:
        file.write("file,class,label,split,group,sha256,width,height\n")
        for row in range(count):
            k = row % num_classes
            file.write(f"{names[k]}/{row}.png,{names[k]},{k},train,{row},{row:064x},{size},{size}\n")
    write_json(folder / "set.json", {"class_names": names, "channels": 3, "image_size": size})


def train(root: Path) -> None:
    """In a process of its own: prints the seconds of a step and the peak of its memory."""
    import torch

    from ganaug import load_recipe
    from ganaug.gan.forecast import peak_memory
    from ganaug.gan.training import train_run

    folder = RunFolder(root)
    images = load(folder.data)
    recipe = load_recipe({"data": {"mirror": "none", "image_size": images.image_size}, "fit": FIT})
    begun = time.monotonic()
    train_run(folder, "made up", images, recipe, torch.device("cpu"))
    rows = (folder.member("joint") / "metrics.csv").read_text().splitlines()
    first, last = ([float(value) for value in rows[at].split(",")[:2]] for at in (1, -1))
    step = (last[1] - first[1]) / (last[0] - first[0])
    print(json.dumps({"memory": peak_memory(), "step": step, "seconds": time.monotonic() - begun}))


def hurried(command: list[str], codes: tuple[int, ...] = (0,)) -> str:
    """Its output, if it exits with one of the codes."""

    def rise() -> None:
        with suppress(OSError):
            os.nice(-19)

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, preexec_fn=rise, env=environment)
    if found.returncode not in codes:
        raise SystemExit(found.stderr)
    return found.stdout


def processor_time() -> float:
    """Seconds of all processes that this one has started and that have ended: what other work on the machine changes least."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_training(work: Path, count: int, num_classes: int, size: int, repeats: int = 1) -> dict[str, float]:
    """The least of several, memory in MB and seconds."""
    found = []
    root = Path(tempfile.mkdtemp(dir=work))
    try:
        write_cache(root / "data", count, num_classes, size)
        for _ in range(repeats):
            found.append(json.loads(hurried([sys.executable, __file__, "--train", str(root)]).splitlines()[-1]))
            for made in root.iterdir():
                if made.name != "data":
                    shutil.rmtree(made) if made.is_dir() else made.unlink()
    finally:
        shutil.rmtree(root)
    least = {key: min(each[key] for each in found) for key in found[0]}
    shown = {
        "memory_mb": round(least["memory"] / 1e6, 1),
        "step_ms": round(1000 * least["step"], 1),
        "seconds": round(least["seconds"], 1),
    }
    print(f"{count:,} images, {num_classes} classes, {size} px: {shown}", flush=True)
    return shown


def measure_check(work: Path, files: Path | None) -> dict[str, Any]:
    folder = files or write_files(work / "files", NUM_FILES)
    names = list(folder.rglob("*.png"))[:2000]
    begun = time.monotonic()
    for name in names:
        with Image.open(name) as image:
            image.load()
    plain = len(names) / (time.monotonic() - begun)
    times, spent = [], []
    for _ in range(REPEATS):
        begun, before = time.monotonic(), processor_time()
        hurried([sys.executable, "-m", "ganaug", "check", str(folder)], codes=(0, 1))
        times.append(time.monotonic() - begun)
        spent.append(processor_time() - before)
    if files is None:
        shutil.rmtree(folder)
    count = NUM_FILES
    return {
        "files": count,
        "seconds": [round(each, 1) for each in times],
        "files_per_second": round(count / min(times)),
        "processor_seconds": round(min(spent), 1),
        "Pillow alone, in a plain loop on one core": round(plain),
    }


SYNTHESIZE = """
import json, sys, time
from ganaug import synthesize
run, out, count, raw, shards = sys.argv[1:]
begun = time.monotonic()
made = synthesize(run, out, recipe={"synthesize": {"add": {"class-0": int(count)}}, "curation": {"max_candidates": 2}},
                  raw=raw == "True", shards=shards == "True", device="cpu")
print(json.dumps({"seconds": time.monotonic() - begun, "made": sum(made.values())}))
"""


def measure_synthesis(work: Path) -> dict[str, Any]:
    """Of 32 px, networks of width 16, from the call to the whole folder, the start of the processes included."""
    root, found = work / "of-synthesis", {}
    write_cache(root / "data", 500, 10, 32)
    hurried([sys.executable, __file__, "--train", str(root)])
    for name, count, raw, shards in (
        ("without tests, files", NUM_MADE, True, False),
        ("without tests, shards", NUM_MADE, True, True),
        ("tested", NUM_TESTED, False, False),
    ):
        out, before = work / "made", processor_time()
        values = json.loads(
            hurried([sys.executable, "-c", SYNTHESIZE, str(root), str(out), str(count), str(raw), str(shards)])
        )
        if raw:
            rate = values["made"] / values["seconds"]
        else:
            candidates = sum(1 for _ in (out / "manifest.csv").open()) - 1
            rate = candidates / values["seconds"]
        found[name] = {"seconds": round(values["seconds"], 2), "images_per_second": round(rate)}
        found[name]["processor_seconds"] = round(processor_time() - before, 1)
        print(name, found[name], flush=True)
        shutil.rmtree(out)
    shutil.rmtree(root)
    return found


STUDY = """
import json, pathlib, resource, sys, time
from ganaug.gan.forecast import peak_memory
from ganaug.study.compare import compare
run, out, jobs = sys.argv[1:]
settings = {"preset": "demo", "gans": 4, "seeds": 4, "updates": 600, "jobs": int(jobs), "device": "cpu"}
begun = time.monotonic()
compare(run, out, recipe={"compare": settings})
parts = json.loads((pathlib.Path(out) / "seconds.json").read_text())
seconds = time.monotonic() - begun
largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 if int(jobs) > 1 else 0
print(json.dumps({"parts": parts, "seconds": seconds, "memory": peak_memory() + int(jobs) * largest}))
"""


def measure_processes(work: Path) -> dict[str, dict[str, Any]]:
    """A study of digits: four GANs and their images, four arms of 600 updates each. Memory as if each process were the largest."""
    fit = {"steps": 600, "width": 16, "threads": 1, "device": "cpu"}
    run = ganaug.fit(write_digits(work / "digits"), work / "of-study", recipe={"data": {"image_size": 32}, "fit": fit})
    found = {}
    for jobs in PROCESSES:
        values = json.loads(
            hurried([sys.executable, "-c", STUDY, str(run), str(work / f"study-{jobs}"), str(jobs)]).splitlines()[-1]
        )
        found[str(jobs)] = {
            "memory_mb": round(values["memory"] / 1e6, 1),
            "seconds": round(values["seconds"], 1),
            "parts": values["parts"],
        }
        print(f"{jobs} processes: {found[str(jobs)]}", flush=True)
    return found


def plot(measured: dict[str, Any]) -> None:
    """recipes/pictures/scale.png: memory and time against images, classes, pixels and processes."""
    labels = {
        "images": "images",
        "classes": "classes (1,000 images)",
        "pixels": "pixels of a side (1,000 images)",
        "processes": "processes of a study",
    }
    shown = [part for part in labels if part in measured]
    figure, axes = plt.subplots(2, len(shown), figsize=(3.4 * len(shown), 5), squeeze=False, layout="constrained")
    for column, part in enumerate(shown):
        values = {int(key): each for key, each in measured[part].items()}
        time_of = ("seconds", "the study, s") if part == "processes" else ("step_ms", "a step, ms")
        for row, (key, name) in enumerate((("memory_mb", "peak memory, MB"), time_of)):
            axis, x, y = axes[row][column], list(values), [each[key] for each in values.values()]
            axis.plot(x, y, "o-", color="#3366aa")
            if part == "pixels":  # what grows with the pixels of an image, not of its side, is a line here
                axis.plot(
                    x,
                    [y[-1] * (side / x[-1]) ** 2 for side in x],
                    "--",
                    color="#888888",
                    label="in proportion to pixels",
                )
                axis.set(yscale="log", ylim=(min(y) / 2, 2 * max(y)))
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
                axis.yaxis.set_minor_formatter(NullFormatter())
                axis.legend(fontsize=8)
            else:
                axis.set_ylim(0, 1.15 * max(y))
            axis.set(xscale="log", xlabel=labels[part])
            if column == 0 or (row and part == "processes"):
                axis.set_ylabel(name)
            if part != "images":
                axis.set_xticks(x, [str(value) for value in x], minor=False)
                axis.set_xticks([], minor=True)
            axis.grid(alpha=0.3)
    figure.savefig(PICTURES / "scale.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--files", type=Path, help=f"a folder that --only check has written already: {NUM_FILES} files")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train)
        return
    kept = RESULTS / "scale.json"
    measured: dict[str, Any] = json.loads(kept.read_text())["measured"] if kept.is_file() else {}
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        for part in arguments.only:
            if part == "check":
                measured[part] = measure_check(work, arguments.files)
            elif part == "synthesis":
                measured[part] = measure_synthesis(work)
            elif part == "images":
                measured[part] = {str(n): measure_training(work, n, 10, 32) for n in NUM_IMAGES}
            elif part == "classes":
                measured[part] = {str(n): measure_training(work, 1000, n, 32) for n in NUM_CLASSES}
            elif part == "pixels":
                measured[part] = {str(n): measure_training(work, 1000, 10, n) for n in PIXELS}
            else:
                measured[part] = measure_processes(work)
            keep(measured)
    plot(measured)


def keep(measured: dict[str, Any]) -> None:
    bars = []
    if "check" in measured:
        rate = measured["check"]["files_per_second"]
        bars.append(Bar("ganaug check, files a second", rate, f">= {FILES_BAR}", rate >= FILES_BAR))
    if "synthesis" in measured:
        rate = measured["synthesis"]["without tests, files"]["images_per_second"]
        bars.append(Bar("synthesis without tests, images a second", rate, f">= {IMAGES_BAR}", rate >= IMAGES_BAR))
    if "images" in measured:
        few, many = (measured["images"][str(n)]["memory_mb"] for n in (NUM_IMAGES[0], NUM_IMAGES[-1]))
        change = many / few - 1
        name = f"peak memory, {NUM_IMAGES[-1]:,} over {NUM_IMAGES[0]:,} images"
        bars.append(Bar(name, f"{change:+.1%}", f"+-{MEMORY_BAR:.0%}", abs(change) <= MEMORY_BAR))
    write_record("scale", bars, measured, seeds=[0])


if __name__ == "__main__":
    main()
