"""From a generator to the images of a class that may be kept: candidates in blocks, tested and chosen one block after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from ..data.images import Pixels
from ..data.manifest import Row
from ..gan.member import load_member
from ..gan.mixing import AnyGenerator
from ..gan.networks import Discriminator
from ..gan.strategies import generating_member, members_of
from ..runs import RunFolder, checkpoint_of
from ..settings import CurationSettings, Recipe, SynthesizeSettings
from .curation import Curator, choose_spread, examine_candidates
from .filters import FILTERS, Evidence, apply_filters
from .sample import CHUNK, image_seed, sample
from .tally import Tally

REMEMBERED = 2048  # kept images of a class that new ones are compared with: memory does not grow with their number
SURPLUS = "surplus"  # what passed, but was not needed

Networks = tuple[AnyGenerator, Discriminator, str]  # and what names the generator in a manifest


def harvest(
    folder: RunFolder, strategy: str, curator: Curator, tallies: Sequence[Tally], recipe: Recipe, device: torch.device
) -> Iterator[tuple[Row, Pixels | None]]:
    """Yields a row for each candidate of the run's generators, class by class, with the image (C, S, S) of those that are kept; of each
    class as many as its tally asks for, if they can be found."""
    members = members_of(strategy, len(curator.real.class_names))
    networks_of = opener(folder, device)
    for tally in tallies:
        if not tally.asked:
            continue
        index = curator.real.class_names.index(tally.class_name)
        member = generating_member(members, index)
        generator, discriminator, checkpoint = networks_of(member.name)
        label = member.label_of(index)
        for row, image in harvest_class(
            curator, generator, discriminator, index, label, tally, recipe.synthesize, recipe.curation, device
        ):
            yield replace(row, checkpoint=checkpoint, truncation=recipe.synthesize.truncation), image


def harvest_images(
    folder: RunFolder,
    strategy: str,
    class_names: Sequence[str],
    curate: Callable[[], Curator],
    tallies: Sequence[Tally],
    recipe: Recipe,
    device: torch.device,
) -> Iterator[tuple[str, Pixels]]:
    """Yields class and image (C, S, S) of what `harvest` keeps, for who needs no record of it. Where nothing is tested, `curate` is not
    called: the classifiers that it trains would be asked by nobody."""
    if not is_untested(recipe.curation):
        for row, image in harvest(folder, strategy, curate(), tallies, recipe, device):
            if image is not None:
                yield row.class_name, image
        return
    members, settings, networks_of = members_of(strategy, len(class_names)), recipe.synthesize, opener(folder, device)
    for tally in tallies:
        index = class_names.index(tally.class_name)
        member = generating_member(members, index)
        generator, discriminator, _ = networks_of(member.name)
        label = member.label_of(index)
        while tally.kept < (tally.asked or 0):
            numbers = range(tally.kept, min(tally.kept + CHUNK, tally.asked or 0))
            seeds = [image_seed(settings.seed, index, number) for number in numbers]
            drawn = sample(generator, discriminator, seeds, label, settings.truncation, device).images
            tally.candidates = tally.kept = numbers.stop
            yield from ((tally.class_name, image) for image in drawn)


def is_untested(curation: CurationSettings) -> bool:
    """Whether candidates are kept as they come: what is measured of them decides nothing."""
    return curation.keep == 1 and set(curation.without) == set(FILTERS)


def open_member(folder: RunFolder, name: str, device: torch.device) -> Networks:
    """The networks of a member on the device, and what names its generator in a manifest."""
    generator, discriminator = load_member(folder, name)
    checkpoint = checkpoint_of(folder.member(name) / "generator.safetensors")
    return generator.to(device), discriminator.to(device), checkpoint


def opener(folder: RunFolder, device: torch.device) -> Callable[[str], Networks]:
    """`open_member` by name, which keeps the last one: of a joint GAN all classes take the same."""
    return lru_cache(maxsize=1)(lambda name: open_member(folder, name, device))


def most_candidates(asked: int, curation: CurationSettings) -> int:
    """Candidates of a class that are made, at most, for so many images."""
    return max(2, -(-asked * curation.max_candidates // CHUNK)) * CHUNK


def harvest_class(
    curator: Curator,
    generator: AnyGenerator,
    discriminator: Discriminator,
    index: int,
    label: int,
    tally: Tally,
    settings: SynthesizeSettings,
    curation: CurationSettings,
    device: torch.device,
) -> Iterator[tuple[Row, Pixels | None]]:
    """Yields a row for each candidate of a class, with the image (C, S, S) of those that are kept: `tally.asked` of them, or as
    many as `curation.max_candidates` for each yield. Fewer asked for are the first of more. Counts in `tally`, and goes on from what it
    counts already.

    `index` is the class in the data, `label` in the networks.
    """
    asked = tally.asked or 0
    most = most_candidates(asked, curation)
    quota = max(1, int(curation.keep * CHUNK))
    if len(tally.taken) != len(curator.shares[index]):  # at the beginning
        tally.taken = np.zeros(len(curator.shares[index]), np.int64)
    while tally.kept < asked and tally.candidates < most:
        seeds = [image_seed(settings.seed, index, tally.candidates + i) for i in range(CHUNK)]
        samples = sample(generator, discriminator, seeds, label, settings.truncation, device)
        evidence = examine_candidates(curator, samples.images, np.full(CHUNK, index), samples.realism)
        reasons = apply_filters(evidence, curator.limits, tally.seen, curation.without)
        needed = min(quota, asked - tally.kept)
        if quota == CHUNK:  # no choice: all that pass, as they come
            chosen = [i for i in range(CHUNK) if not reasons[i]][:needed]
        else:
            surest = np.argsort(-evidence.class_probability, kind="stable").tolist()
            passed = [i for i in surest if not reasons[i]]
            chosen = choose_spread(evidence.cells, passed, curator.shares[index], tally.taken, needed)
        tally.seen = np.concatenate([tally.seen, evidence.fingerprints[chosen]])[-REMEMBERED:]
        files = [""] * CHUNK
        for position, i in enumerate(chosen):
            files[i] = f"{tally.class_name}/synthetic-{tally.kept + position:06d}.png"
        tally.add(evidence, samples.images, files, reasons, len(chosen))
        for i in [*chosen, *(i for i in range(CHUNK) if not files[i])]:
            row = replace(judged_row(curator, evidence, i, files[i], reasons[i]), seed=seeds[i])
            yield row, samples.images[i] if files[i] else None
    tally.seen = tally.seen[:0]


def judged_row(curator: Curator, evidence: Evidence, i: int, file: str, reasons: tuple[str, ...]) -> Row:
    """The row of candidate `i`: kept if it has a file and nothing speaks against it."""
    return Row(
        file=file,
        class_name=curator.real.class_names[evidence.labels[i]],
        source="synthetic",
        kept=bool(file) and not reasons,
        reasons=" ".join(reasons) or (None if file else SURPLUS),
        realism=None if evidence.realism is None else round(float(evidence.realism[i]), 4),
        class_probability=round(float(evidence.class_probability[i]), 5),
        nearest_real=curator.real.files[evidence.nearest[i]],
        distance=round(float(evidence.distance[i]), 5),
        relative_distance=round(float(evidence.relative[i]), 5),
        strangeness=round(float(evidence.strangeness[i]), 4),
    )
