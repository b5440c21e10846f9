"""From an interval to a word and a sentence."""

from typing import Literal

Verdict = Literal["helps", "hurts", "inconclusive"]


def judge(low: float, high: float) -> Verdict:
    """`helps` where the whole interval lies above 0, `hurts` where it lies below, else `inconclusive`."""
    return "helps" if low > 0 else "hurts" if high < 0 else "inconclusive"


def explain(verdict: Verdict, metric: str, mean: float, low: float, high: float, pairs: int) -> str:
    """The verdict as one plain sentence with its figures, in points (hundredths)."""
    words = {
        "helps": "Synthetic images help",
        "hurts": "Synthetic images hurt",
        "inconclusive": "No effect of the synthetic images can be told from chance",
    }
    points = f"{100 * mean:+.1f} points of {metric.replace('_', ' ')}"
    return (
        f"{words[verdict]}: {points}, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}, over {pairs} paired seeds."
    )
