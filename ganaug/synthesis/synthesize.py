"""The stage `synthesize`: from a run to a folder of new images that have passed the tests, with a manifest."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..data.cache import load
from ..data.images import FAST, Pixels, encode_png
from ..data.interop import metadata_columns, write_dataset_json, write_metadata
from ..data.manifest import TEMPORARY, Row, manifest_writer, read_manifest, require_parquet, write_parquet
from ..data.source import open_source
from ..data.split import draw
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..progress import say, track, warn
from ..recipe import RecipeLike, dump_recipe, load_recipe
from ..reporting.cards import dataset_card
from ..reporting.pairs import write_pairs_page
from ..reporting.pictures import PAIRS, write_pairs
from ..runs import (
    NETWORKS,
    RunFolder,
    checkpoint_of,
    filled_whole,
    open_run,
    read_json,
    sync_disk,
    write_json,
    write_text,
)
from ..sessions import signals_wait
from ..settings import Recipe, SamplingWord
from .curation import Curator, build_curator, real_images
from .halfway import NAME, SAVE_INTERVAL, SHOW_INTERVAL, Halfway, load_halfway, refuse_halfway, save_halfway
from .harvest import harvest
from .plan import COUNT_REQUESTS, SamplingFunction, call_strategy, plan_counts
from .raw import make_raw
from .referees import NAME as REFEREES
from .tally import Tally, closest_pairs, describe_harvest, summarize
from .writing import Save, folder_writer, shard_writer

COMPARED = 20_000  # training images that each candidate is compared with, at most


def synthesize(
    run: str | Path,
    out: str | Path,
    *,
    recipe: RecipeLike = None,
    sampling_strategy: SamplingWord | dict[str, int] | SamplingFunction | None = None,
    with_real: str | Path | None = None,
    parquet: bool = False,
    raw: bool = False,
    shards: bool = False,
    device: str = "auto",
) -> dict[str, int]:
    """Writes synthetic images that passed the tests as `out/<class>/<id>.png` and `out/manifest.csv`; returns their numbers.

    run: a complete run; the data it was trained on are not needed. Classifiers of its training images, which judge the
        synthetic ones, are trained when first needed and kept in it.
    out: a folder that is new or empty. It appears only when everything in it is complete; the same command goes on with what was
        interrupted. It holds the images, the manifest, what became of the candidates (curation.json, pairs.npz), metadata.jsonl and
        README.md, a card, for Hugging Face, and dataset.json for the StyleGAN family.
    recipe: settings that differ from the run's own, e.g. {"synthesize": {"per_class": 100}, "curation": {"keep": 0.5}}; see
        `SynthesizeSettings`, `CurationSettings` and, of `FitSettings`, threads.
    sampling_strategy: as imbalanced-learn's, in place of the recipe's: a word, {class: images in all}, or a function from
        the list of the training images' classes to such a mapping.
    with_real: the data of the run, to copy its training images beside the synthetic ones.
    parquet: also writes manifest.parquet, which needs pyarrow.
    raw: leaves out all tests and every choice, and with them curation.json and pairs.npz: as fast as the generator is.
    shards: writes the images to tar files in WebDataset's convention, for sets too large for folders (see `writing.shard_writer`), with
        manifest.csv and shards.json beside them; none of the files for other tools.
    device: where the images are made and tested: auto, cpu, cuda or cuda:N.

    Raises `GanaugError` for an incomplete run, a target that is not empty, an unknown class, contradicting counts. A class
    that cannot be filled is warned of and stays smaller.
    """
    request = open_request(run, recipe, sampling_strategy, with_real, device, parquet=parquet, raw=raw, shards=shards)
    target = Path(out).resolve()
    with filled_whole(target, progress=NAME) as partial:
        refuse_filled(target)
        say(describe_plan(request.counts, request.real_counts))
        identity = describe_request(request)
        halfway = open_halfway(partial, identity, request)
        real = [] if with_real is None else copy_real(request.folder, with_real, partial)
        fill_folder(partial, request, halfway, identity, real)
        add_files_for_others(partial, request)
        (partial / NAME).unlink(missing_ok=True)
    for complaint in filter(None, (tally.complain() for tally in halfway.tallies)):
        warn(complaint)
    return {tally.class_name: tally.kept for tally in halfway.tallies}


@dataclass(frozen=True)
class Request:
    """What is asked of a run, settled: images of each class by the settings of all stages, and how they are made and written."""

    folder: RunFolder
    info: dict[str, Any]  # the run's
    recipe: Recipe
    counts: dict[str, int]
    device: torch.device
    with_real: bool
    parquet: bool
    raw: bool
    shards: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.info["class_names"])

    @property
    def real_counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.info["counts"]["train"]
        return counts


def open_request(
    run: str | Path,
    recipe: RecipeLike,
    sampling_strategy: SamplingWord | dict[str, int] | SamplingFunction | None,
    with_real: str | Path | None,
    device: str,
    *,
    parquet: bool,
    raw: bool,
    shards: bool,
) -> Request:
    """The arguments of `synthesize`, settled; the threads, too. Raises `GanaugError` as it does, but for what concerns its target."""
    folder, info = open_run(run)
    real_counts: dict[str, int] = info["counts"]["train"]
    if callable(sampling_strategy):
        sampling_strategy = call_strategy(sampling_strategy, real_counts)
    resolved = settle_request(recipe, load_recipe(folder.recipe), sampling_strategy)
    if parquet:
        require_parquet()
    if shards and with_real is not None:
        raise GanaugError("shards hold synthetic images alone. Leave out either --shards or --with-real.")
    counts = plan_counts(resolved.synthesize, real_counts)
    place = resolve_device(device)
    torch.set_num_threads(resolved.fit.threads or num_cores())
    return Request(folder, info, resolved, counts, place, with_real is not None, parquet, raw, shards)


def settle_request(
    recipe: RecipeLike, of_run: Recipe, sampling_strategy: SamplingWord | dict[str, int] | None = None
) -> Recipe:
    """The run's recipe with what `recipe` says of this stage. A request for counts replaces another one of the run's."""
    asked = load_recipe(recipe).synthesize
    base = of_run.synthesize
    if sampling_strategy is not None or any(getattr(asked, name) is not None for name in COUNT_REQUESTS):
        base = base.model_copy(update=dict.fromkeys(COUNT_REQUESTS))
    merged = load_recipe(recipe, base=of_run.model_copy(update={"synthesize": base}))
    if sampling_strategy is not None:
        merged = load_recipe({"synthesize": {"sampling_strategy": sampling_strategy}}, base=merged)
    fit = of_run.fit.model_copy(update={"threads": merged.fit.threads})
    return of_run.model_copy(update={"fit": fit, "synthesize": merged.synthesize, "curation": merged.curation})


def refuse_filled(target: Path) -> None:
    """Raises `GanaugError` unless `target` is new or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise GanaugError(f"{target} is not an empty folder, and nothing in it is overwritten. Give a new --out.")


def describe_plan(counts: Mapping[str, int], real_counts: Mapping[str, int]) -> str:
    """The plan as a table, for people."""
    width = max(map(len, ("class", *counts)))
    rows = [f"{name:{width}}  {real_counts[name]:>9,}  {count:>9,}" for name, count in counts.items()]
    return "\n".join([f"{'class':{width}}  {'real':>9}  {'synthetic':>9}", *rows])


def open_curator(folder: RunFolder, recipe: Recipe, device: torch.device, keep: bool = True) -> Curator:
    """What the run's images are tested with: its training images, or COMPARED of them drawn alike from all classes. Classifiers that it
    does not hold yet are trained and, with `keep`, kept in it."""
    images = load(folder.data)
    rows = images.indices("train")
    few = None
    if len(rows) > COMPARED:
        few = rows[draw(images.labels[rows], max(1, COMPARED // len(images.class_names)), recipe.fit.seed)]
        warn(
            f"images are tested against {len(few):,} of {len(rows):,} training images; a copy of another one goes unseen."
        )
    store = folder.curation if keep or (folder.curation / REFEREES).is_file() else None
    return build_curator(real_images(images, recipe, few), recipe.curation, recipe.fit.seed, device, store)


def fill_folder(partial: Path, request: Request, halfway: Halfway, identity: str, real: Sequence[Row]) -> None:
    """Writes the images that the request asks for and `halfway` does not count yet, what became of the candidates, and the manifest, with
    the rows of `real` images."""
    tallies = halfway.tallies
    with manifest_writer(partial, halfway.size) as write, open_writer(partial, request, halfway) as store:

        def save() -> None:
            sync_disk(partial)
            halfway.size = (partial / TEMPORARY).stat().st_size
            save_halfway(partial, identity, halfway)

        if request.raw:
            strategy, settings = request.info["strategy"], request.recipe.synthesize
            made = make_raw(request.folder, strategy, request.class_names, tallies, settings, request.device)
            write_images(made, tallies, write, store, save)
        elif any(request.counts.values()):
            curator = open_curator(request.folder, request.recipe, request.device)
            if any(pair.nearest >= len(curator.real.files) for tally in tallies for pair in tally.pairs):
                raise GanaugError(f"{partial / NAME} is damaged. Delete {partial} and repeat the command.")
            write_images(make_tested(request, curator, tallies), tallies, write, store, save)
            write_findings(partial, request, curator, tallies)
        for row in real:
            write(row)
    write_text(partial / "recipe.yaml", dump_recipe(request.recipe))


def open_writer(partial: Path, request: Request, halfway: Halfway) -> AbstractContextManager[Save]:
    return shard_writer(partial, request.class_names, halfway.shards) if request.shards else folder_writer(partial)


def make_tested(request: Request, curator: Curator, tallies: Sequence[Tally]) -> Iterator[tuple[Row, bytes | None]]:
    """`harvest`, with the files of the images that are kept."""
    return map(
        encode, harvest(request.folder, request.info["strategy"], curator, tallies, request.recipe, request.device)
    )


def write_findings(partial: Path, request: Request, curator: Curator, tallies: Sequence[Tally]) -> None:
    """What became of the candidates, and the closest pairs among the images."""
    found = summarize(tallies, curator)
    write_json(partial / "curation.json", found)
    title, pairs = f"Synthetic images of {Path(request.info['source']).name}", closest_pairs(tallies, curator)
    write_pairs_page(partial / "curation.html", title, found, pairs)
    write_pairs(partial / PAIRS, pairs)


def encode(made: tuple[Row, Pixels | None]) -> tuple[Row, bytes | None]:
    row, image = made
    return row, None if image is None else encode_png(image.transpose(1, 2, 0), FAST)


def write_images(
    made: Iterator[tuple[Row, bytes | None]],
    tallies: Sequence[Tally],
    write: Callable[[Row], None],
    store: Save,
    save: Callable[[], None],
) -> None:
    """Writes a row for each candidate that the tallies count, and the files of those that are kept; saves what to go on from at
    intervals, and when a signal comes."""
    written = sum(tally.candidates for tally in tallies)
    begun = shown = time.monotonic()
    total = sum(tally.asked or 0 for tally in tallies)
    with track("synthesize", total, describe_harvest(tallies)[0]) as advance, signals_wait() as has_come:
        for row, content in made:
            write(row)
            written += 1
            if content is not None:
                store(row, content)
            now = time.monotonic()
            if now - shown > SHOW_INTERVAL:
                shown = now
                advance(*describe_harvest(tallies))
            due = has_come() or now - begun > SAVE_INTERVAL
            if due and written == sum(tally.candidates for tally in tallies):  # the tallies count a block at once
                begun = now
                save()
                if has_come():
                    return
        advance(total)  # where a class stays smaller, too


def describe_request(request: Request) -> str:
    """A hash of all that decides what is made."""
    folder, info = request.folder, request.info
    files = [folder.member(name) / f"{net}.safetensors" for name in info["members"] for net in NETWORKS]
    weights = [checkpoint_of(path) for path in files if path.is_file()]
    how = (str(request.device), request.raw, request.shards, request.with_real)
    known = [dump_recipe(request.recipe), request.counts, weights, how]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def open_halfway(partial: Path, identity: str, request: Request) -> Halfway:
    """Where an interrupted synthesis of the same request stood, or the beginning. Raises `GanaugError` where the folder holds one of
    another request."""
    found = load_halfway(partial, identity, request.counts)
    if found is not None:
        say(f"going on after {sum(tally.kept for tally in found.tallies):,} images")
        return found
    refuse_halfway(partial, " with other settings, or of another version of ganaug")
    shutil.rmtree(partial)
    partial.mkdir()
    return Halfway([Tally(name, asked) for name, asked in request.counts.items()])


def add_files_for_others(folder: Path, request: Request) -> None:
    """Beside the manifest; of those for folders, shards need none."""
    if not request.shards:
        finish_folder(folder, request.info, request.parquet)
    elif request.parquet:
        write_parquet(folder)


def finish_folder(folder: Path, info: Mapping[str, Any], parquet: bool) -> None:
    """The files for other tools, once the manifest is there. `info` is the run's."""
    table = read_manifest(folder)
    write_metadata(folder, table)
    write_dataset_json(folder, table, tuple(info["class_names"]))
    if parquet:
        write_parquet(folder)
    made = table.loc[table["source"] == "synthetic", "class"].value_counts()
    counts = {name: int(made[name]) for name in info["class_names"] if name in made}
    files = {path.name for path in folder.iterdir()}
    source = Path(info["source"]).name
    num_real = len(table) - sum(counts.values())
    write_text(
        folder / "README.md",
        dataset_card(source, info["class_names"], counts, num_real, metadata_columns(table), files),
    )


def training_files(folder: RunFolder) -> list[dict[Hashable, Any]]:
    """The run's labeled training images as its data tell of them: file, class, sha256."""
    index = pd.read_csv(folder.data / "index.csv", dtype=str, keep_default_na=False)
    return index[index["split"] == "train"].to_dict("records")


def copy_real(folder: RunFolder, data: str | Path, target: Path) -> list[Row]:
    """Copies the run's training images, byte for byte, into the class folders of `target`.

    Raises `GanaugError` if `data` lacks one of them or holds another image under its name.
    """
    source, info, entries = open_source(data), read_json(folder.info), training_files(folder)
    rows: list[Row] = []
    with track("copying real images", len(entries)) as advance:
        for number, entry in enumerate(entries):
            name, file = entry["class"], entry["file"]
            if name not in info["class_names"]:
                raise GanaugError(
                    f"{folder.data / 'index.csv'} is damaged: the run has no class {name!r}. Fit again, with another --out."
                )
            try:
                content = source.read(file)
            except (OSError, KeyError, GanaugError):
                content = b""
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise GanaugError(
                    f"{data} is not what the run was trained on: {file} is missing or has changed. Give the run's own data."
                )
            copy = f"{name}/real-{number:06d}{Path(file).suffix.lower()}"
            (target / name).mkdir(parents=True, exist_ok=True)
            (target / copy).write_bytes(content)
            rows.append(Row(file=copy, class_name=name, source="real", original=file))
            advance(number + 1)
    return rows
