"""Pictures in and out: every kind that Pillow's five formats hold, metadata, orientation, and bad input."""

from __future__ import annotations

import io
import struct
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, features

from basic_runtime.errors import BasicError, FileError, ImageError, LimitError
from basic_runtime.imageio import (
    FORMATS,
    input_extensions,
    output_format,
    read_picture,
    write_picture,
)
from basic_runtime.limits import Limits
from basic_runtime.picture import Picture
from basic_runtime.webp import canvas_size

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (11, 17, 3), np.uint8)
GRAY = RNG.integers(0, 256, (11, 17), np.uint8)
ALPHA = RNG.integers(0, 256, (11, 17), np.uint8)
ICC = b"\0\0\x02\x0cNONE\x02\x10\0\0mntrRGB XYZ " + bytes(500)
GRAY_ICC = ICC.replace(b"RGB ", b"GRAY")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note>\xc3\xa9</note></x:xmpmeta>'
EXTENSION = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "PPM": "ppm"}
LOSSLESS = ("PNG", "WEBP", "TIFF", "PPM")
WITH_METADATA = ("PNG", "JPEG", "WEBP", "TIFF")


def exif_bytes(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def exif_tags(exif: bytes | None) -> tuple[Any, ...]:
    assert exif is not None and exif[:2] in (b"II", b"MM")
    parsed = Image.Exif()
    parsed.load(exif)
    return parsed.get(0x0112), parsed.get(0x010F), parsed.get_ifd(0x8769).get(0x9003)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def assert_equal(picture: Picture, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.pixels.flags.c_contiguous and picture.pixels.dtype == np.uint8


# --- round trips through files ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_pixels_survive_lossless_formats(tmp_path: Path, kind: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"picture.{EXTENSION[kind]}"
    assert write_picture(path, Picture(pixels)) == []
    back = read_picture(path)
    if kind == "WEBP" and pixels.ndim == 2:  # the one format without gray
        pixels = np.dstack([pixels] * 3)
    assert_equal(back, pixels)
    assert back.notices == []
    notices = write_picture(tmp_path / "a.tif", Picture(RGB, exif=b"not exif"))
    assert notices == ["damaged EXIF was left out"]
    big = saved(Image.fromarray(RGB), "PNG", icc_profile=ICC)
    picture = read_picture(big, Limits(max_metadata_bytes=100))
    assert picture.icc is None and "ICC of 524 bytes was left out" in picture.notices[0]


@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_pixels_alone_can_be_written(tmp_path: Path, pixels: np.ndarray) -> None:
    write_picture(tmp_path / "a.png", pixels)
    assert_equal(read_picture(tmp_path / "a.png"), pixels)
    with pytest.raises(ValueError, match="pixels must be uint8"):
        write_picture(tmp_path / "b.png", pixels.astype(np.float32))
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_jpeg_is_close_and_keeps_gray(tmp_path: Path, pixels: np.ndarray) -> None:
    smooth = np.sort(np.sort(pixels, axis=0), axis=1)
    write_picture(tmp_path / "a.jpeg", Picture(smooth))
    back = read_picture(tmp_path / "a.jpeg")
    assert back.gray == (pixels.ndim == 2)
    assert np.abs(back.pixels.astype(int) - smooth).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_alpha_survives(tmp_path: Path, kind: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"picture.{EXTENSION[kind]}"
    write_picture(path, Picture(pixels, ALPHA))
    colour = np.dstack([pixels] * 3) if kind == "WEBP" and pixels.ndim == 2 else pixels
    assert_equal(read_picture(path), colour, ALPHA)


@pytest.mark.parametrize("kind", ["JPEG", "PPM"])
def test_alpha_goes_on_white_where_there_is_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{EXTENSION[kind]}"
    black = np.zeros((8, 8, 3), np.uint8)
    notices = write_picture(path, Picture(black, np.full((8, 8), 55, np.uint8)))
    assert any("no transparency" in notice for notice in notices)
    assert abs(int(read_picture(path).pixels.mean()) - 200) <= 1


@pytest.mark.parametrize("kind", WITH_METADATA)
@pytest.mark.parametrize("orientation", [1, 6])
def test_metadata_survives(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / f"picture.{EXTENSION[kind]}"
    assert write_picture(path, Picture(RGB, None, ICC, exif_bytes(orientation), XMP)) == []
    back = read_picture(path)
    assert back.icc == ICC and back.xmp == XMP
    # Pillow turns the pixels of a TIFF when it reads them, and then drops the tag.
    turned = kind == "TIFF" and orientation == 6
    assert exif_tags(back.exif) == (None if turned else orientation, "Maker", "2024:05:06 07:08:09")
    assert back.pixels.shape == ((17, 11, 3) if turned else (11, 17, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_ppm_is_turned_upright_as_a_viewer_would(tmp_path: Path, orientation: int) -> None:
    exif = exif_bytes(orientation)
    notices = write_picture(tmp_path / "a.ppm", Picture(RGB, exif=exif))
    reference = Image.fromarray(RGB)
    reference.getexif()[0x0112] = orientation
    assert_equal(read_picture(tmp_path / "a.ppm"), np.asarray(ImageOps.exif_transpose(reference)))
    assert any("turned upright" in notice for notice in notices) == (orientation != 1)
    assert any("no metadata" in notice for notice in notices)


def test_orientation_is_kept_and_pixels_are_not_turned(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(RGB, exif=exif_bytes(8)))
    back = read_picture(tmp_path / "a.png")
    assert_equal(back, RGB)
    assert exif_tags(back.exif)[0] == 8


def test_oversized_and_unsuitable_metadata_is_left_out_with_a_notice(tmp_path: Path) -> None:
    notices = write_picture(tmp_path / "a.jpg", Picture(RGB, xmp=b"x" * 70_000))
    assert notices == ["JPEG holds at most 64 KB of XMP: it was left out"]
    notices = write_picture(tmp_path / "a.webp", Picture(GRAY, icc=GRAY_ICC))
    assert "gray colour profile" in notices[0] and read_picture(tmp_path / "a.webp").icc is None
    assert write_picture(tmp_path / "b.webp", Picture(GRAY, icc=ICC)) == []  # as RGB, which the profile is for
    assert read_picture(tmp_path / "b.webp").icc == ICC


@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_png_has_profiles_for_its_pixels_alone(pixels: np.ndarray) -> None:
    """Viewers refuse others."""
    suited, other = (ICC, GRAY_ICC) if pixels.ndim == 3 else (GRAY_ICC, ICC)
    for profile, kept in ((suited, suited), (other, None), (b"unknown", b"unknown")):
        file = io.BytesIO()
        notices = write_picture(file, Picture(pixels, icc=profile), "PNG")
        assert read_picture(file.getvalue()).icc == kept
        assert ("colour profile" in "".join(notices)) == (kept is None)


# --- kinds of pictures -----------------------------------------------------------------------------------


def test_one_bit_picture_becomes_gray() -> None:
    bits = GRAY > 127
    assert_equal(read_picture(saved(Image.fromarray(bits), "PNG")), (bits * 255).astype(np.uint8))


def test_palette_picture_becomes_rgb() -> None:
    image = Image.fromarray(RGB).quantize(16)
    assert_equal(read_picture(saved(image, "PNG")), np.asarray(image.convert("RGB")))


def test_palette_with_transparency_becomes_rgb_and_alpha() -> None:
    image = Image.fromarray(RGB).quantize(16)
    picture = read_picture(saved(image, "PNG", transparency=bytes([0, 100])))
    expected = np.asarray(image)
    np.testing.assert_array_equal(picture.alpha, np.choose(np.minimum(expected, 2), [0, 100, 255]))


def test_transparent_colour_becomes_alpha() -> None:
    gray = read_picture(saved(Image.fromarray(GRAY), "PNG", transparency=int(GRAY[0, 0])))
    assert_equal(gray, GRAY, np.where(GRAY[0, 0] == GRAY, 0, 255).astype(np.uint8))
    rgb = read_picture(saved(Image.fromarray(RGB), "PNG", transparency=tuple(int(v) for v in RGB[0, 0])))
    assert rgb.alpha is not None and rgb.alpha[0, 0] == 0 and rgb.alpha[1:].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_reduced_with_a_notice(kind: str) -> None:
    deep = GRAY.astype(np.uint16) * 257
    picture = read_picture(saved(Image.fromarray(deep), kind))
    assert_equal(picture, GRAY)
    assert picture.notices == ["16 bits per sample were reduced to 8"]


def png_16_bit(samples: np.ndarray, colour_type: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    height, width = samples.shape[:2]
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour_type, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_16_bit_rgb_and_alpha_png_are_reduced_with_a_notice() -> None:
    for samples, colour_type, pixels, alpha in [
        (RGB, 2, RGB, None),
        (np.dstack([GRAY, ALPHA]), 4, GRAY, ALPHA),
        (np.dstack([RGB, ALPHA]), 6, RGB, ALPHA),
    ]:
        picture = read_picture(png_16_bit(samples.astype(np.uint16) * 257, colour_type))
        assert_equal(picture, pixels, alpha)
        assert picture.notices == ["16 bits per sample were reduced to 8"]


def test_16_bit_rgb_ppm_is_reduced_with_a_notice() -> None:
    data = b"P6 17 11 65535\n" + (RGB.astype(">u2") * 257).tobytes()
    picture = read_picture(data)
    assert_equal(picture, RGB)
    assert picture.notices == ["16 bits per sample were reduced to 8"]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_a_damaged_profile_is_converted_without(kind: str) -> None:
    image = Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).convert("CMYK")
    picture = read_picture(saved(image, kind, icc_profile=ICC))
    assert not picture.gray and picture.icc is None
    assert abs(int(picture.pixels.mean()) - 90) < 4
    assert any("to RGB without its colour profile, which does not fit" in notice for notice in picture.notices)


def profile_of_gray_inks() -> bytes:
    """An ICC profile (ICC.1:2001-04) of four gray inks, each of which takes off a quarter of L."""
    identity = bytes(range(256))
    corners = b"".join(bytes([255 - 255 * number.bit_count() // 4, 128, 128]) for number in range(16))
    matrix = struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * identity + corners + 3 * identity
    tags = struct.pack(">I4sII", 1, b"A2B0", 128 + 16, len(lut))
    head = struct.pack(">I4xI4s4s4s12x4s", 128 + len(tags) + len(lut), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    white = struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(68, b"\0") + white + bytes(128 - 80) + tags + lut


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_srgb_by_its_profile(kind: str) -> None:
    for inks, expected in (((0, 0, 0, 0), 255), ((128, 128, 128, 128), 119), ((255, 0, 255, 0), 119)):
        image = Image.new("CMYK", (9, 7), inks)
        picture = read_picture(saved(image, kind, icc_profile=profile_of_gray_inks()))
        assert picture.pixels.shape == (7, 9, 3) and np.abs(picture.pixels.astype(int) - expected).max() <= 4
    assert picture.icc is None and picture.notices == ["CMYK was converted to sRGB by its colour profile"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_first_of_several_pictures_is_used_with_a_notice(kind: str) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    picture = read_picture(saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True))
    assert_equal(picture, RGB)
    assert picture.notices == ["holds more than one picture: only the first is used"]


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1)])
@pytest.mark.parametrize("kind", FORMATS)
def test_thin_pictures(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"thin.{EXTENSION[kind]}"
    write_picture(path, Picture(np.full((*size, 3), 200, np.uint8)))
    assert read_picture(path).pixels.shape == (*size, 3)


# --- bad input, a test each ------------------------------------------------------------------------------


def test_missing_file() -> None:
    with pytest.raises(FileError, match=r"^no/such\.png: cannot be read \(no such file .*\): check"):
        read_picture("no/such.png")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a directory"):
        read_picture(tmp_path)


def test_an_empty_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match=r"a\.png: the file is empty: get the file again"):
        read_picture(tmp_path / "a.png")


def test_not_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    for content in (b"some text", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"notes\.png: not a picture of a known format: convert"):
            read_picture(path)


def test_picture_of_a_format_that_is_not_read() -> None:
    with pytest.raises(ImageError, match="not a picture of a known format"):
        read_picture(saved(Image.fromarray(RGB), "TGA"))


@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_formats_that_are_only_read(pixels: np.ndarray) -> None:
    assert_equal(read_picture(saved(Image.fromarray(pixels), "BMP")), pixels)
    frames = [Image.fromarray(pixels).convert("P") for _ in range(2)]
    frames[1].putpixel((0, 0), 7)
    moving = read_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert moving.notices == ["holds more than one picture: only the first is used"]
    assert (moving.height, moving.width) == pixels.shape[:2]


def test_names_of_pictures(tmp_path: Path) -> None:
    """Of the same formats under rarer names. PBM holds black and white, and is not written: a .pbm of grays is none."""
    for name in ("a.jfif", "a.jpe"):
        write_picture(tmp_path / name, RGB)
        assert Image.open(tmp_path / name).format == "JPEG" and read_picture(tmp_path / name).rgb.shape == RGB.shape
    white = GRAY > 127
    Image.fromarray(white).save(tmp_path / "a.pbm")
    assert_equal(read_picture(tmp_path / "a.pbm"), np.where(white, 255, 0))
    assert {".jfif", ".jpe", ".pbm"} <= set(input_extensions())
    with pytest.raises(ImageError, match=r"the extension \.pbm names no picture format that is written"):
        write_picture(tmp_path / "b.pbm", GRAY)


@pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF")
def test_avif_is_read_with_its_metadata() -> None:
    exif = b"Exif\0\0" + exif_bytes(6)
    options = {"quality": 100, "subsampling": "4:4:4", "exif": exif, "icc_profile": ICC, "xmp": XMP}
    found = read_picture(saved(Image.fromarray(RGB), "AVIF", **options))
    assert np.abs(found.pixels.astype(int) - RGB).max() < 16
    assert (found.icc, found.xmp) == (ICC, XMP) and exif_tags(found.exif)[:2] == (6, "Maker")


def test_avif_without_support_is_no_known_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    input_extensions.cache_clear()
    assert ".avif" not in input_extensions() and ".gif" in input_extensions()
    with pytest.raises(ImageError, match="not a picture of a known format"):
        read_picture(bytes.fromhex("0000001c6674797061766966") + bytes(40))
    monkeypatch.undo()
    input_extensions.cache_clear()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", dict.fromkeys(input_extensions().values()))
def test_truncated_and_damaged_pictures_raise_one_line(kind: str) -> None:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    whole = saved(Image.fromarray(RGB), kind)
    rng = np.random.default_rng(1)
    with pytest.raises(ImageError) as caught:
        read_picture(whole[: len(whole) * 3 // 4])
    assert str(caught.value).count("the picture") == 1
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] = rng.integers(256)
        try:
            read_picture(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        except BasicError as error:
            assert "\n" not in str(error)


def test_floating_point_and_32_bit_pictures() -> None:
    with pytest.raises(ImageError, match="kind F are not supported: convert"):
        read_picture(saved(Image.fromarray(GRAY.astype(np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="32-bit samples are not supported"):
        read_picture(saved(Image.fromarray(GRAY.astype(np.int32)), "TIFF"))


def huge_png(side: int) -> bytes:
    head = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = b"IHDR" + head
    ihdr = len(head).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    content = b"IDAT" + zlib.compress(bytes(100))
    idat = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + ihdr + idat


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("side", "message"),
    [
        (11_500, "11500x11500.*--max-pixels"),
        (60_000, "3600000000 pixels, and 128000000 in all.*--max-pixels"),
        (70_000, "--max-pixels"),
    ],
)
def test_decompression_bomb_is_refused_from_its_header(side: int, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(LimitError, match=message):
        read_picture(huge_png(side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    outer, inner = ((len(content) + more).to_bytes(4, "little") for more in (12, 0))
    return b"RIFF" + outer + b"WEBP" + kind + inner + content.ljust(10, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        webp_chunk(b"VP8X", bytes(4) + (16_000 - 1).to_bytes(3, "little") * 2),
        webp_chunk(b"VP8L", b"\x2f" + ((16_000 - 1) | (16_000 - 1) << 14).to_bytes(5, "little")),
        webp_chunk(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + (16_000).to_bytes(2, "little") * 2),
    ],
    ids=["extended", "lossless", "lossy"],
)
def test_webp_is_refused_before_it_is_opened(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one takes memory for all of its canvas."""
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(LimitError, match="16000x16000 pixels.*--max-pixels"):
        read_picture(data)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
def test_webp_tells_its_size(options: dict[str, object]) -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "WEBP", **options)
    assert canvas_size(file.getvalue()) == (17, 11)
    assert all(canvas_size(file.getvalue()[:length]) is None for length in range(30))


def test_pillows_own_limit_is_replaced_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = saved(Image.fromarray(RGB), "WEBP")
    threads = [threading.Thread(target=read_picture, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_picture(data).width == 17
    with pytest.raises(LimitError):
        read_picture(data, Limits(max_pixels=17 * 11 - 1))
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pillows_own_limit_is_raised_as_far_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads of the program may rely on it."""
    seen: list[int | None] = []
    opened = Image.open

    def look(*arguments: object, **options: object) -> Image.Image:
        seen.append(Image.MAX_IMAGE_PIXELS)
        return opened(*arguments, **options)

    monkeypatch.setattr(Image, "open", look)
    data = saved(Image.fromarray(RGB), "PNG")
    for own in (10, 1000, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own)
        read_picture(data, Limits(max_pixels=500))
        assert own == Image.MAX_IMAGE_PIXELS
    assert seen == [500, 1000, None]


def test_file_larger_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, Picture(RGB))
    with pytest.raises(LimitError, match=r"a\.png: the file has \d+ bytes, and 100 are allowed"):
        read_picture(path, Limits(max_file_bytes=100))


def test_existing_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(FileError, match="exists already: choose another name, or replace it with --overwrite"):
        write_picture(path, Picture(RGB))
    assert path.read_bytes() == b"precious"
    write_picture(path, Picture(RGB), overwrite=True)
    assert_equal(read_picture(path), RGB)


def test_unknown_output_format_names_those_that_exist() -> None:
    with pytest.raises(ImageError, match=r"\.bmp names no picture format that is written: use one of \.png \.jpg"):
        output_format("a.bmp")
    with pytest.raises(ImageError, match=r"\(none\) names no picture format"):
        output_format("picture")
    with pytest.raises(ImageError, match="no output format 'gif': choose one of PNG, JPEG, WebP, TIFF, PPM"):
        output_format("a.png", "gif")
    assert output_format("a.png", "jpg") == output_format("a.JPG") == output_format("-", ".jpeg") == "JPEG"
    assert output_format("-") == "PNG"


def test_picture_that_a_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"wide\.webp: cannot be written as WEBP.*try PNG"):
        write_picture(tmp_path / "wide.webp", Picture(np.zeros((1, 16_384, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, content: bytes = b"") -> None:
            self.buffer = io.BytesIO(content)

    monkeypatch.setattr(sys, "stdout", Stream())
    write_picture("-", Picture(RGB), "ppm")
    written = sys.stdout.buffer.getvalue()  # type: ignore[attr-defined]
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdin", Stream(written))
    assert_equal(read_picture("-"), RGB)
    monkeypatch.setattr(sys, "stdin", Stream(b"no picture"))
    with pytest.raises(ImageError, match="^standard input: not a picture"):
        read_picture("-")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xmp_of_either_encoding_goes_into_png(encoding: str) -> None:
    file = io.BytesIO()
    text = "<x:xmpmeta>\u00e4\u4e2d</x:xmpmeta>"
    assert write_picture(file, Picture(np.zeros((8, 8), np.uint8), xmp=text.encode(encoding)), format="PNG") == []
    assert read_picture(file.getvalue()).xmp == text.encode()
    notices = write_picture(io.BytesIO(), Picture(np.zeros((8, 8), np.uint8), xmp=b"\xe4bc"), format="PNG")
    assert notices == ["XMP that is no UTF-8 was changed to be some, as PNG wants it"]


def test_large_colour_profiles_come_back_from_png(tmp_path: Path) -> None:
    picture = Picture(RGB, icc=ICC + bytes(3 << 20))
    write_picture(tmp_path / "a.png", picture)
    before = PngImagePlugin.MAX_TEXT_CHUNK
    assert read_picture(tmp_path / "a.png").icc == picture.icc
    assert before == PngImagePlugin.MAX_TEXT_CHUNK
