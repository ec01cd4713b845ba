"""What only a GPU can show: `make test-gpu`. The list is in docs/gpu.md."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from skimage import data

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.device_profile import TOTAL
from basic_runtime.engines import Backend, cuda
from basic_runtime.engines.tensorrt import TensorRtBackend
from basic_runtime.profile import profile

from .device import LEVELS, PHOTO, PICTURE_SIZES, PICTURES, PROFILED, SLACK

pytestmark = pytest.mark.gpu


def psnr(photo: np.ndarray, decoded: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((photo.astype(np.float64) - decoded) ** 2)))


@pytest.fixture
def gpu(bundle: Bundle, backend: Backend) -> Codec:
    return Codec(bundle, backend)


@pytest.fixture(scope="module")
def cpu() -> Codec:
    return Codec(backend="onnxruntime")


def test_golden_vectors(gpu: Codec) -> None:
    assert [check.error for check in gpu.verify()] == [None] * len(gpu.bundle.manifest.entropy_variants)


def test_nothing_falls_back(gpu: Codec, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for level in LEVELS:
            gpu.load(level)
    assert not caplog.records


@pytest.mark.parametrize("level", LEVELS)
def test_files_cross_between_cpu_and_gpu(gpu: Codec, cpu: Codec, level: int) -> None:
    """Either end may be a GPU: latents are equal (their checksum is), pictures within 0.05 dB."""
    for quality in (10, 60, 100):
        files = [codec.encode(PHOTO, quality=quality, level=level) for codec in (cpu, gpu)]
        for file in files:
            decoded = [codec.decode(file) for codec in (cpu, gpu)]
            assert abs(psnr(PHOTO, decoded[0]) - psnr(PHOTO, decoded[1])) < 0.05
            assert np.abs(decoded[0].astype(int) - decoded[1]).max() <= 4
        assert abs(psnr(PHOTO, cpu.decode(files[0])) - psnr(PHOTO, cpu.decode(files[1]))) < 0.05
        assert abs(len(files[0]) - len(files[1])) < 0.01 * len(files[0])


@pytest.mark.parametrize("size", PICTURE_SIZES)
def test_sizes(gpu: Codec, cpu: Codec, size: tuple[int, int]) -> None:
    """From one pixel to more than one tile."""
    picture = np.resize(data.astronaut(), (*size, 3))
    assert abs(psnr(picture, gpu.decode(gpu.encode(picture))) - psnr(picture, cpu.decode(cpu.encode(picture)))) < 0.05


def test_an_effort_gives_what_the_cpu_gives(gpu: Codec, cpu: Codec) -> None:
    """Where the search is made."""
    files = [codec.encode(PHOTO, quality=60, level=0, effort=4) for codec in (cpu, gpu)]
    assert len(files[1]) < len(gpu.encode(PHOTO, quality=60, level=0))
    assert abs(len(files[0]) - len(files[1])) < 0.01 * len(files[0])
    assert abs(psnr(PHOTO, cpu.decode(files[0])) - psnr(PHOTO, cpu.decode(files[1]))) < 0.05


def test_runs_that_repeat_give_the_same(gpu: Codec) -> None:
    """The second run records CUDA graphs, the third launches them, others come between."""
    small = PHOTO[:128, :192]
    first = gpu.encode(PHOTO), gpu.encode(small)
    for _ in range(4):
        assert (gpu.encode(PHOTO), gpu.encode(small)) == first
    for _ in range(4):
        assert gpu.encode(PHOTO) == first[0]


def test_threads_do_not_disturb_each_other(gpu: Codec) -> None:
    pictures = [np.ascontiguousarray(PHOTO[: 64 * k, : 40 * k]) for k in range(1, 7)] * 3
    alone = [gpu.encode(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(gpu.encode, pictures)) == alone


def used_memory() -> int:
    free, total = _memory()
    return total - free


def _memory() -> tuple[int, int]:
    from cuda.bindings import runtime

    status, free, total = runtime.cudaMemGetInfo()
    assert status == runtime.cudaError_t.cudaSuccess
    return int(free), int(total)


def test_memory_is_flat_after_many_pictures(gpu: Codec) -> None:
    picture = PHOTO[:128, :192]
    for _ in range(10):
        gpu.decode(gpu.encode(picture))
    before = used_memory()
    for _ in range(PICTURES):
        gpu.decode(gpu.encode(picture))
    assert used_memory() - before < 1 << 20


def test_memory_of_threads_that_end_comes_back(gpu: Codec) -> None:
    def work(number: int) -> None:
        gpu.encode(PHOTO[:128, :192])

    used = []
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(4)))
        used.append(used_memory())
    assert used[-1] - used[1] < SLACK


def test_memory_of_codecs_that_are_gone_comes_back(bundle: Bundle, backend: Backend) -> None:
    """Also where the back-end stays."""
    used = []
    for _ in range(5):
        Codec(bundle, backend).encode(PHOTO[:128, :192])
        used.append(used_memory())
    assert used[-1] - used[1] < SLACK


def test_an_array_crosses_and_comes_back() -> None:
    stream = cuda.Stream()
    values = np.random.default_rng(0).normal(size=(1, 3, 70, 50)).astype(np.float32)
    block = stream.upload(values)
    np.testing.assert_array_equal(stream.download(block, values.shape, np.float32), values)


def test_a_profile_of_the_gpu(bundle: Bundle, backend: Backend) -> None:
    if not isinstance(backend, TensorRtBackend):
        pytest.skip("ONNX Runtime's providers are timed from outside only")
    result = profile(bundle, backend, width=PROFILED, height=PROFILED, levels=(0, 7), repetitions=3)
    total = {(t.level, t.direction, t.kind): t.p50 for t in result.device if t.part == TOTAL}
    for level in (0, 7):
        for direction in ("encode", "decode"):
            assert 0 < total[level, direction, "compute"] < total[level, direction, "all"]
    assert {layer.part for layer in result.layers} >= {"g_a", "h_a", "h_s", "stage 0", "g_s"}
    assert all(layer.ms >= 0 for layer in result.layers)
    assert backend.worker().stream.clock() is None  # what comes after a profile is not timed
