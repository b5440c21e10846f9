"""Stage: the files of a study -> one HTML page that needs nothing else, and the same key figures as Markdown."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ..errors import GanaugError
from ..progress import format_duration, say
from ..runs import write_text
from ..settings import RecipeLike, ReportSettings, load_recipe
from . import words
from .files import Result, Study, read_study
from .sprites import Sprite, make_sprites
from .tables import arm_rows, class_tables, compared_pairs, frequent_confusions, metric_names, setting_groups

OPEN_CLASSES = 24  # rows of classes that a page shows without a click
VERDICT_WORDS = {"helps": "Helps", "hurts": "Hurts", "inconclusive": "Inconclusive"}
SUFFIXES = (".html", ".htm")


def report(study: str | Path, out: str | Path | None = None, *, recipe: RecipeLike = None) -> Path:
    """Writes the page of a study and, beside it, a Markdown version; returns the path of the page.

    `study` is a folder that `compare` wrote. `out` is the HTML file to write, or a folder for report.html (by default the
    study's own). `recipe`: settings that differ from the defaults, e.g. {"report": {"images_per_class": 12}}.
    Raises `GanaugError` if the folder holds no sound study.json or the page cannot be written; other files may be
    missing, which the page then says.
    """
    folder = Path(study)
    page = _page_path(folder, out)
    found = read_study(folder)
    context = describe_study(found) | draw_study(found, load_recipe(recipe).report)
    try:
        write_text(page, render("report.html.j2", context))
        write_text(page.with_suffix(".md"), render("report.md.j2", context))
    except OSError as error:
        raise GanaugError(f"the report cannot be written to {page}: {error}. Give another path with --out.") from None
    say(f"wrote {page}")
    return page


def _page_path(folder: Path, out: str | Path | None) -> Path:
    path = folder if out is None else Path(out)
    if out is None or path.is_dir():
        return path / "report.html"
    if path.suffix.lower() not in SUFFIXES:
        raise GanaugError(
            f"the report is an HTML file: expected a name that ends in .html or an existing folder, got {path}."
        )
    return path


def describe_study(study: Study) -> dict[str, Any]:
    """Every number and word of the page, without its pictures."""
    result = study.result
    return {
        "result": result,
        "word": VERDICT_WORDS[result.verdict],
        "primary": result.primary_difference(),
        "key_figures": key_figures(result),
        "metrics": metric_names(result),
        "arms": arm_rows(result),
        "class_tables": class_tables(result),
        "confusions": frequent_confusions(result),
        "settings": setting_groups(result.settings),
        "duration": None if result.seconds is None else format_duration(result.seconds),
        "missing": study.missing,
        "open_classes": OPEN_CLASSES,
    }


def key_figures(result: Result) -> list[tuple[str, str, str]]:
    """(what, value, remark) for the head of the page; what the study does not say is left out."""
    figures: list[tuple[str, str, str]] = []
    metric = words.describe_metric(result.primary.metric)
    row = result.primary_difference()
    if row is not None:
        bounds = words.interval(row.low, row.high)
        figures.append((f"{metric}", f"{words.signed(row.mean)} points", f"95% interval {bounds}"))
    before, after = (
        words.mean(result.arms.get(arm, {}).get(result.primary.metric, []))
        for arm in (result.primary.baseline, result.primary.arm)
    )
    if before is not None and after is not None:
        figures.append(
            (
                "Without → with synthetic",
                f"{words.percent(before)} → {words.percent(after)}",
                f"{metric.lower()}, mean over the seeds",
            )
        )
    train, synthetic, test = (result.total(kind) for kind in ("train", "synthetic", "test"))
    classes = words.counted(len(result.class_names), "class")
    if train is not None:
        added = "" if synthetic is None else f", {words.counted(synthetic, 'synthetic one')}"
        figures.append(("Training images", words.count(train), f"real, in {classes}{added}"))
    if test is not None:
        figures.append(("Test images", words.count(test), "real, never trained on"))
    if result.seeds:
        figures.append(("Repetitions", words.counted(len(result.seeds), "seed"), "paired between the arms"))
    return figures


def draw_study(study: Study, settings: ReportSettings) -> dict[str, Any]:
    """Every picture of the page. matplotlib is imported here, so that reading a study stays quick."""
    from .curves import draw_classifiers, draw_gan, draw_updates
    from .figures import draw_arms, draw_confusion, draw_forest

    result = study.result
    metric, arms = result.primary.metric, list(result.arms)
    first = compared_pairs(result)[0]
    order = [arm for arm in (first[1], first[0]) if arm in result.confusion]
    order += [arm for arm in result.confusion if arm not in order]
    has_candidates = result.updates is not None and any(
        row.balanced_accuracy is not None for row in result.updates.candidates
    )
    return {
        "arms_chart": draw_arms(result.arms, metric, "arms")
        if any(scores.get(metric) for scores in result.arms.values())
        else None,
        "forest_chart": draw_forest(result.differences, result.primary, "forest") if result.differences else None,
        "confusion_charts": [
            (arm, arm in first, draw_confusion(result.confusion[arm], result.class_names, arm, f"confusion-{index}"))
            for index, arm in enumerate(order)
        ],
        "updates_chart": draw_updates(result.updates, "updates") if result.updates and has_candidates else None,
        "gan_charts": draw_gan(study.gan, "gan") if study.gan else [],
        "classifier_charts": draw_classifiers(study.curves, arms, "curves") if study.curves else [],
        "examples": pair_examples(study, settings.images_per_class),
    }


def pair_examples(study: Study, limit: int) -> list[tuple[str, Sprite | None, Sprite | None]]:
    """(class, real, synthetic) for each class; [] without the file of examples."""
    if study.real is None or study.synthetic is None:
        return []
    real, synthetic = make_sprites(study.real, limit), make_sprites(study.synthetic, limit)
    return list(zip(study.result.class_names, real, synthetic, strict=True))


def render(template: str, context: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(context)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "signed": words.signed,
        "count": words.count,
        "arm": words.describe_arm,
        "pair": words.describe_pair,
        "metric": words.describe_metric,
        "md": words.escape_markdown,
        "fence": words.fence,
    }
    environment.globals |= {"interval": words.interval, "counted": words.counted}
    return environment
