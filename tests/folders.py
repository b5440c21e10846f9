"""Small folders of real and of synthetic images."""

import numpy as np
from PIL import Image


def write_image(path, seed=0, size=(24, 24), mode="RGB", **options):
    """A picture of smooth random blobs, which no two seeds share."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **options)
    return path


def write_images(root, counts, mode="RGB", size=24, first_seed=0):
    """`write_images(root, {"cat": 3, "train/dog": 2})`: that many pictures of smooth random blobs in each place."""
    seed = first_seed
    for place, count in counts.items():
        for index in range(count):
            seed += 1
            write_image(root / place / f"{index}.png", seed, (size, size), mode)
    return root


def write_synthetic(root, counts, mode="L", size=24):
    """As `ganaug synthesize` would, the last of each class first."""
    write_images(root, counts, mode, size, first_seed=1000)
    rows = [(name, index) for name, count in counts.items() for index in reversed(range(count))]
    rows.sort(key=lambda row: -row[1])
    lines = [f"{name}/{index}.png,{name},synthetic,{index}" for name, index in rows]
    (root / "manifest.csv").write_text("\n".join(["file,class,source,seed", *lines]) + "\n")
    return root


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))
