"""Whole files in and out."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from basic_runtime.errors import FileError, LimitError
from basic_runtime.files import check_target, read_bytes, write_bytes
from basic_runtime.limits import Limits


def test_write_and_read(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    assert read_bytes(tmp_path / "a") == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_new_files_get_the_usual_permissions_and_replaced_ones_keep_theirs(tmp_path: Path) -> None:
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.write_bytes(b"")
    write_bytes(written, b"abc")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    written.chmod(0o640)
    write_bytes(written, b"abcd", overwrite=True)
    assert stat.S_IMODE(written.stat().st_mode) == 0o640


def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    expected = r"cannot be written \(no space left on device\): free space and run the same command again"
    with pytest.raises(FileError, match=expected):
        write_bytes(target, b"new", overwrite=True)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    link = os.link

    def race(source: Path, destination: Path) -> None:
        target.write_bytes(b"another's")
        link(source, destination)

    monkeypatch.setattr(os, "link", race)
    with pytest.raises(FileError, match="exists"):
        write_bytes(target, b"mine")
    assert target.read_bytes() == b"another's"


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    write_bytes(tmp_path / "a", b"abc")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new", overwrite=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_bytes("/dev/null", b"abc")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read_bytes(pipe)))
    reader.start()
    write_bytes(pipe, b"abc")
    reader.join()
    assert received == [b"abc"]


def test_output_to_an_open_pipe_by_its_name() -> None:
    """The name that it resolves to, like pipe:[123], is none of a file."""
    read, write = os.pipe()
    write_bytes(f"/dev/fd/{write}", b"abc")
    os.close(write)
    assert os.read(read, 9) == b"abc"
    os.close(read)


def test_a_name_as_long_as_may_be(tmp_path: Path) -> None:
    """The file beside it, until it is whole, had a longer one."""
    for name in ("\U0001f600" * 60 + ".png", "y" * 255):
        write_bytes(tmp_path / name, b"abc")
        assert (tmp_path / name).read_bytes() == b"abc"


def test_names_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot be written \(file name too long\): choose another name"):
        write_bytes(tmp_path / ("y" * 300), b"abc")


def test_output_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no folder .*/no\): make the folder first"):
        write_bytes(tmp_path / "no" / "a", b"abc")


def test_output_in_a_folder_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    for name in ("new", "old"):
        with pytest.raises(FileError, match="its folder may not be written to"):
            check_target(tmp_path / name, overwrite=True)
        (tmp_path / "old").touch()
    check_target("/dev/null")


def test_output_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder: name a file in it"):
        write_bytes(tmp_path, b"abc", overwrite=True)


@pytest.mark.parametrize(("target", "message"), [("new/", "new/: names a folder"), ("", "an empty name")])
def test_names_of_no_file(target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=message):
        write_bytes(target, b"abc")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_ascii_where_the_system_has_no_other(tmp_path: Path) -> None:
    """Its file beside it got a name that could not be said."""
    code = (
        "import os, sys; from basic_runtime.files import write_bytes; "
        "write_bytes(os.listdir('.')[0], b'x', overwrite=True)"
    )
    (tmp_path / "\u65e5\u672c.png").touch()
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "\u65e5\u672c.png").read_bytes() == b"x"


def test_endless_input_stops_at_the_limit() -> None:
    with pytest.raises(LimitError, match="/dev/zero: the file has 1001 bytes, and 1000 are allowed"):
        read_bytes("/dev/zero", Limits(max_file_bytes=1000))


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_reading_takes_memory_for_what_is_there(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small picture took two gigabytes for a moment, which is more than some machines give."""
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    for source in (tmp_path / "a", "-"):
        with open(tmp_path / "a", "rb") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(stream))
            tracemalloc.start()
            assert read_bytes(source) == data
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 8 << 20


def test_a_file_that_says_it_is_empty() -> None:
    assert read_bytes("/proc/self/status").startswith(b"Name:")
