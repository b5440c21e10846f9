"""What `fit` would do and cost, before it does: the data are read, a few steps and one checkpoint are measured, nothing is kept."""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..cluster import SHARED_CORES
from ..data.cache import prepare
from ..data.check import CheckReport, format_report
from ..devices import resolve_device, resolve_precision
from ..progress import format_duration, track, warn
from ..recipe import RecipeLike, dump_recipe, load_recipe
from ..runs import RunFolder
from ..settings import FitSettings, Recipe
from .board import load_writer
from .checkpoints import remember, save_state
from .crew import num_jobs
from .judge import train_judge
from .member import (
    STEPS_SHARE,
    build_state,
    halves,
    if_it_fits,
    is_checkpoint,
    network_shape,
    save_networks,
    snapshot,
    take_checkpoint,
)
from .ranks import Part, current, planned
from .record import save_samples
from .settling import compile_where_it_pays, settle_networks
from .shares import judged, split_images, training_data
from .steps import TrainingData, conditioning_at, train_step
from .strategies import STRATEGIES, Member, length_of, makespan, member_steps, waves
from .symmetry import MIN_IMAGES, NUM_FOLDS
from .training import settled, share_out
from .validation import Reference

WARM_UP, TIMED = 6, 20  # steps


@dataclass(frozen=True)
class Estimate:
    """What a training would do and cost; from `estimate_fit`."""

    recipe: Recipe
    check: CheckReport
    counts: dict[str, int]  # training images of each class
    image_size: int
    channels: int
    seconds_per_step: float
    steps: int
    seconds: float  # at most: a training that gains nothing any more ends sooner
    jobs: int  # GANs at a time, each in a process of its own
    memory: int | None  # bytes of these processes at their peak; None where the system does not tell
    gpu_memory: int | None  # and of the GPU that one of them uses; None where it has none
    disk: int  # bytes of the run
    disk_peak: int  # and of its folder while it trains
    processes: int = 1  # that share each batch; time and memory were measured in one, with its part of it


@dataclass(frozen=True)
class Costs:
    """Measured: seconds of a step and of a checkpoint; bytes of a member's networks, of its state to resume and of a sheet of samples."""

    step: float
    checkpoint: float
    networks: int
    state: int
    sheet: int


def estimate_fit(data: str | Path, *, recipe: RecipeLike = None) -> Estimate:
    """What `fit` would do: checks and reads the data, measures TIMED steps and a checkpoint, and keeps nothing. Raises as `fit` does.

    Under torchrun, of a training in all its processes: measured in this one, with its part of a batch; what they exchange is not.
    """
    with planned() as part:
        return _estimate(data, share_out(load_recipe(recipe), part), part)


def _estimate(data: str | Path, resolved: Recipe, part: Part) -> Estimate:
    if resolved.fit.tensorboard:
        load_writer()
    device, begun = resolve_device(part.device(resolved.fit.device)), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ganaug-") as root:
        folder = RunFolder(Path(root))
        images, report = prepare(data, resolved.data, folder.data, device.type)
        reading, begun = time.monotonic() - begun, time.monotonic()
        members = STRATEGIES[resolved.fit.strategy](len(images.class_names))
        auto = resolved.data.mirror == "auto"
        mirror = "none" if resolved.data.mirror == "auto" else resolved.data.mirror
        resolved = settle_networks(resolved, images, device)
        resolved = compile_where_it_pays(resolved, images, device)
        settings = resolved.fit
        torch.set_num_threads(settings.threads or 1)
        split = split_images(images, resolved, device)
        few = judged(split[0], len(images.class_names), settings.seed)
        choosing, begun = time.monotonic() - begun, time.monotonic()
        dtype = resolve_precision(settings.precision, device)
        judge = train_judge(
            few.images, few.labels, len(images.class_names), mirror, settings.seed, dtype, settings.augment
        )
        judging = (time.monotonic() - begun) * (1 + (NUM_FOLDS if auto and len(few.labels) >= MIN_IMAGES else 0))
        reference = Reference(judge, few, split[1])
        training = training_data(split, members[0], mirror)
        own_part = settings.model_copy(update={"batch_size": settings.images_per_step // part.world})
        costs = measure(folder, training, reference, members[0], own_part, device, dtype)
        disk = sum(path.stat().st_size for path in folder.data.iterdir())
    jobs = num_jobs(settings, members, device)
    beside = SHARED_CORES if jobs > 1 and settings.cluster is None else 1.0
    steps = settings.steps or max(
        1, round(STEPS_SHARE * settings.budget / (costs.step * beside * length_of(members, jobs)))
    )
    own = {member: member_steps(member, steps) for member in members}
    moments = {member: checkpoints_of(count, member, settings) for member, count in own.items()}
    durations = [
        [own[member] * costs.step + moments[member] * costs.checkpoint for member in group] for group in waves(members)
    ]
    training_time = choosing + judging + beside * makespan(durations, jobs)
    memory = peak_memory()
    disk += len(members) * (costs.networks + costs.sheet)
    return Estimate(
        recipe=settled(resolved, images.image_size, device, steps),
        check=report,
        counts=images.counts("train"),
        image_size=images.image_size,
        channels=images.channels,
        seconds_per_step=costs.step,
        steps=steps,
        seconds=reading + (training_time if settings.steps else max(settings.budget, choosing + judging)),
        jobs=jobs,
        memory=memory and memory * (1 + jobs if jobs > 1 else 1),  # beside the workers, the process that waits for them
        gpu_memory=torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None,
        disk=disk,
        disk_peak=disk + jobs * (max(moments.values()) * costs.networks + costs.state),
        processes=part.world,
    )


def checkpoints_of(steps: int, member: Member, settings: FitSettings) -> int:
    """How often a member's training of so many steps is measured."""
    begins = 0.0 if member.parent or member.num_classes == 1 else settings.transition[1]
    return sum(is_checkpoint(step, steps) and (step >= begins * steps) for step in range(1, steps + 1))


def measure(
    folder: RunFolder,
    data: TrainingData,
    reference: Reference,
    member: Member,
    settings: FitSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> Costs:
    """Trains a member for WARM_UP and TIMED steps and takes a checkpoint, in a folder that will be thrown away. Where a GPU's memory
    does not hold the batch, with one that it holds, as the training would; but several processes do not halve it."""
    state = build_state(network_shape(data, member, settings), settings, member, device)

    def measuring() -> Costs:
        path, begun = folder.member(member.name), 0.0
        with track("timing steps", WARM_UP + TIMED) as advance:
            for step in range(WARM_UP + TIMED):
                if step == WARM_UP:
                    begun = clock(device)
                train_step(state, data, settings, conditioning_at(1.0, settings.transition), dtype)
                advance(step + 1)
        pace, begun = (clock(device) - begun) / TIMED, clock(device)
        take_checkpoint(state, data, reference, settings, member, path, dtype)
        good = remember(state)
        checkpoint = clock(device) - begun
        save_state(path / "state.pt", state, good, {}, "")
        save_networks(path, state.average, state.discriminator)
        sheet = folder.samples / "sheet.png"
        save_samples(sheet, state, data)
        networks = sum(file.stat().st_size for file in snapshot(path, state.step).iterdir())
        return Costs(pace, checkpoint, networks, (path / "state.pt").stat().st_size, sheet.stat().st_size)

    costs = measuring() if current().world > 1 else if_it_fits(measuring, state)
    if costs is not None:
        return costs
    smaller = settings.model_copy(update={"batch_size": halves(settings.images_per_step)})
    warn(
        f"out of memory: measured with batches of {smaller.images_per_step} images, to which the training would come down"
    )
    return measure(folder, data, reference, member, smaller, device, dtype)


def clock(device: torch.device) -> float:
    """Seconds, once all is done that the device was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def peak_memory() -> int | None:
    """Bytes that this process has held at most."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def format_bytes(count: int) -> str:
    """`1234567 -> '1.2 MB'`"""
    size, unit = (count / 1e9, "GB") if count >= 1e9 else (count / 1e6, "MB")
    return f"{size:.1f} {unit}"


def format_estimate(estimate: Estimate) -> str:
    """The resolved settings, the class table and the cost, for people."""
    size, seconds = estimate.image_size, format_duration(estimate.seconds)
    several = f", {estimate.jobs} GANs at a time" if estimate.jobs > 1 else ""
    memory = "" if estimate.memory is None else f", {format_bytes(estimate.memory)} of memory"
    more = [] if estimate.gpu_memory is None else [f"on the GPU: {format_bytes(estimate.gpu_memory)} of its memory"]
    if estimate.processes > 1:
        whole = estimate.recipe.fit.images_per_step
        part = f"{whole // estimate.processes} of {whole} images of a batch"
        more += [f"of each of {estimate.processes} processes, with {part}; the exchange of gradients comes on top"]
    return "\n".join(
        [
            format_report(estimate.check),
            "",
            "resolved settings",
            dump_recipe(estimate.recipe).rstrip(),
            "",
            f"training images: {sum(estimate.counts.values())} in {len(estimate.counts)} classes, "
            f"{size} x {size} px, {estimate.channels} channels",
            f"estimate: {estimate.steps} steps of {1000 * estimate.seconds_per_step:.0f} ms, {seconds} in all{several}{memory}, "
            f"{format_bytes(estimate.disk)} on disk ({format_bytes(estimate.disk_peak)} while it trains)",
            *more,
        ]
    )
