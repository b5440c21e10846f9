"""Training a classifier on real images, with or without synthetic ones beside them.

For one seed the order of the real images and their augmentation are the same whatever stands beside them: synthetic
images come on top of the real ones of an update, never in their place, and draw from random streams of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ..data.images import to_float
from ..devices import resolve_precision
from ..settings import CompareSettings
from .augmentation import augment_batch, classical_augmentation
from .backbones import Classifier

NUM_CURVE_POINTS = 40
REAL, SYNTHETIC = 0, 1  # keys of the random streams


@dataclass(frozen=True)
class Labeled:
    """Images (N, C, S, S) uint8 and labels (N,) int64."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class CurvePoint:
    update: int
    loss: float  # mean on the real images of the updates since the last point
    accuracy: float


def real_batches(num_images: int, batch_size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Endless (batch_size,) rows: every image once before any comes again, in an order that depends on the seed alone."""
    rng = np.random.default_rng([seed, REAL])
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(num_images)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def train_classifier(
    model: Classifier,
    real: Labeled,
    synthetic: Labeled | None,
    updates: int,
    settings: CompareSettings,
    mirror: str,
    seed: int,
    device: torch.device,
) -> list[CurvePoint]:
    """Trains `model` in place with AdamW on a one-cycle schedule (Smith & Topin, 2018, https://arxiv.org/abs/1708.07120).

    An update sees `batch_size` real images and, where `synthetic` is given and until the last `real_only_share` of the
    updates, `synthetic_ratio` times as many synthetic ones, whose loss is weighted with `synthetic_weight`.
    """
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    dtype = resolve_precision(settings.precision, device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    length = max(updates, 5) + 1  # of a shorter one, the first fifth would be no step long
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=length, pct_start=0.2)
    order = real_batches(len(real.labels), settings.batch_size, seed)
    augment_real = classical_augmentation(mirror, seed=_stream_seed(seed, REAL))
    augment_synthetic = classical_augmentation(mirror, seed=_stream_seed(seed, SYNTHETIC))
    draws = np.random.default_rng([seed, SYNTHETIC])
    num_synthetic = round(settings.batch_size * settings.synthetic_ratio)
    last_mixed = round(updates * (1 - settings.real_only_share))
    interval = max(1, updates // NUM_CURVE_POINTS)
    curve: list[CurvePoint] = []
    losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
    for update in range(1, updates + 1):
        rows = next(order)
        images, labels = augment_batch(augment_real, real.images[rows]), real.labels[rows]
        weights = np.ones(len(rows), np.float32)
        if synthetic is not None and update <= last_mixed:
            picks = draws.integers(len(synthetic.labels), size=num_synthetic)
            images = np.concatenate([images, augment_batch(augment_synthetic, synthetic.images[picks])])
            labels = np.concatenate([labels, synthetic.labels[picks]])
            weights = np.concatenate([weights, np.full(num_synthetic, settings.synthetic_weight, np.float32)])
        targets = torch.from_numpy(labels).to(device)
        inputs = to_float(torch.from_numpy(images).to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(inputs).float()
        each = F.cross_entropy(logits, targets, reduction="none", label_smoothing=settings.label_smoothing)
        loss = (each * torch.from_numpy(weights).to(device)).sum() / weights.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        num_real = len(rows)
        losses += each[:num_real].detach().mean()
        hits += (logits[:num_real].detach().argmax(dim=1) == targets[:num_real]).float().mean()
        if update % interval == 0:
            curve.append(CurvePoint(update, float(losses) / interval, float(hits) / interval))
            losses.zero_()
            hits.zero_()
    return curve


@torch.inference_mode()
def predict(model: Classifier, images: npt.NDArray[np.uint8], device: torch.device) -> npt.NDArray[np.float32]:
    """Class probabilities (N, num_classes) of images (N, C, S, S) uint8."""
    model.eval()
    batches = [to_float(torch.tensor(images[i : i + 256]).to(device)) for i in range(0, len(images), 256)]
    return torch.cat([model(batch).softmax(dim=1).cpu() for batch in batches]).numpy()


def _stream_seed(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, stream, 1]).generate_state(1)[0])
