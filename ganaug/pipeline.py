"""All stages in order: `run` on the user's data, `demo` on a set that comes with scikit-learn."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .data import manifest
from .data.cache import prepare, verify_source
from .data.images import encode_png
from .data.source import refuse_inside
from .devices import resolve_device
from .errors import GanaugError
from .gan.forecast import estimate_fit, format_estimate
from .gan.training import fit
from .progress import format_duration, leave_sign, signs_in
from .recipe import RecipeLike, dump_recipe, load_recipe
from .reporting.page import report
from .runs import STATUS, RunFolder, filled_whole, read_json, write_text
from .sessions import LOCK, sole, sweep
from .settings import BATCH_SIZE, DEMO_BUDGET, RUN_BUDGET, RUN_PRESET, CompareSettings, Recipe, parse_budget
from .study.arms import ARMS
from .study.case import refuse_hopeless, refuse_leaky
from .study.compare import compare
from .study.design import Plan, settle_plan
from .synthesis.plan import COUNT_REQUESTS, plan_counts
from .synthesis.synthesize import synthesize

FIT_SHARE, COMPARE_SHARE = 0.35, 0.57  # of the budget; the rest is for reading, synthesis, report and start-up
DEMO_IMAGES_PER_CLASS = 20


@dataclass(frozen=True)
class Result:
    """Where everything of a `run` is."""

    run: Path
    synthetic: Path
    study: Path  # the folder of study.json
    report: Path  # the HTML file
    verdict: str
    sentence: str


def run(data: str | Path, out: str | Path, *, budget: str | float = RUN_BUDGET, recipe: RecipeLike = None) -> Result:
    """Check, fit, synthesize, compare and report, in `out`/run, /synthetic, /study and /report.html.

    budget: wall-clock time for all of it (seconds, or text such as "10m"), shared out between fit and compare; stages whose
        own budget, steps or updates the recipe sets keep to those, and a study of another preset than "demo", which is what
        fits into minutes, takes its time.
    recipe: settings of the stages that differ from the defaults; see `ganaug.load_recipe`.

    Returns the `Result`: the verdict, and where everything is. Every stage that `out` holds complete is skipped, an interrupted one goes
    on; one process at a time. Raises `GanaugError` as the stages do, and where `out` was begun with other settings.
    """
    root = Path(out)
    refuse_inside(data, root)
    if (unlabeled := load_recipe(recipe).data.unlabeled) is not None:
        refuse_inside(unlabeled, root, "unlabeled images")
    with sole(root / LOCK, root):
        return _run_alone(data, root, budget, recipe)


def _run_alone(data: str | Path, root: Path, budget: str | float, recipe: RecipeLike) -> Result:
    resolved = settle_recipe(budget, recipe)
    is_new = not {path.name for path in root.iterdir()} - {LOCK}
    claim_folder(root, resolved)
    sweep(root)
    with signs_in(root):
        leave_sign(root, {})  # the process lives; what it is at, the stages tell
        run_folder = RunFolder(root / "run")
        if run_folder.info.is_file() and read_json(run_folder.info)["complete"]:
            verify_source(data, resolved.data.unlabeled, run_folder.data)
        else:
            if not run_folder.info.is_file():
                with _cleared(root, is_new):
                    refuse_vain(data, run_folder, resolved)
                leave_sign(root, {})
            fit(data, run_folder.root, recipe=recipe_of_fit(resolved, recipe), resume=run_folder.info.is_file())
        synthetic, study = root / "synthetic", root / "study"
        if not (synthetic / manifest.NAME).is_file():
            synthesize(run_folder.root, synthetic, recipe=resolved, device=resolved.fit.device)
            leave_sign(root, {})
        own = (
            synthetic if resolved.compare.preset == "demo" else None
        )  # else other GANs are trained and drawn from, too
        found = compare(run_folder.root, study, synthetic=own, recipe={"compare": resolved.compare.model_dump()})
        page = report(study, root / "report.html", recipe=resolved)
    return Result(run_folder.root, synthetic, study, page, found.verdict, found.sentence)


@contextmanager
def _cleared(root: Path, is_new: bool) -> Iterator[None]:
    """Bad input that the block finds leaves nothing behind in a folder that was new."""
    try:
        yield
    except GanaugError:
        if is_new:
            shutil.rmtree(root / "run", ignore_errors=True)
            (root / "recipe.yaml").unlink(missing_ok=True)
        raise


def estimate_run(data: str | Path, *, budget: str | float = RUN_BUDGET, recipe: RecipeLike = None) -> str:
    """What `run` would do and cost, for people, as far as it can be told before there is a GAN: `estimate_fit` of it, the images to make,
    and what the study trains. Keeps nothing; raises as `run` does."""
    resolved = settle_recipe(budget, recipe)
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        refuse_vain(data, RunFolder(Path(folder)), resolved)
    fitted = estimate_fit(data, recipe=recipe_of_fit(resolved, recipe))
    own_test = any(counts.get("test", 0) for counts in fitted.check.classes.values())
    given, unlabeled = resolved.compare.preset == "demo", resolved.data.unlabeled is not None
    plan = settle_plan(resolved.compare, own_test, given, unlabeled)
    return "\n".join(
        [
            format_estimate(fitted),
            "",
            f"the GAN       {format_duration(fitted.seconds)}, as estimated above",
            f"its images    {sum(plan_counts(resolved.synthesize, fitted.counts).values()):,} that pass the tests; how many are tested for "
            "them, only the GAN will show",
            f"the study     {describe_study(plan, resolved.compare, fitted.seconds)}",
        ]
    )


def describe_study(plan: Plan, settings: CompareSettings, gan: float) -> str:
    """What it trains, and how long that takes at most where it has a budget. A GAN takes `gan` seconds."""
    what = f"{plan.preset}: {len(plan.arms)} arms in {plan.splits * plan.seeds} repetitions"
    if settings.budget is not None and settings.updates is None:
        what += f", classifiers within about {format_duration(settings.budget)}"
    others = plan.splits * (plan.gans + plan.tune * settings.inner_folds) - 1
    if not plan.given_pool and any(ARMS[arm].needs_fit for arm in plan.arms) and others:
        what += f", {others} more GANs of up to {format_duration(gan)} each"
    return f"{what}; once there is a GAN, ganaug compare OUT/run --preset {plan.preset} --dry-run says more"


def refuse_vain(data: str | Path, folder: RunFolder, recipe: Recipe) -> None:
    """Prepares the data and raises `GanaugError`, before any time is spent, where no comparison would be possible."""
    images, _ = prepare(data, recipe.data, folder.data, resolve_device(recipe.fit.device).type)
    refuse_hopeless(images, data, recipe.compare)
    refuse_leaky(images, data, recipe.compare)
    if not sum(plan_counts(recipe.synthesize, images.counts("train")).values()):
        raise GanaugError("by these settings of synthesize no class gets a synthetic image. Set synthesize.per_class.")


def demo(out: str | Path, *, budget: str | float = DEMO_BUDGET, recipe: RecipeLike = None) -> Result:
    """`run` on scikit-learn's handwritten digits (1,797 scans of 8 x 8 pixels), which need no download.

    They are written to `out`/digits as PNG files: 20 a class, drawn at random, to train on, the rest to score. Returns the `Result`.
    """
    data = write_digits(Path(out) / "digits")
    return run(data, out, budget=budget, recipe=recipe)


def write_digits(folder: Path, per_class: int = DEMO_IMAGES_PER_CLASS, seed: int = 0) -> Path:
    """The digits as `folder`/train/<class>/<number>.png and /test/...; the same files at every call. Returns `folder`."""
    from sklearn.datasets import load_digits

    if folder.is_dir():
        return folder
    scans = load_digits()
    pixels = np.round(scans.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), stored as 0 to 16
    order = np.random.default_rng(seed).permutation(len(pixels))
    with filled_whole(folder) as partial:
        for digit in range(10):
            mine = order[scans.target[order] == digit]
            for position, number in enumerate(mine.tolist()):
                path = partial / ("train" if position < per_class else "test") / str(digit) / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(pixels[number, :, :, None]))
    return folder


def format_result(result: Result, data: str | Path) -> str:
    """The verdict, where everything is, and what to do next, for people."""
    counts = manifest.read_manifest(result.synthetic)["class"].value_counts()
    return "\n".join(
        [
            "",
            f"verdict: {result.verdict}. {result.sentence}",
            "",
            f"report     {result.report}",
            f"study      {result.study / 'study.json'}",
            f"synthetic  {result.synthetic} ({counts.sum()} images in {len(counts)} classes)",
            f"run        {result.run} (generator, discriminator, settings, split)",
            "",
            "next: open the report; more images, beside the real ones:",
            f"  ganaug synthesize {result.run} --out {result.run.parent / 'augmented'} --with-real {data}",
        ]
    )


def settle_recipe(budget: str | float, recipe: RecipeLike) -> Recipe:
    """The resolved settings of all stages."""
    resolved = load_recipe(recipe)
    seconds = parse_budget(budget)
    fit_settings, compare_settings, synthesize_settings = resolved.fit, resolved.compare, resolved.synthesize
    if fit_settings.steps is None and "budget" not in fit_settings.model_fields_set:
        fit_settings = fit_settings.model_copy(update={"budget": FIT_SHARE * seconds})
    if "preset" not in compare_settings.model_fields_set:
        compare_settings = compare_settings.model_copy(update={"preset": RUN_PRESET})
    if compare_settings.preset == "demo" and compare_settings.updates is None and compare_settings.budget is None:
        compare_settings = compare_settings.model_copy(update={"budget": COMPARE_SHARE * seconds})
    if all(getattr(synthesize_settings, name) is None for name in COUNT_REQUESTS):
        synthesize_settings = synthesize_settings.model_copy(update={"per_class": compare_settings.pool_per_class})
    return resolved.model_copy(
        update={"fit": fit_settings, "compare": compare_settings, "synthesize": synthesize_settings}
    )


def recipe_of_fit(resolved: Recipe, recipe: RecipeLike) -> Recipe:
    """What `fit` is given and keeps in the run, of which a later study has another budget."""
    return resolved.model_copy(update={"compare": load_recipe(recipe).compare})


def claim_folder(root: Path, resolved: Recipe) -> None:
    """Keeps the settings in `root`/recipe.yaml. Raises `GanaugError` where it was begun with other ones, or was not made by `run`."""
    path = root / "recipe.yaml"
    if RunFolder(root / "run").info.is_file():
        stored = load_recipe(path)
        if resolved.fit.batch_size == "auto" and stored.fit.batch_size == BATCH_SIZE:  # the default of older versions
            resolved = resolved.model_copy(update={"fit": resolved.fit.model_copy(update={"batch_size": BATCH_SIZE})})
        if stored != resolved:
            raise GanaugError(f"{root} was begun with other settings, see {path}. Repeat those, or give another --out.")
        return
    known = {"digits", "recipe.yaml", "run", LOCK, STATUS}
    if not {child.name for child in root.iterdir() if child.suffix != ".tmp"} <= known:
        raise GanaugError(f"{root} is not empty and was not made by ganaug run. Give a new or empty folder as --out.")
    write_text(path, dump_recipe(resolved))
