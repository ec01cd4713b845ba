"""Lines on the terminal, which names of files may be part of."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import IO, Any

import click

from basic_runtime.files import write_whole

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text with control characters as their numbers, as the C commands show them, so that it is one line and does
    nothing else to a terminal."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def tell_error(line: str, program: str = "basic-run") -> None:
    """An error, on standard error."""
    click.echo(f"{program}: error: {printable(line)}", err=True)


def tell_note(line: str) -> None:
    """Something that is no error, on standard error."""
    click.echo(f"basic-run: note: {printable(line)}", err=True)


class _Whole(io.RawIOBase):
    """A non-blocking stream as one that takes all it is given."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, data: Any) -> int:
        write_whole(self._stream, data)
        return len(data)


def wait_for_readers() -> None:
    """Have standard output and error wait where they are non-blocking: Python drops what these do not take at once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not _waits(stream):
            taking: Any = getattr(stream.buffer, "raw", stream.buffer)
            whole = io.BufferedWriter(_Whole(taking))
            lines = stream.line_buffering or stream.write_through
            setattr(sys, name, io.TextIOWrapper(whole, stream.encoding, stream.errors, line_buffering=lines))


def _waits(stream: io.TextIOWrapper) -> bool:
    try:
        return os.get_blocking(stream.fileno())
    except (OSError, AttributeError):  # no descriptor, or a system without such streams
        return True
