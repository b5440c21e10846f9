"""One GAN of a run: made, trained for its steps, saved so that it goes on exactly where it was, and loaded again."""

import copy
import math
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.images import encode_png, image_grid, to_uint8
from ..errors import GanaugError
from ..progress import format_duration, say, track
from ..runs import RunFolder, load_weights, read_json, save_weights, write_json, written_whole
from ..settings import FitSettings
from .balance import Balance, describe
from .networks import Discriminator, Generator
from .steps import TrainingData, TrainingState, conditioning_at, train_step
from .strategies import Member

PLAN_SHARE = 0.2  # of the budget after which its steps are settled; FitSettings lets conditioning begin only later
SAMPLE_COLUMNS = 8


def build_networks(shape: dict[str, int]) -> tuple[Generator, Discriminator]:
    """Fresh networks of a shape {num_classes, image_size, channels, latent_size, width}, as stored in member.json."""
    generator = Generator(
        shape["num_classes"], shape["image_size"], shape["channels"], shape["latent_size"], shape["width"]
    )
    discriminator = Discriminator(shape["num_classes"], shape["image_size"], shape["channels"], shape["width"])
    return generator, discriminator


def network_shape(data: TrainingData, member: Member, settings: FitSettings) -> dict[str, int]:
    """What `build_networks` needs to know."""
    return {
        "num_classes": member.num_classes,
        "image_size": data.images.shape[-1],
        "channels": data.images.shape[1],
        "latent_size": settings.latent_size,
        "width": settings.width,
    }


def load_member(folder: RunFolder, name: str) -> tuple[Generator, Discriminator]:
    """The averaged generator and the discriminator of a trained member, in evaluation mode on the CPU."""
    path = folder.member(name)
    try:
        generator, discriminator = build_networks(read_json(path / "member.json")["shape"])
    except KeyError as error:
        raise GanaugError(
            f"{path / 'member.json'} is damaged: it lacks {error}. Fit again, with another --out."
        ) from None
    load_weights(path / "generator.safetensors", generator)
    load_weights(path / "discriminator.safetensors", discriminator)
    return generator.eval(), discriminator.eval()


def trained_steps(folder: RunFolder, name: str) -> int | None:
    """Steps that a member was trained for; None while its training is not complete."""
    path = folder.member(name) / "member.json"
    return int(read_json(path)["steps"]) if path.is_file() else None


def train_member(
    folder: RunFolder,
    member: Member,
    data: TrainingData,
    settings: FitSettings,
    steps: int | None,
    dtype: torch.dtype,
) -> int:
    """Trains the member to its end, from its last checkpoint if there is one; returns its number of steps.

    With `steps` None the member's share of the budget settles them: by its pace, once PLAN_SHARE of that time is over.
    Nothing that the networks learn before then depends on the number, so that the same number repeats the training.
    """
    path = folder.member(member.name)
    path.mkdir(parents=True, exist_ok=True)
    shape = network_shape(data, member, settings)
    state = build_state(shape, settings, member, data.images.device)
    state.steps = steps
    if (path / "state.pt").is_file():
        load_state(path / "state.pt", state)
    elif member.parent is not None:
        start_from_parent(state, *load_member(folder, member.parent))
    run_steps(state, data, settings, member, folder, dtype)
    save_weights(path / "generator.safetensors", state.average)
    save_weights(path / "discriminator.safetensors", state.discriminator)
    write_json(path / "member.json", {"shape": shape, "steps": state.step, "seconds": round(state.seconds, 1)})
    (path / "state.pt").unlink(missing_ok=True)
    return state.step


def run_steps(
    state: TrainingState,
    data: TrainingData,
    settings: FitSettings,
    member: Member,
    folder: RunFolder,
    dtype: torch.dtype,
) -> None:
    """Steps until the end; rows of metrics, grids of samples and checkpoints at their intervals."""
    path = folder.member(member.name)
    metrics = Metrics(path / "metrics.csv", state.step)
    budget = settings.budget * member.share
    checkpoint_at, sample_at = state.seconds + settings.checkpoint_interval, state.seconds + settings.sample_interval
    with track(f"fit {member.name}", 100, percent_done(state, budget), " %") as advance:
        while state.steps is None or state.step < state.steps:
            begun = time.monotonic()
            if state.steps is None and state.step > 0 and state.seconds >= PLAN_SHARE * budget:
                unconditioned = math.ceil((state.step - 1) / settings.transition[0])  # the steps so far were to be
                state.steps = max(state.step + 1, unconditioned, round(state.step * budget / state.seconds))
                say(f"fit {member.name}: {state.steps} steps fit into {format_duration(budget)}")
            progress = state.step / state.steps if state.steps else 0.0
            conditioning = 1.0 if member.parent else conditioning_at(progress, settings.transition)
            metrics.add(train_step(state, data, settings, conditioning, dtype))
            state.seconds += time.monotonic() - begun
            if state.step % settings.log_interval and state.step != state.steps:
                continue
            row = metrics.close_row(state)
            if not all(map(math.isfinite, row.values())):
                raise GanaugError(
                    f"the training diverged before step {state.step}: a loss is no finite number. Lower fit.learning_rate."
                )
            advance(percent_done(state, budget), describe(row["separation"], state.balance.strength))
            if state.seconds >= sample_at or state.step == state.steps:
                sample_at = state.seconds + settings.sample_interval
                save_samples(folder.samples / f"{member.name}-step-{state.step:06d}.png", state, data)
            if state.seconds >= checkpoint_at:
                checkpoint_at = state.seconds + settings.checkpoint_interval
                metrics.save()
                save_state(path / "state.pt", state)
    metrics.save()


def percent_done(state: TrainingState, budget: float) -> int:
    return int(100 * (state.step / state.steps if state.steps else min(PLAN_SHARE, state.seconds / budget)))


class Metrics:
    """The rows of metrics.csv, each the mean over the steps since the last; rows after a resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0
        if path.is_file() and step > 0:
            table = pd.read_csv(path)
            self.rows = [
                {str(key): value for key, value in row.items()}
                for row in table[table["step"] <= step].to_dict("records")
            ]

    def add(self, logged: dict[str, Tensor]) -> None:
        self.sums = {key: value + self.sums[key] if self.sums else value for key, value in logged.items()}
        self.num_summed += 1

    def close_row(self, state: TrainingState) -> dict[str, float]:
        means = {key: round(float(value) / self.num_summed, 5) for key, value in self.sums.items()}
        row = {
            "step": state.step,
            "seconds": round(state.seconds, 1),
            **means,
            "augment": round(state.balance.strength, 4),
        }
        self.rows.append(row)
        self.sums, self.num_summed = {}, 0
        return row

    def save(self) -> None:
        with written_whole(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)


def build_state(shape: dict[str, int], settings: FitSettings, member: Member, device: torch.device) -> TrainingState:
    """Networks, optimizers and random numbers at step 0, all derived from the seed and the member's classes."""
    seed = int(np.random.SeedSequence([settings.seed, *member.classes]).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = build_networks(shape)
    for network in (generator, discriminator):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if member.parent is not None:  # FreezeD: all but the last convolution
        discriminator.backbone.convolutions[:-1].requires_grad_(False)

    def adam(network: torch.nn.Module) -> torch.optim.Adam:
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        return torch.optim.Adam(weights, lr=settings.learning_rate, betas=(0.0, settings.beta2), foreach=True)

    return TrainingState(
        generator=generator,
        average=copy.deepcopy(generator).requires_grad_(False).eval(),
        discriminator=discriminator,
        generator_optimizer=adam(generator),
        discriminator_optimizer=adam(discriminator),
        rng=torch.Generator().manual_seed(seed),
        balance=Balance(),
    )


def start_from_parent(state: TrainingState, generator: Generator, discriminator: Discriminator) -> None:
    for network in (state.generator, state.average):
        network.load_state_dict(generator.state_dict())
    state.discriminator.load_state_dict(discriminator.state_dict())


def save_state(path: Path, state: TrainingState) -> None:
    """Everything that the next step depends on."""
    with written_whole(path) as temporary:
        torch.save(
            {
                "networks": [network.state_dict() for network in networks_of(state)],
                "optimizers": [state.generator_optimizer.state_dict(), state.discriminator_optimizer.state_dict()],
                "rng": state.rng.get_state(),
                "balance": [state.balance.strength, float(state.balance.separation_sum), state.balance.num_steps],
                "counters": [state.step, state.steps, state.seconds],
            },
            temporary,
        )


def load_state(path: Path, state: TrainingState) -> None:
    """Inverts `save_state`. Raises `GanaugError` for a file that is damaged or made with other settings."""
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for network, weights in zip(networks_of(state), saved["networks"], strict=True):
            network.load_state_dict(weights)
        state.generator_optimizer.load_state_dict(saved["optimizers"][0])
        state.discriminator_optimizer.load_state_dict(saved["optimizers"][1])
    except (RuntimeError, KeyError, ValueError, pickle.UnpicklingError, EOFError) as error:
        reason = (str(error) or "it ends too early.").splitlines()[0]
        raise GanaugError(
            f"the checkpoint {path} cannot be loaded: {reason} Delete it to train this part anew."
        ) from None
    state.rng.set_state(saved["rng"])
    strength, separation_sum, num_steps = saved["balance"]
    state.balance = Balance(strength, separation_sum, num_steps)
    state.step, state.steps, state.seconds = saved["counters"]


def networks_of(state: TrainingState) -> tuple[torch.nn.Module, ...]:
    return state.generator, state.average, state.discriminator


@torch.no_grad()
def save_samples(path: Path, state: TrainingState, data: TrainingData) -> None:
    """A sheet of the averaged generator's images: a row for each class, the same noise at every step."""
    rng = torch.Generator().manual_seed(0)
    device = data.images.device
    rows = []
    for label in data.labels:
        noise = torch.randn(SAMPLE_COLUMNS, state.average.latent_size, generator=rng).to(device)
        rows.append(to_uint8(state.average(noise, torch.full((SAMPLE_COLUMNS,), label, device=device))).cpu().numpy())
    sheet = image_grid(np.stack(rows))
    with written_whole(path) as temporary:
        temporary.write_bytes(encode_png(sheet))
