"""What a study leaves behind: study.json and the tables and images beside it."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..classify.predictor import Card, save_classifier
from ..classify.training import Labeled
from ..progress import say, warn
from ..recipe import dump_recipe
from ..reporting.advice import FEW_TEST_IMAGES
from ..reporting.words import NO_SHARE
from ..runs import SCHEMA, describe_versions, read_json, write_json, write_text, written_whole
from ..settings import Recipe, Verdict
from ..spreadsheet import write_csv
from .analysis import Evidence, analyse
from .arms import ARMS, BASELINE, MIXED
from .case import Case, was_made_by
from .comparison import Comparison, read_comparison, score_rows
from .cost import read_losses
from .design import Plan
from .export import classifier_file
from .pieces import classifier_size
from .search import Choice
from .statistics import METRICS, confusion_matrices, guessing_limit, recalls, score

NUM_EXAMPLES = 20  # images of each class kept for the report
FEW_SEEDS, FEW_GROUPS = 6, 10
GUESSES = " But the baseline cannot be told from guessing: look into that before anything else."


def write_study(case: Case, evidence: Evidence, seconds: Mapping[str, float]) -> Comparison:
    """Writes the study's files, study.json last, and returns its tables."""
    settled = {
        "arms": case.plan.arms,
        "splits": case.plan.splits,
        "gans": case.plan.gans,
        "seeds": case.plan.seeds,
        "tune": case.plan.tune,
        "budget": None,
        "cluster": None,
        "jobs": None,
        "longer_updates": next(
            (given[arm].updates for given in evidence.trainings for arm in given if ARMS[arm].given_the_gans_time), None
        ),
        "max_updates": evidence.longest,
    }
    final = case.recipe.model_copy(update={"compare": case.settings.model_copy(update=settled)})
    write_text(case.folder / "recipe.yaml", dump_recipe(final))
    study = describe_study(case, evidence, final)
    write_tables(case, evidence, study)
    write_classifiers(case, evidence, study)
    write_json(
        case.folder / "study.json", study | {"seconds": round(sum(seconds.values()), 1), "seconds_of": dict(seconds)}
    )
    say(study["sentence"])
    return read_comparison(case.folder)


def describe_study(case: Case, evidence: Evidence, recipe: Recipe) -> dict[str, Any]:
    """study.json: scores of every arm and repetition, paired differences, verdict, and all that tells how it was done."""
    names = list(case.images.class_names)
    results = analyse(case.plan, evidence, len(names), case.settings.equivalence / 100)
    repetitions = case.plan.repetitions()
    confusions = {
        arm: np.concatenate(
            [
                confusion_matrices(evidence.truths[r.split], evidence.predictions(arm, [r]), len(names))
                for r in repetitions
            ]
        )
        for arm in case.plan.arms
    }
    arm, baseline = results.primary
    pool = evidence.example_pool
    counts = {"train": case.images.counts("train"), "test": count(names, evidence.truths[0])}
    if pool is not None:
        counts["synthetic"] = count(names, pool.labels)
    first = evidence.choices[0]
    guesses = may_guess(case.plan, evidence)
    return {
        "schema": SCHEMA,
        "verdict": results.verdict,
        "sentence": results.sentence
        + (GUESSES if guesses else results.outlook)
        + remarks(case.plan, evidence, results.verdict),
        "baseline_guesses": guesses,
        "preset": case.plan.preset,
        "primary": {"arm": arm, "baseline": baseline, "metric": results.metric},
        "equivalence": case.settings.equivalence / 100,
        "arms": {
            name: {key: value.tolist() for key, value in score(matrix).items()} for name, matrix in confusions.items()
        },
        "differences": results.differences,
        "class_differences": [row | {"class": names[row["class"]]} for row in results.class_differences],
        "variance": results.variance,
        "needed": results.needed,
        "mcnemar": results.mcnemar,
        "per_class": {
            name: dict(zip(names, _recall_lists(matrix), strict=True)) for name, matrix in confusions.items()
        },
        "confusion": {name: matrix.sum(axis=0).astype(int).tolist() for name, matrix in confusions.items()},
        "class_names": names,
        "counts": counts,
        "repetitions": [asdict(repetition) for repetition in repetitions],
        "seeds": list(range(len(repetitions))),
        "updates": {
            "chosen": first.updates,
            "converged": first.to_json()["converged"],
            "candidates": updates_tried(first),
        },
        "choices": [
            choice.to_json() | {"trainings": {arm: asdict(training) for arm, training in given.items()}}
            for choice, given in zip(evidence.choices, evidence.trainings, strict=True)
        ],
        "left_out": sorted(set().union(*case.copies.values())),
        "settings": recipe.model_dump(mode="json"),
        "versions": describe_versions(),
        "source": case.info["source"],
        "run": str(case.run.root),
        "notes": find_caveats(case, evidence, counts, guesses),
        "reproduce": commands_to_reproduce(case),
    }


def count(names: list[str], labels: npt.NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))


def updates_tried(choice: Choice) -> list[dict[str, Any]]:
    """The baseline's scores by number of updates."""
    return [
        {
            "updates": candidate.setting["updates"],
            "balanced_accuracy": candidate.balanced_accuracy,
            "log_loss": candidate.log_loss,
        }
        for candidate in choice.candidates
        if candidate.step == "updates" and candidate.arm == BASELINE
    ]


def remarks(plan: Plan, evidence: Evidence, verdict: Verdict) -> str:
    """What must not be read without the verdict."""
    found = ""
    if MIXED in plan.arms and all(choice.worth_mixing is False for choice in evidence.choices):
        found += f" On the inner folds {NO_SHARE}"
        found += "." if verdict == "helps" else ": they are not worth using here."
    failed = {arm for choice in evidence.choices for arm, done in choice.converged.items() if not done}
    if failed:
        found += " The baseline had not converged." if failed == {BASELINE} else " Not all arms had converged."
    if plan.preset == "demo":
        found += " A demonstration, no evidence: one GAN, and arms that were not tuned."
    return found


def _recall_lists(confusion: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """(R, K, K) -> for each class its recall in each repetition; None without a test image."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in recalls(confusion).T]


def find_caveats(case: Case, evidence: Evidence, counts: dict[str, dict[str, int]], guesses: bool) -> list[str]:
    """What a reader of the verdict must know, in plain sentences. `guesses`: as `may_guess` has it."""
    plan, settings, notes = case.plan, case.settings, []
    if guesses:
        side = case.images.image_size
        notes.append(
            f"On these test images {BASELINE} cannot be told from guessing, so that a comparison with it says little. Look whether "
            f"a person can tell the classes apart at {side} x {side} pixels (ganaug fit --image-size sets more), whether the labels are "
            "right, and whether more images can be had."
        )
    if plan.preset == "demo":
        notes.append(
            "The preset demo shows how it works and is no evidence: one GAN, mixing and training as set by default. "
            f"For evidence: ganaug compare {shlex.quote(str(case.run.root))} --out STUDY --preset standard"
        )
    dropped = sorted(set().union(*case.copies.values()))
    if dropped:
        notes.append(f"Test images left out, as copies of images that are trained on: {len(dropped)}.")
    for problem in read_json(case.run.check)["problems"]:
        if problem["kind"] == "label-conflict":
            notes.append(f"The check of the data found {problem['message']}; `ganaug check` names the files.")
    notes += describe_convergence(case, evidence)
    if plan.tune and not case.refits_folds and case.uses_gans:
        notes.append(
            "The synthetic images were given, so that their share was not chosen: a generator that has seen the inner folds "
            "cannot be judged on them. Arms that use them are trained as was best for the baseline. Nobody can know here what the "
            "generator has seen."
            if case.given is not None
            else "Arms that use a GAN are trained as was best for the baseline."
        )
    if plan.tune:
        notes.append(
            "What the arms were given was chosen once on inner folds; the chance in that choice is not in the intervals."
        )
    if plan.splits * plan.seeds < FEW_SEEDS:
        notes.append(
            f"Only {plan.splits * plan.seeds} repetitions: intervals are wide. {FEW_SEEDS} or more are advised."
        )
    num_test = sum(counts["test"].values())
    if num_test < FEW_TEST_IMAGES:
        notes.append(f"Only {num_test} test images: differences of a few points cannot be told from chance.")
    groups = len(np.unique(evidence.judged_groups))
    if plan.splits == 1 and groups < num_test / 2:
        few = f": fewer than {FEW_GROUPS} hardly tell of others" if groups < FEW_GROUPS else ""
        notes.append(f"The {num_test} test images are of {groups} groups, which count as one each{few}.")
    if plan.tune and {"scratch/duplicated", "scratch/smote"} & set(plan.arms):
        notes.append(
            f"The mixing was chosen for {MIXED}; what stands beside the real images in other arms comes alike."
        )
    if case.images.counts("valid") and sum(case.images.counts("valid").values()) and case.uses_gans:
        notes.append("The validation split chooses the GAN's checkpoint; classifiers are not given it.")
    if case.draws_pools:
        notes.append(
            "The classifiers that judge synthetic images were trained once; the chance in them is not in the intervals."
        )
    without = [name for name, number in counts.get("synthetic", {}).items() if number == 0]
    if without:
        notes.append(f"There are no synthetic images of: {', '.join(without)}.")
    if case.info["strategy"] == "per-class" and any(arm.startswith("discriminator/") for arm in plan.arms):
        notes.append(
            "One GAN for each class: the discriminator's arms start from that of the class with the most images."
        )
    if case.uses_gans and plan.gans * plan.splits == 1:
        notes.append(
            "One GAN stands behind this verdict, which holds for its images; another seed of the fit may give another."
        )
    if plan.splits == 1:
        notes.append("One split stands behind this verdict; its test images are varied, its training images are not.")
    if settings.classifier != "discriminator":
        pretrained = "pretrained" if settings.classifier_weights else "untrained"
        notes.append(f"The classifier is {settings.classifier}, {pretrained} at the start of every arm.")
    return notes


def may_guess(plan: Plan, evidence: Evidence) -> bool:
    """Whether the baseline's mean over the repetitions cannot be told from guessing."""
    above = []
    for split, truth in enumerate(evidence.truths):
        mine = [repetition for repetition in plan.repetitions() if repetition.split == split]
        predictions = evidence.predictions(BASELINE, mine)
        confusion = confusion_matrices(truth, predictions, 1 + int(max(truth.max(), predictions.max())))
        above.append(score(confusion)["balanced_accuracy"].mean() - guessing_limit(truth))
    return bool(np.mean(above) < 0)


def describe_convergence(case: Case, evidence: Evidence) -> list[str]:
    if case.settings.updates is not None:
        return ["The number of updates was set by hand; whether the arms converged was not measured."]
    notes = []
    measured = {arm for choice in evidence.choices for arm in choice.converged}
    if others := [arm for arm in case.plan.arms if arm not in measured]:
        notes.append(
            f"Whether they converged was measured for {', '.join(sorted(measured))}, and not for {', '.join(others)}."
        )
    failed = sorted({arm for choice in evidence.choices for arm, done in choice.converged.items() if not done})
    if failed:
        most = max(choice.updates for choice in evidence.choices)
        notes.append(
            f"Not converged: with up to {most} updates, {', '.join(failed)} still gained or had learned nothing. An "
            "under-trained baseline makes any augmentation look good: repeat the study in another folder with a larger budget "
            "or compare.max_updates."
        )
        if evidence.longest < case.settings.max_updates:
            notes.append(f"The budget allowed no more than {evidence.longest} of {case.settings.max_updates} updates.")
    return notes


def commands_to_reproduce(case: Case) -> list[str]:
    """The commands that give the same study again; of a foreign folder of synthetic images, that folder is needed."""
    recipe, source = case.folder / "recipe.yaml", case.synthetic
    fit = shlex.join(["ganaug", "fit", str(case.info["source"]), "--out", "RUN", "--recipe", str(recipe)])
    study = f"ganaug compare RUN --out STUDY --recipe {shlex.quote(str(recipe))}"
    if source is None:
        return [fit, study, "ganaug report STUDY"]
    request = source / "recipe.yaml"
    if request.is_file() and was_made_by(case.run, case.info, source):
        images = f"ganaug synthesize RUN --out SYNTHETIC --recipe {shlex.quote(str(request))}"
        return [fit, images, f"{study} --synthetic SYNTHETIC", "ganaug report STUDY"]
    return [fit, f"{study} --synthetic {shlex.quote(str(source))}", "ganaug report STUDY"]


def write_tables(case: Case, evidence: Evidence, study: dict[str, Any]) -> None:
    """CSV files and examples.npz, for the report and for readers of tables."""
    curves = [
        {"arm": arm, "seed": number, "update": int(update), "loss": round(loss, 5), "accuracy": round(accuracy, 5)}
        for arm in case.plan.arms
        for number, repetition in enumerate(case.plan.repetitions())
        for update, loss, accuracy in evidence.outcomes[arm, repetition].curve.tolist()
    ]
    losses = {name: read_losses(case.run, name) for name in case.info["members"]}
    for name in (name for name, table in losses.items() if table.empty):
        warn(f"the losses of {name} cannot be read, and the report will not show them")
    gan = pd.concat(losses.values(), ignore_index=True)
    tables = {
        "metrics": pd.DataFrame(score_rows(study)),
        "differences": pd.DataFrame(study["differences"]).drop(columns=["values"]),
        "classes": pd.DataFrame(study["class_differences"]),
        "variance": pd.DataFrame(study["variance"]),
        "curves": pd.DataFrame(curves),
        "gan": gan,
    }
    for name, table in tables.items():
        with written_whole(case.folder / f"{name}.csv") as temporary:
            write_csv(table, temporary)
    if evidence.example_pool is None:
        return
    num_classes = len(case.images.class_names)
    with written_whole(case.folder / "examples.npz") as temporary, temporary.open("wb") as file:
        real = first_of_each(Labeled(*case.images.subset("train")), num_classes)
        np.savez_compressed(file, real=real, synthetic=first_of_each(evidence.example_pool, num_classes))


def write_classifiers(case: Case, evidence: Evidence, study: dict[str, Any]) -> None:
    """The classifier of every arm, as the first repetition trained and scored it."""
    images, settings = case.images, case.settings
    for arm, weights in evidence.classifiers.items():
        card = Card(
            class_names=images.class_names,
            image_size=images.image_size,
            channels=images.channels,
            resize=case.recipe.data.resize,
            model=settings.classifier,
            model_size=classifier_size(settings, images.image_size),
            arm=arm,
            scores={metric: round(study["arms"][arm][metric][0], 6) for metric in METRICS},
        )
        save_classifier(classifier_file(case.folder, arm), weights, card)


def first_of_each(labeled: Labeled, num_classes: int) -> npt.NDArray[np.uint8]:
    """(K, NUM_EXAMPLES, S, S, C): the first images of every class; zeros stand for those that a class does not have."""
    channels, height, width = labeled.images.shape[1:]
    examples = np.zeros((num_classes, NUM_EXAMPLES, height, width, channels), np.uint8)
    for k in range(num_classes):
        mine = labeled.images[np.flatnonzero(labeled.labels == k)[:NUM_EXAMPLES]]
        examples[k, : len(mine)] = mine.transpose(0, 2, 3, 1)
    return examples
