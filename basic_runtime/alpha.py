"""Lossless coding of an alpha plane: one filter per row, then zlib (docs/format.md, chunk ALPH).

Filter f of a row has two independent bits: bit 1 subtracts the row above, bit 0 then subtracts the left
neighbour, both modulo 256 with zeros outside the plane. So 0 stores the row, 1 is PNG's Sub, 2 is PNG's Up,
3 is the plane predictor left + above - above-left. All four invert without a loop over columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from basic_runtime.deflate import deflate, inflate
from basic_runtime.errors import FormatError

Plane = npt.NDArray[np.uint8]

_CONSTANT, _FILTERED = 0, 1
_FILTERS = range(4)


def encode_alpha(alpha: Plane) -> bytes:
    """The payload of an ALPH chunk for `alpha`, uint8 (H, W)."""
    first = alpha[0, 0]
    if (alpha == first).all():
        return bytes([_CONSTANT, int(first)])
    plain = deflate([bytes(len(alpha)), np.ascontiguousarray(alpha).data])
    filters, residuals = _choose_filters(alpha)
    filtered = deflate([filters.tobytes(), residuals.data])
    return bytes([_FILTERED]) + min(plain, filtered, key=len)


def decode_alpha(payload: bytes | memoryview, height: int, width: int) -> Plane:
    """Inverse of `encode_alpha`: uint8 (H, W). Raises `FormatError` for a payload that is not one."""
    if len(payload) == 2 and payload[0] == _CONSTANT:
        return np.full((height, width), payload[1], np.uint8)
    if len(payload) < 2 or payload[0] != _FILTERED:
        raise FormatError("the alpha plane is coded in an unknown way: a newer version may read it")
    raw = inflate(payload[1:], height * (width + 1), "the alpha plane")
    filters = np.frombuffer(raw, np.uint8, height)
    if filters.max() > _FILTERS[-1]:
        raise FormatError("the alpha plane names an unknown row filter: get the file again")
    alpha = np.frombuffer(raw, np.uint8, offset=height).reshape(height, width).copy()
    left_rows = np.flatnonzero(filters & 1)
    alpha[left_rows] = np.cumsum(alpha[left_rows], axis=1, dtype=np.uint8)
    for row in np.flatnonzero(filters & 2):
        if row:
            alpha[row] += alpha[row - 1]
    return alpha


def _choose_filters(alpha: Plane) -> tuple[Plane, Plane]:
    """Per row, the filter with the least sum of magnitudes, as PNG does: filters (H,), residuals (H, W)."""
    filters = np.zeros(len(alpha), np.uint8)
    residuals = np.array(alpha, order="C")
    least = _magnitude(residuals)
    for number in _FILTERS[1:]:
        candidate = _filter(alpha, number)
        cost = _magnitude(candidate)
        better = cost < least
        filters[better] = number
        residuals[better] = candidate[better]
        least = np.minimum(least, cost)
    return filters, residuals


def _filter(alpha: Plane, number: int) -> Plane:
    rows = alpha.copy()
    if number & 2:
        rows[1:] -= alpha[:-1]
    if number & 1:
        rows[:, 1:] -= rows[:, :-1].copy()
    return rows


def _magnitude(residuals: Plane) -> npt.NDArray[np.int64]:
    """Per row, the sum of |r| with r read as signed 8-bit numbers: (H,)."""
    magnitude: npt.NDArray[np.int64] = np.minimum(residuals, -residuals).sum(axis=1, dtype=np.int64)
    return magnitude
