"""What basic_runtime calls of `cuda.bindings.runtime`, on the simulated GPU: same names, arguments and results.

All functions return a status first. What each must not be asked is said in simulated_device.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from simulated_device import RELAXED, Capture, Event, Graph, Memory, Stream, device

CAPABILITY = (8, 6)

cudaStreamNonBlocking = 1


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaDeviceAttr(IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


SUCCESS = cudaError_t.cudaSuccess
Status = tuple[cudaError_t]
Result = tuple[cudaError_t, Any]


# --- the device ------------------------------------------------------------------------------------------------------


def cudaDeviceGetAttribute(attribute: int, number: int) -> Result:
    assert number == 0
    return SUCCESS, CAPABILITY[attribute - cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor]


def cudaGetDeviceProperties(number: int) -> Result:
    assert number == 0
    return SUCCESS, SimpleNamespace(name=b"simulated GPU")


def cudaDriverGetVersion() -> Result:
    return SUCCESS, 13000


def cudaGetErrorString(status: cudaError_t) -> Result:
    return SUCCESS, status.name.encode()


# --- memory ----------------------------------------------------------------------------------------------------------


def cudaMemGetInfo() -> tuple[cudaError_t, int, int]:
    return SUCCESS, device.total_memory - device.used_memory, device.total_memory


def cudaMalloc(size: int) -> Result:
    device.check_unsafe("cudaMalloc")
    if device.used_memory + size > device.total_memory:
        return cudaError_t.cudaErrorMemoryAllocation, None
    return SUCCESS, device.memory.allocate(size)


def cudaFree(address: int) -> Status:
    return _free("cudaFree", device.memory, address)


def cudaMallocHost(size: int) -> Result:
    device.check_unsafe("cudaMallocHost")
    return SUCCESS, device.pinned.allocate(size)


def cudaFreeHost(address: int) -> Status:
    return _free("cudaFreeHost", device.pinned, address)


def cudaMemcpyAsync(target: int, source: int, size: int, kind: int, stream: Stream) -> Status:
    """The CPU's side is in pinned memory. CUDART, API synchronization behavior: copies from other memory may be staged,
    and those to other memory wait; basic_runtime.engines.cuda says that its uploads do not."""
    up = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
    places = (device.memory, device.pinned) if up else (device.pinned, device.memory)

    def check() -> None:
        for memory, address in zip(places, (target, source), strict=True):
            memory.check(address, size)

    def copy() -> None:
        check()
        ctypes.memmove(target, source, size)

    check()
    device.stream(stream).add(copy)
    return (SUCCESS,)


def _free(name: str, memory: Memory, address: int) -> Status:
    """CUDART: cudaFree "may perform implicit synchronization". It does not here: queued work that needs the memory will
    find it gone."""
    device.check_unsafe(name)
    memory.free(address)
    return (SUCCESS,)


# --- streams and events ----------------------------------------------------------------------------------------------


def cudaStreamCreateWithFlags(flags: int) -> Result:
    assert flags == cudaStreamNonBlocking, "a stream that waits for the work of other threads"
    return SUCCESS, device.new_stream()


def cudaStreamSynchronize(stream: Stream) -> Status:
    device.stream(stream).run()
    return (SUCCESS,)


def cudaStreamDestroy(stream: Stream) -> Status:
    """CUDART: work that is queued is still done."""
    device.stream(stream).run()
    del device.streams[int(stream)]
    return (SUCCESS,)


def cudaEventCreate() -> Result:
    device.events += 1
    return SUCCESS, Event()


def cudaEventRecord(event: Event, stream: Stream) -> Status:
    _check_event(event)
    event.record(device.stream(stream))
    return (SUCCESS,)


def cudaEventSynchronize(event: Event) -> Status:
    _check_event(event)
    event.wait()
    return (SUCCESS,)


def cudaEventElapsedTime(start: Event, stop: Event) -> Result:
    """CUDART: cudaErrorNotReady if one of the events is not complete."""
    _check_event(start)
    _check_event(stop)
    if start.time is None or stop.time is None:
        return cudaError_t.cudaErrorNotReady, None
    return SUCCESS, 1000 * (stop.time - start.time)


def cudaEventDestroy(event: Event) -> Status:
    _check_event(event)
    event.destroyed = True
    device.events -= 1
    return (SUCCESS,)


def _check_event(event: Event) -> None:
    """CUDART, cudaEventDestroy: an event must not be used after it."""
    assert not event.destroyed, "an event is used that was destroyed"


# --- graphs ----------------------------------------------------------------------------------------------------------


def cudaThreadExchangeStreamCaptureMode(mode: int) -> Result:
    return SUCCESS, cudaStreamCaptureMode(device.exchange_mode(int(mode)))


def cudaStreamBeginCapture(stream: Stream, mode: int) -> Status:
    found = device.stream(stream)
    assert found.capture is None, "a stream is captured twice"
    found.capture = Capture(int(mode))
    return (SUCCESS,)


def cudaStreamEndCapture(stream: Stream) -> Result:
    """CUDART: unless relaxed, a capture ends in the thread that began it."""
    found = device.stream(stream)
    assert found.capture is not None, "a capture ends that has not begun"
    assert found.capture.bound_here or found.capture.mode == RELAXED, "a capture ends in another thread than it began"
    nodes, found.capture = found.capture.nodes, None
    return SUCCESS, Graph(nodes)


def cudaGraphInstantiate(graph: Graph, flags: int) -> Result:
    assert not graph.destroyed, "a graph is used that was destroyed"
    device.graphs += 1
    device.counts["recorded"] += 1
    return SUCCESS, Graph(graph.nodes)


def cudaGraphDestroy(graph: Graph) -> Status:
    assert not graph.destroyed, "a graph is destroyed twice"
    graph.destroyed = True
    return (SUCCESS,)


def cudaGraphExecDestroy(graph: Graph) -> Status:
    device.graphs -= 1
    return cudaGraphDestroy(graph)


def cudaGraphLaunch(graph: Graph, stream: Stream) -> Status:
    assert not graph.destroyed, "a graph is launched that was destroyed"
    device.counts["launched"] += 1
    graph.launch(device.stream(stream))
    return (SUCCESS,)
