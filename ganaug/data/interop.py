"""Synthetic folders for other tools: metadata.jsonl of Hugging Face's imagefolder, dataset.json of the StyleGAN family."""

import json
from pathlib import Path

import pandas as pd

from ..runs import MAX_RECORD, read_regular, write_text

METADATA_NAME, DATASET_NAME = "metadata.jsonl", "dataset.json"


def metadata_columns(table: pd.DataFrame) -> list[str]:
    """The columns of the manifest that go into metadata.jsonl as well: those with a value for every image, since readers guess a column's
    kind from a part of it, and take whole numbers with gaps for floats."""
    own = ("file", "class", "kept")
    return [
        str(name) for name in table.columns if name not in own and not (table[name].isna() | table[name].eq("")).any()
    ]


def write_metadata(folder: Path, table: pd.DataFrame) -> None:
    """`file_name` and `label` of each image, and `metadata_columns`: beside such a file Hugging Face's `imagefolder` ignores the folders'
    names. Not as CSV, of which it takes a class NA, null or None for a gap, and 007 for a number.
    https://huggingface.co/docs/datasets/image_dataset"""
    rows = table[["file", "class", *metadata_columns(table)]].rename(columns={"file": "file_name", "class": "label"})
    lines = (json.dumps(row, ensure_ascii=False) for row in rows.to_dict("records"))
    write_text(folder / METADATA_NAME, "".join(f"{line}\n" for line in lines))


def write_dataset_json(folder: Path, table: pd.DataFrame, class_names: tuple[str, ...]) -> None:
    """Each file with the number of its class; beside that, which StyleGAN passes over, the names of the classes."""
    labels = [[file, class_names.index(name)] for file, name in zip(table["file"], table["class"], strict=True)]
    write_text(
        folder / DATASET_NAME,
        json.dumps({"labels": labels, "class_names": list(class_names)}, ensure_ascii=False),
    )


def rewrite_interop(folder: Path, table: pd.DataFrame) -> None:
    """The same files anew, those of them that are there, once other images are kept. A dataset.json of another tool, without names of
    classes, stays as it is."""
    if (folder / METADATA_NAME).is_file():
        write_metadata(folder, table)
    try:
        found = json.loads(read_regular(folder / DATASET_NAME, MAX_RECORD))["class_names"]
        class_names = tuple(dict.fromkeys([*map(str, found), *table["class"]]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    write_dataset_json(folder, table, class_names)
