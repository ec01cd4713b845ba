"""Answers that are remembered between runs, in the user's cache folder: each in a file named by its question."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from basic_runtime.errors import FileError
from basic_runtime.files import size_of, write_bytes

#: The largest answer in bytes; a larger file is none of ours.
_MAX_ANSWER = 1 << 16


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/basic, or ~/.cache/basic: a relative path is to be ignored (XDG Base Directory Specification).
    Users without a home, as in some containers, get a place where nothing can be written."""
    for root in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(root):
            return Path(root) / "basic"
    return Path(os.devnull) / "basic"


def remembered(kind: str, question: Sequence[Any]) -> str | None:
    """The answer of an earlier run, None if there is none that can be read."""
    path = place_of(kind, question)
    try:
        size = size_of(path)
        return path.read_text() if size is not None and size <= _MAX_ANSWER else None
    except (OSError, UnicodeDecodeError):
        return None


def remember(kind: str, question: Sequence[Any], answer: str = "") -> None:
    """Keep an answer for later runs. A folder that cannot be written is no error."""
    with contextlib.suppress(FileError):
        store(place_of(kind, question), answer.encode())


def check_storable(path: Path) -> None:
    """Make the folder of a file of the cache folder. Raises FileError if that, or the file, cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{path}: cannot be written ({reason}): set $XDG_CACHE_HOME to another folder") from error


def store(path: Path, data: bytes) -> None:
    """Write a file of the cache folder: whole or not at all, even if others write it too. Raises FileError."""
    check_storable(path)
    write_bytes(path, data, overwrite=True)


def place_of(kind: str, question: Sequence[Any]) -> Path:
    """The file with the answer to a question."""
    return cache_folder() / kind / hashlib.sha256(repr(list(question)).encode()).hexdigest()[:32]


@cache
def processor() -> str:
    """Name and features of the processor: other instructions mean other kernels."""
    described = [platform.machine()]
    try:
        with open("/proc/cpuinfo") as lines:  # line by line: the file names every core
            for line in lines:
                if line.startswith(("model name", "flags", "Features")):
                    described.append(line)
                if line == "\n":
                    break
    except OSError:
        described.append(platform.processor())  # on some systems a command of its own, so only where it is needed
    return "|".join(described)


@cache
def contents(file: str) -> str:
    """A checksum of a file of this program, looked at once: after an update, old answers are no longer found."""
    try:
        return f"{zlib.crc32(Path(file).read_bytes()):08x}"
    except OSError:  # a module from an archive
        return ""
