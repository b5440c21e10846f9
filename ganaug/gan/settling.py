"""What a short measurement decides before a training: threads, precision, width, batches, compiled networks."""

import math
import time
from contextlib import suppress

import torch

from ..data.cache import ImageSet
from ..devices import num_cores, resolve_precision
from ..progress import say, track
from ..settings import BATCH_SIZE, LARGEST_BATCH_SIZE, FitSettings, Recipe
from .compiled import settle_compile
from .crew import num_jobs, threads_to_try
from .member import build_state, halves, network_shape
from .ranks import current
from .shares import split_images, training_data
from .steps import TrainingData, train_step
from .strategies import STRATEGIES, Member, length_of

NUM_TIMED_STEPS = 6  # after as many to warm up
WIDTHS = {"cpu": (16, 32), "cuda": (32, 64, 128)}  # of the networks, tried in this order
BATCHES = {"cpu": (BATCH_SIZE,), "cuda": (BATCH_SIZE, 2 * BATCH_SIZE, LARGEST_BATCH_SIZE)}  # images of a step, likewise
DEFAULT_WIDTH = 32  # where the number of steps is given and not the time
CLEARLY_FASTER = 0.9  # of the other's time: what two measurements of the same may differ by decides nothing
HARDLY_LONGER = 1.2  # of the time of a step with half as many images, which does not fill the device
ENOUGH_STEPS = 5000  # that a wider network must be able to take in the budget


def measure_pace(
    data: TrainingData, member: Member, settings: FitSettings, device: torch.device, threads: int
) -> float:
    """Seconds of a training step with that many CPU threads, measured; of this process's part of a batch. Infinity where a GPU's
    memory does not hold it."""
    settings = settings.model_copy(update={"batch_size": settings.images_per_step // current().world})
    dtype = resolve_precision(settings.precision, device)
    torch.set_num_threads(threads)
    pace = math.inf
    with (
        track(f"timing steps of width {settings.width} on {threads} cores", 2 * NUM_TIMED_STEPS) as advance,
        suppress(torch.OutOfMemoryError),
    ):
        state = build_state(network_shape(data, member, settings), settings, member, device)
        for done in (0, NUM_TIMED_STEPS):  # the first round warms up
            begun = time.monotonic()
            for step in range(1, NUM_TIMED_STEPS + 1):
                train_step(state, data, settings, 1.0, dtype)
                advance(done + step)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if done:
                pace = (time.monotonic() - begun) / NUM_TIMED_STEPS
    return pace


def settle_networks(recipe: Recipe, images: ImageSet, device: torch.device) -> Recipe:
    """The recipe with the fastest number of threads, the faster precision, the width that the budget allows and, of one process on a GPU,
    batches as large as cost it next to nothing, all measured; a resumed or repeated run then keeps them.

    Threads wait for one another at every layer, so that on a machine with other work one may be faster than two. Where a GPU's memory
    does not hold the batch, a smaller one is measured, as the training will halve its own.
    """
    batches: tuple[int, ...] = (recipe.fit.images_per_step,)
    if recipe.fit.batch_size == "auto" and recipe.fit.steps is None and current().world == 1:
        batches = BATCHES[device.type]
    settings = recipe.fit.model_copy(update={"batch_size": batches[0]})
    if settings.threads is not None and settings.width != "auto" and len(batches) == 1:
        return recipe.model_copy(update={"fit": settings})
    members = STRATEGIES[settings.strategy](len(images.class_names))
    member = members[0]
    data = training_data(split_images(images, recipe, device), member, recipe.data.mirror)
    widths: tuple[int, ...] = (DEFAULT_WIDTH,) if settings.width == "auto" else (settings.width,)
    if settings.width == "auto" and settings.steps is None:
        widths = WIDTHS[device.type]
    settings = settings.model_copy(update={"width": widths[0], "compile": False})
    cores = current().cores(num_cores()) if device.type == "cpu" else 1
    candidates = [settings.threads] if settings.threads else threads_to_try(settings, members, device, cores)
    paces: dict[int, float] = {}
    with track("measuring the speed", len(candidates) + len(widths) + len(batches) - 1) as advance:
        for count in candidates:
            paces[count] = measure_pace(data, member, settings, device, count)
            while math.isinf(paces[count]) and halves(settings.images_per_step) and current().world == 1:
                settings = settings.model_copy(update={"batch_size": halves(settings.images_per_step)})
                paces[count] = measure_pace(data, member, settings, device, count)
            advance(len(paces))
        threads = min(paces, key=lambda count: paces[count])
        pace = paces[threads]
        if settings.precision == "auto" and device.type == "cpu" and resolve_precision("auto", device) != torch.float32:
            plain = settings.model_copy(update={"precision": "fp32"})
            pace_of_plain = measure_pace(data, member, plain, device, threads)
            if pace_of_plain < CLEARLY_FASTER * pace:
                settings, pace = plain, pace_of_plain
        jobs = num_jobs(settings.model_copy(update={"threads": threads}), members, device)
        length = length_of(members, jobs)
        for done, width in enumerate(widths[1:], start=len(paces) + 1):
            wider = settings.model_copy(update={"width": width})
            pace_of_wider = measure_pace(data, member, wider, device, threads)
            advance(done + 1)
            if settings.budget * member.share / length / pace_of_wider < ENOUGH_STEPS:
                break
            settings, pace = wider, pace_of_wider
        is_held = settings.images_per_step == batches[0]  # by the memory, which else holds no larger ones either
        for done, size in enumerate(batches[1:] if is_held else (), start=len(paces) + len(widths)):
            larger = settings.model_copy(update={"batch_size": size})
            pace_of_larger = measure_pace(data, member, larger, device, threads)
            advance(done + 1)
            if pace_of_larger > HARDLY_LONGER * pace:
                break
            settings, pace = larger, pace_of_larger
    what = f"networks of width {settings.width}, batches of {settings.batch_size}, {threads} of {num_cores()} cores"
    say(f"{what}: {1000 * pace:.0f} ms a step")
    found = {"threads": threads, "width": settings.width, "precision": settings.precision}
    found |= {"batch_size": max(batches[0], settings.images_per_step)}  # a training halves its own where it must
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update=found)})


def compile_where_it_pays(recipe: Recipe, images: ImageSet, device: torch.device) -> Recipe:
    """The recipe with `fit.compile` settled, once the threads, the width and the precision are."""

    def measure(settings: FitSettings) -> float:
        member = STRATEGIES[settings.strategy](len(images.class_names))[0]
        data = training_data(split_images(images, recipe, device), member, recipe.data.mirror)
        return measure_pace(data, member, settings, device, settings.threads or 1)

    compiled = settle_compile(recipe.fit, device, current().world, measure)
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"compile": compiled})})
