"""What a study is about: run, images, plan, folder, synthetic images; settled and checked before anything is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..classify.backbones import OWN, refuse_unfit
from ..classify.training import Labeled
from ..data import manifest
from ..data.cache import ImageSet, load
from ..data.source import open_source
from ..data.unlabeled import IMAGES
from ..devices import resolve_device, resolve_precision
from ..errors import GanaugError
from ..progress import warn
from ..recipe import RecipeLike, keep_settled, load_recipe
from ..runs import RunFolder, checkpoint_of, open_run, read_json, write_json
from ..sessions import LOCK
from ..settings import CompareSettings, Recipe
from ..synthesis.plan import COUNT_REQUESTS
from ..synthesis.synthesize import settle_request
from .arms import ARMS
from .design import Plan, is_tuned, settle_plan
from .leaks import find_copies_of_tests, find_leaks, refuse_leaks
from .material import load_synthetic
from .pieces import classifier_size
from .search import inner_folds
from .units import gan_name, hash_of_test, split_of, unit_root


@dataclass(frozen=True)
class Case:
    """All that a study is about."""

    run: RunFolder
    info: dict[str, Any]
    images: ImageSet
    recipe: Recipe
    plan: Plan
    folder: Path
    synthetic: Path | None  # the folder of the synthetic images that are given
    given: Labeled | None  # and its images
    copies: dict[str, frozenset[str]]  # unit -> test images that are left out, as copies of training images

    @property
    def settings(self) -> CompareSettings:
        return self.recipe.compare

    @property
    def uses_gans(self) -> bool:
        return any(ARMS[arm].needs_fit for arm in self.plan.arms)

    @property
    def draws_pools(self) -> bool:
        return self.given is None and any(ARMS[arm].uses_pool for arm in self.plan.arms)

    @property
    def refits_folds(self) -> bool:
        """Whether the inner folds have GANs of their own, so that arms that use one can be judged on them."""
        return self.plan.tune and self.given is None and self.uses_gans

    def images_of(self, split: int) -> ImageSet:
        """The images with the splits of a resplit."""
        if split == 0:
            return self.images
        return replace(self.images, splits=split_of(self.images, split, self.recipe.data.seed))


def settle_case(run: str | Path, out: str | Path | None, synthetic: str | Path | None, recipe: RecipeLike) -> Case:
    """Raises `GanaugError` for whatever stands against the study."""
    run_folder, info = open_run(Path(run).resolve())
    resolved = settle_recipe(recipe, load_recipe(run_folder.recipe), draws=synthetic is None)
    settings = resolved.compare
    images = load(run_folder.data)
    plan = settle_plan(settings, has_own_test(run_folder), synthetic is not None, images.unlabeled is not None)
    refuse_hopeless(images, run, settings)
    if settings.classifier != OWN:
        size = classifier_size(settings, images.image_size)
        refuse_unfit(settings.classifier, len(images.class_names), size, settings.classifier_weights)
    given = None if synthetic is None else load_synthetic(Path(synthetic), images, resolved)
    folder = Path(out).resolve() if out is not None else run_folder.root / "study"
    source = None if synthetic is None else Path(synthetic).resolve()
    case = Case(run_folder, info, images, settle_place(resolved), plan, folder, source, given, {})
    return replace(case, copies={gan_name(split, 0): find_dropped(case, split) for split in range(plan.splits)})


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


def settle_place(recipe: Recipe) -> Recipe:
    """The recipe with the device and the precision that this machine offers, which decide the numbers, for all workers alike."""
    device = resolve_device(recipe.compare.device)
    precision = "bf16" if resolve_precision(recipe.compare.precision, device) == torch.bfloat16 else "fp32"
    weights = recipe.compare.classifier_weights
    settled = {
        "device": str(device),
        "precision": precision,
        "classifier_weights": None if weights is None else weights.resolve(),
    }
    return recipe.model_copy(update={"compare": recipe.compare.model_copy(update=settled)})


def has_own_test(run: RunFolder) -> bool:
    """Whether the data came with its test images; else they were held out."""
    return any(
        counts.get("test", 0) for counts in read_json(run.check, keys=("classes", "problems"))["classes"].values()
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
    if settings.updates is None or is_tuned(settings):
        rows = images.indices("train")
        inner_folds(images.labels[rows], [images.groups[row] for row in rows], settings.inner_folds)


def refuse_leaky(images: ImageSet, origin: str | Path, settings: CompareSettings) -> None:
    """Raises `GanaugError` where the test images copy others, unless these are to be left out."""
    refuse_leaks(find_leaks(images), settings.drop_duplicates, len(images.indices("test")), origin)


def find_dropped(case: Case, split: int) -> frozenset[str]:
    """The test images of a split that are left out: copies of training images, or of synthetic images that others have made.

    Splits drawn anew keep known copies together, so that mirrored ones alone can cross; the settings have allowed those already
    where the run's own split has some, and they are left out.
    """
    images = case.images_of(split)
    drop = case.settings.drop_duplicates or split > 0
    leaks = find_leaks(images)
    if case.given is not None and case.synthetic is not None and not was_made_by(case.run, case.info, case.synthetic):
        leaks = [*leaks, *find_copies_of_tests(images, case.given, case.synthetic)]
    return refuse_leaks(leaks, drop, len(images.indices("test")), case.run.root)


def was_made_by(run: RunFolder, info: dict[str, Any], folder: Path) -> bool:
    """Whether all synthetic images of a folder come from the run's own generators, by its manifest."""
    if not (folder / manifest.NAME).is_file():
        return False
    table = manifest.read_manifest(folder)
    if {file.name for file in open_source(folder).files} - set(table["file"].dropna()):
        return False
    own = {checkpoint_of(run.member(name) / "generator.safetensors") for name in info["members"]}
    return "checkpoint" in table and set(table.loc[table["source"] != "real", "checkpoint"]) <= own


def claim_folder(case: Case) -> None:
    """Binds the study's folder, whose lock is held, to what decides its result. Raises `GanaugError` if it belongs to another study."""
    run, recipe, given = case.run, case.recipe, case.given
    weights = [
        run.member(name) / f"{net}.safetensors"
        for name in case.info["members"]
        for net in ("generator", "discriminator")
    ]
    unlabeled = [path for path in [run.data / IMAGES] if path.is_file()]
    free = {"budget", "jobs", "cluster", "classifier_weights"}
    identity = {
        "compare": recipe.compare.model_dump(mode="json", exclude=free),
        "synthesize": recipe.synthesize.model_dump(mode="json") if given is None else None,
        "curation": recipe.curation.model_dump(mode="json") if given is None else None,
        "mirror": recipe.data.mirror,
        "run": hash_of([run.data / "index.csv", run.data / "images.npy", *unlabeled, *weights]),
        "test": hash_of_test(case.images),
        "weights": hash_of([w for w in [recipe.compare.classifier_weights] if w is not None]),
        "synthetic": None
        if given is None
        else hashlib.sha256(given.images.tobytes() + given.labels.tobytes()).hexdigest(),
    }
    path = case.folder / "identity.json"
    if path.is_file():
        if read_json(path) != identity:
            raise GanaugError(
                f"{case.folder} holds a study of another run, other images or other settings. Give another --out."
            )
    elif any(each.name != LOCK and each.suffix != ".tmp" for each in case.folder.iterdir()):
        raise GanaugError(f"{case.folder} is not empty and holds no study. Give a new or empty folder as --out.")
    else:
        write_json(path, identity)


def verify_untouched(case: Case) -> None:
    """Raises `GanaugError` if the test images of any split are not those that the study began with."""
    untouched = hash_of_test(load(case.run.data)) == read_json(case.folder / "identity.json")["test"]
    for split in range(1, case.plan.splits):
        of_unit = load(unit_root(case.run.root, case.folder, gan_name(split, 0)) / "data")
        untouched &= hash_of_test(of_unit) == hash_of_test(case.images_of(split))
    if not untouched:
        raise GanaugError(
            f"the test images in {case.run.data} have changed since the study began, so that nothing can be scored. "
            "Fit again, with another --out."
        )


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the contents of the files, in their order."""
    made_of = hashlib.sha256()
    for path in paths:
        made_of.update(path.read_bytes())
    return made_of.hexdigest()
