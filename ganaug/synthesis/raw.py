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
from ..gan.strategies import STRATEGIES, generating_member
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
    members = STRATEGIES[strategy](len(class_names))
    tasks, checkpoints, networks_of = [], {}, opener(folder, torch.device("cpu"))
    for tally in tallies:
        name, count = tally.class_name, tally.asked or 0
        index = class_names.index(name)
        member = generating_member(members, index)
        checkpoints[name] = networks_of(member.name)[2] if count else ""
        tasks += [
            Task(
                folder.root.resolve(),
                member.name,
                name,
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
    if jobs is None:
        left = sum((tally.asked or 0) - tally.kept for tally in tallies)
        jobs = cpu_count() if device.type == "cpu" and left > FEW else 1
    by_name = {tally.class_name: tally for tally in tallies}
    for task, found in zip(tasks, in_order(make, tasks, jobs), strict=True):
        tally = by_name[task.class_name]
        for number, (seed, content) in enumerate(found, task.begin):
            if number < tally.kept:
                continue
            file = f"{task.class_name}/synthetic-{number:06d}.png"
            row = Row(
                file,
                task.class_name,
                "synthetic",
                seed=seed,
                checkpoint=checkpoints[task.class_name],
                truncation=settings.truncation,
            )
            tally.candidates = tally.kept = tally.passed = number + 1
            yield row, content


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


@lru_cache(maxsize=1)
def _generator(root: Path, member: str, device: str) -> AnyGenerator:
    """Kept from task to task. A run is complete: nothing in it changes."""
    return open_member(RunFolder(root), member, torch.device(device))[0]
