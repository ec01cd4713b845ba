"""Pillow opens and saves compressed files as its own."""

from __future__ import annotations

import copy
import io
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from basic_runtime import pillow
from basic_runtime.codec import Codec
from basic_runtime.errors import FormatError
from basic_runtime.info import file_info
from basic_runtime.limits import Limits
from basic_runtime.metrics import psnr
from basic_runtime.picture import Picture

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
    info = file_info(data)
    assert (info.quality, info.level, info.gray, info.has_alpha) == (80, 2, mode.startswith("L"), "A" in mode)
    with Image.open(tmp_path / "photo.basic") as opened:
        assert (opened.format, opened.mode, opened.size) == ("BASIC", mode, image.size)
        pixels = np.asarray(opened)
    expected = codec.decode_picture(data)
    colours = pixels if "A" not in mode else pixels[..., 0] if mode == "LA" else pixels[..., :3]
    np.testing.assert_array_equal(colours, expected.pixels)
    if "A" in mode:
        np.testing.assert_array_equal(pixels[..., -1], np.asarray(image)[..., -1])


def test_files_are_decoded_once_when_pixels_are_asked_for(
    codec: Codec, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    decode = codec.decode_picture
    monkeypatch.setattr(codec, "decode_picture", lambda data, **given: calls.append(1) or decode(data, **given))
    Image.fromarray(photo(64, 64)).save(tmp_path / "a.basic")
    opened = Image.open(tmp_path / "a.basic")
    assert opened.size == (64, 64) and not calls
    opened.load()
    assert opened.fp is None and opened.getpixel((3, 4)) == opened.load()[3, 4] and len(calls) == 1


def test_opening_takes_no_memory_for_what_may_come(photo: Photo) -> None:
    data = saved(Image.fromarray(photo(512, 512)).convert("RGBA"))
    tracemalloc.start()
    try:
        assert Image.open(io.BytesIO(data)).mode == "RGBA"
        assert tracemalloc.get_traced_memory()[1] < 512 * 512  # alpha is not unpacked, either
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_what_is_loaded_can_be_changed_copied_and_pickled(photo: Photo, mode: str) -> None:
    image = Image.fromarray(photo(40, 30)).convert(mode)
    opened = Image.open(io.BytesIO(saved(image)))
    for other in (pickle.loads(pickle.dumps(opened)), copy.deepcopy(opened), opened.copy()):
        assert other.resize((10, 10)).size == (10, 10)
        np.testing.assert_array_equal(np.asarray(other), np.asarray(opened))
    colour = 7 if mode == "L" else (7,) * len(mode)
    opened.load()[2, 1] = colour
    assert opened.getpixel((2, 1)) == colour
    opened.thumbnail((15, 15))
    assert max(opened.size) == 15


def test_closed_files_cannot_be_loaded(photo: Photo) -> None:
    opened = Image.open(io.BytesIO(saved(Image.fromarray(photo(20, 20)))))
    opened.close()
    with pytest.raises((OSError, ValueError)):
        opened.load()


def test_damaged_files_are_an_oserror_that_names_them(photo: Photo, tmp_path: Path) -> None:
    data = bytearray(saved(Image.fromarray(photo(64, 64))))
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.basic").write_bytes(data)
    with pytest.raises(OSError, match=r"bad\.basic: chunk CODE is damaged") as caught:
        Image.open(tmp_path / "bad.basic")
    assert isinstance(caught.value.__cause__, FormatError)


def test_files_may_come_in_pieces(photo: Photo) -> None:
    image = Image.fromarray(photo(64, 64))
    data, parser = saved(image), ImageFile.Parser()
    for start in range(0, len(data), 100):
        parser.feed(data[start : start + 100])
    np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(Image.open(io.BytesIO(data))))


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


def test_exif_of_a_tiff_goes_along(photo: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    Image.fromarray(photo(20, 20)).save(tmp_path / "a.tif", exif=exif)
    assert Image.open(io.BytesIO(saved(Image.open(tmp_path / "a.tif")))).getexif()[0x010F] == "a maker"


def test_sizes_and_psnr_can_be_asked_for(codec: Codec, photo: Photo) -> None:
    pixels = photo(128, 128)
    image = Image.fromarray(pixels)
    assert len(saved(image, max_bytes=1500)) <= 1500
    wanted = psnr(pixels, codec.decode(codec.encode(pixels, quality=40)))
    assert psnr(pixels, np.asarray(Image.open(io.BytesIO(saved(image, min_psnr=wanted))))) >= wanted


def test_numbers_of_numpy_are_as_good(photo: Photo) -> None:
    image = Image.fromarray(photo(64, 64))
    assert saved(image, quality=np.int64(60), level=np.int32(2)) == saved(image, quality=60, level=2)
    assert saved(image, max_bytes=np.int64(900)) == saved(image, max_bytes=900)
    assert saved(image, min_psnr=np.float32(25)) == saved(image, min_psnr=25)


def test_pillow_knows_the_mime_type(photo: Photo) -> None:
    assert Image.open(io.BytesIO(saved(Image.fromarray(photo(20, 20))))).get_format_mimetype() == "image/x-basic"


def test_a_level_for_decoding_can_be_registered(codec: Codec, photo: Photo) -> None:
    data = saved(Image.fromarray(photo(64, 64)))
    pillow.register(codec, level=0)
    opened = Image.open(io.BytesIO(data))
    pillow.register(codec)
    np.testing.assert_array_equal(np.asarray(opened), codec.decode(data, level=0))  # as it was when it was opened
    with pytest.raises(ValueError, match="level must be 0 to 7, not 9"):
        pillow.register(codec, level=9)


def test_other_kinds_of_pixels_are_converted_as_those_of_files(codec: Codec, photo: Photo) -> None:
    palette = Image.fromarray(photo(40, 40)).convert("P")
    assert saved(palette) == codec.encode(Picture(np.asarray(palette.convert("RGB"))))
    assert Image.open(io.BytesIO(saved(palette.convert("1")))).mode == "L"


def test_wrong_options_and_large_pictures_are_refused(codec: Codec, photo: Photo, tiny_path: Path) -> None:
    image = Image.fromarray(photo(64, 64))
    for options, kind, message in (
        ({"quality": 500}, ValueError, "quality must be 1 to 100"),
        ({"quality": "keep"}, TypeError, "quality must be a whole number, not 'keep'"),
        ({"quality": True}, TypeError, "quality must be a whole number, not True"),
        ({"quality": 10**400}, ValueError, "quality must be 1 to 100, not 1000"),
        ({"max_bytes": "1k"}, TypeError, "max_bytes must be a whole number, not '1k'"),
        ({"quality": 50, "max_bytes": 900}, ValueError, "quality and max_bytes exclude each other"),
        ({"exif": 5}, TypeError, "exif must be bytes, not int"),
        ({"xmp": "<x/>"}, TypeError, "xmp must be bytes, not str"),
    ):
        with pytest.raises(kind, match=message):
            saved(image, **options)
    assert saved(image, optimize=True, progressive=True) == saved(image)  # of other formats
    with pytest.warns(UserWarning, match="XMP of .* was left out") as warned:
        _with_xmp(image, bytes(17 << 20)).save(io.BytesIO(), "BASIC")
    assert warned[0].filename == __file__
    with pytest.raises(TypeError, match="codec must be a Codec or None, not str"):
        pillow.register("lite-11")  # type: ignore[arg-type]
    data = saved(image)
    pillow.register(Codec(tiny_path, threads=1, limits=Limits(max_pixels=4000)))
    with pytest.raises(OSError, match="the picture: the picture is 64x64 pixels, and 4000 in all are allowed"):
        Image.open(io.BytesIO(data))


def _with_xmp(image: Image.Image, xmp: bytes) -> Image.Image:
    image = image.copy()
    image.info["xmp"] = xmp
    return image


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


def test_threads_that_ask_at_once_share_the_bundled_codec(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    monkeypatch.setenv("BASIC_BUNDLE", str(tiny_path))
    monkeypatch.setattr(pillow._Registered, "bundled", None)
    with ThreadPoolExecutor(8) as pool:
        codecs = list(pool.map(lambda _: pillow._bundled(), range(16)))
    assert len(set(map(id, codecs))) == 1
