"""Words and numbers as the page shows them: names of arms and metrics, percent, points, intervals."""

import math
import re
from collections.abc import Sequence

from ..settings import ARM_NAMES

METRICS = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro-F1"}
STARTS = {"scratch": "From scratch", "discriminator": "From the discriminator"}
DIETS = {
    "real": "real only",
    "real+synthetic": "real + synthetic",
    "real+unlabeled": "real + unlabeled",
    "real+unlabeled+synthetic": "real + unlabeled + synthetic",
    "duplicated": "real images twice",
    "oversampled": "classes oversampled",
    "smote": "real + SMOTE",
    "trivialaugment": "TrivialAugment",
    "synthetic": "synthetic only",
    "longer": "given the GAN's time",
    "other-seeds": "other seeds (control)",
}
SYNTHETIC_DIETS = ("real+synthetic", "real+unlabeled+synthetic", "synthetic")
SOURCES = {
    "split": "Split of the data",
    "gan": "GAN's seed",
    "draw": "Draw of the synthetic images",
    "seed": "Classifier's seed",
    "test images": "Draw of the test images",
    "all together": "All together, as measured (without the test images)",
}
VERDICT_SIGNS = {"helps": "▲", "hurts": "▼", "equivalent": "■", "inconclusive": "●"}  # as the charts mark them
NONE = "–"
ARM_KEYS = re.compile(
    rf"(?<![\w./+-])(?:{'|'.join(re.escape(name) for name in sorted(ARM_NAMES, key=len, reverse=True))})(?![\w/+-]|\.\w)"
)
NO_SHARE = "no share of synthetic images did better than none by more than a standard error"


def split_arm(arm: str) -> tuple[str, str]:
    """`'scratch/real' -> ('scratch', 'real')`: where the weights start, and which images they are trained on."""
    start, _, diet = arm.partition("/")
    return start, diet


def describe_arm(arm: str) -> str:
    """`'scratch/real' -> 'From scratch, real only'`; a name of another form is shown as it is."""
    start, diet = split_arm(arm)
    return f"{STARTS.get(start, start)}, {DIETS.get(diet, diet)}" if diet else arm


def name_arms(text: str) -> str:
    """A plain sentence with the charts' words in place of the arms' keys: `'of scratch/real' -> 'of “From scratch, real only”'`. What
    stands between backticks, or is part of a longer name or path, is left."""
    parts = text.split("`")
    parts[::2] = [ARM_KEYS.sub(lambda found: f"“{describe_arm(found[0])}”", part) for part in parts[::2]]
    return "`".join(parts)


def describe_pair(arm: str, baseline: str) -> str:
    """What is compared, without repeating what both arms share."""
    (start, diet), (base_start, base_diet) = split_arm(arm), split_arm(baseline)
    if diet and diet == base_diet:
        words = DIETS.get(diet, diet)
        first, second = (lower_first(STARTS.get(name, name)) for name in (start, base_start))
        return f"{words[:1].upper()}{words[1:]}: {first} minus {second}"
    if diet and base_diet and start == base_start:
        return f"{STARTS.get(start, start)}: {DIETS.get(diet, diet)} minus {DIETS.get(base_diet, base_diet)}"
    return f"{describe_arm(arm)} \N{MINUS SIGN} {lower_first(describe_arm(baseline) or NONE)}"


def lower_first(text: str) -> str:
    """With a small first letter."""
    return text[:1].lower() + text[1:]


def uses_synthetic(arm: str) -> bool:
    return split_arm(arm)[1] in SYNTHETIC_DIETS


def uses_gan(arm: str) -> bool:
    return uses_synthetic(arm) or split_arm(arm)[0] == "discriminator"


def name_sides(arm: str, baseline: str) -> tuple[str, str]:
    """The words for baseline and arm above their columns: "without" and "with" where they differ in synthetic images alone."""
    (start, diet), (base_start, base_diet) = split_arm(arm), split_arm(baseline)
    differ_so = start == base_start and (diet, base_diet) == ("real+synthetic", "real")
    return ("without", "with") if differ_so else ("baseline", "arm")


def describe_source(source: str) -> str:
    """What a difference's noise comes from."""
    return SOURCES.get(source, source)


def describe_metric(metric: str) -> str:
    return METRICS.get(metric, metric.replace("_", " ").capitalize())


def percent(score: float | None, digits: int = 1) -> str:
    """`0.834 -> '83.4%'`; a dash where there is none."""
    return NONE if score is None or not math.isfinite(score) else f"{100 * score:.{digits}f}%"


def signed(difference: float | None, digits: int = 1) -> str:
    """`-0.021 -> '−2.1'`, in points, with a true minus sign; zero carries no sign."""
    if difference is None or not math.isfinite(difference):
        return NONE
    points = round(100 * difference, digits)
    sign = "+" if points > 0 else "\N{MINUS SIGN}" if points < 0 else ""
    return f"{sign}{abs(points):.{digits}f}"


def interval(low: float | None, high: float | None) -> str:
    """`(0.004, 0.031) -> '+0.4 to +3.1'`, in points."""
    return NONE if low is None or high is None else f"{signed(low)} to {signed(high)}"


def p_value(value: float | None) -> str:
    """`0.0477 -> '0.048'`; a dash where there is none."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def loss(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def counted(number: int, noun: str) -> str:
    """`(1, 'seed') -> '1 seed'`, `(6, 'seed') -> '6 seeds'`."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is there; None of nothing."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def deviation(values: Sequence[float | None]) -> float | None:
    """The sample standard deviation; None for fewer than two values."""
    present = [value for value in values if value is not None]
    if len(present) < 2:
        return None
    centre = sum(present) / len(present)
    return math.sqrt(sum((value - centre) ** 2 for value in present) / (len(present) - 1))


def typeset(text: str) -> str:
    """Numbers of a plain sentence as the page writes them: `'-2.4 points, 95 %' -> '−2.4 points, 95%'`."""
    return re.sub(r"(?<=\d) %", "%", re.sub(r"(?<!\S)-(?=\d)", "\N{MINUS SIGN}", text))


def split_headline(text: str) -> tuple[str, str]:
    """The first sentence, and the others: `'It helps. A lot.' -> ('It helps.', 'A lot.')`."""
    found = re.match(r"(.*?[a-z]\.) +(?=[A-Z])(.*)", text, flags=re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


def shorten(text: str, length: int) -> str:
    """At most `length` characters on one line, the middle left out: names often differ at their ends."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return text[: length - 1 - tail] + "…" + (text[-tail:] if tail else "")


def escape_markdown(text: object) -> str:
    """Plain text that Markdown shows as it is, also within a table: no markup, no HTML, one line."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + char if char in "\\`*_{}[]()#|!~$" else char for char in line)


def fence(lines: Sequence[str]) -> str:
    """A fenced code block that no line within it can close."""
    longest = max((len(run) for line in lines for run in _backtick_runs(line)), default=0)
    bar = "`" * max(3, longest + 1)
    return "\n".join([bar, *(line.replace("\r", " ").replace("\n", " ") for line in lines), bar])


def _backtick_runs(line: str) -> list[str]:
    return "".join(char if char == "`" else " " for char in line).split()
