"""What is written into a manifest is what is read from it, whatever classes and files are called."""

import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.data.manifest import (
    BY_HAND,
    COLUMNS,
    JOURNAL,
    NAME,
    Row,
    amend_reasons,
    locate,
    manifest_writer,
    read_manifest,
    read_rows,
    rewrite_manifest,
)

# As file systems allow them: any character but NUL and the slash. pandas reads a lone carriage return as the end of a line.
names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/\r"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
) | st.sampled_from(["NA", "nan", "007", "True", "1e5", '"', "a,b", " ", "-inf", "None"])
numbers = st.none() | st.floats(-1e6, 1e6)
reasons = st.none() | st.lists(
    st.sampled_from(["copy", "outlier", "duplicate", BY_HAND]), min_size=1, max_size=3, unique=True
).map(" ".join)


@st.composite
def rows(draw):
    class_name = draw(names)
    return Row(
        file=f"{class_name}/{draw(names)}.png",
        class_name=class_name,
        source=draw(st.sampled_from(["synthetic", "real"])),
        kept=draw(st.booleans()),
        reasons=draw(reasons),
        seed=draw(st.none() | st.integers(0, 2**63 - 1)),
        checkpoint=draw(st.none() | st.from_regex(r"\A[0-9a-f]{16}\Z")),
        truncation=draw(numbers),
        realism=draw(numbers),
        class_probability=draw(numbers),
        nearest_real=draw(st.none() | names),
        distance=draw(numbers),
        original=draw(st.none() | names),
    )


some_rows = st.lists(rows(), max_size=5, unique_by=lambda row: row.file)


def write(folder, made):
    with manifest_writer(folder) as append:
        for row in made:
            append(row)


def told(table):
    """The rows that a table tells of; an empty text is none."""
    found = []
    for values in table.to_dict("records"):
        whole = {
            "class_name" if column == "class" else column: None
            if pd.isna(values[column]) or values[column] == ""
            else values[column]
            for column in COLUMNS
        }
        found.append(Row(**whole))
    return found


@given(some_rows)
def test_rows_come_back_as_they_were(made):
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), made)
        assert told(read_manifest(Path(name), rejected=True)) == made
        assert told(read_manifest(Path(name))) == [row for row in made if row.kept]


@given(some_rows, st.data())
def test_decisions_count_the_same_from_the_journal_and_once_they_are_written(made, data):
    decisions = {row.file: data.draw(st.booleans()) for row in made if data.draw(st.booleans())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, made)
        lines = [json.dumps({"file": file, "kept": kept}) + "\n" for file, kept in decisions.items()]
        (folder / JOURNAL).write_text("".join(lines) + '{"file": "cut o')
        pending = told(read_manifest(folder, rejected=True))
        (folder / JOURNAL).unlink()
        rewrite_manifest(folder, decisions)
        assert told(read_manifest(folder, rejected=True)) == pending
        rewrite_manifest(folder, decisions)
        assert told(read_manifest(folder, rejected=True)) == pending, "once more changes nothing"
        rewrite_manifest(folder, {})
        assert told(read_rows(folder / NAME)) == pending
    for row, before in zip(pending, made, strict=True):
        assert row.kept == decisions.get(row.file, before.kept)
        for field in fields(Row):
            if field.name not in ("kept", "reasons"):
                assert getattr(row, field.name) == getattr(before, field.name)


@given(st.lists(st.sampled_from(["copy", "outlier", BY_HAND])).map(" ".join), st.lists(st.booleans(), min_size=1))
def test_the_last_decision_counts_and_reasons_of_filters_stay(text, decisions):
    found = text
    for kept in decisions:
        found = amend_reasons(found, kept)
    of_filters = [name for name in text.split() if name != BY_HAND]
    assert found.split() == (of_filters if decisions[-1] else [*of_filters, BY_HAND])


@given(st.text(max_size=12) | st.lists(st.sampled_from(["..", ".", "a", "", "b.png", "\\", "C:", "~"])).map("/".join))
def test_no_name_leads_out_of_the_folder(file):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "inside")
        folder.mkdir()
        try:
            found = locate(folder, file)
        except GanaugError:
            return
        assert Path(os.path.normpath(found)).is_relative_to(folder) and found != folder
