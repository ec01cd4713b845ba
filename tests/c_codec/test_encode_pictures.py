"""`basic-encode` reads PNG and JPEG as the package does, by way of Pillow: the same files, metadata and all."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure
from pictures import PICTURES, RGB, deep_png, saved, with_text
from PIL import Image

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=1)


@pytest.mark.parametrize("name", PICTURES)
def test_files_are_those_of_the_package(encode: Command, encoders: Path, codec: Codec, name: str) -> None:
    result = encode("--level", 0, encoders, "-", "-", stdin=PICTURES[name])
    assert result.returncode == 0, result.stderr
    picture = read_picture(PICTURES[name])
    expected = codec.encode(picture, level=0)
    found = codec.decode_picture(result.stdout)
    np.testing.assert_array_equal(found.pixels, codec.decode(expected))
    assert (found.icc, found.exif, found.xmp) == (picture.icc, picture.exif, picture.xmp)
    if picture.alpha is None:
        assert found.alpha is None
        assert result.stdout == expected
    else:
        np.testing.assert_array_equal(found.alpha, picture.alpha)
    notices = result.stderr.decode().splitlines()
    assert notices == [f"basic-encode: note: standard input: {notice}" for notice in picture.notices]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_and_interlaced_pictures(
    encode: Command, encoders: Path, codec: Codec, channels: int, interlaced: bool
) -> None:
    data = deep_png(channels, interlaced)
    result = encode("--level", 0, encoders, "-", "-", stdin=data)
    assert result.returncode == 0
    assert result.stderr == b"basic-encode: note: standard input: 16 bits per sample were reduced to 8\n"
    picture, found = read_picture(data), codec.decode_picture(result.stdout)
    np.testing.assert_array_equal(found.pixels, codec.decode(codec.encode(picture, level=0)))
    assert (found.alpha is None) == (picture.alpha is None)
    if picture.alpha is not None:
        np.testing.assert_array_equal(found.alpha, picture.alpha)


def test_a_colour_profile_in_parts(encode: Command, encoders: Path, codec: Codec) -> None:
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
        assert codec.decode_picture(result.stdout).icc == found


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
    run(saved(np.zeros((1, 70_000), np.uint8), "PNG"), "70000x1 pixels", "65535")
    data = PICTURES["png-metadata"]
    long_text = data[:33] + (1_700_000_000).to_bytes(4, "big") + b"tEXt" + data[33:]
    run(long_text, "cut off")  # before there is memory for it
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


def test_long_metadata_are_left_out(encode: Command, encoders: Path, codec: Codec) -> None:
    xmp = "<x>" + "x" * (17 << 20) + "</x>"
    data = saved(RGB, "PNG", pnginfo=with_text(xmp, True))
    result = encode("--level", 0, encoders, "-", "-", stdin=data)
    assert result.stderr == b"basic-encode: note: standard input: XMP of more than 16 MiB was left out\n"
    assert codec.decode_picture(result.stdout).xmp is None
