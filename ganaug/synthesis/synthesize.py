"""The stage `synthesize`: from a run to a folder of new images, one class folder each, with a manifest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from ..data.images import encode_png
from ..data.manifest import Row, write_manifest
from ..data.source import open_source
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.networks import Discriminator
from ..gan.strategies import STRATEGIES, Member, generating_member
from ..progress import say, track
from ..runs import RunFolder, checkpoint_of, filled_whole, open_run, write_text
from ..settings import Recipe, RecipeLike, SynthesizeSettings, dump_recipe, load_recipe
from .plan import COUNT_REQUESTS, plan_counts
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
    resolved = settle_request(recipe, load_recipe(folder.recipe))
    settings = resolved.synthesize
    target = Path(out).resolve()
    refuse_filled(target)
    counts = plan_counts(settings, info["counts"]["train"])
    say("synthesize: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    class_names = tuple(info["class_names"])
    members = STRATEGIES[info["strategy"]](len(class_names))
    torch.set_num_threads(resolved.fit.threads or num_cores())
    judge = load_judge(folder, members, resolve_device(device))
    rows: list[Row] = []
    with filled_whole(target) as partial, track("synthesize", sum(counts.values())) as advance:
        real = [] if with_real is None else copy_real(folder, with_real, partial)
        for member in members:
            made = {
                k: counts[name]
                for k, name in enumerate(class_names)
                if generating_member(members, k) == member and counts.get(name)
            }
            if made:
                for row in write_images(
                    folder, member, judge, class_names, made, partial, settings, resolve_device(device)
                ):
                    rows.append(row)
                    advance(len(rows))
        write_text(partial / "recipe.yaml", dump_recipe(resolved))
        write_manifest(partial, rows + real)
    return counts


def settle_request(recipe: RecipeLike, of_run: Recipe) -> Recipe:
    """The run's recipe with what `recipe` says of this stage. A request for counts replaces another one of the run's."""
    asked = load_recipe(recipe).synthesize
    base = of_run.synthesize
    if any(getattr(asked, name) is not None for name in COUNT_REQUESTS):
        base = base.model_copy(update=dict.fromkeys(COUNT_REQUESTS))
    merged = load_recipe(recipe, base=of_run.model_copy(update={"synthesize": base}))
    return of_run.model_copy(update={"synthesize": merged.synthesize})


def refuse_filled(target: Path) -> None:
    """Raises `GanaugError` unless `target` is new or an empty folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise GanaugError(f"{target} is not an empty folder, and nothing in it is overwritten. Give a new --out.")


def load_judge(folder: RunFolder, members: tuple[Member, ...], device: torch.device) -> Discriminator | None:
    """The discriminator whose classifier has learned all classes; None for a GAN of each class, which cannot tell any."""
    widest = max(members, key=lambda member: len(member.classes))
    return load_member(folder, widest.name)[1].to(device) if len(widest.classes) > 1 else None


def write_images(
    folder: RunFolder,
    member: Member,
    judge: Discriminator | None,
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
    checkpoint = checkpoint_of(folder.member(member.name) / "generator.safetensors")
    for index, count in counts.items():
        name, label = class_names[index], member.labels[member.classes.index(index)]
        (target / name).mkdir(parents=True, exist_ok=True)
        for begin in range(0, count, CHUNK):
            seeds = [image_seed(settings.seed, index, number) for number in range(begin, min(count, begin + CHUNK))]
            samples = sample(generator, discriminator, judge, seeds, label, settings.truncation, device)
            for i, seed in enumerate(seeds):
                file = f"{name}/synthetic-{begin + i:06d}.png"
                (target / file).write_bytes(encode_png(samples.images[i].transpose(1, 2, 0)))
                realism = round(float(samples.realism[i]), 4)
                of_class = samples.class_probability
                probability = None if of_class is None else round(float(of_class[i]), 4)
                yield Row(file, name, "synthetic", seed, checkpoint, settings.truncation, realism, probability)


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
