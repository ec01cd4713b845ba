"""CRC-32 of integers in an array whose rows arrive in bands, as if its channels had come one after the other.

CRC-32 is linear: that of two parts is that of the first times x^(bits of the second), in GF(2)[x] modulo the
polynomial, plus that of the second (zlib's crc32_combine, which Python does not offer).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0xEDB88320  # bit 31 stands for x^0
_ONE, _X = 1 << 31, 1 << 30


class BandedCrc:
    """CRC-32 of (C, h, w) as int32, little-endian in C order, from those of the channels of its bands."""

    def __init__(self) -> None:
        self._channels: NDArray[np.uint32] | None = None
        self._bytes = 0

    def add(self, found: NDArray[np.uint32], size: int) -> None:
        """The next rows of all channels, by their checksums; they take `size` bytes of each channel."""
        if self._channels is not None:
            found = found ^ _times_array(self._channels, _power(8 * size))
        self._channels = found
        self._bytes += size

    def after(self, crc: int) -> int:
        """The CRC-32 of something whose own is `crc`, followed by the array."""
        factor = _power(8 * self._bytes)
        for channel in () if self._channels is None else self._channels.tolist():
            crc = _times(crc, factor) ^ channel
        return crc


@lru_cache(maxsize=16)
def _power(exponent: int) -> int:
    """x^exponent."""
    result, square = _ONE, _X
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        square = _times(square, square)
        exponent >>= 1
    return result


def _times(a: int, b: int) -> int:
    result = 0
    for bit in range(31, -1, -1):
        if b >> bit & 1:
            result ^= a
        a = a >> 1 ^ (_POLYNOMIAL if a & 1 else 0)
    return result


def _times_array(a: NDArray[np.uint32], b: int) -> NDArray[np.uint32]:
    """`_times` for each element of `a`."""
    result, a = np.zeros_like(a), a.copy()
    for bit in range(31, -1, -1):
        if b >> bit & 1:
            result ^= a
        a = (a >> 1 ^ (a & 1) * np.uint32(_POLYNOMIAL)).astype(np.uint32)
    return result
