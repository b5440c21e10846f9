"""Cards for Hugging Face, as Markdown with a YAML head: of a generator, and of a folder of synthetic images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..recipe import load_recipe
from ..runs import RunFolder, read_json
from .files import read_study
from .page import describe_study, render

SIZES = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000))  # the hub's words
MEASURES = ("kid", "coverage", "consistency")  # of the checkpoint that was kept


def describe_generator(folder: RunFolder, study: Path | None) -> dict[str, Any]:
    """What a model card tells of a run, and of a study of its images, as JSON."""
    info = read_json(folder.info)
    fit = load_recipe(folder.recipe).fit
    members = [read_json(folder.member(name) / "member.json") for name in info["members"]]
    measured = {}
    for name in MEASURES:
        values = [_chosen(member).get(name) for member in members]
        if all(isinstance(value, float) for value in values):
            measured[name] = sum(values) / len(values)
    about: dict[str, Any] = {
        "source": Path(info["source"]).name,
        "counts": info["counts"]["train"],
        "strategy": info["strategy"],
        "family": fit.family,
        "steps": sum(int(member["steps"]) for member in members),
        "seconds": sum(float(member["seconds"]) for member in members),
        "mirror": members[-1]["shape"]["mirror"],
        "measured": measured,
        "versions": info.get("versions", {}),
    }
    if study is not None:
        result = describe_study(read_study(study))
        about["verdict"] = result["result"].sentence
        about["figures"] = [list(figure) for figure in result["key_figures"]]
        about["label"] = result["label"]
    return about


def model_card(about: Mapping[str, Any], class_names: Sequence[str], image_size: int, channels: int) -> str:
    """README.md of a saved generator."""
    head = {
        "library_name": "ganaug",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "class-conditional", "data-augmentation", "synthetic-data"],
    }
    context = {"about": about, "class_names": class_names, "image_size": image_size, "channels": channels}
    return _with_head(head, render("model_card.md.j2", context))


def dataset_card(source: str, counts: Mapping[str, int], num_real: int, columns: Sequence[str]) -> str:
    """README.md of a folder with `counts` synthetic images of each class, and `num_real` real ones."""
    total = sum(counts.values()) + num_real
    head = {
        "task_categories": ["image-classification"],
        "tags": ["synthetic", "gan", "data-augmentation", "ganaug"],
        "size_categories": [next((word for word, most in SIZES if total < most), "n>1M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": ["*/**", "metadata.csv"]}]}],
    }
    context = {"source": source, "counts": counts, "num_real": num_real, "total": total, "columns": columns}
    return _with_head(head, render("dataset_card.md.j2", context))


def _chosen(member: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was measured at the checkpoint that a member kept."""
    rows: list[Mapping[str, Any]] = member.get("checkpoints", [])
    return next((row for row in rows if row.get("step") == member.get("chosen")), {})


def _with_head(head: Mapping[str, Any], text: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n\n{text}"
