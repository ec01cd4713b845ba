"""`basic-decode`: the pixels of `basic-run decode`, byte for byte, and one line for whatever is wrong."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure, scene
from PIL import Image

from basic_runtime import __version__
from basic_runtime.codec import Codec
from basic_runtime.container import FILTER, parse
from basic_runtime.imageio import write_picture
from basic_runtime.limits import Limits
from basic_runtime.picture import Picture

EARLIER = sorted((Path(__file__).parents[1] / "golden" / "earlier").glob("*.basic"))


def pixels_of(png: Path) -> np.ndarray:
    with Image.open(png) as image:
        return np.array(image)


def decoded(decode: Command, model: Path, data: bytes, tmp_path: Path, *options: str) -> np.ndarray:
    source, target = tmp_path / "a.basic", tmp_path / "a.png"
    source.write_bytes(data)
    result = decode(model, source, target, "--overwrite", *options)
    assert (result.returncode, result.stderr) == (0, b"")
    return pixels_of(target)


@pytest.mark.parametrize("level", range(8))
@pytest.mark.parametrize("quality", [1, 40, 100])
def test_pixels_are_those_of_the_package(
    decode: Command, whole_model: Path, tmp_path: Path, level: int, quality: int
) -> None:
    codec = Codec(threads=1)
    data = codec.encode(scene(70, 131, level), quality=quality, level=level)
    np.testing.assert_array_equal(decoded(decode, whole_model, data, tmp_path), codec.decode(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 1), (64, 64), (65, 63), (300, 200)])
def test_any_size(decode: Command, small_model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    codec = Codec(threads=1)
    data = codec.encode(scene(*size), level=0)
    np.testing.assert_array_equal(decoded(decode, small_model, data, tmp_path), codec.decode(data))


@pytest.mark.parametrize("size", [(1300, 200), (70, 4300), (1100, 4200)])
def test_pictures_in_tiles(decode: Command, small_model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    codec = Codec(threads=1)
    data = codec.encode(scene(*size), level=0, effort=0)
    for threads in ("1", "2"):
        found = decoded(decode, small_model, data, tmp_path, "--threads", threads)
        np.testing.assert_array_equal(found, codec.decode(data))


@pytest.mark.parametrize("effort", [0, 1])
@pytest.mark.parametrize("level", [0, 3, 7])
def test_other_levels_than_the_files(
    decode: Command, whole_model: Path, tmp_path: Path, level: int, effort: int
) -> None:
    codec = Codec(threads=1)
    for made in (0, 7):
        data = codec.encode(scene(90, 120), quality=70, level=made, effort=effort)
        found = decoded(decode, whole_model, data, tmp_path, "--level", str(level))
        np.testing.assert_array_equal(found, codec.decode(data, level=level))


def test_a_file_with_its_own_filter(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    rows, columns = np.mgrid[:400, :400]
    stripes = np.where((rows // 5 + columns // 7) % 2, 200, 40).astype(np.uint8)
    for picture in (np.repeat(stripes[..., None], 3, 2), stripes):
        data = codec.encode(picture, quality=90, level=0, effort=1)
        assert FILTER in [chunk.type for chunk in parse(data)[1]]
        np.testing.assert_array_equal(decoded(decode, small_model, data, tmp_path), codec.decode(data))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_files_of_earlier_models(decode: Command, whole_model: Path, tmp_path: Path, file: Path) -> None:
    data = file.read_bytes()
    codec = Codec(threads=1)
    np.testing.assert_array_equal(decoded(decode, whole_model, data, tmp_path), codec.decode(data))
    for level in (0, 3):
        found = decoded(decode, whole_model, data, tmp_path, "--level", str(level))
        np.testing.assert_array_equal(found, codec.decode(data, level=level))


def test_gray_alpha_and_metadata(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    rgb, alpha = scene(50, 61), scene(50, 61, 1)[:, :, 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    extras = {"icc": b"profile" * 30, "exif": exif.tobytes()[6:], "xmp": b"<x:xmpmeta/>" * 9}
    for pixels in (rgb, rgb[:, :, 1]):
        for plane in (None, alpha, np.full((50, 61), 77, np.uint8)):
            data = codec.encode(Picture(pixels, plane, **extras), level=0)
            found = decoded(decode, small_model, data, tmp_path)
            expected = codec.decode_picture(data)
            colours = expected.pixels if expected.pixels.ndim == 3 else expected.pixels[..., None]
            planes = [colours] if plane is None else [colours, plane[..., None]]
            np.testing.assert_array_equal(found.reshape(50, 61, -1), np.concatenate(planes, 2))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.info["icc_profile"] == extras["icc"]
        assert image.getexif()[0x0112] == 6
        assert image.info["XML:com.adobe.xmp"] == extras["xmp"].decode()


def test_the_png_is_that_of_the_package(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    rgb = scene(300, 500)  # several stripes, which threads compress
    for picture in (Picture(rgb), Picture(rgb[..., 0]), Picture(rgb, rgb[..., 0], exif=b"II*\0", xmp=b"<x/>")):
        data = codec.encode(picture, level=0, effort=0)
        write_picture(tmp_path / "b.png", codec.decode_picture(data), overwrite=True)
        for threads in ("1", "3"):
            decoded(decode, small_model, data, tmp_path, "--threads", threads)
            assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_profiles_of_other_pixels_are_left_out(decode: Command, small_model: Path, tmp_path: Path) -> None:
    """Viewers refuse a gray PNG with a profile for colours."""
    for_rgb = bytes(16) + b"RGB XYZ " + bytes(500)
    for_gray = for_rgb.replace(b"RGB ", b"GRAY")
    codec, rgb = Codec(threads=1), scene(20, 30)
    for pixels, profile, kept in (
        (rgb, for_rgb, True),
        (rgb, for_gray, False),
        (rgb[..., 0], for_gray, True),
        (rgb[..., 0], for_rgb, False),
    ):
        decoded(decode, small_model, codec.encode(pixels, level=0, icc=profile), tmp_path)
        with Image.open(tmp_path / "a.png") as image:
            assert image.info.get("icc_profile") == (profile if kept else None)


def test_formats_and_streams(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    rgb, alpha = scene(20, 33), scene(20, 33, 1)[:, :, 0]
    data = codec.encode(rgb, level=0)
    expected = codec.decode(data)
    result = decode(small_model, "-", tmp_path / "a.ppm", stdin=data)
    assert (result.returncode, result.stderr) == (0, b"")
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.ppm"), expected)
    gray = codec.encode(rgb[:, :, 0], level=0)
    assert decode(small_model, "-", tmp_path / "a.PGM", stdin=gray).returncode == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.PGM"), codec.decode(gray))
    streamed = decode(small_model, "-", "-", stdin=codec.encode(rgb, level=0, alpha=alpha))
    head, _, body = streamed.stdout.partition(b"ENDHDR\n")
    assert b"WIDTH 33\nHEIGHT 20\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA" in head
    found = np.frombuffer(body, np.uint8).reshape(20, 33, 4)
    np.testing.assert_array_equal(found, np.dstack([expected, alpha]))


def test_info_and_version(decode: Command, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    data = codec.encode(scene(20, 33), level=3, quality=50, alpha=scene(20, 33)[:, :, 0])
    told = decode("--info", "-", stdin=data).stdout.decode().splitlines()  # whose ends are those of the system
    name = f"{codec.bundle.name} ({codec.bundle.model_id})"
    assert told == [f"-: 33x20 RGB with alpha, level 3, decoded at 3, quality step 31, model {name}"]
    assert decode("--version").stdout.decode().splitlines() == [f"basic-decode {__version__}"]
    assert decode("--help").stdout.startswith(b"Usage: basic-decode")


def test_what_cannot_be_decoded(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec, target, source = Codec(threads=1), tmp_path / "a.png", tmp_path / "a.basic"
    data = codec.encode(scene(100, 80), level=0)

    def run(data: bytes, *options: str, model: Path = small_model) -> subprocess.CompletedProcess[bytes]:
        source.write_bytes(data)
        result = decode(model, source, target, *options)
        assert not target.exists()
        return result

    failure(run(b""), str(source), "the file is empty", "get the file again")
    failure(run(data[:40]), "cut off")
    failure(run(data[:-1]), "cut off")
    failure(run(data + b"x"), "1 bytes follow")
    failure(run(b"GIF89a" + data), "no .basic file")
    failure(run(data, "--max-pixels", "7999"), "80x100 pixels, and 7999 in all are allowed")
    failure(run(data, "--level", "3"), "without level 3", "--levels 3")
    failure(run(codec.encode(scene(9, 9), level=7)), "made at level 7", "--from-levels 7")
    failure(run(EARLIER[-1].read_bytes()), "--earlier")
    failure(run(data, model=source), str(source), "no packed model", "basic-run pack")
    failure(decode(small_model, tmp_path / "none.basic", target), "none.basic", "cannot be read")
    failure(decode(tmp_path / "none", source, target), "none", "cannot be read")


def test_a_file_of_another_model(decode: Command, small_model: Path, tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "gray.basic"
    failure(decode(small_model, golden, tmp_path / "a.png"), "tiny", "and this is lite-11")


def test_outputs_that_cannot_be(decode: Command, small_model: Path, tmp_path: Path) -> None:
    codec, source = Codec(threads=1), tmp_path / "a.basic"
    source.write_bytes(codec.encode(scene(10, 10), level=0))
    there = tmp_path / "there.png"
    there.write_bytes(b"kept")
    failure(decode(small_model, source, there), "there.png", "--overwrite")
    assert there.read_bytes() == b"kept"
    failure(decode(small_model, source, tmp_path / "a.jpg"), "a.jpg", ".png")
    failure(decode(small_model, source, tmp_path / "none" / "a.png"), "cannot be written")
    failure(decode(small_model, source, tmp_path / "a.pgm"), "3 channels")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.basic", "there.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a",),
        ("a", "b", "c", "d"),
        ("--level", "8", "a", "b", "c"),
        ("--level",),
        ("--threads", "x", "a", "b", "c"),
        ("--what",),
    ],
)
def test_misuse_is_status_2(decode: Command, arguments: tuple[str, ...]) -> None:
    result = decode(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(b"basic-decode: error: ")


def test_every_damaged_byte_is_noticed(decode: Command, small_model: Path, tmp_path: Path) -> None:
    """No picture comes of a file with one byte changed; bytes of the coded data are tried here and there."""
    data = Codec(threads=1).encode(scene(40, 40), level=0, alpha=scene(40, 40)[:, :, 0], icc=b"profile" * 20)
    for place in [*range(0, 60, 7), *range(60, len(data), len(data) // 12)]:
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        result = decode(small_model, "-", "-", stdin=bytes(damaged))
        assert (result.returncode, result.stdout) == (1, b""), place


def test_latents_that_do_not_match_are_no_picture(decode: Command, small_model: Path) -> None:
    """A stream of the right form with the checksum of other latents, and with all other checksums right."""
    data = Codec(threads=1).encode(scene(40, 40), level=0)
    name = data[9]
    crc_at = 8 + 2 + name + 4 + 2 + 3  # sides below 128 take a byte each
    header = bytearray(data[8 : crc_at + 4])
    header[-1] ^= 1
    again = data[:8] + bytes(header) + struct.pack("<I", zlib.crc32(header)) + data[crc_at + 8 :]
    failure(decode(small_model, "-", "-", stdin=again), "do not match the file's checksum")


def test_damaged_models(decode: Command, small_model: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "a.basic", tmp_path / "damaged"
    file.write_bytes(Codec(threads=1).encode(scene(40, 40), level=0))
    packed = small_model.read_bytes()
    model.write_bytes(packed[:-1])
    failure(decode(model, file, tmp_path / "a.png"), "wrong checksum", "pack it again")
    model.write_bytes(packed[:8] + struct.pack("<I", 2) + packed[12:])
    failure(decode(model, file, tmp_path / "a.png"), "version 2")
    random = np.random.default_rng(3)
    for _ in range(40):  # with the right checksum: what it says must still be checked
        body = bytearray(packed[16:])
        for place in random.integers(len(body) - 20_000, len(body), 3):
            body[place] = random.integers(256)
        body = body[: random.integers(len(body) // 2, len(body))] if random.integers(4) == 0 else body
        model.write_bytes(packed[:12] + struct.pack("<I", zlib.crc32(body)) + body)
        result = decode(model, file, "-")
        assert result.returncode in (0, 1), result
        assert result.stderr.count(b"\n") == (1 if result.returncode else 0)


def test_limits_of_the_package_are_those_of_the_command() -> None:
    source = (Path(__file__).parents[2] / "cpp" / "codec" / "container.hpp").read_text()
    assert f"kMaxPixels = {Limits().max_pixels:_}".replace("_", "'") in source
