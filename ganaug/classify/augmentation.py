"""Augmentations of real images for classifiers: whole batches at a time, on the device that trains."""

from collections.abc import Callable, Sequence
from math import pi

import torch
from torch import Tensor

from ..data.images import to_float, to_uint8
from ..warp import affine_maps, resample

SHIFT, ZOOM, TURN, SHEAR, TONE = 0.1, 0.15, 12 / 180 * pi, 0.1, 0.2  # the largest ones at strength 1
MOVED, TONED = 0.9, 0.5  # shares of the images
NUM_MOVES, NUM_TONES = 10, 3  # numbers drawn for an image's place and for its tone
NUM_CUTS = 4  # and for the patches of a batch
TRIVIAL_SIZE = 32  # pixels that TrivialAugment's shifts are measured in

Augment = Callable[[Tensor], Tensor]


def classical(mirror: str, strength: float, seed: int) -> Augment:
    """Small shifts, zooms, turns and shears in one resampling, brightness and contrast; reflections only where `mirror` says
    that they keep the class.

    `strength` scales all but the reflections: at 1, shifts of up to 10 % and turns of up to 12 degrees, brightness of up to a
    fifth of the range. Takes (N, C, H, W) uint8 on any device and gives floats in [-1, 1]; the random stream depends on `seed` and
    on the number of images so far alone.
    """
    rng = torch.Generator().manual_seed(seed)

    def augment(images: Tensor) -> Tensor:
        draws = torch.rand(len(images), NUM_MOVES + NUM_TONES, generator=rng)
        moved = move(to_float(images), draws[:, :NUM_MOVES], mirror, shift=strength, others=strength)
        return tone(moved, draws[:, NUM_MOVES:], strength)

    return augment


def trivial(mirror: str, strength: float, seed: int) -> Augment:
    """TrivialAugment: one operation of fourteen at a random strength for each image, on top of shifts and the reflections
    allowed. Mueller & Hutter (2021), https://arxiv.org/abs/2103.10158, in torchvision's implementation and its full range, which
    is meant for images of 32 pixels and more: smaller ones are enlarged by whole pixels for it. `strength` scales the shifts alone.

    Takes and gives what `classical` does, one image after the other on the CPU.
    """
    from torchvision.transforms import v2

    rng = torch.Generator().manual_seed(seed ^ 1)  # of another stream than the operations
    transform = v2.TrivialAugmentWide()
    state = torch.Generator().manual_seed(seed).get_state()

    def augment(images: Tensor) -> Tensor:
        nonlocal state
        draws = torch.rand(len(images), NUM_MOVES, generator=rng)
        moved = to_uint8(move(to_float(images.cpu()), draws, mirror, shift=strength, others=0.0))
        times = max(1, TRIVIAL_SIZE // images.shape[-1])
        large = moved.repeat_interleave(times, 2).repeat_interleave(times, 3)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global stream
            torch.set_rng_state(state)
            changed = torch.stack([transform(image) for image in large])
            state = torch.get_rng_state()
        small = changed.reshape(*images.shape[:3], times, -1, times).float().mean((3, 5)).round()
        return to_float(small).to(images.device)

    return augment


def cutmix(images: Tensor, draws: Sequence[float]) -> tuple[Tensor, int, float]:
    """Images (N, C, H, W) in each of which a patch of another is pasted, `step` rows further on, and that step and the share of the
    area that is pasted: Yun et al. (2019), algorithm A1, https://arxiv.org/abs/1905.04899, with shares uniform in [0, 1) and
    one patch for the batch, by NUM_CUTS numbers in [0, 1)."""
    height, width = images.shape[2:]
    step = 1 + int(draws[0] * (len(images) - 1))
    side = draws[1] ** 0.5
    (top, bottom), (left, right) = (
        (max(0, round(size * (middle - side / 2))), min(size, round(size * (middle + side / 2))))
        for size, middle in ((height, draws[2]), (width, draws[3]))
    )
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.roll(-step, 0)[:, :, top:bottom, left:right]
    return mixed, step, (bottom - top) * (right - left) / (height * width)


AUGMENTATIONS: dict[str, Callable[[str, float, int], Augment]] = {"classical": classical, "trivial": trivial}


def move(images: Tensor, draws: Tensor, mirror: str, shift: float, others: float) -> Tensor:
    """Images (N, C, H, W) seen from elsewhere, by numbers (N, NUM_MOVES) in [0, 1); borders mirror. `shift` and `others` scale the
    shifts and the turns, shears and zooms."""
    allowed = torch.tensor([mirror in ("horizontal", "both"), mirror in ("vertical", "both")])
    flips = 1.0 - 2 * ((draws[:, :2] < 0.5) & allowed)  # (N, 2) of 1 and -1
    amounts = (2 * draws[:, 3:] - 1) * (draws[:, 2:3] < MOVED)
    maps = affine_maps(
        angle=others * TURN * amounts[:, 0],
        shear=others * SHEAR * amounts[:, 1:3],
        zoom=flips * (1 + others * ZOOM * amounts[:, 3:5]),
        shift=2 * shift * SHIFT * amounts[:, 5:7],
    )
    return resample(images, maps)


def tone(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Images (N, C, H, W) in [-1, 1], some of them brighter or darker and with more or less contrast around their mean, by numbers
    (N, NUM_TONES) in [0, 1)."""
    amounts = (2 * draws[:, 1:] - 1) * (draws[:, :1] < TONED) * TONE * strength
    brightness, contrast = amounts.to(images.device)[:, :, None, None, None].unbind(1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, 1 + contrast).add(2 * brightness).clamp(-1, 1)
