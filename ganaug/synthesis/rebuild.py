"""The images of a manifest once more, from the run that made them."""

from pathlib import Path, PurePosixPath

import pandas as pd
import torch

from ..data.images import FAST, encode_png
from ..data.manifest import NAME, locate, read_rows
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.strategies import generating_member, members_of
from ..progress import track
from ..recipe import load_recipe
from ..runs import filled_whole, open_run
from ..spreadsheet import write_csv
from .halfway import NAME as HALFWAY
from .halfway import refuse_halfway
from .harvest import opener
from .plan import resolve_classes
from .sample import CHUNK, sample
from .synthesize import finish_folder, refuse_filled


def rebuild(run: str | Path, manifest: str | Path, out: str | Path, *, device: str = "auto") -> dict[str, int]:
    """Makes the synthetic images of a manifest again, into the new folder `out`; returns the number of each class.

    manifest: the file, or the folder that holds it. Real images that it lists are left out, and what a person has rejected.
    device: where the images are made: auto, cpu, cuda or cuda:N.

    On the same machine and with the same versions the images are the same byte for byte. Raises `GanaugError` where another run's
    generators wrote the manifest, and where `synthesize` was interrupted on its way to `out`.
    """
    folder, info = open_run(run)
    path = Path(manifest) / NAME if Path(manifest).is_dir() else Path(manifest)
    if path.exists() and not path.is_file():
        raise GanaugError(f"{path} is no regular file. Give a manifest, or the folder of one.")
    table = read_rows(path)
    table = table[table["source"] == "synthetic"]
    if "kept" in table:
        table = table.assign(file=table["file"].where(table["kept"].astype(bool), ""))
    wanted = table[table["file"] != ""]
    refuse_unknown(path, wanted)
    target = Path(out).resolve()
    refuse_filled(target)
    class_names = tuple(info["class_names"])
    resolve_classes(wanted["class"].unique(), class_names)
    members = members_of(info["strategy"], len(class_names))
    place = resolve_device(device)
    networks_of = opener(folder, place)
    torch.set_num_threads(load_recipe(folder.recipe).fit.threads or num_cores())
    with filled_whole(target, progress=HALFWAY) as partial, track("rebuild", len(wanted)) as advance:
        refuse_halfway(partial)
        done = 0
        for _, rows in wanted.groupby(["class", "truncation"], sort=False):
            name, truncation = str(rows["class"].iloc[0]), float(rows["truncation"].iloc[0])
            index = class_names.index(name)
            member = generating_member(members, index)
            generator, discriminator, checkpoint = networks_of(member.name)
            if set(rows["checkpoint"]) != {checkpoint}:
                raise GanaugError(
                    f"{path} was written by the generator {rows['checkpoint'].iloc[0]}, and that of {run} is {checkpoint}. "
                    "Give the run that it was made with."
                )
            (partial / name).mkdir(exist_ok=True)
            label = member.label_of(index)
            for begin in range(0, len(rows), CHUNK):
                part = rows.iloc[begin : begin + CHUNK]
                made = sample(generator, discriminator, part["seed"].tolist(), label, truncation, place)
                for file, image in zip(part["file"], made.images, strict=True):
                    (partial / file).write_bytes(encode_png(image.transpose(1, 2, 0), FAST))
                done += len(part)
                advance(done)
        write_csv(table, partial / NAME)
        finish_folder(partial, info, parquet=False)
    return {str(name): int(count) for name, count in wanted["class"].value_counts(sort=False).items()}


def refuse_unknown(path: Path, table: pd.DataFrame) -> None:
    """Raises `GanaugError` unless every row says how its image was made, and where in the folder it belongs."""
    lacking = {"seed", "checkpoint", "truncation"} - set(table.columns)
    if lacking or table[["seed", "truncation"]].isna().any(axis=None):
        raise GanaugError(
            f"{path} does not say how its images were made: it lacks {', '.join(sorted(lacking)) or 'seeds'}."
        )
    factors = pd.to_numeric(table["truncation"], errors="coerce")
    if not ((table["seed"] >= 0) & (factors > 0) & (factors <= 1)).all():
        raise GanaugError(
            f"{path} has a seed below 0, or a truncation outside 0 to 1. Rebuild from an unchanged manifest."
        )
    for file, name in zip(table["file"], table["class"], strict=True):
        locate(path.parent, file)
        if (
            PurePosixPath(file).parts != (name, PurePosixPath(file).name)
            or PurePosixPath(file).suffix != ".png"
            or "\\" in file
        ):
            raise GanaugError(
                f"{path} names the file {file!r}; expected {name}/<file>.png. Rebuild from an unchanged manifest."
            )
    if len(twice := table["file"][table["file"].duplicated()]):
        raise GanaugError(f"{path} names {twice.iloc[0]!r} twice. Remove one of the rows.")
