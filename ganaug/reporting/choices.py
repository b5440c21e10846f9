"""What the arms of a study were given, and what was tried on the inner folds to find that, in rows and sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .result import Choice, Mixing, Result, Training, Tried
from .tables import show_value
from .words import NO_SHARE, count, describe_arm, lower_first, percent, split_arm

# diet -> what stands beside the real images
BESIDE = {"real+synthetic": "synthetic images", "duplicated": "copies", "smote": "images of SMOTE"}
LONGER_DIET = "longer"  # trained for more updates than all others, by the time that the GAN took


@dataclass(frozen=True)
class TrainingRow:
    """`training` is None for an arm that was given what the baseline was, `converged` where that was not measured."""

    arm: str
    training: Training | None
    converged: bool | None


@dataclass(frozen=True)
class TriedRow:
    tried: Tried
    setting: str


@dataclass(frozen=True)
class Given:
    """What the arms were given in one split. `mixing` is a sentence; empty where nothing stood beside the real images."""

    title: str  # empty for the only split
    rows: Sequence[TrainingRow]
    mixing: str
    worth_mixing: bool | None
    tried: Sequence[TriedRow]

    @property
    def measured(self) -> bool:
        """Whether it was measured which arms converged."""
        return any(row.converged is not None for row in self.rows)


def given_to_arms(result: Result) -> list[Given]:
    """One for each split."""
    several = len(result.choices) > 1
    return [
        Given(
            title=f"Split {number}" if several else "",
            rows=[
                TrainingRow(arm, choice.trainings.get(arm), choice.converged_arms.get(arm))
                for arm in dict.fromkeys([*result.arms, *choice.trainings])
            ],
            mixing=describe_mixing(choice, list(result.arms)),
            worth_mixing=choice.worth_mixing,
            tried=describe_tried(choice.candidates),
        )
        for number, choice in enumerate(result.choices, start=1)
    ]


def describe_mixing(choice: Choice, arms: Sequence[str]) -> str:
    """The mixing in a sentence, for the arms that have something beside the real images."""
    if choice.mixing is None or not any(split_arm(arm)[1] in BESIDE for arm in arms):
        return ""
    how = "chosen on the inner folds" if any(tried.step == "mixing" for tried in choice.candidates) else "as set"
    return f"Mixing, {how}: {mixing_words(choice.mixing, [split_arm(arm)[1] for arm in arms])}."


def mixing_words(mixing: Mixing, diets: Sequence[str]) -> str:
    """`diets` are those of the study's arms."""
    beside = [word for diet, word in BESIDE.items() if diet in diets]
    synthetic = "real+synthetic" in diets
    parts = [
        f"{mixing.ratio:g} {' or '.join(beside)} beside each real one in an update",
        f"their loss weighted {mixing.weight:g}",
    ]
    if mixing.real_only_share:
        parts.append(f"none of them in the last {percent(mixing.real_only_share, 0)} of the updates")
    if synthetic:
        cut = f"with truncation {mixing.truncation:g}, so more typical and less varied"
        parts.append(f"drawn {'without truncation' if mixing.truncation == 1 else cut}")
    return ", ".join(parts)


def describe_tried(candidates: Sequence[Tried]) -> list[TriedRow]:
    """Each candidate with the settings in which those of its step differ."""
    varied = {
        step: _varied([tried.setting for tried in candidates if tried.step == step])
        for step in dict.fromkeys(tried.step for tried in candidates)
    }
    return [TriedRow(tried, _setting_words(tried.setting, varied[tried.step])) for tried in candidates]


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the settings that are not alike wherever they stand; all of them where nothing varies."""
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    differ = [name for name in names if len({repr(setting[name]) for setting in settings if name in setting}) > 1]
    return differ or names


def _setting_words(setting: Mapping[str, Any], shown: Sequence[str]) -> str:
    if setting.get("ratio") == 0:
        return "no synthetic images"
    return ", ".join(f"{name.replace('_', ' ')} {show_value(setting[name])}" for name in shown if name in setting)


def describe_updates(result: Result) -> str:
    """For how many updates the arms were trained: "1,200 updates", or the least and the most of several splits."""
    chosen = {choice.chosen for choice in result.choices} or {result.updates.chosen if result.updates else 0}
    least, most = count(min(chosen)), count(max(chosen))
    return f"{most} updates" if least == most else f"{least} to {most} updates, by split"


def describe_exception(result: Result) -> str:
    """The arm that is trained for longer than all others, in a sentence; empty where there is none."""
    longer = [arm for arm in result.arms if split_arm(arm)[1] == LONGER_DIET]
    return f" ({describe_arm(longer[0])}: for more)" if longer else ""


def was_judged(result: Result) -> bool:
    """Whether numbers of updates were tried on inner folds."""
    return bool(_judges(result)) or (result.updates is not None and bool(result.updates.candidates))


def judged_by(result: Result) -> str:
    """The one arm that the number of updates was chosen by; empty where there are several, or the study does not say."""
    judges = _judges(result)
    if len(judges) != 1:
        return ""
    return "the baseline" if judges[0] == result.primary.baseline else lower_first(describe_arm(judges[0]))


def _judges(result: Result) -> list[str]:
    tried = [tried for choice in result.choices for tried in choice.candidates]
    return list(dict.fromkeys(candidate.arm for candidate in tried if candidate.step == "updates"))


def has_converged(result: Result) -> bool | None:
    """Whether all that were judged had converged in every split; None where that was not measured."""
    found = [choice.converged for choice in result.choices]
    found = [value for value in found if value is not None]
    if found:
        return all(found)
    return result.updates.converged if result.updates else None


def not_worth_mixing(result: Result) -> str:
    """Says so where on the inner folds of any split no share of synthetic images did better than none; else empty."""
    asked = [choice.worth_mixing for choice in result.choices if choice.worth_mixing is not None]
    against = sum(not worth for worth in asked)
    if not against:
        return ""
    if against < len(asked):
        return f"On the inner folds of {against} of {len(asked)} splits {NO_SHARE}."
    return f"On the inner folds {NO_SHARE}" + ("." if result.verdict == "helps" else ": they are not worth using here.")
