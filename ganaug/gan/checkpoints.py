"""What a training needs to go on exactly where it was: in a file after an interruption, in memory after a divergence."""

import copy
import hashlib
import io
import json
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import GanaugError
from ..runs import read_sealed, write_sealed
from ..settings import FitSettings
from .balance import Balance
from .steps import TrainingData, TrainingState
from .validation import Checkpoint


def capture(state: TrainingState) -> dict[str, Any]:
    """Everything that the next step depends on; tensors are shared with the state."""
    return {
        "networks": [network.state_dict() for network in networks_of(state)],
        "optimizers": [state.generator_optimizer.state_dict(), state.discriminator_optimizer.state_dict()],
        "rng": state.rng.get_state(),
        "balance": state.balance.to_json(),
        "anchors": state.anchors,
        "spreads": state.spreads,
        "caution": state.caution,
        "counters": [state.step, state.steps, state.seconds, state.attempts],
        "batch_size": state.batch_size,
        "snapshots": state.snapshots,
        "checkpoints": [asdict(checkpoint) for checkpoint in state.checkpoints],
    }


def restore(state: TrainingState, saved: dict[str, Any]) -> None:
    """Inverts `capture`."""
    for network, weights in zip(networks_of(state), saved["networks"], strict=True):
        network.load_state_dict(weights)
    state.generator_optimizer.load_state_dict(saved["optimizers"][0])
    state.discriminator_optimizer.load_state_dict(saved["optimizers"][1])
    state.rng.set_state(saved["rng"])
    state.balance = Balance.from_json(saved["balance"])
    state.anchors.copy_(saved["anchors"])
    state.spreads.copy_(saved["spreads"])
    state.caution = saved["caution"]
    state.step, state.steps, state.seconds, state.attempts = saved["counters"]
    state.batch_size, state.snapshots = saved["batch_size"], dict(saved["snapshots"])
    state.checkpoints = [Checkpoint.from_json(values) for values in saved["checkpoints"]]


def remember(state: TrainingState) -> dict[str, Any]:
    """A copy of `capture` that later steps do not change."""
    return copy.deepcopy(capture(state))


Logged = dict[str, list[torch.Tensor]]  # what the steps since the last row of metrics have told

BLOCK = 1024  # images of which a hash is made at a time
# Of the settings, what does not decide how a training goes on.
FREE = {"budget", "steps", "device", "threads", "jobs", "cluster", "compile"}
FREE |= {"log_interval", "sample_interval", "checkpoint_interval", "tensorboard"}


def owner_of(name: str, shape: dict[str, Any], settings: FitSettings, data: TrainingData) -> str:
    """What a saved state belongs to: a member, its settings and its images, as a hash."""
    known = json.dumps([name, shape, settings.model_dump(mode="json", exclude=FREE)], sort_keys=True)
    digest = hashlib.sha256(known.encode())
    for start in range(0, len(data.images), BLOCK):
        rows = torch.arange(start, min(start + BLOCK, len(data.images)))
        digest.update(data.images[rows].cpu().numpy().tobytes())
    return digest.hexdigest()


def save_state(path: Path, state: TrainingState, good: dict[str, Any], logged: Logged, owner: str) -> None:
    """The state, an earlier one to return to in case that it diverges, and what is not in the metrics yet."""
    content = io.BytesIO()  # torch writes to a file in ways of its own, and tells of a full disk in words of its own
    told = {name: torch.stack(values).cpu() for name, values in logged.items()}
    torch.save({"now": capture(state), "good": good, "logged": told}, content)
    write_sealed(path, content.getvalue(), owner)


def load_state(path: Path, state: TrainingState, owner: str) -> tuple[dict[str, Any], Logged]:
    """Inverts `save_state`; no code in the file is run. Raises `GanaugError` for a file that is damaged, another training's or of a newer
    ganaug."""
    try:
        content = io.BytesIO(read_sealed(path, owner))
        refuse_packed(content)
        saved: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        with warnings.catch_warnings(action="ignore"):  # torch's, of what is no state
            restore(state, saved["now"])
        good: dict[str, Any] = saved["good"]
        logged = {name: list(values) for name, values in saved["logged"].items()}
    except Exception as error:  # what is no pickle, a damaged one, or one of something else raises nearly anything
        reason = (str(error) or "it ends too early.").splitlines()[0]
        raise GanaugError(
            f"the checkpoint {path} cannot be loaded: {reason} Delete it to train this part anew."
        ) from None
    return good, logged


def refuse_packed(content: io.BytesIO) -> None:
    """Raises `ValueError` unless the content is such a zip as torch.save writes: what it holds is as large as itself."""
    with zipfile.ZipFile(content) as archive:
        if sum(member.file_size for member in archive.infolist()) > content.getbuffer().nbytes:
            raise ValueError("it unpacks to more than it is.")
    content.seek(0)


def is_finite(state: TrainingState) -> bool:
    """Whether every weight is a finite number."""
    values = [value for network in networks_of(state) for value in network.state_dict().values()]
    return all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point())


def networks_of(state: TrainingState) -> tuple[torch.nn.Module, ...]:
    return state.generator, state.average, state.discriminator
