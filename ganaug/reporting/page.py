"""Stage: the files of a study -> one HTML page that needs nothing else, and the same key figures as Markdown."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..errors import GanaugError
from ..progress import format_duration, say
from ..recipe import RecipeLike, load_recipe
from ..runs import write_text
from ..settings import ReportSettings
from . import choices, words
from .advice import explain_placeholders, next_steps
from .files import OF_SYNTHETIC, Study, read_study
from .result import Result
from .scatter import draw_map, draw_walks
from .sprites import Sprite, make_sprites
from .tables import (
    arm_rows,
    charted_differences,
    class_tables,
    compared_pairs,
    frequent_confusions,
    metric_names,
    noise_rows,
    setting_groups,
)

OPEN_CLASSES = 24  # rows of classes that a page shows without a click
VERDICT_WORDS = {"helps": "Helps", "hurts": "Hurts", "equivalent": "Equivalent", "inconclusive": "Inconclusive"}
DEMO_LABEL = "Demonstration, no evidence"
GUESS_LABEL = "The baseline may be guessing"
COPY = "copy"  # the filter whose column stands also where it rejected nothing
TEMPLATES = Path(__file__).with_name("templates")
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
    steps = next_steps(result)
    headline = words.split_headline(words.typeset(words.name_arms(result.sentence)))
    labels = [GUESS_LABEL] * result.guesses + [DEMO_LABEL] * (result.preset == "demo")
    return {
        "result": result,
        "sentence": words.name_arms(result.sentence),
        "headline": headline,
        "lede": words.split_headline(headline[1]),
        "notes": [words.name_arms(note) for note in result.notes],
        "steps": steps,
        "placeholders": explain_placeholders(steps),
        "word": VERDICT_WORDS[result.verdict],
        "label": ". ".join(labels),
        "labels": labels,
        "subject": describe_subject(result),
        "primary": result.primary_difference(),
        "key_figures": key_figures(result),
        "metrics": metric_names(result),
        "arms": arm_rows(result),
        "class_tables": class_tables(result),
        "confusions": frequent_confusions(result),
        "noise": noise_rows(result),
        "interval_basis": describe_basis(result),
        "given": choices.given_to_arms(result),
        "updates": choices.describe_updates(result),
        "updates_exception": choices.describe_exception(result),
        "updates_judged": choices.was_judged(result),
        "updates_judge": choices.judged_by(result),
        "converged": choices.has_converged(result),
        "not_worth_mixing": choices.not_worth_mixing(result),
        "has_synthetic": has_synthetic(result),
        "settings": setting_groups(result.settings),
        "duration": None if result.seconds is None else format_duration(result.seconds),
        "missing": {
            name: reason for name, reason in study.missing.items() if name not in OF_SYNTHETIC or has_synthetic(result)
        },
        "open_classes": OPEN_CLASSES,
        "curation": study.curation,
        "reasons": study.curation.reasons(filters_copies(result) * [COPY]) if study.curation else [],
        "pairs": study.pairs,
        **page_script(),
    }


def page_script() -> dict[str, str]:
    """The page's only script, and the hash by which its policy lets that one run and no other."""
    text = TEMPLATES.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"script": Markup(text), "script_hash": f"sha256-{digest}"}


def has_synthetic(result: Result) -> bool:
    """Whether an arm uses synthetic images. Arms of unknown names might."""
    return any(words.uses_synthetic(arm) or "/" not in arm for arm in result.arms)


def filters_copies(result: Result) -> bool:
    """Whether the filter of copies was on, as far as the settings tell."""
    return COPY not in result.settings.get("curation", {}).get("without", [])


def describe_subject(result: Result) -> str:
    """What the study is about, for its title."""
    if words.uses_synthetic(result.primary.arm):
        return "synthetic images"
    return words.describe_pair(result.primary.arm, result.primary.baseline)


def describe_basis(result: Result) -> str:
    """What the intervals take into account."""
    if result.num_splits > 1:
        return "over the splits, corrected for the training images that they share; the repetitions of one split count as one"
    basis = "over the paired repetitions and the draw of the test images"
    if 1 < result.num_gans < result.num_repetitions:
        basis += "; in arms that use a GAN, the repetitions of one GAN count as one"
    return basis


def key_figures(result: Result) -> list[tuple[str, str, str]]:
    """(what, value, remark) for the head of the page; what the study does not say is left out."""
    figures: list[tuple[str, str, str]] = []
    metric = words.describe_metric(result.primary.metric)
    row = result.primary_difference()
    sides = words.name_sides(result.primary.arm, result.primary.baseline)
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
                "Without → with synthetic" if sides[0] == "without" else "Baseline → arm",
                f"{words.percent(before)} → {words.percent(after)}",
                f"{metric.lower()}, mean over the repetitions",
            )
        )
    train, synthetic, test = (result.total(kind) for kind in ("train", "synthetic", "test"))
    classes = words.counted(len(result.class_names), "class")
    where = ", in the first split" if result.num_splits > 1 else ""
    if train is not None:
        added = "" if synthetic is None else f", {words.counted(synthetic, 'synthetic one')}"
        figures.append(("Training images", words.count(train), f"real, in {classes}{added}{where}"))
    if test is not None:
        figures.append(("Test images", words.count(test), f"real, never trained on{where}"))
    if result.num_repetitions:
        figures.append(("Repetitions", words.count(result.num_repetitions), describe_repetitions(result)))
    return figures


def describe_repetitions(result: Result) -> str:
    """What was drawn anew in the repetitions: "paired; 6 GANs", or also of how many splits."""
    if not result.repetitions:
        return "paired between the arms"
    drawn = [words.counted(result.num_gans, "GAN")] if any(words.uses_gan(arm) for arm in result.arms) else []
    drawn += [words.counted(result.num_splits, "split")] if result.num_splits > 1 else []
    return f"paired; {', '.join(drawn)}" if drawn else "paired between the arms"


def draw_study(study: Study, settings: ReportSettings) -> dict[str, Any]:
    """Every picture of the page. matplotlib is imported here, so that reading a study stays quick."""
    from .curves import (
        constant_checkpoints,
        constant_metrics,
        draw_checkpoints,
        draw_classifiers,
        draw_gan,
        draw_updates,
    )
    from .figures import draw_arms, draw_confusion, draw_forest

    result = study.result
    metric, arms = result.primary.metric, list(result.arms)
    first = compared_pairs(result)[0]
    charted = charted_differences(result)
    order = [arm for arm in (first[1], first[0]) if arm in result.confusion]
    order += [arm for arm in result.confusion if arm not in order]
    has_candidates = result.updates is not None and any(
        row.balanced_accuracy is not None for row in result.updates.candidates
    )
    return {
        "arms_chart": draw_arms(result.arms, metric, "arms", result.chance if metric == "balanced_accuracy" else None)
        if any(scores.get(metric) for scores in result.arms.values())
        else None,
        "forest_chart": draw_forest(charted, result.primary, "forest", result.equivalence) if charted else None,
        "forest_is_whole": len(charted) == len(result.differences),
        "confusion_charts": [
            (arm, arm in first, draw_confusion(result.confusion[arm], result.class_names, arm, f"confusion-{index}"))
            for index, arm in enumerate(order)
        ],
        "updates_chart": draw_updates(result.updates, "updates") if result.updates and has_candidates else None,
        "map_picture": draw_map(study.map, result.class_names) if study.map else None,
        "walk_pictures": draw_walks(study.walks, result.class_names) if study.walks else [],
        "checkpoint_charts": draw_checkpoints(study.checkpoints, "checkpoints") if study.checkpoints else [],
        "checkpoint_constants": constant_checkpoints(study.checkpoints) if study.checkpoints else [],
        "gan_charts": draw_gan(study.gan, "gan") if study.gan else [],
        "gan_constants": constant_metrics(study.gan) if study.gan else [],
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
        loader=jinja2.FileSystemLoader(TEMPLATES),
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
        "p": words.p_value,
        "loss": words.loss,
        "lower_first": words.lower_first,
        "source": words.describe_source,
        "md": words.escape_markdown,
        "fence": words.fence,
    }
    environment.globals |= {
        "interval": words.interval,
        "counted": words.counted,
        "sides": words.name_sides,
        "signs": words.VERDICT_SIGNS,
    }
    return environment
