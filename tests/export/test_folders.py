"""Folders take each other's place whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from basic_export.folders import whole_folder
from basic_runtime.errors import FileError


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_replaces_an_older_one_whole(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", "old")
    with whole_folder(target) as new:
        (new / "file").write_text("new")
        assert (target / "file").read_text() == "old"
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_older_one_stays_if_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = folder(tmp_path / "target", "old"), os.rename

    def refuse(source: Path, place: Path) -> None:
        if source.suffix == ".part":
            raise OSError(28, "No space left on device")
        rename(source, place)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(FileError, match="target: cannot be written .no space left on device"), whole_folder(target):
        pass
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_could_not_be_written_is_cleared_and_named(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as new:
        (new / "file").write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileError, match=r"/target: cannot be written \(no space left"), whole_folder(target) as new:
        (new / "file").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FileError, match=r"file/target: cannot be written \(not a directory\); choose another place"),
        whole_folder(tmp_path / "file" / "target"),
    ):
        pytest.fail("there is no such folder")
