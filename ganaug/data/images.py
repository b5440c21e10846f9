"""Pixels: encoded bytes <-> uint8 arrays <-> the float images of the networks. Nothing else converts between them."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import GanaugError

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
Resize = Literal["crop", "pad", "stretch"]

MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte as RGB
# Never the formats that start another program, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF")
FAST = 1  # compression of a PNG that takes a third of the time, for a third more bytes
LINE = 144  # grey level between the images of a grid
ANIMATED_FORMATS = ("PNG", "WEBP", "GIF", "TIFF")  # a camera's MPO holds a preview, not an animation


class DecodeError(GanaugError):
    """The bytes are not a whole image. The message is a short reason."""


@dataclass(frozen=True)
class Decoded:
    """One image, upright. `pixels` (H, W, C), C = 1 or 3; `mode` is Pillow's name of what the file stores."""

    pixels: Pixels
    mode: str
    width: int
    height: int
    frames: int


def decode(data: bytes) -> Decoded:
    """The first frame as 8-bit gray or RGB.

    EXIF orientation is applied, transparency is laid over white, palettes and CMYK become RGB, and an image whose three
    channels agree comes back with one. 16 bits are divided by 257. 32-bit integers count as 8 bits within 0..255, as 16
    bits within 0..65535; otherwise, and for floats outside 0..1, the image's least value becomes 0 and its largest 255.

    Raises `DecodeError` for what is no image, is truncated, has more than `MAX_PIXELS` pixels or holds a NaN.
    """
    with _opened(io.BytesIO(data)) as image:
        frames = int(getattr(image, "n_frames", 1)) if image.format in ANIMATED_FORMATS else 1
        image.seek(0)
        image.load()
        mode = image.mode
        pixels = _to_pixels(_upright(image))
    height, width = pixels.shape[:2]
    return Decoded(pixels, mode, width, height, frames)


def read_pillow(path: Path, mode: str) -> Image.Image:
    """A file as `to_mode` gives it. Raises `DecodeError`, and `OSError` where there is no such file."""
    with path.open("rb") as file, _opened(file) as image:
        return to_mode(image, mode)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """A Pillow image as a new one, upright, of mode "RGB" or "L", by the rules of `decode`, but sooner where they change nothing."""
    image.load()
    if _is_plain(image):
        return image.convert(mode)
    return to_pillow(match_channels(_to_pixels(_upright(image)), 3 if mode == "RGB" else 1))


def peek_size(file: IO[bytes]) -> tuple[int, int]:
    """(width, height) from the header alone, as stored. Raises `DecodeError`."""
    with _opened(file) as image:
        return image.size


def resize(pixels: Pixels, size: int, how: Resize) -> Pixels:
    """(H, W, C) -> (size, size, C), antialiased.

    `crop` keeps the central square, `pad` adds bars in the mean color of the image's border, `stretch` ignores the
    proportions. Shrinks with a Lanczos filter and enlarges with a bicubic one.
    """
    height, width, _ = pixels.shape
    if how == "pad" and height != width:
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
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    """Yields the image, of which only the header has been read. Every error, then or in the block, becomes a `DecodeError`."""
    try:
        if not file.read(1):
            raise DecodeError("empty file")
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError(
                    f"too large: {image.width}x{image.height} pixels, at most {MAX_PIXELS // 10**6} million are read"
                )
            yield image
    except DecodeError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise nearly everything
        raise DecodeError(_explain(error)) from error


def _explain(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large: more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated"
    return f"damaged ({text.splitlines()[0] if text else type(error).__name__})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return image


def _is_plain(image: Image.Image) -> bool:
    """Whether a loaded image's own pixels are what `decode` makes of it, but for the number of its channels."""
    if image.mode not in ("L", "RGB") or image.has_transparency_data:
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
    except Exception:  # as in _upright
        return True


def _to_pixels(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _scale_to_8_bit(np.asarray(image))[:, :, None]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("1", "L"):
        return _from_pillow(image.convert("L"))
    pixels = _from_pillow(image.convert("RGB"))
    is_gray = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
    return np.ascontiguousarray(pixels[..., :1]) if is_gray else pixels


def _scale_to_8_bit(values: npt.NDArray[np.generic]) -> Pixels:
    """(H, W) of 16-bit or 32-bit integers or floats -> uint8, by the rules of `decode`."""
    exact = values.astype(np.float64)
    if np.isnan(exact).any():
        raise DecodeError("holds NaN values")
    finite = exact[np.isfinite(exact)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        low, high = 0, 65535
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0, 255 if high <= 255 else 65535
    scaled = (exact.clip(low, high) - low) * (255 / (high - low) if high > low else 0)
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
