"""The stage `compare`: arms that differ in one thing each, tuned alike, paired over repetitions, judged once on untouched test images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..progress import say, signs_in, track
from ..recipe import RecipeLike
from ..sessions import LOCK, sole, sweep
from .analysis import Evidence
from .arms import ARMS, BASELINE, MIXED
from .case import Case, claim_folder, settle_case, verify_untouched
from .comparison import Comparison, read_comparison
from .cost import Clock, Pace, describe_cost, gan_seconds, longer_updates, measure_pace
from .design import Repetition
from .material import Sources
from .pictures import write_pictures
from .pieces import Outcome, Piece, in_parallel, make_piece, num_jobs, read_weights_of, train_pieces
from .record import write_study
from .search import Choice, choose, inner_folds, judged_arms, truncations
from .units import (
    FOLD_SEEDS,
    SPLIT_SEEDS,
    Task,
    fold_name,
    fold_of,
    gan_name,
    make_unit,
    pool_recipe,
    unit_root,
)


def compare(
    run: str | Path, out: str | Path | None = None, *, synthetic: str | Path | None = None, recipe: RecipeLike = None
) -> Comparison:
    """Says whether synthetic images help: trains every arm in the same repetitions and writes the study's folder.

    run: a complete run, which holds the training and the untouched test images.
    out: the study's folder, RUN/study by default. An interrupted study of the same settings goes on where it was. One process at a time.
    synthetic: a folder of class folders, from `synthesize` or any other tool; without it, images are drawn from the run's GAN
        and from others that are trained as it was, with other seeds.
    recipe: settings of `compare`, and of `synthesize` where images are drawn, that differ from the run's own, e.g.
        {"compare": {"preset": "thorough"}}; see `CompareSettings`. Data and GAN are the run's.

    Returns the tables of the study, which its folder holds as study.json and CSV files. Raises `GanaugError` for an incomplete
    run, a folder with another study, test images that copy training images, classes that the run does not know.
    """
    case = settle_case(run, out, synthetic, recipe)
    with sole(case.folder / LOCK, case.folder):
        claim_folder(case)
        sweep(case.folder)
        if (case.folder / "study.json").is_file():
            say(f"{case.folder}: the study is complete already")
            return read_comparison(case.folder)
        return conduct(case)


def conduct(case: Case) -> Comparison:
    """Does what is not done yet of a study whose folder is this process's alone."""
    with signs_in(case.folder):
        clock, pace = Clock(case.folder), pace_of(case)
        say(describe_cost(case, pace))
        with clock.time("gans"):
            make_units(case)
        with clock.time("choice"):
            choices = [choose_for(case, split, pace) for split in range(case.plan.splits)]
        with clock.time("pools"):
            draw_pools(case, choices)
        with clock.time("arms"):
            evidence = train_arms(case, choices, pace)
        verify_untouched(case)
        with clock.time("pictures"):
            write_pictures(case, shown_pool(case, choices), evidence.example_pool)
        return write_study(case, evidence, clock.read())


def estimate_compare(run: str | Path, *, synthetic: str | Path | None = None, recipe: RecipeLike = None) -> str:
    """What `compare` would train and how long it may take, in a sentence; a few updates are timed, nothing is written."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        case = settle_case(run, Path(folder) / "study", synthetic, recipe)
        return describe_cost(case, pace_of(case))


def pace_of(case: Case) -> Pace:
    return measure_pace(case, find_sources(case, {}))


def make_units(case: Case) -> None:
    """Trains the GANs of other seeds, other splits and inner folds; where no arm needs them, there are their images alone. The
    classifiers that judge a split's synthetic images are trained here, too."""
    tasks = []
    for split in range(case.plan.splits):
        splits = case.images_of(split).splits
        for gan in range(case.plan.gans):
            task = unit_task(case, gan_name(split, gan), splits, gan_seed(case, split, gan))
            tasks.append(replace(task, curation=case.recipe if case.draws_pools and gan == 0 else None))
        for number, fold in enumerate(folds_of(case, split)):
            task = unit_task(case, fold_name(split, number), fold, gan_seed(case, split, FOLD_SEEDS + number))
            pools = {}
            if case.refits_folds and case.draws_pools:
                per_class = case.settings.pool_per_class
                pools = {
                    pool_folder(case, fold_name(split, number), truncation): pool_recipe(
                        case.recipe, per_class, truncation
                    )
                    for truncation in truncations(case.recipe)
                }
            tasks.append(replace(task, pools=pools, train=case.refits_folds))
    gans = [task for task in tasks if task.trains]
    run_tasks(case, "images and their tests", [task for task in tasks if not task.trains])
    run_tasks(case, "GANs", gans, gan_seconds(case.run, case.info))


def unit_task(case: Case, name: str, splits: npt.NDArray[np.str_], seed: int) -> Task:
    target = unit_root(case.run.root, case.folder, name)
    return Task(case.run.root, target, splits, seed, case.settings.device, case.uses_gans, None, {})


def folds_of(case: Case, split: int) -> list[npt.NDArray[np.str_]]:
    """The splits (N,) of the inner folds; none where the updates are set and nothing is tuned."""
    if case.settings.updates is not None and not case.plan.tune:
        return []
    images = case.images_of(split)
    train = images.indices("train")
    groups = [images.groups[row] for row in train]
    return [fold_of(images, *fold) for fold in inner_folds(images.labels[train], groups, case.settings.inner_folds)]


def gan_seed(case: Case, split: int, number: int) -> int:
    return (case.recipe.fit.seed + SPLIT_SEEDS * split + number) % 2**32


def run_tasks(case: Case, label: str, tasks: Sequence[Task], seconds: float | None = None) -> None:
    """`seconds` of one core that a task may take, where that is known."""
    missing = [task for task in tasks if not task.is_done()]
    jobs = num_jobs(case.settings)
    expected = -(-len(missing) // jobs) * seconds if seconds and case.settings.cluster is None else None
    with track(label, len(tasks), len(tasks) - len(missing), expected=expected) as advance:
        finished = in_parallel(make_unit, ((task,) for task in missing), len(missing), case.settings)
        for done, _ in enumerate(finished, start=len(tasks) - len(missing) + 1):
            advance(done)


def pool_folder(case: Case, unit: str, truncation: float) -> Path:
    return case.folder / "pools" / f"{unit}-{truncation:g}"


def shown_pool(case: Case, choices: Sequence[Choice]) -> Path | None:
    """The folder whose synthetic images the report shows: the given one, or that of the run's own GAN."""
    drawn = pool_folder(case, gan_name(0, 0), choices[0].mixing.truncation) if case.draws_pools else None
    return case.synthetic or drawn


def choose_for(case: Case, split: int, pace: Pace) -> Choice:
    """What the arms of a split get; as set where nothing is to be chosen."""
    folds = [fold_name(split, number) for number in range(len(folds_of(case, split)))]
    sources = find_sources(case, {fold: truncations(case.recipe) for fold in folds})
    arms = judged_arms(case.plan.arms, case.plan.tune, case.refits_folds)

    which = f"split {split + 1} of {case.plan.splits}, " if case.plan.splits > 1 else ""

    def train(step: str, pieces: Sequence[Piece]) -> dict[str, Outcome]:
        label, folder = f"inner folds, {which}{step}", case.folder / "pieces"
        return train_pieces(label, pieces, sources, case.settings, folder, pace.seconds_per_update)

    return choose(arms, case.plan.tune, folds, sources, pace.longest, train)


def draw_pools(case: Case, choices: Sequence[Choice]) -> None:
    """The synthetic images of every GAN, each class in as many blocks as there are draws. GANs of one split share the
    classifiers that judge their images."""
    if not case.draws_pools:
        return
    per_class = case.settings.pool_per_class * case.plan.draws
    tasks = []
    for split, choice in enumerate(choices):
        truncation = choice.mixing.truncation
        for gan in range(case.plan.gans):
            name = gan_name(split, gan)
            pools = {pool_folder(case, name, truncation): pool_recipe(case.recipe, per_class, truncation)}
            task = unit_task(case, name, case.images_of(split).splits, gan_seed(case, split, gan))
            first = unit_root(case.run.root, case.folder, gan_name(split, 0))
            tasks.append(replace(task, referees=first, pools=pools))
    run_tasks(case, "pools", tasks)


def find_sources(case: Case, truncations_of: Mapping[str, Sequence[float]]) -> Sources:
    """`truncations_of`: the pools of each unit."""
    units = [gan_name(split, gan) for split in range(case.plan.splits) for gan in range(case.plan.gans)]
    return Sources(
        architecture=case.run.root,
        runs={name: unit_root(case.run.root, case.folder, name) for name in (*units, *truncations_of)},
        pools={
            (name, truncation): pool_folder(case, name, truncation)
            for name, found in truncations_of.items()
            for truncation in found
        },
        given=case.given,
        recipe=case.recipe,
        draws={name: 1 if name not in units else case.plan.draws for name in truncations_of},
        copies=case.copies,
    )


def train_arms(case: Case, choices: Sequence[Choice], pace: Pace) -> Evidence:
    """Trains every arm in every repetition, and of the probes the two arms of the first question."""
    plan = case.plan
    pools = {
        gan_name(split, gan): (choices[split].mixing.truncation,)
        for split in range(plan.splits)
        for gan in range(plan.gans)
    }
    sources = find_sources(case, pools)
    wanted = {
        (arm, repetition): piece_of(case, choices[repetition.split], pace, arm, repetition)
        for repetitions, arms in ((plan.repetitions(), plan.arms), (plan.probes(), (BASELINE, MIXED)))
        for repetition in repetitions
        for arm in arms
    }
    firsts = {arm: wanted[arm, plan.repetitions()[0]].name for arm in plan.arms}
    folder = case.folder / "pieces"
    kept = set(firsts.values())
    outcomes = train_pieces(
        "arms", list(wanted.values()), sources, case.settings, folder, pace.seconds_per_update, kept
    )
    return Evidence(
        outcomes={key: outcomes[piece.name] for key, piece in wanted.items()},
        truths=[sources.truth(gan_name(split, 0)) for split in range(plan.splits)],
        judged_groups=sources.judged_groups(gan_name(0, 0)),
        num_train=[len(sources.images(gan_name(split, 0)).indices("train")) for split in range(plan.splits)],
        choices=tuple(choices),
        longest=pace.longest,
        trainings=[
            {arm: wanted[arm, next(r for r in plan.repetitions() if r.split == split)].training for arm in plan.arms}
            for split in range(plan.splits)
        ],
        example_pool=sources.pool(gan_name(0, 0), choices[0].mixing.truncation, 0)
        if case.given is not None or case.draws_pools
        else None,
        classifiers={arm: read_weights_of(folder, name) for arm, name in firsts.items()},
    )


def piece_of(case: Case, choice: Choice, pace: Pace, arm: str, repetition: Repetition) -> Piece:
    training = choice.training_of(arm)
    if ARMS[arm].given_the_gans_time:
        spent = gan_seconds(case.run, case.info)
        training = replace(training, updates=longer_updates(choice.updates, spent, pace, case.settings))
    unit, gan = gan_name(repetition.split, 0), gan_name(repetition.split, repetition.gan)
    return make_piece(arm, unit, gan, repetition.draw, repetition.seed, training, choice.mixing)
