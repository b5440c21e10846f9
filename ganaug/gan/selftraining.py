"""What images without labels show: a classifier of the labeled ones that must see the same in an unlabeled image, however it is
augmented.

FixMatch: Sohn et al. (2020), eqs. 3 and 4, https://arxiv.org/abs/2001.07685. Deviations: the weakly augmented image is judged by a
moving average of the classifier (Tarvainen & Valpola, 2017, https://arxiv.org/abs/1703.01780), whose answer is sharpened, not
rounded to a class.
"""

import copy
from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from ..progress import track
from .diffaug import augment, deform, reflect
from .judge import build_judge, examine, operations_of, shrunk
from .validation import LabeledTensors

NUM_UPDATES, BATCH_SIZE, UNLABELED_RATIO = 2400, 32, 3
PEAK_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 2e-3, 0.2, 0.1
WEAK, STRONG, SUPERVISED = 0.3, 1.0, 0.6  # strengths of the augmentations
CONFIDENT, SHARPNESS = (
    0.8,
    2.0,
)  # probability from which on the average's answer teaches; the power to which it is raised
SURE = 0.5  # from which on an unlabeled image is taken for one of the class
RAMP = 0.1  # share of the updates in which the unlabeled images come in
AVERAGE_DECAY = 0.995
REPORT_INTERVAL = 100


def self_train(
    labeled: LabeledTensors,
    unlabeled: Tensor,
    num_classes: int,
    mirror: str,
    seed: int,
    dtype: torch.dtype,
    allowed: Collection[str],
) -> Tensor:
    """Class probabilities (M, num_classes), on the CPU, of images `unlabeled` (M, C, S, S) uint8, by a judge of the labeled ones that
    has learned from both. Labeled images are drawn alike from all classes.

    `allowed`: the augmentations that keep the class.
    """
    device = labeled.images.device
    rng = torch.Generator().manual_seed(seed)
    student = build_judge(num_classes, unlabeled.shape[-1], unlabeled.shape[1], seed, device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=NUM_UPDATES + 1, pct_start=0.2)
    rows = [torch.where(labeled.labels == k)[0] for k in torch.unique(labeled.labels)]
    known, heap = (shrunk(images, student.size) for images in (labeled.images, unlabeled))
    operations = operations_of(allowed)
    with track("learning from unlabeled images", NUM_UPDATES) as advance:
        for update in range(1, NUM_UPDATES + 1):
            classes = torch.randint(len(rows), (BATCH_SIZE,), generator=rng).tolist()
            picks = torch.stack([rows[c][torch.randint(len(rows[c]), (), generator=rng)] for c in classes])
            drawn = torch.randint(len(heap), (UNLABELED_RATIO * BATCH_SIZE,), generator=rng)
            own, others = known[picks.to(device)], heap[drawn.to(device)]
            own = augment(reflect(distort(own, operations, rng), mirror, rng), operations, SUPERVISED, rng)
            weak = augment(reflect(others, mirror, rng), operations, WEAK, rng)
            strong = reflect(distort(others, operations, rng), mirror, rng)
            strong = augment(strong, [*operations, *({"cutout"} & set(allowed))], STRONG, rng)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                with torch.no_grad():
                    answers = teacher.classify(weak).float().softmax(dim=1)
                logits = student.classify(torch.cat([own, strong])).float()
            confident = (answers.amax(dim=1) >= CONFIDENT).float()
            wanted = F.normalize(answers**SHARPNESS, p=1, dim=1)
            consistency = (-(wanted * logits[BATCH_SIZE:].log_softmax(dim=1)).sum(dim=1) * confident).mean()
            targets = labeled.labels[picks].to(device)
            loss = F.cross_entropy(logits[:BATCH_SIZE], targets, label_smoothing=LABEL_SMOOTHING)
            loss = loss + min(1.0, update / (RAMP * NUM_UPDATES)) * consistency
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            decay = min(AVERAGE_DECAY, 1 - 1 / (update + 10))
            torch._foreach_lerp_([*teacher.parameters()], [*student.parameters()], 1 - decay)
            if update % REPORT_INTERVAL == 0:
                advance(update)
    teacher.eval()
    return examine(teacher, unlabeled)[1]


def distort(images: Tensor, operations: Collection[str], rng: torch.Generator) -> Tensor:
    """Turned, sheared and stretched, every second one."""
    return deform(images, operations, torch.full((len(images),), 0.5), rng)
