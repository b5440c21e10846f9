"""The command line: one thin command for each stage. Nothing heavy is imported until a command runs."""

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from . import __version__
from .errors import GanaugError
from .progress import LOGGER, format_duration
from .recipe import load_recipe_mapping
from .settings import DEMO_BUDGET, RUN_BUDGET, VERDICTS, Recipe, parse_duration

FAILED, BAD_INPUT = 1, 2  # exit codes: of --fail-if, and as of a wrong option

Command = Callable[..., Any]
PATH = click.Path(path_type=Path)


class Ganaug(click.Group):
    """Turns every expected error into one clear message."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GanaugError as error:
            click.echo(f"error: {error}", err=True)
        except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            click.echo(f"error: {error.strerror}: {error.filename}", err=True)
        except OSError as error:
            click.echo(f"error: {error}", err=True)
        except (MemoryError, RuntimeError) as error:  # torch has a name of its own for it on a GPU alone
            if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
                raise
            click.echo("error: out of memory. Lower fit.batch_size, fit.width or data.image_size.", err=True)
        sys.exit(BAD_INPUT)


def setting(key: str, *names: str) -> Callable[[Command], Command]:
    """A click option for the recipe's `stage.key`: its choices, help and default are read from the settings."""
    stage, name = key.split(".")
    field = Recipe.model_fields[stage].annotation.model_fields[name]  # type: ignore[union-attr]
    choices = [str(choice) for part in (field.annotation, *get_args(field.annotation)) for choice in _literals(part)]
    in_seconds = any(getattr(part, "func", None) is parse_duration for part in field.metadata)
    shown = format_duration(field.default) if in_seconds and field.default else field.default
    default = "" if field.default in (None, ()) else f"  [default: {shown}]"
    if field.annotation is bool:
        flag = names or (f"--{name.replace('_', '-')}",)
        return click.option(*flag, f"{stage}__{name}", is_flag=True, default=None, help=field.description)
    return click.option(
        *(names or (f"--{name.replace('_', '-')}",)),
        f"{stage}__{name}",
        type=click.Choice(choices) if choices else str,
        multiple=get_origin(field.annotation) is tuple,
        metavar=None if choices else name.upper(),
        help=f"{field.description}{default}",
    )


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def settings(*keys: str | tuple[str, ...]) -> Callable[[Command], Command]:
    """Options for several settings, and --recipe and --set for all others."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="STAGE.KEY=VALUE",
            help="Override any setting; may be repeated.",
        )(command)
        command = click.option("--recipe", type=PATH, help="A YAML or TOML file with settings of the stages.")(command)
        for key in reversed(keys):
            command = setting(*((key,) if isinstance(key, str) else key))(command)
        return command

    return decorate


def gather(recipe: Path | None, overrides: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The recipe file, then --set, then the options of the command, as one nested mapping of what was given."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value not in (None, ()):
            stage, key = name.split("__")
            given.setdefault(stage, {})[key] = value
    return load_recipe_mapping(recipe, overrides, given)


DATA_SETTINGS = (
    "data.image_size",
    "data.test_fraction",
    "data.group_regex",
    "data.limit_per_class",
    "data.mirror",
    "data.unlabeled",
    ("data.seed", "--split-seed"),
)
FIT_SETTINGS = ("fit.strategy", "fit.family", "fit.loss", "fit.seed", "fit.device", "fit.tensorboard")


@click.group(cls=Ganaug, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("-q", "--quiet", is_flag=True, help="Warnings and results only.")
def main(quiet: bool) -> None:
    """Trains a class-conditional GAN on a small set of labeled images, adds its images to the set, and says honestly
    whether they help a classifier.

    \b
    ganaug demo --out demo            everything, on handwritten digits that come along
    ganaug run DATA --out DIR         everything, on your folder of class folders

    The stages one by one: check, fit, synthesize, browse, audit, compare, report, export-classifier, predict. How far a
    long one has come, from another terminal: status.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)


@main.command()
@click.argument("data", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Everything found, as JSON on standard output.")
@click.pass_context
def check(ctx: click.Context, data: Path, as_json: bool) -> None:
    """Read every image of DATA and name every problem at once.

    DATA is a folder of class folders, or a zip of one, flat or with train/, test/ and valid/. Exit code 0: clean,
    1: problems, 2: unusable.
    """
    from .data.check import check as run_check
    from .data.check import format_report

    found = run_check(data)
    click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else format_report(found))
    ctx.exit(found.exit_code)


@main.command()
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, help="The run's folder, new or empty.")
@settings("fit.budget", "fit.steps", *FIT_SETTINGS, *DATA_SETTINGS)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")
@click.option("-n", "--dry-run", is_flag=True, help="Print settings, classes and an estimate; train and write nothing.")
def fit(
    data: Path,
    out: Path | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train the class-conditional GAN on the images in DATA."""
    from .gan.training import estimate_fit, format_estimate
    from .gan.training import fit as run_fit

    given = gather(recipe, overrides, options)
    if dry_run:
        click.echo(format_estimate(estimate_fit(data, recipe=given)))
        return
    if out is None:
        raise click.UsageError("fit needs --out RUN, the folder to write (or --dry-run).")
    run_fit(data, out, recipe=given, resume=resume)
    click.echo(f"run: {out}\nnext: ganaug synthesize {out} --out AUGMENTED, or ganaug compare {out}")


@main.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder to write, new or empty.")
@settings(
    "synthesize.per_class",
    "synthesize.target_per_class",
    "synthesize.sampling_strategy",
    ("synthesize.classes", "--class"),
    "synthesize.seed",
    "synthesize.truncation",
    "curation.keep",
    ("curation.without", "--no-filter"),
)
@click.option(
    "--add", "added", multiple=True, metavar="CLASS=N", help="N images of a class, and none of those not named."
)
@click.option("--with-real", type=PATH, metavar="DATA", help="Copy the run's real training images from DATA too.")
@click.option("--rebuild", "manifest", type=PATH, metavar="MANIFEST", help="Make the very images of a manifest again.")
@click.option("--parquet", is_flag=True, help="Write the manifest as Parquet too (needs pyarrow).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def synthesize(
    run: Path,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
    added: tuple[str, ...],
    with_real: Path | None,
    manifest: Path | None,
    parquet: bool,
    device: str,
    **options: Any,
) -> None:
    """Write synthetic images of a RUN that pass the tests, one folder for each class, and a manifest.

    Candidates that look like another class, copies of training images, duplicates, outliers and the least real ones are
    rejected; the manifest says which and why.
    """
    from .synthesis.rebuild import rebuild
    from .synthesis.synthesize import synthesize as run_synthesize

    if manifest is not None:
        if with_real or parquet or added or gather(recipe, overrides, options):
            raise GanaugError(
                "--rebuild makes what the manifest says. Give it no other options but --out and --device."
            )
        counts = rebuild(run, manifest, out, device=device)
    else:
        options["synthesize__add"] = split_counts(added) or None
        given = gather(recipe, overrides, options)
        counts = run_synthesize(run, out, recipe=given, with_real=with_real, parquet=parquet, device=device)
    click.echo(f"{sum(counts.values())} synthetic images in {out}\nnext: ganaug compare {run} --synthetic {out}")


def split_counts(texts: tuple[str, ...]) -> dict[str, str]:
    """`('scratch=20',) -> {'scratch': '20'}`; class names may hold an =."""
    counts: dict[str, str] = {}
    for text in texts:
        name, separator, count = text.rpartition("=")
        if not separator or not count.isdecimal():
            raise GanaugError(f"--add expects CLASS=N, for example scratch=200; got {text!r}.")
        if name in counts:
            raise GanaugError(f"--add names {name} twice: {counts[name]} and {count}. Give one number.")
        counts[name] = count
    return counts


@main.command()
@click.argument("augmented", type=PATH)
@click.option(
    "--real", type=PATH, metavar="DATA", help="The data of the run, or the run: shows the nearest real images."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For an SSH tunnel, say; a free one by default.")
@click.option("--no-open", is_flag=True, help="Print the address only; where other people use this machine, too.")
def browse(augmented: Path, real: Path | None, port: int, no_open: bool) -> None:
    """Look through the images of AUGMENTED, a folder of synthesize, on a page of this machine alone, and reject or keep them.

    What is rejected leaves its class folder and is marked in manifest.csv, until you keep it again.
    """
    from .browsing.browse import browse as run_browse

    changed = run_browse(augmented, real=real, port=port, open_browser=not no_open)
    click.echo(
        f"{changed['rejected']} rejected and {changed['kept']} kept again in {augmented}; manifest.csv has it all."
    )


@main.command()
@click.argument("synthetic", type=PATH)
@click.option("--real", type=PATH, required=True, metavar="DATA", help="The real images that they were made from.")
@click.option("--out", type=PATH, help="A folder for the page with the closest pairs and for audit.json, new or empty.")
@click.option("--json", "as_json", is_flag=True, help="Everything found, image by image, as JSON on standard output.")
@settings("data.image_size", "data.group_regex", "data.mirror", ("curation.without", "--no-filter"))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def audit(
    synthetic: Path,
    real: Path,
    out: Path | None,
    as_json: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Test SYNTHETIC, a folder of class folders made by any tool, against real images: copies, wrong classes, duplicates,
    outliers, fidelity and diversity. Nothing is changed."""
    from .synthesis.audit import audit as run_audit
    from .synthesis.audit import format_audit

    found = run_audit(synthetic, real, out, recipe=gather(recipe, overrides, options), device=device)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else format_audit(found))


@main.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="The study's folder; RUN/study by default.")
@click.option(
    "--synthetic", type=PATH, metavar="FOLDER", help="Use these synthetic images instead of new ones from the run."
)
@settings(
    "compare.preset",
    "compare.arms",
    "compare.splits",
    "compare.gans",
    "compare.seeds",
    "compare.classifier",
    ("compare.classifier_weights", "--weights"),
    "compare.updates",
    "compare.budget",
    "compare.equivalence",
    "compare.drop_duplicates",
    "compare.jobs",
    "compare.cluster",
    "compare.device",
)
@click.option(
    "-n", "--dry-run", is_flag=True, help="Print what would be trained and how long it may take; train nothing."
)
@click.option(
    "--fail-if",
    "failures",
    multiple=True,
    type=click.Choice(VERDICTS),
    help=f"Exit with code {FAILED} at this verdict, for automatic checks; may be repeated.",
)
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    run: Path,
    out: Path | None,
    synthetic: Path | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    failures: tuple[str, ...],
    **options: Any,
) -> None:
    """Do the synthetic images of a RUN help a classifier? Arms that differ in one thing each, paired repetitions with other
    GANs, images and seeds, real test images, a verdict: helps, hurts, equivalent or inconclusive.

    \b
    Arms: scratch/real (the baseline), scratch/real+synthetic, discriminator/real, discriminator/real+synthetic,
    scratch/duplicated, scratch/oversampled, scratch/smote, scratch/trivialaugment, scratch/synthetic,
    scratch/longer (given the GAN's time), scratch/other-seeds (the baseline against itself).
    """
    from .study.compare import compare as run_compare
    from .study.compare import estimate_compare

    asked = gather(recipe, overrides, options)
    if dry_run:
        click.echo(estimate_compare(run, synthetic=synthetic, recipe=asked))
        return
    study = run_compare(run, out, synthetic=synthetic, recipe=asked)
    click.echo(f"verdict: {study.verdict}. {study.sentence}")
    click.echo(f"study: {study.folder / 'study.json'}\nnext: ganaug report {study.folder}")
    if study.verdict in failures:
        click.echo(f"failed: the verdict is {study.verdict}", err=True)
        ctx.exit(FAILED)


@main.command()
@click.argument("study", type=PATH)
@click.option(
    "--out", type=PATH, help="The HTML file; STUDY/report.html by default. A Markdown file is written beside it."
)
@settings("report.images_per_class")
def report(study: Path, out: Path | None, recipe: Path | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Write the report of a STUDY: one HTML file that opens offline."""
    from .reporting.page import report as run_report

    page = run_report(study, out, recipe=gather(recipe, overrides, options))
    click.echo(f"report: {page}")


@main.command("export-classifier")
@click.argument("study", type=PATH)
@click.option("--out", type=PATH, required=True, help="The file: .safetensors for ganaug predict, .onnx for others.")
@click.option("--arm", help="Whose classifier; by default that of the best arm on the inner folds.")
def export_classifier(study: Path, out: Path, arm: str | None) -> None:
    """Write the classifier of a STUDY as a file that predicts."""
    from .study.export import export_classifier as run_export

    run_export(study, out, arm=arm)
    click.echo(f"classifier: {out}" + ("" if out.suffix == ".onnx" else f"\nnext: ganaug predict {out} IMAGES"))


@main.command()
@click.argument("classifier", type=PATH)
@click.argument("images", type=PATH)
@click.option("--out", type=PATH, help="A CSV file; standard output by default.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def predict(classifier: Path, images: Path, out: Path | None, device: str) -> None:
    """Say which class each of the IMAGES shows: a CSV table with the probability of every class.

    CLASSIFIER is a file of export-classifier; IMAGES an image, or a folder or zip with images anywhere in it.
    """
    from .classify.predictor import predict as run_predict

    table = run_predict(classifier, images, out, device=device)
    click.echo(table.to_csv(index=False).rstrip("\n") if out is None else f"{len(table)} predictions in {out}")


@main.command()
@click.argument("folder", type=PATH)
def status(folder: Path) -> None:
    """How far a training or a study in FOLDER has come, while it runs in another terminal; after that, what it gave.

    FOLDER is the --out of fit, compare, run or demo.
    """
    from .watch import format_status
    from .watch import status as find_status

    click.echo(format_status(find_status(folder)))


@main.command()
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="The folder for everything.")
@click.option("--budget", default=RUN_BUDGET, show_default=True, help="Wall-clock time for all stages together.")
@settings(*FIT_SETTINGS, "compare.preset", "compare.seeds", "compare.drop_duplicates", *DATA_SETTINGS)
def run(data: Path, out: Path, budget: str, recipe: Path | None, overrides: tuple[str, ...], **options: Any) -> None:
    """All of it, in order: check, fit, synthesize, compare, report. Repeat the command to go on after an interruption."""
    from .pipeline import format_result
    from .pipeline import run as run_all

    result = run_all(data, out, budget=budget, recipe=gather(recipe, overrides, options))
    click.echo(format_result(result, data))


@main.command()
@click.option("--out", type=PATH, required=True, help="The folder for everything.")
@click.option("--budget", default=DEMO_BUDGET, show_default=True, help="Wall-clock time for all stages together.")
@settings(*FIT_SETTINGS, "compare.preset", "compare.seeds")
def demo(out: Path, budget: str, recipe: Path | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Run on scikit-learn's handwritten digits, 20 a class, which need no download."""
    from .pipeline import demo as run_demo
    from .pipeline import format_result

    result = run_demo(out, budget=budget, recipe=gather(recipe, overrides, options))
    click.echo(format_result(result, out / "digits"))
