"""What makes the images of a `GeneratorDataset`."""

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from ..data.images import Pixels
from ..devices import resolve_device
from ..errors import GanaugError
from ..progress import track
from ..recipe import load_recipe
from ..runs import open_run
from ..synthesis.harvest import harvest_images
from ..synthesis.synthesize import open_curator
from ..synthesis.tally import Tally, describe_harvest
from .generator import Generator, open_generator


class CuratedMaker:
    """Images of a run that pass its tests."""

    def __init__(self, run: str | Path, truncation: float | None, device: str) -> None:
        self.folder, self.info = open_run(run)
        recipe = load_recipe(self.folder.recipe)
        self.recipe = recipe if truncation is None else load_recipe({"synthesize": {"truncation": truncation}}, recipe)
        self.device = resolve_device(device)
        self.curate = cache(lambda: open_curator(self.folder, self.recipe, self.device))  # once for all epochs
        self.classes: tuple[str, ...] = tuple(self.info["class_names"])
        self.channels, self.image_size = self.info["channels"], self.info["image_size"]

    def make(self, counts: Mapping[str, int], seed: int) -> Iterator[Pixels]:
        """Of each class up to so many images (n, C, S, S), one at least."""
        recipe = load_recipe({"synthesize": {"seed": seed}}, self.recipe)
        tallies = [Tally(name, count) for name, count in counts.items()]
        images: dict[str, list[Pixels]] = {name: [] for name in counts}
        strategy = self.info["strategy"]
        with track("making synthetic images", sum(counts.values())) as advance:
            for name, image in harvest_images(
                self.folder, strategy, self.classes, self.curate, tallies, recipe, self.device
            ):
                images[name].append(image)
                advance(*describe_harvest(tallies))
        if failed := [tally.complain() for tally in tallies if not images[tally.class_name]]:
            raise GanaugError(f"{failed[0]} Or take the images untested: curated=False.")
        yield from (np.stack(made) for made in images.values())


class RawMaker:
    """Images of a generator as they come."""

    def __init__(self, generator: Generator, truncation: float | None, device: str) -> None:
        self.generator = copy.deepcopy(generator).eval().to(resolve_device(device))  # the user's own stays where it is
        self.classes = generator.class_names
        self.channels, self.image_size = generator.channels, generator.image_size
        self.truncation = truncation

    def make(self, counts: Mapping[str, int], seed: int) -> Iterator[Pixels]:
        """Of each class so many images (n, C, S, S)."""
        with track("making synthetic images", sum(counts.values())) as advance:
            done = 0
            for name, count in counts.items():
                yield self.generator.sample(name, count, seed=seed, truncation=self.truncation)
                done += count
                advance(done)


def open_maker(
    source: "str | Path | Generator", curated: bool | None, truncation: float | None, device: str
) -> CuratedMaker | RawMaker:
    """What makes the images of a run, of a `Generator` or of the folder of a saved one: curated where it can be, unless told otherwise."""
    if isinstance(source, str | Path) and curated is not False and (curated or (Path(source) / "run.json").is_file()):
        return CuratedMaker(source, truncation, device)
    if curated:
        raise GanaugError("a Generator has no training images to test its own by: expected a run, or curated=False.")
    return RawMaker(open_generator(source), truncation, device)
