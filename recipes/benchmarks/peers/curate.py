"""data/train and candidates/SEED/CLASS/* -> augmented/SEED/CLASS/*, without copies of training images and wrong classes."""

import shutil
from collections import Counter
from pathlib import Path

import torch
from classify import SEEDS, fit, load, predict, read
from torch import Tensor
from torchvision.datasets import ImageFolder

PER_CLASS = 50


def thumbnails(images: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(images, size=16, mode="area").flatten(1)


real, labels = load("data/train")
apart = torch.cdist(thumbnails(real), thumbnails(real)).fill_diagonal_(torch.inf).min(dim=1).values
seen = thumbnails(torch.cat([real, real.flip(-1)]))
for seed in range(SEEDS):
    judge = fit(real, labels, 100 + seed)
    shutil.copytree("data/train", f"augmented/{seed}")
    made, wanted = load(f"candidates/{seed}")
    copied = torch.cdist(thumbnails(made), seen).min(dim=1).values < apart.quantile(0.05)
    passed = (predict(judge, made) == wanted) & ~copied
    folder, kept = ImageFolder(f"candidates/{seed}", read), Counter()
    for (path, label), good in zip(folder.samples, passed.tolist(), strict=True):
        if good and kept[folder.classes[label]] < PER_CLASS:
            kept[folder.classes[label]] += 1
            shutil.copy(path, Path(f"augmented/{seed}", folder.classes[label], f"synthetic-{Path(path).name}"))
    print("seed", seed, "of", len(made), "copies:", int(copied.sum()), "kept:", dict(kept))
