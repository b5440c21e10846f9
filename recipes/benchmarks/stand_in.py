"""What the commands of PyTorch-StudioGAN and lightweight-gan leave behind, without a GPU and without a GAN: see side_by_side.py.

They require the options that are used there, and write where the peers write: of the images of each class a third are deformed
real ones, a third copies of training images, a third images of other classes.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("deformed", "copied", "foreign")  # the first letter begins the file's name
SIZE, OF_EACH_KIND = 32, 20


def studiogan() -> None:
    """SAVE/samples/RUN/fake/INDEX/*.png, the classes numbered in the order of their names."""
    parser = ArgumentParser()
    for flag in ("-t", "-sf"):
        parser.add_argument(flag, action="store_true", required=True)
    for flag in ("-sf_num", "--pre_resizer", "--seed", "-cfg", "-data", "-save"):
        parser.add_argument(flag, required=True)
    asked = parser.parse_args()
    for index, folder in enumerate(sorted(Path(asked.data, "train").iterdir())):
        run = Path(asked.save, "samples", "photos-studiogan-train-2026_01_01_00_00_00")
        write_images(folder, run / "fake" / str(index), "png", int(asked.seed))


def lightweight_gan() -> None:
    """models/NAME when it trains; results/NAME-generated-CHECKPOINT/*.jpg when it generates, a checkpoint being 1,000 steps."""
    parser = ArgumentParser()
    parser.add_argument("--name", required=True)
    for flag in (
        "--data",
        "--image-size",
        "--batch-size",
        "--num-train-steps",
        "--generate-types",
        "--num-image-tiles",
    ):
        parser.add_argument(flag)
    parser.add_argument("--generate", action="store_true")
    asked = parser.parse_args()
    model, results = Path("models", asked.name), Path("results")
    if asked.generate:
        data, steps = model.read_text().splitlines()
        write_images(Path(data), results / f"{asked.name}-generated-{int(steps) // 1000}", "jpg", len(data))
    else:
        model.parent.mkdir(exist_ok=True)
        results.mkdir(exist_ok=True)
        model.write_text(f"{asked.data}\n{asked.num_train_steps}")


def write_images(own: Path, out: Path, ending: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine = sorted(own.iterdir())
    others = [path for folder in sorted(own.parent.iterdir()) if folder.name != own.name for path in folder.iterdir()]
    out.mkdir(parents=True)
    for number in range(OF_EACH_KIND):
        copied, foreign = (
            Image.open(paths[rng.integers(len(paths))]).resize((SIZE, SIZE)) for paths in (mine, sorted(others))
        )
        deformed = copied.rotate(float(rng.choice((-1, 1)) * rng.uniform(8, 25)), Image.Resampling.BICUBIC)
        for kind, image in zip(KINDS, (deformed, copied, foreign), strict=True):
            image.save(out / f"{kind[0]}{number}.{ending}")
