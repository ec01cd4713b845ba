"""Tables are close to the distributions they are built from, and streams close to what tables promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from basic_runtime.coder import Encoder
from basic_runtime.tables import (
    PROB_TOTAL,
    SCALES,
    TableArrays,
    code_lengths,
    concatenate,
    gaussian_rows,
    logistic_pmfs,
    rows_from_pmf,
)


def gaussian_pmf(scale: float) -> tuple[np.ndarray, np.ndarray]:
    reach = math.ceil(9 * scale) + 1
    symbols = np.arange(-reach, reach + 1)
    root = scale * math.sqrt(2)
    half = [0.5 * (math.erfc((s - 0.5) / root) - math.erfc((s + 0.5) / root)) for s in range(reach + 1)]
    return symbols.astype(np.int32), np.array(half[:0:-1] + half)


def logistic_pmf(scale: float) -> tuple[np.ndarray, np.ndarray]:
    reach = math.ceil(20 * scale) + 1
    symbols = np.arange(-reach, reach + 1)
    # F(s + 1/2) - F(s - 1/2) of F(x) = (1 + tanh(x / 2b)) / 2, b = scale sqrt(3) / pi, by the law of tanh differences.
    width = scale * math.sqrt(3) / math.pi
    masses = math.sinh(0.5 / width) / (math.cosh(0.5 / width) + np.cosh(np.minimum(symbols / width, 700)))
    return symbols.astype(np.int32), masses


def entropy(pmf: np.ndarray) -> float:
    return float(-(pmf[pmf > 0] * np.log2(pmf[pmf > 0])).sum())


ENTROPIES = np.array([entropy(gaussian_pmf(scale)[1]) for scale in SCALES])


def row_weights(bits: float) -> np.ndarray:
    """P(row) ~ exp(-a row) with the mean entropy wanted."""
    low, high = -1.0, 5.0
    for _ in range(60):
        a = (low + high) / 2
        weights = np.exp(-a * np.arange(64))
        weights /= weights.sum()
        low, high = (a, high) if weights @ ENTROPIES > bits else (low, a)
    return weights


def workload(bits: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(int(bits * 10))
    indexes = rng.choice(64, count, p=row_weights(bits)).astype(np.uint8)
    return np.rint(rng.normal(size=count) * SCALES[indexes]).astype(np.int32), indexes


def ideal_bytes(symbols: np.ndarray, indexes: np.ndarray) -> float:
    """The exact Gaussian's code length of these symbols."""
    bits = 0.0
    for row in np.unique(indexes):
        listed, pmf = gaussian_pmf(float(SCALES[row]))
        bits -= np.log2(pmf[symbols[indexes == row] - listed[0]]).sum()
    return bits / 8


def encode(tables: TableArrays, symbols: np.ndarray, indexes: np.ndarray, lanes: int = 0) -> bytes:
    encoder = Encoder(tables.coder_tables())
    encoder.put(symbols, indexes)
    return encoder.finish(lanes)


def test_every_gaussian_row_is_within_a_thousandth_of_a_bit(gaussian: TableArrays) -> None:
    for row, scale in enumerate(SCALES):
        symbols, pmf = gaussian_pmf(float(scale))
        bits = pmf @ code_lengths(gaussian, symbols, np.full(symbols.size, row, np.uint8))
        assert 0 < bits - ENTROPIES[row] < 0.0012


def test_every_logistic_row_is_within_a_few_thousandths_of_a_bit() -> None:
    tables = rows_from_pmf(logistic_pmfs())
    assert tables.coder_tables().rows == 64
    for row, scale in enumerate(SCALES):
        symbols, pmf = logistic_pmf(float(scale))
        assert pmf.sum() == pytest.approx(1, abs=1e-6)
        if scale > 1:  # wide enough that a whole symbol's spread just adds its own
            assert math.sqrt(pmf @ symbols.astype(float) ** 2) == pytest.approx(math.hypot(scale, 12**-0.5), rel=0.01)
        bits = pmf @ code_lengths(tables, symbols, np.full(symbols.size, row, np.uint8))
        assert 0 < bits - entropy(pmf) < 0.004


def test_rows_narrower_than_any_symbol() -> None:
    for rows in (gaussian_rows([1e-4]), rows_from_pmf(logistic_pmfs([1e-4]))):
        assert code_lengths(rows, np.zeros(1, np.int32), np.zeros(1, np.uint8))[0] < 0.01


def test_gaussian_rows_are_valid_and_symmetric(gaussian: TableArrays) -> None:
    assert gaussian.coder_tables().rows == 64
    assert gaussian.sizes.max() <= 256
    begin = 0
    for row, size in enumerate(gaussian.sizes):
        freqs = gaussian.freqs[begin : begin + size].astype(int)
        begin += size
        assert freqs.sum() == PROB_TOTAL and freqs.min() >= 1
        if gaussian.shifts[row] == 0:
            assert np.abs(freqs[:-1] - freqs[:-1][::-1]).max() <= 1


@pytest.mark.parametrize(
    ("bits", "count", "limit"),
    [(1.0, 2_000_000, 0.002), (3.0, 500_000, 0.002), (0.2, 294_912, 0.01), (1.0, 56_000, 0.01)],
)
def test_overhead_over_the_exact_entropy(gaussian: TableArrays, bits: float, count: int, limit: float) -> None:
    symbols, indexes = workload(bits, count)
    ideal = ideal_bytes(symbols, indexes)
    assert abs(ideal * 8 / count / bits - 1) < 0.05
    assert len(encode(gaussian, symbols, indexes)) < ideal * (1 + limit)


@pytest.mark.parametrize("lanes", [1, 8, 64])
def test_a_lane_costs_little_more_than_a_byte(gaussian: TableArrays, lanes: int) -> None:
    symbols, indexes = workload(1.0, 200_000)
    ideal = code_lengths(gaussian, symbols, indexes).sum() / 8
    assert 0 < len(encode(gaussian, symbols, indexes, lanes)) - ideal < 20 + 1.5 * lanes


def test_code_lengths_count_raw_bits_and_escapes(mixed: TableArrays) -> None:
    rng = np.random.default_rng(3)
    symbols = np.rint(rng.standard_cauchy(30_000) * 20).clip(-(2**31), 2**31 - 1).astype(np.int32)
    indexes = rng.integers(0, mixed.sizes.size, symbols.size).astype(np.uint8)
    ideal = code_lengths(mixed, symbols.reshape(100, 300), indexes.reshape(100, 300))
    assert ideal.shape == (100, 300)
    size = len(encode(mixed, symbols, indexes, 1))
    assert ideal.sum() / 8 <= size < ideal.sum() / 8 * 1.001 + 12


def test_allocation_is_optimal() -> None:
    """No frequencies of the same codes cost less: all ways to share 4096 among three codes are tried."""
    for pmf in ([0.7, 0.2, 0.0999], [0.98, 0.0195, 0.0005], [0.3333, 0.3333, 0.3333]):
        tables = rows_from_pmf([(0, pmf)])
        assert tables.sizes[0] == 4
        got = -np.array([*pmf, 1 - sum(pmf)]) @ np.log2(tables.freqs / PROB_TOTAL)
        p = np.array([*pmf, 1 - sum(pmf)])
        near = [range(max(1, int(f) - 3), int(f) + 4) for f in tables.freqs[:3]]
        costs = [
            -p @ np.log2(np.array([a, b, c, PROB_TOTAL - a - b - c]) / PROB_TOTAL)
            for a, b, c in itertools.product(*near)
            if a + b + c < PROB_TOTAL
        ]
        assert got <= min(costs) + 1e-12


def test_rows_of_any_distribution() -> None:
    flat = rows_from_pmf([(-1000, np.full(2001, 1 / 2001)), (5, [1.0]), (-3, [0.0, 0.5, 0.0, 0.5])])
    flat.coder_tables()
    assert flat.shifts.tolist() == [3, 0, 0]
    assert flat.offsets.tolist()[1:] == [5, -2]
    every = np.arange(-1000, 1001, dtype=np.int32)
    assert code_lengths(flat, every, np.zeros(2001, np.uint8)).mean() < math.log2(2001) + 0.02
    assert code_lengths(flat, np.array([5], np.int32), np.array([1], np.uint8))[0] < 0.001
    with pytest.raises(ValueError, match="probabilities"):
        rows_from_pmf([(0, [0.5, -0.5])])
    with pytest.raises(ValueError, match="probabilities"):
        rows_from_pmf([(0, [0.0, 0.0])])
    with pytest.raises(ValueError, match="probabilities"):
        rows_from_pmf([(0, [math.nan])])
    with pytest.raises(ValueError, match="scale"):
        gaussian_rows([0.0])


def test_concatenate_keeps_rows(gaussian: TableArrays) -> None:
    both = concatenate(rows_from_pmf([(0, [0.5, 0.5])]), gaussian)
    assert both.coder_tables().rows == 65
    symbols = np.array([3, -2], np.int32)
    indexes = np.array([30, 20], np.uint8)
    np.testing.assert_array_equal(code_lengths(both, symbols, indexes + 1), code_lengths(gaussian, symbols, indexes))
