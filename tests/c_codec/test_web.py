"""The codec for browsers, run by Node: pixels and files of the package, byte for byte (`make test-web`)."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_commands import scene
from PIL import Image, ImageCms
from test_decode_command import EARLIER

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture
from basic_runtime.picture import Picture

pytestmark = pytest.mark.web

FOLDER = files("basic_runtime").joinpath("web")


def run(model: Path, *files: str | Path) -> list[dict[str, Any]]:
    """What web.mjs tells of each file."""
    script = Path(__file__).with_name("web.mjs")
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


def encoded(model: Path, tmp_path: Path, cases: list[tuple[np.ndarray, dict[str, Any]]]) -> list[bytes | str]:
    """The file of each picture (height, width, 4) and options, or the line of an error."""
    names = []
    for number, (pixels, options) in enumerate(cases):
        path = tmp_path / f"e{number}.json"
        path.with_suffix(".rgba").write_bytes(pixels.tobytes())
        path.write_text(json.dumps({"width": pixels.shape[1], "height": pixels.shape[0], "options": options}))
        names.append(path)
    told = run(model, *names)
    return [
        line.get("error") or name.with_suffix(".basic").read_bytes() for line, name in zip(told, names, strict=True)
    ]


def test_files_are_those_of_the_package(encoders: Path, tmp_path: Path) -> None:
    codec, opaque = Codec(threads=1), np.full((90, 131), 255, np.uint8)
    cases, expected = [], []
    for level, quality, effort in [(0, 1, 0), (0, 60, 1), (3, 100, 1), (7, 40, 0), (7, 90, 1)]:
        for pixels in (scene(90, 131, level), np.repeat(scene(90, 131)[:, :, :1], 3, 2)):
            options = {"quality": quality, "level": level, "effort": effort}
            cases.append((np.dstack([pixels, opaque]), options))
            gray = np.ptp(pixels, axis=2).max() == 0
            expected.append(codec.encode(pixels[:, :, 0] if gray else pixels, **options))
    assert encoded(encoders, tmp_path, cases) == expected


def test_alpha_goes_there_and_back(encoders: Path, tmp_path: Path) -> None:
    codec, rgb = Codec(threads=1), scene(50, 61)
    planes = [scene(50, 61, 1)[:, :, 0], np.full((50, 61), 77, np.uint8), np.zeros((50, 61), np.uint8)]
    for alpha, data in zip(
        planes, encoded(encoders, tmp_path, [(np.dstack([rgb, a]), {}) for a in planes]), strict=True
    ):
        assert isinstance(data, bytes)
        np.testing.assert_array_equal(codec.decode_picture(data).alpha, alpha)


def test_pictures_that_cannot_be_encoded(encoders: Path, small_model: Path, tmp_path: Path) -> None:
    pixels = np.dstack([scene(20, 30), np.full((20, 30), 255, np.uint8)])
    wrong = [{"quality": 0}, {"quality": 101}, {"effort": 2}]
    assert all("must be" in str(line) for line in encoded(encoders, tmp_path, [(pixels, options) for options in wrong]))
    (line,) = encoded(small_model, tmp_path, [(pixels, {})])
    assert "without encoders" in str(line)


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


def node(code: str, *arguments: object) -> str:
    """What a module prints that has the package's folder, and these, as arguments."""
    script = f"""
        const [, folder, ...given] = process.argv;
        const {{ BasicCodec }} = await import(`${{folder}}/basic-codec.mjs`);
        {code}
    """
    command = ["node", "--input-type=module", "-e", script, str(FOLDER), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_colour_profiles(small_model: Path, tmp_path: Path) -> None:
    """Browsers get the picture as a PNG with its profile. 150 rows are more than one block of its stream."""
    icc, alpha = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), scene(150, 131)[..., 0]
    files = [Picture(scene(150, 131), alpha, icc=icc), Picture(scene(50, 61))]
    for number, picture in enumerate(files):
        (tmp_path / f"{number}.basic").write_bytes(Codec(threads=1).encode(picture, level=0))
    code = """
        const { pngOf } = await import(`${folder}/basic-codec.mjs`);
        const { writeFile } = await import("node:fs/promises");
        const codec = await BasicCodec.load(`${folder}/basic-codec.wasm`, given[0]);
        const { width, height, data, icc } = await codec.decode(given[1]);
        await writeFile(given[3], new Uint8Array(await pngOf(width, height, data, icc).arrayBuffer()));
        console.log((await codec.decode(given[2])).icc);
    """
    told = node(code, small_model, tmp_path / "0.basic", tmp_path / "1.basic", tmp_path / "0.png")
    assert told == "null\n"
    found, expected = (
        read_picture(tmp_path / "0.png"),
        Codec(threads=1).decode_picture((tmp_path / "0.basic").read_bytes()),
    )
    assert (found.icc, expected.icc) == (icc, icc)
    np.testing.assert_array_equal(rgba(found), rgba(expected))


def test_paths_and_addresses_of_files(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.basic").write_bytes(Codec(threads=1).encode(scene(20, 30), level=0))
    code = """
        const wasm = `${folder}/basic-codec.wasm`;
        const codec = await BasicCodec.load(wasm, given[0]);
        for (const file of [given[1], given[2], new URL(given[2])]) console.log((await codec.decode(file)).width);
        for (const file of ["none.basic", "file:///none.basic"])
            await codec.decode(file).catch((error) => console.log(error.message));
    """
    told = node(code, small_model, tmp_path / "a.basic", (tmp_path / "a.basic").as_uri()).splitlines()
    assert told[:3] == ["30"] * 3
    assert told[3:] == [
        f"{name}: cannot be loaded (ENOENT): check the path" for name in ("none.basic", "file:///none.basic")
    ]


def test_memory_beyond_2_gib(encoders: Path, tmp_path: Path) -> None:
    """There addresses are negative as the program returns them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Picture(scene(20, 30), scene(20, 30)[..., 0], exif=exif.tobytes()[6:])
    (tmp_path / "a.basic").write_bytes(Codec(threads=1).encode(picture, level=0))
    code = """
        const codec = await BasicCodec.load(`${folder}/basic-codec.wasm`, given[0]);
        const first = await codec.decode(given[1]);
        for (let k = 0; k < 3; ++k) codec._exports.basic_allocate(900_000_000);
        const again = await codec.decode(given[1]);
        const file = await codec.encode(again, { level: 0 });
        const error = await codec.decode(new Uint8Array(3)).catch((error) => error.message);
        const same = Buffer.from(first.data).equals(Buffer.from(again.data));
        console.log(again.orientation, same, (await codec.decode(file)).width);
        console.log(error);
    """
    told = node(code, encoders, tmp_path / "a.basic").splitlines()
    assert told[0] == "6 true 30"
    assert "no .basic file" in told[1]
