"""Reads and writes whole files: size limits, `-` for the standard streams, never half a file under a final name."""

from __future__ import annotations

import errno
import io
import os
import select
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from basic_runtime.errors import FileError, LimitError
from basic_runtime.limits import DEFAULT_LIMITS, Limits

FREE_SPACE = "free space and run the same command again"
"""The way out where a disk is full."""

STREAM = "-"
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Other names of standard output."""

_DESCRIPTORS = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
_CHUNK = 1 << 20
StrPath = str | os.PathLike[str]
_Result = TypeVar("_Result")


def display_name(path: StrPath, *, output: bool = False) -> str:
    """The path as messages name it."""
    if os.fspath(path) == STREAM:
        return "standard output" if output else "standard input"
    return os.fspath(path)


def size_of(path: Path) -> int | None:
    """The size of a regular file in bytes; None for a folder, a pipe or a device. Raises OSError."""
    status = path.stat()
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def is_special(path: Path) -> bool:
    """Whether a path is a folder, a pipe or a device, whose end may never come. A link to nothing is none of these:
    reading it is an error."""
    try:
        return size_of(path) is None
    except OSError:
        return False


def is_hidden(path: Path) -> bool:
    """Whether a path, below some folder, has a part with a dot in front."""
    return any(part.startswith(".") for part in path.parts)


def read_bytes(source: StrPath, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Content of the file `source`, or of standard input for ``-``.

    Raises `FileError` if it cannot be read and `LimitError` if it is larger than ``limits.max_file_bytes``.
    """
    most = limits.max_file_bytes
    with _errors_named(display_name(source), "check the path"):
        _check_name(source)
        if os.fspath(source) == STREAM:
            if sys.stdin is None:
                raise OSError(errno.EBADF, "it is closed")
            data = _read(sys.stdin.buffer, 0, most)
        else:
            with open(source, "rb") as file:
                status = os.fstat(file.fileno())
                known = status.st_size if stat.S_ISREG(status.st_mode) else 0
                limits.check_bytes("the file", known, "max_file_bytes")
                data = _read(file, known, most)
        limits.check_bytes("the file", len(data), "max_file_bytes")
    return data


def read_file(file: IO[bytes], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The rest of a binary file that is open.

    Raises `FileError` and `LimitError` as `read_bytes` does, TypeError for anything but a file, or for one in text
    mode.
    """
    if not hasattr(file, "read"):
        raise TypeError(f"a path, bytes or an open file are wanted, not {type(file).__name__}")
    check_binary(file)
    with _errors_named(file_name(file), "open it again"):
        data = _read(file, 0, limits.max_file_bytes)
        limits.check_bytes("the file", len(data), "max_file_bytes")
    return data


def check_binary(file: object) -> None:
    """Raises TypeError for a file that is open in text mode."""
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{file_name(file)}: is open in text mode: open it in binary mode")


@contextmanager
def _errors_named(name: str, way_out: str) -> Iterator[None]:
    """Errors of reading a file, as `FileError` and `LimitError` that name it."""
    try:
        yield
    except LimitError as error:
        raise error.in_file(name) from None
    except OSError as error:
        raise FileError(f"{name}: cannot be read ({reason(error)}): {way_out}") from error


def file_name(file: object) -> str:
    """The name of an open file, as messages name it."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "the file object"


def _read(file: IO[bytes], known: int, most: int) -> bytes:
    """The bytes that a file is known to have in one piece, then others that come, at most one more than `most`: to read
    n bytes takes memory for n, whether they come or not."""
    data = _some(file, known + 1)
    if len(data) <= known:
        return data
    whole = io.BytesIO()
    whole.write(data)
    while (missing := most + 1 - whole.tell()) > 0 and (data := _some(file, min(missing, _CHUNK))):
        whole.write(data)
    return whole.getvalue()


def _some(file: IO[bytes], count: int) -> bytes:
    """At most so many bytes of a file, at least one unless it ends: a non-blocking one is waited for."""
    read: Callable[[int], object] = file.read
    while (data := read(count)) is None:
        try:
            select.select([file], [], [])
        except (TypeError, io.UnsupportedOperation):
            raise OSError("it has no bytes yet, nor a descriptor to wait for them") from None
    if not isinstance(data, bytes):
        raise TypeError(f"a file's bytes are wanted, and it gives {type(data).__name__}: open it in binary mode")
    return data


def _check_name(path: StrPath) -> None:
    """Raises `FileError` for a name that no file can have."""
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise FileError(f"{os.fspath(path)!r}: no file can have this name: check the path")


def is_descriptor(path: StrPath) -> bool:
    """Whether a name stands for a stream that this process was given, be it a file."""
    return os.fspath(path).startswith(_DESCRIPTORS)


def check_target(target: StrPath, overwrite: bool = False) -> None:
    """Raises `FileError` if `target` exists and may not be replaced, or lies in no folder or one that is read-only."""
    name = os.fspath(target)
    _check_name(target)
    if name == STREAM or is_descriptor(target):
        return
    if not name:
        raise FileError("an empty name: name a file")
    path = Path(target)
    try:
        if name.endswith((os.sep, os.altsep or os.sep)) and not path.is_dir():
            raise FileError(f"{name}: names a folder: name a file in it, or use --out-dir")
        if path.is_dir():
            raise FileError(f"{path}: is a folder: name a file in it")
        if path.is_file() and not overwrite:
            raise FileError(
                f"{path}: exists already: choose another name, or replace it with --overwrite "
                "(from Python: overwrite=True)"
            )
        if not path.parent.is_dir():
            raise FileError(f"{path}: cannot be written (no folder {path.parent}): make the folder first")
        is_special = path.exists() and not path.is_file()  # like /dev/null, which is written to directly
        if not is_special and not os.access(path.parent, os.W_OK):
            raise FileError(f"{path}: cannot be written (its folder may not be written to): choose another folder")
    except OSError as error:  # a name that is too long, a folder that may not be searched
        raise FileError(f"{path}: cannot be written ({reason(error)}): choose another name") from error


def make_folder(folder: Path) -> None:
    """Makes a folder, and those that it lies in, where they are not there. Raises `FileError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made a folder ({reason(error)}): choose another") from error


def write_bytes(target: StrPath, data: bytes, *, overwrite: bool = False) -> None:
    """Writes `data` to the file `target`, or to standard output for ``-``, as `write_file` does."""
    write_file(target, lambda file: file.write(data), overwrite=overwrite)


def write_to(file: BinaryIO, write: Callable[[BinaryIO], _Result]) -> _Result:
    """Has `write` write to memory, and a binary file that is open take all of it at once; returns what `write` does. So
    the file need not seek, and gets nothing if `write` raises. Raises `FileError`."""
    memory = io.BytesIO()
    result = write(memory)
    try:
        write_whole(file, memory.getvalue())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"{file_name(file)}: cannot be written ({reason(error)}): check its disk") from error
    return result


def write_whole(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all bytes, even to a file without a buffer, which takes some at a time. Raises OSError."""
    rest = data
    while rest:
        count: object = file.write(rest)
        if count is None and isinstance(file, io.RawIOBase):  # a non-blocking stream
            select.select([], [file], [])
            continue
        if not isinstance(count, int):  # objects that do not say take all
            return
        if count <= 0:
            raise OSError("it takes no bytes")
        rest = memoryview(rest)[count:]


def write_file(target: StrPath, write: Callable[[BinaryIO], _Result], *, overwrite: bool = False) -> _Result:
    """Has `write` write the file `target`, or standard output for ``-``, and returns what it returns.

    It writes a file beside the target, which then takes the name: others see the whole file or none, even if `write`
    raises. Streams, devices and pipes get all of it at once in the end. Raises `FileError`.
    """
    check_target(target, overwrite)
    try:
        path = None if os.fspath(target) == STREAM else Path(target)
        if path is not None and not is_descriptor(path) and (path.is_file() or not path.exists()):
            return _write_beside(Path(os.path.realpath(path)), write, overwrite)
        memory = io.BytesIO()
        result = write(memory)
        if path is None:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.buffer.flush()
            write_whole(getattr(sys.stdout.buffer, "raw", sys.stdout.buffer), memory.getbuffer())
            sys.stdout.buffer.flush()
        else:
            with open(path, "ab", buffering=0) as stream:  # what is there already stays
                write_whole(stream, memory.getbuffer())
        return result
    except BrokenPipeError:
        raise
    except OSError as error:
        name = display_name(target, output=True)
        way_out = FREE_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder"
        raise FileError(f"{name}: cannot be written ({reason(error)}): {way_out}") from error


def _write_beside(path: Path, write: Callable[[BinaryIO], _Result], overwrite: bool) -> _Result:
    # The limit on the length of names is in bytes.
    known = os.fsencode(path.name)[:64].decode(sys.getfilesystemencoding(), "ignore")
    beside = path.with_name(f".{known}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "x+b") as file:  # TIFF reads what it wrote
            result = write(file)
        if overwrite:
            if path.exists():
                shutil.copymode(path, beside)
            os.replace(beside, path)
        else:
            _rename_to_new(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return result


def _rename_to_new(beside: Path, path: Path) -> None:
    """Gives `beside` the name `path`, and fails if it was taken meanwhile."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        check_target(path)
        os.replace(beside, path)


def reason(error: OSError) -> str:
    """The system's reason for an error, as messages state it."""
    if isinstance(error, io.UnsupportedOperation):
        return "it is not open for that"
    return (error.strerror or str(error)).lower()
