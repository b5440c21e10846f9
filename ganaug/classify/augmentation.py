"""Classical augmentation of classifiers. The one place that imports albumentations."""

import os
import random

import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it looks for updates on the network at import

import albumentations as A
import cv2

cv2.setNumThreads(0)  # small images: its threads cost more than they save, and the processes are one for each core

Images = npt.NDArray[np.uint8]


def classical_augmentation(mirror: str, seed: int) -> A.Compose:
    """Small shifts, scales and turns, brightness and contrast; reflections only where `mirror` says they keep the class.

    Applied to (H, W, C) uint8. The random stream depends on `seed` and on the number of calls alone.
    """
    reflections = [
        transform(p=0.5)
        for transform, names in ((A.HorizontalFlip, ("horizontal", "both")), (A.VerticalFlip, ("vertical", "both")))
        if mirror in names
    ]
    affine = A.Affine(
        translate_percent=(-0.1, 0.1),
        scale=(0.85, 1.15),
        rotate=(-12, 12),
        shear=(-6, 6),
        border_mode=cv2.BORDER_REFLECT_101,
        p=0.9,
    )
    tone = A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5)
    transform = A.Compose([*reflections, affine, tone])
    stream = np.random.default_rng(seed)  # one for all parts: given a seed, each would get an equal stream of its own
    transform.set_random_state(stream, random.Random(int(stream.integers(2**63))))
    return transform


def augment_batch(transform: A.Compose, images: Images) -> Images:
    """(N, C, H, W) uint8, one call for each image in order."""
    out = np.empty_like(images)
    for i, image in enumerate(images):
        changed = transform(image=np.ascontiguousarray(image.transpose(1, 2, 0)))["image"]
        out[i] = changed.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
    return out
