"""Calling a transform of torchvision's or albumentations' alike, with random draws that do not repeat themselves."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

Transform = Callable[..., Any]


def apply_transform(transform: Transform | None, picture: Image.Image, key: Callable[[], tuple[int, int, int]]) -> Any:
    """The PIL image transformed; without a transform a float tensor (C, H, W) in 0..1. An albumentations transform, which takes arrays
    (H, W[, C]), draws from a stream of the `key()` (seed, epoch, index)."""
    if transform is None:
        pixels = torch.from_numpy(np.array(picture))
        return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)).float().div(255)
    kind: type = type(transform)
    if not is_albumentations(kind):
        return transform(picture)
    # One stream for all its parts: set_random_seed would give each part an equal one, and their draws would agree.
    stream = np.random.default_rng(key())
    transform.set_random_state(stream, random.Random(int(stream.integers(2**63))))  # type: ignore[attr-defined]
    return transform(image=np.array(picture))["image"]


@cache
def is_albumentations(kind: type) -> bool:
    """Whether it is, or derives from, a class of albumentations; found without importing the library."""
    return any(each.__module__.partition(".")[0] == "albumentations" for each in kind.__mro__)
