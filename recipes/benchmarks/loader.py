"""How fast AugmentedDataset feeds a training, next to torchvision's ImageFolder of the same files with the same transform.

    python recipes/benchmarks/loader.py [--images 4000] [--repetitions 9]

Both are read through a DataLoader, epoch by epoch in turn; the median of the ratios counts. AugmentedDataset as it is keeps decoded
files in memory; how long that takes at its start, and how it does without (megabytes=0), reading each file anew as ImageFolder does,
is told beside the bars.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from records import Bar, write_record
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ganaug import AugmentedDataset

NUM_CLASSES, SIZE, BATCH = 10, 64, 64
WORKERS = (0, 2)
MEGABYTES = {"in memory": 256.0, "read anew": 0.0}
BAR = 1.0


def write_folders(root: Path, num_images: int) -> tuple[Path, Path, Path]:
    """Real and synthetic images, as many of each, and all of them once more in one folder of links."""
    rng = np.random.default_rng(0)
    real, synthetic, together = (root / name for name in ("real", "synthetic", "together"))
    rows = ["file,class,source,seed"]
    for number in range(num_images):
        name = f"class-{number % NUM_CLASSES}"
        source, file = (real, f"{number}.png") if number < num_images // 2 else (synthetic, f"synthetic-{number}.png")
        for folder in (source, together):
            (folder / name).mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(source / name / file)
        (together / name / file).symlink_to(source / name / file)
        if source == synthetic:
            rows.append(f"{name}/{file},{name},synthetic,{number}")
    (synthetic / "manifest.csv").write_text("\n".join(rows) + "\n")
    return real, synthetic, together


def images_per_second(loader: DataLoader[Any]) -> float:
    begun = time.perf_counter()
    num_images = sum(len(labels) for _, labels in loader)
    return num_images / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    bars, measured = [], {"image_size": SIZE, "images": arguments.images}
    with tempfile.TemporaryDirectory() as work:
        real, synthetic, together = write_folders(Path(work), arguments.images)
        datasets: dict[str, Any] = {"ImageFolder": ImageFolder(together, transform)}
        for name, megabytes in MEGABYTES.items():
            begun = time.perf_counter()
            datasets[name] = AugmentedDataset(real, synthetic, transform=transform, megabytes=megabytes)
            measured[f"seconds to start, {name}"] = round(time.perf_counter() - begun, 2)
            assert len(datasets[name]) == len(datasets["ImageFolder"]) == arguments.images
        for workers in WORKERS:
            loaders = {
                name: DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
                for name, dataset in datasets.items()
            }
            for loader in loaders.values():
                images_per_second(loader)  # starts the workers, fills the caches of the file system
            rounds = [
                {name: images_per_second(loader) for name, loader in loaders.items()}
                for _ in range(arguments.repetitions)
            ]
            measured[f"images per second, {workers} workers"] = {
                name: [round(each[name]) for each in rounds] for name in datasets
            }
            ratios = {
                name: statistics.median(each[name] / each["ImageFolder"] for each in rounds) for name in MEGABYTES
            }
            measured[f"over ImageFolder, {workers} workers"] = {name: round(ratio, 3) for name, ratio in ratios.items()}
            ratio = ratios["in memory"]
            what = f"images per second over ImageFolder's, {workers} workers"
            bars.append(Bar(what, round(ratio, 3), f">= {BAR}", ratio >= BAR))
    write_record("loader", bars, measured, seeds=[0])


if __name__ == "__main__":
    main()
