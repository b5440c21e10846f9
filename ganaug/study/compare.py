"""The stage `compare`: four arms, paired over seeds, judged once on the untouched test images."""

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classify.training import Labeled
from ..data import manifest
from ..data.cache import ImageSet, load
from ..data.images import DecodeError, decode, match_channels, resize
from ..data.source import open_source
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.strategies import STRATEGIES
from ..progress import say, warn
from ..runs import RunFolder, open_run, read_json, write_json, write_text
from ..settings import CompareSettings, Recipe, RecipeLike, dump_recipe, keep_settled, load_recipe
from ..synthesis.plan import COUNT_REQUESTS
from ..synthesis.synthesize import settle_request, synthesize
from .arms import ARMS
from .convergence import Choice, affordable_updates, choose_updates, inner_folds
from .pieces import Material, Piece, train_pieces
from .record import describe_study, write_tables


def compare(
    run: str | Path, out: str | Path | None = None, *, synthetic: str | Path | None = None, recipe: RecipeLike = None
) -> Path:
    """Says whether synthetic images help: trains every arm of `ARMS` with the same seeds and writes the study's folder.

    run: a complete run, which holds the training and the untouched test images.
    out: the study's folder, RUN/study by default. An interrupted study of the same settings goes on where it was.
    synthetic: a folder of class folders, from `synthesize` or any other tool; without it, images are drawn from the run.
    recipe: settings of `compare`, and of `synthesize` where images are drawn, that differ from the run's own, e.g.
        {"compare": {"seeds": 10}}; see `CompareSettings`. Data and GAN are the run's.

    Returns the path of study.json; beside it metrics.csv, curves.csv, gan.csv, examples.npz and recipe.yaml.
    Raises `GanaugError` for an incomplete run, a folder with another study, classes that the run does not know.
    """
    begun = time.monotonic()
    run_folder, info = open_run(run)
    folder = Path(out) if out is not None else run_folder.root / "study"
    resolved = settle_recipe(recipe, load_recipe(run_folder.recipe), draws=synthetic is None)
    settings = resolved.compare
    images = load(run_folder.data)
    refuse_hopeless(images, run, settings)
    pool = None if synthetic is None else load_synthetic(Path(synthetic), images, resolved)
    claim_folder(folder, run_folder, info, resolved, pool)
    if (folder / "study.json").is_file():
        say(f"{folder}: the study is complete already")
        return folder / "study.json"
    source = folder / "synthetic" if synthetic is None else Path(synthetic)
    if pool is None:
        if not (source / manifest.NAME).is_file():
            synthesize(run, source, recipe=resolved, device=settings.device)
        pool = load_synthetic(source, images, resolved)
    device = resolve_device(settings.device)
    jobs = (settings.jobs or num_cores()) if device.type == "cpu" else 1
    material = Material(
        backbone=load_member(run_folder, most_trained_member(info))[1].backbone,
        num_classes=len(images.class_names),
        train=Labeled(*images.subset("train")),
        held=Labeled(*images.subset("test")),
        synthetic=pool,
        mirror=resolved.data.mirror,
    )
    choice = settle_updates(material, images, resolved, folder, device, jobs)
    pieces = [
        Piece(f"{arm.replace('/', '-')}-{seed}", arm, seed, choice.chosen)
        for seed in range(settings.seeds)
        for arm in ARMS
    ]
    outcomes = train_pieces("compare", pieces, material, settings, folder / "pieces", device, jobs)
    final = resolved.model_copy(update={"compare": settings.model_copy(update={"updates": choice.chosen})})
    write_text(folder / "recipe.yaml", dump_recipe(final))
    study = describe_study(run_folder, info, images, final, material, choice, pieces, outcomes, folder, source)
    write_tables(folder, run_folder, info, pieces, outcomes, study, material)
    write_json(folder / "study.json", study | {"seconds": round(time.monotonic() - begun, 1)})
    say(study["sentence"])
    return folder / "study.json"


def settle_recipe(recipe: RecipeLike, of_run: Recipe, draws: bool) -> Recipe:
    """The run's recipe with what `recipe` says of this stage, and of `synthesize` where it `draws` the images itself."""
    wanted = keep_settled(load_recipe(recipe, base=of_run), of_run)
    if (wanted.data, wanted.fit) != (of_run.data, of_run.fit):
        warn("compare uses the run as it is: settings of data and fit that differ from the run's have no effect.")
    synthesis = of_run.synthesize
    if draws:
        request = {**dict.fromkeys(COUNT_REQUESTS), "per_class": wanted.compare.pool_per_class, "classes": ()}
        synthesis = settle_request(recipe, of_run).synthesize.model_copy(update=request)
    return of_run.model_copy(
        update={
            "compare": wanted.compare,
            "synthesize": synthesis,
            "curation": wanted.curation if draws else of_run.curation,
        }
    )


def refuse_hopeless(images: ImageSet, origin: str | Path, settings: CompareSettings) -> None:
    """Raises `GanaugError` where no comparison is possible, or no choice of the updates."""
    if len(images.class_names) < 2:
        raise GanaugError(
            f"{origin} has one class alone, and a classifier needs two. Use data with more class folders."
        )
    if not len(images.indices("test")):
        raise GanaugError(
            f"{origin} gives no test images, so nothing can be compared. Use data with more images, or with test/."
        )
    if settings.updates is None:
        rows = images.indices("train")
        inner_folds(images.labels[rows], [images.groups[row] for row in rows], settings.inner_folds)


def load_synthetic(folder: Path, images: ImageSet, recipe: Recipe) -> Labeled:
    """The synthetic images of a folder of class folders, made square as the run's own were, with as many channels.

    Real images that a manifest lists are left out, and a class may have none. Raises `GanaugError` for classes that the
    run does not know, unreadable files, and a folder without any image.
    """
    source = open_source(folder)
    unknown = sorted(set(source.class_names) - set(images.class_names))
    if unknown:
        raise GanaugError(
            f"{folder} has classes that the run does not know: {', '.join(unknown)}. Remove or rename these folders."
        )
    real = manifest.real_files(source)
    pixels, labels = [], []
    for file in source.files:
        if file.name in real:
            continue
        try:
            decoded = decode(source.read(file.name)).pixels
        except DecodeError as error:
            raise GanaugError(f"{folder}: {file.name} cannot be decoded ({error}). Repair or remove it.") from None
        square = resize(decoded, images.image_size, recipe.data.resize)
        pixels.append(match_channels(square, images.channels).transpose(2, 0, 1))
        labels.append(images.class_names.index(file.class_name))
    if not pixels:
        raise GanaugError(f"{folder} holds no synthetic image.")
    return Labeled(np.stack(pixels), np.array(labels, np.int64))


def claim_folder(folder: Path, run: RunFolder, info: dict[str, Any], recipe: Recipe, pool: Labeled | None) -> None:
    """Binds the study's folder to what decides its result. Raises `GanaugError` if it belongs to another study.

    `pool` is None where the images are drawn from the run, which then decides them.
    """
    weights = [
        run.member(name) / f"{net}.safetensors" for name in info["members"] for net in ("generator", "discriminator")
    ]
    made_of = hashlib.sha256()
    for path in (run.data / "index.csv", run.data / "images.npy", *weights):
        made_of.update(path.read_bytes())
    given = None if pool is None else hashlib.sha256(pool.images.tobytes() + pool.labels.tobytes()).hexdigest()
    identity = {
        "compare": recipe.compare.model_dump(mode="json", exclude={"budget", "jobs", "device"}),
        "synthesize": recipe.synthesize.model_dump(mode="json") if pool is None else None,
        "curation": recipe.curation.model_dump(mode="json") if pool is None else None,
        "mirror": recipe.data.mirror,
        "run": made_of.hexdigest(),
        "synthetic": given,
    }
    path = folder / "identity.json"
    if path.is_file():
        if read_json(path) != identity:
            raise GanaugError(
                f"{folder} holds a study of another run, other images or other settings. Give another --out."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GanaugError(f"{folder} is not empty and holds no study. Give a new or empty folder as --out.")
    else:
        write_json(path, identity)


def settle_updates(
    material: Material, images: ImageSet, recipe: Recipe, folder: Path, device: torch.device, jobs: int
) -> Choice:
    """The updates of every arm: as set, or chosen; what the budget allowed is kept for when the study goes on."""
    if recipe.compare.updates is not None:
        return Choice(recipe.compare.updates, None, ())
    path = folder / "updates.json"
    if not path.is_file():
        write_json(path, {"longest": affordable_updates(material, recipe.compare, device, jobs)})
    groups = [images.groups[index] for index in images.indices("train")]
    longest = int(read_json(path)["longest"])
    return choose_updates(material, groups, recipe.compare, longest, folder / "pieces", device, jobs)


def most_trained_member(info: dict[str, Any]) -> str:
    """The member whose discriminator has seen the most images: the joint one where there is one."""
    counts = list(info["counts"]["train"].values())
    members = STRATEGIES[info["strategy"]](len(counts))
    return max(members, key=lambda member: sum(counts[k] for k in member.classes)).name
