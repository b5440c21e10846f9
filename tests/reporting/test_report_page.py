"""The page as its reader meets it: one sound file, whatever the study holds or lacks."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import example_images, write_study
from page_reader import Page, change_study, read_page

from ganaug.errors import GanaugError
from ganaug.reporting import report


def test_report_writes_the_page_and_its_markdown_into_the_study(study: Path) -> None:
    path = report(study)
    assert path == study / "report.html"
    assert (study / "report.md").is_file()
    assert path.stat().st_size < 1_000_000


def test_report_goes_where_it_is_sent(study: Path, tmp_path: Path) -> None:
    assert report(study, tmp_path / "new" / "page.htm") == tmp_path / "new" / "page.htm"
    assert (tmp_path / "new" / "page.md").is_file()
    assert report(str(study), str(tmp_path)) == tmp_path / "report.html"
    with pytest.raises(GanaugError, match=r"ends in \.html"):
        report(study, tmp_path / "page.md")


def test_a_page_that_cannot_be_written_is_an_error_with_a_remedy(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GanaugError, match="--out"):
        report(study, tmp_path / "file" / "page.html")


def test_page_is_the_same_every_time(study: Path) -> None:
    assert report(study).read_bytes() == report(study).read_bytes()


def test_page_needs_nothing_but_itself(study: Path) -> None:
    text = report(study).read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?://|@import|<iframe|<object", text)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "map-data"}, {}]  # data, and one script of the page's own
    assert all(uri.startswith("data:") for uri in page.attributes("src"))
    assert all(uri.startswith(("#", "data:")) for uri in page.attributes("href"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_page_is_sound_for_those_who_cannot_see_it(study: Path) -> None:
    page = read_page(report(study))
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in page.attributes("href") if target.startswith("#")} <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") for tag, attributes in page.tags if tag == "svg"
    )
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert sum(tag == "table" for tag, _ in page.tags) == sum(tag == "caption" for tag, _ in page.tags)


@pytest.mark.parametrize(
    ("gain", "verdict", "word"),
    [
        (0.04, "helps", "Helps"),
        (-0.04, "hurts", "Hurts"),
        (0.0, "inconclusive", "Inconclusive"),
        (0.0, "equivalent", "Equivalent"),
    ],
)
def test_verdict_comes_first_in_words(tmp_path: Path, gain: float, verdict: str, word: str) -> None:
    folder = write_study(tmp_path, ["a", "b", "c"], gain=gain)
    change_study(folder, lambda values: values.update(verdict=verdict, sentence=f"It {verdict} & more."))
    path = report(folder)
    page = read_page(path)
    assert page.text_of("h1") == [f"It {verdict} & more."]
    assert word in page.text_of("p")
    assert any(attributes.get("class") == f"verdict {verdict}" for tag, attributes in page.tags if tag == "header")
    assert (
        path.with_suffix(".md")
        .read_text(encoding="utf-8")
        .startswith(f"# {word}: digits.zip\n\n**It {verdict} &amp; more.**\n")
    )


def test_key_numbers_are_those_of_the_study(study: Path) -> None:
    def set_values(values: dict[str, Any]) -> None:
        values["arms"]["scratch/real"]["balanced_accuracy"] = [0.70, 0.72]
        values["arms"]["scratch/real+synthetic"]["balanced_accuracy"] = [0.68, 0.70]
        row = next(
            row
            for row in values["differences"]
            if row["arm"].startswith("scratch") and row["metric"] == "balanced_accuracy"
        )
        row.update(mean=-0.02, low=-0.031, high=-0.009, values=[-0.02, -0.02], pairs=2, verdict="hurts")

    change_study(study, set_values)
    path = report(study)
    for text in (path.read_text(encoding="utf-8"), path.with_suffix(".md").read_text(encoding="utf-8")):
        assert "−2.0 points" in text
        assert "−3.1 to −0.9" in text
        assert "71.0% → 69.0%" in text
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "| From scratch, real only | 71.0% ± 1.4 |" in markdown
    assert (
        "| **From scratch: real + synthetic minus real only** | Balanced accuracy | −2.0 | −3.1 to −0.9 | 0.012 | 0.036 | 2 "
        "| hurts |" in markdown
    )


def test_hostile_names_stay_text(hostile_study: Path) -> None:
    def poison(values: dict[str, Any]) -> None:
        values["notes"] = ["<b>note</b>"]
        values["source"] = "</title><script>1</script>"
        values["reproduce"] = ["ganaug run '```' <x>"]
        values["versions"] = {"<i>": "|1|"}
        values["settings"] = {"data": {"</table>": "<u>"}}

    change_study(hostile_study, poison)
    path = report(hostile_study)
    page = read_page(path)
    names = {tag for tag, _ in page.tags}
    assert not names & {"b", "i", "u"}
    assert sum(tag == "script" for tag, _ in page.tags) == 2  # the page's own
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert "<script>alert('x')</script>" in page.text_of("th")
    assert "*b* `c` $x$_y" in page.text_of("text")
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|b|i|u)\b", re.sub(r"(`{3,}).*?\1", "", markdown, flags=re.DOTALL))
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert any(line.startswith(r"| a &amp; b \| c | ") for line in tables)
    assert any(line.startswith(r"| \*b\* \`c\` \$x\$\_y | ") for line in tables)
    assert any(line.startswith("| line break &lt;img src=x&gt; | ") for line in tables)
    assert "````\nganaug run '```' <x>\n````" in markdown


OPTIONAL = (
    "gan.csv",
    "curves.csv",
    "checkpoints.csv",
    "examples.npz",
    "map.npz",
    "walks.npz",
    "pairs.npz",
    "curation.json",
)


def test_missing_and_damaged_files_become_notes(study: Path) -> None:
    for name in OPTIONAL:
        (study / name).unlink()
    text = report(study).read_text(encoding="utf-8")
    assert [name for name in OPTIONAL if f"{name} is not in the study folder." not in text] == []
    for name in OPTIONAL:
        (study / name).write_bytes(b"\xff\xfe\x00broken")
    text = report(study).read_text(encoding="utf-8")
    assert [name for name in OPTIONAL if f"{name} cannot be read" not in text] == []
    for name in OPTIONAL:
        (study / name).write_bytes(b"")
    path = report(study)
    for text in (path.read_text(encoding="utf-8"), path.with_suffix(".md").read_text(encoding="utf-8")):
        assert [name for name in OPTIONAL if name not in text] == []


def test_examples_of_the_wrong_shape_become_a_note(study: Path) -> None:
    np.savez(
        study / "examples.npz", real=np.zeros((3, 2, 8, 8, 1), np.uint8), synthetic=np.zeros((10, 2, 8, 8, 1), np.uint8)
    )
    assert "real must be uint8 (10, n, S, S, 1 or 3)" in report(study).read_text(encoding="utf-8")


def test_a_study_of_the_bare_necessities_has_a_page(study: Path) -> None:
    needed = ("schema", "verdict", "sentence", "primary", "arms", "class_names")
    change_study(study, lambda values: [values.pop(key) for key in list(values) if key not in needed])
    for name in OPTIONAL:
        (study / name).unlink()
    page = read_page(report(study))
    assert "The study holds no confusion matrices." in page.text_of("p")


def test_the_choice_of_updates_says_whether_it_converged(study: Path) -> None:
    assert "✓ converged" in report(study).read_text(encoding="utf-8")
    change_study(study, lambda values: values["choices"][0].update(converged=False))
    assert "! not converged" in report(study).read_text(encoding="utf-8")
    change_study(study, lambda values: values.pop("choices"))
    assert "✓ converged" in report(study).read_text(encoding="utf-8")
    change_study(study, lambda values: values["updates"].update(converged=False))
    assert "! not converged" in report(study).read_text(encoding="utf-8")
    change_study(study, lambda values: values.update(updates={"chosen": 40, "converged": None, "candidates": []}))
    text = report(study).read_text(encoding="utf-8")
    assert "40 updates" in text and "converged" not in text


def test_missing_intervals_and_recalls_are_dashes(study: Path) -> None:
    def blank(values: dict[str, Any]) -> None:
        for row in values["differences"]:
            row.update(low=None, high=None, p_value=None, p_holm=None, pairs=1)
        values["class_differences"] = []
        values["per_class"]["scratch/real"]["3"] = [None, None]

    change_study(study, blank)
    markdown = report(study).with_suffix(".md").read_text(encoding="utf-8")
    assert re.search(r"\| 3 \| 20 \| 200 \| 50 \| – \| [\d.]+% \| – \| – \|", markdown)
    assert re.search(r"\| Balanced accuracy \| \S+ \| – \| – \| – \| 1 \|", markdown)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1}', "study.json is damaged at verdict"),
        ('{"sentence": "\\ud800"}', "study.json is damaged: it has a text that is not valid Unicode"),
    ],
)
def test_a_damaged_study_is_named(study: Path, content: str, message: str) -> None:
    (study / "study.json").write_text(content, encoding="utf-8")
    with pytest.raises(GanaugError, match=message):
        report(study)


def test_wrong_values_in_a_study_are_named(study: Path) -> None:
    change_study(study, lambda values: values["confusion"]["scratch/real"].pop())
    with pytest.raises(GanaugError, match="must be 10 x 10"):
        report(study)
    change_study(study, lambda values: values.update(verdict="maybe", confusion={}))
    with pytest.raises(GanaugError, match="damaged at verdict"):
        report(study)


def test_a_folder_without_a_study_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GanaugError, match="has no study"):
        report(tmp_path)
    with pytest.raises(GanaugError, match="is not a folder"):
        report(tmp_path / "nowhere")


def test_many_classes_still_give_a_small_page(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [f"species {number:03d}" for number in range(200)], side=32, channels=3)
    path = report(folder)
    assert path.stat().st_size < 4_000_000
    text = path.read_text(encoding="utf-8")
    assert "All 200 classes" in text and "The other 176 classes" in text


def test_number_of_images_follows_the_settings(study: Path) -> None:
    text = report(study, recipe={"report": {"images_per_class": 3}}).read_text(encoding="utf-8")
    assert text.count('alt="3 real images of') == text.count('alt="3 synthetic images of') == 10


def test_padding_of_small_classes_is_not_shown(study: Path) -> None:
    real = example_images(10, 28, 1, seed=0)
    real[4, 5:] = 0
    real[7] = 0
    np.savez(study / "examples.npz", real=real, synthetic=real)
    text = report(study).read_text(encoding="utf-8")
    assert 'alt="5 real images of 4"' in text
    assert "real images of 7" not in text


def test_no_torch_is_imported(study: Path) -> None:
    code = f"import sys; from ganaug.reporting import report; report({str(study)!r}); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
