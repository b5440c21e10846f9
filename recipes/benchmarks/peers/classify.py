"""A classifier with and without the synthetic images, six seeds each -> predictions.npz."""

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

SEEDS, SIZE, UPDATES, BATCH = 6, 64, 3200, 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
read = v2.Compose([v2.Resize(SIZE), v2.CenterCrop(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
augment = v2.Compose([v2.RandomResizedCrop(SIZE, (0.7, 1)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3, 0.3)])


def load(folder: str) -> tuple[Tensor, Tensor]:
    images, labels = zip(*ImageFolder(folder, read), strict=True)
    return torch.stack(images).to(DEVICE), torch.tensor(labels, device=DEVICE)


def fit(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = resnet18(num_classes=int(labels.max()) + 1).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, UPDATES)
    for _ in range(UPDATES):
        rows = torch.randint(len(images), (BATCH,), device=DEVICE)
        batch = torch.stack([augment(image) for image in images[rows]])  # whole batches would share one draw
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch).argmax(1) for batch in images.split(256)])


if __name__ == "__main__":
    images, truth = load("data/valid")
    folders = [("data/train", f"augmented/{seed}") for seed in range(SEEDS)]
    found = [
        [predict(fit(*load(folder), seed), images).tolist() for folder in pair] for seed, pair in enumerate(folders)
    ]
    np.savez("predictions.npz", truth=truth.tolist(), predicted=found)  # (seeds, without and with, images)
