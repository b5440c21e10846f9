"""A trained classifier as one file that predicts: its weights, and in the header all that tells how to use them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.images import Resize, decode, match_channels, resize, to_float
from ..data.source import Source, open_unlabeled
from ..devices import resolve_device
from ..errors import GanaugError
from ..gan.networks import Backbone
from ..progress import Advance, track, warn
from ..runs import SCHEMA, num_bytes, written_whole
from ..settings import IMAGE_SIZES, LARGEST_MODEL_SIZE
from ..spreadsheet import write_csv
from .backbones import OWN, Classifier, build_torchvision
from .training import predict as predict_arrays

HEADER = "ganaug"  # the key of the file's metadata
HOW_TO_MAKE = "Make one: ganaug export-classifier STUDY --out FILE.safetensors"
BATCH = 256  # images that are in memory at a time


@dataclass(frozen=True)
class Card:
    """What the file of a classifier says beside its weights."""

    class_names: tuple[str, ...]
    image_size: int  # pixels that an image is brought to
    channels: int
    resize: Resize
    model: str  # "discriminator", whose architecture it has, or a name of torchvision's
    model_size: int  # pixels that a model of torchvision's enlarges images to
    arm: str  # of the study
    scores: dict[str, float]  # on the study's real test images


def save_classifier(path: Path, state: dict[str, Tensor], card: Card) -> None:
    """Writes weights and card as one .safetensors file."""
    from safetensors.torch import save

    header = json.dumps({"schema": SCHEMA, **asdict(card)}, ensure_ascii=False)
    with written_whole(path) as temporary:
        content = save({name: value.cpu().contiguous() for name, value in state.items()}, {HEADER: header})
        temporary.write_bytes(content)  # whose errors are those of the disk


def load_classifier(path: str | Path) -> tuple[nn.Module, Card]:
    """Inverts `save_classifier`: a network in evaluation mode on the CPU, from images (N, C, S, S) in [-1, 1] to logits (N,
    num_classes), and its card. Raises `GanaugError` for any other file."""
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise GanaugError(f"{path} is a folder, not the file of a classifier. {HOW_TO_MAKE}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise GanaugError(f"{path} cannot be read as a classifier: {error}. {HOW_TO_MAKE}") from None
    if not isinstance(header, dict):
        raise GanaugError(f"{path} holds weights, but no classifier of ganaug's. {HOW_TO_MAKE}")
    if header.pop("schema", None) != SCHEMA:
        raise GanaugError(f"{path} was written by another version of ganaug. {HOW_TO_MAKE}")
    try:
        card = Card(**{**header, "class_names": tuple(header["class_names"])})
        refuse_card(card)
        with torch.device("meta"):  # first without memory: the card may ask for all there is
            needed = num_bytes(build(card, state))
        if needed > Path(path).stat().st_size:
            raise ValueError("its network is larger than the file")
        model = build(card, state)
        model.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise GanaugError(f"{path} is damaged: {str(error).splitlines()[0]}. {HOW_TO_MAKE}") from None
    return model.eval(), card


def refuse_card(card: Card) -> None:
    """Raises `ValueError` for a card that no study writes."""
    names = card.class_names
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its classes have no names")
    if card.image_size not in IMAGE_SIZES or card.channels not in (1, 3) or card.resize not in get_args(Resize):
        raise ValueError(f"images of {card.image_size} pixels and {card.channels} channels, resized by {card.resize}")
    if card.model_size not in range(IMAGE_SIZES[0], LARGEST_MODEL_SIZE + 1):
        raise ValueError(f"a model of {card.model_size} pixels")


def build(card: Card, state: dict[str, Tensor]) -> nn.Module:
    """The network that the card describes, with any weights; the widths are those of the `state`."""
    if card.model != OWN:
        return build_torchvision(card.model, len(card.class_names), card.model_size, None, seed=0)
    width, num_features = len(state["backbone.convolutions.0.weight"]), len(state["backbone.project.weight"])
    return Classifier(Backbone(card.image_size, card.channels, width, num_features), len(card.class_names))


def predict(
    classifier: str | Path, images: str | Path, out: str | Path | None = None, *, device: str = "auto"
) -> pd.DataFrame:
    """What a classifier says of images.

    classifier: a file of `export_classifier`.
    images: an image, or a folder or zip with images anywhere in it; class folders are not needed, and are not looked at.
    out: a CSV file to write the table to.
    device: where the classifier is asked: auto, cpu, cuda or cuda:N.

    Returns a row for each image: file, class, probability, and the probability of every class in a column named after it.
    Unreadable images are named in a warning and left out. Raises `GanaugError` for a file that is no classifier, and where no image
    can be read.
    """
    model, card = load_classifier(classifier)
    source, target = open_unlabeled(images), resolve_device(device)
    model.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    files: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    with track("predicting", len(source.files)) as advance:
        for names, pixels in read_batches(source, card, advance):
            files += names
            parts.append(predict_arrays(model, pixels, target))
    if not files:
        raise GanaugError(f"none of the images in {images} can be read.")
    probabilities = np.concatenate(parts)
    best = probabilities.argmax(axis=1)
    table = pd.DataFrame(
        {"file": files, "class": np.array(card.class_names)[best], "probability": probabilities.max(axis=1)}
    )
    columns = pd.DataFrame(probabilities, columns=[f"p({name})" for name in card.class_names])
    found = pd.concat([table, columns.round(6)], axis=1).round({"probability": 6})
    if out is not None:
        with written_whole(Path(out)) as temporary:
            write_csv(found, temporary)
    return found


def read_batches(source: Source, card: Card, advance: Advance) -> Iterator[tuple[list[str], npt.NDArray[np.uint8]]]:
    """Names and pixels (n, C, S, S) of the readable images, BATCH of them at a time, as the classifier takes them. Tells `advance` how
    many files have been read."""
    for start in range(0, len(source.files), BATCH):
        names, pixels = [], []
        for number, file in enumerate(source.files[start : start + BATCH], start):
            advance(number)
            try:
                image = decode(source.read(file.name)).pixels
            except GanaugError as error:
                warn(f"{file.name} is left out: {error}")
                continue
            names.append(file.name)
            pixels.append(match_channels(resize(image, card.image_size, card.resize), card.channels).transpose(2, 0, 1))
        advance(min(start + BATCH, len(source.files)))
        if names:
            yield names, np.stack(pixels)


class Probabilities(nn.Module):
    """Images (N, C, S, S) uint8 -> class probabilities (N, num_classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(to_float(images))
        return logits.softmax(dim=1)


def export_onnx(path: Path, model: nn.Module, card: Card) -> None:
    """Writes the classifier as ONNX: `images` (N, C, S, S) uint8 to `probabilities` (N, num_classes), the card in its metadata.
    Raises `GanaugError` where the packages for it are missing."""
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise GanaugError("ONNX needs more packages: pip install 'ganaug[onnx]'.") from None
    example = torch.zeros(2, card.channels, card.image_size, card.image_size, dtype=torch.uint8)
    program = torch.onnx.export(
        Probabilities(model).eval(),
        (example,),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch", max=2**31 - 1)},),  # torch 2.7 asks for a limit
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    found = program.model_proto
    onnx.helper.set_model_props(found, {HEADER: json.dumps({"schema": SCHEMA, **asdict(card)}, ensure_ascii=False)})
    with written_whole(path) as temporary:
        temporary.write_bytes(found.SerializeToString())
