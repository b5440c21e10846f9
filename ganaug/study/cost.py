"""What a study costs: shown before it begins, and kept of what it took."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..classify.training import Diet, train_classifier
from ..cluster import SHARED_CORES
from ..devices import resolve_device
from ..errors import GanaugError
from ..progress import format_duration, track
from ..recipe import load_recipe
from ..runs import RunFolder, read_json, write_json
from ..settings import CompareSettings
from .arms import ARMS, BASELINE, MIXED
from .case import Case
from .material import Sources
from .pieces import NO_MIXING, build_model, make_piece, material_of, num_jobs
from .search import base_mixing, base_training, judged_arms, lengths, mixing_candidates, training_candidates
from .units import gan_name

PROBE_UPDATES = 30
LEAST = 8  # updates of an arm, whatever the budget says
LARGEST = 2**53  # of a number that is believed


@dataclass(frozen=True)
class Pace:
    """Kept with the study, so that it goes on as it began."""

    seconds_per_update: float  # of the baseline, on one core beside other trainings
    longest: int  # updates that the budget allows


@dataclass(frozen=True)
class Clock:
    """Seconds of each part of a study, over all its sessions, in its folder."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "seconds.json"

    def read(self) -> dict[str, float]:
        """Raises `GanaugError` if they are damaged."""
        return read_numbers(self.path) if self.path.is_file() else {}

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        self.read()  # where they are damaged, before the work
        begun = time.monotonic()
        try:
            yield
        finally:
            before = self.read()
            write_json(self.path, before | {part: round(before.get(part, 0.0) + time.monotonic() - begun, 1)})


def read_numbers(path: Path, keys: Collection[str] = ()) -> dict[str, float]:
    """Numbers from 0 on, by name. Raises `GanaugError` where something in the file is another."""
    found = read_json(path, keys)
    for name, value in found.items():
        if type(value) not in (int, float) or not 0 <= value < LARGEST:
            raise GanaugError(f"{path} is damaged: its {name} is {str(value)[:40]}. Delete it and repeat the command.")
    return found


def measure_pace(case: Case, sources: Sources) -> Pace:
    """How long an update takes, and how many updates an arm may have; measured once for a study."""
    path = case.folder / "pace.json"
    if not path.is_file():
        seconds = time_update(sources, case.settings)
        write_json(path, {"seconds_per_update": seconds, "longest": affordable_updates(case, seconds)})
    found = read_numbers(path, keys=("seconds_per_update", "longest"))
    return Pace(float(found["seconds_per_update"]), int(found["longest"]))


def time_update(sources: Sources, settings: CompareSettings) -> float:
    """Seconds of an update of the baseline, beside others where several are trained at a time."""
    training = replace(base_training(settings), updates=PROBE_UPDATES)
    piece = make_piece(BASELINE, gan_name(0, 0), "", 0, 0, training, NO_MIXING)
    material = material_of(piece, sources, settings)
    device = resolve_device(settings.device)
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    seconds = 0.0
    with track("timing a classifier", 2) as advance:
        for done in (1, 2):  # the first run warms up
            model = build_model(piece, material, settings)
            begun = time.monotonic()
            train_classifier(model, Diet(material.train), training, NO_MIXING, material.mirror, 0, device)
            seconds = (time.monotonic() - begun) / PROBE_UPDATES
            advance(done)
    torch.set_num_threads(threads)
    return seconds * num_shared(settings)


def num_shared(settings: CompareSettings) -> float:
    """How many times as long a training takes as one alone on the machine."""
    return SHARED_CORES if num_jobs(settings) > 1 else 1.0


def affordable_updates(case: Case, seconds: float) -> int:
    """The most updates of an arm, up to max_updates, for which the classifiers stay within the budget."""
    settings = case.settings
    if settings.updates is not None or settings.budget is None:
        return settings.updates or settings.max_updates
    affordable = settings.budget * num_jobs(settings) / seconds
    fitting = (n for n in range(settings.max_updates, LEAST, -1) if count_updates(case, n) <= affordable)
    return next(fitting, LEAST)


def count_updates(case: Case, longest: int) -> float:
    """Updates of the whole study, in those of the baseline, if the choice goes up to `longest`; without the longer baseline's
    additional ones."""
    plan, settings, mixing = case.plan, case.settings, base_mixing(case.recipe)
    mixed = 1 + mixing.ratio * (1 - mixing.real_only_share)
    weight = {arm: mixed if ARMS[arm].mixes else 1.0 for arm in plan.arms}
    final = plan.seeds * plan.splits * sum(weight.values()) + len(plan.probes()) * mixed
    tuned = judged_arms(plan.arms, plan.tune, case.refits_folds)
    each = sum(weight[arm] for arm in tuned)
    first, *others = [settings.updates] if settings.updates is not None else lengths(longest)
    searched = each * sum(others)
    if plan.tune:
        searched += first * each * len(training_candidates(base_training(settings), ARMS[BASELINE].init))
        searched += first * mixed * len(mixing_candidates(mixing)) if MIXED in tuned else 0.0
    elif others:
        searched += first * each
    return final * longest + plan.splits * settings.inner_folds * searched


def describe_cost(case: Case, pace: Pace) -> str:
    """What is about to be trained, and how long it may take, for people."""
    plan, jobs = case.plan, num_jobs(case.settings)
    others = plan.splits * plan.gans - 1 if case.uses_gans else 0
    folds = plan.splits * case.settings.inner_folds if case.refits_folds else 0
    of_gan = gan_seconds(case.run, case.info)
    of_gans = -(-(others + folds) // jobs) * of_gan
    of_arms = count_updates(case, pace.longest) * pace.seconds_per_update / jobs
    if any(ARMS[arm].given_the_gans_time for arm in plan.arms):
        of_arms += plan.splits * plan.seeds * of_gan / jobs
    trained = (
        f"{others + folds} GANs to train as the run's own was ({folds} of them for inner folds), "
        if others + folds
        else ""
    )
    return (
        f"{plan.preset}: {trained}{len(plan.arms)} arms in {plan.splits * plan.seeds} repetitions, up to {pace.longest:,} updates of "
        f"{1000 * pace.seconds_per_update:.0f} ms: up to {format_duration(of_gans + of_arms)} on {jobs} cores, of which "
        f"{format_duration(of_gans)} for GANs"
    )


def gan_seconds(run: RunFolder, info: dict[str, Any]) -> float:
    """Seconds of one core that the training of the run's GAN took; without what cannot be read any more."""
    tables = [read_losses(run, name) for name in info["members"]]
    threads = load_recipe(run.recipe).fit.threads or 1
    return threads * sum(float(table["seconds"].iloc[-1]) for table in tables if len(table))


def read_losses(run: RunFolder, member: str) -> pd.DataFrame:
    """The log of a member's training; no rows where the file is gone or damaged, for which no verdict need wait."""
    try:
        return pd.read_csv(run.member(member) / "metrics.csv").assign(member=member)
    except (OSError, ValueError):
        return pd.DataFrame()


def longer_updates(updates: int, gan: float, pace: Pace, settings: CompareSettings) -> int:
    """Updates of a baseline that is given the `gan` seconds of one core, too, that the GAN took."""
    return settings.longer_updates or updates + round(gan * num_shared(settings) / pace.seconds_per_update)
