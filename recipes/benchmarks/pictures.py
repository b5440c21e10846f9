"""The README's pictures: the first real training images of each class beside the first synthetic ones, not picked.

python recipes/benchmarks/pictures.py STUDY recipes/pictures/NAME.png [--scale 3] [--columns 8]
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganaug.data.images import LINE, image_grid

Pixels = npt.NDArray[np.uint8]

GAP = 12  # pixels between real and synthetic images


def draw(study: Path, columns: int, scale: int) -> Image.Image:
    """The first `columns` images of each kind in a study's report."""
    with np.load(study / "examples.npz", allow_pickle=False) as examples:
        real, synthetic = (np.moveaxis(examples[kind][:, :columns], 4, 2) for kind in ("real", "synthetic"))
    return side_by_side(real, synthetic, scale)


def side_by_side(real: Pixels, synthetic: Pixels, scale: int) -> Image.Image:
    """Rows are classes; on the left real images (K, n, C, S, S), on the right synthetic ones; each pixel `scale` wide."""
    sheets = [enlarge(image_grid(images, gap=1), scale) for images in (real, synthetic)]
    gap = np.full((sheets[0].shape[0], GAP * scale // 2, sheets[0].shape[2]), LINE, np.uint8)
    return Image.fromarray(np.concatenate([sheets[0], gap, sheets[1]], axis=1).squeeze())


def enlarge(sheet: Pixels, scale: int) -> Pixels:
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--scale", type=int, default=3)
    arguments = parser.parse_args()
    draw(arguments.study, arguments.columns, arguments.scale).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
