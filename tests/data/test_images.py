"""Real files of every format and mode that Pillow writes, whole and broken."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps

from ganaug.data import images
from ganaug.data.images import LINE, DecodeError, decode, encode_png, image_grid, match_channels, peek_size, resize

OLD_PILLOW = int(PIL.__version__.split(".")[0]) < 13
RAMP = np.linspace(0, 255, 48 * 32).reshape(32, 48).astype(np.uint8)
COLOR = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 90)], axis=2)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_keeps_the_picture(format, mode):
    image = Image.fromarray(COLOR).convert(mode)
    decoded = decode(encode(image, format, **({"quality": 95} if format in ("JPEG", "WEBP") else {})))
    expected = np.asarray(image).reshape(32, 48, -1)
    assert (decoded.width, decoded.height, decoded.frames) == (48, 32, 1)
    assert decoded.pixels.shape == expected.shape and decoded.pixels.dtype == np.uint8
    assert np.abs(decoded.pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("mode", "format", "channels"),
    [
        ("1", "PNG", 1),
        ("L", "PNG", 1),
        ("LA", "PNG", 1),
        ("P", "PNG", 3),
        ("RGBA", "PNG", 3),
        ("RGBA", "WEBP", 3),
        ("CMYK", "JPEG", 3),
        ("CMYK", "TIFF", 3),
        pytest.param(
            "YCbCr", "TIFF", 3, marks=pytest.mark.skipif(OLD_PILLOW, reason="Pillow reads what it writes since 13")
        ),
        ("LAB", "TIFF", 3),
        ("RGBX", "TIFF", 3),
    ],
)
def test_every_mode_becomes_gray_or_rgb(mode, format, channels):
    source = Image.fromarray(COLOR)
    image = source.convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", source.size, (120, 160, 90))
    decoded = decode(encode(image, format))
    assert decoded.pixels.shape == (32, 48, channels)
    assert decoded.mode in (mode, "RGB")


def test_gray_stored_as_color_comes_back_with_one_channel():
    decoded = decode(encode(Image.fromarray(RAMP).convert("RGB")))
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(decoded.pixels[..., 0], RAMP)
    assert decoded.pixels.shape[2] == 1


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_two_channels_that_agree_make_no_gray(channel):
    color = np.repeat(RAMP[:, :, None], 3, axis=2)
    color[0, 0, channel] ^= 1
    np.testing.assert_array_equal(decode(encode(Image.fromarray(color))).pixels, color)


def test_a_large_empty_page_is_no_bomb():
    """A few bytes for two million pixels, as a scanner writes them."""
    content = encode(Image.new("1", (1500, 1500), 1))
    assert 1500**2 / len(content) > images.MAX_PIXELS_PER_BYTE and decode(content).pixels.shape == (1500, 1500, 1)


def test_transparency_lies_over_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    rgba[2:] = (255, 0, 0, 0)
    pixels = decode(encode(Image.fromarray(rgba))).pixels
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_transparent_palette_entry_becomes_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    pixels = decode(encode(image, transparency=0)).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_divided_by_257(format):
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    decoded = decode(encode(Image.fromarray(values), format))
    assert decoded.mode.startswith("I;16")
    assert decoded.pixels[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 0.2, 0.4]], np.float32), [0, 51, 102]),
        (np.array([[-2.0, 0.0, 6.0]], np.float32), [0, 64, 255]),
        (np.array([[7.0, 7.0, 7.0]], np.float32), [0, 0, 0]),
        (np.array([[-2.0, np.inf, 6.0]], np.float32), [0, 255, 255]),
    ],
)
def test_32_bit_values_are_scaled(values, expected):
    assert decode(encode(Image.fromarray(values), "TIFF")).pixels[0, :, 0].tolist() == expected


def test_nan_is_refused():
    with pytest.raises(DecodeError, match="NaN"):
        decode(encode(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF"))


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    image = Image.new("RGB", (60, 40), "black")
    image.paste("white", (0, 0, 30, 40))
    decoded = decode(encode(image, "JPEG", exif=exif, quality=95))
    assert (decoded.width, decoded.height) == (40, 60)
    assert decoded.pixels[5].mean() > 250 and decoded.pixels[-5].mean() < 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_the_pixels():
    data = encode(Image.fromarray(COLOR), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01")
    assert decode(data).pixels.shape == (32, 48, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    decoded = decode(encode(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert decoded.frames == 3
    assert decoded.pixels[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(format, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), format)
    with pytest.raises(DecodeError):
        decode(data[: int(len(data) * share)])


def test_a_truncated_jpeg_is_called_truncated():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(DecodeError, match=r"^truncated$"):
        decode(encode(Image.fromarray(noise), "JPEG")[:2000])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty file"), (b"hello, I am text", "not an image"), (b"%!PS-Adobe-3.0 EPSF", "not an image")],
)
def test_what_is_no_image_is_refused(data, reason):
    with pytest.raises(DecodeError, match=reason):
        decode(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused(side):
    data = bytearray(encode(Image.new("L", (8, 8))))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    for read in (decode, lambda content: peek_size(io.BytesIO(content))):
        with pytest.raises(DecodeError, match=r"too large.* 89 million"):
            read(bytes(data))


def test_peek_size_reads_the_header_of_a_truncated_file():
    data = encode(Image.fromarray(COLOR), "JPEG")
    assert peek_size(io.BytesIO(data[:-10])) == (48, 32)


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(32, 48, 3), (48, 32, 1), (1, 1, 3), (1, 40, 1), (16, 16, 3)])
def test_resize_gives_the_size_asked_for(how, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    resized = resize(pixels, 16, how)
    assert resized.shape == (16, 16, shape[2]) and resized.dtype == np.uint8


def test_crop_keeps_the_center_and_pad_keeps_all():
    pixels = np.full((20, 60, 3), (10, 20, 30), np.uint8)
    pixels[:, 20:40] = (200, 100, 50)
    assert (resize(pixels, 20, "crop") == (200, 100, 50)).all()
    padded = resize(pixels, 60, "pad")
    np.testing.assert_array_equal(padded[20:40], pixels)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0).round()
    assert (padded[:20] == border).all() and (padded[40:] == border).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 16, "stretch").astype(int) - 128).max() < 20


def test_match_channels():
    gray = RAMP[:, :, None]
    np.testing.assert_array_equal(match_channels(gray, 3), np.repeat(gray, 3, axis=2))
    np.testing.assert_array_equal(match_channels(match_channels(gray, 3), 1), gray)
    assert match_channels(np.full((2, 2, 3), (255, 0, 0), np.uint8), 1)[0, 0, 0] == 76  # .299 * 255


@pytest.mark.parametrize("pixels", [COLOR, RAMP[:, :, None]])
def test_encode_png_is_lossless(pixels):
    np.testing.assert_array_equal(decode(encode_png(pixels)).pixels, pixels)


def test_float_and_back_is_exact():
    import torch

    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = images.to_float(levels)
    assert floats.dtype == torch.float32
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(images.to_uint8(floats), levels)
    assert images.to_uint8(torch.tensor([[[[-3.0, 0.0, 3.0]]]])).flatten().tolist() == [0, 128, 255]


def test_image_grid_places_every_image():
    tiles = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 3, 4, 5), np.uint8)
    sheet = image_grid(tiles, gap=2)
    assert sheet.shape == (2 * 4 + 2, 3 * 5 + 4, 3)
    assert [int(sheet[r * 6, k * 7, 0]) for r in range(2) for k in range(3)] == list(range(6))
    assert (sheet[4:6] == LINE).all()


def test_image_grid_fills_short_rows():
    tile = np.zeros((1, 4, 4), np.uint8)
    sheet = image_grid([[tile, tile], [tile]], gap=1)
    assert sheet.shape == (9, 9, 1)
    assert (sheet[5:, 5:] == LINE).all() and (sheet[5:, :4] == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(COLOR), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = decode(data)
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert (decoded.height, decoded.width) == expected.shape[:2]


def bomb(side, **options):
    return encode(Image.new("L", (side, side), 200), **options)


def test_more_pixels_than_the_bytes_can_hold_are_refused():
    with pytest.raises(DecodeError, match="a bomb, or a false header: 3000x3000"):
        decode(bomb(3000, format="WEBP", lossless=True))
    noise = encode(Image.effect_noise((2300, 2300), 40), "JPEG", quality=10)
    assert decode(noise).width == 2300


def test_a_jpeg_of_very_many_scans_is_refused():
    data = encode(Image.fromarray(COLOR), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(DecodeError, match="more than 100 scans"):
        decode(data[:-2] + scan * 200 + data[-2:])
    assert decode(data[:-2] + scan * 20 + data[-2:]).width == 48


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "CMYK", "I;16", "I", "F", "1"])
def test_large_images_are_halved_in_bands(monkeypatch, mode):
    """The same picture, at half the size, whatever the bands that it went through."""
    ramp = Image.linear_gradient("L").resize((200, 120))
    image = {"I;16": lambda: Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)}.get(
        mode, lambda: ramp.convert(mode)
    )()
    data = encode(image, "TIFF")
    whole = decode(data)
    monkeypatch.setattr(images, "LARGE", 200 * 120 // 4)
    monkeypatch.setattr(images, "BAND", 1500)
    halved = decode(data)
    assert (halved.width, halved.height, halved.mode) == (200, 120, whole.mode)
    assert halved.pixels.shape == (60, 100, whole.pixels.shape[2])
    expected = np.asarray(images.to_pillow(whole.pixels).reduce(2)).reshape(halved.pixels.shape)
    assert np.abs(halved.pixels.astype(int) - expected).max() <= 1


def test_a_large_jpeg_is_decoded_at_half_its_size(monkeypatch):
    data = encode(Image.linear_gradient("L").resize((200, 120)), "JPEG", quality=95)
    whole = decode(data)
    monkeypatch.setattr(images, "LARGE", 200 * 120 // 4)
    halved = decode(data)
    assert (halved.width, halved.height) == (200, 120) and halved.pixels.shape == (60, 100, 1)
    assert np.abs(halved.pixels[..., 0].astype(int) - np.asarray(images.to_pillow(whole.pixels).reduce(2))).mean() < 2


def test_frames_are_counted_up_to_a_limit():
    frames = [Image.new("L", (4, 4), value) for value in range(150)]
    assert decode(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])).frames == images.MAX_FRAMES


def test_a_line_of_pixels_is_padded_in_little_memory():
    padded = resize(np.full((1, 60_000, 3), 90, np.uint8), 16, "pad")
    assert padded.shape == (16, 16, 3) and (padded == 90).all()


def test_what_is_in_memory_at_a_time_is_limited():
    room, most, lock = images.Room(10), [0], threading.Lock()

    def take(amount):
        with room.taking(amount), lock:
            most[0] = max(most[0], room.taken)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [4, 5, 6, 7] * 50))
        list(pool.map(take, [99] * 3))  # more than there is room for: alone
    assert 4 < most[0] <= 99 and room.taken == 0


def test_as_much_as_fits_is_in_memory_together():
    room, both = images.Room(10), threading.Barrier(2, timeout=30)

    def take(amount):
        with room.taking(amount):
            both.wait()  # neither leaves before the other has come

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take, [6, 4]))
    assert room.taken == 0
