"""Folders take each other's place whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from basic_export.folders import beside, clear, put_in_place
from basic_runtime.errors import FileError


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_replaces_an_older_one_whole(tmp_path: Path) -> None:
    target = folder(tmp_path / "target", "old")
    put_in_place(folder(tmp_path / ".target.part", "new"), target)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_an_older_one_stays_if_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, new = folder(tmp_path / "target", "old"), folder(tmp_path / ".target.part", "new")
    rename = os.rename

    def refuse(source: Path, place: Path) -> None:
        if source == new:
            raise OSError(28, "No space left on device")
        rename(source, place)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(FileError, match="target: cannot be written .No space left on device"):
        put_in_place(new, target)
    assert (target / "file").read_text() == "old"


def test_what_could_not_be_written_is_cleared_and_named(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for error in (None, KeyboardInterrupt()):
        made = folder(beside(target), "half")
        clear(made, target, error)
        assert not list(tmp_path.iterdir())
    with pytest.raises(FileError, match=r"/target: cannot be written \(no space left"):
        clear(folder(beside(target), "half"), target, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert not list(tmp_path.iterdir())
