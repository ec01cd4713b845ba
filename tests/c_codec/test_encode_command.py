"""`basic-encode`: the files of the package, byte for byte, and one line for whatever is wrong."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure, scene
from PIL import Image

from basic_runtime.codec import Codec
from basic_runtime.container import FILTER, parse


def pnm(pixels: np.ndarray) -> bytes:
    """A PPM or PGM, or a PAM of what has alpha."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels in (1, 3):
        return f"P{5 if channels == 1 else 6} {width} {height} 255\n".encode() + pixels.tobytes()
    head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL 255\nTUPLTYPE ANY\nENDHDR\n"
    return head.encode() + pixels.tobytes()


def encoded(encode: Command, model: Path, pixels: np.ndarray, *options: object) -> bytes:
    result = encode(*options, model, "-", "-", stdin=pnm(pixels))
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("level", range(8))
def test_files_are_those_of_the_package(encode: Command, encoders: Path, level: int) -> None:
    codec, rgb = Codec(threads=1), scene(90, 131, level)
    for quality, effort, pixels in product((1, 55, 100), (0, 1), (rgb, rgb[:, :, 1])):
        found = encoded(encode, encoders, pixels, "-q", quality, "--level", level, "--effort", effort)
        assert found == codec.encode(pixels, quality=quality, level=level, effort=effort)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 1), (64, 64), (65, 63), (1300, 200), (1100, 2200)])
def test_any_size(encode: Command, encoders: Path, size: tuple[int, int]) -> None:
    pixels = scene(*size)
    expected = Codec(threads=1).encode(pixels, level=0)
    for threads in (1, 2):
        assert encoded(encode, encoders, pixels, "--level", 0, "--threads", threads) == expected


def test_pictures_that_get_filters(encode: Command, encoders: Path) -> None:
    """Of small ones all counts, of large ones strips do."""
    codec = Codec(threads=2)
    for height, width in ((400, 400), (1900, 1500)):
        rows, columns = np.mgrid[:height, :width]
        stripes = np.where((rows // 5 + columns // 7) % 2, 200, 40).astype(np.uint8)
        for pixels in (np.repeat(stripes[..., None], 3, 2), stripes):
            data = codec.encode(pixels, quality=90, level=0, effort=1)
            assert FILTER in [chunk.type for chunk in parse(data)[1]]
            assert encoded(encode, encoders, pixels, "-q", 90, "--level", 0) == data


def test_the_defaults(encode: Command, encoders: Path, tmp_path: Path) -> None:
    pixels, source, target = scene(40, 50), tmp_path / "a.ppm", tmp_path / "a.basic"
    Image.fromarray(pixels).save(source)
    assert encode(encoders, source, target).returncode == 0
    assert target.read_bytes() == Codec(threads=1).encode(pixels)


def test_alpha(encode: Command, encoders: Path) -> None:
    codec, rgb = Codec(threads=1), scene(50, 61)
    smooth = np.add.outer(np.arange(50), 3 * np.arange(61)).astype(np.uint8)
    for alpha in (scene(50, 61, 1)[:, :, 0], smooth, np.full((50, 61), 77, np.uint8)):
        for pixels in (rgb, rgb[:, :, 1]):
            data = encoded(encode, encoders, np.dstack([pixels, alpha]), "--level", 0)
            found = codec.decode_picture(data)
            np.testing.assert_array_equal(found.alpha, alpha)
            np.testing.assert_array_equal(found.pixels, codec.decode(codec.encode(pixels, level=0)))
            assert len(data) < len(codec.encode(pixels, level=0, alpha=alpha)) + 50


def test_headers_with_comments(encode: Command, encoders: Path) -> None:
    pixels = scene(20, 30)
    expected = encoded(encode, encoders, pixels, "--level", 0)
    data = b"P6\n# of a camera\n30 # wide\n20\n255\n" + pixels.tobytes()
    assert encode("--level", 0, encoders, "-", "-", stdin=data).stdout == expected


def test_what_cannot_be_encoded(encode: Command, encoders: Path, small_model: Path, tmp_path: Path) -> None:
    source, target, pixels = tmp_path / "a.ppm", tmp_path / "a.basic", scene(20, 30)

    def run(data: bytes, *options: object, model: Path = encoders) -> None:
        source.write_bytes(data)
        result = encode(*options, model, source, target)
        assert not target.exists()
        failure(result, str(source), *texts)

    texts: tuple[str, ...] = ("no picture", ".ppm")
    for data in (
        b"",
        b"P6",
        b"BM",
        b"P6 30 20 65535\n",
        b"P6 30 20 255\n" + bytes(1799),
        b"P7\nWIDTH 3\n",
        b"P6 0 1 255\n",
    ):
        run(data)
    texts = ("30x20 pixels", "599")
    run(pnm(pixels), "--max-pixels", 599)
    texts = ("without encoders", "--encoders")
    run(pnm(pixels), model=small_model)
    failure(encode(encoders, tmp_path / "none.ppm", target), "none.ppm", "cannot be read")
    target.write_bytes(b"kept")
    failure(encode(encoders, source, target), "--overwrite")
    assert target.read_bytes() == b"kept"
    assert encode("--overwrite", encoders, source, target).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a",),
        ("a", "b", "c", "d"),
        ("-q",),
        ("-q", "101", "a", "b", "c"),
        ("-q", "0", "a", "b"),
        ("--effort", "2", "a", "b", "c"),
    ],
)
def test_misuse_is_status_2(encode: Command, arguments: tuple[str, ...]) -> None:
    result = encode(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(b"basic-encode: error: ")
    assert encode("--help").stdout.startswith(b"Usage: basic-encode")


def test_there_and_back_without_python(encode: Command, decode: Command, encoders: Path) -> None:
    pixels = scene(60, 70)
    data = encoded(encode, encoders, pixels, "--level", 3)
    shown = decode(encoders, "-", "-", stdin=data).stdout.partition(b"ENDHDR\n")[2]
    assert shown == Codec(threads=1).decode(data).tobytes()
