"""From an interval to a word and a sentence."""

import pytest

from ganaug.study.verdict import explain, judge


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, "helps"),
        (-0.05, -0.01, "hurts"),
        (-0.01, 0.05, "inconclusive"),
        (0.0, 0.05, "inconclusive"),
        (-0.05, 0.0, "inconclusive"),
        (0.0, 0.0, "inconclusive"),
    ],
)
def test_judge(low, high, verdict):
    assert judge(low, high) == verdict


@pytest.mark.parametrize(
    ("verdict", "mean", "low", "high", "said", "figures"),
    [
        ("helps", 0.034, 0.012, 0.0561, "help", "+3.4 points of balanced accuracy, 95 % interval +1.2 to +5.6"),
        ("hurts", -0.034, -0.056, -0.012, "hurt", "-3.4 points of balanced accuracy, 95 % interval -5.6 to -1.2"),
        ("inconclusive", 0.001, -0.02, 0.022, "chance", "+0.1 points of balanced accuracy, 95 % interval -2.0 to +2.2"),
    ],
)
def test_the_sentence_tells_verdict_figures_and_seeds(verdict, mean, low, high, said, figures):
    sentence = explain(verdict, "balanced_accuracy", mean, low, high, 6)
    assert said in sentence and figures in sentence and "6 paired seeds" in sentence
    others = {"help", "hurt", "chance"} - {said}
    assert not any(word in sentence for word in others) and sentence.endswith(".")
