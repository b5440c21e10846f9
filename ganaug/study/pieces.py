"""The many small trainings of a study: one single-threaded process for each core, or a cluster; finished pieces are kept on disk."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..classify.backbones import LEAST_SIZE, OWN, build_classifier, build_torchvision
from ..classify.training import Mixing, Training, predict, train_classifier
from ..cluster import as_done
from ..devices import num_cores, resolve_device
from ..errors import GanaugError
from ..progress import track
from ..runs import load_tensors, save_tensors, written_whole
from ..settings import CompareSettings
from .arms import ARMS
from .material import Material, Sources

NO_MIXING = Mixing(ratio=0.0, weight=0.0, real_only_share=0.0)


@dataclass(frozen=True)
class Piece:
    """One classifier to train. What an arm does not use (GAN, draw, mixing) is empty, so that equal pieces are equal."""

    arm: str
    unit: str  # whose training images it is trained on and whose test images it judges
    gan: str  # the unit whose discriminator and synthetic images it uses
    draw: int
    seed: int
    training: Training
    mixing: Mixing | None

    @property
    def name(self) -> str:
        """Of its file; tells everything that decides the outcome beside the study's identity."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.arm.replace('/', '-')}-{self.unit}-{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def num_images(self) -> float:
        """That are seen in training, in updates of the main set alone."""
        ratio = self.mixing.ratio if self.mixing is not None and ARMS[self.arm].mixes else 0.0
        return self.training.updates * (1 + ratio)


@dataclass(frozen=True)
class Outcome:
    probabilities: npt.NDArray[np.float32]  # (num_judged, K)
    curve: npt.NDArray[np.float64]  # (points, 3): update, loss, accuracy


Weights = dict[str, torch.Tensor]


def make_piece(arm: str, unit: str, gan: str, draw: int, seed: int, training: Training, mixing: Mixing) -> Piece:
    """The piece, without what its arm does not use."""
    found = ARMS[arm]
    if not found.uses_pool:
        mixing = replace(mixing, truncation=1.0)
    return Piece(
        arm=arm,
        unit=unit,
        gan=gan if found.uses_gan else "",
        draw=draw if found.uses_pool else 0,
        seed=seed + found.seed_shift,
        training=replace(training, augmentation=found.augmentation),
        mixing=mixing if found.mixes or found.uses_pool else None,
    )


def material_of(piece: Piece, sources: Sources, settings: CompareSettings) -> Material:
    truncation = piece.mixing.truncation if piece.mixing is not None and ARMS[piece.arm].uses_pool else None
    own, unlabeled = settings.classifier == OWN, ARMS[piece.arm].unlabeled
    return sources.material(piece.unit, piece.gan, piece.draw, truncation, own, unlabeled)


def build_model(piece: Piece, material: Material, settings: CompareSettings) -> nn.Module:
    if material.backbone is not None:
        return build_classifier(material.backbone, material.num_classes, ARMS[piece.arm].init, piece.seed)
    size = classifier_size(settings, material.train.images.shape[-1])
    return build_torchvision(
        settings.classifier, material.num_classes, size, settings.classifier_weights, seed=piece.seed
    )


def classifier_size(settings: CompareSettings, image_size: int) -> int:
    """Pixels that a torchvision classifier sees."""
    return settings.classifier_size or max(image_size, LEAST_SIZE)


def train_piece(piece: Piece, material: Material, settings: CompareSettings) -> tuple[Outcome, Weights]:
    """Trains and judges one classifier. The same piece gives the same in any process and in any order."""
    device = resolve_device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    model = build_model(piece, material, settings)
    diet = ARMS[piece.arm].diet(material.train, material.pool, material.num_beside, piece.seed)
    curve = train_classifier(
        model, diet, piece.training, piece.mixing or NO_MIXING, material.mirror, piece.seed, device
    )
    points = np.array([(point.update, point.loss, point.accuracy) for point in curve], np.float64).reshape(-1, 3)
    return Outcome(predict(model, material.judged, device), points), model.cpu().state_dict()


def train_pieces(
    label: str,
    pieces: Iterable[Piece],
    sources: Sources,
    settings: CompareSettings,
    folder: Path,
    seconds_per_update: float,
    kept: Collection[str] = (),
) -> dict[str, Outcome]:
    """The outcomes by piece name. Those found in `folder` are read; the others are trained and kept. Of the pieces named in `kept`
    the weights are, too; see `read_weights_of`. `seconds_per_update`, of the baseline, tell how long it may take."""
    wanted = {piece.name: piece for piece in pieces}
    missing = [piece for name, piece in wanted.items() if not _is_there(folder, name, name in kept)]
    missing.sort(key=lambda piece: -piece.num_images)  # long ones first, so that the cores end together
    work = ((piece, material_of(piece, sources, settings), settings, piece.name in kept) for piece in missing)
    whole, left = (sum(piece.num_images for piece in some) for some in (wanted.values(), missing))  # images to see
    expected = left * seconds_per_update / num_jobs(settings) if settings.cluster is None else None
    with track(label, 100, 100 * (1 - left / whole), " %", expected) as advance:
        finished = in_parallel(_train_named, work, len(missing), settings)
        for done, (name, outcome, weights) in enumerate(finished, start=len(wanted) - len(missing) + 1):
            if weights:
                save_tensors(_weights_path(folder, name), weights)
            with written_whole(_path(folder, name)) as temporary, temporary.open("wb") as file:
                np.savez(file, name=name, probabilities=outcome.probabilities, curve=outcome.curve)
            left -= wanted[name].num_images
            advance(100 * (1 - left / whole) if done < len(wanted) else 100, f"{done:,} of {len(wanted):,} classifiers")
    return {name: _read(_path(folder, name)) for name in wanted}


def in_parallel(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], count: int, settings: CompareSettings
) -> Iterator[Any]:
    """The `count` results as they are done, on this machine's cores or `settings.cluster`; see `as_done`."""
    if not count:
        return
    threads = torch.get_num_threads()
    try:
        yield from as_done(function, arguments, num_jobs(settings), settings.cluster, "repeat the command.")
    finally:
        torch.set_num_threads(threads)  # a single job runs in this process


def num_jobs(settings: CompareSettings) -> int:
    """Trainings at a time on this machine."""
    on_cpu = resolve_device(settings.device).type == "cpu"
    return (settings.jobs or num_cores()) if on_cpu else 1


def read_weights_of(folder: Path, name: str) -> Weights:
    """The weights of a piece that was `kept`."""
    return load_tensors(_weights_path(folder, name))


def _train_named(
    piece: Piece, material: Material, settings: CompareSettings, keep: bool
) -> tuple[str, Outcome, Weights | None]:
    outcome, weights = train_piece(piece, material, settings)
    return piece.name, outcome, {name: value.contiguous() for name, value in weights.items()} if keep else None


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npz"


def _weights_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _is_there(folder: Path, name: str, with_weights: bool) -> bool:
    return _path(folder, name).is_file() and (not with_weights or _weights_path(folder, name).is_file())


def _read(path: Path) -> Outcome:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if "name" in stored and str(stored["name"]) != path.stem:
                raise ValueError(f"it is that of another training, {stored['name']}")
            return Outcome(stored["probabilities"], stored["curve"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise GanaugError(f"{path} cannot be read: {error}. Delete it and repeat the command.") from None
