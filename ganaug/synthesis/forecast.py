"""What `synthesize` would make and cost, before it does: a few candidates are made, tested and written as it does, nothing is kept."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ..data.manifest import NAME, Row, manifest_writer
from ..data.source import open_source
from ..devices import num_cores
from ..errors import GanaugError
from ..gan.forecast import clock, format_bytes, peak_memory
from ..parallel import in_order
from ..progress import format_duration, track
from ..recipe import RecipeLike, dump_recipe
from ..runs import RunFolder, sync_disk, write_text
from ..settings import Recipe, SamplingWord
from .curation import Curator
from .halfway import Halfway
from .harvest import most_candidates, opener
from .plan import SamplingFunction
from .raw import make, name_images, num_processes, plan_tasks
from .sample import CHUNK
from .synthesize import (
    Request,
    add_files_for_others,
    describe_plan,
    make_tested,
    open_curator,
    open_request,
    open_writer,
    training_files,
    write_findings,
)
from .tally import Tally

MEASURED_CLASSES = 3  # of which CHUNK candidates are made and timed, each, once as many have warmed up
ENDLESS = 10**9  # images asked for while it is measured: none that passes is left out


@dataclass(frozen=True)
class SynthesisEstimate:
    """What a synthesis would make and cost; from `estimate_synthesize`."""

    recipe: Recipe
    counts: dict[str, int]  # images asked for, of each class
    real_counts: dict[str, int]  # training images of each class
    measured: int  # candidates that were made
    passed: int  # and how many of them would have been kept
    images: int  # that are expected in all
    candidates: int  # that they take
    seconds_per_candidate: float
    processes: int  # that make images; where there are several, this one writes what they make
    seconds: float
    memory: int | None  # bytes of each process at its peak; None where the system does not tell
    disk: int  # bytes of the folder


@dataclass(frozen=True)
class Costs:
    """Measured: candidates and what would be kept of them, by class; seconds until they come, of making one, of writing one, and of what
    follows the last; bytes of the folder's parts."""

    candidates: dict[str, int]
    kept: dict[str, int]
    before: float
    making: float
    writing: float
    after: float
    rows: int  # of the manifest
    images: int  # with what tells of them to other tools
    findings: int  # what became of the candidates
    others: int


def estimate_synthesize(
    run: str | Path,
    *,
    recipe: RecipeLike = None,
    sampling_strategy: SamplingWord | dict[str, int] | SamplingFunction | None = None,
    with_real: str | Path | None = None,
    parquet: bool = False,
    raw: bool = False,
    shards: bool = False,
    device: str = "auto",
) -> SynthesisEstimate:
    """What `synthesize` would make and cost: makes and tests one or two hundred candidates in a temporary folder, and keeps
    nothing, also no classifiers in the run.

    device: where the images are made and tested: auto, cpu, cuda or cuda:N.

    The other arguments are those of `synthesize`. Raises `GanaugError` as it does.
    """
    request = open_request(run, recipe, sampling_strategy, with_real, device, parquet=parquet, raw=raw, shards=shards)
    copied = 0 if with_real is None else count_bytes(request.folder, with_real)
    asked = {name: count for name, count in request.counts.items() if count}
    chosen = list(asked)[:: max(1, -(-len(asked) // MEASURED_CLASSES))]
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        costs = measure(Path(folder), request, chosen)
    measured, kept = sum(costs.candidates.values()), sum(costs.kept.values())
    expected = {}
    for name, count in asked.items():
        share = costs.kept[name] / costs.candidates[name] if name in costs.kept else kept / measured
        expected[name] = expect(request, count, share)
    candidates, images = (sum(numbers) for numbers in zip(*expected.values(), strict=True)) if expected else (0, 0)
    processes = num_processes(images, request.device) if raw else 1
    pace = costs.making + costs.writing
    if processes > 1:  # which share the cores with the one that writes
        pace = max(costs.writing, costs.making / processes, pace / num_cores())
    disk = costs.others + costs.rows * candidates / max(1, measured) + costs.images * images / max(1, kept)
    return SynthesisEstimate(
        recipe=request.recipe,
        counts=request.counts,
        real_counts=request.real_counts,
        measured=measured,
        passed=kept,
        images=images,
        candidates=candidates,
        seconds_per_candidate=pace,
        processes=processes,
        seconds=costs.before + max(0, candidates - CHUNK) * pace + costs.after,
        memory=peak_memory(),
        disk=round(disk + costs.findings * len(asked) / max(1, len(chosen))) + copied,
    )


def count_bytes(folder: RunFolder, data: str | Path) -> int:
    """Of the run's training images, as `data` hold them."""
    source, files = open_source(data), {entry["file"] for entry in training_files(folder)}
    there = [file.name for file in source.files if file.name in files]
    if len(there) < len(files):
        raise GanaugError(f"{data} is not what the run was trained on. Give the run's own data.")
    return sum(map(source.size, there))


def expect(request: Request, asked: int, share: float) -> tuple[int, int]:
    """How many candidates of a class are made for so many images, and how many images they give, where that share of them is kept."""
    if request.raw:
        return asked, asked
    most = most_candidates(asked, request.recipe.curation)
    needed = most if share * most <= asked else -(-round(asked / share) // CHUNK) * CHUNK
    return needed, min(asked, round(share * needed))


def measure(folder: Path, request: Request, chosen: Sequence[str]) -> Costs:
    """Makes CHUNK candidates of each class that is chosen, once as many of the first have warmed up, and all files, in a folder that will
    be thrown away."""
    device, tallies = request.device, [Tally(name, ENDLESS) for name in chosen]
    begun = now = clock(device)
    before = making = writing = 0.0
    tested = chosen and not request.raw
    curator = open_curator(request.folder, request.recipe, device, keep=False) if tested else None
    made = make_raw_blocks(request, tallies) if curator is None else make_tested_blocks(request, curator, tallies)
    with (
        manifest_writer(folder) as write,
        open_writer(folder, request, Halfway([])) as save,
        track("timing candidates", (1 + len(chosen)) * CHUNK) as advance,
    ):
        for number, block in enumerate(made):
            middle = clock(device)
            for row, content in block:
                write(row)
                if content is not None:
                    save(row, content)
            making, writing = making + middle - now, writing + clock(device) - middle
            if number == 0:
                before, making, writing = clock(device) - begun, 0.0, 0.0
            advance((1 + number) * CHUNK)
            now = clock(device)
    now = clock(device)
    rows = (folder / NAME).stat().st_size
    plain = size_of(folder)
    if curator is not None:
        write_findings(folder, request, curator, tallies)
    findings = size_of(folder) - plain
    write_text(folder / "recipe.yaml", dump_recipe(request.recipe))
    add_files_for_others(folder, request)
    sync_disk(folder)
    others = sum((folder / name).stat().st_size for name in ("recipe.yaml", "README.md") if (folder / name).is_file())
    timed = max(1, len(chosen) * CHUNK)
    return Costs(
        candidates={tally.class_name: tally.candidates for tally in tallies},
        kept={tally.class_name: tally.kept for tally in tallies},
        before=before,
        making=making / timed,
        writing=writing / timed,
        after=clock(device) - now,
        rows=rows,
        images=size_of(folder) - rows - findings - others,
        findings=findings,
        others=others,
    )


Block = list[tuple[Row, bytes | None]]  # CHUNK candidates, with the files of those that are kept


def make_tested_blocks(request: Request, curator: Curator, tallies: Sequence[Tally]) -> Iterator[Block]:
    """Two blocks of the first class, one of each other, counted in the tallies."""
    for number, tally in enumerate(tallies):
        made = make_tested(request, curator, [tally])
        for _ in range(1 + (number == 0)):
            yield list(islice(made, CHUNK))


def make_raw_blocks(request: Request, tallies: Sequence[Tally]) -> Iterator[Block]:
    """The same without tests. Where many are asked for, the processes that make them begin, and end, before the first block."""
    processes = num_processes(sum(request.counts.values()), request.device)
    networks_of = opener(request.folder, request.device)
    for number, tally in enumerate(tallies):
        of_class = replace(tally, asked=1)
        strategy, settings = request.info["strategy"], request.recipe.synthesize
        (task,) = plan_tasks(request.folder, strategy, request.class_names, of_class, settings, request.device)
        checkpoint = networks_of(task.member)[2]
        if number == 0 and processes > 1:
            list(in_order(make, [task] * processes, processes))
        for block in range(1 + (number == 0)):
            own = replace(task, begin=block * CHUNK, end=(block + 1) * CHUNK)
            tally.candidates = tally.kept = tally.candidates + CHUNK
            yield list(name_images(own, make(own), checkpoint))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def format_synthesis(estimate: SynthesisEstimate) -> str:
    """The plan, the resolved settings of this stage and the cost, for people."""
    stages = dump_recipe(estimate.recipe, ("synthesize", "curation")).rstrip()
    several = f" in each of {estimate.processes + 1} processes" if estimate.processes > 1 else ""
    memory = "" if estimate.memory is None else f", {format_bytes(estimate.memory)} of memory{several}"
    asked = sum(estimate.counts.values())
    short = "" if estimate.images == asked else f" of the {asked:,} asked for"
    return "\n".join(
        [
            describe_plan(estimate.counts, estimate.real_counts),
            "",
            "resolved settings",
            stages,
            "",
            f"measured: {estimate.passed:,} of {estimate.measured:,} candidates would be kept",
            f"estimate: {estimate.images:,} images{short}, {estimate.candidates:,} candidates of "
            f"{1000 * estimate.seconds_per_candidate:.1f} ms, {format_duration(estimate.seconds)} in all{memory}, "
            f"{format_bytes(estimate.disk)} on disk",
        ]
    )
