"""The stage `audit`: the tests of `synthesize` on a folder of images that any tool has made."""

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import manifest
from ..data.cache import ImageSet, prepare
from ..data.duplicates import SIDE
from ..data.images import Pixels, decode, match_channels, resize
from ..data.source import ImageFile, Source, open_source
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..gan.shares import to_tensors
from ..gan.symmetry import settle_mirror
from ..measures import Features, coverage, density, kid, precision
from ..progress import Advance, track
from ..recipe import RecipeLike, load_recipe
from ..reporting.pairs import summary_sentence, write_pairs_page
from ..runs import filled_whole, write_json
from ..settings import Recipe
from .curation import Curator, build_curator, examine_candidates, real_images
from .filters import apply_filters
from .halfway import NAME as HALFWAY
from .halfway import refuse_halfway
from .harvest import REMEMBERED, judged_row
from .referees import ask
from .synthesize import refuse_filled
from .tally import Tally, closest_pairs, summarize

CHUNK = 256  # images decoded and examined at a time
MAX_COMPARED = 1000  # images of a class whose features are kept for fidelity and diversity
UNREADABLE = "unreadable"


@dataclass
class Findings:
    """Of one class: its tally, an entry for each image, features of the first ones."""

    tally: Tally
    entries: list[dict[str, Any]] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    seen: Any = field(default_factory=lambda: np.empty((0, SIDE, SIDE), np.float32))


def audit(
    synthetic: str | Path,
    real: str | Path,
    out: str | Path | None = None,
    *,
    recipe: RecipeLike = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Tests the images in a folder or zip of class folders, made by any tool, against real ones; changes none of them.

    real: the labeled images that the synthetic ones were made from: a folder or zip. With a train/ split of its own, copies are
        looked for there, and fidelity and diversity are measured against its test/ split; otherwise against all of it.
    out: a new or empty folder for audit.json and a page with the closest pairs, audit.html.
    recipe: settings of `data` and `curation` that differ from the defaults.
    device: where the classifiers are trained and asked: auto, cpu, cuda or cuda:N.

    Returns {"images": [{"file", "class", "kept", "reasons", "nearest_real", "distance", ...}], "classes": {class: {...}},
    "summary": {...}}: `kept` says whether an image passed all filters, `reasons` which it did not pass. Raises `GanaugError`
    for data that cannot be read, and classes that the real images do not have.
    """
    resolved = load_recipe(recipe)
    place = resolve_device(device)
    torch.set_num_threads(resolved.fit.threads or num_cores())
    source = open_source(synthetic)
    if out is not None:
        refuse_filled(Path(out).resolve())
    with tempfile.TemporaryDirectory(prefix="ganaug-") as folder:
        images = prepare(real, resolved.data, Path(folder) / "data", place.type)[0]
        unknown = sorted(set(source.class_names) - set(images.class_names))
        if unknown:
            raise GanaugError(
                f"{synthetic} has classes that {real} does not have: {', '.join(unknown)}. Known are "
                f"{', '.join(images.class_names)}; rename these folders."
            )
        has_test = open_source(real).has_split("test")
        rows = images.indices("train") if has_test else np.arange(len(images.labels))
        resolved = settle_mirror(resolved, to_tensors(images, rows, place), len(images.class_names))
        curator = build_curator(real_images(images, resolved, rows), resolved.curation, resolved.fit.seed, place)
        findings = examine_source(source, curator, resolved)
        reference = reference_features(curator, images, has_test)
    found = describe(findings, curator, reference)
    if out is not None:
        with filled_whole(Path(out).resolve(), progress=HALFWAY) as partial:
            refuse_halfway(partial)
            write_json(partial / "audit.json", found)
            pictures = closest_pairs([each.tally for each in findings.values()], curator)
            write_pairs_page(partial / "audit.html", f"Audit of {source.path.name}", found, pictures)
    return found


def examine_source(source: Source, curator: Curator, recipe: Recipe) -> dict[str, Findings]:
    """What the tests say of every image of the source, by class."""
    findings = {name: Findings(Tally(name)) for name in curator.real.class_names if name in source.class_names}
    skipped = manifest.real_files(source)
    by_class: dict[str, list[ImageFile]] = defaultdict(list)
    for file in source.files:
        if file.name not in skipped:
            by_class[file.class_name].append(file)
    done = 0
    with track("audit", sum(map(len, by_class.values()))) as advance:
        for name, found in findings.items():
            files = by_class[name]
            for begin in range(0, len(files), CHUNK):
                part = files[begin : begin + CHUNK]
                examine_files(source, part, found, curator, recipe, advance, done)
                done += len(part)
                advance(done)
    return findings


def examine_files(
    source: Source,
    files: list[ImageFile],
    found: Findings,
    curator: Curator,
    recipe: Recipe,
    advance: Advance,
    done: int,
) -> None:
    """Adds what the tests say of some images of one class; `advance` hears how many have been read, with the `done` ones before them."""
    names, images = [], []
    for number, file in enumerate(files):
        advance(done + number)
        try:
            images.append(read_square(source, file, curator, recipe))
            names.append(file.name)
        except GanaugError:
            entry = {"file": file.name, "class": file.class_name, "kept": False, "reasons": [UNREADABLE]}
            found.entries.append(entry)
            found.tally.reasons[UNREADABLE] += 1
            found.tally.candidates += 1
    if not images:
        return
    pixels = np.stack(images)
    index = curator.real.class_names.index(found.tally.class_name)
    evidence = examine_candidates(curator, pixels, np.full(len(pixels), index), None)
    reasons = apply_filters(evidence, curator.limits, found.seen, recipe.curation.without)
    passed = [i for i, why in enumerate(reasons) if not why]
    found.seen = np.concatenate([found.seen, evidence.fingerprints[passed]])[-REMEMBERED:]
    found.tally.add(evidence, pixels, names, reasons, len(passed))
    if sum(map(len, found.features)) < MAX_COMPARED:
        found.features.append(evidence.features)
    for i, name in enumerate(names):
        row = judged_row(curator, evidence, i, name, reasons[i])
        entry = {"file": name, "class": row.class_name, "kept": row.kept, "reasons": list(reasons[i])}
        scores = ("nearest_real", "distance", "relative_distance", "class_probability", "strangeness")
        found.entries.append(entry | {score: getattr(row, score) for score in scores})


def read_square(source: Source, file: ImageFile, curator: Curator, recipe: Recipe) -> Pixels:
    """(C, S, S), made square as the real images were. Raises `GanaugError` where it cannot be decoded."""
    channels, size = curator.real.images.shape[1:3]
    pixels = decode(source.read(file.name)).pixels
    return match_channels(resize(pixels, size, recipe.data.resize), channels).transpose(2, 0, 1)


def reference_features(curator: Curator, images: ImageSet, has_test: bool) -> dict[str, Features]:
    """Features of real images of each class that the first referee has not seen: the test split, or its own fold."""
    if has_test:
        rows = images.indices("test")
        pixels, labels = np.asarray(images.images[rows]), images.labels[rows]
    else:
        unseen = curator.referees.folds == 0
        pixels, labels = curator.real.images[unseen], curator.real.labels[unseen]
    features = ask(curator.referees, pixels).features[0] if len(pixels) else np.empty((0, 1), np.float32)
    return {name: features[labels == k] for k, name in enumerate(curator.real.class_names)}


def describe(findings: dict[str, Findings], curator: Curator, reference: dict[str, Features]) -> dict[str, Any]:
    """The audit as JSON."""
    found = summarize([each.tally for each in findings.values()], curator)
    for name, each in findings.items():
        synthetic = np.concatenate(each.features)[:MAX_COMPARED] if each.features else np.empty((0, 1), np.float32)
        found["classes"][name] |= fidelity(reference[name], synthetic)
    return {"images": [entry for each in findings.values() for entry in each.entries], **found}


def fidelity(real: Features, synthetic: Features) -> dict[str, float | int | None]:
    """Fidelity and diversity of a class from equal numbers of real and synthetic images; None of fewer than two."""
    count = min(len(real), len(synthetic))
    if count < 2:
        return {"compared": count, **dict.fromkeys(("precision", "recall", "density", "coverage", "kid"))}
    real, synthetic = real[:count], synthetic[:count]
    values = {
        "precision": precision(real, synthetic),
        "recall": precision(synthetic, real),
        "density": density(real, synthetic),
        "coverage": coverage(real, synthetic),
        "kid": kid(real, synthetic),
    }
    return {"compared": count, **{name: round(value, 4) for name, value in values.items()}}


def format_audit(found: dict[str, Any]) -> str:
    """A line for each class and the summary, for people."""
    lines = [summary_sentence(found), ""]
    columns = ("kept", "copy", "wrong-class", "outlier", "duplicate", UNREADABLE)
    width = max(map(len, ("class", *found["classes"])))
    lines.append(f"{'class':{width}}  {'images':>8}" + "".join(f"  {column:>11}" for column in columns))
    for name, values in found["classes"].items():
        numbers = [values["kept"], *(values["rejected"].get(column, 0) for column in columns[1:])]
        lines.append(f"{name:{width}}  {values['candidates']:>8,}" + "".join(f"  {number:>11,}" for number in numbers))
    return "\n".join(lines)
