"""Pixels: encoded bytes <-> uint8 arrays <-> the float images of the networks. Nothing else converts between them."""

import io
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import GanaugError

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
Resize = Literal["crop", "pad", "stretch"]

MAX_PIXELS = 89_478_485  # Pillow's own limit
MAX_WEBP_PIXELS = 2**25  # its decoder has them in memory four times
LARGE = 2**24  # pixels of an image above which it is halved, or more, as it is decoded
BAND = 2**22  # pixels that are converted at a time
SMALL = 2**22  # pixels that any file may claim; more must have
MAX_PIXELS_PER_BYTE = 1000  # or it is a bomb: a JPEG has 256 at most, a PNG of a single color 1,032
MAX_SCANS = 100  # of a JPEG; each goes over all of its pixels
MAX_FRAMES = 100  # that are counted
# Never the formats that start another program, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF")
UPRIGHT, TRANSPOSED = 1, 5  # orientations by EXIF: as stored; from this one on, rows are columns
FAST = 1  # compression of a PNG that takes a third of the time, for a third more bytes
LINE = 144  # grey level between the images of a grid
ANIMATED_FORMATS = ("PNG", "WEBP", "GIF", "TIFF")  # a camera's MPO holds a preview, not an animation


class NoRoom(Exception):
    """Something is larger than a room's share of the memory."""


class Room:
    """So much, in any unit, may be in memory at a time, over all threads; what is larger than the room has it alone. Of several processes
    each has one of `shares` equal rooms; none can tell whether the others' are empty, and what is larger raises `NoRoom`."""

    def __init__(self, total: int, shares: int = 1) -> None:
        self.total, self.shares, self.taken, self.changed = total // shares, shares, 0, threading.Condition()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        if self.shares > 1 and amount > self.total:
            raise NoRoom
        with self.changed:
            self.changed.wait_for(lambda: not self.taken or self.taken + amount <= self.total)
            self.taken += amount
        try:
            yield
        finally:
            with self.changed:
                self.taken -= amount
                self.changed.notify_all()


_room = Room(MAX_PIXELS)


class DecodeError(GanaugError):
    """The bytes are not a whole image. The message is a short reason."""


@dataclass(frozen=True)
class Decoded:
    """One image, upright. `pixels` (H, W, C), C = 1 or 3, of `width` and `height` unless it is larger than LARGE, then of a half, a
    third and so on; `mode` is Pillow's name of what the file stores; `frames` are counted up to MAX_FRAMES."""

    pixels: Pixels
    mode: str
    width: int
    height: int
    frames: int


def decode(data: bytes, room: Room = _room) -> Decoded:
    """The first frame as 8-bit gray or RGB.

    EXIF orientation is applied, transparency is laid over white, palettes and CMYK become RGB, and an image whose three
    channels agree comes back with one. 16 bits are divided by 257. 32-bit integers count as 8 bits within 0..255, as 16
    bits within 0..65535; otherwise, and for floats outside 0..1, the image's least value becomes 0 and its largest 255.

    Raises `DecodeError` for what is no image, is truncated, has more than `MAX_PIXELS` pixels, more than its bytes can hold, or a NaN;
    `NoRoom` where the `room`, of pixels, does.
    """
    with _opened(io.BytesIO(data), len(data)) as image, room.taking(image.width * image.height):
        width, height = image.size
        if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
            raise DecodeError(f"a bomb: more than {MAX_SCANS} scans")
        frames = _count_frames(image)
        image.draft(None, _shrunk(image.size))
        image.load()
        mode, orientation = image.mode, _orientation(image)
        pixels = _turn(_to_pixels(image, _shrink_factor(image.size)), orientation)
    if orientation >= TRANSPOSED:
        width, height = height, width
    return Decoded(pixels, mode, width, height, frames)


def read_pillow(path: Path, mode: str) -> Image.Image:
    """A file as `to_mode` gives it. Raises `DecodeError`, and `OSError` where there is no such file."""
    with path.open("rb") as file, _opened(file, path.stat().st_size) as image:
        return to_mode(image, mode)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """A Pillow image as a new one, upright, of mode "RGB" or "L", by the rules of `decode`, but sooner where they change nothing."""
    image.load()
    orientation = _orientation(image)
    if orientation == UPRIGHT and image.mode in ("L", "RGB") and not image.has_transparency_data:
        return image.convert(mode)
    return to_pillow(match_channels(_turn(_to_pixels(image), orientation), 3 if mode == "RGB" else 1))


def peek_size(file: IO[bytes]) -> tuple[int, int]:
    """(width, height) from the header alone, as stored; how many bytes follow is not looked at. Raises `DecodeError`."""
    with _opened(file) as image:
        return image.size


def resize(pixels: Pixels, size: int, how: Resize) -> Pixels:
    """(H, W, C) -> (size, size, C), antialiased.

    `crop` keeps the central square, `pad` adds bars in the mean color of the image's border, `stretch` ignores the
    proportions. Shrinks with a Lanczos filter and enlarges with a bicubic one.
    """
    height, width, _ = pixels.shape
    if how == "pad" and height != width:
        if max(height, width) ** 2 > LARGE:
            share = math.isqrt(LARGE) / max(height, width)
            sides = (max(1, int(width * share)), max(1, int(height * share)))
            pixels = _from_pillow(to_pillow(pixels).resize(sides, Image.Resampling.LANCZOS))
            height, width, _ = pixels.shape
        pixels = _pad_square(pixels)
        height = width = max(height, width)
    side = min(height, width)
    if how == "crop":
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
        height = width = side
    if (height, width) == (size, size):
        return np.ascontiguousarray(pixels)
    sampling = Image.Resampling.LANCZOS if max(height, width) > size else Image.Resampling.BICUBIC
    return _from_pillow(to_pillow(pixels).resize((size, size), sampling))


def match_channels(pixels: Pixels, channels: int) -> Pixels:
    """(H, W, 1 or 3) -> (H, W, channels): gray is repeated, color becomes its luminance (ITU-R 601)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return _from_pillow(to_pillow(pixels).convert("L"))


def to_pillow(pixels: Pixels) -> Image.Image:
    """(H, W, 1 or 3) -> "L" or "RGB"."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def to_float(images: "torch.Tensor") -> "torch.Tensor":
    """uint8 (N, C, H, W) -> float32 in [-1, 1], on the same device."""
    return images.float().div(127.5).sub(1)


def to_uint8(images: "torch.Tensor") -> "torch.Tensor":
    """float (N, C, H, W) in [-1, 1] -> uint8, rounded; values outside are clamped. Inverts `to_float` exactly."""
    import torch

    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def encode_png(pixels: Pixels, level: int = 6) -> bytes:
    """(H, W, C), C = 1 or 3, as the bytes of a PNG file, without loss; `level` 1 (FAST) to 9 (small)."""
    buffer = io.BytesIO()
    to_pillow(pixels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def image_grid(images: Pixels | Sequence[Sequence[Pixels]], gap: int = 2) -> Pixels:
    """Rows of images (R, K, C, H, W), or lists of (C, H, W) where rows may differ in length -> one sheet (H', W', C).

    Lines of `gap` pixels, of a grey that neither white nor black images blend into, stand between the images; short rows end
    in it. All images have one shape.
    """
    rows = [list(row) for row in images]
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("image_grid needs at least one image")
    channels, height, width = next(image.shape for row in rows for image in row)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, LINE, np.uint8)
    for r, row in enumerate(rows):
        for k, image in enumerate(row):
            top, left = r * (height + gap), k * (width + gap)
            sheet[top : top + height, left : left + width] = np.moveaxis(image, 0, 2)
    return sheet


@contextmanager
def _opened(file: IO[bytes], num_bytes: int | None = None) -> Iterator[Image.Image]:
    """Yields the image, of which only the header has been read. Every error, then or in the block, becomes a `DecodeError`."""
    try:
        if num_bytes == 0 or not file.read(1):
            raise DecodeError("empty file")
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            _refuse_bomb(image, num_bytes)
            yield image
    except (DecodeError, NoRoom):
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise nearly everything
        raise DecodeError(_explain(error)) from error


def _refuse_bomb(image: Image.Image, num_bytes: int | None) -> None:
    pixels, limit = image.width * image.height, MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if pixels > limit:
        raise DecodeError(f"too large: {image.width}x{image.height} pixels, at most {limit // 10**6} million are read")
    if num_bytes is not None and pixels > max(SMALL, MAX_PIXELS_PER_BYTE * num_bytes):
        raise DecodeError(f"a bomb, or a false header: {image.width}x{image.height} pixels in {num_bytes:,} bytes")


def _explain(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large: more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated"
    return f"damaged ({text.splitlines()[0] if text else type(error).__name__})"


def _count_frames(image: Image.Image) -> int:
    """Up to MAX_FRAMES, without decoding one; the first is the current one again."""
    if image.format not in ANIMATED_FORMATS:
        return 1
    if image.format == "GIF":  # counts by going through them
        return 1 + bool(getattr(image, "is_animated", False))
    if image.format != "TIFF":
        return min(int(getattr(image, "n_frames", 1)), MAX_FRAMES)
    frames = 1
    try:
        while frames < MAX_FRAMES:
            image.seek(frames)
            frames += 1
    except EOFError:
        pass
    image.seek(0)
    return frames


def _shrink_factor(size: tuple[int, int]) -> int:
    return max(1, math.ceil(math.sqrt(size[0] * size[1] / LARGE)))


def _shrunk(size: tuple[int, int]) -> tuple[int, int]:
    factor = _shrink_factor(size)
    return max(1, size[0] // factor), max(1, size[1] // factor)


def _orientation(image: Image.Image) -> int:
    """By EXIF, 1 to 8, of a loaded image."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        return found if found in range(UPRIGHT, 9) else UPRIGHT
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return UPRIGHT


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """(H, W, C) as it is stored -> upright, (W, H, C) for half of the orientations."""
    if orientation >= TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_pixels(image: Image.Image, factor: int = 1) -> Pixels:
    """A loaded image as (H, W, 1 or 3), each side divided by `factor`; a band at a time, as the way there takes more memory than both."""
    rows = factor * max(1, BAND // (image.width * factor))
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    bands = [image] if len(boxes) == 1 else (image.crop(box) for box in boxes)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        extents = [_extent(np.asarray(image.crop(box))) for box in boxes]
        limits = min(low for low, _ in extents), max(high for _, high in extents)
        parts = [_shrink(_scale_to_8_bit(np.asarray(band), *limits)[:, :, None], factor) for band in bands]
    else:
        parts = [_shrink(_band_to_pixels(band), factor) for band in bands]
    channels = max(part.shape[2] for part in parts)
    return np.concatenate([match_channels(part, channels) for part in parts])


def _band_to_pixels(image: Image.Image) -> Pixels:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("1", "L"):
        return _from_pillow(image.convert("L"))
    pixels = _from_pillow(image.convert("RGB"))
    is_gray = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return np.ascontiguousarray(pixels[..., :1]) if is_gray else pixels


def _shrink(pixels: Pixels, factor: int) -> Pixels:
    return pixels if factor == 1 else _from_pillow(to_pillow(pixels).reduce(factor))


def _extent(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The least and the largest of the finite values."""
    exact = values.astype(np.float64)
    if np.isnan(exact).any():
        raise DecodeError("holds NaN values")
    finite = exact[np.isfinite(exact)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _scale_to_8_bit(values: npt.NDArray[np.generic], low: float, high: float) -> Pixels:
    """(H, W) of 16-bit or 32-bit integers or floats, from `low` to `high` in the whole image -> uint8, by the rules of `decode`."""
    if low > high:  # not one is finite
        low = high = 0.0
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        low, high = 0, 65535
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0, 255 if high <= 255 else 65535
    scaled = (values.astype(np.float64).clip(low, high) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().astype(np.uint8)


def _pad_square(pixels: Pixels) -> Pixels:
    height, width, channels = pixels.shape
    side = max(height, width)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    square = np.empty((side, side, channels), np.uint8)
    square[:] = border.mean(axis=0).round().astype(np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _from_pillow(image: Image.Image) -> Pixels:
    pixels = np.array(image, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
