"""Augmentations of real images for classifiers. The one place that imports albumentations."""

import os
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it looks for updates on the network at import

import albumentations as A
import cv2

cv2.setNumThreads(0)  # small images: its threads cost more than they save, and the processes are one for each core

TRIVIAL_SIZE = 32  # pixels that TrivialAugment's shifts are measured in

Images = npt.NDArray[np.uint8]
Augment = Callable[[Images], Images]


def classical(mirror: str, strength: float, seed: int) -> Augment:
    """Small shifts, scales and turns, brightness and contrast; reflections only where `mirror` says they keep the class.

    `strength` scales all but the reflections: at 1, shifts of up to 10 %, turns of up to 12 degrees. Takes and gives
    (N, C, H, W) uint8, one image after the other; the random stream depends on `seed` and on the number of images alone.
    """
    affine = A.Affine(
        translate_percent=(-0.1 * strength, 0.1 * strength),
        scale=(max(0.2, 1 - 0.15 * strength), 1 + 0.15 * strength),
        rotate=(-12 * strength, 12 * strength),
        shear=(-6 * strength, 6 * strength),
        border_mode=cv2.BORDER_REFLECT_101,
        p=0.9,
    )
    tone = A.RandomBrightnessContrast(
        brightness_limit=min(0.8, 0.2 * strength), contrast_limit=min(0.8, 0.2 * strength), p=0.5
    )
    return _one_by_one([*_reflections(mirror), affine, tone], seed)


def trivial(mirror: str, strength: float, seed: int) -> Augment:
    """TrivialAugment: one operation of fourteen at a random strength for each image, on top of shifts and the reflections
    allowed. Mueller & Hutter (2021), https://arxiv.org/abs/2103.10158, in torchvision's implementation and its full range, which
    is meant for images of 32 pixels and more: smaller ones are enlarged by whole pixels for it. `strength` scales the shifts alone.
    """
    from torchvision.transforms import v2

    shift = A.Affine(translate_percent=(-0.1 * strength, 0.1 * strength), border_mode=cv2.BORDER_REFLECT_101, p=0.9)
    before = _one_by_one([*_reflections(mirror), shift], seed)
    transform = v2.TrivialAugmentWide()
    state = torch.Generator().manual_seed(seed).get_state()

    def augment(images: Images) -> Images:
        nonlocal state
        times = max(1, TRIVIAL_SIZE // images.shape[-1])
        moved = torch.from_numpy(before(images)).repeat_interleave(times, 2).repeat_interleave(times, 3)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global stream
            torch.set_rng_state(state)
            out = torch.stack([transform(image) for image in moved])
            state = torch.get_rng_state()
        return np.asarray(out.reshape(*images.shape[:3], times, -1, times).float().mean((3, 5)).round().byte().numpy())

    return augment


AUGMENTATIONS: dict[str, Callable[[str, float, int], Augment]] = {"classical": classical, "trivial": trivial}


def _reflections(mirror: str) -> list[A.BasicTransform]:
    return [
        transform(p=0.5)
        for transform, names in ((A.HorizontalFlip, ("horizontal", "both")), (A.VerticalFlip, ("vertical", "both")))
        if mirror in names
    ]


def _one_by_one(transforms: list[A.BasicTransform], seed: int) -> Augment:
    compose = A.Compose(transforms)
    stream = np.random.default_rng(seed)  # one for all parts: given a seed, each would get an equal stream of its own
    compose.set_random_state(stream, random.Random(int(stream.integers(2**63))))

    def augment(images: Images) -> Images:
        out = np.empty_like(images)
        for i, image in enumerate(images):
            changed = compose(image=np.ascontiguousarray(image.transpose(1, 2, 0)))["image"]
            out[i] = changed.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
        return out

    return augment
