"""Threads that share out work: how many there may be, and what happens where the system gives fewer."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from basic_runtime._coder import IntegerNet, crc32_of_integers, from_pixels, take_patches

FEW = """
import resource
import numpy as np
from basic_runtime._coder import take_patches

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
from basic_runtime._coder import take_patches

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
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        IntegerNet([(one, -one, one, 1)], [], [([(0, 0, 1, 1, 0, 0)], None)], threads)


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
