"""What only a simulated GPU can tell: how often graphs run, what is held, what happens when memory is full."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from simulated_device import device
from skimage import data

from basic_export.engines import profile_of, typed_graph
from basic_export.options import PICTURE_SIZES
from basic_export.tensorrt import EngineBuilder
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import create_backend, cuda
from basic_runtime.engines.engine_set import Sizes
from basic_runtime.engines.tensorrt_library import TENSORRT
from basic_runtime.errors import EngineError
from basic_runtime.profile import profile

pytestmark = pytest.mark.gpu

PHOTO = data.astronaut()[:128, :192]
STEP = 1 << 17
"""Bytes."""


def held() -> tuple[int, ...]:
    gc.collect()
    return device.used_memory, device.pinned.held, len(device.streams), device.graphs, device.events


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Memory, streams, graphs and events that a test makes go with what it made them for."""
    before = held()
    yield
    assert held() == before


def test_graphs_run_where_shapes_repeat(bundle: Bundle, engine: str) -> None:
    """Addresses do, too: after some pictures all runs are launches, where the library leaves graphs to us."""
    codec = Codec(bundle, create_backend(engine))
    for _ in range(6):
        codec.decode(codec.encode(PHOTO, level=0))
    device.counts.clear()
    codec.decode(codec.encode(PHOTO, level=0))
    assert set(device.counts) == {"launched" if engine == TENSORRT.name else "enqueued"}


def test_graphs_that_make_room_have_run(bundle: Bundle, engine: str) -> None:
    """Of more shapes than are kept, without a result that is waited for in between."""
    spec = bundle.graph(bundle.level(0).h_a)
    net = create_backend(engine).load(bundle.graph_path(spec.id), external_data=bundle.path, strict=False)
    shapes = [(1, bundle.manifest.y_channels, h, w) for h in (4, 8, 12) for w in (4, 8, 12, 16)]
    values = [np.full(shape, number, np.float32) for number, shape in enumerate(shapes, 1)]
    together = []
    for y in values:
        for _ in range(2):
            net.run({"y": y})
        together.append(net.run({"y": y})["z"])
    alone = [np.asarray(net.run({"y": y})["z"]) for y in values]
    assert all(np.array_equal(z, np.asarray(found)) for z, found in zip(alone, together, strict=True))


def test_uploads_that_wait_keep_their_values() -> None:
    stream = cuda.Stream()
    arrays = [np.full((3, 70), number, np.float32) for number in range(4)]
    blocks = [stream.upload(values) for values in arrays]
    for values, block in zip(arrays, blocks, strict=True):
        np.testing.assert_array_equal(stream.download(block, values.shape, np.float32), values)


def test_a_profile_leaves_no_events(bundle: Bundle, engine: str) -> None:
    """Nor does what comes after it make some."""
    backend = create_backend(engine)
    assert profile(bundle, backend, width=64, height=64, levels=(0,), repetitions=1).device
    Codec(bundle, backend).encode(PHOTO, level=0)
    assert device.events == 0


def test_memory_that_is_full_is_used_again(bundle: Bundle, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of other sizes go first, when no work needs them any more. If that is not enough, an error says so."""
    large = np.tile(PHOTO, (2, 1, 1))
    file = Codec(bundle, create_backend(engine)).encode(large, level=0)
    codec = Codec(bundle, create_backend(engine))
    codec.encode(PHOTO, level=0)
    outcomes: list[bytes | str] = []
    while file not in outcomes:
        monkeypatch.setattr(device, "total_memory", device.used_memory + STEP * len(outcomes))
        try:
            outcomes.append(codec.encode(large, level=0))
        except EngineError as error:
            outcomes.append(str(error))
    assert {*outcomes[:-1]} == {"CUDA: cudaMalloc failed: cudaErrorMemoryAllocation"}


def test_memory_of_a_thread_may_be_freed_in_another(bundle: Bundle, engine: str) -> None:
    """In one that has done nothing on the GPU, while graphs may be recorded elsewhere."""
    with ThreadPoolExecutor(1) as stays, ThreadPoolExecutor(1) as goes:
        kept, codec = (Codec(bundle, create_backend(engine)) for _ in range(2))
        stays.submit(kept.encode, PHOTO, level=0).result()
        goes.submit(codec.encode, PHOTO, level=0).result()
        del codec
        gc.collect()
        assert len(device.streams) == 1


def test_memory_may_be_freed_while_a_graph_is_recorded() -> None:
    """Garbage is collected at any time, also that of threads which have ended."""
    gone, stays = [cuda.Stream()], cuda.Stream()
    gone[0].upload(PHOTO)
    stays.capture(gone.clear).launch(stays)
    assert len(device.streams) == 1


def test_timings_of_another_gpu_are_taken_anew(tmp_path: Path) -> None:
    bundle = Bundle()
    spec = bundle.graph(bundle.level(0).h_a)
    model = typed_graph(bundle, spec, "fp16")
    timings = tmp_path / "tensorrt.timings"
    timings.write_bytes(b"another GPU")
    assert EngineBuilder(TENSORRT, "sm86", timings).build(
        model, spec.id, profile_of(bundle, spec, model, Sizes(*PICTURE_SIZES))
    )
    assert timings.read_bytes() == b"simulated GPU"
