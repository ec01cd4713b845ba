"""Locks and threads of forked processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from basic_runtime.threads import ProcessLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


def forked(work: Callable[[], bool]) -> int:
    """The exit status of a child that does some work: 0 if it gave True, below 0 if it did not end."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_that_another_thread_holds_is_open_in_a_fork() -> None:
    lock, held, over = ProcessLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    def take() -> bool:
        with lock, lock:
            return True

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert forked(take) == 0
    finally:
        over.set()
        thread.join()
    assert take()
