"""Damaged images: small files of every format, with a fault or two that their format's own structure allows.

A mutation takes a file's parts, chunks or segments or the entries of a directory, and returns the file with one of them lying, missing,
doubled, moved or cut; checksums are mended in most, so that the fault reaches the decoder.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
from PIL import Image

SIDE = 24  # pixels of the images that are damaged
SIZES = (0, 1, 3, 255, 4096, 16_384, 65_535, 70_000, 2**24, 2**31 - 1, 2**32 - 1)  # that headers may claim
Mutation = Callable[[bytes, Random], bytes]


def write_seeds(rng: Random) -> dict[str, list[bytes]]:
    """Whole images of each format and of the modes that it has: {suffix: files}."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    coarse = numbers.integers(0, 256, (5, 5, 4), dtype=np.uint8)
    rgba = Image.fromarray(coarse).resize((SIDE, SIDE + 4), Image.Resampling.BICUBIC)
    rgb, gray = rgba.convert("RGB"), rgba.convert("L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    floats = Image.fromarray(np.asarray(gray).astype(np.float32) / 255)
    integers = Image.fromarray(np.asarray(gray).astype(np.int32) * 300)
    more = [rgb.rotate(90 * turn) for turn in range(3)]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"

    def save(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    bitmaps = [rgb, gray, gray.convert("1"), rgb.convert("P"), rgba]
    return {
        ".png": [
            *(save(image, "PNG") for image in (*bitmaps, gray.convert("LA"), deep)),
            save(rgb.convert("P"), "PNG", transparency=3),
            save(rgb, "PNG", exif=exif, dpi=(72, 72)),
            save(more[0], "PNG", save_all=True, append_images=more[1:]),
        ],
        ".jpg": [
            *(save(image, "JPEG") for image in (rgb, gray, rgb.convert("CMYK"))),
            save(rgb, "JPEG", progressive=True, exif=exif),
            save(rgb, "JPEG", subsampling=0, restart_marker_blocks=1),
            save(rgb, "JPEG", progressive=True, quality=95, comment="a comment"),
        ],
        ".tif": [
            *(
                save(image, "TIFF")
                for image in (*bitmaps, rgb.convert("CMYK"), rgb.convert("LAB"), deep, floats, integers)
            ),
            *(save(rgb, "TIFF", compression=how) for how in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
            save(gray.convert("1"), "TIFF", compression="group4"),
            save(more[0], "TIFF", save_all=True, append_images=more[1:]),
            save(rgb, "TIFF", big_tiff=True),
        ],
        ".webp": [
            save(rgb, "WEBP"),
            save(rgba, "WEBP", lossless=True),
            save(rgba, "WEBP", exif=exif, quality=50),
            save(more[0], "WEBP", save_all=True, append_images=more[1:]),
        ],
        ".bmp": [save(image, "BMP") for image in bitmaps],
    }


def write_mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` of them, (name of its mutation and its suffix, bytes): every fifth of one format, one in ten with two faults, and one in
    forty under a suffix that lies."""
    rng = Random(seed)
    seeds = write_seeds(rng)
    suffixes = list(seeds)
    for number in range(count):
        suffix = suffixes[number % len(suffixes)]
        content, names = rng.choice(seeds[suffix]), []
        for _ in range(2 if rng.random() < 0.1 else 1):
            name = rng.choice(list(MUTATIONS[suffix]))
            try:
                content = MUTATIONS[suffix][name](content, rng)
            except (struct.error, IndexError, ValueError, zlib.error):  # what a second fault finds no structure for
                content = cut(content, rng)
            names.append(name.replace(" ", "-"))
        shown = rng.choice(suffixes) if rng.random() < 0.025 else suffix
        yield f"{number:05d}-{'+'.join(names)}{shown}", content


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def flip(content: bytes, rng: Random) -> bytes:
    """Other bytes in a few places."""
    spoiled = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64)) if spoiled else 0):
        spoiled[rng.randrange(len(spoiled))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(spoiled)


def remove(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 2, 4, 100)) :]


def insert(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.choice((1, 4, 1000))) + content[start:]


def append(content: bytes, rng: Random) -> bytes:
    return content + rng.choice((rng.randbytes(5000), content, b"\0" * 100_000))


ANY: dict[str, Mutation] = {"cut": cut, "flip": flip, "remove": remove, "insert": insert, "append": append}


def rearrange(parts: list[bytes], rng: Random) -> list[bytes]:
    """One part doubled, doubled many times, missing, elsewhere, or cut."""
    index, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    part, rest = parts[index], parts[:index] + parts[index + 1 :]
    ways = (
        lambda: [*parts[:index], part, *parts[index:]],
        lambda: [*parts[:index], *[part] * 200, *parts[index:]],
        lambda: rest,
        lambda: [*rest[:other], part, *rest[other:]],
        lambda: [*parts[:index], cut(part, rng), *parts[index + 1 :]],
    )
    return rng.choice(ways)()


# PNG: https://www.w3.org/TR/png-3/


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_chunk(kind: bytes, body: bytes, length: int | None = None, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body) if length is None else length) + kind + body + struct.pack(">I", crc)


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_header(content: bytes, rng: Random) -> bytes:
    """Another size, depth, kind, filter or interlacing in IHDR, which its checksum confirms."""
    chunks = png_chunks(content)
    fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    index = rng.randrange(7)
    fields[index] = rng.choice(SIZES) if index < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    if index == 0 and rng.random() < 0.5:
        fields[:2] = [rng.choice((3000, 9000, 60_000))] * 2
    return png_of([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *chunks[1:]])


def png_length(content: bytes, rng: Random) -> bytes:
    chunks = [png_chunk(*chunk) for chunk in png_chunks(content)]
    index = rng.randrange(len(chunks))
    lie = struct.pack(">I", rng.choice((0, 1, len(chunks[index]), 2**31, 2**32 - 1)))
    return content[:8] + b"".join(lie + part[4:] if place == index else part for place, part in enumerate(chunks))


def png_checksum(content: bytes, rng: Random) -> bytes:
    chunks = png_chunks(content)
    index = rng.randrange(len(chunks))
    return content[:8] + b"".join(
        png_chunk(*chunk, checksum=rng.randrange(2**32) if place == index else None)
        for place, chunk in enumerate(chunks)
    )


def png_order(content: bytes, rng: Random) -> bytes:
    return content[:8] + b"".join(rearrange([png_chunk(*chunk) for chunk in png_chunks(content)], rng))


def png_body(content: bytes, rng: Random) -> bytes:
    """Other bytes in a chunk, whose checksum is mended."""
    chunks = png_chunks(content)
    index = rng.randrange(len(chunks))
    chunks[index] = (chunks[index][0], rng.choice((flip, cut))(chunks[index][1], rng))
    return png_of(chunks)


def png_pixels(content: bytes, rng: Random) -> bytes:
    """Fewer, more, many more or other pixels than the header says, well compressed."""
    chunks = png_chunks(content)
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    raw = rng.choice((raw[: len(raw) // 2], raw * 3, rng.randbytes(len(raw)), b"", bytes(20_000_000), flip(raw, rng)))
    whole = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    return png_of([*whole[:-1], (b"IDAT", zlib.compress(raw)), whole[-1]])


def png_extra(content: bytes, rng: Random) -> bytes:
    """A chunk beside the pixels that lies, is of an odd length, or unpacks to 50 megabytes."""
    bomb = zlib.compress(bytes(50_000_000))
    extras = (
        (b"zTXt", b"a\0\0" + bomb),
        (b"iTXt", b"a\0\1\0\0\0" + bomb),
        (b"iCCP", b"a\0\0" + bomb),
        (b"tEXt", b"a\0" + b"x" * 100_000),
        (b"acTL", struct.pack(">II", rng.choice((0, 2**31 - 1, 2**32 - 1)), 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, *rng.choices(SIZES, k=4), 1, 0, 2, 2)),
        (b"fdAT", b"\0"),
        (b"tRNS", rng.randbytes(rng.choice((0, 1, 5, 300)))),
        (b"PLTE", rng.randbytes(rng.choice((0, 1, 3, 5, 3000)))),
        (b"eXIf", rng.randbytes(40)),
        (b"gAMA", b""),
        (b"pHYs", b"\0"),
        (rng.randbytes(4), b""),
    )
    chunks = png_chunks(content)
    place = rng.randrange(len(chunks) + 1)
    return png_of([*chunks[:place], rng.choice(extras), *chunks[place:]])


# JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf


def jpeg_segments(content: bytes) -> list[bytes]:
    """Markers with what belongs to them; the scan's data stay with its header."""
    parts, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in (0xD9, 0x01):
            break
        end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
        if content[at + 1] == 0xDA:
            while end < len(content) and not (
                content[end] == 0xFF and content[end + 1 : end + 2] not in (b"\0", *RESTARTS)
            ):
                end += 1
        parts.append(content[at:end])
        at = end
    return [*parts, content[at:]]


RESTARTS = tuple(bytes([marker]) for marker in range(0xD0, 0xD8))
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_frame(content: bytes, rng: Random) -> bytes:
    """Another size, precision, number of components or sampling in the frame's header."""
    parts = jpeg_segments(content)
    index = next(place for place, part in enumerate(parts) if part[1] in FRAMES)
    frame = bytearray(parts[index])
    which = rng.randrange(5)
    if which < 2:
        struct.pack_into(">H", frame, 5 + 2 * which, rng.choice((0, 1, 7, 3000, 20_000, 65_535)))
    elif which == 2:
        struct.pack_into(">HH", frame, 5, *rng.choice(((9000, 9000), (65_500, 1300), (65_500, 65_500))))
    else:
        frame[rng.choice((1, 4, 9, 10, 11, 12, 14))] = rng.choice((0, 1, 0x11, 0x41, 0xC2, 0xFF))
    return b"".join([*parts[:index], bytes(frame), *parts[index + 1 :]])


def jpeg_length(content: bytes, rng: Random) -> bytes:
    parts = jpeg_segments(content)
    index = rng.randrange(1, len(parts) - 1)
    lie = struct.pack(">H", rng.choice((0, 1, 2, 3, 1000, 65_535)))
    return b"".join([*parts[:index], parts[index][:2], lie, parts[index][4:], *parts[index + 1 :]])


def jpeg_order(content: bytes, rng: Random) -> bytes:
    return b"".join(rearrange(jpeg_segments(content), rng))


def jpeg_body(content: bytes, rng: Random) -> bytes:
    parts = jpeg_segments(content)
    index = rng.randrange(1, len(parts) - 1)
    parts[index] = parts[index][:4] + flip(parts[index][4:], rng)
    return b"".join(parts)


def jpeg_scans(content: bytes, rng: Random) -> bytes:
    """The scans, many times over, in a frame of up to 67 million pixels."""
    parts = jpeg_segments(content)
    scans = [part for part in parts if part[1] == 0xDA]
    whole = b"".join([*parts[:-1], *scans * rng.choice((2, 20, 500)), parts[-1]])
    return jpeg_frame(whole, rng) if rng.random() < 0.5 else whole


def jpeg_extra(content: bytes, rng: Random) -> bytes:
    extras = (
        (0xE1, b"Exif\0\0" + rng.randbytes(60)),
        (0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\x08\0\0\0" * 20),
        (0xE2, b"ICC_PROFILE\0\x01\xff" + rng.randbytes(50)),
        (0xE2, b"MPF\0" + rng.randbytes(40)),
        (0xED, b"Photoshop 3.0\0" + rng.randbytes(40)),
        (0xEE, b"Adobe\0\x64\0\0\0\0" + rng.choice((b"\0", b"\2", b"\xff"))),
        (0xDD, struct.pack(">H", rng.choice((0, 1, 65_535)))),
        (0xC4, rng.randbytes(30)),
        (0xDB, rng.randbytes(66)),
        (0xFE, b"x" * 65_000),
        (rng.randrange(0xC0, 0xFF), rng.randbytes(10)),
    )
    parts = jpeg_segments(content)
    place = rng.randrange(1, len(parts))
    return b"".join([*parts[:place], jpeg_segment(*rng.choice(extras)), *parts[place:]])


# TIFF: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf

TAGS = (256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 284, 296, 317, 320, 322, 323, 324, 325, 330, 338,
        339, 347, 34665, 34675)  # fmt: skip


def tiff_entries(content: bytes) -> tuple[str, int, int]:
    """Byte order, where the first directory's entries begin, how many they are; of classic TIFF."""
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", content, 4)
    return order, at + 2, struct.unpack_from(order + "H", content, at)[0]


def tiff_entry(content: bytes, rng: Random) -> bytes:
    """An entry of another tag, kind, count or value."""
    order, start, count = tiff_entries(content)
    spoiled = bytearray(content)
    at = start + 12 * rng.randrange(count)
    what = rng.randrange(4)
    if what == 0:
        struct.pack_into(order + "H", spoiled, at, rng.choice(TAGS))
    elif what == 1:
        struct.pack_into(order + "H", spoiled, at + 2, rng.choice((*range(19), 255, 65_535)))
    elif what == 2:
        struct.pack_into(order + "I", spoiled, at + 4, rng.choice((*SIZES, 2**20)))
    else:
        struct.pack_into(order + "I", spoiled, at + 8, rng.choice((*SIZES, *range(9), len(content), len(content) - 2)))
    return bytes(spoiled)


def tiff_size(content: bytes, rng: Random) -> bytes:
    """Other widths, heights, bits, samples, strips or compression."""
    order, start, count = tiff_entries(content)
    spoiled = bytearray(content)
    wanted = rng.choice(((256, 257), (256,), (257,), (258,), (259,), (262,), (273,), (277,), (278,), (279,), (339,)))
    value = rng.choice((*SIZES, 2, 4, 5, 7, 8, 16, 32, 9000, 32_773, 32_946, 34_676, 34_925, 50_000, 50_001))
    for at in range(start, start + 12 * count, 12):
        if struct.unpack_from(order + "H", spoiled, at)[0] in wanted:
            struct.pack_into(order + "HII", spoiled, at + 2, 4, 1, value)
    return bytes(spoiled)


def tiff_order(content: bytes, rng: Random) -> bytes:
    order, start, count = tiff_entries(content)
    entries = [content[at : at + 12] for at in range(start, start + 12 * count, 12)]
    entries = [entry.ljust(12, b"\0") for entry in rearrange(entries, rng)]
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack(order + "I", len(content)) + content[8:] + directory


def tiff_chain(content: bytes, rng: Random) -> bytes:
    """The next directory is the same one, outside the file, or one of very many."""
    order, start, count = tiff_entries(content)
    directory = content[start - 2 : start + 12 * count]
    many = rng.choice((0, 1, 3000))
    whole, at = bytearray(content), len(content)
    for number in range(many):
        whole += directory + struct.pack(order + "I", at + (number + 1) * (len(directory) + 4))
    after = rng.choice((start - 2, 2**32 - 1, 1, 0)) if not many else at
    struct.pack_into(order + "I", whole, start + 12 * count, after)
    return bytes(whole)


def tiff_values(content: bytes, rng: Random) -> bytes:
    """NaN, infinity and extremes among the pixels, which stand behind the directory or before it."""
    values = rng.choice((float("nan"), float("inf"), -float("inf"), 3.4e38, 1e-45))
    spoiled = bytearray(content)
    for _ in range(20):
        struct.pack_into("<f", spoiled, rng.randrange(8, len(spoiled) - 4) // 4 * 4, values)
    return bytes(spoiled)


# WebP: https://developers.google.com/speed/webp/docs/riff_container


def riff_chunks(content: bytes) -> list[bytes]:
    chunks, at = [], 12
    while at + 8 <= len(content):
        end = at + 8 + struct.unpack_from("<I", content, at + 4)[0]
        chunks.append(content[at : end + end % 2])
        at = end + end % 2
    return chunks


def riff_of(chunks: Sequence[bytes]) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_length(content: bytes, rng: Random) -> bytes:
    lie = struct.pack("<I", rng.choice((0, 1, 12, len(content), 2**31, 2**32 - 1)))
    if rng.random() < 0.3:
        return content[:4] + lie + content[8:]
    chunks = riff_chunks(content)
    index = rng.randrange(len(chunks))
    chunks[index] = chunks[index][:4] + lie + chunks[index][8:]
    return riff_of(chunks)


def riff_order(content: bytes, rng: Random) -> bytes:
    return riff_of(rearrange(riff_chunks(content), rng))


def riff_body(content: bytes, rng: Random) -> bytes:
    chunks = riff_chunks(content)
    index = rng.randrange(len(chunks))
    chunks[index] = chunks[index][:8] + flip(chunks[index][8:], rng)
    return riff_of(chunks)


def riff_size(content: bytes, rng: Random) -> bytes:
    """Another canvas, or another size of the image in it."""
    chunks = riff_chunks(content)
    index = rng.randrange(len(chunks))
    at = {b"VP8 ": 14, b"VP8L": 9, b"VP8X": 12, b"ANMF": 14, b"ANIM": 8}.get(chunks[index][:4], 8)
    side = rng.choice((0, 1, 8000, 16_383, 2**24 - 1)).to_bytes(3, "little")
    chunks[index] = chunks[index][:at] + side + chunks[index][at + 3 :]
    return riff_of(chunks)


def riff_frames(content: bytes, rng: Random) -> bytes:
    """Frames and the like that the file has not announced, or very many of them."""
    chunks = riff_chunks(content)
    extra = (
        rng.choice((b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"ICCP", b"VP8X")) + struct.pack("<I", 16) + rng.randbytes(16)
    )
    place = rng.randrange(len(chunks) + 1)
    return riff_of([*chunks[:place], *[extra] * rng.choice((1, 500)), *chunks[place:]])


# BMP: https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-bitmapinfoheader

BMP_FIELDS = ((2, "I"), (10, "I"), (14, "I"), (18, "i"), (22, "i"), (26, "H"), (28, "H"), (30, "I"), (34, "I"),
              (46, "I"), (50, "I"))  # fmt: skip


def bmp_header(content: bytes, rng: Random) -> bytes:
    """Another offset, size, sign of the height, depth, compression or number of colors."""
    at, kind = rng.choice(BMP_FIELDS)
    limit = {"I": 2**32 - 1, "i": 2**31 - 1, "H": 65_535}[kind]
    values = [value for value in (*SIZES, *range(9), 12, 16, 24, 32, 40, 108, 124, 9000) if value <= limit]
    value = rng.choice(values) * (rng.choice((1, -1)) if kind == "i" else 1)
    spoiled = bytearray(content)
    struct.pack_into("<" + kind, spoiled, at, value)
    if at == 18 and rng.random() < 0.5:
        struct.pack_into("<ii", spoiled, 18, 9000, 9000)
    return bytes(spoiled)


def bmp_run_lengths(content: bytes, rng: Random) -> bytes:
    """Compressed by runs of any bytes, in a palette image."""
    spoiled = bytearray(content)
    struct.pack_into("<HI", spoiled, 28, *rng.choice(((8, 1), (4, 2))))
    start = struct.unpack_from("<I", spoiled, 10)[0]
    return bytes(spoiled[:start]) + rng.choice(
        (rng.randbytes(4000), b"\0\2\xff\xff" * 500, b"\xff\1" * 90_000, b"\0\0" * 9000)
    )


MUTATIONS: dict[str, dict[str, Mutation]] = {
    ".png": {"header": png_header, "length": png_length, "checksum": png_checksum, "order": png_order, "body": png_body,
             "pixels": png_pixels, "extra": png_extra, **ANY},
    ".jpg": {"frame": jpeg_frame, "length": jpeg_length, "order": jpeg_order, "body": jpeg_body, "scans": jpeg_scans,
             "extra": jpeg_extra, **ANY},
    ".tif": {"entry": tiff_entry, "size": tiff_size, "order": tiff_order, "chain": tiff_chain, "values": tiff_values, **ANY},
    ".webp": {"length": riff_length, "order": riff_order, "body": riff_body, "size": riff_size, "frames": riff_frames, **ANY},
    ".bmp": {"header": bmp_header, "run lengths": bmp_run_lengths, **ANY},
}  # fmt: skip
