"""The command line: one thin command for each stage. Nothing heavy is imported until a command runs."""

import io
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from . import __version__
from .errors import GanaugError, printable
from .options import PATH, Ganaug, complete_arms, gather, settings
from .progress import LOGGER, Lines
from .sessions import is_launched
from .settings import DEMO_BUDGET, RUN_BUDGET, RUN_PRESET, VERDICTS

FAILED = 1  # exit code of --fail-if

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


FIRST_SESSION = """\b
A first session:
  ganaug check photos                           what is wrong with the images?
  ganaug run photos --out result --budget 20m   GAN, images, verdict, report
  ganaug synthesize result/run --out more --per-class 200 --with-real photos
"""


class PlainLines(logging.Formatter):
    """Messages alone; what names in them may do to a terminal is shown instead."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage(), keep="\n")


def show(text: str) -> None:
    """Prints lines for people. What names and texts of files may do to a terminal is shown instead."""
    click.echo(printable(text, keep="\n"))


def show_json(value: Any) -> None:
    """Prints JSON for programs, in which a terminal finds nothing to obey either."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


@click.group(
    cls=Ganaug,
    epilog=FIRST_SESSION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
@click.option("-q", "--quiet", is_flag=True, help="Warnings and results only.")
@click.pass_context
def main(ctx: click.Context, quiet: bool) -> None:
    """Trains a class-conditional GAN on a small set of labeled images, adds its images to the set, and says honestly
    whether they help a classifier.

    DATA is a folder of class folders, or a zip of one. Each command says more: ganaug fit --help
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged images are told of by name
    warnings.filterwarnings("ignore", message=r"\d+ tasks (have been|which were)")  # joblib's, when a signal has come
    handler = Lines()
    handler.setFormatter(PlainLines())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)
    if is_launched() and ctx.invoked_subcommand != "fit":
        raise GanaugError(f"only fit trains in several processes. Start {ctx.invoked_subcommand} without torchrun.")


@main.command(short_help="Name every problem of your images at once.")
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
    if as_json:
        show_json(found.to_json())
    else:
        show(format_report(found))
    ctx.exit(found.exit_code)


@main.command(short_help="Train the GAN on your images.")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, help="The run's folder, new or empty.")
@settings("fit.budget", "fit.steps", *FIT_SETTINGS, "fit.jobs", "fit.cluster", *DATA_SETTINGS)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in --out.")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print settings, classes and what it would cost: time, memory, disk. Train and write nothing.",
)
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
    from .gan.forecast import estimate_fit, format_estimate
    from .gan.ranks import leads
    from .gan.training import fit as run_fit

    given = gather(recipe, overrides, options)
    if dry_run:
        if leads():
            show(format_estimate(estimate_fit(data, recipe=given)))
        return
    if out is None:
        raise click.UsageError("fit needs --out RUN, the folder to write (or --dry-run).")
    run_fit(data, out, recipe=given, resume=resume)
    if leads():
        show(f"run: {out}\nnext: ganaug synthesize {out} --out AUGMENTED, or ganaug compare {out}")


@main.command(short_help="Write synthetic images that pass the tests.")
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="The folder to write, new or empty.")
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
@click.option("--raw", is_flag=True, help="Test nothing: as many images a second as the generator makes.")
@click.option("--shards", is_flag=True, help="Write tar files for WebDataset instead of folders.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print counts, settings and what it would cost: time, memory, disk. Some candidates are made and tested; write nothing.",
)
def synthesize(
    run: Path,
    out: Path | None,
    recipe: Path | None,
    overrides: tuple[str, ...],
    added: tuple[str, ...],
    with_real: Path | None,
    manifest: Path | None,
    parquet: bool,
    raw: bool,
    shards: bool,
    device: str,
    dry_run: bool,
    **options: Any,
) -> None:
    """Write synthetic images of a RUN that pass the tests, one folder for each class, and a manifest.

    Candidates that look like another class, copies of training images, duplicates, outliers and the least real ones are
    rejected; the manifest says which and why.
    """
    from .synthesis.forecast import estimate_synthesize, format_synthesis
    from .synthesis.rebuild import rebuild
    from .synthesis.synthesize import synthesize as run_synthesize

    options["synthesize__add"] = split_counts(added) or None
    given = gather(recipe, overrides, options)
    if manifest is not None and (with_real or parquet or raw or shards or dry_run or given):
        raise GanaugError("--rebuild makes what the manifest says. Give it no other options but --out and --device.")
    kind: dict[str, Any] = {"parquet": parquet, "raw": raw, "shards": shards, "device": device}
    if dry_run:
        show(format_synthesis(estimate_synthesize(run, recipe=given, with_real=with_real, **kind)))
        return
    if out is None:
        raise click.UsageError("synthesize needs --out AUGMENTED, the folder to write (or --dry-run).")
    if manifest is not None:
        counts = rebuild(run, manifest, out, device=device)
    else:
        counts = run_synthesize(run, out, recipe=given, with_real=with_real, **kind)
    after = "" if shards else f"\nnext: ganaug compare {run} --synthetic {out}"
    show(f"{sum(counts.values())} synthetic images in {out}{after}")


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


@main.command(short_help="Look through them in the browser, and reject some.")
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
    show(f"{changed['rejected']} rejected and {changed['kept']} kept again in {augmented}; manifest.csv has it all.")


@main.command(short_help="Test the synthetic images of any other tool.")
@click.argument("synthetic", type=PATH)
@click.option("--real", type=PATH, required=True, metavar="DATA", help="The real images that they were made from.")
@click.option("--out", type=PATH, help="A folder for the page with the closest pairs and for audit.json, new or empty.")
@click.option("--json", "as_json", is_flag=True, help="Everything found, image by image, as JSON on standard output.")
@settings("data.image_size", "data.group_regex", "data.mirror", ("curation.without", "--no-filter"))
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
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
    if as_json:
        show_json(found)
    else:
        show(format_audit(found))


@main.command(short_help="Train classifiers with and without them: the verdict.")
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
    scratch/real+unlabeled, scratch/real+unlabeled+synthetic (where the run has unlabeled images),
    scratch/duplicated, scratch/oversampled, scratch/smote, scratch/trivialaugment, scratch/synthetic,
    scratch/longer (given the GAN's time), scratch/other-seeds (the baseline against itself).
    """
    from .study.compare import compare as run_compare
    from .study.compare import estimate_compare

    asked = gather(recipe, overrides, options)
    if dry_run:
        show(estimate_compare(run, synthetic=synthetic, recipe=asked))
        return
    study = run_compare(run, out, synthetic=synthetic, recipe=asked)
    show(f"verdict: {study.verdict}. {study.sentence}")
    show(f"study: {study.folder / 'study.json'}\nnext: ganaug report {study.folder}")
    if study.verdict in failures:
        click.echo(f"failed: the verdict is {study.verdict}", err=True)
        ctx.exit(FAILED)


@main.command(short_help="Write a study as one HTML file.")
@click.argument("study", type=PATH)
@click.option(
    "--out", type=PATH, help="The HTML file; STUDY/report.html by default. A Markdown file is written beside it."
)
@settings("report.images_per_class")
def report(study: Path, out: Path | None, recipe: Path | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Write the report of a STUDY: one HTML file that opens offline."""
    from .reporting.page import report as run_report

    page = run_report(study, out, recipe=gather(recipe, overrides, options))
    show(f"report: {page}")


@main.command("export-classifier", short_help="Write the best classifier of a study as a file.")
@click.argument("study", type=PATH)
@click.option("--out", type=PATH, required=True, help="The file: .safetensors for ganaug predict, .onnx for others.")
@click.option(
    "--arm", shell_complete=complete_arms, help="Whose classifier; by default that of the best arm on the inner folds."
)
def export_classifier(study: Path, out: Path, arm: str | None) -> None:
    """Write the classifier of a STUDY as a file that predicts."""
    from .study.export import describe_export
    from .study.export import export_classifier as run_export

    run_export(study, out, arm=arm)
    after = "" if out.suffix.lower() == ".onnx" else f"\nnext: ganaug predict {out} IMAGES"
    show(f"classifier: {out}\n{describe_export(study, arm)}{after}")


@main.command(short_help="Say which class each of other images shows.")
@click.argument("classifier", type=PATH)
@click.argument("images", type=PATH)
@click.option("--out", type=PATH, help="A CSV file; standard output by default.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def predict(classifier: Path, images: Path, out: Path | None, device: str) -> None:
    """Say which class each of the IMAGES shows: a CSV table with the probability of every class.

    CLASSIFIER is a file of export-classifier; IMAGES an image, or a folder or zip with images anywhere in it.
    """
    from .classify.predictor import predict as run_predict
    from .spreadsheet import write_csv

    table = run_predict(classifier, images, out, device=device)
    if out is None:
        text = io.StringIO()
        write_csv(table, text)
        if sys.stdout.isatty():
            show(text.getvalue().rstrip("\n"))
        else:
            click.echo(text.getvalue(), nl=False)
    else:
        show(f"{len(table)} predictions in {out}")


@main.command(short_help="How far a training or a study has come.")
@click.argument("folder", type=PATH)
def status(folder: Path) -> None:
    """How far a training or a study in FOLDER has come, while it runs in another terminal; after that, what it gave.

    FOLDER is the --out of fit, compare, run or demo.
    """
    from .watch import format_status
    from .watch import status as find_status

    show(format_status(find_status(folder)))


@main.command(short_help="Check, fit, synthesize, compare and report.")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, help="The folder for everything.")
@click.option(
    "--budget", metavar="TIME", default=RUN_BUDGET, show_default=True, help="Wall-clock time for all stages together."
)
@settings(
    *FIT_SETTINGS,
    "compare.preset",
    "compare.seeds",
    "compare.drop_duplicates",
    *DATA_SETTINGS,
    compare__preset=RUN_PRESET,
)
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print what it would do and cost, as far as can be told; train and write nothing.",
)
def run(
    data: Path,
    out: Path | None,
    budget: str,
    recipe: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """All of it, in order: check, fit, synthesize, compare, report. Repeat the command to go on after an interruption."""
    from .pipeline import estimate_run, format_result
    from .pipeline import run as run_all

    given = gather(recipe, overrides, options)
    if dry_run:
        show(estimate_run(data, budget=budget, recipe=given))
        return
    if out is None:
        raise click.UsageError("run needs --out RESULT, the folder for everything (or --dry-run).")
    result = run_all(data, out, budget=budget, recipe=given)
    show(format_result(result, data))


@main.command(short_help="The same on handwritten digits that come along.")
@click.option("--out", type=PATH, required=True, help="The folder for everything.")
@click.option(
    "--budget", metavar="TIME", default=DEMO_BUDGET, show_default=True, help="Wall-clock time for all stages together."
)
@settings(*FIT_SETTINGS, "compare.preset", "compare.seeds", compare__preset=RUN_PRESET)
def demo(out: Path, budget: str, recipe: Path | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Run on scikit-learn's handwritten digits, 20 a class, which need no download."""
    from .pipeline import demo as run_demo
    from .pipeline import format_result

    result = run_demo(out, budget=budget, recipe=gather(recipe, overrides, options))
    show(format_result(result, out / "digits"))


@main.command(short_help="Let the Tab key complete commands and options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which SHELL completes ganaug's commands, options and arms with the Tab key.

    \b
    bash  echo 'eval "$(ganaug completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(ganaug completion zsh)"' >> ~/.zshrc
    fish  ganaug completion fish > ~/.config/fish/completions/ganaug.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None, "click knows all three"
    click.echo(complete(main, {}, "ganaug", "_GANAUG_COMPLETE").source())
