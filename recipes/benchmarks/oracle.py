"""The judge of the benchmark of generators: a classifier trained on the whole training pool of a set, which sees no
generated image while it learns. Its accuracy says whether an image shows its class; its features are those of the measures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganaug.classify.augmentation import classical
from ganaug.classify.training import main_batches
from ganaug.data.cache import ImageSet
from ganaug.data.images import to_float
from ganaug.devices import resolve_precision
from ganaug.runs import written_whole

BATCH, PEAK_RATE, WEIGHT_DECAY = 64, 3e-3, 0.05
NUM_UPDATES = 1500  # of 64 images


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: He et al. (2016), https://arxiv.org/abs/1603.05027"""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.norm1(features))
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(activated)))) + self.shortcut(activated)
        return out


class Oracle(nn.Module):
    """Images (N, C, S, S) in [-1, 1] -> logits (N, num_classes) and two kinds of features: those of the third of four
    stages (N, 128), and the last ones (N, 256).

    The last ones of a trained classifier are nearly alike within a class (Papyan et al., 2020,
    https://arxiv.org/abs/2008.08186), so that one picture of a wrong class outweighs all variety there is.
    """

    def __init__(self, num_classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 32, 3, stride=max(1, image_size // 32), padding=1, bias=False)
        self.blocks = nn.Sequential(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2), Block(128, 256, 2))
        self.norm = nn.BatchNorm2d(256)
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner = self.blocks[:3](self.stem(images))
        last = F.relu(self.norm(self.blocks[3](inner))).mean(dim=(2, 3))
        return self.head(last), F.relu(inner).mean(dim=(2, 3)), last


def train_oracle(pool: ImageSet, path: Path) -> Oracle:
    """The oracle of a pool's training images; kept at `path`."""
    torch.manual_seed(0)
    model = Oracle(len(pool.class_names), pool.channels, pool.image_size)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    images, labels = pool.subset("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=NUM_UPDATES + 1, pct_start=0.2)
    dtype = resolve_precision("auto", torch.device("cpu"))
    order, augment = main_batches(len(images), BATCH, 0), classical("none", 1.0, seed=0)
    model.train()
    for _ in range(NUM_UPDATES):
        rows = next(order)
        inputs = augment(torch.from_numpy(images[rows]))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model(inputs.contiguous(memory_format=torch.channels_last))[0].float()
        loss = F.cross_entropy(logits, torch.from_numpy(labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    with written_whole(path) as temporary:
        torch.save(model.state_dict(), temporary)
    return model.eval()


@dataclass(frozen=True)
class Opinion:
    """What the oracle sees in N images."""

    classes: npt.NDArray[np.int64]  # (N,)
    features: npt.NDArray[np.float32]  # (N, 128) of the third stage
    last_features: npt.NDArray[np.float32]  # (N, 256)


@torch.inference_mode()
def judge(oracle: Oracle, images: npt.NDArray[np.uint8]) -> Opinion:
    """Of images (N, C, S, S)."""
    found = [oracle(to_float(torch.from_numpy(images[i : i + 256]))) for i in range(0, len(images), 256)]
    logits, inner, last = (torch.cat(part) for part in zip(*found, strict=True))
    return Opinion(logits.argmax(dim=1).numpy(), inner.numpy(), last.numpy())
