"""Ends all commands alike when something fails: one line, exit status 1, no traceback; 130 if stopped."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from basic_runtime.cli.lines import tell_error, wait_for_readers
from basic_runtime.errors import BasicError
from basic_runtime.files import reason

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the number of the signal."""

_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command as Ctrl-C does."""


class OneLineErrors(click.Command):
    """A command or group that turns the errors which the packages raise on purpose into one line.

    Mix it in before click.Command or click.Group; the line starts with `program`.
    """

    program = ""

    def main(self, *args: Any, **options: Any) -> Any:
        """The whole run, with options such as --version, which do their work before the command is invoked."""
        # Pillow warns of damaged files; the error says the same, or it does not matter.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        wait_for_readers()
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # file names may be no text
        try:
            with _terminated_as_interrupted():
                return super().main(*args, **options)
        except SystemExit as leaving:
            # A second signal must not change the status of a process of its own.
            if leaving.code == STOPPED and not (args or options):
                _ignore_signals()
            raise
        except BasicError as error:
            tell_error(str(error), self.program)
        except MemoryError:
            tell_error("not enough memory for this picture: try a smaller one", self.program)
        except OSError as error:  # mostly standard output: errors of files are BasicErrors
            if error.filename is None:
                _close_output()
            failed = f"{error.filename}: failed"
            if error.filename is None:
                gone = error.errno == errno.ENOENT  # what a stream cannot be
                failed = "the current folder: cannot be used" if gone else "standard output: cannot be written"
            tell_error(f"{failed} ({reason(error)})", self.program)
        sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(f"{self.program}: stopped", err=True)
            ctx.exit(STOPPED)
        except BrokenPipeError:
            _close_output()  # the reader has gone
            ctx.exit(1)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let signals that end this process end it as Ctrl-C does, so that nothing half-written stays behind. Forks of it
    end at once."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    ours = threading.current_thread() is threading.main_thread()
    polite = [number for number in _STOP_SIGNALS if ours and signal.getsignal(number) == signal.SIG_DFL]
    for number in polite:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in polite:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A context that Ctrl-C and its like do not cut short."""
    before = _ignore_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> dict[signal.Signals, Any]:
    """Ignore Ctrl-C and its like from here on, and return the handlers before. Only the main thread can set them: in
    others, do nothing."""
    ours = threading.current_thread() is threading.main_thread()
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *_STOP_SIGNALS) if ours}


def _close_output() -> None:
    """Keep the interpreter from failing again when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
