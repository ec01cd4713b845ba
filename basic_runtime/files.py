"""Whole files in and out: size limits, `-` for the standard streams, never half a file under a final name."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from basic_runtime.errors import FileError, LimitError
from basic_runtime.limits import DEFAULT_LIMITS, Limits

STREAM = "-"
StrPath = str | os.PathLike[str]


def display_name(path: StrPath, *, output: bool = False) -> str:
    """The path as messages name it."""
    if os.fspath(path) == STREAM:
        return "standard output" if output else "standard input"
    return os.fspath(path)


def read_bytes(source: StrPath, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Content of the file `source`, or of standard input for ``-``.

    Raises `FileError` if it cannot be read and `LimitError` if it is larger than ``limits.max_file_bytes``.
    """
    name = display_name(source)
    most = limits.max_file_bytes
    try:
        if os.fspath(source) == STREAM:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(source, "rb") as file:
                status = os.fstat(file.fileno())
                size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                data = file.read(most + 1) if size <= most else b""
                limits.check_bytes("the file", size, "max_file_bytes")
        limits.check_bytes("the file", len(data), "max_file_bytes")
    except LimitError as error:
        raise error.in_file(name) from None
    except OSError as error:
        raise FileError(f"{name}: cannot be read ({_reason(error)}): check the path") from error
    return data


def check_target(target: StrPath, overwrite: bool = False) -> None:
    """Raises `FileError` if `target` exists and may not be replaced, or lies in no folder."""
    if os.fspath(target) == STREAM:
        return
    path = Path(target)
    if path.is_dir():
        raise FileError(f"{path}: is a folder: name a file in it")
    if path.is_file() and not overwrite:
        raise FileError(f"{path}: exists already: choose another name, or ask to overwrite it")
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written (no folder {path.parent}): make the folder first")


def write_bytes(target: StrPath, data: bytes, overwrite: bool = False) -> None:
    """Writes `data` to the file `target`, or to standard output for ``-``.

    The bytes go to a file beside it first, which then takes the name: others see the whole file or none.
    Devices and pipes are written to as they are. Raises `FileError`.
    """
    check_target(target, overwrite)
    try:
        if os.fspath(target) == STREAM:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        path = Path(os.path.realpath(target))
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _write_beside(path, data, overwrite)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = display_name(target, output=True)
        raise FileError(f"{name}: cannot be written ({_reason(error)}): check the folder") from error


def _write_beside(path: Path, data: bytes, overwrite: bool) -> None:
    beside = path.with_name(f".{path.name[:64]}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
        if overwrite:
            if path.exists():
                shutil.copymode(path, beside)
            os.replace(beside, path)
        else:
            _rename_to_new(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _rename_to_new(beside: Path, path: Path) -> None:
    """Gives `beside` the name `path`, and fails if somebody took it meanwhile."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        check_target(path)
        os.replace(beside, path)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
