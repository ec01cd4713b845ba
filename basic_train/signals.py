"""Ctrl-C and termination where one process starts others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: Signals that ask a command to stop.
STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started here are born deaf to Ctrl-C, which would end them in the midst of their imports, until they
    call `release`; this one hears afterwards what came meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Take notice of the signals that the process which started this one has held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
