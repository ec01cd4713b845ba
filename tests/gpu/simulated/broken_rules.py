"""That the simulated GPU refuses what breaks a rule: else it would show nothing."""

from __future__ import annotations

import numpy as np
import pytest
from cuda.bindings import runtime
from simulated_device import Memory, device

from basic_runtime.bundle import Bundle
from basic_runtime.engines import create_backend
from basic_runtime.engines.cuda import call

pytestmark = pytest.mark.gpu

UP, DOWN = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
THREAD_LOCAL = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
SIZE = 512


@pytest.fixture(autouse=True)
def _empty_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test leaves is forgotten."""
    for name, value in {"memory": Memory("device"), "pinned": Memory("pinned"), "streams": {}, "_modes": {}}.items():
        monkeypatch.setattr(device, name, value)


@pytest.fixture
def stream() -> object:
    return call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)


@pytest.fixture
def block() -> int:
    return int(call("cudaMalloc", SIZE))


@pytest.fixture
def pinned() -> int:
    return int(call("cudaMallocHost", SIZE))


def test_work_waits_until_it_is_waited_for(stream: object, block: int, pinned: int) -> None:
    values = device.pinned.view(pinned)
    values[:] = 1
    call("cudaMemcpyAsync", block, pinned, SIZE, UP, stream)
    values[:] = 2  # too early
    call("cudaMemcpyAsync", pinned, block, SIZE, DOWN, stream)
    call("cudaStreamSynchronize", stream)
    assert (values == 2).all()


def test_copies_are_within_blocks_of_their_kind(stream: object, block: int, pinned: int) -> None:
    other = np.zeros(SIZE, np.uint8)
    for target, source, size in ((block, other.ctypes.data, SIZE), (pinned, pinned, 1), (block, pinned, SIZE + 1)):
        with pytest.raises(AssertionError, match="bytes at .* are not in"):
            call("cudaMemcpyAsync", target, source, size, UP, stream)


def test_memory_stays_until_work_is_done(stream: object, block: int, pinned: int) -> None:
    call("cudaMemcpyAsync", block, pinned, SIZE, UP, stream)
    call("cudaFree", block)
    with pytest.raises(AssertionError, match="not in device memory: freed"):
        call("cudaStreamSynchronize", stream)
    with pytest.raises(AssertionError, match="is freed that is not held"):
        call("cudaFree", block)


def test_what_a_capture_forbids(stream: object, block: int) -> None:
    call("cudaStreamBeginCapture", stream, THREAD_LOCAL)
    for name, argument in (("cudaMalloc", SIZE), ("cudaFree", block), ("cudaStreamSynchronize", stream)):
        with pytest.raises(AssertionError, match="in a thread that captures|while it is captured"):
            call(name, argument)


def test_what_is_destroyed_is_gone(stream: object) -> None:
    event = call("cudaEventCreate")
    call("cudaEventDestroy", event)
    with pytest.raises(AssertionError, match="an event is used that was destroyed"):
        call("cudaEventRecord", event, stream)
    call("cudaStreamDestroy", stream)
    with pytest.raises(AssertionError, match="a stream is used that was destroyed"):
        call("cudaStreamSynchronize", stream)


def test_contexts_are_bound_before_they_run(bundle: Bundle, engine: str, stream: object, block: int) -> None:
    spec = bundle.graph(bundle.level(0).h_a)
    net = create_backend(engine).load(bundle.graph_path(spec.id), external_data=bundle.path, strict=False)
    context = net.new_context()
    with pytest.raises(AssertionError, match="without the shapes of all inputs"):
        context.execute_async_v3(int(stream))
    with pytest.raises(AssertionError, match="a tensor that is not aligned"):
        context.set_tensor_address("y", block + 16)
    with pytest.raises(AssertionError, match="scratch memory that is too small"):
        context.set_device_memory(block, SIZE)
