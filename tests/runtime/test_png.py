"""PNG files that are written: what others read from them, and how large they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from basic_runtime import Codec, Picture, read_picture, write_picture
from basic_runtime._native import PngPixels
from basic_runtime.cli import main
from basic_runtime.imageio import image_of
from basic_runtime.profile import synthetic_picture


def written(picture: Picture, threads: int | None = None) -> bytes:
    file = io.BytesIO()
    write_picture(file, picture, "PNG", threads=threads)
    return file.getvalue()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each, whose checksums are right."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(body),)
        found.append((body[:4], body[4:]))
        at += 12 + size
    return found


@settings(deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 60),
    colours=st.booleans(),
    alpha=st.booleans(),
    largest=st.sampled_from([0, 1, 3, 20, 255]),
    runs=st.booleans(),
    seed=st.integers(0, 999),
)
def test_others_read_what_was_written(
    rows: int, columns: int, colours: bool, alpha: bool, largest: int, runs: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    samples = random.integers(0, largest + 1, (rows, columns, 4), np.uint8)
    if runs:
        samples = np.repeat(samples, 9, axis=1)[:, :columns]
    picture = Picture(samples[..., :3] if colours else samples[..., 0], samples[..., 3] if alpha else None)
    data = written(picture)
    assert data == written(picture, threads=1) == written(picture, threads=3)
    image = Image.open(io.BytesIO(data))
    assert image.mode == ("RGB" if colours else "L") + ("A" if alpha else "")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(image_of(picture)))


def test_metadata_stands_before_the_pixels() -> None:
    picture = Picture(synthetic_picture(60, 40), None, b"profile" * 50, b"II*\0rest", "<x>ü</x>".encode())
    found = chunks(written(picture))
    assert [kind for kind, _ in found] == [b"IHDR", b"iCCP", b"eXIf", b"iTXt", b"IDAT", b"IEND"]
    contents = dict(found)
    name, profile = contents[b"iCCP"].split(b"\0\0", 1)
    assert name == b"ICC Profile" and zlib.decompress(profile) == picture.icc
    assert contents[b"eXIf"] == picture.exif
    assert contents[b"iTXt"] == b"XML:com.adobe.xmp" + bytes(5) + "<x>ü</x>".encode()


def test_large_pictures_have_several_chunks_of_pixels() -> None:
    pixels = synthetic_picture(1500, 1000)
    data = written(Picture(pixels))
    parts = [content for kind, content in chunks(data) if kind == b"IDAT"]
    assert len(parts) > 3 and b"".join(parts) == b"".join(PngPixels(pixels, 2))
    np.testing.assert_array_equal(read_picture(data).pixels, pixels)


@pytest.mark.parametrize("kind", ["photo", "page", "noise"])
def test_files_are_about_as_small_as_those_of_zlib_with_runs(kind: str) -> None:
    pixels = synthetic_picture(768, 512)
    if kind == "page":
        pixels = np.where(pixels > 128, 255, 0).astype(np.uint8)
    if kind == "noise":
        pixels = np.random.default_rng(1).integers(0, 256, pixels.shape, np.uint8)
    other = io.BytesIO()
    Image.fromarray(pixels).save(other, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    assert len(written(Picture(pixels))) < 1.03 * len(other.getvalue())


def test_rows_apart_are_taken() -> None:
    pixels = synthetic_picture(64, 64)[::2, ::-1]
    np.testing.assert_array_equal(read_picture(written(Picture(pixels))).pixels, pixels)


def test_what_is_no_picture_is_refused() -> None:
    for shape in ((4,), (2, 2, 5), (2, 2, 0), (0, 4), (4, 0, 3), (2, 2, 2, 2)):
        with pytest.raises(ValueError):
            PngPixels(np.zeros(shape, np.uint8))
    with pytest.raises(TypeError, match="uint8"):
        PngPixels(np.zeros((2, 2), np.int16))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        PngPixels(np.zeros((4, 4), np.uint8)[:, ::2])
    with pytest.raises(ValueError, match="threads"):
        PngPixels(np.zeros((2, 2), np.uint8), threads=0)
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        write_picture(io.BytesIO(), np.zeros((2, 2), np.uint8), "PNG", threads=0)


def test_the_array_is_kept_for_as_long_as_it_is_read() -> None:
    pixels = synthetic_picture(1500, 1000)
    expected = b"".join(PngPixels(pixels))
    parts = PngPixels(pixels.copy())
    filler = [np.zeros_like(pixels) for _ in range(4)]
    assert b"".join(parts) == expected and len(filler) == 4
    assert list(parts) == []  # at its end it stays there


def test_a_decode_writes_the_same_file_with_any_threads(tmp_path: Path) -> None:
    codec = Codec(threads=1)
    (tmp_path / "a.basic").write_bytes(codec.encode(synthetic_picture(900, 400), level=0, effort=0))
    for threads in ("1", "2"):
        command = ["decode", tmp_path / "a.basic", "-o", tmp_path / f"{threads}.png", "--threads", threads]
        assert CliRunner().invoke(main, [str(part) for part in command]).exit_code == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
