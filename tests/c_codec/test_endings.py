"""How the commands end when they are stopped, or cannot write."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from c_commands import Command, failure, scene

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
    while not list(tmp_path.glob("*.part-*")):
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
    while not list(tmp_path.glob("*.part-*")):
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
