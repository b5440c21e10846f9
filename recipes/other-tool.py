"""Another tool's images: are they right, varied, and no copies, and do they help? Here imbalanced-learn's SMOTE makes 200 digits a class.

    python recipes/other-tool.py mnist.zip --out result

SMOTE puts each new image between two near ones of its class, pixel by pixel. For images of a tool of your own, in class folders, only
the last four calls are needed. The tool must not have seen test/, by which the images are judged.
"""

import argparse
import logging
import zipfile
from pathlib import Path

import numpy as np
from imblearn.over_sampling import SMOTE
from PIL import Image
from torchvision.datasets import ImageFolder

import ganaug

PER_CLASS, ADDED = 20, 200
RECIPE = {
    "data": {"image_size": 32, "mirror": "none"},
    "fit": {"steps": 4000},
    "compare": {
        "preset": "demo",
        "arms": ["scratch/real", "scratch/real+synthetic", "discriminator/real"],
        "updates": 3200,
    },
}


def draw_digits(archive: Path, target: Path) -> None:
    """train/ with the first 20 of every class, and test/ whole."""
    with zipfile.ZipFile(archive) as packed:
        counts: dict[str, int] = {}
        for name in sorted(packed.namelist()):
            folder = str(Path(name).parent)
            counts[folder] = counts.get(folder, 0) + 1
            if name.endswith(".png") and (name.startswith("test/") or counts[folder] <= PER_CLASS):
                packed.extract(name, target)


def oversample(real: Path, target: Path) -> None:
    """Writes what SMOTE adds to the images of `real`."""
    folder = ImageFolder(real)
    images = np.stack([np.asarray(image.convert("L")) for image, _ in folder])
    totals = dict.fromkeys(range(len(folder.classes)), PER_CLASS + ADDED)
    flat, labels = SMOTE(sampling_strategy=totals, random_state=0).fit_resample(
        images.reshape(len(images), -1).astype(np.float32), folder.targets
    )
    for number in range(len(images), len(flat)):  # the real ones come first
        path = target / folder.classes[labels[number]] / f"smote-{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat[number].round().astype(np.uint8).reshape(images.shape[1:])).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", type=Path, help="mnist.zip: train/<class>/*.png and test/<class>/*.png")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args()
    out: Path = arguments.out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    draw_digits(arguments.digits, out / "digits")
    oversample(out / "digits" / "train", out / "synthetic")

    found = ganaug.audit(out / "synthetic", out / "digits", out / "audited", recipe=RECIPE)
    ganaug.fit(out / "digits", out / "run", recipe=RECIPE)
    study = ganaug.compare(out / "run", out / "study", synthetic=out / "synthetic", recipe=RECIPE)
    ganaug.report(out / "study", out / "report.html")
    kept = sum(image["kept"] for image in found["images"])
    print(f"{kept} of {len(found['images'])} images passed the tests. {study.sentence}")


if __name__ == "__main__":
    main()
