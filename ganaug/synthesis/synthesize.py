"""The stage `synthesize`: from a run to a folder of new images, one class folder each, with a manifest."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from ..data.images import encode_png
from ..data.source import open_source
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.strategies import STRATEGIES, Member, generating_member
from ..progress import say, track
from ..runs import RunFolder, open_run
from ..settings import RecipeLike, SynthesizeSettings, load_recipe
from .manifest import Row, write_manifest
from .plan import plan_counts
from .sample import CHUNK, image_seed, sample


def synthesize(
    run: str | Path,
    out: str | Path,
    *,
    recipe: RecipeLike = None,
    with_real: str | Path | None = None,
    device: str = "auto",
) -> dict[str, int]:
    """Writes synthetic images as `out/<class>/<id>.png` and `out/manifest.csv`; returns the number of them for each class.

    run: a complete run; the data it was trained on are not needed.
    out: a folder that is new or empty. It appears only when everything in it is complete.
    recipe: settings that differ from the run's own, e.g. {"synthesize": {"per_class": 100}}; see `SynthesizeSettings`.
    with_real: the data of the run, to copy its training images beside the synthetic ones.

    Raises `GanaugError` for an incomplete run, a target that is not empty, an unknown class, contradicting counts.
    """
    folder, info = open_run(run)
    settings = load_recipe(recipe, base=load_recipe(folder.recipe)).synthesize
    target = Path(out)
    refuse_filled(target)
    counts = plan_counts(settings, info["counts"]["train"])
    say("synthesize: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    class_names = tuple(info["class_names"])
    members = STRATEGIES[info["strategy"]](len(class_names))
    torch.set_num_threads(num_cores())
    rows: list[Row] = []
    with track("synthesize", sum(counts.values())) as advance:
        for member in members:
            made = {
                k: counts[name]
                for k, name in enumerate(class_names)
                if generating_member(members, k) == member and name in counts
            }
            for row in write_images(folder, member, class_names, made, partial, settings, resolve_device(device)):
                rows.append(row)
                advance(len(rows))
    if with_real is not None:
        rows += copy_real(folder, with_real, partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_manifest(partial, rows)
    if target.exists():
        target.rmdir()  # empty, see above
    partial.rename(target)
    return counts


def refuse_filled(target: Path) -> None:
    """Raises `GanaugError` unless `target` is new or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise GanaugError(f"{target} is not an empty folder, and nothing in it is overwritten. Give a new --out.")


def write_images(
    folder: RunFolder,
    member: Member,
    class_names: tuple[str, ...],
    counts: dict[int, int],
    target: Path,
    settings: SynthesizeSettings,
    device: torch.device,
) -> Iterator[Row]:
    """Writes a member's images, `counts` of each class (by its index), and yields their rows."""
    generator, discriminator = load_member(folder, member.name)
    generator.to(device)
    discriminator.to(device)
    weights = (folder.member(member.name) / "generator.safetensors").read_bytes()
    checkpoint = hashlib.sha256(weights).hexdigest()[:16]
    for index, count in counts.items():
        name, label = class_names[index], member.labels[member.classes.index(index)]
        (target / name).mkdir(parents=True, exist_ok=True)
        for begin in range(0, count, CHUNK):
            seeds = [image_seed(settings.seed, index, number) for number in range(begin, min(count, begin + CHUNK))]
            samples = sample(generator, discriminator, seeds, label, settings.truncation, device)
            for i, seed in enumerate(seeds):
                file = f"{name}/synthetic-{begin + i:06d}.png"
                (target / file).write_bytes(encode_png(samples.images[i].transpose(1, 2, 0)))
                scores = round(float(samples.realism[i]), 4), round(float(samples.class_probability[i]), 4)
                yield Row(file, name, "synthetic", seed, checkpoint, settings.truncation, *scores)


def copy_real(folder: RunFolder, data: str | Path, target: Path) -> list[Row]:
    """Copies the run's training images, byte for byte, into the class folders of `target`.

    Raises `GanaugError` if `data` lacks one of them or holds another image under its name.
    """
    source = open_source(data)
    index = pd.read_csv(folder.data / "index.csv", dtype=str, keep_default_na=False)
    rows = []
    for number, entry in enumerate(index[index["split"] == "train"].to_dict("records")):
        name, file = entry["class"], entry["file"]
        try:
            content = source.read(file)
        except (OSError, KeyError, GanaugError):
            content = b""
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise GanaugError(
                f"{data} is not what the run was trained on: {file} is missing or has changed. Give the run's own data."
            )
        copy = f"{name}/real-{number:06d}{Path(file).suffix.lower()}"
        (target / name).mkdir(parents=True, exist_ok=True)
        (target / copy).write_bytes(content)
        rows.append(Row(copy, name, "real", original=file))
    return rows
