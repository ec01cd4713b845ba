"""Probability tables of the entropy coder, built once at export and stored in the bundle as integers.

A row is a list of 12-bit frequencies, one per code; ``Tables`` in ``_native.pyi`` says what the arrays mean.
Frequencies, the range of codes and the raw low bits of each row minimise its expected code length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from basic_runtime._native import Tables
from basic_runtime.definitions import SCALE_ROWS

PROB_BITS = 12
PROB_TOTAL = 1 << PROB_BITS
MAX_CODES = 255  # before the escape
MAX_SHIFT = 15


# As many scales as in CompressAI's Gaussian conditional, and the same.
SCALES: NDArray[np.float64] = np.exp(np.linspace(math.log(0.11), math.log(256.0), SCALE_ROWS))

# The bits that a frequency of 0, 1, 2 ... saves by one more, and costs by one less, each time its code is seen.
_FREQS = np.arange(1, PROB_TOTAL + 1)
_MORE = np.append(0.0, np.log2((_FREQS + 1) / _FREQS))
_LESS = np.append(0.0, np.log2(_FREQS / np.maximum(_FREQS - 1, 1)))

# Standard deviations beyond which a density's mass is below 2^-49.
_GAUSSIAN_TAIL, _LOGISTIC_TAIL = 8.0, 19.0
_UNLISTED_ESCAPE_BITS = 18.0  # assumed cost of a symbol outside a given pmf


@dataclass(frozen=True)
class TableArrays:
    """Rows as ``coder.Tables`` takes them.

    freqs: uint16 (sum of sizes,), sizes: uint16 (R,), offsets: int32 (R,), shifts: uint8 (R,).
    """

    freqs: NDArray[np.uint16]
    sizes: NDArray[np.uint16]
    offsets: NDArray[np.int32]
    shifts: NDArray[np.uint8]

    def coder_tables(self) -> Tables:
        """The same rows, validated and ready for Encoder and Decoder. Raises ValueError."""
        return Tables(self.freqs, self.sizes, self.offsets, self.shifts)


@dataclass(frozen=True)
class _Row:
    freqs: NDArray[np.int64]
    offset: int
    shift: int
    bits: float  # expected code length


Pmf = tuple[int, NDArray[np.float64]]
"""A symbol, and the probabilities of it and its successors."""


def gaussian_rows(scales: ArrayLike = SCALES) -> TableArrays:
    """Rows for symbols round(N(0, scale)), one per scale (standard deviation, > 0)."""
    return rows_from_pmf(gaussian_pmfs(scales))


def gaussian_pmfs(scales: ArrayLike = SCALES) -> list[Pmf]:
    """Probabilities of the symbols of `gaussian_rows`, symmetric about 0."""
    return _pmfs(scales, lambda edge: 0.5 * math.erfc(edge / math.sqrt(2.0)), _GAUSSIAN_TAIL)


def logistic_pmfs(scales: ArrayLike = SCALES) -> list[Pmf]:
    """Probabilities of rounded symbols of a logistic distribution about 0, one list per scale (its standard deviation,
    > 0)."""

    def upper_tail(edge: float) -> float:  # in powers that cannot overflow, however narrow the scale
        x = edge * math.pi / math.sqrt(3.0)
        return math.exp(-max(x, 0.0)) / (1.0 + math.exp(-abs(x)))

    return _pmfs(scales, upper_tail, _LOGISTIC_TAIL)


def rows_from_pmf(pmfs: Sequence[tuple[int, ArrayLike]]) -> TableArrays:
    """One row per (first symbol, probabilities of it and its successors).

    What the probabilities lack to 1 goes to the escape; if they sum to more, they are scaled down.

    Raises ValueError for negative, non-finite or all-zero probabilities.
    """
    rows = [_best_row(first, np.asarray(pmf, np.float64)) for first, pmf in pmfs]
    return TableArrays(
        np.concatenate([row.freqs for row in rows]).astype(np.uint16),
        np.array([row.freqs.size for row in rows], np.uint16),
        np.array([row.offset for row in rows], np.int32),
        np.array([row.shift for row in rows], np.uint8),
    )


def concatenate(*parts: TableArrays) -> TableArrays:
    """The rows of all parts, one part after the other."""
    return TableArrays(
        np.concatenate([part.freqs for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.shifts for part in parts]),
    )


def code_lengths(
    tables: TableArrays, symbols: NDArray[np.signedinteger[Any]], indexes: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Bits that the coder spends on each symbol, raw bits and escapes included; shape of ``symbols``.

    Their sum is the size of a stream up to the coder's own overhead (about 0.1 % and 1 byte per lane).
    """
    bases = np.cumsum(tables.sizes, dtype=np.int64) - tables.sizes
    escape = tables.sizes.astype(np.int64)[indexes] - 1
    shift = tables.shifts.astype(np.int64)[indexes]
    code = (symbols.astype(np.int64) >> shift) - tables.offsets.astype(np.int64)[indexes]
    escaped = (code < 0) | (code >= escape)
    freqs = tables.freqs[bases[indexes] + np.where(escaped, escape, code)]
    bits = PROB_BITS - np.log2(freqs) + shift
    distance = np.where(code < 0, -code, code - escape + 1)[escaped]
    bits[escaped] += _escape_bits(distance)
    return np.asarray(bits, np.float64)


def _escape_bits(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Side and Elias gamma code of a distance >= 1 beyond the row."""
    exponent = np.frexp(distance.astype(np.float64))[1] - 1
    return np.asarray(2.0 * exponent + 2.0, np.float64)


def _pmfs(scales: ArrayLike, upper_tail: Callable[[float], float], sigmas: float) -> list[Pmf]:
    """Probabilities under a symmetric density, whose mass above a number of standard deviations is `upper_tail`."""
    return [_pmf(float(scale), upper_tail, sigmas) for scale in np.atleast_1d(scales)]


def _pmf(scale: float, upper_tail: Callable[[float], float], sigmas: float) -> Pmf:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be positive, not {scale}")
    reach = math.ceil(sigmas * scale) + 1
    # Masses of 0, 1, 2 ... from upper tails, which keep their relative precision far out.
    upper = np.array([upper_tail(edge) for edge in (np.arange(reach + 2) - 0.5) / scale])
    half = upper[:-1] - upper[1:]
    return -reach, np.concatenate([half[:0:-1], half])


def _best_row(first: int, pmf: NDArray[np.float64]) -> _Row:
    if pmf.ndim != 1 or not np.all(np.isfinite(pmf)) or np.any(pmf < 0) or not pmf.any():
        raise ValueError("probabilities must be one-dimensional, finite, >= 0 and not all zero")
    pmf = pmf / max(1.0, float(pmf.sum()))
    best: _Row | None = None
    for shift in range(MAX_SHIFT + 1):
        row = _best_row_of_shift(first, pmf, shift)
        if best is not None and row.bits >= best.bits:
            break  # a further raw bit only costs more
        best = row
    assert best is not None
    return best


def _best_row_of_shift(first: int, pmf: NDArray[np.float64], shift: int) -> _Row:
    """The best range of codes for symbols that keep ``shift`` raw low bits."""
    front = first & ((1 << shift) - 1)
    back = -(front + pmf.size) % (1 << shift)
    mass = np.pad(pmf, (front, back)).reshape(-1, 1 << shift).sum(axis=1)
    candidates: dict[tuple[int, int], _Row] = {}
    for exponent in np.arange(PROB_BITS - 2, PROB_BITS + 3, 0.25):
        kept = np.flatnonzero(mass >= min(2.0**-exponent, float(mass.max())))
        begin, end = _shorten(mass, int(kept[0]), int(kept[-1]) + 1)
        if (begin, end) not in candidates:
            candidates[begin, end] = _row_of_range(mass, begin, end, first >> shift, shift)
    return min(candidates.values(), key=lambda row: row.bits)


def _shorten(mass: NDArray[np.float64], begin: int, end: int) -> tuple[int, int]:
    """Drops the less likely end until the range holds at most MAX_CODES codes."""
    while end - begin > MAX_CODES:
        if mass[begin] < mass[end - 1]:
            begin += 1
        else:
            end -= 1
    return begin, end


def _row_of_range(mass: NDArray[np.float64], begin: int, end: int, first: int, shift: int) -> _Row:
    unlisted = max(0.0, 1.0 - float(mass.sum()))
    below, above = mass[:begin][::-1], mass[end:]
    escape = float(below.sum() + above.sum()) + unlisted
    probabilities = np.append(mass[begin:end], escape)
    freqs = _allocate(probabilities)
    bits = float(probabilities @ (PROB_BITS - np.log2(freqs))) + shift + unlisted * _UNLISTED_ESCAPE_BITS
    for tail in (below, above):
        bits += float(tail @ _escape_bits(np.arange(1, tail.size + 1)))
    return _Row(freqs, first + begin, shift, bits)


def _allocate(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integer frequencies >= 1 with sum 4096 and the least sum of p * -log2(f).

    The cost is separable and convex, so single-unit exchanges from a rounded start reach the optimum.
    """
    p = probabilities
    freqs = np.maximum(1, np.floor(p / p.sum() * PROB_TOTAL)).astype(np.int64)
    gain, loss = p * _MORE[freqs], np.where(freqs > 1, p * _LESS[freqs], np.inf)
    spare = PROB_TOTAL - int(freqs.sum())
    while True:
        best, worst = int(gain.argmax()), int(loss.argmin())
        if spare == 0 and gain[best] <= loss[worst] * (1 + 1e-12):
            return np.asarray(freqs, np.int64)
        steps = ([(best, 1)] if spare >= 0 else []) + ([(worst, -1)] if spare <= 0 else [])
        for code, step in steps:
            freqs[code] += step
            gain[code] = p[code] * _MORE[freqs[code]]
            loss[code] = p[code] * _LESS[freqs[code]] if freqs[code] > 1 else np.inf
            spare -= step
