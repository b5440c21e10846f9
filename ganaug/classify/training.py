"""Training a classifier on real images, with or without other ones beside them.

For one seed the order of the real images and their augmentation are the same whatever stands beside them: what stands
beside comes on top of the real images of an update, never in their place, and draws from random streams of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..data.images import to_float
from ..devices import resolve_precision
from .augmentation import AUGMENTATIONS, NUM_CUTS, cutmix

NUM_CURVE_POINTS = 40
MAIN, BESIDE, MODEL, CUTS = 0, 1, 2, 3  # keys of the random streams


@dataclass(frozen=True)
class Labeled:
    """Images (N, C, S, S) uint8 and labels (N,) int64."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Diet:
    """What a classifier is trained on: `main` whole in every epoch, and beside it draws from `beside`."""

    main: Labeled
    beside: Labeled | None = None


@dataclass(frozen=True)
class Training:
    """How every classifier of a study is trained, but for what the search finds."""

    updates: int
    batch_size: int  # images of the main set in an update
    learning_rate: float  # peak of the one-cycle schedule
    weight_decay: float
    label_smoothing: float
    precision: str  # auto, fp32 or bf16
    augmentation: str = "classical"  # a key of AUGMENTATIONS
    strength: float = 1.0  # of the augmentation
    cutmix: float = 0.0  # share of the updates in which every image gets a patch of another, and of its class
    backbone_rate: float = 1.0  # of the learning rate, for all layers but the head


@dataclass(frozen=True)
class Mixing:
    """How the images beside come in; without effect where there are none."""

    ratio: float  # of them in an update for each of the main set; 0: none
    weight: float  # of their loss
    real_only_share: float  # last share of the updates, without them
    truncation: float = 1.0  # of the generator that made them


@dataclass(frozen=True)
class CurvePoint:
    update: int
    loss: float  # mean on the main set's images of the updates since the last point
    accuracy: float


def main_batches(num_images: int, batch_size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Endless (batch_size,) rows: every image once before any comes again, in an order that depends on the seed alone."""
    rng = np.random.default_rng([seed, MAIN])
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(num_images)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def train_classifier(
    model: nn.Module, diet: Diet, training: Training, mixing: Mixing, mirror: str, seed: int, device: torch.device
) -> list[CurvePoint]:
    """Trains `model` in place with AdamW on a one-cycle schedule (Smith & Topin, 2018, https://arxiv.org/abs/1708.07120).

    An update sees `batch_size` images of the main set and, until the last `real_only_share` of the updates, `ratio` times as
    many of those beside, whose loss is weighted with `weight`. Classes that are frequent in either set gain nothing by it:
    see `balanced_cross_entropy`.
    """
    main, beside = diet.main, diet.beside
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    dtype = resolve_precision(training.precision, device)
    groups = parameter_groups(model, training)
    optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)
    length = max(training.updates, 5) + 1  # of a shorter one, the first fifth would be no step long
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=length, pct_start=0.2)
    order = main_batches(len(main.labels), training.batch_size, seed)
    build = AUGMENTATIONS[training.augmentation]
    augment_main = build(mirror, training.strength, _stream_seed(seed, MAIN))
    augment_beside = build(mirror, training.strength, _stream_seed(seed, BESIDE))
    draws, cuts = np.random.default_rng([seed, BESIDE]), np.random.default_rng([seed, CUTS])
    num_beside = round(training.batch_size * mixing.ratio)
    last_mixed = round(training.updates * (1 - mixing.real_only_share)) if num_beside else 0
    interval = max(1, training.updates // NUM_CURVE_POINTS)
    curve: list[CurvePoint] = []
    losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
    # Dropout draws from the global stream, which every training begins anew, whatever else the process has done.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_stream_seed(seed, MODEL))
        for update in range(1, training.updates + 1):
            rows = next(order)
            images, labels = augment_main(torch.from_numpy(main.images[rows]).to(device)), main.labels[rows]
            weights, sources = np.ones(len(rows), np.float32), [(main, len(rows))]
            if beside is not None and update <= last_mixed:
                picks = draws.integers(len(beside.labels), size=num_beside)
                others = augment_beside(torch.from_numpy(beside.images[picks]).to(device))
                images = torch.cat([images, others])
                labels = np.concatenate([labels, beside.labels[picks]])
                weights = np.concatenate([weights, np.full(num_beside, mixing.weight, np.float32)])
                sources.append((beside, num_beside))
            targets = torch.from_numpy(labels).to(device)
            chance, *patch = cuts.random(1 + NUM_CUTS).tolist()
            step, pasted = 0, 0.0
            if chance < training.cutmix:
                images, step, pasted = cutmix(images, patch)
            inputs = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(inputs).float()
            shares = [class_shares(part.labels, logits.shape[1]).expand(count, -1) for part, count in sources]
            prior = torch.cat(shares).to(device)
            each = balanced_cross_entropy(logits, targets, prior, training.label_smoothing)
            if pasted:
                others = balanced_cross_entropy(logits, targets.roll(-step), prior, training.label_smoothing)
                each = (1 - pasted) * each + pasted * others
            loss = (each * torch.from_numpy(weights).to(device)).sum() / weights.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            num_main = len(rows)
            losses += each[:num_main].detach().mean()
            hits += (logits[:num_main].detach().argmax(dim=1) == targets[:num_main]).float().mean()
            if update % interval == 0:
                curve.append(CurvePoint(update, float(losses) / interval, float(hits) / interval))
                losses.zero_()
                hits.zero_()
    return curve


def parameter_groups(model: nn.Module, training: Training) -> list[dict[str, Any]]:
    """The model's parameters with their peak rates: its backbone's, where it has one, and all others."""
    rate, backbone = training.learning_rate, getattr(model, "backbone", None)
    if training.backbone_rate == 1 or backbone is None:
        return [{"params": list(model.parameters()), "lr": rate}]
    inner = set(backbone.parameters())
    return [
        {"params": [p for p in model.parameters() if p not in inner], "lr": rate},
        {"params": list(backbone.parameters()), "lr": rate * training.backbone_rate},
    ]


def class_shares(labels: npt.NDArray[np.int64], num_classes: int) -> Tensor:
    """(num_classes,): the share of each class among the labels."""
    return torch.from_numpy(np.bincount(labels, minlength=num_classes) / len(labels)).float()


def balanced_cross_entropy(logits: Tensor, targets: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    """(N,): the cross-entropy of `logits` (N, K) plus the logarithm of the classes' `shares` (N, K) in what is trained on, so that
    the logits themselves are those of equally frequent classes: Menon et al. (2021), eq. 10, https://arxiv.org/abs/2007.07314.

    `smoothing` of each target goes to the classes by their shares; to equal parts, it would ask for rare classes where there are none.
    """
    offsets = torch.where(shares > 0, shares / shares.amax(dim=1, keepdim=True), 1.0).log()
    logs = (logits + offsets).log_softmax(dim=1)
    own, others = logs.gather(1, targets[:, None]).squeeze(1), (shares * logs).sum(dim=1)
    return -((1 - smoothing) * own + smoothing * others)


@torch.inference_mode()
def predict(model: nn.Module, images: npt.NDArray[np.uint8], device: torch.device) -> npt.NDArray[np.float32]:
    """Class probabilities (N, num_classes) of images (N, C, S, S) uint8."""
    model.eval()
    batches = (to_float(torch.tensor(images[i : i + 256]).to(device)) for i in range(0, len(images), 256))
    return torch.cat([model(batch).float().softmax(dim=1).cpu() for batch in batches]).numpy()


def _stream_seed(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, stream, 1]).generate_state(1)[0])
