"""What a study keeps for its report beside the scores: the map of real and synthetic images, walks between noises, what the tests
of the synthetic images found, and the checkpoints of the GAN. Nothing that goes wrong here stops a verdict."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..classify.training import Labeled
from ..data import manifest
from ..data.images import to_uint8
from ..errors import GanaugError
from ..gan.judge import examine
from ..gan.mixing import AnyGenerator, MixingGenerator
from ..gan.strategies import generating_member, members_of
from ..measures import Features
from ..progress import track, warn
from ..recipe import load_recipe
from ..reporting.files import CURATION
from ..reporting.pictures import MAP, PAIRS, WALKS, FeatureMap, Walks, shrunk, write_arrays
from ..runs import read_json, written_whole
from ..spreadsheet import write_csv
from ..synthesis.curation import find_referees, real_images
from ..synthesis.harvest import open_member
from ..synthesis.sample import noise_of
from .case import Case, was_made_by
from .material import joined

MOST_POINTS, MOST_OF_CLASS = 1500, 100  # on the map; real and synthetic ones of a class, each
MAP_SIDE, WALK_SIDE = 48, 96  # pixels; larger images are kept reduced
NUM_COMPONENTS, PERPLEXITY, LEAST_POINTS = 20, 30, 12  # of fewer points the map shows the first two components
WALKS_OF_CLASS, MOST_WALKS, STEPS = 4, 120, 9

Indices = npt.NDArray[np.int64]


def write_pictures(case: Case, folder: Path | None, pool: Labeled | None) -> None:
    """Writes the files into the study's folder. `folder` holds the synthetic images of which `pool` shows some; None of both where
    the study has none. What cannot be read is warned of, and left out."""
    parts: list[Callable[[], None]] = [lambda: write_checkpoints(case)]
    if folder is not None and pool is not None:
        parts += [
            lambda: copy_tests(case, folder),
            lambda: write_arrays(case.folder / MAP, make_map(case, pool)),
            lambda: write_walks(case, folder),
        ]
    with track("pictures for the report", len(parts)) as advance:
        for done, write in enumerate(parts, start=1):
            try:
                write()
            except Exception as error:  # whatever it is: hours of training are no less worth without a picture
                kind = "" if isinstance(error, GanaugError) else f"{type(error).__name__}: "
                warn(f"the report will show less of the images: {kind}{error}")
            advance(done)


def copy_tests(case: Case, folder: Path) -> None:
    """What the tests of the synthetic images found, where their folder says it."""
    for name in (CURATION, PAIRS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, case.folder / name)


def write_walks(case: Case, folder: Path) -> None:
    """Nothing where others made the images: the run's generator would show what is not there."""
    walks = make_walks(case, folder) if was_made_by(case.run, case.info, folder) else None
    if walks is not None:
        write_arrays(case.folder / WALKS, walks)


def write_checkpoints(case: Case) -> None:
    """checkpoints.csv: what was measured at each checkpoint of the run's GANs, and which of them was kept."""
    rows = []
    for name in case.info["members"]:
        found = read_json(case.run.member(name) / "member.json", keys=("checkpoints", "chosen"))
        for point in found["checkpoints"]:
            measured = {
                key: point[key] if point["scores"] else None for key in ("kid", "coverage", "consistency", "copies")
            }
            row = {"member": name, "step": point["step"], "gap": point["gap"], **measured}
            rows.append(row | {"kept": int(point["step"] == found["chosen"])})
    with written_whole(case.folder / "checkpoints.csv") as temporary:
        write_csv(pd.DataFrame(rows), temporary)


def make_map(case: Case, pool: Labeled) -> FeatureMap:
    """Training images and synthetic ones, as many of every class, laid out by what a classifier of the real images sees in them.

    The classifier is the first of those that test synthetic images; they are trained here where the run has none yet.
    """
    images, device = case.images, torch.device(case.settings.device)
    real, num_classes = Labeled(*images.subset("train")), len(images.class_names)
    judged = real_images(images, case.recipe)
    judge = find_referees(judged, case.recipe.fit.seed, device, case.run.curation).judges[0]
    most = max(1, min(MOST_OF_CLASS, MOST_POINTS // (2 * num_classes)))
    shown = [
        Labeled(part.images[rows], part.labels[rows])
        for part in (real, pool)
        for rows in [choose_evenly(part.labels, num_classes, most, case.recipe.fit.seed)]
    ]
    both = joined(*shown)
    features = examine(judge, torch.from_numpy(both.images).to(device))[0].numpy()
    synthetic = np.arange(len(both.labels)) >= len(shown[0].labels)
    return FeatureMap(
        places=lay_out(features, case.recipe.fit.seed),
        labels=both.labels,
        synthetic=synthetic,
        nearest=nearest_of_other_kind(features, synthetic),
        images=shrunk(both.images.transpose(0, 2, 3, 1), MAP_SIDE),
    )


def choose_evenly(labels: Indices, num_classes: int, most: int, seed: int) -> Indices:
    """Rows of up to `most` images of every class, drawn at random, class by class and within each in their order."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == k))[:most] for k in range(num_classes)]
    return np.concatenate([np.sort(rows) for rows in chosen])


def lay_out(features: Features, seed: int) -> npt.NDArray[np.float32]:
    """Places (n, 2) in 0..1 of images with features (n, F): t-SNE (van der Maaten & Hinton, 2008) of the first principal components,
    from the first two of which it starts; of few images these two alone. Axes have one scale."""
    count = len(features)
    components = min(NUM_COMPONENTS, *features.shape)
    varied = bool(np.ptp(features, axis=0).any())
    principal = np.zeros((count, 2), np.float32)
    if varied:
        principal = PCA(components, random_state=seed).fit_transform(features.astype(np.float64)).astype(np.float32)
        principal = np.pad(principal, ((0, 0), (0, max(0, 2 - components))))
    places = principal[:, :2]
    if varied and count >= LEAST_POINTS:
        start = 1e-4 * places / places[:, 0].std()
        perplexity = min(PERPLEXITY, (count - 1) / 4)
        with threadpool_limits(1):  # sums of several threads are not repeatable
            places = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(principal)
    low, high = places.min(axis=0), places.max(axis=0)
    spread = max(float((high - low).max()), 1e-9)
    inside: npt.NDArray[np.float32] = np.clip(0.5 + (places - (low + high) / 2) / spread, 0, 1).astype(np.float32)
    return inside


def nearest_of_other_kind(features: Features, synthetic: npt.NDArray[np.bool_]) -> Indices:
    """(n,): of each image the row of the nearest one of the other kind; -1 where there is none."""
    nearest = np.full(len(features), -1, np.int64)
    for kind in (False, True):
        mine, others = np.flatnonzero(synthetic == kind), np.flatnonzero(synthetic != kind)
        if len(mine) and len(others):
            nearest[mine] = others[pairwise_distances_argmin(features[mine], features[others])]
    return nearest


def make_walks(case: Case, folder: Path) -> Walks | None:
    """Walks between the noises of the first images of each class in a synthetic folder; of many classes fewer, then some classes
    alone. None of generators that mix real images, whose noise chooses these, and where no class has two images."""
    names = case.images.class_names
    members = members_of(case.info["strategy"], len(names))
    truncation = load_recipe(folder / "recipe.yaml").synthesize.truncation
    table, device = manifest.read_manifest(folder), torch.device(case.settings.device)
    table = table[(table["source"] == "synthetic") & table["seed"].notna()]
    most = max(1, min(WALKS_OF_CLASS, MOST_WALKS // len(names)))
    found: dict[int, npt.NDArray[np.uint8]] = {}
    generators: dict[str, AnyGenerator] = {}
    for k, name in enumerate(names[:MOST_WALKS]):
        seeds = [int(seed) for seed in table.loc[table["class"] == name, "seed"][: 2 * most]]
        if len(seeds) < 2:
            continue
        member = generating_member(members, k)
        if member.name not in generators:
            generators = {member.name: open_member(case.run, member.name, device)[0]}
        generator = generators[member.name]
        if isinstance(generator, MixingGenerator):
            return None
        ends = noise_of(seeds[: len(seeds) // 2 * 2], generator.latent_size, truncation)
        label = member.label_of(k)
        found[k] = render(generator, walk(ends[0::2], ends[1::2], STEPS), label, device)
    if not found:
        return None
    num_walks = max(map(len, found.values()))
    padded = [np.pad(each, ((0, num_walks - len(each)), *((0, 0),) * 4)) for each in found.values()]
    return Walks(labels=np.array(list(found)), images=np.stack(padded))


def walk(begin: Tensor, end: Tensor, steps: int) -> Tensor:
    """Noises (W, Z) and (W, Z) -> (W, steps, Z) on the arcs between them, which keep the length of a draw, as chords do not: spherical
    interpolation, White (2016), section 2, https://arxiv.org/abs/1609.04468"""
    cosine = torch.cosine_similarity(begin, end, dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cosine)[:, None, None]
    at = torch.linspace(0, 1, steps)[None, :, None]
    return (torch.sin((1 - at) * angle) * begin[:, None] + torch.sin(at * angle) * end[:, None]) / torch.sin(angle)


@torch.inference_mode()
def render(generator: AnyGenerator, noise: Tensor, label: int, device: torch.device) -> npt.NDArray[np.uint8]:
    """Noises (W, T, Z) -> images (W, T, S, S, C)."""
    flat = noise.flatten(0, 1).to(device)
    made = to_uint8(generator(flat, torch.full((len(flat),), label, device=device))).cpu().numpy()
    images = shrunk(made.transpose(0, 2, 3, 1), WALK_SIDE)
    return images.reshape(*noise.shape[:2], *images.shape[1:])
