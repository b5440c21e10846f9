"""photos/CLASS/* -> data/train/CLASS/*.png and data/valid/CLASS/*.png: a fifth is held out, copies of training images left out of it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.model_selection import train_test_split


def thumbnail(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image.convert("L").resize((16, 16)), float).ravel()
    pixels -= pixels.mean()  # with this and the next line brightness and contrast do not count
    return pixels / (np.linalg.norm(pixels) + 1e-9)


images = {path: ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in sorted(Path("photos").glob("*/*"))}
classes = [path.parent.name for path in images]
train, valid = train_test_split(list(images), test_size=0.2, stratify=classes, random_state=0)
seen = np.stack([thumbnail(image) for path in train for image in (images[path], ImageOps.mirror(images[path]))])
copies = [path for path in valid if (seen @ thumbnail(images[path])).max() > 0.99]
for part, paths in (("train", train), ("valid", [path for path in valid if path not in copies])):
    for path in paths:
        target = Path("data", part, path.parent.name, f"{path.name}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        images[path].save(target)
print(len(train), "to train on,", len(valid) - len(copies), "held out; left out as copies:", *copies)
