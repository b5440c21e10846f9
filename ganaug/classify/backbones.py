"""Classifiers: the discriminator's backbone, from scratch or with its weights, under a new linear head."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..gan.networks import Backbone


class Classifier(nn.Module):
    """Images (N, C, S, S) in [-1, 1] -> logits (N, num_classes).

    Features are normalized before the head, so that it starts alike whatever scale the discriminator has given them.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        logits: Tensor = self.head(F.layer_norm(features, features.shape[1:]))
        return logits


def build_classifier(trained: Backbone, num_classes: int, init: str, seed: int) -> Classifier:
    """A classifier on a copy of `trained`: with its weights for `init` "discriminator", drawn anew from `seed` for "scratch"."""
    backbone = copy.deepcopy(trained).requires_grad_(True)
    if init == "scratch":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone.initialize()
    return Classifier(backbone, num_classes)
