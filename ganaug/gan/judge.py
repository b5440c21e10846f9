"""Features of the user's own kind of images, without a pretrained network: a small classifier of the real training images
beside a frozen random network. They judge checkpoints; what they never see is the test split.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import to_float
from ..progress import track
from .diffaug import augment, reflect
from .networks import Backbone

SIZE, WIDTH, NUM_FEATURES = 32, 32, 128  # larger images are averaged down: what is judged is seen at 32 px
NUM_UPDATES, BATCH_SIZE, PEAK_RATE, WEIGHT_DECAY = 300, 64, 2e-3, 0.05
AUGMENT, STRENGTH = ("color", "translation", "scale", "rotation"), 0.6


class Judge(nn.Module):
    """Images (N, C, S, S) in [-1, 1] -> features (N, 2 * NUM_FEATURES) and logits (N, num_classes)."""

    def __init__(self, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        self.size = min(SIZE, image_size)
        self.trained = Backbone(self.size, channels, WIDTH, NUM_FEATURES)
        self.random = Backbone(self.size, channels, WIDTH, NUM_FEATURES).requires_grad_(False)
        self.head = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = shrink(images, self.size)
        trained, random = (normalized(network(images)) for network in (self.trained, self.random))
        return torch.cat([trained, random], dim=1), self.head(trained)

    def classify(self, images: Tensor) -> Tensor:
        """The logits alone."""
        logits: Tensor = self.head(normalized(self.trained(shrink(images, self.size))))
        return logits


def normalized(features: Tensor) -> Tensor:
    return F.layer_norm(features.float(), (NUM_FEATURES,))


def shrink(images: Tensor, size: int) -> Tensor:
    """Averages pixels until the side is `size`; never enlarges."""
    return F.adaptive_avg_pool2d(images, size) if images.shape[-1] > size else images


def shrunk(images: Tensor, size: int) -> Tensor:
    """Images (N, C, S, S) uint8 as floats in [-1, 1], as large as a judge sees them."""
    return torch.cat([shrink(to_float(images[i : i + 256]), size) for i in range(0, len(images), 256)])


def operations_of(allowed: Collection[str]) -> list[str]:
    """Those of AUGMENT that are `allowed`."""
    return [name for name in AUGMENT if name in allowed]


def build_judge(num_classes: int, image_size: int, channels: int, seed: int, device: torch.device) -> Judge:
    """An untrained one, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(num_classes, image_size, channels)
    return judge.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train_judge(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    mirror: str,
    seed: int,
    dtype: torch.dtype,
    allowed: Collection[str] = AUGMENT,
) -> Judge:
    """A judge of images (N, C, S, S) uint8 with labels (N,), drawn alike from all classes, on their device.

    It learns from augmented images: by those of AUGMENT that are `allowed`.
    """
    operations = operations_of(allowed)
    device = images.device
    rng = torch.Generator().manual_seed(seed)
    judge = build_judge(num_classes, images.shape[-1], images.shape[1], seed, device)
    weights = [weight for weight in judge.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=NUM_UPDATES + 1, pct_start=0.2)
    rows = [torch.where(labels.cpu() == k)[0] for k in range(num_classes)]
    rows = [of_class for of_class in rows if len(of_class)]
    small = shrunk(images, judge.size) if images.shape[-1] > judge.size else images
    with track("training a classifier of the real images", NUM_UPDATES) as advance:
        for update in range(1, NUM_UPDATES + 1):
            classes = torch.randint(len(rows), (BATCH_SIZE,), generator=rng).tolist()
            picks = torch.stack([rows[c][torch.randint(len(rows[c]), (), generator=rng)] for c in classes]).to(device)
            drawn = small[picks] if small.is_floating_point() else to_float(small[picks])
            batch = augment(reflect(drawn, mirror, rng), operations, STRENGTH, rng)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = judge.classify(batch).float()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, labels.to(device)[picks], label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            advance(update)
    return judge.eval().requires_grad_(False)


@torch.no_grad()
def examine(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, F) and class probabilities (N, num_classes), on the CPU, of images (N, C, S, S) uint8."""
    found = [judge(to_float(images[i : i + 256])) for i in range(0, len(images), 256)]
    return torch.cat([f for f, _ in found]).cpu(), torch.cat([logits.softmax(dim=1) for _, logits in found]).cpu()
