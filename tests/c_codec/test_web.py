"""The decoder for browsers, run by Node: the pixels of the package, byte for byte (`make test-web`)."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_commands import scene
from PIL import Image
from test_decode_command import EARLIER

from basic_runtime.codec import Codec
from basic_runtime.picture import Picture

pytestmark = pytest.mark.web

FOLDER = files("basic_runtime").joinpath("web")


def run(model: Path, *files: str | Path) -> list[dict[str, Any]]:
    """What decode.mjs tells of each file."""
    script = Path(__file__).with_name("decode.mjs")
    command = ["node", script, FOLDER, model, *files]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def rgba(picture: Picture) -> np.ndarray:
    height, width = picture.pixels.shape[:2]
    alpha = np.full((height, width), 255, np.uint8) if picture.alpha is None else picture.alpha
    return np.dstack([picture.rgb, alpha])


def check(
    model: Path, data: list[bytes], tmp_path: Path, levels: list[int | None] | None = None
) -> list[dict[str, Any]]:
    """Decodes files, and compares each with what the package decodes."""
    codec, names = Codec(threads=1), []
    for number, content in enumerate(data):
        (tmp_path / f"{number}.basic").write_bytes(content)
        level = None if levels is None else levels[number]
        names.append(f"{tmp_path / f'{number}.basic'}" + ("" if level is None else f":{level}"))
    found = run(model, *names)
    for number, (content, told) in enumerate(zip(data, found, strict=True)):
        assert "error" not in told, told
        expected = codec.decode_picture(content, level=None if levels is None else levels[number])
        pixels = np.fromfile(tmp_path / f"{number}.basic.rgba", np.uint8).reshape(told["height"], told["width"], 4)
        np.testing.assert_array_equal(pixels, rgba(expected))
    return found


def test_levels_and_qualities(whole_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    cases = [(level, quality) for level in range(8) for quality in (1, 60, 100)]
    data = [codec.encode(scene(70, 131, level), quality=quality, level=level) for level, quality in cases]
    check(whole_model, data, tmp_path)
    check(whole_model, data, tmp_path, [(level + 3) % 8 for level, _ in cases])


def test_sizes_and_tiles(small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    sizes = [(1, 1), (1, 300), (257, 1), (64, 64), (65, 63), (1100, 1000), (70, 4300)]
    check(small_model, [codec.encode(scene(*size), level=0, effort=0) for size in sizes], tmp_path)


def test_earlier_models(whole_model: Path, tmp_path: Path) -> None:
    check(whole_model, [file.read_bytes() for file in EARLIER], tmp_path)


def test_gray_alpha_and_orientation(small_model: Path, tmp_path: Path) -> None:
    codec, rgb = Codec(threads=1), scene(50, 61)
    planes = (None, scene(50, 61, 1)[:, :, 0], np.full((50, 61), 77, np.uint8))
    data, expected = [], []
    for pixels in (rgb, rgb[:, :, 1]):
        for number, alpha in enumerate(planes):
            exif = Image.Exif()
            exif[0x0112] = 1 + 3 * number
            exif[0x010E] = "words " * 40 * number  # enough to be packed
            data.append(codec.encode(Picture(pixels, alpha, exif=exif.tobytes()[6:]), level=0))
            expected.append(1 + 3 * number)
    assert [told["orientation"] for told in check(small_model, data, tmp_path)] == expected


def test_errors_are_one_line(small_model: Path, tmp_path: Path) -> None:
    codec = Codec(threads=1)
    data = codec.encode(scene(40, 40), level=0, alpha=scene(40, 40)[:, :, 0])
    other = codec.encode(scene(40, 40), level=7)
    (tmp_path / "whole.basic").write_bytes(data)
    names = ["whole.basic"]
    for number, content in enumerate((b"", data[:50], data[:-1], data + b"x", other)):
        names.append(f"{number}.basic")
        (tmp_path / names[-1]).write_bytes(content)
    whole, empty, cut, shorter, longer, level7 = run(small_model, *[tmp_path / name for name in names])
    assert (whole["width"], whole["height"]) == (40, 40)
    assert "empty" in empty["error"]
    assert "cut off" in cut["error"] and "cut off" in shorter["error"]
    assert "1 bytes follow" in longer["error"]
    assert "--from-levels 7" in level7["error"]
    (told,) = run(tmp_path / "whole.basic", tmp_path / "whole.basic")
    assert "no packed model" in told["error"]
    for place in range(0, len(data), 1 + len(data) // 40):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        (tmp_path / f"{place}.damaged").write_bytes(damaged)
    found = run(small_model, *tmp_path.glob("*.damaged"))
    assert len(found) > 30
    assert all(set(told) == {"error"} and "\n" not in told["error"] for told in found)
