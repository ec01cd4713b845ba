"""Inputs of a command: files, standard input, and folders, which stand for the files in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from basic_runtime.cli.options import check_named
from basic_runtime.errors import FileError
from basic_runtime.files import STREAM, is_special, reason


@dataclass(frozen=True)
class Input:
    """A file, or `-`, and the folder under --out-dir that its output goes to; or, with an error, a folder that is not
    readable, or has no such files."""

    source: str
    folder: Path = Path()
    error: FileError | None = None


@dataclass(frozen=True)
class Inputs:
    """Inputs of a command, and the extensions of files in folders that are left out, both by real path."""

    found: dict[str, Input] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def find_inputs(sources: Sequence[str], extensions: Collection[str]) -> Inputs:
    """The sources, where each folder is replaced by the files with these extensions in it and below, in order; those
    that are hidden, with a dot in front, are left out. What is named twice is there once.

    Raises click.UsageError for an empty name or standard input named twice.
    """
    if sources.count(STREAM) > 1:
        raise click.UsageError("standard input (-) can be read only once")
    check_named("an input", *sources)
    inputs = Inputs()
    for source in sources:
        if is_folder(source):
            _add_folder(Path(source), extensions, inputs)
        else:
            # A link to a file is another file, with an output of its own: only links to its folder are followed.
            folder, name = os.path.split(source)
            inputs.found.setdefault(os.path.join(os.path.realpath(folder), name), Input(source))
    return inputs


def is_folder(source: str) -> bool:
    return source != STREAM and os.path.isdir(source)


def _add_folder(top: Path, extensions: Collection[str], inputs: Inputs) -> None:
    """Adds what is in a folder and below. A folder that cannot be read, or has no such files, is an input that
    fails."""
    found: dict[str, Input] = {}

    def fail(error: OSError) -> None:
        refused = FileError(f"{error.filename}: cannot be read ({reason(error)}): leave this folder out")
        found[os.path.realpath(error.filename)] = Input(error.filename, error=refused)

    for folder, folders, names in os.walk(top, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(folder)
        for name in sorted(names):
            path, extension = Path(folder, name), Path(name).suffix.lower()
            if name.startswith(".") or is_special(path):
                continue
            if extension in extensions:
                found[os.path.join(real, name)] = Input(str(path), path.parent.relative_to(top))
            else:
                inputs.left_out[os.path.join(real, name)] = extension
    if not found:
        none = FileError(f"{top}: no files in this folder that end in {' '.join(extensions)}: name another")
        found[os.path.realpath(top)] = Input(str(top), error=none)
    for place, each in found.items():
        inputs.found.setdefault(place, each)
