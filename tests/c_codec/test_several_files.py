"""Several files, and folders, in one run of `basic-encode` or `basic-decode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure, scene
from PIL import Image

from basic_runtime.codec import Codec

PICTURES = {name: scene(20 + k, 30, k) for k, name in enumerate(["a.ppm", "b.ppm", "deeper/c.pgm", "deeper/d é.PPM"])}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures, and of other things."""
    folder = tmp_path / "photos"
    for name, pixels in PICTURES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, "PPM")
    (folder / "notes.txt").write_text("no picture")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_and_back(encode: Command, decode: Command, encoders: Path, photos: Path, tmp_path: Path) -> None:
    """The tree is kept."""
    packed, back = tmp_path / "packed" / "all", tmp_path / "back"
    result = encode("--level", 0, encoders, photos, "--out-dir", packed)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert names(packed) == ["a.basic", "b.basic", "deeper/c.basic", "deeper/d é.basic"]
    assert decode(encoders, packed, "--out-dir", back).returncode == 0
    assert names(back) == ["a.png", "b.png", "deeper/c.png", "deeper/d é.png"]
    codec = Codec(threads=1)
    for name in PICTURES:
        found = np.array(Image.open(back / Path(name).with_suffix(".png")))
        np.testing.assert_array_equal(found, codec.decode(codec.encode(PICTURES[name], level=0)))


def test_hidden_files_of_folders_are_left_out(encode: Command, encoders: Path, photos: Path, tmp_path: Path) -> None:
    (photos / ".secret").mkdir()
    for hidden in (photos / ".a.ppm", photos / ".secret" / "x.ppm"):
        hidden.write_bytes((photos / "a.ppm").read_bytes())
    assert encode("--level", 0, encoders, photos, "--out-dir", tmp_path / "out").returncode == 0
    assert len(names(tmp_path / "out")) == len(PICTURES)
    assert encode("--level", 0, encoders, photos / ".a.ppm", "--out-dir", tmp_path / "one").returncode == 0
    assert names(tmp_path / "one") == [".a.basic"]  # named by hand


@pytest.mark.parametrize(
    "arguments",
    [
        ("--level=0", "-q60", "{model}", "{input}", "-o", "{output}"),
        ("--level", "0", "--quality=60", "--output={output}", "--", "{model}", "{input}"),
        ("--level", "0", "-q", "60", "-o{output}", "{model}", "{input}"),
    ],
)
def test_ways_to_write_options(
    arguments: tuple[str, ...], encode: Command, encoders: Path, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.basic"
    places = {"model": encoders, "input": photos / "a.ppm", "output": output}
    result = encode(*(argument.format(**places) for argument in arguments))
    assert (result.returncode, result.stderr) == (0, b"")
    assert output.read_bytes() == Codec(threads=1).encode(PICTURES["a.ppm"], quality=60, level=0)


def test_files_by_name(encode: Command, decode: Command, encoders: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = [photos / name for name in PICTURES]
    assert encode("--level", 0, "--out-dir", out, encoders, *files, files[0]).returncode == 0
    assert names(out) == ["a.basic", "b.basic", "c.basic", "d é.basic"]
    told = decode("--info", *sorted(out.iterdir())).stdout.decode().splitlines()
    assert [line.partition(",")[0] for line in told] == [
        f"{out / name}.basic: 30x{height} RGB" for name, height in (("a", 20), ("b", 21), ("c", 22), ("d é", 23))
    ]
    for kind in ("ppm", "pam"):
        shown = tmp_path / kind
        assert decode(encoders, out, "--out-dir", shown, "--format", kind).returncode == 0
        assert names(shown) == [f"{name}.{kind}" for name in ("a", "b", "c", "d é")]


def test_outputs_beside_their_inputs(encode: Command, decode: Command, encoders: Path, photos: Path) -> None:
    assert encode("--level", 0, encoders, photos / "a.ppm").returncode == 0
    assert (photos / "a.basic").read_bytes() == Codec(threads=1).encode(PICTURES["a.ppm"], level=0)
    assert decode(encoders, photos / "a.basic").returncode == 0
    assert [name for name in names(photos) if name.startswith("a.")] == ["a.basic", "a.png", "a.ppm"]
    failure(encode(encoders, photos / "a.ppm"), "a.basic", "--overwrite")
    failure(
        encode("--overwrite", encoders, photos / "a.ppm", photos / "b.ppm"), "b.ppm", "name of a picture", "--out-dir"
    )
    np.testing.assert_array_equal(np.array(Image.open(photos / "b.ppm")), PICTURES["b.ppm"])
    failure(encode(encoders, "-", stdin=(photos / "a.ppm").read_bytes()), "standard input has no name")


def test_a_bad_file_stops_no_other(encode: Command, decode: Command, encoders: Path, photos: Path) -> None:
    out = photos.parent / "out"
    (photos / "b.ppm").write_bytes(b"P6 7")
    (photos / "none").mkdir()
    failure(encode("--level", 0, encoders, photos, "--out-dir", out), str(photos / "b.ppm"), "no picture")
    assert names(out) == ["a.basic", "deeper/c.basic", "deeper/d é.basic"]
    (out / "a.basic").write_bytes(b"kept")
    again = encode("--level", 0, encoders, photos, "--out-dir", out)
    assert (again.returncode, again.stderr.count(b"--overwrite"), again.stderr.count(b"\n")) == (1, 3, 4)
    assert (out / "a.basic").read_bytes() == b"kept"
    failure(decode(encoders, out, "--out-dir", photos.parent / "back"), "a.basic", "no .basic file")
    assert names(photos.parent / "back") == ["deeper/c.png", "deeper/d é.png"]
    told = decode("--info", out / "a.basic", out / "deeper" / "c.basic")
    assert (told.returncode, told.stdout.count(b"\n"), told.stderr.count(b"\n")) == (1, 1, 1)
    assert encode("--level", 0, "--overwrite", encoders, photos / "a.ppm", "--out-dir", out).returncode == 0
    assert (out / "a.basic").read_bytes() == Codec(threads=1).encode(PICTURES["a.ppm"], level=0)


def test_what_cannot_go_together(encode: Command, encoders: Path, photos: Path) -> None:
    out = photos.parent / "out"
    (photos / "a.pam").write_bytes(b"")
    failure(encode(encoders, photos, "--out-dir", out), "a.pam", "a.ppm", "same output", "two commands")
    failure(encode(encoders, "-", "--out-dir", out), "standard input")
    (photos / "empty").mkdir()
    failure(encode(encoders, photos / "empty", "--out-dir", out), "empty: holds nothing", "leave this folder out")
    failure(encode(encoders, photos / "none", "--out-dir", out), "none", "cannot be read")
    assert not list(out.glob("*"))
    failure(encode(encoders, photos / "b.ppm", "--out-dir", photos / "notes.txt"), "notes.txt", "cannot be")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out-dir",),
        ("--out-dir", "x", "m"),
        ("--format", "png", "m", "a", "b"),
        ("--info",),
        ("--overwrite=1", "m", "a"),
        ("m", "a", "b", "-o", "c"),
        ("m", "a", "-o", "c", "--out-dir", "x"),
        ("m", "a", "-o"),
        ("--levels=3", "m", "a"),
    ],
)
def test_misuse_is_status_2(decode: Command, arguments: tuple[str, ...]) -> None:
    assert decode(*arguments).returncode == 2


def test_formats_that_there_are(decode: Command) -> None:
    result = decode("m", "f", "--out-dir", "x", "--format", "jpg")
    assert (result.returncode, b"png, ppm or pam" in result.stderr) == (2, True)


def test_a_folder_without_pictures_stops_no_other(encode: Command, encoders: Path, photos: Path) -> None:
    (photos / "none").mkdir()
    out = photos.parent / "out"
    result = encode("--level", 0, encoders, photos / "none", photos / "a.ppm", "--out-dir", out)
    failure(result, "none: holds nothing for this command")
    assert names(out) == ["a.basic"]


def test_files_of_folders_may_be_named_twice(encode: Command, encoders: Path, photos: Path) -> None:
    (photos / "deeper" / "own").mkdir()
    (photos / "a.ppm").rename(photos / "deeper" / "own" / "a.ppm")
    own, out = photos / "deeper" / "own", photos.parent / "out"
    result = encode("--level", 0, encoders, own / "a.ppm", own, "--out-dir", out)
    assert (result.returncode, result.stderr, names(out)) == (0, b"", ["a.basic"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("m", "a", "--out-dir", ""), "--out-dir has an empty name"),
        (("m", "a", "--out-dir="), "--out-dir has an empty name"),
        (("m", "a", "-o", ""), "-o has an empty name"),
        (("m", "a", "--output="), "--output has an empty name"),
        (("m", ""), "a file has an empty name"),
        (("m", "a", "-q", "0"), "-q needs a whole number from 1 to 100"),
        (("m", "a", "-q", "101"), "-q needs a whole number from 1 to 100"),
        (("m", "a", "--threads", "0"), "--threads needs a whole number from 1 to 64"),
        (("m", "a", "--max-pixels", "0"), "--max-pixels needs a whole number from 1 to 4294967296"),
        (("m", "a", "--level", "8"), "--level needs a whole number from 0 to 7"),
    ],
)
def test_values_that_cannot_be(encode: Command, arguments: tuple[str, ...], what: str) -> None:
    result = encode(*arguments)
    assert result.returncode == 2
    assert what in result.stderr.decode()
