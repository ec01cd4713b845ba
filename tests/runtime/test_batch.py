"""Many files with one command: names of outputs, folders, what exists already, stopping."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from basic_runtime.cli import main

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(autouse=True)
def _default_bundle(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_BUNDLE", str(tiny_path))


@pytest.fixture
def folder(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photo.png in it."""
    Image.fromarray(photo(40, 60)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="basic-run")


def fails(result: Result, *parts: str) -> None:
    """The run ended with status 1 and one line on standard error that holds `parts`."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 1, result.output
    assert len(lines) == 1 and lines[0].startswith("basic-run: error: "), result.stderr
    for part in parts:
        assert part in lines[0]


def test_two_names_of_one_output(folder: Path) -> None:
    """Once relative and absolute, once through a link to the folder: nothing is written."""
    os.symlink(".", "link")
    for other in (folder / "photo.jpg", Path("link/photo.jpg")):
        Image.open("photo.png").save(other)
        done = run("encode", "photo.png", other, "--overwrite", "--jobs", 1)
        fails(done, f"photo.png and {other} would both be written there")
        assert not Path("photo.basic").exists()
