"""Many files with one command: names of outputs, folders, what exists already, stopping."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from basic_runtime.cli import main

from .commands import fails

COMMAND = Path(sys.executable).with_name("basic-run")
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


def test_two_names_of_one_output(folder: Path) -> None:
    """Once relative and absolute, once through a link to the folder: nothing is written."""
    os.symlink(".", "link")
    for other in (folder / "photo.jpg", Path("link/photo.jpg")):
        Image.open("photo.png").save(other)
        done = run("encode", "photo.png", other, "--overwrite", "--jobs", 1)
        fails(done, f"photo.png and {other} would both be written there")
        assert not Path("photo.basic").exists()


def tree(top: str) -> list[str]:
    """All files below a folder, named from there."""
    return sorted(str(path.relative_to(top)) for path in Path(top).rglob("*") if path.is_file())


def test_folders_there_and_back(folder: Path) -> None:
    for name in ("in/a.png", "in/deep/er/b.JPG", "in/.hidden.png", "in/.hidden/c.png", "in/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.open("photo.png").save(name.replace(".txt", ".png"))
        Path(name.replace(".txt", ".png")).rename(name)
    done = run("encode", "in", "photo.png", "--out-dir", "packed", "--jobs", 1)
    assert done.exit_code == 0 and done.stderr.startswith("3 encoded: "), done.stderr
    assert tree("packed") == ["a.basic", "deep/er/b.basic", "photo.basic"]
    assert run("decode", "packed", "--out-dir", "back", "--format", "webp", "--jobs", 1).exit_code == 0
    assert tree("back") == ["a.webp", "deep/er/b.webp", "photo.webp"]
    assert run("encode", "in/", "--jobs", 1).exit_code == 0
    assert Path("in/deep/er/b.basic").is_file() and not Path("in/.hidden.basic").exists()


def test_folders_that_are_refused(folder: Path) -> None:
    Path("empty/.git").mkdir(parents=True)
    Image.open("photo.png").save("empty/.git/x.png")
    fails(run("encode", "photo.png", "empty", "--out-dir", "packed"), "empty: no files in this folder that end in .png")
    fails(run("decode", "empty", "--out-dir", "packed"), "empty: no files in this folder that end in .basic")
    fails(run("encode", ".", "-o", "x.basic"), ".: is a folder, and -o names one file: use --out-dir")
    assert tree(".") == ["empty/.git/x.png", "photo.png"] and not Path("packed").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_outputs_that_are_there_can_be_skipped(folder: Path, jobs: int) -> None:
    Image.open("photo.png").save("other.png")
    Path("photo.basic").write_bytes(b"mine")
    done = run("encode", "photo.png", "other.png", "--skip-existing", "--jobs", jobs)
    assert done.exit_code == 0 and done.stderr.startswith("1 encoded: ") and done.stderr.endswith("; 1 skipped\n")
    assert "photo.png -> photo.basic  is there, skipped" in done.stdout
    assert Path("photo.basic").read_bytes() == b"mine" and Path("other.basic").stat().st_size > 4
    [result] = json.loads(run("decode", "other.basic", "--skip-existing", "--json").stdout)
    assert result == {"input": "other.basic", "output": "other.png", "skipped": True}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stopped_command_tells_what_is_done(folder: Path, photo: Photo, jobs: int) -> None:
    """Ctrl-C to the installed command, once its first output is there: each file that it tells of is whole, and there
    is no other."""
    names = [f"{number:02}.png" for number in range(40)]
    Image.fromarray(photo(400, 600)).save("00.png")
    for name in names[1:]:
        shutil.copy("00.png", name)
    running = subprocess.Popen(
        [COMMAND, "encode", *names, "--json", "--jobs", str(jobs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not Path("00.basic").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=100)
    assert running.returncode == 130 and b"basic-run: stopped: " in err and b"Traceback" not in err
    told = {result["output"] for result in json.loads(out)}
    assert {path.name for path in Path().iterdir()} == {*names, "photo.png", *told}
    assert 0 < len(told) < len(names)
    for name in told:
        assert run("info", name).exit_code == 0


def test_a_command_that_is_stopped_before_it_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("basic_runtime.cli.setup.make_codec", stop)
    done = run("encode", "photo.png")
    assert done.exit_code == 130 and done.stderr == "basic-run: stopped\n"
