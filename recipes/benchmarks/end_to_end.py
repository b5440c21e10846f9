"""The demo and every recipe, as a user types them: cost, verdict, figures, images, and the picture of the report.

    python recipes/benchmarks/end_to_end.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only demo mnist ...]

Every case runs in a process of its own through the command line, on the cores that this one may use. A finished case, kept in
results/end_to_end/, is not repeated; each notes the commit that it was measured at. Cost is processor time, which other programs on the
machine change little; of `folder`, a folder of images with all settings and the budget left alone, the clock's.
Judged apart, on real images that neither GAN nor classifiers saw (the test split): whether an independent classifier
recognises the synthetic images, and how far they differ from one another within a class.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from records import REPOSITORY, RESULTS, Bar, write_record
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ganaug.data.cache import load
from ganaug.runs import describe_commit, write_json

KEPT = RESULTS / "end_to_end"
RECIPES, PICTURES = REPOSITORY / "recipes", REPOSITORY / "recipes" / "pictures"
CASES = {  # the archive of each, and what the command has beside it and the recipe
    "mnist": ("mnist.zip", ()),
    "pcb-defects": ("pcb-defects.zip", ()),
    "sign-digits": ("sign-digits.zip", ()),
    "imbalanced": ("pcb-defects.zip", ()),
    "unlabeled": ("mnist.zip", ("--unlabeled", "mnist.zip")),
    "other-tool": ("mnist.zip", ()),
    "cifar10": ("cifar10.zip", ()),
}
DEMO, FOLDER = "demo", "folder"
DEMO_MINUTES, RUN_MINUTES, FOLDER_MINUTES = 8, 15, 10  # with two cores
FOLDER_ARCHIVE, FOLDER_DESIGN = "mnist.zip", (4, 6)  # arms and repetitions
PAIRS = 2000
BASELINE, SHOWN = "scratch/real", (1280, 1400)  # pixels of the report's picture


def command_of(name: str) -> list[str]:
    """In a folder with the archive beside, so that nothing tells of this machine's folders."""
    if name == DEMO:
        return ["-m", "ganaug", "demo", "--out", "result"]
    if name == FOLDER:
        return ["-m", "ganaug", "run", "images", "--out", "result", "--limit-per-class", "20", "--image-size", "32"]
    archive, others = CASES[name]
    script = RECIPES / f"{name}.py"
    if script.is_file():
        return [str(script), archive, "--out", "result"]
    recipe = ["--recipe", str(RECIPES / f"{name}.yaml")]
    return ["-m", "ganaug", "run", archive, "--out", "result", *others, *recipe]


def run_case(name: str, data: Path, work: Path) -> dict[str, Any]:
    """One case: its cost, the verdict, means of the arms, the differences in balanced accuracy, and what the images are like."""
    kept = KEPT / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    folder, out = work / name, work / name / "result"
    if folder.exists():
        raise SystemExit(f"{folder} is left over from an interrupted case, whose time would not count. Remove it.")
    folder.mkdir(parents=True)
    if name == FOLDER:
        shutil.unpack_archive(data / FOLDER_ARCHIVE, folder / "images")
    elif name != DEMO:
        shutil.copy(data / CASES[name][0], folder)
    begun, spent = time.monotonic(), processor_seconds()
    subprocess.run([sys.executable, *command_of(name)], check=True, cwd=folder)
    cost = {
        "minutes": round((time.monotonic() - begun) / 60, 2),
        "processor_minutes": round((processor_seconds() - spent) / 60, 2),
    }
    found = {"commit": describe_commit(REPOSITORY), **cost, **describe_result(folder)}
    if name in CASES:
        picture_report(out / "report.html", PICTURES / f"report-{name}.webp")
    write_json(kept, found)
    return found


def describe_result(folder: Path) -> dict[str, Any]:
    """What the command has left there, and the report once more, both as if it had been typed in no particular place."""
    out, place = folder / "result", f"{folder.resolve()}/"
    for path in [path for path in (out / "study").rglob("*") if path.suffix in (".json", ".yaml", ".md")]:
        path.write_text(path.read_text().replace(place, ""))
    subprocess.run(
        [sys.executable, "-m", "ganaug", "report", "result/study", "--out", "result/report.html"],
        check=True,
        cwd=folder,
    )
    study = json.loads((out / "study" / "study.json").read_text())
    return {
        "verdict": study["verdict"],
        "sentence": study["sentence"],
        "arms": {
            arm: {key: round(float(np.mean(v)), 6) for key, v in scores.items()}
            for arm, scores in study["arms"].items()
        },
        "differences": [
            {
                key: round(value, 6) if isinstance(value, float) else value
                for key, value in entry.items()
                if key != "values"
            }
            for entry in study["differences"]
            if entry["metric"] == study["primary"]["metric"]
        ],
        "repetitions": len(next(iter(study["arms"].values()))["balanced_accuracy"]),
        "updates": study["updates"],
        "notes": study["notes"],
        "gan_steps": json.loads((out / "run" / "members" / "joint" / "member.json").read_text())["steps"],
        "report_bytes": (out / "report.html").stat().st_size,
        "images": judge_images(out),
    }


def processor_seconds() -> float:
    """Of all processes that this one has started, and those of theirs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def picture_report(page: Path, target: Path) -> None:
    """The top of the page, as a reader first sees it."""
    from playwright.sync_api import sync_playwright

    width, height = SHOWN
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        shot = target.with_suffix(".png")
        tab.screenshot(path=shot)
        browser.close()
    Image.open(shot).convert("RGB").save(target, quality=80, method=6)
    shot.unlink()


def judge_images(out: Path) -> dict[str, float]:
    """`consistency`: accuracy of an SVM, trained on the real test images, on the synthetic ones, and on the real training
    images for comparison; `diversity`: mean distance within a class, synthetic over real training images (worst class too);
    `copies`: share of synthetic images nearer to a training image than all but 5 % of the test images are. All in pixels.
    """
    real = load(out / "run" / "data")
    train, train_labels = real.subset("train")
    test, test_labels = real.subset("test")
    made, made_labels = read_made(out / "synthetic", real.class_names, real.images.shape[2])
    oracle = make_pipeline(PCA(0.95, random_state=0), SVC(C=10)).fit(flat(test), test_labels)
    ratios = [
        spread(made[made_labels == k]) / spread(train[train_labels == k])
        for k in range(len(real.class_names))
        if (train_labels == k).sum() > 1 and (made_labels == k).sum() > 1
    ]
    threshold = np.quantile(nearest(flat(test), flat(train)), 0.05)
    return {
        "consistency": round(float(oracle.score(flat(made), made_labels)), 4),
        "consistency_of_real": round(float(oracle.score(flat(train), train_labels)), 4),
        "diversity": round(float(np.mean(ratios)), 3),
        "diversity_least": round(float(np.min(ratios)), 3),
        "copies": round(float((nearest(flat(made), flat(train)) < threshold).mean()), 4),
    }


def read_made(
    folder: Path, class_names: Sequence[str], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, C, size, size) in class folders, and their labels (N,)."""
    images, labels = [], []
    for label, name in enumerate(class_names):
        for path in sorted((folder / name).glob("*.png")):
            image = Image.open(path)
            pixels = np.asarray(
                image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)
            )
            images.append(np.atleast_3d(pixels).transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.array(labels)


def flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def spread(images: npt.NDArray[np.uint8]) -> float:
    """Mean distance between two different images, over random pairs."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(images), size=PAIRS), rng.integers(len(images), size=PAIRS)
    different = first != second
    values = flat(images)
    return float(np.linalg.norm(values[first[different]] - values[second[different]], axis=1).mean())


def nearest(queries: npt.NDArray[np.float32], references: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    squared = (queries**2).sum(1)[:, None] + (references**2).sum(1)[None] - 2 * queries @ references.T
    return np.sqrt(np.maximum(squared.min(axis=1), 0))


def format_table(cases: dict[str, Any]) -> str:
    """The table of recipes/README.md: the baseline, the first arm that is compared with it, and the best of the others."""
    lines = [
        "| recipe | processor minutes | real only | arm | balanced accuracy | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        scores = {arm: f"{100 * values['balanced_accuracy']:.1f}" for arm, values in case["arms"].items()}
        for number, asked in enumerate(row for row in case["differences"] if row["baseline"] == BASELINE):
            interval = f"{100 * asked['mean']:+.1f} ({100 * asked['low']:+.1f} to {100 * asked['high']:+.1f})"
            first = [f"`{name}`", f"{case['processor_minutes']:.0f}", scores[BASELINE]] if not number else ["", "", ""]
            lines.append(f"| {' | '.join([*first, asked['arm'], scores[asked['arm']], interval])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mnist.zip, sign-digits.zip and the others"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/end_to_end"))
    parser.add_argument("--only", nargs="+", choices=(DEMO, FOLDER, *CASES), default=(DEMO, FOLDER, *CASES))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    cases = {name: run_case(name, arguments.data, arguments.work) for name in arguments.only}
    bars = []
    for name, case in cases.items():
        if name == FOLDER:
            whole = (len(case["arms"]), case["repetitions"]) == FOLDER_DESIGN
            asked = "{} arms x {} seeds".format(*FOLDER_DESIGN)
            met = whole and case["minutes"] <= FOLDER_MINUTES
            bars.append(Bar(f"folder -> verdict, {asked}: minutes", case["minutes"], f"<= {FOLDER_MINUTES}", met))
            continue
        limit = DEMO_MINUTES if name == DEMO else RUN_MINUTES
        minutes = round(case["processor_minutes"] / 2, 1)
        bars.append(Bar(f"{name}: processor minutes for each of two cores", minutes, f"<= {limit}", minutes <= limit))
        if name == DEMO:
            images = case["images"]
            right = round(images["consistency"] / images["consistency_of_real"], 3)
            least = images["diversity_least"]
            bars.append(Bar("demo: synthetic digits recognised, relative to real ones", right, ">= .9", right >= 0.9))
            bars.append(Bar("demo: least diversity within a class, relative to real", least, ">= .5", least >= 0.5))
    write_record("end_to_end", bars, cases, seeds=[0])
    print(format_table(cases))


if __name__ == "__main__":
    main()
