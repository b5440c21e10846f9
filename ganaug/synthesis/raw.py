"""Images without any test, as fast as the generator makes them: in processes, each with a core of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from joblib import cpu_count

from ..data.images import FAST, encode_png
from ..data.manifest import Row
from ..gan.mixing import AnyGenerator
from ..gan.strategies import generating_member, members_of
from ..parallel import in_order
from ..runs import RunFolder
from ..settings import SynthesizeSettings
from .harvest import open_member, opener
from .sample import CHUNK, generate, image_seed
from .tally import Tally

TASK = 8 * CHUNK  # images that a process makes at a time
FEW = 2048  # images that are made here before other processes have begun


@dataclass(frozen=True)
class Task:
    """Images `begin` to `end` of a class: its index in the data and the network's label of it."""

    root: Path
    member: str
    class_name: str
    index: int
    label: int
    begin: int
    end: int
    seed: int
    truncation: float
    device: str


def make_raw(
    folder: RunFolder,
    strategy: str,
    class_names: Sequence[str],
    tallies: Sequence[Tally],
    settings: SynthesizeSettings,
    device: torch.device,
    jobs: int | None = None,
) -> Iterator[tuple[Row, bytes]]:
    """Yields the first images of every class, in order, as rows and the bytes of PNG files: those that `harvest` tests first. Counts in the
    tallies, and goes on from what they count already. The images depend on neither `jobs`, by default a process for each core, nor on the
    number of images; each is made with one thread."""
    tasks = [task for tally in tallies for task in plan_tasks(folder, strategy, class_names, tally, settings, device)]
    networks_of = opener(folder, torch.device("cpu"))
    checkpoints = {task.class_name: networks_of(task.member)[2] for task in tasks}
    if jobs is None:
        jobs = num_processes(sum((tally.asked or 0) - tally.kept for tally in tallies), device)
    by_name = {tally.class_name: tally for tally in tallies}
    for task, found in zip(tasks, in_order(make, tasks, jobs), strict=True):
        tally = by_name[task.class_name]
        for number, (row, content) in enumerate(name_images(task, found, checkpoints[task.class_name]), task.begin):
            if number >= tally.kept:
                tally.candidates = tally.kept = tally.passed = number + 1
                yield row, content


def num_processes(count: int, device: torch.device) -> int:
    """That make so many images: one for each core, if there are more than FEW and no GPU makes them."""
    return cpu_count() if device.type == "cpu" and count > FEW else 1


def plan_tasks(
    folder: RunFolder,
    strategy: str,
    class_names: Sequence[str],
    tally: Tally,
    settings: SynthesizeSettings,
    device: torch.device,
) -> list[Task]:
    """The images of a class that its tally asks for, but for whole chunks of those that it counts."""
    index, count = class_names.index(tally.class_name), tally.asked or 0
    member = generating_member(members_of(strategy, len(class_names)), index)
    return [
        Task(
            folder.root.resolve(),
            member.name,
            tally.class_name,
            index,
            member.label_of(index),
            begin,
            min(begin + TASK, count),
            settings.seed,
            settings.truncation,
            str(device),
        )
        for begin in range(tally.kept // CHUNK * CHUNK, count, TASK)  # each image has its place in a chunk
    ]


def make(task: Task) -> list[tuple[int, bytes]]:
    """The seeds of the images, and the bytes of their files."""
    device = torch.device(task.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seeds = [image_seed(task.seed, task.index, number) for number in range(task.begin, task.end)]
        chunks = generate(_generator(task.root, task.member, task.device), seeds, task.label, task.truncation, device)
        images = torch.cat([chunk.cpu() for chunk in chunks])[: len(seeds)].permute(0, 2, 3, 1).numpy()
    finally:
        torch.set_num_threads(threads)
    return [(seed, encode_png(image, FAST)) for seed, image in zip(seeds, images, strict=True)]


def name_images(task: Task, made: Sequence[tuple[int, bytes]], checkpoint: str) -> Iterator[tuple[Row, bytes]]:
    """The rows of what `make` has made, each with the bytes of its file."""
    for number, (seed, content) in enumerate(made, task.begin):
        name, file = task.class_name, f"{task.class_name}/synthetic-{number:06d}.png"
        yield Row(file, name, "synthetic", seed=seed, checkpoint=checkpoint, truncation=task.truncation), content


@lru_cache(maxsize=1)
def _generator(root: Path, member: str, device: str) -> AnyGenerator:
    """Kept from task to task. A run is complete: nothing in it changes."""
    return open_member(RunFolder(root), member, torch.device(device))[0]
