"""From an interval to a word and a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug.settings import VERDICTS
from ganaug.study.arms import BASELINE, MIXED
from ganaug.study.verdict import explain, judge


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, "helps"),
        (-0.05, -0.01, "hurts"),
        (-0.01, 0.05, "inconclusive"),
        (0.0, 0.05, "inconclusive"),
        (-0.05, 0.0, "inconclusive"),
        (-0.005, 0.005, "equivalent"),
        (0.0, 0.0, "equivalent"),
        (0.002, 0.008, "equivalent"),  # surely better, but by nothing that counts
        (-0.008, -0.002, "equivalent"),
        (0.002, 0.01, "helps"),  # the margin itself counts
        (-0.01, -0.002, "hurts"),
        (-0.01, 0.005, "inconclusive"),
        (-0.005, 0.01, "inconclusive"),
    ],
)
def test_judge(low, high, verdict):
    assert judge(low, high, 0.01) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.0, 0.0, "inconclusive"), (1e-9, 2e-9, "helps"), (-2e-9, -1e-9, "hurts"), (-1e-9, 1e-9, "inconclusive")],
)
def test_without_a_margin_nothing_is_equivalent(low, high, verdict):
    assert judge(low, high, 0.0) == verdict


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.1))
def test_judging_the_other_way_round_turns_the_verdict(low, width, margin):
    high = low + width
    turned = {"helps": "hurts", "hurts": "helps"}
    verdict = judge(low, high, margin)
    assert verdict in VERDICTS
    assert judge(-high, -low, margin) == turned.get(verdict, verdict)


@pytest.mark.parametrize(
    ("verdict", "mean", "low", "high", "said", "figures"),
    [
        ("helps", 0.034, 0.012, 0.0561, "help:", "+3.4 points of balanced accuracy, 95 % interval +1.2 to +5.6"),
        ("hurts", -0.034, -0.056, -0.012, "hurt:", "-3.4 points of balanced accuracy, 95 % interval -5.6 to -1.2"),
        (
            "inconclusive",
            0.001,
            -0.02,
            0.022,
            "chance:",
            "+0.1 points of balanced accuracy, 95 % interval -2.0 to +2.2",
        ),
        ("equivalent", -0.0001, -0.003, 0.003, "in practice (less than 1 point):", "+0.0 points of balanced accuracy"),
        (
            "equivalent",
            0.001,
            -0.002,
            0.004,
            "no difference in practice (less than 1 point):",
            "+0.1 points of balanced accuracy, 95 % interval -0.2 to +0.4",
        ),
    ],
)
def test_the_sentence_tells_verdict_figures_and_repetitions(verdict, mean, low, high, said, figures):
    sentence = explain(verdict, (MIXED, BASELINE), "balanced_accuracy", mean, low, high, 0.01, 6)
    assert said in sentence and figures in sentence and sentence.endswith("over 6 paired repetitions.")
    words = ("help", "hurt", "chance", "in practice")
    assert [word for word in words if word in sentence] == [word for word in words if word in said]
    assert "ynthetic images" in sentence and "scratch/" not in sentence


@pytest.mark.parametrize(
    ("margin", "said"), [(0.01, "less than 1 point)"), (0.02, "less than 2 points)"), (0.005, "less than 0.5 points)")]
)
def test_the_margin_is_told_in_points(margin, said):
    for question in ((MIXED, BASELINE), ("scratch/smote", BASELINE)):
        assert said in explain("equivalent", question, "accuracy", 0.0, -0.001, 0.001, margin, 6)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("helps", "scratch/smote helps against scratch/real: "),
        ("hurts", "scratch/smote hurts against scratch/real: "),
        ("inconclusive", "scratch/smote cannot be told from scratch/real: "),
        ("equivalent", "scratch/smote makes no difference in practice (less than 1 point) to scratch/real: "),
    ],
)
def test_other_questions_are_told_by_the_names_of_their_arms(verdict, said):
    sentence = explain(verdict, ("scratch/smote", BASELINE), "macro_f1", 0.02, 0.01, 0.03, 0.01, 4)
    assert sentence == f"{said}+2.0 points of macro f1, 95 % interval +1.0 to +3.0, over 4 paired repetitions."


def test_only_pairs_that_differ_in_synthetic_images_speak_of_them():
    within = ("discriminator/real+synthetic", "discriminator/real")
    assert explain("helps", within, "accuracy", 0.02, 0.01, 0.03, 0.01, 4).startswith("Synthetic images help: ")
    for question in (("discriminator/real+synthetic", "scratch/real"), (MIXED, "discriminator/real")):
        assert "ynthetic images" not in explain("helps", question, "accuracy", 0.02, 0.01, 0.03, 0.01, 4)
