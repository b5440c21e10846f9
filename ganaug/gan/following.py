"""What the processes of a training do beside the first: as they are told, until they are told None."""

from dataclasses import replace

import torch

from ..devices import resolve_device
from ..settings import FitSettings
from .checkpoints import restore
from .convergence import duality_gap
from .member import Shape, build_state
from .ranks import Part
from .steps import TrainingData, train_step
from .strategies import Member


def follow(part: Part) -> None:
    """Trains member after member of a run with the first process."""
    while (told := part.hear()) is not None:
        shape, settings, member, dtype, data = told
        settings, member = FitSettings.model_validate(settings), Member(**member)
        train_with_the_first(part, shape, settings, member, dtype, TrainingData.from_plain(data))


def train_with_the_first(
    part: Part, shape: Shape, settings: FitSettings, member: Member, dtype: torch.dtype, data: TrainingData
) -> None:
    """One member's training: what `run_steps` tells, in its order. Each order is a word and what it needs; see `TrainingState`."""
    device = resolve_device(part.device(settings.device))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(settings.threads or 1)
    held_out = data.held_out and (data.held_out[0].to(device), data.held_out[1])
    data = replace(data, images=data.images.to(device), held_out=held_out)
    state = build_state(shape, settings, member, device, part)
    while (order := part.hear()) is not None:
        match order:
            case ("state", saved):
                restore(state, saved)
            case ("step", conditioning):
                train_step(state, data, settings, conditioning, dtype)
            case ("gap",):
                duality_gap(state, data, settings, dtype)
