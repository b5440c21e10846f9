"""From an interval to a word and a sentence."""

from ..settings import Verdict
from .arms import SYNTHETIC_QUESTIONS


def judge(low: float, high: float, margin: float) -> Verdict:
    """`equivalent` where the whole interval lies strictly within `margin` of 0, the region of practical equivalence; else
    `helps` where it lies above 0, `hurts` where it lies below, `inconclusive` where it holds 0."""
    if -margin < low and high < margin:
        return "equivalent"
    return "helps" if low > 0 else "hurts" if high < 0 else "inconclusive"


def explain(
    verdict: Verdict,
    question: tuple[str, str],
    metric: str,
    mean: float,
    low: float,
    high: float,
    margin: float,
    repetitions: int,
) -> str:
    """The verdict as one plain sentence with its figures, in points (hundredths). `question`: the arm and its baseline."""
    figures = (
        f"{100 * mean:+z.1f} points of {metric.replace('_', ' ')}, 95 % interval {100 * low:+z.1f} to {100 * high:+z.1f}, over "
        f"{repetitions} paired repetitions."
    )
    limits = f"less than {100 * margin:g} point{'' if margin == 0.01 else 's'}"
    if question not in SYNTHETIC_QUESTIONS:
        arm, baseline = question
        words = {"equivalent": f"makes no difference in practice ({limits}) to", "inconclusive": "cannot be told from"}
        return f"{arm} {words.get(verdict, f'{verdict} against')} {baseline}: {figures}"
    words = {
        "helps": "Synthetic images help",
        "hurts": "Synthetic images hurt",
        "equivalent": f"Synthetic images make no difference in practice ({limits})",
        "inconclusive": "No effect of the synthetic images can be told from chance",
    }
    return f"{words[verdict]}: {figures}"
