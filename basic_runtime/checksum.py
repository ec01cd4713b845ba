"""CRC-32 of an array (C, h, w) in channel order while its rows arrive in bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import crc32_append, crc32_joined


class BandedCrc:
    """CRC-32 of (C, h, w) as int32, little-endian in C order, from those of the channels of its bands."""

    def __init__(self, channels: int) -> None:
        self._channels: NDArray[np.uint32] = np.zeros(channels, np.uint32)
        self._bytes = 0

    def add(self, found: NDArray[np.uint32], size: int) -> None:
        """The next rows of all channels, by their checksums; they take `size` bytes of each channel."""
        crc32_append(self._channels, found, size)
        self._bytes += size

    def after(self, crc: int) -> int:
        """The CRC-32 of something whose own is `crc`, followed by the array."""
        return crc32_joined(crc, self._channels, self._bytes)
