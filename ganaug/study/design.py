"""Which trainings a study consists of: repetitions, in which every source of chance is drawn anew, and probes, in which one is.

After Bouthillier et al. (2021), https://arxiv.org/abs/2103.03098: a mean over repetitions that vary everything at once is less
biased than one that varies the seed of the classifier alone, and single sources are told apart by varying them one by one.
"""

from dataclasses import dataclass

from ..errors import GanaugError, suggest
from ..settings import CompareSettings, Preset
from .arms import ARMS, BASELINE, CONTROL, FACTORIAL, MIXED


@dataclass(frozen=True)
class Repetition:
    """One paired training of all arms."""

    split: int  # into training and test images
    gan: int  # of the split
    draw: int  # of the GAN's synthetic images, disjoint from its other draws
    seed: int  # of the classifier: its first weights, the order and augmentation of its images


@dataclass(frozen=True)
class Plan:
    """What the settings leave to the preset and the data, settled."""

    preset: Preset
    arms: tuple[str, ...]
    splits: int
    gans: int  # of a split
    seeds: int  # repetitions in a split
    tune: bool
    probe: bool  # whether single sources of chance are varied, too
    given_pool: bool  # the same synthetic images in every repetition

    @property
    def draws(self) -> int:
        """Draws from the images of one GAN."""
        return 1 if self.given_pool else self.seeds // self.gans + self.probe

    def repetitions(self) -> list[Repetition]:
        return [
            Repetition(split, number % self.gans, number // self.gans % self.draws, split * self.seeds + number)
            for split in range(self.splits)
            for number in range(self.seeds)
        ]

    def probes(self) -> list[Repetition]:
        """Each repetition once more with other images of the same GAN, and once with the classifier's seed of the next one, for
        which the baseline is trained anyway."""
        if not self.probe:
            return []
        found = []
        for split in range(self.splits):
            mine = [repetition for repetition in self.repetitions() if repetition.split == split]
            for here, after in zip(mine, [*mine[1:], mine[0]], strict=True):
                found.append(Repetition(split, here.gan, self.draws - 1, here.seed))
                found.append(Repetition(split, here.gan, here.draw, after.seed))
        return found


def settle_plan(settings: CompareSettings, own_test: bool, given_pool: bool, unlabeled: bool = False) -> Plan:
    """The plan of a study. `own_test`: the data came with its test images; `given_pool`: a folder of synthetic images is given;
    `unlabeled`: the run has learned from unlabeled images, too.

    Raises `GanaugError` for arms that do not exist or do not go together, and for splits of data with one fixed split.
    """
    if settings.classifier_weights is not None and settings.classifier == "discriminator":
        raise GanaugError("compare.classifier_weights: name their model, too, for example --classifier resnet18.")
    arms = settle_arms(settings, unlabeled)
    preset = settings.preset
    resplit = preset == "thorough" and not own_test and not given_pool
    splits = settings.splits or (5 if resplit else 1)
    if splits > 1 and (own_test or given_pool):
        reason = "the data has a test split of its own" if own_test else "the synthetic images were made from one split"
        raise GanaugError(f"compare.splits = {splits}: {reason}, so there is one split. Leave it out.")
    seeds = settings.seeds or (6 if preset != "thorough" else 4 if splits > 1 else 10)
    uses_gan = any(ARMS[arm].needs_fit for arm in arms)
    gans = settings.gans or (1 if preset == "demo" or given_pool else 2 if splits > 1 else seeds)
    if settings.gans is not None and given_pool and settings.gans > 1:
        raise GanaugError(f"compare.gans = {settings.gans}: with --synthetic the images are given. Leave it out.")
    if seeds % gans:
        raise GanaugError(
            f"compare.gans = {gans} must divide compare.seeds = {seeds}, so that each GAN has as many repetitions. "
            f"Set compare.seeds={-(-seeds // gans) * gans}."
        )
    probe = preset != "demo" and not given_pool and {BASELINE, MIXED} <= set(arms)
    return Plan(preset, arms, splits, gans if uses_gan else 1, seeds, is_tuned(settings), probe, given_pool)


def is_tuned(settings: CompareSettings) -> bool:
    return settings.preset != "demo" if settings.tune is None else settings.tune


def settle_arms(settings: CompareSettings, unlabeled: bool = False) -> tuple[str, ...]:
    """The arms in the order of the table, the baseline always among them. Raises `GanaugError` for unknown or impossible ones."""
    unknown = [name for name in settings.arms if name not in ARMS]
    if unknown:
        raise GanaugError(f"compare.arms: {unknown[0]!r} is not an arm: {suggest(unknown[0], ARMS)}")
    without = [name for name in settings.arms if ARMS[name].unlabeled and not unlabeled]
    if without:
        raise GanaugError(
            f"compare.arms: {without[0]} needs a run that has learned from unlabeled images. Leave it out, or fit with --unlabeled."
        )
    possible = [name for name, arm in ARMS.items() if name != CONTROL and (unlabeled or not arm.unlabeled)]
    brief = [name for name in possible if name in FACTORIAL or ARMS[name].unlabeled]
    wanted = {BASELINE, *(settings.arms or (possible if settings.preset == "thorough" else brief))}
    foreign = settings.classifier != "discriminator"
    impossible = [name for name in settings.arms if foreign and ARMS[name].init == "discriminator"]
    if impossible:
        raise GanaugError(
            f"compare.arms: {impossible[0]} starts from the discriminator's weights, which {settings.classifier} cannot take. "
            "Leave it out, or leave out compare.classifier."
        )
    arms = tuple(name for name in ARMS if name in wanted and not (foreign and ARMS[name].init == "discriminator"))
    if len(arms) < 2:
        raise GanaugError(f"compare.arms: {BASELINE} is the baseline; name at least one other arm to compare with it.")
    return arms
