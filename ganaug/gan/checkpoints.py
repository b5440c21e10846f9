"""What a training needs to go on exactly where it was: in a file after an interruption, in memory after a divergence."""

import copy
import warnings
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import GanaugError
from ..runs import written_whole
from .balance import Balance
from .steps import TrainingState
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
    state.checkpoints = [Checkpoint.from_json(values) for values in saved["checkpoints"]]


def remember(state: TrainingState) -> dict[str, Any]:
    """A copy of `capture` that later steps do not change."""
    return copy.deepcopy(capture(state))


def save_state(path: Path, state: TrainingState, good: dict[str, Any]) -> None:
    """The state and, for the case that it diverges, an earlier one to return to."""
    with written_whole(path) as temporary:
        torch.save({"now": capture(state), "good": good}, temporary)


def load_state(path: Path, state: TrainingState) -> dict[str, Any]:
    """Inverts `save_state`; no code in the file is run. Raises `GanaugError` for one that is damaged or made with other settings."""
    try:
        refuse_packed(path)
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        with warnings.catch_warnings(action="ignore"):  # torch's, of what is no state
            restore(state, saved["now"])
        good: dict[str, Any] = saved["good"]
    except Exception as error:  # what is no pickle, a damaged one, or one of something else raises nearly anything
        reason = (str(error) or "it ends too early.").splitlines()[0]
        raise GanaugError(
            f"the checkpoint {path} cannot be loaded: {reason} Delete it to train this part anew."
        ) from None
    return good


def refuse_packed(path: Path) -> None:
    """Raises `ValueError` unless the file is such a zip as torch.save writes: what it holds is as large as itself."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("it unpacks to more than it is.")


def is_finite(state: TrainingState) -> bool:
    """Whether every weight is a finite number."""
    values = [value for network in networks_of(state) for value in network.state_dict().values()]
    return all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point())


def networks_of(state: TrainingState) -> tuple[torch.nn.Module, ...]:
    return state.generator, state.average, state.discriminator
