"""Lines on the terminal, which names of files may be part of."""

from __future__ import annotations

import re

import click

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text with control characters escaped, so that it is one line and does nothing else to a terminal."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def tell_error(line: str, program: str = "basic-run") -> None:
    """An error, on standard error."""
    click.echo(f"{program}: error: {printable(line)}", err=True)


def tell_note(line: str) -> None:
    """Something that is no error, on standard error."""
    click.echo(f"basic-run: note: {printable(line)}", err=True)
