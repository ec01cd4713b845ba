"""`basic-encode` reads PNG and JPEG as the package does, by way of Pillow: the same files, metadata and all."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_commands import Command, failure, scene
from PIL import Image, PngImagePlugin

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture

RGB = scene(41, 53)
ALPHA = scene(41, 53, 1)[:, :, 0]


def exif(turn: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = turn, "a camera"
    return tags.tobytes()


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def with_text(xmp: str, packed: bool) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Software", "a program")
    texts.add_itxt("XML:com.adobe.xmp", xmp, zip=packed)
    return texts


PALETTE = Image.fromarray(RGB).quantize(17)
PICTURES = {
    "png-rgb": saved(RGB, "PNG"),
    "png-gray": saved(ALPHA, "PNG"),
    "png-rgba": saved(np.dstack([RGB, ALPHA]), "PNG"),
    "png-gray-alpha": saved(np.dstack([ALPHA, RGB[:, :, 0]]), "PNG"),
    "png-bits": saved(Image.fromarray(ALPHA > 99), "PNG"),
    "png-palette": saved(PALETTE, "PNG"),
    "png-palette-4-bits": saved(Image.fromarray(RGB).quantize(9), "PNG", bits=4),
    "png-palette-transparent": saved(PALETTE, "PNG", transparency=bytes(range(17))),
    "png-transparent-colour": saved(RGB, "PNG", transparency=tuple(int(v) for v in RGB[3, 4])),
    "png-transparent-gray": saved(ALPHA, "PNG", transparency=int(ALPHA[2, 2])),
    "png-deep-gray": saved(np.arange(41 * 53, dtype=np.uint16).reshape(41, 53) * 30, "PNG"),
    "png-metadata": saved(
        RGB, "PNG", exif=exif(), icc_profile=b"no profile at all" * 9, pnginfo=with_text("<x/>", False)
    ),
    "png-packed-text": saved(RGB, "PNG", pnginfo=with_text("<x>" + "far " * 999 + "</x>", True)),
    "jpeg-420": saved(RGB, "JPEG", quality=83),
    "jpeg-422": saved(RGB, "JPEG", subsampling="4:2:2"),
    "jpeg-444": saved(RGB, "JPEG", subsampling="4:4:4"),
    "jpeg-progressive": saved(RGB, "JPEG", progressive=True, quality=60),
    "jpeg-gray": saved(ALPHA, "JPEG"),
    "jpeg-rgb": saved(RGB, "JPEG", keep_rgb=True),
    "jpeg-metadata": saved(RGB, "JPEG", exif=exif(), icc_profile=bytes(range(256)) * 600, xmp=b"<x:xmpmeta/>"),
    "jpeg-one-pixel": saved(RGB[:1, :1], "JPEG"),
}


def expected(data: bytes) -> bytes:
    return Codec(threads=1).encode(read_picture(data), level=0)


@pytest.mark.parametrize("name", PICTURES)
def test_files_are_those_of_the_package(encode: Command, encoders: Path, name: str) -> None:
    result = encode("--level", 0, encoders, "-", "-", stdin=PICTURES[name])
    assert result.returncode == 0, result.stderr
    picture = read_picture(PICTURES[name])
    found, wanted = (
        Codec(threads=1).decode_picture(result.stdout),
        Codec(threads=1).decode_picture(expected(PICTURES[name])),
    )
    np.testing.assert_array_equal(found.pixels, wanted.pixels)
    assert (found.icc, found.exif, found.xmp) == (picture.icc, picture.exif, picture.xmp)
    if picture.alpha is None:
        assert found.alpha is None
        assert result.stdout == expected(PICTURES[name])
    else:
        np.testing.assert_array_equal(found.alpha, picture.alpha)
    notices = result.stderr.decode().splitlines()
    assert notices == [f"basic-encode: note: standard input: {notice}" for notice in picture.notices]


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def deep_png(channels: int, interlaced: bool) -> bytes:
    """A PNG of 16 bits per sample, or an interlaced one, of which Pillow writes neither."""
    height, width = 13, 11
    random = np.random.default_rng(channels)
    values = random.integers(0, 65_536, (height, width, channels)).astype(">u2")
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        for row in values[top::down, left::across]:
            rows += b"\0" + row.tobytes() if row.size else b""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, int(interlaced)])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_and_interlaced_pictures(encode: Command, encoders: Path, channels: int, interlaced: bool) -> None:
    data = deep_png(channels, interlaced)
    result = encode("--level", 0, encoders, "-", "-", stdin=data)
    assert result.returncode == 0
    assert result.stderr == b"basic-encode: note: standard input: 16 bits per sample were reduced to 8\n"
    picture, found = read_picture(data), Codec(threads=1).decode_picture(result.stdout)
    np.testing.assert_array_equal(found.pixels, Codec(threads=1).decode(expected(data)))
    assert (found.alpha is None) == (picture.alpha is None)
    if picture.alpha is not None:
        np.testing.assert_array_equal(found.alpha, picture.alpha)


def test_a_colour_profile_in_parts(encode: Command, encoders: Path) -> None:
    """Out of order they are put in order; where one is missing there is none."""
    profile = np.random.default_rng(1).integers(0, 256, 150_000, dtype=np.uint8).tobytes()
    data = saved(RGB, "JPEG", icc_profile=profile)
    parts = []
    head, rest = data[:2], data[2:]
    while rest[:2] in (b"\xff\xe0", b"\xff\xe2"):
        size = 2 + int.from_bytes(rest[2:4], "big")
        parts.append(rest[:size])
        rest = rest[size:]
    assert len(parts) == 4
    for order, found in ((parts, profile), (parts[::-1], profile), (parts[:3], None)):
        result = encode("--level", 0, encoders, "-", "-", stdin=head + b"".join(order) + rest)
        assert result.returncode == 0, result.stderr
        assert Codec(threads=1).decode_picture(result.stdout).icc == found


def test_what_is_damaged(encode: Command, encoders: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "a.basic"

    def run(data: bytes, *texts: str, options: tuple[object, ...] = ()) -> None:
        source.write_bytes(data)
        failure(encode(*options, encoders, source, target), str(source), *texts)
        assert not target.exists()

    for name in ("png-rgb", "jpeg-420", "jpeg-progressive", "png-metadata"):
        data = PICTURES[name]
        for size in (12, len(data) // 2, len(data) - 20):
            run(data[:size], "damaged", "get the file again")
        run(data, "53x41 pixels", "2172", options=("--max-pixels", 2172))
    broken = bytearray(PICTURES["png-rgb"])
    broken[60] ^= 1
    run(bytes(broken), "damaged")
    run(saved(Image.new("CMYK", (9, 9)), "JPEG"), "4 colours", "CMYK", "RGB")
    run(saved(RGB, "WEBP"), "unknown kind", ".png")
    huge = PICTURES["png-rgb"][:16] + (60_000).to_bytes(4, "big") * 2
    huge += b"\x08\x02\0\0\0"
    huge += zlib.crc32(huge[12:29]).to_bytes(4, "big") + PICTURES["png-rgb"][33:]
    run(huge, "60000x60000 pixels", "128000000")


def test_bytes_changed_at_random(encode: Command, encoders: Path) -> None:
    """A file, or one line."""
    random = np.random.default_rng(7)
    for name in ("png-metadata", "png-palette-transparent", "jpeg-metadata", "jpeg-progressive"):
        for _ in range(6):
            data = bytearray(PICTURES[name])
            for place in random.integers(0, len(data), 4):
                data[place] = random.integers(256)
            result = encode("--level", 0, "--effort", 0, encoders, "-", "-", stdin=bytes(data))
            assert result.returncode in (0, 1), result
            assert result.stderr.count(b"\n") <= 1


def test_long_metadata_are_left_out(encode: Command, encoders: Path) -> None:
    xmp = "<x>" + "x" * (17 << 20) + "</x>"
    data = saved(RGB, "PNG", pnginfo=with_text(xmp, True))
    result = encode("--level", 0, encoders, "-", "-", stdin=data)
    assert result.stderr == b"basic-encode: note: standard input: XMP of more than 16 MiB was left out\n"
    assert Codec(threads=1).decode_picture(result.stdout).xmp is None
