"""What a study says beside its scores, as the page and its Markdown show it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_study import add_arms, study_values, write_study
from page_reader import change_study, plain, read_page, table_rows

from ganaug.errors import GanaugError
from ganaug.reporting import report
from ganaug.reporting.curves import draw_classifiers
from ganaug.reporting.figures import arm_colour, draw_forest
from ganaug.reporting.files import Table
from ganaug.reporting.result import Result
from ganaug.reporting.svg import SERIES
from ganaug.reporting.tables import charted_differences, class_tables, noise_rows
from ganaug.settings import VERDICTS

STYLE = Path(report.__code__.co_filename).with_name("templates") / "style.css"


def both_texts(folder: Path) -> tuple[str, str]:
    """The page and its Markdown."""
    path = report(folder)
    return path.read_text(encoding="utf-8"), path.with_suffix(".md").read_text(encoding="utf-8")


def test_every_verdict_has_a_head_of_its_own(study: Path) -> None:
    icons = set()
    for verdict in VERDICTS:
        change_study(study, lambda values, verdict=verdict: values.update(verdict=verdict))
        text, _ = both_texts(study)
        icons.add(re.findall(r'<svg class="icon".*?</svg>', text, flags=re.DOTALL)[0])
        assert f'<header class="verdict {verdict}">' in text and f".{verdict} {{ --tone: var(--{verdict})" in text
    assert len(icons) == len(VERDICTS)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_colours_of_a_verdict_can_be_told_from_what_is_behind(verdict: str, theme: int) -> None:
    colours = dict(re.findall(r"--([\w-]+): light-dark\(([^)]*)\)", STYLE.read_text(encoding="utf-8")))
    tone, soft, surface = (colours[name].split(", ")[theme] for name in (verdict, f"{verdict}-soft", "surface"))
    assert contrast(tone, soft) >= 4.5 and contrast(tone, surface) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05), of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_a_demonstration_says_that_it_is_no_evidence(study: Path) -> None:
    assert not [text for text in both_texts(study) if "no evidence" in text]
    change_study(study, lambda values: values.update(preset="demo"))
    text, markdown = both_texts(study)
    assert '<span class="label">Demonstration, no evidence</span>' in text[: text.index("</header>")]
    assert "\n**Demonstration, no evidence.**\n" in markdown


def test_further_sentences_stand_below_the_headline(study: Path) -> None:
    change_study(study, lambda values: values.update(sentence="It helps: +2.0 points, over 6 pairs. Much so. <b>."))
    page = read_page(report(study))
    assert page.text_of("h1") == ["It helps: +2.0 points, over 6 pairs."]
    assert "Much so. <b>." in page.text_of("p")


def test_the_region_of_equivalence_is_shaded_and_named() -> None:
    result = Result.model_validate(study_values(["a", "b"]))
    shaded = draw_forest(result.differences, result.primary, "f", 0.01)
    widths = [shape_width(path) for path in re.findall(r'<path d="([^"]*)"[^>]*style="[^"]*opacity: 0.16', shaded)]
    assert len(widths) == len(result.differences) and len(set(widths)) == 1
    wider = draw_forest(result.differences, result.primary, "f", 0.02)
    assert shape_width(re.findall(r'<path d="([^"]*)"[^>]*style="[^"]*opacity: 0.16', wider)[0]) > widths[0]
    for none in (None, 0.0):
        assert "opacity: 0.16" not in draw_forest(result.differences, result.primary, "f", none)


def shape_width(path: str) -> float:
    x = [float(number) for number in re.findall(r"[ML] ([\d.-]+) ", path)]
    return round(max(x) - min(x), 1)


@pytest.mark.parametrize(("equivalence", "shown"), [(0.01, "±1 point."), (0.005, "±0.5 points."), (0.0, None)])
def test_the_caption_says_what_makes_no_difference(study: Path, equivalence: float, shown: str | None) -> None:
    change_study(study, lambda values: values.update(equivalence=equivalence))
    text, markdown = both_texts(study)
    assert ("Shaded: differences that make none in practice" in text) == (shown is not None)
    assert shown is None or (f"up to {shown}" in text and f"up to {shown[:-1]} make none in practice." in markdown)


def test_p_values_stand_beside_the_differences(study: Path) -> None:
    def set_values(values: dict[str, Any]) -> None:
        first, second = values["differences"][0], values["differences"][3]
        first.update(mean=0.004, low=-0.001, high=0.009, p_value=0.0477, p_holm=0.0954, verdict="equivalent")
        second.update(mean=0.03, low=0.02, high=0.04, p_value=0.0002, p_holm=0.0006, verdict="helps")

    change_study(study, set_values)
    text, markdown = both_texts(study)
    head, *rows = table_rows(text, "Differences in points")
    assert head[4:6] == ["p", "p, Holm"]
    assert rows[0][1:] == ["Accuracy", "+0.4", "−0.1 to +0.9", "0.048", "0.095", "6", "■ equivalent"]
    assert rows[3][1:] == ["Accuracy", "+3.0", "+2.0 to +4.0", "< 0.001", "< 0.001", "6", "▲ helps"]
    assert "| Accuracy | +0.4 | −0.1 to +0.9 | 0.048 | 0.095 | 6 | equivalent |" in markdown
    assert "| Accuracy | +3.0 | +2.0 to +4.0 | &lt; 0.001 | &lt; 0.001 | 6 | helps |" in markdown
    said = (
        "was decided beforehand and stands for itself; the others count only after Holm's adjustment for all questions."
    )
    assert said in plain(text) and said in markdown
    assert len(re.findall(r'<th scope="row" class="strong">', text)) == 1


def test_classes_have_intervals(study: Path) -> None:
    def set_values(values: dict[str, Any]) -> None:
        for row in values["class_differences"][:10]:
            row.update(mean=0.0, low=-0.01, high=0.01)
        values["class_differences"][3].update(mean=0.0516, low=0.011, high=0.0922)
        values["class_differences"][7].update(mean=-0.034, low=-0.08, high=0.012)

    change_study(study, set_values)
    text, markdown = both_texts(study)
    head, *rows = table_rows(text, "Recall of each class")
    assert head[:3] == ["Class", "Difference, points", "95% interval"]
    assert rows[0][:3] == ["3", "+5.2", "+1.1 to +9.2"] and rows[-1][:3] == ["7", "−3.4", "−8.0 to +1.2"]
    assert re.search(r"\| 3 \| .*\| \+5\.2 \| \+1\.1 to \+9\.2 \|\n", markdown)
    said = plain(text)
    assert "interval lies above zero in 1 class and below in 0 classes; it is not adjusted" in said
    bars = re.findall(r'<span class="(bar (?:up|down)[^"]*)"', text)[:2]
    assert bars == ["bar up", "bar down pale"]


def test_the_difference_of_a_class_is_the_one_its_interval_is_about() -> None:
    values = study_values(["a", "b"])
    values["class_differences"][0].update(mean=0.2, low=0.1, high=0.3)
    row = class_tables(Result.model_validate(values))[0].rows[0]
    assert (row.name, row.difference, row.low, row.high, row.is_open) == ("a", 0.2, 0.1, 0.3, False)


def test_the_sources_of_noise_are_named_with_their_shares(study: Path) -> None:
    text, markdown = both_texts(study)
    assert table_rows(text, "Standard deviation in points")[1:] == [
        ["Split of the data", "not varied by itself"],
        ["GAN's seed", "0.40", "64%", ""],
        ["Draw of the synthetic images", "0.00", "0%", ""],
        ["Classifier's seed", "0.20", "16%", ""],
        ["Draw of the test images", "0.22", "20%", ""],
    ]
    assert re.findall(r'"bar plain" style="width: ([\d.]+)%"', text) == ["64.0", "16.0", "20.0"]
    assert "| GAN's seed | 0.40 | 64% |\n| Draw of the synthetic images | 0.00 | 0% |\n" in markdown
    assert "| Split of the data | not varied by itself | – |\n" in markdown


def test_one_known_source_has_no_share_and_none_has_no_section(study: Path) -> None:
    values = study_values(["a", "b"])
    for row in values["variance"][:4]:
        row.update(deviation=None, share=None)
    assert [row.share for row in noise_rows(Result.model_validate(values))] == [None] * 5
    change_study(study, lambda values: [row.update(deviation=None, share=None) for row in values["variance"]])
    assert not [text for text in both_texts(study) if "Where the noise comes from" in text]


def test_ensembles_are_compared(study: Path) -> None:
    text, markdown = both_texts(study)
    caption = "McNemar's exact test between the ensembles of all repetitions"
    row = ["From scratch: real + synthetic minus real only", "1,024", "9", "< 0.001"]
    assert table_rows(text, caption)[1:] == [row]
    assert "| From scratch: real + synthetic minus real only | 1,024 | 9 | &lt; 0.001 |" in markdown
    change_study(study, lambda values: values.update(mcnemar=[]))
    assert not [text for text in both_texts(study) if "McNemar" in text]


def test_what_every_arm_was_given(study: Path) -> None:
    change_study(study, lambda values: values["choices"][0]["trainings"].pop("discriminator/real+synthetic"))
    change_study(study, lambda values: values["choices"][0]["converged_arms"].update({"scratch/real": False}))
    text, markdown = both_texts(study)
    rows = {row[0]: row[1:] for row in table_rows(text, "Chosen on the inner folds")}
    assert rows["From scratch, real only"] == ["1,200", "classical", "1", "0.002", "0.05", "0.1", "! no"]
    assert rows["From scratch, real + synthetic"] == ["1,200", "classical", "1.6", "0.002", "0.05", "0.1", "✓ yes"]
    assert rows["From the discriminator, real + synthetic"] == [
        "as from scratch, real only, but for what its name says",
        "not measured",
    ]
    assert "| From scratch, real + synthetic | 1,200 | classical | 1.6 | 0.002 | 0.05 | 0.1 | yes |\n" in markdown
    assert "| From the discriminator, real + synthetic | as the baseline | | | | | | not measured |\n" in markdown


def test_the_mixing_in_words(study: Path) -> None:
    chosen = (
        "Mixing, chosen on the inner folds: 0.5 synthetic images beside each real one in an update, their loss weighted 0.5, "
        "none of them in the last 25% of the updates, drawn without truncation."
    )
    text, markdown = both_texts(study)
    assert f"{chosen} On the inner folds synthetic images did better than none." in plain(text)
    assert chosen in markdown
    assert "not worth using" not in text + markdown

    def reject(values: dict[str, Any]) -> None:
        choice = values["choices"][0]
        choice.update(worth_mixing=False, mixing=choice["mixing"] | {"truncation": 0.7, "real_only_share": 0})

    change_study(study, reject)
    text, markdown = both_texts(study)
    said = "On the inner folds no share of synthetic images did better than none by more than a standard error"
    assert f"{said}." in plain(text) and f"**{said}.**" in markdown  # though the verdict is that they help
    assert "their loss weighted 0.5, drawn with truncation 0.7, so more typical and less varied." in plain(text)
    change_study(study, lambda values: values.update(verdict="inconclusive"))
    text, markdown = both_texts(study)
    assert f"{said}: they are not worth using here." in plain(text)
    assert f"**{said}: they are not worth using here.**" in markdown


def test_several_splits_say_how_many_found_it_not_worth_mixing(study: Path) -> None:
    def split(values: dict[str, Any]) -> None:
        first = values["choices"][0]
        values["choices"] = [first, first | {"worth_mixing": False, "chosen": 2400, "converged": False}, first]
        values["repetitions"] = [{"split": k % 3, "gan": k // 3, "draw": 0, "seed": k} for k in range(6)]

    change_study(study, split)
    text, markdown = both_texts(study)
    said = "no share of synthetic images did better than none by more than a standard error."
    assert f"On the inner folds of 1 of 3 splits {said}" in plain(text)
    assert re.findall(r"<summary>(Split \d)</summary>", text) == ["Split 2", "Split 3"]
    for shown in (plain(text), markdown):
        assert "Every arm was trained for 1,200 to 2,400 updates, by split." in shown
        assert "over the splits, corrected for the training images that they share" in shown
    assert "! not converged" in text
    page = read_page(study / "report.html")
    assert {"6", "paired; 6 GANs, 3 splits"} <= set(page.text_of("dd"))


def test_candidates_are_in_a_closed_table(study: Path) -> None:
    text, _ = both_texts(study)
    details = re.search(
        r"<details><summary>11 candidates tried on the inner folds</summary>(.*?)</details>", text, flags=re.DOTALL
    )
    assert details
    rows = table_rows(details[1], "Scores on the inner folds, log loss after temperature scaling.")[1:]
    assert rows[0] == ["From scratch, real only", "training", "strength 1", "76.0%", "0.780", "✓ chosen"]
    assert rows[3][2:] == ["strength 1.6", "79.0%", "0.700", "✓ chosen"]
    assert rows[4][1:4] == ["mixing", "no synthetic images", "76.0%"]
    assert rows[6][2] == "ratio 0.5, truncation 0.7"
    assert [row[2] for row in rows[7:]] == ["updates 600", "updates 1200"] * 2
    assert rows[10][5] == "✓ chosen"


def test_how_the_updates_were_chosen(study: Path) -> None:
    for shown in both_texts(study):
        said = plain(shown)
        assert (
            "Every arm was trained for 1,200 updates. Numbers of updates are doubled, up to a limit, until no arm"
            in said
        )
        assert "gains on inner folds of the training images, in balanced accuracy or log loss" in said
        assert "og loss after temperature scaling" in said

    def keep_baseline(values: dict[str, Any]) -> None:
        tried = values["choices"][0]["candidates"]
        values["choices"][0]["candidates"] = [
            row for row in tried if row["step"] == "updates" and row["arm"] == "scratch/real"
        ]

    change_study(study, keep_baseline)
    for shown in both_texts(study):
        assert "until the baseline gains no more on inner folds" in plain(shown)


def test_repetitions_and_their_gans_are_counted(study: Path) -> None:
    assert {"6", "paired; 6 GANs"} <= set(read_page(report(study)).text_of("dd"))
    change_study(study, lambda values: [row.update(gan=row["seed"] % 2, draw=3) for row in values["repetitions"]])
    text, markdown = both_texts(study)
    assert "Repetitions: **6** (paired; 2 GANs)" in markdown.replace("\\", "")
    assert "the repetitions of one GAN count as one" in text
    assert table_rows(text, "What each repetition drew anew")[-1] == ["6", "0", "1", "3", "5"]
    change_study(study, lambda values: values.pop("repetitions"))
    assert {"6", "paired between the arms"} <= set(read_page(report(study)).text_of("dd"))


def test_eleven_arms_have_names_and_colours_of_their_own(tmp_path: Path) -> None:
    folder = write_study(tmp_path, ["a", "b", "c"])
    change_study(folder, add_arms)
    text, markdown = both_texts(folder)
    names = [
        "From scratch, real images twice",
        "From scratch, classes oversampled",
        "From scratch, real + SMOTE",
        "From scratch, TrivialAugment",
        "From scratch, synthetic only",
        "From scratch, given the GAN's time",
        "From scratch, other seeds (control)",
    ]
    rows = [row[0] for row in table_rows(text, "Mean and standard deviation")]
    assert rows[-7:] == names
    assert "| From scratch, other seeds \\(control\\) |" in markdown
    values = study_values(["a", "b", "c"])
    add_arms(values)
    arms = list(values["arms"])
    colours = {arm.partition("/")[2]: arm_colour(arm, arms) for arm in arms}
    assert len(colours) == len(set(colours.values())) == len(SERIES) == 9
    assert len(re.findall(r"--series-\d: light-dark", STYLE.read_text(encoding="utf-8"))) == 9
    assert "(From scratch, given the GAN's time: for more)" in plain(text)
    assert "images or copies or images of SMOTE beside each real one" in plain(text)


def test_many_questions_are_charted_in_the_metric_of_the_verdict() -> None:
    values = study_values(["a", "b"])
    few = Result.model_validate(values)
    assert charted_differences(few) == few.differences
    add_arms(values)
    many = Result.model_validate(values)
    charted = charted_differences(many)
    assert len({(row.arm, row.baseline) for row in charted}) == 11
    assert [row.metric for row in charted if row.arm == "scratch/real+synthetic"] == [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
    ]
    assert {row.metric for row in charted if row.arm != "scratch/real+synthetic"} == {"balanced_accuracy"}


def test_trainings_of_very_different_lengths_share_an_axis() -> None:
    def table(ends: tuple[int, int]) -> Table:
        rows = [
            ("a" if number == 0 else "b", end * part / 4) for number, end in enumerate(ends) for part in range(1, 5)
        ]
        return Table(
            {"arm": [row[0] for row in rows], "update": [str(row[1]) for row in rows], "loss": ["0.5"] * len(rows)}
        )

    (_, alike), (_, unlike) = (draw_classifiers(table(ends), ["a", "b"], "c")[0] for ends in ((40, 40), (40, 400)))
    assert ">update<" in alike and "of the training" not in alike
    assert ">% of the training's updates<" in unlike and ">100<" in unlike and ">400<" not in unlike


def test_a_study_without_synthetic_images_has_a_page(study: Path) -> None:
    def leave_out(values: dict[str, Any]) -> None:
        values["counts"].pop("synthetic")
        arms = {"scratch/real": "scratch/real", "scratch/smote": "scratch/real+synthetic"}
        for part in ("arms", "per_class", "confusion"):
            values[part] = {name: values[part][was] for name, was in arms.items()}
        for part in ("differences", "class_differences", "mcnemar"):
            rows = [row for row in values[part] if row["arm"] == "scratch/real+synthetic"]
            values[part] = [row | {"arm": "scratch/smote"} for row in rows]
        values["primary"]["arm"] = "scratch/smote"
        values["choices"][0].update(worth_mixing=None, trainings={}, converged_arms={}, candidates=[])

    change_study(study, leave_out)
    (study / "examples.npz").unlink()
    text, markdown = both_texts(study)
    said = plain(text)
    assert "No arm of this study uses synthetic images." in said
    assert "<title>" in text and "From scratch: real + SMOTE minus real only for digits.zip</title>" in text
    assert "Baseline → arm" in said and "ithout → with" not in text
    assert "paired between the arms" in said
    head = table_rows(text, "Recall of each class")[0]
    assert head[-4:] == ["Recall, baseline", "Recall, arm", "Test images", "Real, train"]
    assert "| Class | Real, train | Test | Baseline | Arm | Difference | 95% interval |" in markdown
    assert "Mixing, as set: 0.5 images of SMOTE beside each real one" in said
    assert "examples.npz" not in text + markdown and "truncation" not in said


@pytest.mark.parametrize(
    ("path", "wrong", "named"),
    [
        (("preset",), "quick", "damaged at preset"),
        (("equivalence",), -0.1, "damaged at equivalence"),
        (("differences", 0, "p_holm"), 1.5, "damaged at differences.0.p_holm"),
        (("class_differences", 1, "low"), "much", "damaged at class_differences.1.low"),
        (("variance", 1, "share"), -1, "damaged at variance.1.share"),
        (("mcnemar", 0, "arm_only"), -3, "damaged at mcnemar.0.arm_only"),
        (("repetitions", 0, "gan"), None, "damaged at repetitions.0.gan"),
        (("choices", 0, "chosen"), None, "damaged at choices.0.chosen"),
        (("choices", 0, "trainings", "scratch/real", "strength"), "", "trainings.scratch/real.strength"),
        (("choices", 0, "mixing", "ratio"), None, "damaged at choices.0.mixing.ratio"),
    ],
)
def test_damaged_values_are_named(study: Path, path: tuple[Any, ...], wrong: object, named: str) -> None:
    def damage(values: dict[str, Any]) -> None:
        part: Any = values
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = wrong

    change_study(study, damage)
    with pytest.raises(GanaugError, match=re.escape(named)):
        report(study)


def test_notes_name_the_arms_as_the_charts_do(study: Path) -> None:
    change_study(
        study,
        lambda values: values.update(notes=["Not converged: scratch/real."], sentence="discriminator/real helps."),
    )
    text, markdown = both_texts(study)
    for said in (text, markdown):
        assert "Not converged: “From scratch, real only”." in said
        assert "“From the discriminator, real only” helps." in said


def test_the_verdict_of_a_baseline_that_guesses_says_so_at_once(study: Path) -> None:
    change_study(
        study, lambda values: values.update(sentence="No effect. But it guesses. More.", baseline_guesses=True)
    )
    text, _ = both_texts(study)
    assert '<p class="lede"><strong>But it guesses.</strong> More.</p>' in text


def test_copies_have_a_column_where_there_is_none(study: Path) -> None:
    row = {"real": 20, "candidates": 320, "kept": 200, "rejected": {"outlier": 3}}
    (study / "curation.json").write_text(json.dumps({"classes": {"0": row}}), encoding="utf-8")
    text, markdown = both_texts(study)
    head, cells = table_rows(text, "Images of each class")
    assert head[-3:] == ["copy", "outlier", "Data copying"] and cells[-3:-1] == ["0", "3"]
    assert "| copy | outlier | Data copying |" in markdown
    change_study(study, lambda values: values["settings"].update(curation={"without": ["copy"]}))
    assert table_rows(both_texts(study)[0], "Images of each class")[0][-3:] == ["Kept", "outlier", "Data copying"]


def test_hostile_names_stay_text_in_every_table(hostile_study: Path) -> None:
    evil = "<img src=x>/<b>|*"

    def poison(values: dict[str, Any]) -> None:
        values["mcnemar"][0]["arm"] = evil
        values["variance"][0]["source"] = evil
        choice = values["choices"][0]
        choice["trainings"][evil] = choice["trainings"]["scratch/real"] | {"augmentation": evil}
        choice["candidates"][0].update(arm=evil, step=evil, setting={evil: evil})

    change_study(hostile_study, poison)
    text, markdown = both_texts(hostile_study)
    page = read_page(hostile_study / "report.html")
    assert not [attributes for tag, attributes in page.tags if attributes.get("src") == "x" or tag == "b"]
    assert evil in page.text_of("th") and evil in page.text_of("td")
    assert "<img" not in markdown and "<b>" not in markdown
    assert "&lt;img src=x&gt;" in text
