"""Memory, streams, events and graphs of an NVIDIA GPU, through cuda-python (the package cuda-bindings).

Nothing here is shared between threads but the device itself: each thread has a `Stream` with memory of its own, whose
blocks go back to it when the last array on them dies. All work of a stream is in order, so a block may be written again
while earlier work still reads it.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from basic_runtime.errors import EngineError

SMALLEST_BLOCK = 512
"""Bytes. Addresses of blocks are aligned to at least 256, as TensorRT asks."""


def installed() -> bool:
    """Whether cuda-bindings is installed."""
    return find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime by name and return what it returns besides its status.

    Raises EngineError with CUDA's own reason.
    """
    from cuda.bindings import runtime

    try:
        status, *values = getattr(runtime, name)(*arguments)
    except RuntimeError as error:  # a library of CUDA that is not there
        raise EngineError(f"CUDA is not ready ({error}): install NVIDIA's driver") from error
    if status != runtime.cudaError_t.cudaSuccess:
        reason = runtime.cudaGetErrorString(status)[1].decode()
        raise EngineError(f"CUDA: {name} failed: {reason}")
    return values[0] if values else None


def compute_capability() -> int:
    """Compute capability of the first GPU, 86 for 8.6. Raises EngineError if there is no GPU or no driver."""
    if not installed():
        raise EngineError("no NVIDIA GPU can be used without cuda-python: pip install cuda-bindings")
    from cuda.bindings import runtime

    names = runtime.cudaDeviceAttr
    parts = (names.cudaDevAttrComputeCapabilityMajor, names.cudaDevAttrComputeCapabilityMinor)
    try:
        major, minor = (int(call("cudaDeviceGetAttribute", part, 0)) for part in parts)
    except EngineError as error:
        raise EngineError(
            f"no NVIDIA GPU can be used here ({error}): install or update NVIDIA's driver, or choose another engine"
        ) from error
    return 10 * major + minor


def device_name() -> str:
    """Name of the first GPU, with the version of its driver. Raises EngineError."""
    name = call("cudaGetDeviceProperties", 0).name.decode().rstrip("\0")
    return f"{name}, driver {call('cudaDriverGetVersion')}"


def gpu_present() -> bool:
    """Whether this process can use an NVIDIA GPU. Never raises."""
    try:
        return compute_capability() > 0
    except EngineError:
        return False


def block_size(wanted: int) -> int:
    """Size of the block that serves `wanted` bytes: the next of four steps per power of two.

    Few sizes, so that blocks of one picture serve the next, and at most a quarter is wasted.
    """
    if wanted <= SMALLEST_BLOCK:
        return SMALLEST_BLOCK
    step = 1 << max(0, (wanted - 1).bit_length() - 3)
    return -(-wanted // step) * step


class Block:
    """Memory at `address`, `size` bytes; it goes back to its pool when nothing refers to it any more."""

    def __init__(self, address: int, size: int, pool: Pool) -> None:
        self.address, self.size = address, size
        weakref.finalize(self, pool.give_back, address, size).atexit = False


class Pool:
    """Blocks of memory by size, each used again as soon as it is free, the lowest address first: a loop that repeats
    gets the same addresses each time, in whatever order it gives them back."""

    def __init__(
        self,
        allocate: Callable[[int], int],
        release: Callable[[int], None],
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """allocate: bytes to an address, raises EngineError when memory is full; finish: ends work that may still need
        blocks which are not in use."""
        self._allocate, self._release, self._finish = allocate, release, finish
        self._idle: dict[int, list[int]] = {}
        self._closed = False

    def take(self, wanted: int) -> Block:
        """A block of at least `wanted` bytes. Raises EngineError."""
        size = block_size(wanted)
        idle = self._idle.get(size)
        return Block(heapq.heappop(idle) if idle else self._new(size), size, self)

    def give_back(self, address: int, size: int) -> None:
        """For blocks that died."""
        if self._closed:
            self._release(address)
        else:
            heapq.heappush(self._idle.setdefault(size, []), address)

    def drop_idle(self) -> None:
        """Release the blocks that are not in use."""
        for addresses in self._idle.values():
            while addresses:
                self._release(addresses.pop())

    def close(self) -> None:
        """Release the blocks that are not in use, and the others as soon as they are free."""
        self._closed = True
        self.drop_idle()

    def _new(self, size: int) -> int:
        try:
            return self._allocate(size)
        except EngineError:
            self._finish()
            self.drop_idle()
            return self._allocate(size)


class _HostView:
    """Pinned memory as NumPy's array interface; the array keeps the block alive."""

    def __init__(self, block: Block, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._block = block
        self.__array_interface__ = {
            "data": (block.address, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }


def host_array(pool: Pool, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[NDArray[Any], Block]:
    """An array of any content in a block of host memory, and the block."""
    kind = np.dtype(dtype)
    block = pool.take(int(np.prod(shape)) * kind.itemsize)
    return np.asarray(_HostView(block, shape, kind)), block


class Stream:
    """One thread's queue of work on the GPU, with its device and pinned memory."""

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._kinds = runtime.cudaMemcpyKind
        _ignore_captures()
        self.handle = handle = call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.device = Pool(
            lambda size: int(call("cudaMalloc", size)),
            partial(_free, "cudaFree"),
            lambda: call("cudaStreamSynchronize", handle),
        )
        self.pinned = Pool(lambda size: int(call("cudaMallocHost", size)), partial(_free, "cudaFreeHost"))
        self._in_flight: list[Block] = []
        self.clock: Callable[[], Clock | None] = lambda: None
        weakref.finalize(self, _close, self.handle, self.device, self.pinned).atexit = False

    def upload(self, values: NDArray[Any]) -> Block:
        """A device block with the values in C order; returns before they are there."""
        staged, pinned = host_array(self.pinned, values.shape, values.dtype)
        staged[...] = values
        block = self.device.take(pinned.size)
        with self.timed("transfer"):
            self._copy(block.address, pinned.address, staged.nbytes, self._kinds.cudaMemcpyHostToDevice)
        self._in_flight.append(pinned)
        return block

    def download(self, block: Block, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The content of a device block, when all work before is done."""
        values, pinned = host_array(self.pinned, shape, dtype)
        with self.timed("transfer"):
            self._copy(pinned.address, block.address, values.nbytes, self._kinds.cudaMemcpyDeviceToHost)
        self.synchronise()
        return values

    def synchronise(self) -> None:
        call("cudaStreamSynchronize", self.handle)
        self._in_flight.clear()

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Times the work that is queued within, if there is a clock."""
        clock = self.clock()
        if clock is None:
            yield
            return
        start = clock.mark(self.handle)
        yield
        clock.spans.append((kind, start, clock.mark(self.handle)))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what `work` queues, without running it, as a graph."""
        from cuda.bindings import runtime

        call("cudaStreamBeginCapture", self.handle, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:  # a capture must end, whatever happened
            graph = call("cudaStreamEndCapture", self.handle)
        return Graph(graph)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        call("cudaMemcpyAsync", target, source, size, kind, self.handle)


def _ignore_captures() -> None:
    """Graphs that are recorded, by a library in another thread or in this one, must not forbid this thread to allocate
    and to free. Memory is no part of them, and goes whenever garbage is collected."""
    from cuda.bindings import runtime

    call("cudaThreadExchangeStreamCaptureMode", runtime.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed)


def _free(name: str, address: int) -> None:
    """Free a block with the function `name`, in whatever thread it died."""
    _ignore_captures()
    call(name, address)


def _close(stream: Any, *pools: Pool) -> None:
    """Free a stream and its memory when its thread ends."""
    call("cudaStreamSynchronize", stream)
    for pool in pools:
        pool.close()
    call("cudaStreamDestroy", stream)


class Graph:
    """Recorded work of a stream, launched as one."""

    def __init__(self, captured: Any) -> None:
        self._graph = call("cudaGraphInstantiate", captured, 0)
        call("cudaGraphDestroy", captured)
        weakref.finalize(self, call, "cudaGraphExecDestroy", self._graph).atexit = False

    def launch(self, stream: Stream) -> None:
        call("cudaGraphLaunch", self._graph, stream.handle)


class Clock:
    """Spans of GPU time between pairs of CUDA events, each of a kind: "compute" or "transfer"."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any, Any]] = []

    def mark(self, stream: Any) -> Any:
        event = call("cudaEventCreate")
        call("cudaEventRecord", event, stream)
        return event

    def collect(self) -> dict[str, float]:
        """Seconds by kind since the last call, when all work before is done."""
        seconds: dict[str, float] = {}
        if self.spans:
            call("cudaEventSynchronize", self.spans[-1][2])
        for kind, start, stop in self.spans:
            seconds[kind] = seconds.get(kind, 0.0) + float(call("cudaEventElapsedTime", start, stop)) / 1000
            call("cudaEventDestroy", start)
            call("cudaEventDestroy", stop)
        self.spans.clear()
        return seconds
