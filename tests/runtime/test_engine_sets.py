"""Engines that were built ahead of time: finding the right set, shapes, tiles, fallback. No GPU is needed."""

from __future__ import annotations

import ctypes
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from built_ahead import Ahead, Measured

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import Engine, available_backends, create_backend
from basic_runtime.engines.cuda import SMALLEST_BLOCK, Pool, block_size, host_array
from basic_runtime.engines.engine_set import (
    INDEX_FILE,
    EngineFile,
    EngineSet,
    Sizes,
    find_set,
    read_set,
    rebuild_command,
    set_folder,
)
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.engines.tensorrt import check_shapes, unpacked_mean
from basic_runtime.engines.tensorrt_library import Library
from basic_runtime.errors import EngineError, EngineMismatchError, MissingExtraError
from basic_runtime.tiles import TILE_PIXELS

from .test_engines import RoundsToHalf

SIZES = Sizes((64, 64), (768, 512), (1536, 1536))
SHAPES = [{"z": (1, 4, *sides)} for sides in ((1, 1), (8, 12), (24, 24))]
ENGINE = EngineFile("k" * 32, 3, "0" * 64, 0.5, "fp32", *SHAPES)


def write_set(bundle: Path, version: str, target: str, library: str = "tensorrt-rtx") -> EngineSet:
    folder = set_folder(bundle, library, version, target)
    folder.mkdir(parents=True)
    found = EngineSet(library, version, target, "fp16", SIZES, {"0123456789abcdef": ENGINE})
    (folder / INDEX_FILE).write_text(found.to_json())
    return found


def test_an_index_reads_back(tmp_path: Path) -> None:
    written = write_set(tmp_path, "1.7", "sm86")
    assert read_set(set_folder(tmp_path, "tensorrt-rtx", "1.7", "sm86")) == written


def test_the_gpu_s_own_set_comes_before_the_portable_one(tmp_path: Path) -> None:
    write_set(tmp_path, "1.7", "sm80+")
    assert find_set(tmp_path, "tensorrt-rtx", "1.7", 86)[1].target == "sm80+"
    write_set(tmp_path, "1.7", "sm86")
    assert find_set(tmp_path, "tensorrt-rtx", "1.7", 86)[1].target == "sm86"
    assert find_set(tmp_path, "tensorrt-rtx", "1.7", 89)[1].target == "sm80+"


@pytest.mark.parametrize(
    ("library", "version", "capability"),
    [("tensorrt-rtx", "1.8", 86), ("tensorrt-rtx", "1.7", 75), ("tensorrt", "1.7", 86)],
)
def test_engines_for_another_machine_are_refused(tmp_path: Path, library: str, version: str, capability: int) -> None:
    """Another version, a GPU before 8.0, another library: the message says what is there and how to build."""
    write_set(tmp_path, "1.7", "sm80+")
    with pytest.raises(EngineMismatchError) as caught:
        find_set(tmp_path, library, version, capability)
    message = str(caught.value)
    assert f"no engines for {library} {version} on this GPU (sm{capability}), but tensorrt-rtx-1.7 sm80+" in message
    assert f"`basic-export {tmp_path} --engine {library} --compute-capability {capability}`" in message


def test_a_gpu_that_the_library_does_not_serve(tmp_path: Path) -> None:
    """What TensorRT-RTX 1.7.1 said on an H100, before any engine is read."""
    write_set(tmp_path, "1.7", "sm80+")
    with pytest.raises(EngineMismatchError, match="does not run on this GPU, of compute capability 9.0: choose"):
        find_set(tmp_path, "tensorrt-rtx", "1.7", 90)
    assert find_set(tmp_path, "tensorrt-rtx", "1.7", 130)[1].target == "sm80+"


def test_a_bundle_without_engines(tiny_path: Path) -> None:
    with pytest.raises(EngineMismatchError, match="but none at all; build them with `basic-export"):
        find_set(tiny_path, "tensorrt", "10.9", 86)


def test_the_installed_bundle_is_copied_to_be_built() -> None:
    wanted = "`basic-export lite-11 -o lite-11-gpu --engine tensorrt-rtx --compute-capability 89`"
    assert rebuild_command(Bundle().path, "tensorrt-rtx", 89) == wanted
    wanted = "`basic-export '/my models/lite' --engine tensorrt --compute-capability 90`"
    assert rebuild_command(Path("/my models/lite"), "tensorrt", 90) == wanted


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.pop("sizes"),
        lambda index: index.update(format_version=2),
        lambda index: index.update(engines=[]),
        lambda index: index["engines"]["0123456789abcdef"].update(minimum={"z": "x"}),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, change: Any) -> None:
    write_set(tmp_path, "1.7", "sm86")
    file = set_folder(tmp_path, "tensorrt-rtx", "1.7", "sm86") / INDEX_FILE
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))
    with pytest.raises(EngineError, match="index.json: damaged .*: build the engines again") as caught:
        find_set(tmp_path, "tensorrt-rtx", "1.7", 86)
    assert "\n" not in str(caught.value)


def test_shapes_outside_of_an_engine_are_refused() -> None:
    backend = OnnxRuntimeBackend(1)
    check_shapes({"z": (1, 4, 24, 1)}, ENGINE, "sm86/x.engine", backend)
    for shape in ((1, 4, 25, 8), (1, 4, 8), (1, 5, 8, 8)):
        with pytest.raises(EngineError, match=r"x.engine: was built for z from .* to \[1, 4, 24, 24\], not"):
            check_shapes({"z": shape}, ENGINE, "sm86/x.engine", backend)


def test_tiles_are_no_larger_than_engines(tiny_path: Path, photo: Any) -> None:
    codec = Codec(tiny_path, Ahead(1))
    assert codec._networks.tile_pixels == 192
    assert codec.encode(photo(300, 500)) == Codec(tiny_path, OnnxRuntimeBackend(1)).encode(photo(300, 500))


class Large(Measured):
    """Engines that were built for larger pictures than processors take in one piece."""

    def tile_limit(self, bundle: Path) -> int | None:
        return 1536


def test_the_largest_picture_that_engines_take_is_computed_in_one_piece(photo: Any) -> None:
    picture = photo(64, TILE_PIXELS + 128)

    def sides(tile_pixels: int | None) -> set[int]:
        """Of what g_a of the bundled model is given."""
        backend = Large(1)
        codec = Codec(None, backend, tile_pixels=tile_pixels)
        assert codec.encode(picture, level=0) == Codec(backend="onnxruntime").encode(picture, level=0)
        return backend.sides[codec.bundle.level(0).g_a]

    assert sides(None) == {64, TILE_PIXELS + 128}
    assert max(sides(128)) < TILE_PIXELS


# --- memory ----------------------------------------------------------------------------------------------------------


def test_blocks_waste_little_and_come_in_few_sizes() -> None:
    sizes = [block_size(wanted) for wanted in range(1, 300_000)]
    assert all(size >= wanted for wanted, size in enumerate(sizes, 1))
    assert all(size <= max(SMALLEST_BLOCK, 1.25 * wanted) for wanted, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 4 * 10 and not [size for size in set(sizes) if size % 128]
    assert block_size(3 << 30) == 3 << 30


class Heap:
    """malloc and free of the C library, counted, with a limit."""

    def __init__(self, limit: int) -> None:
        libc = ctypes.CDLL(None)
        self._malloc, self._free = libc.malloc, libc.free
        self._malloc.restype, self._malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        self._free.argtypes = [ctypes.c_void_p]
        self.held: dict[int, int] = {}
        self.limit, self.calls = limit, 0

    def allocate(self, size: int) -> int:
        if sum(self.held.values()) + size > self.limit:
            raise EngineError("the heap is full")
        self.calls += 1
        address = int(self._malloc(size))
        self.held[address] = size
        return address

    def release(self, address: int) -> None:
        del self.held[address]
        self._free(address)


def test_a_loop_that_repeats_gets_the_same_addresses() -> None:
    """In the same order, or CUDA graphs would be recorded for each order: given back are the blocks in another one."""
    heap = Heap(1 << 24)
    pool = Pool(heap.allocate, heap.release)
    seen = []
    for _ in range(50):
        blocks = [pool.take(size) for size in (1000, 50_000, 1000, 7, 1000)]
        assert len({block.address for block in blocks}) == 5
        seen.append([block.address for block in blocks])
        for number in (2, 0, 1, 1, 0):
            del blocks[number]
    assert seen[1:] == seen[1:2] * 49 and heap.calls == 5


def test_a_full_heap_gets_idle_blocks_back() -> None:
    heap = Heap(100_000)
    pool = Pool(heap.allocate, heap.release)
    first = pool.take(60_000)
    del first
    second = pool.take(90_000)
    assert list(heap.held.values()) == [second.size]
    with pytest.raises(EngineError, match="the heap is full"):
        pool.take(90_000)


def test_a_closed_pool_releases_blocks_as_they_die() -> None:
    heap = Heap(1 << 20)
    pool = Pool(heap.allocate, heap.release)
    kept, dropped = pool.take(100), pool.take(5000)
    del dropped
    pool.close()
    assert list(heap.held) == [kept.address]
    del kept
    assert not heap.held


def test_an_array_keeps_its_memory() -> None:
    heap = Heap(1 << 20)
    pool = Pool(heap.allocate, heap.release)
    values, block = host_array(pool, (3, 4), np.float32)
    values[...] = 7
    address = block.address
    del block
    assert pool.take(48).address != address and (values == 7).all()
    del values
    assert address in {block.address for block in (pool.take(48), pool.take(48))}


def test_packed_means_are_little_endian() -> None:
    packed = np.array([[[[[0, 0], [1, 0], [0xFF, 0xFF], [0, 0x80], [0xFF, 0x7F]]]]], np.uint8)
    np.testing.assert_array_equal(unpacked_mean(packed).ravel(), [0, 1, -1, -(2**15), 2**15 - 1])


# --- a machine without a GPU, and one whose GPU is not exact -------------------------------------------------------


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_native_engine_is_there_or_what_it_lacks_is_said(name: str) -> None:
    if name in available_backends():
        assert create_backend(name).name == name
        return
    wanted = rf"pip install '\.\[{name}\]' in the sources|no NVIDIA GPU can be used here .*, or choose another engine"
    with pytest.raises((EngineError, MissingExtraError), match=wanted):
        create_backend(name)


def test_a_library_that_does_not_load_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "library_in_parts.py").write_text("raise OSError('libnvonnxparser.so.11: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    library = Library("tensorrt", "library_in_parts", ahead_of_time=False)
    assert library.installed and not library.loads
    with pytest.raises(EngineError, match="installed but does not load .libnvonnxparser.so.11"):
        library.load()


def test_a_library_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver that is too old, TensorRT gives a null pointer, of which pybind11 makes a TypeError."""
    (tmp_path / "library_of_later.py").write_text("def Runtime(log):\n    raise TypeError('returned nullptr')\n")
    monkeypatch.syspath_prepend(tmp_path)
    log = SimpleNamespace(taken=lambda: "CUDA initialization failure with error: 35")
    with pytest.raises(EngineError, match="does not start here .*failure with error: 35.: update NVIDIA's driver, or"):
        Library("tensorrt", "library_of_later", ahead_of_time=False).make("Runtime", log)


class NotExact(RoundsToHalf):
    """An engine that fails the golden vectors, and has another to stand in for it."""

    entropy_fallback = "onnxruntime"


def test_the_entropy_path_falls_back_and_files_stay_the_same(
    tiny_path: Path, photo: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cpu = Codec(tiny_path, OnnxRuntimeBackend(1))
    with caplog.at_level(logging.WARNING):
        codec = Codec(tiny_path, NotExact(1))
        data = codec.encode(photo(70, 90))
        data = codec.encode(photo(70, 90))
    (record,) = caplog.records
    assert "the entropy path runs on engine 'onnxruntime', because engine 'half' 1 does not" in record.getMessage()
    np.testing.assert_allclose(cpu.decode(data).astype(int), codec.decode(data), atol=1)
    assert codec.decode(cpu.encode(photo(70, 90))).shape == (70, 90, 3)
    assert isinstance(codec.verify()[1].error, EngineError)


class NotBuilt(NotExact):
    """An engine for which nothing was built."""

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        if strict:
            raise EngineMismatchError("no engines here: build them with `basic-export`")
        return super().load(model, external_data=external_data, strict=strict)


def test_engines_that_were_not_built_are_no_reason_to_fall_back(tiny_path: Path) -> None:
    with pytest.raises(EngineMismatchError, match="build them with"):
        Codec(tiny_path, NotBuilt(1)).load(0)


class StandIn:
    """An array that is somewhere else, as an engine on a device returns it."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.shape, self.fetched = values, values.shape, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self.fetched += 1
        return self._values if dtype is None else self._values.astype(dtype)


class Elsewhere(OnnxRuntimeBackend):
    """All outputs are `StandIn`s, and inputs may be."""

    made: list[tuple[str, StandIn]] = []

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        inner, made = super().load(model, external_data=external_data, strict=strict), self.made

        class Away(Engine):
            inputs, outputs = inner.inputs, inner.outputs

            def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                real = {n: v._values if isinstance(v, StandIn) else v for n, v in inputs.items()}
                found = {name: StandIn(values) for name, values in inner.run(real).items()}
                made.extend(found.items())
                return found  # type: ignore[return-value]

        return Away()


def test_what_stages_hand_on_stays_on_the_device(tiny_path: Path, photo: Any) -> None:
    """Only means, scales, y, z and the picture are fetched, each once."""
    backend = Elsewhere(1)
    codec, cpu = Codec(tiny_path, backend), Codec(tiny_path, OnnxRuntimeBackend(1))
    codec.load(7)
    backend.made.clear()
    data = codec.encode(photo(70, 90))
    np.testing.assert_array_equal(codec.decode(data), cpu.decode(data))
    assert data == cpu.encode(photo(70, 90))
    fetched = {name for name, values in backend.made if values.fetched}
    assert {"mean", "scale", "y", "z", "xhat"} == fetched and len(backend.made) > 20
    assert all(values.fetched <= 1 for _, values in backend.made)


def test_large_pictures_on_a_device(tiny_path: Path, photo: Any) -> None:
    backends = Elsewhere(1), OnnxRuntimeBackend(1)
    away, cpu = (Codec(tiny_path, backend, tile_pixels=64).encode(photo(130, 200)) for backend in backends)
    assert away == cpu
