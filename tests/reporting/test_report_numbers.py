"""Words, tables and curves against values worked out by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_study import study_values, write_study

from ganaug.reporting import words
from ganaug.reporting.curves import (
    average,
    constant_checkpoints,
    constant_metrics,
    draw_checkpoints,
    draw_classifiers,
    draw_gan,
    draw_updates,
)
from ganaug.reporting.figures import draw_arms, draw_confusion, draw_forest
from ganaug.reporting.files import Table, read_study
from ganaug.reporting.result import Result, Updates
from ganaug.reporting.sprites import make_sprites
from ganaug.reporting.tables import class_tables, frequent_confusions, setting_groups


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0213, "+2.1"), (-0.0213, "−2.1"), (0.0, "0.0"), (-0.0001, "0.0"), (None, "–"), (float("nan"), "–")],
)
def test_signed_points(value: float | None, shown: str) -> None:
    assert words.signed(value) == shown


def test_mean_and_deviation_skip_what_is_missing() -> None:
    assert words.mean([0.2, None, 0.4]) == pytest.approx(0.3)
    assert words.deviation([0.2, None, 0.4]) == pytest.approx(0.2 / 2**0.5)
    assert words.mean([None]) is None and words.deviation([0.5]) is None


def test_arms_are_named_in_words() -> None:
    assert words.describe_arm("discriminator/real") == "From the discriminator, real only"
    assert words.describe_arm("somebody's arm") == "somebody's arm"
    assert (
        words.describe_pair("scratch/real+synthetic", "discriminator/real")
        == "From scratch, real + synthetic \N{MINUS SIGN} from the discriminator, real only"
    )


def test_arms_in_sentences_are_named_as_in_the_charts() -> None:
    plain = "Measured for scratch/real, and not for scratch/real+synthetic or `scratch/real`; see runs/scratch/real and scratch/real.json."
    assert words.name_arms(plain) == (
        "Measured for “From scratch, real only”, and not for “From scratch, real + synthetic” or `scratch/real`; see "
        "runs/scratch/real and scratch/real.json."
    )
    assert words.name_arms("discriminator/real.") == "“From the discriminator, real only”."
    assert words.name_arms("scratch/real+unlabeled+synthetic") == "“From scratch, real + unlabeled + synthetic”"


def test_shorten_keeps_both_ends_on_one_line() -> None:
    assert words.shorten("short", 8) == "short"
    assert words.shorten("a long name 01", 9) == "a lo…e 01"
    assert words.shorten("two\nlines\x00", 20) == "two lines"


def test_sentences_are_typeset() -> None:
    plain = "No effect: -2.4 points, 95 % interval -15.3 to +10.6, of 'a-1' and x -y."
    assert words.typeset(plain) == "No effect: −2.4 points, 95% interval −15.3 to +10.6, of 'a-1' and x -y."


def test_counted_nouns() -> None:
    assert [words.counted(n, "class") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]


def test_class_table_runs_from_gain_to_loss() -> None:
    values = study_values(["a", "b", "c"])
    values["per_class"]["scratch/real"] = {"a": [0.5, 0.7], "b": [0.8, 0.8], "c": [0.9, 0.9]}
    values["per_class"]["scratch/real+synthetic"] = {"a": [0.6, 0.5], "b": [0.9, 0.9], "c": [0.9, 0.9]}
    values["class_differences"] = []
    table = class_tables(Result.model_validate(values))[0]
    assert not table.has_intervals()
    assert [row.name for row in table.rows] == ["b", "c", "a"]
    assert [row.difference for row in table.rows] == pytest.approx([0.1, 0, -0.05])
    assert [row.bar for row in table.rows] == pytest.approx([1, 0, -0.5])
    assert table.counted() == (1, 1, 1)


def test_most_frequent_confusions_by_their_share_of_the_true_class() -> None:
    values = study_values(["a", "b"])
    values["confusion"]["scratch/real"] = [[9, 1], [30, 70]]
    values["confusion"]["scratch/real+synthetic"] = [[6, 4], [20, 80]]
    found = frequent_confusions(Result.model_validate(values))
    assert [(row.truth, row.predicted, row.baseline, row.arm) for row in found] == [
        ("a", "b", 0.1, 0.4),
        ("b", "a", 0.3, 0.2),
    ]


def test_settings_are_grouped_by_stage() -> None:
    groups = setting_groups({"top": 1, "fit": {"rate": 1e-3, "deep": {"x": None}, "on": True, "list": []}})
    assert groups == [
        ("", [("top", "1")]),
        ("fit", [("rate", "0.001"), ("deep.x", "not set"), ("on", "yes"), ("list", "none")]),
    ]


def test_average_of_long_curves_keeps_their_mean() -> None:
    x = np.arange(1000, dtype=float)
    short_x, short_y = average(x, 3 * x, most=10)
    assert len(short_x) == 10
    assert short_y == pytest.approx(3 * short_x)
    both_x, both_y = average(np.array([1.0, 2, 1, 2]), np.array([0.0, 1, 2, 3]))
    assert both_x.tolist() == [1, 2] and both_y.tolist() == [1, 2]


def test_a_cut_last_line_of_a_csv_is_left_out(tmp_path: Path) -> None:
    folder = write_study(tmp_path, ["a", "b"])
    (folder / "gan.csv").write_text(
        "member,step,loss_d,own_metric,empty\njoint,50,0.5,1,\njoint,100,nan,2,\njoint,15", encoding="utf-8"
    )
    table = read_study(folder).gan
    assert table is not None
    assert table.numbers("step").tolist() == [50, 100]
    assert table.numeric_columns() == ["step", "loss_d", "own_metric"]
    assert [title for title, _ in draw_gan(table, "gan")] == ["Losses", "Own metric"]


def test_curves_of_several_members_and_of_unknown_arms() -> None:
    table = Table({"member": ["a", "a", "b"], "loss_d": ["1", "2", "3"], "loss_g": ["", "", "x"]})
    assert len(draw_gan(table, "gan")) == 1
    assert "<use" in draw_gan(Table({"step": ["8"], "loss_d": ["0.5"]}), "gan")[0][1]  # a dot: no line has one point
    assert draw_classifiers(Table({"arm": ["other"], "update": ["1"], "loss": ["2"]}), ["scratch/real"], "curves")


def test_a_last_row_over_few_steps_is_not_drawn() -> None:
    steps, losses = ["10", "20", "30", "31"], ["1", "2", "3", "9"]
    with_stub = draw_gan(Table({"step": steps, "loss_d": losses}), "gan")
    assert with_stub == draw_gan(Table({"step": steps[:3], "loss_d": losses[:3]}), "gan")
    assert with_stub != draw_gan(Table({"step": ["10", "20", "30", "36"], "loss_d": losses}), "gan")


def test_the_line_of_guesses_is_drawn_where_it_is_near() -> None:
    arms = {"scratch/real": {"balanced_accuracy": [0.3, 0.4]}, "scratch/smote": {"balanced_accuracy": [0.5]}}
    assert "guessing 33%" in draw_arms(arms, "balanced_accuracy", "a", 1 / 3)
    assert "guesses reach 33%" in draw_arms(arms, "balanced_accuracy", "a", 1 / 3)
    assert "guessing 21%" in draw_arms(arms, "balanced_accuracy", "a", 0.21)
    for far in (0.1, None):
        assert "guess" not in draw_arms(arms, "balanced_accuracy", "a", far)


def test_what_is_constant_is_named_and_not_drawn() -> None:
    gan = {
        "step": ["1", "2"],
        "loss_d": ["1", "1"],
        "loss_g": ["1", "2"],
        "discriminator_pace": ["1.0"] * 2,
        "own": ["0.25"] * 2,
    }
    assert [title for title, _ in draw_gan(Table(gan), "g")] == ["Losses"]
    assert constant_metrics(Table(gan)) == [("Pace of the discriminator", "1"), ("Own", "0.25")]
    points = Table(
        {"member": ["a"] * 2, "step": ["1", "2"], "kept": ["0", "1"], "kid": ["1", "2"], "coverage": ["1.0"] * 2}
    )
    assert [title for title, _ in draw_checkpoints(points, "c")] == ["KID to held-out images"]
    assert constant_checkpoints(points) == [("Coverage of held-out images", "100%")]


def test_axes_of_percent_end_where_percent_do() -> None:
    table = Table(
        {"member": ["a"] * 3, "step": ["1", "2", "3"], "kept": ["0", "0", "1"], "coverage": ["0.0", "0.5", "1.0"]}
    )
    updates = {"chosen": 4, "candidates": [{"updates": n, "balanced_accuracy": a} for n, a in ((2, 0.0), (4, 1.0))]}
    curves = Table({"arm": ["a"] * 2, "update": ["1", "2"], "accuracy": ["0", "1"]})
    charts = [
        draw_checkpoints(table, "c")[0][1],
        draw_updates(Updates.model_validate(updates), "u"),
        draw_classifiers(curves, ["a"], "k")[0][1],
        draw_arms({"a/b": {"accuracy": [0.0, 1.0]}}, "accuracy", "a"),
    ]
    for chart in charts:
        ticks = [
            float(number.replace("\N{MINUS SIGN}", "-")) for number in re.findall(r">([\d.\N{MINUS SIGN}]+)%<", chart)
        ]
        assert min(ticks) == 0 and max(ticks) == 100


def test_a_single_candidate_without_log_loss_can_be_drawn() -> None:
    assert "40 updates" in draw_updates(
        Updates.model_validate({"chosen": 40, "candidates": [{"updates": 40, "balanced_accuracy": 0.5}]}), "u"
    )


def test_figures_share_no_ids_and_carry_no_fixed_text_colour() -> None:
    values = json.loads(json.dumps(study_values(["<a>", "$b$"])))
    result = Result.model_validate(values)
    first = draw_confusion(result.confusion["scratch/real"], result.class_names, "scratch/real", "one")
    second = draw_forest(result.differences, result.primary, "two")
    assert "&lt;a&gt;" in first and "$b$" in first and "<a>" not in first
    for name, figure in (("one", first), ("two", second)):
        assert all(part.split('"')[0].startswith(f"{name}-") for part in figure.split(' id="')[1:])
        assert "#0000" not in figure and "DejaVu" not in figure and "xmlns" not in figure


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (28, 3), (256, 3)])
def test_sprites_are_whole_multiples_of_their_pixels(side: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(1, 255, (2, 10, side, side, channels)).astype(np.uint8)
    sprite = make_sprites(images, 20)[0]
    assert sprite is not None and sprite.images == 10
    tile = min(side, 96)
    scale = sprite.width / (8 * tile + 7)
    assert scale == int(scale) and sprite.height == scale * (2 * tile + 1)
