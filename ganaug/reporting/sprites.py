"""Examples as small data URIs: the images of a class in one sprite, which the page scales up without smoothing."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.uint8]

LARGEST_TILE = 96  # pixels; larger images are shown reduced
TILE_ON_PAGE = 56  # CSS pixels, about
COLUMNS = 8
GAP = 1  # pixels between two tiles, transparent
LOSSLESS_BYTES = 400_000  # of raw pixels on the whole page; beyond, slightly lossy
LOSSLESS_SHEETS = 600_000  # the same of a map's or of walks' sheets, whose lossless tiles do not run into one another
MOST_IMAGES = 1600  # of a kind on the whole page


@dataclass(frozen=True)
class Sprite:
    """`width` and `height` are in CSS pixels, a whole multiple of the sprite's own."""

    uri: str
    width: int
    height: int
    images: int


def make_sprites(images: Images, limit: int) -> list[Sprite | None]:
    """A sprite for each class of `images` (K, n, S, S, C), with its first `limit` images; None for a class without any.

    Of many classes fewer images each are shown, so that the page stays small.
    """
    limit = max(1, min(limit, MOST_IMAGES // len(images)))
    shown = images[:, :limit]
    lossless = 2 * shown.size <= LOSSLESS_BYTES
    found = [_without_padding(tiles) for tiles in shown]
    return [make_sprite(tiles, lossless) if len(tiles) else None for tiles in found]


def _without_padding(tiles: Images) -> Images:
    """(n, S, S, C) without the all-zero images at its end, which stand for images that a small class does not have."""
    present = tiles.reshape(len(tiles), -1).any(axis=1)
    return tiles[: int(np.flatnonzero(present)[-1]) + 1] if present.any() else tiles[:0]


def make_sprite(tiles: Images, lossless: bool) -> Sprite:
    """One sprite of one or more images (n, S, S, C), in rows of COLUMNS."""
    return make_sheet(tiles, min(COLUMNS, len(tiles)), lossless, (GAP, GAP))


def make_sheet(tiles: Images, columns: int, lossless: bool, gaps: tuple[int, int] = (0, 0)) -> Sprite:
    """One sprite of images (n, S, S, C) in rows of `columns`, with `gaps` between columns and between rows, in its own pixels."""
    pictures = [_reduce(Image.fromarray(np.broadcast_to(tile, (*tile.shape[:2], 3)).copy())) for tile in tiles]
    side, rows = pictures[0].width, -(-len(pictures) // columns)
    across, down = side + gaps[0], side + gaps[1]
    sheet = Image.new("RGBA" if any(gaps) else "RGB", (columns * across - gaps[0], rows * down - gaps[1]))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * across, index // columns * down))
    scale = max(1, round(TILE_ON_PAGE / side))
    return Sprite(_to_uri(sheet, lossless), sheet.width * scale, sheet.height * scale, len(pictures))


def _reduce(picture: Image.Image) -> Image.Image:
    if picture.width <= LARGEST_TILE:
        return picture
    return picture.resize((LARGEST_TILE, LARGEST_TILE), Image.Resampling.LANCZOS)


def _to_uri(picture: Image.Image, lossless: bool) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=lossless, quality=60 if lossless else 88, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
