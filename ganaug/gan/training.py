"""The stage `fit`: from a folder of labeled images to a run that can make new ones."""

import copy
import shlex
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..data.cache import ImageSet, load, prepare, resplit, verify_source
from ..data.source import refuse_inside
from ..data.unlabeled import IMAGES, INDEX, UNKNOWN, save_labels
from ..devices import num_cores, resolve_device, resolve_precision
from ..errors import GanaugError
from ..progress import say, signs_in, track
from ..recipe import RecipeLike, dump_recipe, keep_settled, load_recipe
from ..runs import SCHEMA, STATUS, RunFolder, describe_versions, read_json, refuse_special, write_json, write_text
from ..sessions import LOCK, command_again, sole, sweep
from ..settings import Recipe
from .board import load_writer
from .checkpoints import FREE
from .crew import forget, num_jobs, train_apart
from .following import follow
from .judge import Judge, train_judge
from .member import clear, train_member, trained_steps
from .networks import SPREAD_GROUP
from .planning import planned_total, settle_plan
from .ranks import Part, joined, restarted
from .selftraining import SURE, self_train
from .settling import compile_where_it_pays, settle_networks
from .shares import judged, split_images, to_tensors, training_data
from .steps import RECONSTRUCTED
from .strategies import STRATEGIES, Member, length_of, member_steps, total_steps, waves
from .symmetry import settle_mirror
from .validation import Reference

LEAST_LEFT = 0.5  # of the budget for the training itself, whatever its preparation took


def fit(data: str | Path, out: str | Path, *, recipe: RecipeLike = None, resume: bool = False) -> Path:
    """Trains the class-conditional GAN on the images in `data` and returns the run's folder `out`.

    data: a folder of class folders, or a zip of one, flat or with train/ and test/ (see `ganaug.check`).
    out: a new or empty folder; with `resume`, one that holds an interrupted run of the same settings. A complete run is
        left as it is. One process at a time.
    recipe: settings that differ from the defaults: a file, a `Recipe`, or a mapping such as {"fit": {"budget": "5m"}}.

    Called in every process that torchrun has started, it trains with all of them; they end as one would alone.

    Raises `GanaugError` for data that cannot be used, wrong settings, or a folder that holds something else.
    """
    folder = RunFolder(Path(out))
    with joined(lambda: _format_resumption(data, folder)) as part:
        if part.rank > 0:
            follow(part)
        else:
            if not folder.info.is_file():
                refuse_inside(data, folder.root)
            with sole(folder.root / LOCK, folder.root):
                _fit(data, folder, recipe, resume or (restarted() and folder.info.is_file()), part)
            part.tell(None)
    return folder.root


def _fit(data: str | Path, folder: RunFolder, recipe: RecipeLike, resume: bool, part: Part) -> None:
    resolved = share_out(_open_folder(folder, data, recipe, resume), part)
    sweep(folder.root)
    if resolved.fit.tensorboard:
        load_writer()
    if folder.info.is_file() and read_json(folder.info)["complete"]:
        say(f"{folder.root}: the training is complete already")
        return
    device = resolve_device(part.device(resolved.fit.device))
    with signs_in(folder.root):
        if folder.info.is_file():
            images = load(folder.data)  # as it was split when the run began
        else:
            images, report = prepare(data, resolved.data, folder.data, device.type)
            write_json(folder.check, report.to_json())
        train_run(folder, str(data), images, resolved, device)


def share_out(recipe: Recipe, part: Part) -> Recipe:
    """The recipe for so many processes: no more threads than there are cores for each. Raises `GanaugError` unless the batch can be
    shared out in equal parts."""
    if part.world == 1:
        return recipe
    settings, mixes = recipe.fit, recipe.fit.family == "mixing"
    if settings.cluster is not None:
        raise GanaugError(
            "torchrun's processes train one GAN together. Leave out fit.cluster (--set fit.cluster=null), or start ganaug alone."
        )
    multiple = SPREAD_GROUP * part.world * (RECONSTRUCTED if mixes else 1)
    if settings.images_per_step % multiple:
        raise GanaugError(
            f"{part.world} processes cannot share a batch of {settings.images_per_step} images{' of family mixing' if mixes else ''}: "
            f"fit.batch_size must be a multiple of {multiple}. Set it, or start another number of processes."
        )
    each = settings.images_per_step // part.world
    say(f"{part.world} processes, each with {each} of {settings.images_per_step} images of a batch")
    threads = settings.threads and min(settings.threads, part.cores(num_cores()))
    return recipe.model_copy(update={"fit": settings.model_copy(update={"threads": threads})})


def _format_resumption(data: str | Path, folder: RunFolder) -> str:
    """How to go on with a training in several processes: the command, or where nothing was saved yet, its own."""
    if not folder.info.is_file():
        return "the same command."
    return command_again(["fit", str(data), "--out", str(folder.root), "--resume"])


def refit(run: RunFolder, target: RunFolder, splits: npt.NDArray[np.str_], seed: int, device: str) -> None:
    """Trains another GAN as a complete run's was, with as many steps, in a run of its own: other `splits` (N,) of the run's
    prepared images, of which those with an empty one are left out, and another seed. Where it was left open which reflections
    keep the class, its own training images decide. An interrupted one goes on, a complete one is left as it is.
    """
    with sole(target.root / LOCK, target.root):
        sweep(target.root)
        _refit(run, target, splits, seed, device)


def _refit(run: RunFolder, target: RunFolder, splits: npt.NDArray[np.str_], seed: int, device: str) -> None:
    info = read_json(run.info)
    if not target.info.is_file():
        resplit(run.data, target.data, splits)
        write_json(target.check, read_json(run.check))
    elif read_json(target.info)["complete"]:
        return
    recipe = load_recipe(run.recipe)
    images, of_run = load(target.data), load(run.data)
    same = _trained_files(images) == _trained_files(of_run)
    if same and of_run.unlabeled is not None and of_run.unlabeled.labels is not None:
        save_labels(target.data, of_run.unlabeled.files, of_run.unlabeled.labels)
        images = load(target.data)
    data = recipe.data.model_copy(update={} if same else {"mirror": info.get("mirror") or recipe.data.mirror})
    own = {"seed": seed, "threads": 1, "jobs": 1, "cluster": None, "device": device, "tensorboard": False}
    own["compile"] = recipe.fit.compile if resolve_device(device).type == "cuda" else False
    fit_settings = recipe.fit.model_copy(update=own)
    again = recipe.model_copy(update={"data": data, "fit": fit_settings})
    if target.recipe.is_file():
        again = keep_settled(again, load_recipe(target.recipe))
    train_run(target, info["source"], images, again, resolve_device(device))


def _trained_files(images: ImageSet) -> list[str]:
    return [images.files[row] for row in images.indices("train")]


def train_run(folder: RunFolder, source: str, images: ImageSet, resolved: Recipe, device: torch.device) -> None:
    """Trains on prepared images, from where an interrupted training of the same folder stood, and completes the run."""
    begun = time.monotonic()
    if resolved.fit.tensorboard:
        load_writer()
        say(f"curves and samples, live: tensorboard --logdir {folder.tensorboard}")
    torch.set_num_threads(resolved.fit.threads or 1)
    asked = read_json(folder.info).get("mirror") if folder.info.is_file() else resolved.data.mirror
    few = judged(split_images(images, resolved, device)[0], len(images.class_names), resolved.fit.seed)
    resolved = settle_mirror(resolved, few, len(images.class_names))
    images = label_unlabeled(folder.data, images, resolved, device)
    resolved = settle_networks(resolved, images, device)
    resolved = compile_where_it_pays(resolved, images, device)
    write_text(folder.recipe, dump_recipe(resolved))
    members = STRATEGIES[resolved.fit.strategy](len(images.class_names))
    write_json(folder.info, _describe_run(source, images, resolved, members, asked, complete=False))
    total = train_members(folder, members, images, resolved, device, begun, source)
    write_text(folder.recipe, dump_recipe(settled(resolved, images.image_size, device, total)))
    write_json(folder.info, _describe_run(source, images, resolved, members, asked, complete=True))
    folder.plan.unlink(missing_ok=True)
    forget(folder, members)


def label_unlabeled(folder: Path, images: ImageSet, recipe: Recipe, device: torch.device) -> ImageSet:
    """The images, with labels for those of the unlabeled ones that a classifier of the training images is sure of. The prepared
    data in `folder` keeps them; they depend on the training images and on `data.seed`, not on the GAN's seed."""
    if images.unlabeled is None or images.unlabeled.labels is not None:
        return images
    train = to_tensors(images, images.indices("train"), device)
    heap = torch.tensor(images.unlabeled.images).to(device)
    dtype, num_classes = resolve_precision(recipe.fit.precision, device), len(images.class_names)
    chances = self_train(train, heap, num_classes, recipe.data.mirror, recipe.data.seed, dtype, recipe.fit.augment)
    highest, labels = chances.max(dim=1)
    sure = highest >= SURE
    save_labels(folder, images.unlabeled.files, torch.where(sure, labels, UNKNOWN).numpy())
    say(
        f"unlabeled images: {int(sure.sum()):,} of {len(sure):,} are learned from, as what a classifier is at least {SURE:.0%} sure to "
        "see in them".replace("%", " %")
    )
    return load(folder)


def train_members(
    folder: RunFolder,
    members: tuple[Member, ...],
    images: ImageSet,
    recipe: Recipe,
    device: torch.device,
    begun: float,
    source: str,
) -> int:
    """Trains every member that is not trained yet, in order, several at a time where `num_jobs` says so; returns the steps of the whole
    run.

    With a budget, each member's is such that the whole takes as long: of members that train beside each other, as many times their share
    as there are at work. The pace of the first to use up PLAN_SHARE of its own, which it measures beside the others, settles the steps of
    all. What was spent since `begun` (on the clock of `time.monotonic`) counts.
    """
    settings, total = recipe.fit, recipe.fit.steps or planned_total(folder)
    torch.set_num_threads(settings.threads or 1)
    dtype = resolve_precision(settings.precision, device)
    split = split_images(images, recipe, device)
    train, held_out = split
    mirror, num_classes = recipe.data.mirror, len(images.class_names)
    few = judged(train, num_classes, settings.seed)
    judge = train_judge(few.images, few.labels, num_classes, mirror, settings.seed, dtype, settings.augment)
    reference = Reference(judge, few, held_out)
    for member in members:  # that an older version has trained, which left no plan
        if total is None and (steps := trained_steps(folder, member.name)) is not None:
            settle_plan(folder, member, steps)
            total = planned_total(folder)
    jobs = num_jobs(settings, members, device)
    left = max(LEAST_LEFT * settings.budget, settings.budget - (time.monotonic() - begun))
    settings = settings.model_copy(update={"budget": left / length_of(members, jobs)})
    shared = (recipe.model_copy(update={"fit": settings}), copy.deepcopy(judge).cpu(), dtype)
    again = f"go on with: ganaug {shlex.join(['fit', source, '--out', str(folder.root), '--resume'])}"
    done = 100 * sum(member.share for member in members if trained_steps(folder, member.name) is not None)
    expected = None if settings.steps else left * (1 - done / 100)
    several = track(f"fit {len(members)} GANs", 100, done, " %", expected)
    with (
        several
        if len(members) > 1 or settings.cluster is not None
        else nullcontext(lambda done, note="": None) as advance
    ):
        for group in waves(members):
            missing = [member for member in group if trained_steps(folder, member.name) is None]
            if missing and (min(jobs, len(missing)) > 1 or settings.cluster is not None):
                where = f" on {settings.cluster}" if settings.cluster else ""
                say(
                    f"{min(jobs, len(missing))} GANs at a time{where}, each a process with fit.threads={settings.threads}"
                )
                train_apart(_train_apart, folder, missing, shared, jobs, settings.cluster, again, done, advance)
            for member in group:
                steps = trained_steps(folder, member.name)
                if steps is None:
                    data = training_data(split, member, mirror)
                    steps = train_member(
                        folder, member, data, reference, settings, total and member_steps(member, total), dtype
                    )
                clear(folder.member(member.name))  # an interruption may have left it
                total = total or planned_total(folder) or total_steps(member, steps)
                done += 100 * member.share * (member in missing)
                advance(min(100.0, round(done, 6)))
    assert total is not None  # there is at least one member
    return total


def _train_apart(root: Path, member: Member, recipe: Recipe, judge: Judge, dtype: torch.dtype) -> None:
    """`train_member` in a process of its own, from the run's folder alone."""
    folder, settings = RunFolder(root), recipe.fit
    torch.set_num_threads(settings.threads or 1)
    device, images = resolve_device(settings.device), load(folder.data)
    split = split_images(images, recipe, device)
    few = judged(split[0], len(images.class_names), settings.seed)
    reference = Reference(judge.to(device), few, split[1])
    data = training_data(split, member, recipe.data.mirror)
    total = settings.steps or planned_total(folder)
    train_member(folder, member, data, reference, settings, total and member_steps(member, total), dtype)


def _open_folder(folder: RunFolder, data: str | Path, recipe: RecipeLike, resume: bool) -> Recipe:
    """The settings to train with; a resumed run keeps its own. Raises `GanaugError` unless `folder` is free for this run."""
    if folder.info.is_file():
        if not resume:
            raise GanaugError(f"{folder.root} already holds a run. Go on with it: --resume; or give another --out.")
        refuse_special(folder.root)
        stored = load_recipe(folder.recipe)
        wanted = keep_settled(load_recipe(recipe, base=stored), stored)
        verify_source(data, wanted.data.unlabeled, folder.data)
        if wanted.model_dump(exclude=_FREE) != stored.model_dump(exclude=_FREE):
            raise GanaugError(
                f"{folder.root} was begun with other settings: {_differences(stored, wanted)}. "
                "Leave them as they were, or give another --out."
            )
        return wanted
    if resume:  # what is given may be less than what it was begun with
        raise GanaugError(f"{folder.root} holds no run to go on with. Repeat the command without --resume.")
    wanted = load_recipe(recipe)
    if wanted.data.unlabeled is not None:
        refuse_inside(wanted.data.unlabeled, folder.root, "unlabeled images")
    found = {path.name for path in folder.root.rglob("*") if path.suffix != ".tmp"} - {LOCK}
    if not found <= _EARLY_FILES:
        raise GanaugError(f"{folder.root} is not empty and holds no run. Give a new or empty folder as --out.")
    return wanted


def settled(recipe: Recipe, image_size: int, device: torch.device, steps: int) -> Recipe:
    """The recipe with what was decided on the way, so that it gives the same run on another machine."""
    precision = "bf16" if resolve_precision(recipe.fit.precision, device) == torch.bfloat16 else "fp32"
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"image_size": image_size}),
            "fit": recipe.fit.model_copy(
                update={"steps": steps, "precision": precision, "jobs": None, "cluster": None}
            ),
        }
    )


_EARLY_FILES = {
    "data",
    "images.npy",
    "index.csv",
    "set.json",
    "check.json",
    "recipe.yaml",
    IMAGES,
    INDEX,
    STATUS,
}  # of a run that was
# interrupted while it read its data: nothing in it is lost when it begins anew
_FREE: Any = {
    "fit": FREE - {"budget", "steps"},
    "synthesize": True,
    "curation": True,
    "compare": True,
    "report": True,
}


def _differences(stored: Recipe, wanted: Recipe) -> str:
    found = []
    for stage in ("data", "fit"):
        before, after = getattr(stored, stage).model_dump(), getattr(wanted, stage).model_dump()
        found += [f"{stage}.{key} {before[key]!r} -> {after[key]!r}" for key in before if before[key] != after[key]]
    return ", ".join(found)


def _describe_run(
    source: str, images: ImageSet, recipe: Recipe, members: tuple[Member, ...], mirror: str | None, complete: bool
) -> dict[str, object]:
    """`mirror`: what was asked for, perhaps auto; the recipe holds what was settled."""
    return {
        "schema": SCHEMA,
        "complete": complete,
        "source": source,
        "image_size": images.image_size,
        "class_names": list(images.class_names),
        "counts": {split: images.counts(split) for split in ("train", "valid", "test")},
        "channels": images.channels,
        "strategy": recipe.fit.strategy,
        "mirror": mirror,
        "members": [member.name for member in members],
        "versions": describe_versions(),
    }
