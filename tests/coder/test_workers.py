"""Threads that share out work: how many there may be, and what happens where the system gives fewer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from basic_runtime._native import (
    IntegerNet,
    crc32_of_integers,
    dequantise,
    from_pixels,
    indexes_from_scale,
    take_patches,
    to_pixels,
)

FEW = """
import resource
import numpy as np
from basic_runtime._native import take_patches

pixels = np.ones((1024, 64, 3), np.uint8)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))  # room for the stacks of some twenty threads
for _ in range(2):
    assert (take_patches(pixels, 1, 500) == -253).all()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_fewer_threads_than_wanted_do_the_work() -> None:
    """The threads that had started went on with a group of which the memory was freed."""
    result = subprocess.run([sys.executable, "-P", "-c", FEW], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


FORKED = """
import os
import numpy as np
from basic_runtime._native import take_patches

pixels = np.ones((1024, 64, 3), np.uint8)

def threads():
    take_patches(pixels, 1, 3)
    return len(os.listdir("/proc/self/task"))

before = threads()
child = os.fork()
if child == 0:
    os._exit(threads())
print(before, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_forked_process_gets_threads_of_its_own() -> None:
    """Those of a server that loads a model and then forks worked on one thread each for ever."""
    result = subprocess.run([sys.executable, "-P", "-c", FORKED], capture_output=True, text=True, timeout=60)
    before, after = map(int, result.stdout.split())
    assert before >= 3 and after == 3


@pytest.mark.parametrize("threads", [0, 1025, 1 << 40])
def test_numbers_of_threads_that_cannot_be(threads: int) -> None:
    """None at all ended the process, which divided by them."""
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        take_patches(np.ones((2, 2, 3), np.uint8), 1, threads)
    one, bytes_ = np.ones(1, np.float32), np.zeros(1, np.uint8)
    pixels, planes = np.zeros((1, 1, 3), np.uint8), np.zeros((3, 1, 1), np.float32)
    for few in (  # of which one thread does all, whatever it is told
        lambda: indexes_from_scale(one, np.zeros(4, np.uint8), bytes_.copy(), threads),
        lambda: dequantise(np.zeros(1, np.int32), one, 3, one.copy(), threads),
        lambda: from_pixels(pixels, planes.copy(), threads),
        lambda: to_pixels(planes, pixels.copy(), threads),
    ):
        with pytest.raises(ValueError, match="threads must be 1 to 1024"):
            few()
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        IntegerNet([(one, -one, one, 1)], [], [([(0, 0, 1, 1, 0, 0)], None)], threads)


def test_arrays_that_are_there_for_the_moment_only_are_read() -> None:
    """What a sequence makes as it is asked is freed again, unless the run keeps it."""
    one = np.ones(2, np.float32)
    net = IntegerNet([(one, -9 * one, 9 * one, 1)], [], [([(0, 0, 2, 1, 0, 0)], None)])

    class Parts(Sequence):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, number: int) -> tuple[np.ndarray, int, int, int]:
            if number >= 4:
                raise IndexError
            return np.full((1, 2, 64, 64), 5, np.float32), 0, number // 2, number % 2

    for _ in range(20):
        (found,) = net.run([(Parts(), 2, 1.0)])
        assert (np.asarray(found) == 5).all()


IDLE = """
import ctypes, resource, threading
import numpy as np
from basic_runtime import Codec

codec = Codec(threads=1)
data = codec.encode(np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8), quality=90, level=0, effort=0)
codec.decode(data)

def megabytes():
    ctypes.CDLL(None).malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

def work():
    with turn:
        codec.decode(data)
    done.release()
    leave.wait()

before, turn, done, leave = megabytes(), threading.Lock(), threading.Semaphore(0), threading.Event()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    done.acquire()
print(megabytes() - before)
leave.set()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and glibc")
def test_idle_threads_keep_little_memory() -> None:
    """Each thread of a server that had decoded a picture kept 37 MB until it ended."""
    result = subprocess.run([sys.executable, "-P", "-c", IDLE], capture_output=True, text=True, check=True, timeout=60)
    assert int(result.stdout) < 100


def misaligned(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"." + values.tobytes(), values.dtype, offset=1).reshape(values.shape).view()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_misaligned_inputs_are_refused(dtype: type) -> None:
    one = np.ones(2, np.float32)
    net = IntegerNet([(one, -9 * one, 9 * one, 1)], [], [([(0, 0, 2, 1, 0, 0)], None)])
    values = np.arange(8, dtype=dtype).reshape(1, 2, 2, 2)
    assert np.array_equal(net.run([values])[0], values)
    with pytest.raises(ValueError, match="must be aligned"):
        net.run([misaligned(values)])
    if dtype == np.int16:  # with channels side by side
        with pytest.raises(ValueError, match="must be aligned"):
            net.run([misaligned(values).transpose(0, 3, 1, 2)])


def test_misaligned_arrays_are_refused() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    planes = np.frombuffer(bytearray(4 * 48 + 1), np.float32, 48, 1).reshape(3, 4, 4)
    with pytest.raises(ValueError, match="planes must be aligned"):
        from_pixels(pixels, planes)
    with pytest.raises(ValueError, match="values must be aligned"):
        crc32_of_integers(misaligned(np.zeros(4, np.float32)), 0)
