"""Pictures in TIFF, whose tags may be of any type, and whose metadata lies among those of its strips."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from basic_runtime.errors import ImageError, LimitError
from basic_runtime.imageio import read_picture, write_picture
from basic_runtime.picture import Picture

XMP, TILE_WIDTH, TILE_LENGTH, ICC = 700, 322, 323, 34675
BYTE, ASCII, SHORT, LONG, RATIONAL, FLOAT = 1, 2, 3, 4, 5, 11

Tags = dict[int, tuple[int, int, bytes]]
"""Type, count and content of each tag."""


def tiff(tags: Tags, inks: bool = False) -> bytes:
    """8x8 pixels of gray, or of four inks, in one strip, with more tags."""
    samples = 4 if inks else 1
    strip = bytes(64 * samples)

    def of(kind: int, *values: int) -> tuple[int, int, bytes]:
        return kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)

    tags = tags | {
        256: of(SHORT, 8), 257: of(SHORT, 8), 258: of(SHORT, *[8] * samples), 259: of(SHORT, 1),
        262: of(SHORT, 5 if inks else 1), 273: of(LONG, 8), 277: of(SHORT, samples), 278: of(SHORT, 8),
        279: of(LONG, len(strip)),
    }  # fmt: skip
    entries, behind = [], b""
    for tag, (kind, count, content) in sorted(tags.items()):
        if len(content) > 4:
            content, behind = struct.pack("<I", 8 + len(strip) + len(behind)), behind + content
        entries.append(struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0"))
    start = struct.pack("<4sI", b"II*\0", 8 + len(strip) + len(behind))
    return start + strip + behind + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def test_tags_as_they_should_be() -> None:
    assert read_picture(tiff({XMP: (BYTE, 4, b"<x/>")})).xmp == b"<x/>"
    assert read_picture(tiff({}, inks=True)).notices == [
        "CMYK was converted to RGB without a colour profile: colours are approximate"
    ]


@pytest.mark.parametrize(
    "value",
    [(RATIONAL, 1, struct.pack("<II", 1, 3)), (FLOAT, 1, struct.pack("<f", 1.5)), (LONG, 1, struct.pack("<I", 10**9))],
    ids=["rational", "float", "long"],
)
def test_a_profile_of_another_type_is_left_out(value: tuple[int, int, bytes]) -> None:
    tracemalloc.start()
    try:
        picture = read_picture(tiff({ICC: value}))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # a number is no count of bytes
    finally:
        tracemalloc.stop()
    assert picture.icc is None and picture.notices == ["damaged ICC was left out (it is no text)"]


def test_a_profile_of_text_does_not_convert_inks() -> None:
    notices = read_picture(tiff({ICC: (ASCII, 6, b"hello\0")}, inks=True)).notices
    assert notices == ["CMYK was converted to RGB without a colour profile: colours are approximate"]


@pytest.mark.parametrize(
    "value",
    [(FLOAT, 1, struct.pack("<f", float("nan"))), (RATIONAL, 1, struct.pack("<II", 1, 0)), (ASCII, 3, b"ab\0")],
    ids=["nan", "rational", "text"],
)
def test_tiles_of_no_size_are_damage(value: tuple[int, int, bytes]) -> None:
    with pytest.raises(ImageError, match="the picture is damaged .its tiles are .*: get the file again"):
        read_picture(tiff({TILE_WIDTH: value, TILE_LENGTH: value}))


def test_tiff_with_huge_tiles_is_refused() -> None:
    tags = {322: 1_000_000, 323: 1_000_000}
    directory = ImageFileDirectory_v2()
    for tag, value in ({256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 324: 8, 325: 64} | tags).items():
        directory[tag] = value
    file = io.BytesIO(b"II*\0\x08\0\0\0")
    file.seek(8)
    directory.save(file)
    with pytest.raises(LimitError, match="1000000x1000000"):
        read_picture(file.getvalue())


@pytest.mark.parametrize("value", [0, 9, 99])
def test_an_orientation_that_is_none_does_not_keep_a_picture_from_tiff(value: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = value, "Maker"
    picture = Picture(np.zeros((8, 8, 3), np.uint8), exif=exif.tobytes()[6:])
    write_picture(tmp_path / "a.tif", picture)
    again = Image.Exif()
    again.load(read_picture(tmp_path / "a.tif").exif or b"")
    assert again.get(0x010F) == "Maker" and again.get(0x0112, 1) == 1


def test_a_tiff_without_exif_has_none(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif").exif is None
