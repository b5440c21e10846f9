"""The demo and `ganaug run` on four real sets at 20 images a class, as a user types them: time, verdict, figures, images.

    python recipes/benchmarks/end_to_end.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only demo mnist ...]

Every case runs in a process of its own through the command line. A finished case in --work is not repeated; each
notes the commit that it was measured at.
Judged apart, on real images that neither GAN nor classifiers saw (the test split): whether an independent classifier
recognises the synthetic images, and how far they differ from one another within a class.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from records import REPOSITORY, Bar, write_record
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ganaug.data.cache import load
from ganaug.data.manifest import read_manifest
from ganaug.runs import describe_commit

SETS = ("mnist", "sign-digits", "pcb-defects", "cifar10")
DEMO_MINUTES, RUN_MINUTES = 8, 15
PAIRS = 2000


def run_case(name: str, data: Path, work: Path, budget: str) -> dict[str, Any]:
    """One case: {minutes, verdict, sentence, arms, differences, images}."""
    kept = work / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    out = work / name
    if out.exists():
        raise SystemExit(f"{out} is left over from an interrupted case, whose time would not count. Remove it.")
    command = [sys.executable, "-m", "ganaug"]
    if name == "demo":
        command += ["demo", "--out", str(out)]
    else:
        recipe = REPOSITORY / "recipes" / f"{name}.yaml"
        command += ["run", str(data / f"{name}.zip"), "--out", str(out), "--recipe", str(recipe), "--budget", budget]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    minutes = (time.monotonic() - begun) / 60
    study = json.loads((out / "study" / "study.json").read_text())
    found = {
        "commit": describe_commit(REPOSITORY),
        "minutes": round(minutes, 2),
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
        "updates": study["updates"],
        "notes": study["notes"],
        "gan_steps": json.loads((out / "run" / "members" / "joint" / "member.json").read_text())["steps"],
        "report_bytes": (out / "report.html").stat().st_size,
        "images": judge_images(out),
    }
    kept.write_text(json.dumps(found, indent=1))
    return found


def judge_images(out: Path) -> dict[str, float]:
    """`consistency`: accuracy of an SVM, trained on the real test images, on the synthetic ones, and on the real training
    images for comparison; `diversity`: mean distance within a class, synthetic over real training images (worst class too);
    `copies`: share of synthetic images nearer to a training image than all but 5 % of the test images are. All in pixels.
    """
    real = load(out / "run" / "data")
    train, train_labels = real.subset("train")
    test, test_labels = real.subset("test")
    table = read_manifest(out / "synthetic")
    made = np.stack(
        [np.atleast_3d(np.asarray(Image.open(out / "synthetic" / file))).transpose(2, 0, 1) for file in table["file"]]
    )
    made_labels = np.array([real.class_names.index(name) for name in table["class"]])
    oracle = make_pipeline(PCA(0.95, random_state=0), SVC(C=10)).fit(flat(test), test_labels)
    ratios = [
        spread(made[made_labels == k]) / spread(train[train_labels == k])
        for k in range(len(real.class_names))
        if (train_labels == k).sum() > 1
    ]
    threshold = np.quantile(nearest(flat(test), flat(train)), 0.05)
    return {
        "consistency": round(float(oracle.score(flat(made), made_labels)), 4),
        "consistency_of_real": round(float(oracle.score(flat(train), train_labels)), 4),
        "diversity": round(float(np.mean(ratios)), 3),
        "diversity_least": round(float(np.min(ratios)), 3),
        "copies": round(float((nearest(flat(made), flat(train)) < threshold).mean()), 4),
    }


def flat(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / 255


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
    """The README's table, in Markdown."""
    lines = [
        "| set | minutes | real only | + synthetic | difference | verdict | discriminator's backbone | + synthetic |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        scores = {arm: f"{100 * values['balanced_accuracy']:.1f}" for arm, values in case["arms"].items()}
        asked = case["differences"][0]
        interval = f"{100 * asked['mean']:+.1f} ({100 * asked['low']:+.1f} to {100 * asked['high']:+.1f})"
        cells = [name, f"{case['minutes']:.1f}", scores["scratch/real"], scores["scratch/real+synthetic"], interval]
        cells += [case["verdict"], scores["discriminator/real"], scores["discriminator/real+synthetic"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mnist.zip, sign-digits.zip, pcb-defects.zip, cifar10.zip"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/end_to_end"))
    parser.add_argument("--only", nargs="+", choices=("demo", *SETS), default=("demo", *SETS))
    parser.add_argument("--budget", default="10m", help="of ganaug run; its default")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cases = {name: run_case(name, arguments.data, arguments.work, arguments.budget) for name in arguments.only}
    bars = []
    for name, case in cases.items():
        limit = DEMO_MINUTES if name == "demo" else RUN_MINUTES
        bars.append(
            Bar(
                f"{name}: minutes on {'the command' if name == 'demo' else '20 images a class'}",
                case["minutes"],
                f"<= {limit}",
                case["minutes"] <= limit,
            )
        )
        if name == "demo":
            images = case["images"]
            right = images["consistency"] / images["consistency_of_real"]
            bars.append(
                Bar("demo: synthetic digits recognised, relative to real ones", round(right, 3), ">= .9", right >= 0.9)
            )
            bars.append(
                Bar(
                    "demo: least diversity within a class, relative to real",
                    images["diversity_least"],
                    ">= .5",
                    images["diversity_least"] >= 0.5,
                )
            )
    write_record("end_to_end", bars, cases, seeds=[0])
    print(format_table(cases))


if __name__ == "__main__":
    main()
