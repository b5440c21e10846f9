"""Classifiers: the discriminator's backbone, from scratch or with its weights, or a model of torchvision's."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import GanaugError, suggest
from ..gan.networks import Backbone

OWN = "discriminator"  # the setting that means the discriminator's architecture
LEAST_SIZE = 64  # pixels that a torchvision model gets: most shrink an image 32 times
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class TorchvisionClassifier(nn.Module):
    """Images (N, 1 or 3, S, S) in [-1, 1] -> logits (N, num_classes) of a torchvision model, which sees `size` pixels in color,
    normalized as ImageNet's are."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        color = (images.expand(-1, 3, -1, -1) + 1) / 2
        if color.shape[-1] != self.size:
            color = F.interpolate(color, (self.size, self.size), mode="bilinear", antialias=True)
        out = self.model((color - self.mean) / self.deviation)
        logits: Tensor = (
            out if isinstance(out, Tensor) else out.logits
        )  # some give auxiliary logits, too, while they train
        return logits


def build_torchvision(name: str, num_classes: int, size: int, weights: Path | None, seed: int) -> TorchvisionClassifier:
    """A torchvision model with a head of `num_classes`, drawn from `seed` or, but for the head, with the `weights` of a file.

    Raises `GanaugError` for a file that cannot be read or belongs to another model.
    """
    from torchvision.models import get_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_model(name, weights=None, num_classes=num_classes)
    if weights is not None:
        load_pretrained(model, name, read_weights(weights), num_classes, weights)
    return TorchvisionClassifier(model, size)


def refuse_unfit(name: str, num_classes: int, size: int, weights: Path | None) -> None:
    """Raises `GanaugError` unless torchvision has a classifier `name` that takes images of `size` pixels, and the weights fit it."""
    import torchvision

    known = [OWN, *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        otherwise = "expected discriminator or a name such as resnet18."
        raise GanaugError(f"compare.classifier {name!r} is not known: {suggest(name, known, otherwise, most=3)}")
    model = build_torchvision(name, num_classes, size, weights, seed=0)
    try:
        with torch.inference_mode():
            model.train()(torch.zeros(2, 3, size, size))  # some have auxiliary heads then, which need larger images
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise GanaugError(
            f"{name} cannot take images of {size} pixels ({reason}). Set compare.classifier_size, for example to 224."
        ) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one that torch.save wrote; no code in it is run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (OSError, SafetensorError) as error:
        raise GanaugError(f"the weights {path} cannot be read: {error}.") from None
    except Exception:  # unpickling what is no pickle, or a damaged one, raises nearly anything
        raise GanaugError(
            f"the weights {path} cannot be read: the file is damaged, or holds more than tensors, which is never run. "
            "Give a state dict that torch.save wrote, or a .safetensors file."
        ) from None
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise GanaugError(f"the weights {path} must be a state dict: names and tensors.")
    return found


def load_pretrained(model: nn.Module, name: str, weights: dict[str, Tensor], num_classes: int, path: Path) -> None:
    """Fills all but the head: the layers whose size the number of classes decides."""
    own = model.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    of_head = {key for key, value in own.items() if value.shape[:1] == (num_classes,)}
    needed = {key for key, value in own.items() if value.ndim} - of_head  # not the counters, which old files lack
    if lacking := sorted(needed - fitting.keys()):
        raise GanaugError(f"the weights {path} are not {name}'s: they have none that fit {lacking[0]}.")
    heads = {key.partition(".")[0] for key in of_head}
    if foreign := sorted(key for key in weights.keys() - own.keys() if key.partition(".")[0] not in heads):
        raise GanaugError(f"the weights {path} are not {name}'s: it has no {foreign[0]}.")
    model.load_state_dict(fitting, strict=False)
