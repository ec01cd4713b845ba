"""Standard streams as services and shells give them, and signals that come more than once."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from basic_runtime.errors import FileError
from basic_runtime.files import read_bytes, write_bytes, write_whole
from basic_runtime.imageio import read_picture, write_picture

COMMAND = Path(sys.executable).with_name("basic-run")
Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(autouse=True)
def folder(tiny_path: Path, tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photo.png in it."""
    monkeypatch.setenv("BASIC_BUNDLE", str(tiny_path))
    Image.fromarray(photo(200, 300)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Slow(io.RawIOBase):
    """Takes a few bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.taken += bytes(data[:7])
        return min(7, len(data))


class Plain:
    """The same without Python's classes of files."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: bytes) -> int:
        self.taken += bytes(data[:7])
        return min(7, len(data))


class Full:
    def write(self, data: bytes) -> int:
        return 0


def test_a_file_that_takes_a_few_bytes_at_a_time_gets_all(photo: Photo) -> None:
    file = Slow()
    write_whole(file, b"abc" * 100)
    assert file.taken == b"abc" * 100
    for picture in (Slow(), Plain()):
        write_picture(picture, photo(20, 30), format="PNG")  # type: ignore[arg-type]
        np.testing.assert_array_equal(read_picture(picture.taken).pixels, photo(20, 30))
    with pytest.raises(FileError, match="the file object: cannot be written .it takes no bytes"):
        write_picture(Full(), photo(20, 30), format="PNG")  # type: ignore[arg-type]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_does_not_wait_gets_all(unbuffered: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save("noise.png")
    subprocess.run([COMMAND, "encode", "noise.png", "--level", "0"], check=True, capture_output=True)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    running = subprocess.Popen(
        [COMMAND, "decode", "noise.basic", "-o", "-"], stdout=writing, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writing)
    time.sleep(0.5)  # the pipe fills
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    assert running.wait(100) == 0 and read_picture(data).pixels.shape == (300, 300, 3)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_and_json_go_whole_into_a_pipe_that_does_not_wait(unbuffered: str) -> None:
    subprocess.run([COMMAND, "encode", "photo.png", "--level", "0"], check=True, capture_output=True)
    names = [f"{k}.basic" for k in range(400)]
    for name in names:
        os.link("photo.basic", name)
    for options in ([], ["--json"]):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        running = subprocess.Popen(
            [COMMAND, "info", *names, *options], stdout=writing, env=os.environ | {"PYTHONUNBUFFERED": unbuffered}
        )
        os.close(writing)
        time.sleep(1)  # the pipe fills
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        assert running.wait(100) == 0 and len(data) > 1 << 16
        assert len(json.loads(data)) == 400 if options else data.count(b"picture") == 400


def test_a_pipe_that_does_not_wait_is_read_whole() -> None:
    data = Path("photo.png").read_bytes()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    running = subprocess.Popen([COMMAND, "info", "-"], stdin=reading, stderr=subprocess.PIPE, text=True)
    os.close(reading)
    for part in (data[:9], data[9:]):
        time.sleep(0.7)
        os.write(writing, part)
    os.close(writing)
    assert "standard input: this is no .basic file" in running.communicate(timeout=100)[1]


def test_output_that_is_cut_short_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASIC_BUNDLE")  # engines of other bundles have files of their own to write
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))"
    code = f"{limit}; from basic_runtime.cli import main; main(['encode', 'photo.png', '-o', '-'])"
    with open("part.basic", "wb") as part:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], stdout=part, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    assert done.returncode == 1 and "standard output: cannot be written (file too large)" in done.stderr


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/fd/9"])
def test_a_stream_by_its_name_is_written_to_and_not_replaced(name: str) -> None:
    subprocess.run([COMMAND, "encode", "photo.png"], check=True, capture_output=True)
    Path("out").write_bytes(b"before ")
    with open("out", "ab") as out:
        done = subprocess.run(
            [COMMAND, "encode", "photo.png", "-o", name], stdout=out if name != "/dev/fd/9" else None,
            stderr=subprocess.PIPE, pass_fds=[9] if name == "/dev/fd/9" else [],
            preexec_fn=partial(os.dup2, out.fileno(), 9) if name == "/dev/fd/9" else None,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("out").read_bytes() == b"before " + Path("photo.basic").read_bytes()


def closed(*arguments: str, stream: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, preexec_fn=partial(os.close, stream))


def test_commands_work_without_standard_error() -> None:
    assert closed("encode", "photo.png", stream=2).returncode == 0
    assert closed("verify", "photo.basic", stream=2).returncode == 0
    assert closed("decode", "photo.basic", "-o", "again.png", stream=2).returncode == 0
    assert read_picture("again.png").pixels.shape == (200, 300, 3)


def test_standard_input_that_is_closed_is_one_line() -> None:
    done = closed("encode", "-", "-o", "a.basic", stream=0)
    assert done.returncode == 1
    assert done.stderr == "basic-run: error: standard input: cannot be read (it is closed): check the path\n"


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png"])
def test_names_that_no_file_can_have_are_refused(name: str, photo: Photo) -> None:
    for work in (read_bytes, read_picture, partial(write_bytes, data=b""), partial(write_picture, picture=photo(8, 8))):
        with pytest.raises(FileError, match="no file can have this name"):
            work(name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_a_batch_at_once_and_tells_what_is_done(number: signal.Signals, photo: Photo) -> None:
    """Each file that is told of is whole, and there is no other but of those that were at work."""
    large = np.tile(photo(500, 750), (4, 4, 1))
    names = ["0.png", *(f"large-{k}.png" for k in range(15))]  # more than any machine codes in 0.2 s
    Image.fromarray(large[:100, :100]).save(names[0])
    Image.fromarray(large).save(names[1], compress_level=0)
    for name in names[2:]:
        os.link(names[1], name)

    def heed() -> None:  # what a shell's background job, or nohup, ignores
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    running = subprocess.Popen(
        [COMMAND, "encode", *names, "--json", "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed,
    )  # fmt: skip
    while not Path("0.basic").exists() and running.poll() is None:
        time.sleep(0.01)
    for _ in range(2):
        time.sleep(0.1)
        running.send_signal(number)
    output, errors = running.communicate(timeout=100)
    assert running.returncode == 130 and "stopped: " in errors
    # What interrupts a finaliser of Python's own, Python tells and ignores.
    assert errors.count("Traceback") == errors.count("Exception ignored in")
    told = {result["output"] for result in json.loads(output)}
    assert "0.basic" in told and all(Path(name).stat().st_size for name in told) and len(told) < len(names)


def test_no_library_tells_of_its_use(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "from basic_runtime.engines import available_backends, create_backend\n"
        "names = {'onnxruntime', 'openvino'} & set(available_backends())\n"
        "print(*sorted(create_backend(name).version for name in names))\n"
        "import sys; print(*sorted({'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True,
        env=environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
    )  # fmt: skip
    assert "onnxruntime" in done.stdout.splitlines()[1]
    assert [path for path in home.rglob("*") if path.is_file()] == []
