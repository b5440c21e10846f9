"""The generator of a run as one object: sampled, saved, loaded and shared through Hugging Face's hub, which is never needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import GanaugError
from ..gan.member import build_generator, load_member
from ..gan.mixing import AnyGenerator
from ..gan.strategies import generating_member, members_of
from ..recipe import load_recipe
from ..reporting.cards import describe_generator, model_card
from ..runs import load_weights, num_bytes, open_run, read_json, refuse_paths, refuse_small, save_weights
from ..synthesis.plan import resolve_classes
from ..synthesis.sample import generate, image_seed

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
except ImportError:  # the extra `hub`
    NEEDS = "needs huggingface_hub. Install it: pip install 'ganaug[hub]'"

    class PyTorchModelHubMixin:  # type: ignore[no-redef]
        """Stands in for the mixin where it is not installed; everything but loading and saving works."""

        def __init_subclass__(cls, **_: Any) -> None:
            super().__init_subclass__()

        def save_pretrained(self, *_: Any, **__: Any) -> None:
            raise GanaugError(f"Generator.save_pretrained {NEEDS}")

        def push_to_hub(self, *_: Any, **__: Any) -> None:
            raise GanaugError(f"Generator.push_to_hub {NEEDS}")

        @classmethod
        def from_pretrained(cls, *_: Any, **__: Any) -> None:
            raise GanaugError(f"Generator.from_pretrained {NEEDS}")


WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Generator(nn.Module, PyTorchModelHubMixin, library_name="ganaug", tags=["gan", "data-augmentation"]):
    """All generators of a run: noise (N, latent_size) and labels (N,) -> images (N, C, S, S) in [-1, 1].

    Made by `Generator.from_run(RUN)` or `Generator.from_pretrained(FOLDER_OR_REPOSITORY)`; written by `save_pretrained(FOLDER)`, as
    model.safetensors, config.json and README.md, a model card; shared by `push_to_hub(REPOSITORY)`.

    class_names  in the order of the labels
    members      the networks: {"shape": as of a run's member.json, "classes": labels that it makes, "labels": its own for these}
    truncation   factor on the noise, unless `sample` is given another
    about        what the model card tells
    """

    def __init__(
        self,
        class_names: Sequence[str],
        members: Sequence[dict[str, Any]],
        truncation: float = 1.0,
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.image_size = int(members[0]["shape"]["image_size"])
        self.channels = int(members[0]["shape"]["channels"])
        self.truncation = truncation
        self.about = about or {}
        self.networks = nn.ModuleList(build_generator(member["shape"]) for member in members)
        self.latent_size = self._network(0).latent_size
        self.places = {
            index: (number, label)  # of each class: its network, and the label there
            for number, member in enumerate(members)
            for index, label in zip(member["classes"], member["labels"], strict=True)
        }
        self.eval()

    @classmethod
    def from_run(cls, run: str | Path, study: str | Path | None = None) -> Self:
        """The generators of a complete run; the model card tells the verdict of `study`, if one is given."""
        folder, info = open_run(run)
        recipe = load_recipe(folder.recipe)
        class_names = list(info["class_names"])
        members = members_of(info["strategy"], len(class_names))
        makers = [generating_member(members, index) for index in range(len(class_names))]  # of each class
        described, weights = [], []
        for maker in dict.fromkeys(makers):
            classes = [index for index, each in enumerate(makers) if each is maker]
            labels = [maker.label_of(index) for index in classes]
            shape = read_json(folder.member(maker.name) / "member.json", ["shape"])["shape"]
            described.append({"shape": shape, "classes": classes, "labels": labels})
            weights.append(load_member(folder, maker.name)[0].state_dict())
        names = [maker.name for maker in dict.fromkeys(makers)]
        about = describe_generator(folder, names, None if study is None else Path(study))
        made = cls(class_names, described, recipe.synthesize.truncation, about)
        for network, state in zip(made.networks, weights, strict=True):
            network.load_state_dict(state)
        return made

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        shape = (len(noise), self.channels, self.image_size, self.image_size)
        images = torch.empty(shape, device=noise.device)
        for index in sorted(set(labels.tolist())):
            number, label = self.places[index]
            mine = labels == index
            images[mine] = self.networks[number](noise[mine], torch.full_like(labels[mine], label))
        return images

    def sample(
        self, class_name: str, count: int, *, seed: int = 0, first: int = 0, truncation: float | None = None
    ) -> npt.NDArray[np.uint8]:
        """`count` images of a class (count, C, S, S) uint8, from the number `first` on: the candidates of `ganaug synthesize --seed`,
        as they come, untested. Raises `GanaugError` for an unknown class, and for a truncation outside (0, 1]."""
        resolve_classes([class_name], self.class_names)
        factor = self.truncation if truncation is None else truncation
        if not (0 < factor <= 1 and min(count, seed, first) >= 0):
            raise GanaugError(
                "expected a truncation above 0, up to 1, and count, seed and first of 0 or more; "
                f"got truncation {factor}, count {count}, seed {seed}, first {first}."
            )
        index = self.class_names.index(class_name)
        number, label = self.places[index]
        seeds = [image_seed(seed, index, first + i) for i in range(count)]
        device = next(self.parameters()).device
        parts = [part.cpu() for part in generate(self._network(number), seeds, label, factor, device)]
        empty = torch.empty((0, self.channels, self.image_size, self.image_size), dtype=torch.uint8)
        return torch.cat([empty, *parts])[:count].numpy()

    def _network(self, number: int) -> AnyGenerator:
        return cast(AnyGenerator, self.networks[number])

    def _save_pretrained(self, save_directory: Path) -> None:
        save_weights(save_directory / WEIGHTS, self)

    def generate_model_card(self, *_: Any, **__: Any) -> "ModelCard":
        return ModelCard(model_card(self.about, self.class_names, self.image_size, self.channels))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """One that `save_pretrained` wrote into a folder, or `push_to_hub` into a repository; the options are those of
        `huggingface_hub.PyTorchModelHubMixin`. Raises `GanaugError` for anything else."""
        try:
            made: Self = super().from_pretrained(pretrained_model_name_or_path, **options)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:  # also what the hub answers
            raise GanaugError(
                f"{pretrained_model_name_or_path} is neither the folder of a saved generator nor a repository that can be "
                f"fetched: {str(error).strip().splitlines()[0]}"
            ) from error
        return made

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:  # by the mixin, which has read config.json
        hub = ("revision", "cache_dir", "force_download", "token", "local_files_only")
        fetched = {name: options.pop(name) for name in hub if name in options}
        device = options.pop("map_location", "cpu")
        options.pop("strict", None)
        local = Path(model_id) / WEIGHTS
        try:
            path = local if Path(model_id).is_dir() else Path(hf_hub_download(model_id, WEIGHTS, **fetched))
        except (OSError, ValueError) as error:
            raise GanaugError(
                f"{model_id} is neither a folder nor a repository that can be fetched: {error}"
            ) from error
        try:
            refuse_paths(Path(model_id) / CONFIG, list(options["class_names"]))
            with torch.device("meta"):  # first without memory: the file may ask for all there is
                needed = num_bytes(cls(**options))
            refuse_small(needed, path)
            made = cls(**options)
        except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
            raise GanaugError(
                f"{model_id} holds no generator of ganaug's: its {CONFIG} is missing or damaged ({error})."
            ) from None
        load_weights(path, made)
        return made.to(device)


def open_generator(source: str | Path | Generator) -> Generator:
    """Itself; that of a run; or one that was saved in a folder. Raises `GanaugError` for anything else."""
    if isinstance(source, Generator):
        return source
    if not isinstance(source, str | Path):
        raise GanaugError(f"expected a run, a Generator or the folder of a saved one; got {type(source).__name__}.")
    if (Path(source) / "run.json").is_file():
        return Generator.from_run(source)
    if not (Path(source) / CONFIG).is_file():
        raise GanaugError(
            f"{source} is neither a run nor a saved generator. Make one with: ganaug fit DATA --out {source}; "
            "one from the hub is loaded with Generator.from_pretrained."
        )
    read_json(Path(source) / CONFIG)  # which the hub's library reads without care
    return Generator.from_pretrained(source)
