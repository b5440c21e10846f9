"""The many small trainings of a study, one single-threaded process for each core; finished pieces are kept on disk."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed

from ..classify.backbones import build_classifier
from ..classify.training import CurvePoint, Labeled, predict, train_classifier
from ..errors import GanaugError
from ..gan.networks import Backbone
from ..progress import track
from ..runs import written_whole
from ..settings import CompareSettings
from .arms import ARMS


@dataclass(frozen=True)
class Piece:
    """One classifier to train. `rows` None means all training images, judged on `Material.held`; else `rows` are trained
    on and `judged` are what it is judged on, both rows of the training images."""

    name: str  # of its file
    arm: str
    seed: int
    updates: int
    rows: npt.NDArray[np.int64] | None = None
    judged: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Material:
    """What every piece is made from."""

    backbone: Backbone  # with the discriminator's weights
    num_classes: int
    train: Labeled
    held: Labeled  # the images that judge pieces without rows of their own; their labels are not read here
    synthetic: Labeled
    mirror: str


@dataclass(frozen=True)
class Outcome:
    probabilities: npt.NDArray[np.float32]  # (num_judged, K)
    curve: npt.NDArray[np.float64]  # (points, 3): update, loss, accuracy


def train_piece(piece: Piece, material: Material, settings: CompareSettings, device: torch.device) -> Outcome:
    """Trains and judges one classifier. The same piece gives the same outcome in any process and in any order."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    arm = ARMS[piece.arm]
    model = build_classifier(material.backbone, material.num_classes, arm.init, piece.seed)
    synthetic = material.synthetic if arm.synthetic else None
    train, judged = material.train, material.held.images
    if piece.rows is not None and piece.judged is not None:
        judged = train.images[piece.judged]
        train = Labeled(train.images[piece.rows], train.labels[piece.rows])
    curve = train_classifier(model, train, synthetic, piece.updates, settings, material.mirror, piece.seed, device)
    return Outcome(predict(model, judged, device), _curve_array(curve))


def train_pieces(
    label: str,
    pieces: Sequence[Piece],
    material: Material,
    settings: CompareSettings,
    folder: Path,
    device: torch.device,
    jobs: int,
) -> dict[str, Outcome]:
    """The outcomes by piece name. Those found in `folder` are read; the others are trained, `jobs` at a time, and kept."""
    missing = [piece for piece in pieces if not _path(folder, piece).is_file()]
    with track(label, len(pieces), len(pieces) - len(missing)) as advance:
        work = (delayed(_train_named)(piece, material, settings, device) for piece in missing)
        finished = Parallel(n_jobs=min(jobs, len(missing)), return_as="generator_unordered")(work) if missing else ()
        for done, (piece, outcome) in enumerate(finished, start=len(pieces) - len(missing) + 1):
            with written_whole(_path(folder, piece)) as temporary, temporary.open("wb") as file:
                np.savez(file, probabilities=outcome.probabilities, curve=outcome.curve)
            advance(done, piece.name)
    return {piece.name: _read(_path(folder, piece)) for piece in pieces}


def _train_named(
    piece: Piece, material: Material, settings: CompareSettings, device: torch.device
) -> tuple[Piece, Outcome]:
    return piece, train_piece(piece, material, settings, device)


def _path(folder: Path, piece: Piece) -> Path:
    return folder / f"{piece.name}.npz"


def _read(path: Path) -> Outcome:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Outcome(stored["probabilities"], stored["curve"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise GanaugError(f"{path} cannot be read: {error}. Delete it and repeat the command.") from None


def _curve_array(curve: Sequence[CurvePoint]) -> npt.NDArray[np.float64]:
    return np.array([(point.update, point.loss, point.accuracy) for point in curve], np.float64).reshape(-1, 3)
