"""A game of two tiny networks over a few images, which the tests of its parts share."""

import torch

from ganaug.gan.member import build_state
from ganaug.gan.steps import TrainingData
from ganaug.gan.strategies import joint
from ganaug.settings import FitSettings

SETTINGS = FitSettings(width=4, latent_size=4, batch_size=8, precision="fp32")
PLAIN = SETTINGS.model_copy(update={"augment": ()})  # images as they are


def with_changes(**changes):
    return SETTINGS.model_copy(update=changes)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_data(mirror="none", held_out=None):
    """Two classes of 3 and 5 images of 16 x 16 pixels; row k has brightness 20 k on its left half, 0 on the right."""
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    images[:, :, :, :8] = (20 * torch.arange(8, dtype=torch.uint8)).view(8, 1, 1, 1)
    return TrainingData(images, (torch.arange(3), torch.arange(3, 8)), (0, 1), mirror, held_out)


def make_state(settings=SETTINGS, member=None, data=None):
    """The start of a training on `data`, by default those of `make_data`."""
    data = data or make_data()
    shape = {
        "family": settings.family,
        "class_counts": [len(rows) for rows in data.class_rows],
        "image_size": 16,
        "channels": 1,
        "mirror": data.mirror,
        "operations": list(settings.augment),
        "latent_size": 4,
        "width": 4,
    }
    state = build_state(shape, settings, member or joint(2)[0], torch.device("cpu"))
    if settings.family == "mixing":
        state.generator.keep(data.images)
    return state
