"""Pictures in memory: what their fields may be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from basic_runtime.imageio import write_picture
from basic_runtime.picture import EXIF_PREFIX, Picture


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((0, 4), np.uint8), None),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)),
    ],
)
def test_pictures_of_wrong_arrays_cannot_be_made(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ValueError):
        Picture(pixels, alpha)


def test_what_was_set_since_is_checked_again() -> None:
    picture = Picture(np.zeros((8, 8, 3), np.uint8))
    for wrong in (np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8), np.uint8)):
        picture.pixels = wrong
        with pytest.raises(ValueError):
            write_picture(io.BytesIO(), picture, format="PNG")


def test_a_matrix_is_pixels_like_any_array() -> None:
    matrix = np.arange(64, dtype=np.uint8).reshape(8, 8).view(np.matrix)[::2, ::2]  # NumPy's repeat spoils memory
    picture = Picture(matrix, alpha=matrix)
    assert type(picture.pixels) is np.ndarray and type(picture.alpha) is np.ndarray and picture.rgb.shape == (4, 4, 3)


@pytest.mark.parametrize("name", ["icc", "exif", "xmp"])
def test_metadata_is_bytes(name: str) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    for wrong in ("text", 5, np.zeros(3)):
        with pytest.raises(TypeError, match=f"{name} must be bytes, not {type(wrong).__name__}"):
            Picture(pixels, **{name: wrong})
    for value in (bytearray(b"abc"), memoryview(b"aXbXcX")[::2]):
        assert getattr(Picture(pixels, **{name: value}), name) == b"abc"


def test_exif_begins_with_its_tiff_header() -> None:
    """Pillow's own bytes have the name of JPEG's marker in front."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Picture(np.zeros((8, 8, 3), np.uint8), exif=exif.tobytes())
    assert picture.exif == exif.tobytes().removeprefix(EXIF_PREFIX)
    picture.exif = 2 * EXIF_PREFIX + picture.exif
    file = io.BytesIO()
    write_picture(file, picture, format="PNG")
    assert Image.open(file).getexif()[0x0112] == 6 and EXIF_PREFIX not in file.getvalue()
