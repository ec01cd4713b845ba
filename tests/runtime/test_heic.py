"""Photos of phones: HEIC goes in, where pillow-heif is installed."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pillow_heif
import pytest
from click.testing import CliRunner
from PIL import Image

from basic_runtime import imageio
from basic_runtime.cli import main
from basic_runtime.errors import ImageError, LimitError
from basic_runtime.imageio import KNOWN_EXTENSIONS, input_extensions, read_picture
from basic_runtime.limits import Limits

ICC = b"\0\0\x02\x0cNONE\x02\x10\0\0mntrRGB XYZ " + bytes(500)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def heic(pixels: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    made = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    made.save(file, quality=100, chroma=444, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    return exif.tobytes()


def test_pixels_and_metadata_are_read(photo):
    found = read_picture(heic(photo(64, 96), exif=turned(1), icc_profile=ICC, xmp=XMP))
    assert np.abs(found.pixels.astype(int) - photo(64, 96)).mean() < 3
    assert (found.icc, found.xmp, found.notices) == (ICC, XMP, [])
    exif = Image.Exif()
    exif.load(found.exif)
    assert exif[0x010F] == "Maker"


def test_turned_once(photo):
    """HEIF turns pictures itself, and its EXIF must not turn them again."""
    file = io.BytesIO()
    pillow_heif.register_heif_opener()
    Image.fromarray(photo(64, 96)).save(file, "HEIF", exif=turned(6), quality=100)
    found = read_picture(file.getvalue())
    exif = Image.Exif()
    exif.load(found.exif)
    assert found.pixels.shape == (96, 64, 3) and exif[0x0112] == 1
    assert np.abs(found.pixels.astype(int) - np.rot90(photo(64, 96), -1)).mean() < 6


def test_alpha_and_depth(photo):
    pixels = np.concatenate([photo(64, 64), np.full((64, 64, 1), 77, np.uint8)], axis=2)
    assert (read_picture(heic(pixels, "RGBA")).alpha == 77).all()
    deep = read_picture(heic(photo(64, 64).astype(np.uint16) * 256, "RGB;16"))
    assert deep.notices == ["10 bits per sample were reduced to 8"]
    assert np.abs(deep.pixels.astype(int) - photo(64, 64)).mean() < 3


def test_limits_come_first(photo):
    with pytest.raises(LimitError, match="64x96|96x64|6144"):
        read_picture(heic(photo(64, 96)), Limits(max_pixels=6143))


@pytest.mark.parametrize("cut", [40, 200, -200])
def test_damaged_files_are_one_line(photo, cut):
    with pytest.raises(ImageError) as raised:
        read_picture(heic(photo(64, 64))[:cut])
    assert "damaged" in str(raised.value) and "\n" not in str(raised.value)


def test_without_the_package(photo, monkeypatch):
    data = heic(photo(64, 64))
    monkeypatch.setattr(imageio, "_has_heif", lambda: False)
    input_extensions.cache_clear()
    assert ".heic" not in input_extensions() and ".heic" in KNOWN_EXTENSIONS
    with pytest.raises(ImageError, match=r"'\.\[heic\]' in the sources of basic-codec, or convert it to PNG"):
        read_picture(data)
    monkeypatch.undo()
    input_extensions.cache_clear()


def test_it_costs_other_pictures_nothing(tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo(64, 64)).save(path)
    code = (
        "import sys; from basic_runtime import read_picture; "
        f"read_picture({str(path)!r}); print('pillow_heif' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_command_takes_it(tmp_path, photo):
    (tmp_path / "IMG_1.HEIC").write_bytes(heic(photo(64, 64)))
    result = CliRunner().invoke(main, ["encode", str(tmp_path)])
    assert result.exit_code == 0 and (tmp_path / "IMG_1.basic").exists(), result.output
