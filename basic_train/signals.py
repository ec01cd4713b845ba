"""Ctrl-C and termination in runs of several processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

#: Signals that ask a command to stop: Ctrl-C, `kill`, and a terminal that is closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started here begin with Ctrl-C and termination blocked, which would end them in the midst of their
    imports, until they call `release`; this process gets afterwards what came meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Unblock the signals that the process which started this one had blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


@contextmanager
def heard_in_waits(stop: Callable[[], None]) -> Iterator[None]:
    """Unblock the signals around a wait in C++, which gives Python's handlers no turn: a thread calls `stop` at the
    first one that comes."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno())

    def watch() -> None:
        if ours.recv(1):
            stop()

    Thread(target=watch, daemon=True).start()
    release()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()


@contextmanager
def heard_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """A handler of these signals, but for a hang-up that nohup has told this process to ignore. Where the terminal is
    gone, what is written to it goes nowhere from then on, instead of failing."""
    terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    def handle(number: int, frame: Any) -> None:
        if number == signal.SIGHUP:
            for fd in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
        handler(number, frame)

    heard = [n for n in STOPPING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    release()
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
