"""Pillow opens and saves compressed files as its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from basic_runtime import pillow
from basic_runtime.codec import Codec
from basic_runtime.errors import FormatError, LimitError
from basic_runtime.imageio import Picture
from basic_runtime.limits import Limits

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def codec(tiny_path: Path) -> Codec:
    return Codec(tiny_path, threads=2)


@pytest.fixture(autouse=True)
def _registered(codec: Codec) -> Iterator[None]:
    pillow.register(codec)
    yield
    pillow.register()


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "BASIC", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_what_is_saved_is_what_the_codec_writes_and_opens_as_it_decodes(
    codec: Codec, photo: Photo, tmp_path: Path, mode: str
) -> None:
    image = Image.fromarray(photo(70, 50)).convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "photo.basic", quality=80, level=2)
    data = (tmp_path / "photo.basic").read_bytes()
    info = codec.info(data)
    assert (info.quality, info.level, info.gray, info.has_alpha) == (80, 2, mode.startswith("L"), "A" in mode)
    with Image.open(tmp_path / "photo.basic") as opened:
        assert (opened.format, opened.mode, opened.size) == ("BASIC", mode, image.size)
        pixels = np.asarray(opened)
    expected = codec.decode_picture(data)
    colours = pixels if "A" not in mode else pixels[..., 0] if mode == "LA" else pixels[..., :3]
    np.testing.assert_array_equal(colours, expected.pixels)
    if "A" in mode:
        np.testing.assert_array_equal(pixels[..., -1], np.asarray(image)[..., -1])


def test_opening_decodes_nothing_yet(codec: Codec, photo: Photo) -> None:
    data = bytearray(saved(Image.fromarray(photo(64, 64))))
    at = len(data) // 2
    opened = Image.open(io.BytesIO(bytes(data)))
    assert opened.size == (64, 64)
    opened.load()
    opened.load()
    data[at] ^= 1
    with pytest.raises(FormatError):
        Image.open(io.BytesIO(bytes(data)))


def test_metadata_go_along_unless_they_are_given(photo: Photo) -> None:
    image = Image.fromarray(photo(20, 20))
    exif = Image.Exif()
    exif[0x010E] = "a text"
    image.info = {"icc_profile": b"profile", "exif": exif.tobytes(), "xmp": b"<x/>"}
    opened = Image.open(io.BytesIO(saved(image)))
    assert opened.info["icc_profile"] == b"profile" and opened.info["xmp"] == b"<x/>"
    assert opened.getexif()[0x010E] == "a text"
    exif[0x010E] = "another"
    opened = Image.open(io.BytesIO(saved(image, exif=exif, icc_profile=b"", xmp=None)))
    assert opened.getexif()[0x010E] == "another" and set(opened.info) == {"exif"}
    assert image.info["xmp"] == b"<x/>"


def test_sizes_can_be_asked_for(photo: Photo) -> None:
    image = Image.fromarray(photo(128, 128))
    assert len(saved(image, max_bytes=1500)) <= 1500


def test_a_level_for_decoding_can_be_registered(codec: Codec, photo: Photo) -> None:
    data = saved(Image.fromarray(photo(64, 64)))
    pillow.register(codec, level=0)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), codec.decode(data, 0))


def test_other_kinds_of_pixels_are_converted_as_those_of_files(codec: Codec, photo: Photo) -> None:
    palette = Image.fromarray(photo(40, 40)).convert("P")
    assert saved(palette) == codec.encode(Picture(np.asarray(palette.convert("RGB"))))
    assert Image.open(io.BytesIO(saved(palette.convert("1")))).mode == "L"


def test_wrong_options_and_large_pictures_are_refused(codec: Codec, photo: Photo, tiny_path: Path) -> None:
    image = Image.fromarray(photo(64, 64))
    with pytest.raises(ValueError, match="'qualty' is no option of BASIC; there are effort, exif"):
        saved(image, qualty=3)
    with pytest.raises(ValueError, match="quality"):
        saved(image, quality=500)
    data = saved(image)
    pillow.register(Codec(tiny_path, threads=1, limits=Limits(max_pixels=4000)))
    with pytest.raises(LimitError):
        Image.open(io.BytesIO(data))


def test_other_files_open_as_before(photo: Photo) -> None:
    file = io.BytesIO()
    Image.fromarray(photo(16, 16)).save(file, "PNG")
    assert Image.open(file).format == "PNG"


def test_threads_may_share_the_codec(photo: Photo) -> None:
    image = Image.fromarray(photo(64, 64))
    data = saved(image)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: np.asarray(Image.open(io.BytesIO(data))).tobytes(), range(16)))
    assert len(set(found)) == 1
