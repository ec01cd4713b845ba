"""A GPU that is simulated on the processor: memory, streams, events and graphs, with the rules of NVIDIA's documents.

Work of a stream waits in its queue until something waits for it, the latest that CUDA allows. Results that are read too
early are therefore wrong, and inputs that are freed or overwritten too early, too. New memory holds what no run would
leave there. A rule that is broken raises AssertionError, where CUDA would crash, give other results, or go on for now.

Rules are those of the CUDA Runtime API (docs.nvidia.com/cuda/cuda-runtime-api, "CUDART") and of the CUDA C++
Programming Guide ("Guide").
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

ALIGNMENT = 256
"""Of what is allocated. Guide, Device Memory Accesses: "at least 256 bytes"."""
TOTAL_MEMORY = 8 << 30
GLOBAL, RELAXED = 0, 2
"""Modes of captures and threads, out of cudaStreamCaptureMode."""

Work = Callable[[], None]


class Memory:
    """Blocks of one kind, by address."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._blocks: dict[int, np.ndarray] = {}

    @property
    def held(self) -> int:
        """Bytes."""
        return sum(block.size for block in list(self._blocks.values()))

    def allocate(self, size: int) -> int:
        storage = np.full(size + ALIGNMENT, 0xFF, np.uint8)
        offset = -storage.ctypes.data % ALIGNMENT
        block = storage[offset : offset + size]
        self._blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        """CUDART, cudaFree: an address that was not returned by cudaMalloc, or was freed before, is an error."""
        assert self._blocks.pop(address, None) is not None, f"{self.kind} memory is freed that is not held"

    def view(self, address: int) -> np.ndarray:
        """The bytes of the block at this address."""
        return self._blocks[address]

    def check(self, address: int, size: int) -> None:
        """CUDART: copies, and what kernels read and write, stay within one allocation."""
        blocks = {address: self._blocks[address]} if address in self._blocks else self._blocks.copy()
        inside = any(start <= address and address + size <= start + block.size for start, block in blocks.items())
        assert inside, f"{size} bytes at {address:#x} are not in {self.kind} memory: freed, too small, or other"


class Capture:
    """What a stream records instead of running it."""

    def __init__(self, mode: int) -> None:
        self.mode, self._thread = mode, threading.get_ident()
        self.nodes: list[Node] = []

    @property
    def bound_here(self) -> bool:
        """Whether this thread began it; of a relaxed one no thread matters."""
        return self._thread == threading.get_ident() and self.mode != RELAXED


class Node:
    """Work in a graph, and what must hold when it is launched."""

    def __init__(self, work: Work, launchable: Work) -> None:
        self.work, self.launchable = work, launchable


class Stream:
    """Work in order, which is done when somebody waits for it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._queue: deque[Work] = deque()
        self.capture: Capture | None = None

    def __int__(self) -> int:
        return self._handle

    def add(self, work: Work, launchable: Work = lambda: None) -> None:
        """`launchable` raises AssertionError if a graph that holds the work must not be launched now."""
        if self.capture is None:
            self._queue.append(work)
        else:
            self.capture.nodes.append(Node(work, launchable))

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Do what is queued, all of it or up to the work that makes `until` true.

        Guide, Prohibited and Unhandled Operations: a stream that is captured must not be waited for.
        """
        assert self.capture is None, "a stream is waited for while it is captured"
        while self._queue and not until():
            self._queue.popleft()()


class Event:
    """A time in a stream's order; none before the stream has come there."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.time: float | None = None
        self.destroyed = False

    def record(self, stream: Stream) -> None:
        self.stream, self.time = stream, None
        stream.add(self._reach)

    def wait(self) -> None:
        assert self.stream is not None, "an event is waited for that was not recorded"
        self.stream.run(lambda: self.time is not None)

    def _reach(self) -> None:
        self.time = time.perf_counter()


class Graph:
    """Recorded work; of an executable graph, too."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes, self.destroyed = nodes, False

    def launch(self, stream: Stream) -> None:
        for node in self.nodes:
            node.launchable()
            stream.add(lambda node=node: self._run(node))

    def _run(self, node: Node) -> None:
        """CUDART does not say that launches survive cudaGraphExecDestroy."""
        assert not self.destroyed, "a graph is destroyed before the launch is done"
        node.work()


class Device:
    """All that the process has on the GPU, and what was done there."""

    def __init__(self) -> None:
        self.memory, self.pinned = Memory("device"), Memory("pinned")
        self.total_memory = TOTAL_MEMORY
        self.streams: dict[int, Stream] = {}
        self.events = self.graphs = 0
        #: Bytes that engines and execution contexts hold, by the number that `reserve` gave.
        self.reserved: dict[int, int] = {}
        #: "enqueued": runs of engines that were no graphs; "recorded", "launched": graphs.
        self.counts: Counter[str] = Counter()
        #: Execution contexts whose library may be recording a graph, in any thread and at any time.
        self.recording_contexts = 0
        self._numbers = itertools.count(1)
        #: By thread; threading.local ends before the thread's last calls.
        self._modes: dict[int, int] = {}

    @property
    def used_memory(self) -> int:
        return self.memory.held + sum(self.reserved.copy().values())

    def new_stream(self) -> Stream:
        handle = next(self._numbers)
        self.streams[handle] = Stream(handle)
        return self.streams[handle]

    def stream(self, handle: Stream | int) -> Stream:
        """CUDART, cudaStreamDestroy: after it the handle must not be used."""
        found = self.streams.get(int(handle))
        assert found is not None, "a stream is used that was destroyed"
        return found

    def reserve(self, size: int) -> int:
        """Memory that a library takes for itself; returns the number to release it by."""
        number = next(self._numbers)
        self.reserved[number] = size
        return number

    def release(self, number: int) -> None:
        del self.reserved[number]

    def exchange_mode(self, mode: int) -> int:
        """Set the capture mode of this thread; returns that before."""
        previous = self._mode
        self._modes[threading.get_native_id()] = mode
        return previous

    def check_unsafe(self, name: str) -> None:
        """CUDART, cudaThreadExchangeStreamCaptureMode: "potentially unsafe" calls, which allocate or free, are
        prohibited to a thread that captures, unless it is relaxed, and to a global one while any other thread captures
        globally. TensorRT-RTX does not say when or how its contexts capture: it may be now, and globally."""
        mode = self._mode
        captures = [stream.capture for stream in self.streams.copy().values() if stream.capture is not None]
        own = any(capture.bound_here for capture in captures)
        assert not own or mode == RELAXED, f"{name} in a thread that captures"
        others = any(capture.mode == GLOBAL for capture in captures) or self.recording_contexts
        assert not others or mode != GLOBAL, f"{name} in a thread of global mode while others may capture"

    @property
    def _mode(self) -> int:
        return self._modes.get(threading.get_native_id(), GLOBAL)


device = Device()


def read(address: int, size: int) -> np.ndarray:
    """A copy of bytes in device memory, as kernels see them."""
    device.memory.check(address, size)
    return np.frombuffer(ctypes.string_at(address, size), np.uint8)


def write(address: int, values: np.ndarray) -> None:
    """What kernels leave in device memory."""
    device.memory.check(address, values.nbytes)
    ctypes.memmove(address, np.ascontiguousarray(values).ctypes.data, values.nbytes)
