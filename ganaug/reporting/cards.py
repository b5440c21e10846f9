"""Cards for Hugging Face, as Markdown with a YAML head: of a generator, and of a folder of synthetic images."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import GanaugError
from ..recipe import load_recipe
from ..runs import RunFolder, read_json
from .files import read_study
from .page import describe_study, render

SIZES = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))  # the hub's words
MEASURED = (
    "truncation",
    "realism",
    "class_probability",
    "distance",
    "relative_distance",
    "strangeness",
)  # numbers in a manifest
ABOUT = (
    "source",
    "counts",
    "strategy",
    "family",
    "steps",
    "mirror",
    "measured",
    "versions",
    "verdict",
    "figures",
    "label",
)
MEASURES = ("kid", "coverage", "consistency")  # of the checkpoint that was kept


def describe_generator(folder: RunFolder, makers: Sequence[str], study: Path | None) -> dict[str, Any]:
    """What a model card tells of a run, whose images the members `makers` make, and of a study of its images, as JSON. Raises `GanaugError`
    for a study of other classes."""
    info = read_json(folder.info)
    fit = load_recipe(folder.recipe).fit
    members = {name: read_json(folder.member(name) / "member.json") for name in info["members"]}
    about: dict[str, Any] = {
        "source": Path(info["source"]).name,
        "counts": info["counts"]["train"],
        "strategy": info["strategy"],
        "family": fit.family,
        "steps": sum(int(member["steps"]) for member in members.values()),
        "mirror": members[makers[0]]["shape"]["mirror"],
        "measured": _measured([members[name] for name in makers]),
        "versions": {name: version for name, version in info.get("versions", {}).items() if name != "platform"},
    }
    if study is not None:
        found = read_study(study)
        if list(found.result.class_names) != list(info["class_names"]):
            raise GanaugError(
                f"the study {study} is about the classes {', '.join(found.result.class_names)}, the run about "
                f"{', '.join(info['class_names'])}. Give a study of this run: ganaug compare {folder.root}"
            )
        result = describe_study(found)
        about["verdict"] = result["sentence"]
        about["figures"] = [list(figure) for figure in result["key_figures"]]
        about["label"] = result["label"]
    return about


def model_card(about: Mapping[str, Any], class_names: Sequence[str], image_size: int, channels: int) -> str:
    """README.md of a saved generator. `about` is what `describe_generator` gives, or less."""
    head = {
        "library_name": "ganaug",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "class-conditional", "data-augmentation", "synthetic-data"],
    }
    known = dict.fromkeys(ABOUT) | dict(about)
    context = {"about": known, "class_names": class_names, "image_size": image_size, "channels": channels}
    return _with_head(head, render("model_card.md.j2", context))


def dataset_card(
    source: str,
    class_names: Sequence[str],
    counts: Mapping[str, int],
    num_real: int,
    columns: Sequence[str],
    files: Collection[str],
) -> str:
    """README.md of a folder with `counts` synthetic images of each class, and `num_real` real ones; `columns` of its metadata.jsonl, and
    the `files` that lie there."""
    total = sum(counts.values()) + num_real
    head: dict[str, Any] = {
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "gan", "data-augmentation", "ganaug"],
        "size_categories": [next((word for word, most in SIZES if total < most), "n>1M")],
    }
    kinds = {"seed": "int64"} | dict.fromkeys(MEASURED, "float64")
    names = {str(label): name for label, name in enumerate(class_names)}
    features = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
        *({"name": name, "dtype": kinds.get(name, "string")} for name in columns),
    ]
    files_of_split = {"split": "train", "path": ["*/**", "metadata.jsonl"]}  # also where a class is called test
    head["configs"] = [{"config_name": "default", "data_files": [files_of_split], "features": features}]
    context = {"source": source, "counts": counts, "num_real": num_real, "total": total}
    return _with_head(head, render("dataset_card.md.j2", context | {"columns": columns, "files": files}))


def _measured(members: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What was measured at the checkpoints that the members kept, as means; nothing where a member held no images out."""
    rows = [
        next((row for row in member.get("checkpoints", []) if row["step"] == member["chosen"] and row["scores"]), None)
        for member in members
    ]
    whole = [row for row in rows if row is not None]
    if len(whole) < len(members):
        return {}
    return {name: sum(row[name] for row in whole) / len(whole) for name in MEASURES}


def _with_head(head: Mapping[str, Any], text: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n\n{text}"
