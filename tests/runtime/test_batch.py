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
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from basic_runtime import container
from basic_runtime.cli import main
from basic_runtime.codec import Codec

from .commands import fails

verify_command = import_module("basic_runtime.cli.verify")  # which the package hides behind the command itself
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


def tree(top: str) -> list[str]:
    """All files below a folder, named from there."""
    return sorted(str(path.relative_to(top)) for path in Path(top).rglob("*") if path.is_file())


def pictures(*names: str) -> None:
    """Copies of photo.png, in what folders they need."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("photo.png", name)


def errors(done: Result) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("basic-run: error: ")]


def test_names_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    """They stay on one line, in JSON as they are."""
    name = tmp_path / "a\nb\x1b[31m.basic"
    name.write_bytes(b"no file")
    result = CliRunner().invoke(main, ["decode", str(name), "--json"])
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"basic-run: error: {tmp_path}/a\\x0ab\\x1b[31m.basic: ")
    assert json.loads(result.stdout)[0]["input"] == str(name)


def test_names_in_errors_are_as_they_are_and_there_once(folder: Path) -> None:
    for name in ("a\nb.png", "end\n", " c.png"):
        (line,) = run("encode", name, "-o", "x.basic").stderr.splitlines()
        shown = name.replace("\n", "\\x0a")
        assert line.startswith(f"basic-run: error: {shown}: cannot be read (no such file")


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_a_stream_has_no_name_for_an_output(name: str, folder: Path) -> None:
    def encode(*options: str) -> subprocess.CompletedProcess[str]:
        with open("photo.png") as photo:
            return subprocess.run([COMMAND, "encode", name, *options], stdin=photo, capture_output=True, text=True)

    for options in ([], ["--out-dir", "out"]):
        done = encode(*options)
        assert done.returncode == 2 and f"{name} has no name to use for an output: use -o" in done.stderr
    assert encode("-o", "a.basic").returncode == 0
    assert container.peek(Path("a.basic").read_bytes()).width == 60


def test_two_names_of_one_output(folder: Path) -> None:
    """Once relative and absolute, once through a link to the folder: the second fails."""
    os.symlink(".", "link")
    for other in (str(folder / "photo.jpg"), "link/photo.jpg"):
        pictures(other)
        done = run("encode", "photo.png", other, "--overwrite", "--jobs", 1)
        target = Path(other).with_suffix(".basic")
        way_out = "use --keep-extension, rename one, or name its output with -o"
        line = f"basic-run: error: {other}: would be written to {target}, as photo.png is: {way_out}"
        assert done.exit_code == 1 and errors(done) == [line]
        assert done.stderr.splitlines()[1].startswith("1 encoded: ")


def test_of_files_with_one_output_all_but_the_first_fail(folder: Path) -> None:
    pictures("in/a.jpg", "in/a.png", "in/a.webp", "in/b.png")
    done = run("encode", "in", "--json")
    assert done.exit_code == 1 and tree("in") == ["a.basic", "a.jpg", "a.png", "a.webp", "b.basic", "b.png"]
    results = json.loads(done.stdout)
    assert [result["input"] for result in results if "error" in result] == ["in/a.png", "in/a.webp"]
    assert {result["output"] for result in results[:3]} == {"in/a.basic"} and "as in/a.jpg is" in results[2]["error"]
    done = run("encode", "in/a.jpg", "in/a.png", "in/b.png", "--keep-extension", "--out-dir", "out")
    assert done.exit_code == 0 and tree("out") == ["a.jpg.basic", "a.png.basic", "b.png.basic"]
    assert run("decode", "out", "--out-dir", "back").exit_code == 0
    assert tree("back") == ["a.jpg.png", "a.png.png", "b.png.png"]


def test_files_of_one_name_in_two_folders(folder: Path) -> None:
    """Their extensions are the same, and of no help."""
    pictures("e1/a.png", "e2/a.png", "e2/b.png")
    done = run("encode", "e1/a.png", "e2", "--out-dir", "out")
    [line] = errors(done)
    assert done.exit_code == 1 and tree("out") == ["a.basic", "b.basic"]
    assert "e2/a.png: would be written to out/a.basic, as e1/a.png is: rename one" in line


def test_a_file_that_is_named_twice_is_done_once(folder: Path) -> None:
    os.symlink(".", "link")
    pictures("in/a.png")
    done = run("encode", "photo.png", "./photo.png", folder / "photo.png", "link/photo.png", "in", "in/a.png")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 2 and done.stderr.startswith("2 encoded: ")
    os.symlink("photo.png", "other.png")  # which is to be decoded by its own name
    assert run("encode", "photo.png", "other.png", "--out-dir", "out").exit_code == 0
    assert tree("out") == ["other.basic", "photo.basic"]


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_folder_that_cannot_be_read_is_one_failure(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the only input. (Permissions do not stop those who run tests as root.)"""
    pictures("in/a.png", "in/locked/b.png", "in/z/c.png")
    assert run("encode", "in").exit_code == 0
    scan = os.scandir

    def refuse(path: str | int) -> object:
        if str(path).endswith("/locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = "in/locked: cannot be read (permission denied): leave this folder out"
    done = run(command, "in", "--json", "--out-dir", "out")
    assert done.exit_code == 1 and errors(done) == [f"basic-run: error: {error}"]
    assert [Path(path).stem for path in tree("out")] == ["a", "c"]
    assert json.loads(done.stdout)[1] == {"input": "in/locked", "error": error}
    fails(run(command, "in/locked"), error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_a_folder_are_not_read(folder: Path) -> None:
    pictures("in/a.png")
    os.mkfifo("in/pipe.png")
    os.symlink("../photo.png", "in/link.png")
    os.symlink("nowhere.png", "in/lost.png")
    os.symlink("pipe.png", "in/link to a pipe.png")
    done = run("encode", "in", "--out-dir", "out")
    assert tree("out") == ["a.basic", "link.basic"]
    assert done.exit_code == 1 and len(errors(done)) == 1
    assert "in/lost.png: cannot be read (no such file or directory)" in errors(done)[0]


def test_what_is_left_out_of_folders_is_told(folder: Path) -> None:
    pictures("in/a.png", "in/b.cr2", "in/deep/c.CR2", "in/notes", "in/.hidden", "in/.git/x.y", "in/pack.basic")
    note = "basic-run: note: left out 3 files that are no pictures by their names: 2 .cr2, 1 without an extension"
    done = run("encode", "in", "in", "--json", "--out-dir", "out")
    assert done.exit_code == 0 and done.stderr.splitlines() == [note]
    pictures("out/b.webp", "out/a.png")
    done = run("decode", "out", "--overwrite")
    assert done.stderr.splitlines() == ["basic-run: note: left out 1 file that is not named .basic: 1 .webp"]
    done = run("encode", "photo.png")
    assert not done.stderr


def test_folders_hold_pictures_by_any_of_their_names(folder: Path) -> None:
    Path("in").mkdir()
    for name, kind in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.pbm", "PPM")):
        Image.open("photo.png").convert("1" if kind == "PPM" else "RGB").save(f"in/{name}", kind)
    assert Path("in/c.pbm").read_bytes().startswith(b"P4")
    done = run("encode", "in", "--out-dir", "out")
    assert done.exit_code == 0 and tree("out") == ["a.basic", "b.basic", "c.basic"]


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
    for command in ("decode", "info"):
        fails(run(command, "empty"), "empty: no files in this folder that end in .basic")
    fails(run("encode", "empty", "--out-dir", "packed"), "empty: no files in this folder that end in .png")
    fails(run("encode", ".", "-o", "x.basic"), ".: is a folder, and -o names one file: use --out-dir")
    assert tree(".") == ["empty/.git/x.png", "photo.png"] and not Path("packed").exists()


def test_a_folder_without_pictures_does_not_stop_the_rest(folder: Path) -> None:
    Path("empty").mkdir()
    done = run("encode", "empty", "photo.png", "--json")
    error = json.loads(done.stdout)[0]["error"]
    assert error.startswith("empty: no files")
    assert done.exit_code == 1 and errors(done) == [f"basic-run: error: {error}"]
    assert done.stderr.splitlines()[-1].endswith("; 1 failed")
    for command in ("decode", "info"):
        done = run(command, "empty", "photo.basic", *(["--overwrite"] if command == "decode" else []))
        assert done.exit_code == 1 and len(errors(done)) == 1 and "photo.basic" in done.stdout


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


def test_folders_of_packed_files(folder: Path) -> None:
    pictures("in/a.png", "in/deep/b.png")
    assert run("encode", "in").exit_code == 0
    Path("in/deep/c.basic").write_bytes(b"nonsense")
    names = ["in/a.basic", "in/deep/b.basic", "in/deep/c.basic"]
    done = run("verify", "in", "in/a.basic", "--jobs", 2)
    assert done.exit_code == 1 and "in/deep/c.basic: this is no .basic file" in errors(done)[0]
    assert done.stdout.splitlines() == [f"{name}: intact, decoded by auto" for name in names[:2]]
    for command in ("verify", "info"):
        done = run(command, "in", "in/a.basic", "--json")
        assert done.exit_code == 1 and [entry["input"] for entry in json.loads(done.stdout)] == names
        Path("empty").mkdir(exist_ok=True)
        fails(run(command, "empty"), "empty: no files in this folder that end in .basic")


def test_verify_tells_of_each_file_as_it_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file is told of while the second is decoded."""
    pictures("a.png", "b.png")
    assert run("encode", "a.png", "b.png").exit_code == 0
    decode, report = Codec.decode, verify_command._report
    reported, begun = Event(), []

    def watch(codec: Codec, data: bytes) -> object:
        begun.append(data)
        assert len(begun) == 1 or reported.wait(60)
        return decode(codec, data)

    def tell(*arguments: object, **options: object) -> None:
        report(*arguments, **options)
        reported.set()

    monkeypatch.setattr(Codec, "decode", watch)
    monkeypatch.setattr(verify_command, "_report", tell)
    done = run("verify", "a.basic", "b.basic", "--jobs", 1)
    assert done.exit_code == 0 and len(begun) == 2, done.output
    assert done.stdout.splitlines() == [f"{name}.basic: intact, decoded by auto" for name in "ab"]


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_verify_that_is_stopped_tells_what_is_done(
    options: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures("a.png", "b.png", "c.png")
    assert run("encode", "a.png", "b.png", "c.png").exit_code == 0
    decode, begun = Codec.decode, []

    def stop_at_the_third(codec: Codec, data: bytes) -> object:
        begun.append(data)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return decode(codec, data)

    monkeypatch.setattr(Codec, "decode", stop_at_the_third)
    done = run("verify", "a.basic", "b.basic", "c.basic", "--jobs", 1, *options)
    assert done.exit_code == 130 and done.stderr == "basic-run: stopped: 1 of 3 files are not done\n"
    if options:
        assert [entry["input"] for entry in json.loads(done.stdout)] == ["a.basic", "b.basic"]
    else:
        assert done.stdout.splitlines() == [f"{name}.basic: intact, decoded by auto" for name in "ab"]


@pytest.mark.parametrize(("jobs", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_stopped_command_tells_what_is_done(folder: Path, photo: Photo, jobs: int, number: signal.Signals) -> None:
    """Ctrl-C, or `kill`, to the installed command, once its first output is there: each file that it tells of is whole,
    and there is no other."""
    names = [f"{k:02}.png" for k in range(40)]
    Image.fromarray(photo(400, 600)).save("00.png")
    for name in names[1:]:
        shutil.copy("00.png", name)
    # A test run in the background (nohup) has its children ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(
        [COMMAND, "encode", *names, "--json", "--jobs", str(jobs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed,
    )  # fmt: skip
    while not Path("00.basic").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(number)
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

    monkeypatch.setattr("basic_runtime.cli.make_codec.make_codec", stop)
    done = run("encode", "photo.png")
    assert done.exit_code == 130 and done.stderr == "basic-run: stopped\n"


def test_a_name_that_is_no_text(folder: Path) -> None:
    """Where standard output takes text alone, it ended the batch after the files were written."""
    os.rename(b"photo.png", b"caf\xe9.png")
    done = subprocess.run(
        [COMMAND, "encode", ".", "--out-dir", "out"],
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and b"caf\\udce9.png" in done.stdout, done.stderr


def test_a_name_that_is_too_long_fails_alone(folder: Path) -> None:
    (folder / ("x" * 251 + ".png")).write_bytes((folder / "photo.png").read_bytes())
    done = run("encode", ".", "--out-dir", "out", "--json")
    results = json.loads(done.stdout)
    assert done.exit_code == 1 and sum("error" in result for result in results) == 1
    assert "file name too long" in next(result["error"] for result in results if "error" in result)
    assert Path("out/photo.basic").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_source_that_is_gone_when_it_is_read(folder: Path) -> None:
    os.mkfifo("pipe.png")

    def feed() -> None:
        with open("pipe.png", "wb") as pipe:
            os.unlink("pipe.png")
            pipe.write(Path("photo.png").read_bytes())

    thread = Thread(target=feed)
    thread.start()
    done = run("encode", "pipe.png", "-o", "o.basic")
    thread.join()
    assert done.exit_code == 0, done.output
    assert container.peek(Path("o.basic").read_bytes()).width == 60


@pytest.mark.parametrize(
    "arguments",
    [["encode", ""], ["decode", ""], ["info", ""], ["verify", ""], ["evaluate", ""], ["encode", "photo.png", "-o", ""],
     ["encode", "photo.png", "--out-dir", ""]],
)  # fmt: skip
def test_variables_that_are_not_set(arguments: list[str], folder: Path) -> None:
    """An empty name was taken for the current folder, whose files an empty --out-dir replaced."""
    done = run(*arguments, *(["--overwrite"] if arguments[0] == "encode" else []))
    assert done.exit_code == 2 and "empty name" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["photo.png"]


def test_an_output_that_is_named_like_a_folder(folder: Path) -> None:
    fails(run("encode", "photo.png", "-o", "packed/"), "packed/: names a folder: name a file in it, or use --out-dir")
    fails(run("encode", "photo.png", "--bundle", ""), "a bundle has an empty name")
