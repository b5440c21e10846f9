"""One GAN of a run: made, trained for its steps, its best moment kept, and loaded again."""

import copy
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ..errors import GanaugError
from ..progress import format_duration, say, track, warn
from ..runs import (
    NETWORKS,
    SCHEMA,
    RunFolder,
    load_weights,
    num_bytes,
    read_json,
    refuse_small,
    save_weights,
    write_json,
)
from ..sessions import signals_wait
from ..settings import FitSettings
from .balance import START, Balance, describe
from .board import Board
from .checkpoints import Logged, capture, is_finite, load_state, owner_of, remember, restore, save_state
from .compiled import compile_networks
from .convergence import duality_gap
from .mixing import AnyGenerator, MixingGenerator
from .networks import SPREAD_GROUP, Discriminator, Generator
from .planning import planned_steps, settle_plan
from .ranks import ALONE, Part, current, share_norms
from .record import Metrics, save_samples
from .steps import TrainingData, TrainingState, conditioning_at, train_step
from .stored import StoredImages
from .strategies import Member
from .validation import Checkpoint, Reference, choose, has_stalled, validate

PLAN_SHARE = 0.2  # of the budget after which its steps are settled; FitSettings lets conditioning begin only later
STEPS_SHARE = 0.95  # of the budget that is for steps; the rest is for checkpoints
NUM_CHECKPOINTS, MIN_STEPS_BETWEEN = 20, 200  # moments that the training is judged at, unless they are too near to pay
FIRST_CHECKPOINT = 0.25  # share of the steps before the first of them
DIVERGED = 1e3  # a loss beyond which nothing comes back
MAX_ROLLBACKS = 5

LARGEST_SIDE = 1024  # pixels

Shape = dict[str, Any]
T = TypeVar("T")


def build_networks(shape: Shape) -> tuple[AnyGenerator, Discriminator]:
    """Fresh networks of a shape {family, class_counts, image_size, channels, mirror, latent_size,
    width}, as stored in member.json."""
    refuse_shape(shape)
    discriminator = Discriminator(len(shape["class_counts"]), shape["image_size"], shape["channels"], shape["width"])
    return build_generator(shape), discriminator


def build_generator(shape: Shape) -> AnyGenerator:
    """The generator alone, see `build_networks`."""
    refuse_shape(shape)
    counts, size, channels = shape["class_counts"], shape["image_size"], shape["channels"]
    latent, width = shape["latent_size"], shape["width"]
    if shape["family"] == "mixing":
        return MixingGenerator(counts, size, channels, latent, width, shape["mirror"], shape["operations"])
    return Generator(len(counts), size, channels, latent, width)


def refuse_shape(shape: Shape) -> None:
    """Raises `ValueError` for what no run writes and no network can be built of."""
    if shape["family"] not in ("noise", "mixing"):
        raise ValueError(f"the family {str(shape['family'])[:40]!r} is not known")
    if not 4 <= shape["image_size"] <= LARGEST_SIDE:
        raise ValueError(f"images have 4 to {LARGEST_SIDE} pixels a side")
    counts = {
        "classes": len(shape["class_counts"]),
        **{name: shape[name] for name in ("channels", "latent_size", "width")},
    }
    for name, count in counts.items():
        if not count > 0:
            raise ValueError(f"{name} must be above 0, not {str(count)[:40]}")


def network_shape(data: TrainingData, member: Member, settings: FitSettings) -> Shape:
    """What `build_networks` needs to know."""
    assert settings.width != "auto", "fit settles it before any network is built"
    counts = [0] * member.num_classes
    for label, rows in zip(member.labels, data.class_rows, strict=True):
        counts[label] = len(rows)
    return {
        "family": settings.family,
        "class_counts": counts,
        "image_size": data.images.shape[-1],
        "channels": data.images.shape[1],
        "mirror": data.mirror,
        "operations": list(settings.augment),
        "latent_size": settings.latent_size,
        "width": settings.width,
    }


def load_member(folder: RunFolder, name: str) -> tuple[AnyGenerator, Discriminator]:
    """The averaged generator and the discriminator of a trained member, in evaluation mode on the CPU."""
    path = folder.member(name)
    stored = read_json(path / "member.json")
    try:
        shape = stored["shape"]
        with torch.device("meta"):  # first without memory: the file may ask for all there is
            needed = sum(num_bytes(network) for network in build_networks(shape))
        refuse_small(needed, *weights_paths(path))
        networks = build_networks(shape)
    except KeyError as error:
        raise GanaugError(
            f"{path / 'member.json'} is damaged: it lacks {error}. Fit again, with another --out."
        ) from None
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise GanaugError(f"{path / 'member.json'} is damaged: {reason}. Fit again, with another --out.") from None
    load_networks(path, *networks, stored.get("weights"))
    return networks[0].eval(), networks[1].eval()


def trained_steps(folder: RunFolder, name: str) -> int | None:
    """Steps that a member's training was planned for; None while it is not complete."""
    path = folder.member(name) / "member.json"
    return int(read_json(path)["steps"]) if path.is_file() else None


def train_member(
    folder: RunFolder,
    member: Member,
    data: TrainingData,
    reference: Reference,
    settings: FitSettings,
    steps: int | None,
    dtype: torch.dtype,
) -> int:
    """Trains the member to its end, from its last checkpoint if there is one; returns its number of steps.

    With `steps` None the member's share of the budget settles them: by its pace, once PLAN_SHARE of that time is over, unless another
    member, beside which it trains, has settled those of the run by then. Nothing that the networks learn before then depends on the
    number, so that the same number repeats the training.
    """
    path = folder.member(member.name)
    path.mkdir(parents=True, exist_ok=True)
    if len(member.classes) == 1:  # nothing to tell apart: a parent's classifier stays as it is
        settings = settings.model_copy(update={"classifier_weight": 0.0})
    shape = network_shape(data, member, settings)
    state = build_state(shape, settings, member, data.images.device, current())
    if isinstance(state.generator, MixingGenerator):
        state.generator.keep(data.images[torch.cat(data.class_rows)])
        state.average = copy.deepcopy(state.generator).requires_grad_(False).eval()
    state.steps = steps
    good, logged = remember(state), Logged()
    owner = owner_of(member.name, shape, settings, data)
    if (path / "state.pt").is_file():
        good, logged = load_state(path / "state.pt", state, owner)
        state.steps = state.steps or (steps and max(steps, state.step + 1))
    elif member.parent is not None:
        start_from_parent(state, *load_member(folder, member.parent))
        good = remember(state)
    sent = data
    if isinstance(data.images, StoredImages) and not state.part.is_on_one_machine():
        sent = replace(data, images=data.images[torch.arange(len(data.images))])
    told = (shape, settings.model_dump(), asdict(member), dtype, sent.to_plain())
    state.part.tell(told)  # what follows, following.py does in the other processes
    state.part.tell(("state", capture(state)))
    run_steps(state, good, logged, owner, data, reference, settings, member, folder, dtype)
    state.part.tell(None)
    chosen = choose(state.checkpoints)
    load_networks(snapshot(path, chosen.step), state.average, state.discriminator, state.snapshots[chosen.step])
    weights = save_networks(path, state.average, state.discriminator)
    record = {"steps": state.steps, "ended_at": state.step, "chosen": chosen.step, "seconds": round(state.seconds, 1)}
    record |= {"rollbacks": round(-math.log2(state.caution)), "batch_size": state.batch_size}
    checkpoints = [asdict(each) for each in state.checkpoints]
    write_json(
        path / "member.json",
        {"schema": SCHEMA, "shape": shape, **record, "weights": weights, "checkpoints": checkpoints},
    )
    say(f"fit {member.name}: kept step {chosen.step} of {state.step}" + describe_quality(chosen))
    clear(path)
    assert state.steps is not None
    return state.steps


def clear(path: Path) -> None:
    """Removes what only an unfinished training of the member in `path` needs."""
    shutil.rmtree(snapshot(path, 0).parent, ignore_errors=True)
    (path / "state.pt").unlink(missing_ok=True)


def run_steps(
    state: TrainingState,
    good: dict[str, Any],
    logged: Logged,
    owner: str,
    data: TrainingData,
    reference: Reference,
    settings: FitSettings,
    member: Member,
    folder: RunFolder,
    dtype: torch.dtype,
) -> None:
    """Steps until the end, or until a signal comes; metrics, sheets of samples and saved states at their intervals; checkpoints at theirs.

    `good` is the state to return to, with lower rates, if the training diverges; `logged` what the steps since the last row of metrics
    have told; `owner` what saved states belong to.
    """
    path = folder.member(member.name)
    board = Board(folder.tensorboard / member.name, state.step, settings.tensorboard)
    metrics = Metrics(path / "metrics.csv", state.step, logged, board)
    budget = settings.budget * member.share
    save_at, sample_at = state.seconds + settings.checkpoint_interval, state.seconds + settings.sample_interval
    balance = replace(state.balance)
    label = f"fit {member.name}"
    with closing(board), track(label, 100, percent_done(state, budget), " %") as advance, signals_wait() as has_come:
        while not has_ended(state) and not has_come():
            begun = time.monotonic()
            if state.steps is None and state.step > 0:
                settle_steps(state, folder, member, budget, settings)
            conditioning = conditioning_of(state, member, settings)
            state.part.tell(("step", conditioning))
            told = if_it_fits(partial(train_step, state, data, settings, conditioning, dtype), state)
            if told is None:
                halve_batch(state, good, member)
                metrics.rewind(state.step)
                continue
            metrics.add(told)
            is_checkpoint = checkpoint_due(state)
            state.seconds += time.monotonic() - begun
            if state.step % settings.log_interval and not is_checkpoint:
                continue
            row = metrics.close_row(state)
            if has_diverged(row) or (is_checkpoint and not is_finite(state)):
                roll_back(state, good, member)
                metrics.rewind(state.step)
                continue
            sentence = describe(balance, state.balance)
            balance = replace(state.balance)
            advance(percent_done(state, budget), sentence)
            if is_checkpoint:
                begun = time.monotonic()
                if conditioning == 1.0 or state.step == state.steps:
                    taking = partial(take_checkpoint, state, data, reference, settings, member, path, dtype)
                    if if_it_fits(taking, state) is None:
                        halve_batch(state, good, member)
                        metrics.rewind(state.step)
                        continue
                    board.add_row("held-out", measures_of(state.checkpoints[-1]))
                    say(f"fit {member.name}, step {state.step}: {sentence}{describe_quality(state.checkpoints[-1])}")
                good = remember(state)
                state.seconds += time.monotonic() - begun
            if state.seconds >= sample_at or has_ended(state):
                sample_at = state.seconds + settings.sample_interval
                sheet = save_samples(folder.samples / f"{member.name}-step-{state.step:06d}.png", state, data)
                board.add_samples(sheet, state.step)
            if state.seconds >= save_at:
                save_at = state.seconds + settings.checkpoint_interval
                metrics.save()
                save_state(path / "state.pt", state, good, metrics.logged, owner)
        if has_come():
            metrics.save()
            save_state(path / "state.pt", state, good, metrics.logged, owner)
            return
        if state.step != state.steps:
            say(f"fit {member.name}: neither duality gap nor held-out score improves any more; ended early")
        metrics.save()


def if_it_fits(action: Callable[[], T], state: TrainingState) -> T | None:
    """What the action returns; None where a GPU's memory did not hold it, which may have left half of a step, and smaller batches are
    left to try. Of several processes, the others would not know."""
    try:
        return action()
    except torch.OutOfMemoryError:
        if not halves(state.batch_size) or state.part.world > 1:
            raise
    torch.cuda.empty_cache()  # now that the exception holds nothing any more
    return None


def has_ended(state: TrainingState) -> bool:
    return state.step == state.steps or has_stalled(state.checkpoints)


def settle_steps(state: TrainingState, folder: RunFolder, member: Member, budget: float, settings: FitSettings) -> None:
    """As another member of the run has settled them; else by the member's own pace, once PLAN_SHARE of its budget is over."""
    steps = planned_steps(folder, member)
    if steps is None and state.seconds >= PLAN_SHARE * budget:
        plan_steps(state, budget, settings)
        assert state.steps is not None
        steps = settle_plan(folder, member, state.steps)
        say(f"fit {member.name}: {steps} steps fit into {format_duration(budget)}")
    if steps is not None:
        state.steps = max(steps, state.step + 1)


def plan_steps(state: TrainingState, budget: float, settings: FitSettings) -> None:
    """As many steps as the rest of the budget allows at the pace so far."""
    unconditioned = math.ceil((state.step - 1) / settings.transition[0])  # the steps so far were to be
    left = (STEPS_SHARE * budget - state.seconds) * state.attempts / state.seconds
    state.steps = max(state.step + 1, unconditioned, state.step + round(left))


def conditioning_of(state: TrainingState, member: Member, settings: FitSettings) -> float:
    if member.parent or member.num_classes == 1:
        return 1.0
    return conditioning_at(state.step / state.steps if state.steps else 0.0, settings.transition)


def checkpoint_due(state: TrainingState) -> bool:
    """At equal intervals from FIRST_CHECKPOINT on, since earlier the number of steps may not be known; and at the end."""
    return state.steps is not None and is_checkpoint(state.step, state.steps)


def is_checkpoint(step: int, steps: int) -> bool:
    interval = max(MIN_STEPS_BETWEEN, math.ceil(steps / NUM_CHECKPOINTS))
    return step >= FIRST_CHECKPOINT * steps and (step % interval == 0 or step == steps)


def take_checkpoint(
    state: TrainingState,
    data: TrainingData,
    reference: Reference,
    settings: FitSettings,
    member: Member,
    path: Path,
    dtype: torch.dtype,
) -> Checkpoint:
    """Measures the state and keeps its networks, in case that it is chosen; returns its measures."""
    state.part.tell(("gap",))
    gap = duality_gap(state, data, settings, dtype)
    state.checkpoints.append(
        validate(state.average, reference, member.classes, member.labels, state.step, round(gap, 4))
    )
    state.snapshots[state.step] = save_networks(snapshot(path, state.step), state.average, state.discriminator)
    return state.checkpoints[-1]


def has_diverged(row: dict[str, float]) -> bool:
    return any(not math.isfinite(value) or abs(value) > DIVERGED for name, value in row.items() if "loss" in name)


def roll_back(state: TrainingState, good: dict[str, Any], member: Member) -> None:
    """Returns to the state `good` with half the rates; the time that was lost stays counted."""
    lost_at, caution = state.step, state.caution / 2
    if caution < 0.5**MAX_ROLLBACKS:
        raise GanaugError(
            f"the training of {member.name} diverged before step {lost_at}, and again with rates lowered {MAX_ROLLBACKS} times: "
            "a loss is no finite number. Check the images (ganaug check) or lower fit.learning_rate."
        )
    spent, planned, batch_size = (state.seconds, state.attempts), state.steps, state.batch_size
    restore(state, copy.deepcopy(good))
    state.seconds, state.attempts = spent
    state.steps, state.caution, state.batch_size = planned, caution, batch_size
    state.part.tell(("state", capture(state)))
    warn(
        f"fit {member.name}: diverged before step {lost_at}; back to step {state.step} with learning rates lowered to {caution:g} of theirs"
    )


def halve_batch(state: TrainingState, good: dict[str, Any], member: Member) -> None:
    """Returns to the state `good`, with batches of half as many images from now on; the time that was lost stays counted."""
    batch_size = halves(state.batch_size)
    spent, planned, caution = (state.seconds, state.attempts), state.steps, state.caution
    restore(state, copy.deepcopy(good))
    state.seconds, state.attempts = spent
    state.steps, state.caution, state.batch_size = planned, caution, batch_size
    warn(f"fit {member.name}: out of memory; back to step {state.step}, and on with batches of {batch_size} images")


def halves(batch_size: int) -> int:
    """The next smaller batch, of whole groups; 0 where there is none."""
    return batch_size // 2 // SPREAD_GROUP * SPREAD_GROUP


def describe_quality(checkpoint: Checkpoint) -> str:
    """The measures of a checkpoint as the end of a sentence."""
    parts = [f"duality gap {checkpoint.gap:.2f}"]
    if checkpoint.scores:
        parts.append(
            f"held out: KID {checkpoint.kid:.3f}, coverage {checkpoint.coverage:.0%}, right class {checkpoint.consistency:.0%}, "
            f"copies {checkpoint.copies:.0%}".replace("%", " %")
        )
    return "; " + "; ".join(parts)


def measures_of(checkpoint: Checkpoint) -> dict[str, float]:
    """What was measured at a checkpoint, its step among it; the gap alone where nothing is held out."""
    row = {"step": checkpoint.step, "gap": checkpoint.gap}
    if checkpoint.scores:
        row["score"] = checkpoint.score
        row |= {name: getattr(checkpoint, name) for name in ("kid", "coverage", "consistency", "copies")}
    return row


def percent_done(state: TrainingState, budget: float) -> float:
    return 100 * (state.step / state.steps if state.steps else min(PLAN_SHARE, state.seconds / budget))


def build_state(
    shape: Shape, settings: FitSettings, member: Member, device: torch.device, part: Part = ALONE
) -> TrainingState:
    """Networks, optimizers and random numbers at step 0, all derived from the seed and the member's classes."""
    seed = int(np.random.SeedSequence([settings.seed, *member.classes]).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = build_networks(shape)
    share_norms(generator, part)
    for network in (generator, discriminator):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if member.parent is not None:  # FreezeD: all but the last convolution
        discriminator.backbone.convolutions[:-1].requires_grad_(False)

    if settings.compile is True:  # auto is settled by then, or is measured without
        compile_networks(generator, discriminator, part)

    def adam(network: torch.nn.Module) -> torch.optim.Adam:
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        return torch.optim.Adam(weights, lr=settings.learning_rate, betas=(0.0, settings.beta2), fused=True)

    return TrainingState(
        generator=generator,
        average=copy.deepcopy(generator).requires_grad_(False).eval(),
        discriminator=discriminator,
        generator_optimizer=adam(generator),
        discriminator_optimizer=adam(discriminator),
        rng=torch.Generator().manual_seed(seed),
        batch_size=settings.images_per_step,
        balance=Balance(strength=min(max(START, settings.augment_limits[0]), settings.augment_limits[1])),
        anchors=torch.zeros(2, device=device),
        spreads=torch.tensor([[1.0], [0.0]], device=device).repeat(1, len(shape["class_counts"])),
        part=part,
    )


def start_from_parent(state: TrainingState, generator: AnyGenerator, discriminator: Discriminator) -> None:
    for network in (state.generator, state.average):
        network.load_state_dict(generator.state_dict())
    state.discriminator.load_state_dict(discriminator.state_dict())


def snapshot(path: Path, step: int) -> Path:
    return path / "checkpoints" / f"step-{step:06d}"


def save_networks(path: Path, generator: AnyGenerator, discriminator: Discriminator) -> list[str]:
    """Returns what names both files; see `checkpoint_of`."""
    path.mkdir(parents=True, exist_ok=True)
    networks = (generator, discriminator)
    return [save_weights(file, network) for file, network in zip(weights_paths(path), networks, strict=True)]


def weights_paths(path: Path) -> list[Path]:
    return [path / f"{name}.safetensors" for name in NETWORKS]


def load_networks(
    path: Path, generator: AnyGenerator, discriminator: Discriminator, checkpoints: Sequence[str] | None
) -> None:
    """`checkpoints`: what names both files, where that was written down."""
    named = checkpoints or (None, None)
    for file, network, checkpoint in zip(weights_paths(path), (generator, discriminator), named, strict=True):
        load_weights(file, network, checkpoint)
