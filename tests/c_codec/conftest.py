"""The codec without Python, as `make codec` builds it, and models for it.

`BASIC_CODEC_BUILD` names the folder of another build, `BASIC_CODEC_RUN` what runs its programs, such as wine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from c_commands import Command

from basic_runtime.bundle import Bundle
from basic_runtime.packed_model import packed_model

ROOT = Path(__file__).parents[2]


def command(name: str) -> Command:
    runner = os.environ.get("BASIC_CODEC_RUN", "").split()
    program = Path(os.environ.get("BASIC_CODEC_BUILD", ROOT / "build-codec")) / name
    if not program.is_file() and (windows := program.with_suffix(".exe")).is_file():
        program = windows
    if not program.is_file():
        pytest.fail(f"{program} is not there: make codec builds it")

    def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*runner, program, *map(str, arguments)]
        for _ in range(3):
            done = subprocess.run(command, input=stdin, capture_output=True, check=False)
            # Now and then Wine ends before the program begins. That itself never fails without a word.
            if not runner or not done.returncode or done.stdout or done.stderr:
                break
        return done

    return run


@pytest.fixture(scope="session")
def decode() -> Command:
    return command("basic-decode")


@pytest.fixture(scope="session")
def encode() -> Command:
    return command("basic-encode")


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle()


@pytest.fixture(scope="session")
def small_model(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Level 0, for files of level 0."""
    path = tmp_path_factory.mktemp("models") / "level0.basicmodel"
    path.write_bytes(packed_model(bundle, [0], [0]))
    return path


@pytest.fixture(scope="session")
def encoders(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What encodes and decodes at all levels."""
    path = tmp_path_factory.mktemp("models") / "encoders.basicmodel"
    path.write_bytes(packed_model(bundle, range(8), [], encoders=True))
    return path


@pytest.fixture(scope="session")
def whole_model(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All levels, for all files, those of earlier models among them."""
    path = tmp_path_factory.mktemp("models") / "whole.basicmodel"
    path.write_bytes(packed_model(bundle, range(8), range(8), earlier=True))
    return path
