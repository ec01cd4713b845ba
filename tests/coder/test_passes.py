"""The element-wise passes against their definition in NumPy (in depth: cpp/tests/passes_test.cpp)."""

from __future__ import annotations

import numpy as np
import pytest

from basic_runtime.coder import StreamError, dequantise, indexes_from_scale, quantise

LUT = np.arange(64, dtype=np.uint8)[::-1].copy()


def inputs(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 20, shape).astype(np.float32)
    mean = np.rint(rng.normal(0, 300, shape)).astype(np.float32)
    scale = rng.integers(-10, 90, shape).astype(np.float32)
    return y, mean, scale


def outputs(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {
        "symbols": np.empty(shape, np.int32),
        "indexes": np.empty(shape, np.uint8),
        "yhat": np.empty(shape, np.float32),
    }


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("mean_bits", [0, 6])
@pytest.mark.parametrize("shape", [(0,), (1, 1), (1, 96, 17, 31)])
def test_encoder_and_decoder_agree(mean_bits: int, shape: tuple[int, ...], threads: int) -> None:
    y, mean, scale = inputs(shape)
    out = outputs(shape)
    quantise(y, mean, scale, LUT, mean_bits, **out, threads=threads)
    expected = np.floor(y - mean / 2**mean_bits + np.float32(0.5))
    np.testing.assert_array_equal(out["symbols"], expected)
    np.testing.assert_array_equal(out["indexes"], LUT[scale.clip(0, 63).astype(int)])
    np.testing.assert_array_equal(out["yhat"], expected * 2**mean_bits + mean)

    indexes, yhat = np.empty(shape, np.uint8), np.empty(shape, np.float32)
    indexes_from_scale(scale, LUT, indexes, threads)
    dequantise(out["symbols"], mean, mean_bits, yhat, threads)
    np.testing.assert_array_equal(indexes, out["indexes"])
    np.testing.assert_array_equal(yhat, out["yhat"])


def test_what_any_thread_finds_is_an_error() -> None:
    shape = (1, 96, 17, 31)
    y, mean, scale = inputs(shape)
    for place in (0, -1):
        wrong = mean.copy()
        wrong.reshape(-1)[place] = 0.5
        with pytest.raises(ValueError, match="mean holds"):
            quantise(y, wrong, scale, LUT, 6, **outputs(shape), threads=3)
        with pytest.raises(ValueError, match="mean holds"):
            dequantise(np.zeros(shape, np.int32), wrong, 6, np.empty(shape, np.float32), 3)
    with pytest.raises(ValueError, match="differ in size"):
        quantise(y, mean[:, :95].copy(), scale, LUT, 6, **outputs(shape), threads=3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    for place in range(2):
        arrays = inputs((40,))
        arrays[place][7] = bad
        with pytest.raises(ValueError, match=("y", "mean")[place]):
            quantise(*arrays, LUT, 6, **outputs((40,)))
    with pytest.raises(ValueError, match="mean"):
        dequantise(np.zeros(1, np.int32), np.full(1, bad, np.float32), 6, np.empty(1, np.float32))
    with pytest.raises(ValueError, match="scale"):
        indexes_from_scale(np.full(1, np.nan, np.float32), LUT, np.empty(1, np.uint8))


def test_symbol_that_no_encoder_writes_is_damage() -> None:
    for symbol in (2**17 + 1, -(2**31)):
        with pytest.raises(StreamError):
            dequantise(np.array([symbol], np.int32), np.zeros(1, np.float32), 6, np.empty(1, np.float32))


def test_wrong_arrays_are_refused() -> None:
    y, mean, scale = inputs((8,))
    with pytest.raises(TypeError, match="y must have dtype"):
        quantise(y.astype(np.float64), mean, scale, LUT, 6, **outputs((8,)))
    with pytest.raises(ValueError, match="size"):
        quantise(y, mean[:4].copy(), scale, LUT, 6, **outputs((8,)))
    with pytest.raises(ValueError, match="contiguous"):
        quantise(y[::2], mean[::2], scale[::2], LUT, 6, **outputs((4,)))
    with pytest.raises(ValueError, match="index_lut"):
        indexes_from_scale(scale, LUT[:0], np.empty(8, np.uint8))
    with pytest.raises(ValueError, match="mean_bits"):
        dequantise(np.zeros(8, np.int32), mean, 17, np.empty(8, np.float32))
