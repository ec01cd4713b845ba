"""How the commands end when they are stopped, or cannot write."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure, scene
from PIL import Image

from basic_runtime.codec import Codec

ROOT = Path(__file__).parents[2]
DECODE = Path(os.environ.get("BASIC_CODEC_BUILD", ROOT / "build-codec")).resolve() / "basic-decode"


@pytest.fixture(scope="module")
def large() -> bytes:
    """A file that takes a while to write as a picture."""
    return Codec(threads=2).encode(np.tile(scene(200, 300), (12, 12, 1)), level=0, effort=0, quality=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_commands_leave_nothing(
    number: signal.Signals, large: bytes, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.basic").write_bytes(large)
    process = subprocess.Popen(
        [DECODE, small_model, tmp_path / "a.basic", tmp_path / "a.png", "--threads", "1"],
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # which a shell's background jobs ignore
    )
    while not list(tmp_path.glob(".a.png.*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    assert process.wait(60) == -number
    assert [path.name for path in tmp_path.iterdir()] == ["a.basic"]


def test_signals_that_are_ignored_stay_so(large: bytes, small_model: Path, tmp_path: Path) -> None:
    """As nohup wants it."""
    (tmp_path / "a.basic").write_bytes(large)
    process = subprocess.Popen(
        ["nohup", DECODE, small_model, tmp_path / "a.basic", tmp_path / "a.png"], stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob(".a.png.*.tmp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.basic", "a.png"}


def test_a_file_beyond_the_limit_of_sizes(large: bytes, small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.basic").write_bytes(large)
    result = subprocess.run(
        [DECODE, small_model, tmp_path / "a.basic", tmp_path / "a.png"],
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    failure(result, "a.png", "cannot be written", "too large")
    assert [path.name for path in tmp_path.iterdir()] == ["a.basic"]


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("--info", "a.basic")])
def test_what_cannot_be_printed_fails(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.basic").write_bytes(Codec(threads=1).encode(scene(20, 20), level=0))
    with open("/dev/full", "wb") as full:
        result = subprocess.run([DECODE, *arguments], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path)
    failure(result, "standard output: cannot be written")


def test_names_do_nothing_to_a_terminal(decode: Command, tmp_path: Path) -> None:
    name = tmp_path / "a\nb\x1b[31m.basic"
    failure(decode("--info", name), "a\\x0ab\\x1b[31m.basic: cannot be read")
    name.write_bytes(Codec(threads=1).encode(scene(20, 20), level=0))
    assert decode("--info", name).stdout.startswith(f"{tmp_path}/a\\x0ab\\x1b[31m.basic: 20x20".encode())


@pytest.fixture
def source(small_model: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a.basic"
    file.write_bytes(Codec(threads=1).encode(scene(20, 20), level=0))
    return file


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.array(image)


def test_pipes_and_devices_are_written_to(small_model: Path, source: Path, tmp_path: Path) -> None:
    """Whether they may be replaced or not."""
    pipe = tmp_path / "a.ppm"
    os.mkfifo(pipe)
    for options in ([], ["--overwrite"]):
        with subprocess.Popen([DECODE, *options, small_model, source, pipe]) as process:
            assert pixels_of(pipe).shape == (20, 20, 3)
        assert process.returncode == 0 and pipe.is_fifo()
    device = tmp_path / "null.png"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_bytes(b"")
    except PermissionError:
        return  # which only some users may make and open
    assert subprocess.run([DECODE, "--overwrite", small_model, source, device]).returncode == 0
    assert device.is_char_device()


def test_of_links_the_targets_are_replaced(decode: Command, small_model: Path, source: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "files" / "a.png", tmp_path / "link.png"
    target.parent.mkdir()
    link.symlink_to("files/a.png")
    assert decode(small_model, source, link).returncode == 0  # to a file that is not there yet
    assert link.is_symlink() and not target.is_symlink()
    failure(decode(small_model, source, link), "link.png", "--overwrite")
    target.write_bytes(b"before")
    target.chmod(0o640)
    assert decode("--overwrite", small_model, source, link).returncode == 0
    assert link.is_symlink() and pixels_of(target).shape == (20, 20, 3)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["a.png"]


def test_streams_by_their_names_are_written_to(encoders: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.ppm"
    Image.fromarray(scene(20, 20)).save(picture)
    output = tmp_path / "out"
    output.write_bytes(b"before,")
    with output.open("ab") as file:
        command = [DECODE.with_name("basic-encode"), "--level", "0", encoders, picture, "/dev/stdout"]
        assert subprocess.run(command, stdout=file).returncode == 0
    assert output.read_bytes() == b"before," + Codec(threads=1).encode(scene(20, 20), level=0)


def test_folders_are_no_outputs(decode: Command, small_model: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    for options in ([], ["--overwrite"]):
        failure(decode(*options, small_model, source, tmp_path / "a.png"), "a.png: is a folder")


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "\u00e9" * 125 + ".png", "x\u00e9" * 83 + ".png"])
def test_long_names(decode: Command, small_model: Path, source: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    assert (decode(small_model, source, output).returncode, pixels_of(output).shape) == (0, (20, 20, 3))
    assert {path.name for path in tmp_path.iterdir()} == {name, "in"}


def test_unfinished_files_of_others_are_in_nobodys_way(small_model: Path, source: Path, tmp_path: Path) -> None:
    """Where numbers of processes repeat, as in containers."""
    output = tmp_path / "a.png"
    with subprocess.Popen(
        ["sh", "-c", 'touch "$3.part-$$"; exec "$0" "$1" "$2" "$3"', DECODE, small_model, source, output]
    ) as process:
        pass
    assert (process.returncode, pixels_of(output).shape) == (0, (20, 20, 3))


def test_standard_output_has_its_name(decode: Command, small_model: Path, source: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run([DECODE, small_model, source, "-"], stdout=full, stderr=subprocess.PIPE)
    failure(result, "error: standard output: cannot be written", "check where it goes")
