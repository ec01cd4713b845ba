"""Inputs of a command: files, standard input, and folders, which stand for the files in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from basic_runtime.errors import FileError
from basic_runtime.files import STREAM


@dataclass(frozen=True)
class Input:
    """A file, or `-`, and the folder under --out-dir that its output goes to."""

    source: str
    folder: Path = Path()


def find_inputs(sources: Sequence[str], extensions: Collection[str]) -> list[Input]:
    """The sources, where each folder is replaced by the files with these extensions in it and below, in order; those
    that are hidden, with a dot in front, are left out. Raises FileError if there are none, or it cannot be read.
    """
    found = []
    for source in sources:
        if is_folder(source):
            found += _files_below(Path(source), extensions)
        else:
            found.append(Input(source))
    return found


def is_folder(source: str) -> bool:
    return source != STREAM and os.path.isdir(source)


def _files_below(top: Path, extensions: Collection[str]) -> list[Input]:
    found = [
        Input(str(folder / name), folder.relative_to(top))
        for folder, names in _walk(top)
        for name in sorted(names)
        if not name.startswith(".") and Path(name).suffix.lower() in extensions
    ]
    if not found:
        raise FileError(f"{top}: no files in this folder that end in {' '.join(extensions)}: name another")
    return found


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    def fail(error: OSError) -> None:
        raise FileError(f"{error.filename}: cannot be read ({error.strerror}): leave this folder out") from error

    for folder, folders, names in os.walk(top, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(folder), names
