"""Locks and threads of forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from basic_runtime.threads import ProcessLock


def forked(work: Callable[[], bool]) -> int:
    """The exit status of a child that does some work: 0 if it gave True, below 0 if it did not end."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
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


@pytest.mark.parametrize("work", ["codec.encode(pixels)", "codec.decode(data)"])
def test_a_process_may_end_while_a_daemon_codes(work: str) -> None:
    """The end of the interpreter ends threads that want its lock back; it aborted the process (as ONNX Runtime's)."""
    code = f"""
import threading, time
from basic_runtime import Codec
from basic_runtime.profile import synthetic_picture
codec, pixels, begun = Codec(threads=1), synthetic_picture(256, 256), threading.Semaphore(0)
data = codec.encode(pixels)
def code():
    while True:
        {work}
        begun.release()
for _ in range(2):
    threading.Thread(target=code, daemon=True).start()
for _ in range(8):
    begun.acquire()
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
