"""Desktops show `.basic` files: what `cmake --install` of a build with BASIC_DESKTOP puts down, used by gdk-pixbuf.

`make test-desktop` builds and installs it; BASIC_DESKTOP_INSTALLED and BASIC_DESKTOP_BUILD name other folders.
"""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_commands import scene
from PIL import Image

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.packed_model import packed_model
from basic_runtime.picture import Picture
from basic_runtime.profile import synthetic_picture

pytestmark = pytest.mark.desktop

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("BASIC_DESKTOP_BUILD", ROOT / "build-desktop"))
INSTALLED = Path(os.environ.get("BASIC_DESKTOP_INSTALLED", BUILD / "installed"))
EXIF = b"Exif\0\0"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=1)


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of programs for which the loader and its data are installed."""
    (loader,) = INSTALLED.rglob("libpixbufloader-basic.so")
    query = subprocess.check_output(
        ["pkg-config", "--variable=gdk_pixbuf_query_loaders", "gdk-pixbuf-2.0"], text=True
    ).strip()
    listed = subprocess.check_output([query, loader])
    cache = tmp_path_factory.mktemp("loaders") / "loaders.cache"
    cache.write_bytes(listed)
    home = tmp_path_factory.mktemp("home")
    own = {"GDK_PIXBUF_MODULE_FILE": str(cache), "XDG_DATA_DIRS": str(INSTALLED / "share"), "XDG_DATA_HOME": str(home)}
    return os.environ | own


def load(file: Path, environment: dict[str, str], step: int | None = None) -> tuple[np.ndarray, str, str]:
    """Pixels, orientation and profile, as a program gets them that reads so many bytes at a time."""
    arguments = [BUILD / "pixbuf_test", file, *([str(step)] if step else [])]
    done = subprocess.run(arguments, env=environment, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    head, samples = done.stdout.split(b"\n", 1)
    width, height, channels, orientation, profile = head.decode().split()
    shape = (int(height), int(width), int(channels))
    return np.frombuffer(samples, np.uint8).reshape(shape), orientation, profile


@pytest.mark.parametrize("level", [0, 3, 7])
def test_pixels_are_those_of_the_package(level: int, codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.basic"
    file.write_bytes(codec.encode(scene(90, 131), level=level))
    expected = codec.decode(file.read_bytes())
    for step in (None, 1, 1000):
        pixels, orientation, profile = load(file, desktop, step)
        np.testing.assert_array_equal(pixels, expected)
        assert (orientation, profile) == ("-", "-")


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (257, 3)])
def test_any_size(size: tuple[int, int], codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.basic"
    file.write_bytes(codec.encode(scene(*size), level=0))
    np.testing.assert_array_equal(load(file, desktop)[0], codec.decode(file.read_bytes()))


def test_gray_and_alpha(codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    rgb, alpha = scene(50, 61), scene(50, 61, 1)[..., 0]
    file = tmp_path / "a.basic"
    for picture in (Picture(rgb[..., 0]), Picture(rgb[..., 0], alpha), Picture(rgb, alpha)):
        file.write_bytes(codec.encode(picture, level=0))
        pixels = load(file, desktop)[0]
        expected = codec.decode_picture(file.read_bytes())
        np.testing.assert_array_equal(pixels[..., :3], expected.rgb)
        assert pixels.shape[2] == (3 if expected.alpha is None else 4)
        if expected.alpha is not None:
            np.testing.assert_array_equal(pixels[..., 3], expected.alpha)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", [1, 6, 8, 9])
def test_orientation_and_profile(order: str, turn: int, codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "a maker", turn
    file = tmp_path / "a.basic"
    data = exif.tobytes().removeprefix(EXIF)
    file.write_bytes(codec.encode(Picture(scene(20, 30), icc=b"profile" * 9, exif=data), level=0))
    _, orientation, profile = load(file, desktop)
    assert orientation == ("-" if turn in (1, 9) else str(turn))
    assert base64.b64decode(profile) == b"profile" * 9


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\1\0\x12\1\3\0"]
)
def test_damaged_exif_turns_nothing(exif: bytes, codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.basic"
    file.write_bytes(codec.encode(Picture(scene(20, 30), exif=exif), level=0))
    assert load(file, desktop)[1] == "-"


def test_what_cannot_be_shown_is_said(codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "a.basic"
    data = codec.encode(scene(60, 60), level=0)
    file.write_bytes(data[:-30])
    with pytest.raises(RuntimeError, match="BaSIC: the file is cut off"):
        load(file, desktop)
    file.write_bytes(data)
    other = desktop | {"XDG_DATA_DIRS": str(tmp_path)}
    (tmp_path / "mime").symlink_to(INSTALLED / "share" / "mime")
    with pytest.raises(RuntimeError, match="BaSIC: no model is installed"):
        load(file, other)
    folder = tmp_path / "basic-codec"
    folder.mkdir()
    (folder / "bad.basicmodel").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"bad\.basicmodel.*\n*.*no model is installed"):
        load(file, other)


def test_a_model_of_the_user_comes_first(bundle: Bundle, codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    """One that decodes files of level 7, and these at level 0."""
    folder = tmp_path / "basic-codec"
    folder.mkdir()
    (folder / "own.basicmodel").write_bytes(packed_model(bundle, [0], [7]))
    own = desktop | {"XDG_DATA_HOME": str(tmp_path)}
    file = tmp_path / "a.basic"
    data = codec.encode(scene(60, 60), level=7)
    file.write_bytes(data)
    np.testing.assert_array_equal(load(file, desktop)[0], codec.decode(data))
    np.testing.assert_array_equal(load(file, own)[0], codec.decode(data, level=0))
    file.write_bytes(codec.encode(scene(60, 60), level=1))
    np.testing.assert_array_equal(load(file, own)[0], codec.decode(file.read_bytes()))


def test_thumbnails(codec: Codec, desktop: dict[str, str], tmp_path: Path) -> None:
    """By the command that the installed entry names."""
    entry = (INSTALLED / "share" / "thumbnailers" / "basic.thumbnailer").read_text()
    command = next(line.removeprefix("Exec=") for line in entry.splitlines() if line.startswith("Exec="))
    source, target = tmp_path / "a b.basic", tmp_path / "a.png"
    pixels = synthetic_picture(400, 300)
    source.write_bytes(codec.encode(pixels, quality=80))
    places = {"%s": "128", "%u": source.as_uri(), "%o": str(target)}
    subprocess.run([places.get(word, word) for word in command.split()], env=desktop, check=True)
    with Image.open(target) as thumbnail:
        assert thumbnail.size == (128, 96)
        wanted = Image.fromarray(pixels).resize((128, 96), Image.Resampling.BOX)
        error = np.asarray(thumbnail, np.float32) - np.asarray(wanted, np.float32)
    assert np.sqrt(np.mean(error**2)) < 3


def test_files_have_a_type(desktop: dict[str, str]) -> None:
    globs = (INSTALLED / "share" / "mime" / "globs2").read_text()
    assert "image/x-basic:*.basic" in globs
