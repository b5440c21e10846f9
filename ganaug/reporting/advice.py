"""What the reader of a study does next: a few steps with the commands for them, from simple rules about what study.json holds."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..settings import IMAGE_SIZES, CompareSettings
from .choices import has_converged
from .result import Result
from .words import count, describe_arm, uses_synthetic

MOST_STEPS = 3
FEW_TEST_IMAGES = 200  # differences of a few points cannot be told from chance with fewer
MOST_REPETITIONS = 50  # that anybody would train
MORE_UPDATES = 4  # times as many, where the baseline had not converged
PLACEHOLDERS = {
    "NEW": "a new folder",
    "STUDY": "the folder of this study",
    "IMAGES": "a folder of unlabeled images",
    "DATA": "the images that the run was made from",
    "RUN": "the folder of the run",
}
REAL, DISCRIMINATOR = "scratch/real", "discriminator/real"
USUAL_ARMS = {REAL, "scratch/real+synthetic", DISCRIMINATOR, "discriminator/real+synthetic"}
KEPT_DATA = {
    "group_regex": "--group-regex",
    "mirror": "--mirror",
    "image_size": "--image-size",
    "unlabeled": "--unlabeled",
}


@dataclass(frozen=True)
class Step:
    """`commands` are lines for a shell; what they leave open is named in PLACEHOLDERS."""

    text: str
    commands: tuple[str, ...] = ()


def next_steps(result: Result) -> list[Step]:
    """At most MOST_STEPS, the most urgent first: what makes the verdict worthless, then what makes it weak, then what follows from it."""
    if result.guesses:
        steps = [*_clearer_images(result), *_evidence(result), *_longer(result)]
    elif result.preset == "demo":
        steps = [*_evidence(result), *_use(result), *_more_images(result)]
    else:
        steps = [*_longer(result), *_use(result), *_more_images(result), *_more_repetitions(result), *_instead(result)]
    return steps[:MOST_STEPS]


def explain_placeholders(steps: Sequence[Step]) -> str:
    """What the commands leave open, in a sentence; empty where that is nothing."""
    used = {word for step in steps for line in step.commands for word in shlex.split(line)}
    meant = [f"{word} for {what}" for word, what in PLACEHOLDERS.items() if word in used]
    return f"{', '.join(meant).replace(' for ', ' stands for ', 1)}." if meant else ""


def _clearer_images(result: Result) -> list[Step]:
    """Of a baseline that may guess: more pixels, where there are any to be had, and a look at the images."""
    side = result.settings.get("data", {}).get("image_size")
    larger = next((size for size in IMAGE_SIZES if isinstance(side, int) and size > side), None)
    data, steps = _data(result), []
    if larger is not None:
        why = f"Show the networks more: at {side} x {side} pixels the classes may be too hard to tell apart, even for a person."
        steps.append(Step(why, (_run_again(result, image_size=larger),)))
    least = min(result.counts.get("train", {}).values(), default=None)
    few = (
        f" The smallest class has {count(least)} to train on; a class in doubt needs more." if least is not None else ""
    )
    check = "Look at the images of every class, and whether their labels are right; the check names what is damaged or double."
    return [*steps, Step(check + few, (f"ganaug check {data}",))]


def _longer(result: Result) -> list[Step]:
    """Of trainings that ended too early: more updates, without the budget that cut them short."""
    if has_converged(result) is not False or result.preset == "demo":
        return []
    why = "Train for longer: not all had converged, and an under-trained baseline makes any augmentation look good."
    return [Step(why, (f"{_compare_again(result)}{_updates(result)}",))]


def _updates(result: Result) -> str:
    """The option for MORE_UPDATES times as many updates, where trainings ended too early and the default is less."""
    longest = max([choice.chosen for choice in result.choices] or [result.updates.chosen if result.updates else 0])
    too_short = has_converged(result) is False and MORE_UPDATES * longest > CompareSettings().max_updates
    return f" --set compare.max_updates={MORE_UPDATES * longest}" if too_short else ""


def _evidence(result: Result) -> list[Step]:
    """Of a demonstration: a study that is evidence, its cost first."""
    if result.preset != "demo":
        return []
    command = f"{_compare_again(result, preset='standard', arms=())}{_updates(result)}"
    longer = ", and trainings that last until they gain no more" if has_converged(result) is False else ""
    why = f"Make it evidence: several GANs, arms that are tuned{longer}. It takes much longer; the first command says how long."
    return [Step(why, (f"{command} --dry-run", command))]


def _use(result: Result) -> list[Step]:
    """Of images that help: the classifier, and images for another one."""
    if result.verdict != "helps" or not uses_synthetic(result.primary.arm):
        return []
    export = f"ganaug export-classifier STUDY --out classifier.safetensors --arm {result.primary.arm}"
    steps = [Step("Use the classifier that was trained with them.", (export,))]
    if _given(result) is None:
        why = "Or train your own on real and synthetic images together, mixed as this study did."
        steps.append(Step(why, (f"ganaug synthesize {_run(result)} --out NEW --with-real {_data(result)}",)))
    return steps


def _more_images(result: Result) -> list[Step]:
    """Of an inconclusive verdict that more test images would settle, or that rests on few."""
    tested, times = result.total("test"), result.needed.times_test_images
    if result.verdict != "inconclusive" or tested is None:
        return []
    if result.settings.get("data", {}).get("group_regex"):
        why = "Collect real images of other groups to test on: it is groups that count, not images."
        return [Step(why, (_run_again(result),))]
    enough = math.ceil(times * tested) if times is not None else FEW_TEST_IMAGES
    if enough <= tested:
        return []
    why = f"Collect real images to test on: about {count(enough)} in place of {count(tested)}"
    why += (
        " would settle it, if the difference is as measured."
        if times is not None
        else " before a few points can be told from chance."
    )
    return [Step(why, (_run_again(result),))]


def _more_repetitions(result: Result) -> list[Step]:
    more = result.needed.repetitions
    if result.verdict != "inconclusive" or more is None or more > MOST_REPETITIONS:
        return []
    number = math.ceil(more)
    if result.num_splits > 1:
        what, options = "splits", f"--splits {number}"
    elif 1 < result.num_gans < result.num_repetitions:
        of_each = result.num_repetitions // result.num_gans
        what, options = "GANs", f"--gans {number} --seeds {number * of_each}"
    else:
        what, options = "repetitions", f"--seeds {number}"
    why = f"Repeat it: {number} {what} would settle it, if the difference is as measured."
    return [Step(why, (f"{_compare_again(result)} {options}",))]


def _instead(result: Result) -> list[Step]:
    """Of images that do not help: what else the GAN or the data can give."""
    if result.verdict == "helps" or not uses_synthetic(result.primary.arm):
        return []
    steps = []
    if result.verdict != "inconclusive":
        why = "Train on the real images alone: the synthetic ones " + (
            "do harm." if result.verdict == "hurts" else "change nothing that counts."
        )
        steps.append(Step(why, (f"ganaug export-classifier STUDY --out classifier.safetensors --arm {REAL}",)))
    if DISCRIMINATOR not in result.arms and _classifier(result) == "discriminator":
        why = (
            "Ask whether the discriminator's weights help, from which a classifier can start without a synthetic image."
        )
        steps.append(Step(why, (_compare_again(result, arms=(REAL, result.primary.arm, DISCRIMINATOR)),)))
    elif _helps(result, DISCRIMINATOR):
        why = f"Start from the GAN's discriminator: “{describe_arm(DISCRIMINATOR)}” did better than the baseline."
        steps.append(Step(why, (f"ganaug export-classifier STUDY --out classifier.safetensors --arm {DISCRIMINATOR}",)))
    if result.settings.get("data", {}).get("unlabeled") is None and _given(result) is None:
        why = "Add images without labels, if there are any of the same classes: the GAN learns from them, too."
        steps.append(Step(why, (_run_again(result, unlabeled="IMAGES"),)))
    return steps


def _helps(result: Result, arm: str) -> bool:
    return any(
        (row.arm, row.baseline, row.metric, row.verdict)
        == (arm, result.primary.baseline, result.primary.metric, "helps")
        for row in result.differences
    )


def _data(result: Result) -> str:
    """The data as a word of a command."""
    return "DATA" if result.source == Result.model_fields["source"].default else shlex.quote(result.source)


def _run(result: Result) -> str:
    return shlex.quote(result.run) if result.run else "RUN"


def _run_again(result: Result, **changed: object) -> str:
    """`ganaug run` with what the study's settings say of the data, but for what is changed."""
    settings = result.settings.get("data", {}) | changed
    known = {option: settings.get(name) for name, option in KEPT_DATA.items()}
    options = [f"{option} {shlex.quote(str(value))}" for option, value in known.items() if value not in (None, "auto")]
    preset = [] if result.preset in (None, "demo") else [f"--preset {result.preset}"]
    return " ".join([f"ganaug run {_data(result)} --out NEW", *options, *preset])


def _compare_again(result: Result, preset: str | None = None, arms: Sequence[str] | None = None) -> str:
    """`ganaug compare` of the same images and classifier, with the study's preset and arms unless others are given."""
    words, preset = [f"ganaug compare {_run(result)} --out NEW"], preset or result.preset
    if (given := _given(result)) is not None:
        words.append(f"--synthetic {shlex.quote(given)}")
    words += [f"--preset {preset}"] if preset else []
    if arms is None and set(result.arms) != USUAL_ARMS:
        arms = tuple(result.arms)
    words += [f"--arms {','.join(arms)}"] if arms else []
    if _classifier(result) != "discriminator":
        words.append(f"--classifier {shlex.quote(_classifier(result))}")
        weights = result.settings["compare"].get("classifier_weights")
        words += [f"--weights {shlex.quote(str(weights))}"] if weights else []
    return " ".join(words)


def _given(result: Result) -> str | None:
    """The folder of synthetic images that the study was given; None where they are of its own GAN."""
    words = [word for line in result.reproduce for word in shlex.split(line)]
    given = words[words.index("--synthetic") + 1] if "--synthetic" in words else "SYNTHETIC"
    return None if given == "SYNTHETIC" else given


def _classifier(result: Result) -> str:
    return str(result.settings.get("compare", {}).get("classifier", "discriminator"))
