"""Locks and threads of forked processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from basic_runtime.engines import Engine
from basic_runtime.engines.auto import RacingEngine
from basic_runtime.engines.onnxruntime import _share_arena
from basic_runtime.imageio import read_picture
from basic_runtime.threads import ProcessLock


def forked(work: Callable[[], bool]) -> int:
    """The exit status of a child that does some work: 0 if it gave True, below 0 if it did not end."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Waiting(Engine):
    """Hands its inputs on; the first run waits until it is told to go on."""

    inputs = outputs = ("y",)

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._wait()
        return dict(inputs)


def under_lock(wait: Callable[[], None]) -> Callable[[], bool]:
    lock = ProcessLock()

    def work() -> bool:
        with lock, lock:
            wait()
            return True

    return work


def under_choice(wait: Callable[[], None]) -> Callable[[], bool]:
    """The choice of the faster engine, at a graph's first run."""
    engine = RacingEngine({"waiting": Waiting(wait)}, ["question"])
    return lambda: "y" in engine.run({"y": np.zeros((1, 1, 4, 4), np.float32)})


def under_arena(wait: Callable[[], None]) -> Callable[[], bool]:
    """The registration of ONNX Runtime's memory, as the first back-end is made."""
    library = MagicMock()
    library.create_and_register_allocator.side_effect = lambda *arguments: wait()
    return lambda: _share_arena(library) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("make", [under_lock, under_choice, under_arena])
def test_a_lock_that_another_thread_holds_is_open_in_a_fork(
    make: Callable[[Callable[[], None]], Callable[[], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basic_runtime.engines.onnxruntime._arena_ready", False)
    held, over = threading.Event(), threading.Event()

    def wait() -> None:
        if threading.current_thread() is thread:
            held.set()
            over.wait()

    work = make(wait)
    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    try:
        assert forked(work) == 0
    finally:
        over.set()
        thread.join()
    assert work()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_fork_finds_pillow_s_limit_as_it_was_before_another_thread_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed raised for good, as the reader's end never comes there."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    held, over, opened = threading.Event(), threading.Event(), Image.open

    def wait(*arguments: Any, **options: Any) -> Image.Image:
        if threading.current_thread() is thread:
            held.set()
            over.wait()
        return opened(*arguments, **options)

    monkeypatch.setattr(Image, "open", wait)
    picture = io.BytesIO()
    Image.new("L", (20, 10)).save(picture, "PNG")
    data = picture.getvalue()
    thread = threading.Thread(target=read_picture, args=(data,))
    thread.start()
    held.wait()
    try:
        assert forked(lambda: Image.MAX_IMAGE_PIXELS == 99) == 0
        assert forked(lambda: read_picture(data).width == 20 and Image.MAX_IMAGE_PIXELS == 99) == 0
    finally:
        over.set()
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 99


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
