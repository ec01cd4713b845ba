"""The post-filter, through which decoded pixels pass last (docs/format.md): a few weights for a picture or a g_s.

A bundle has weights for some of its g_s, fitted to many photos. A file may have others, fitted to its picture. They
weigh differences to neighbours, as they are and clipped, as in the adaptive loop filter of VVC (Karczewicz
et al., "VVC In-Loop Filters", IEEE Trans. Circuits Syst. Video Technol. 31(10), 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from basic_runtime.errors import FormatError

Weights = npt.NDArray[np.int8]
"""(colours, PAIRS, colours, 2): of the sample, of opposite neighbours, of theirs, of the clipped and the plain
difference, in units of 1 / 2^BITS; colours are 3, or 1 of a gray picture."""

PAIRS = ((0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0))
"""Rows down and columns right of one of two neighbours; the other one is as far on the other side."""

CLIP, BITS = 8, 7

_LARGEST_RICE = 7


def shape_of(gray: bool) -> tuple[int, int, int, int]:
    colours = 1 if gray else 3
    return colours, len(PAIRS), colours, 2


def gray_of(weights: Weights) -> Weights:
    """Weights for the samples of a gray picture, which are those of all three colours: the mean over colours of the
    sample of the sums over the neighbours', rounded to nearest, halves up."""
    sums = weights.astype(np.int32).sum(axis=(0, 2))
    means: Weights = np.clip((2 * sums + 3) // 6, -128, 127).astype(np.int8)
    return means[None, :, None]


def interpolated(steps: Sequence[int], weights: Sequence[Weights], step: int) -> Weights:
    """Weights at a quality step, from those at some steps, which rise: linear between two of them, rounded to nearest,
    halves up, and those of the nearest beyond."""
    after = int(np.searchsorted(steps, step))
    if after == 0 or after == len(steps):
        return weights[min(after, len(steps) - 1)]
    low, high = steps[after - 1], steps[after]
    sums = weights[after - 1].astype(np.int32) * (high - step) + weights[after].astype(np.int32) * (step - low)
    return ((2 * sums + (high - low)) // (2 * (high - low))).astype(np.int8)


def packed(weights: Weights) -> bytes:
    """The payload of a chunk: one byte, then bits, with the Rice parameter that gives the fewest."""
    values = weights.ravel().astype(np.int64)
    rice = min(range(_LARGEST_RICE + 1), key=lambda rice: -(-int(code_lengths(values, rice).sum()) // 8))
    return _packed(values.tolist(), rice)


def _packed(values: Sequence[int], rice: int) -> bytes:
    bits = "".join(_code(value, rice) for value in values)
    bits += "0" * (-len(bits) % 8)
    return bytes([rice]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _code(value: int, rice: int) -> str:
    """0; or 1, the sign, and |value| - 1 in the Rice code."""
    if value == 0:
        return "0"
    rest = abs(value) - 1
    low = f"{rest & (1 << rice) - 1:0{rice}b}" if rice else ""
    return f"1{int(value < 0)}{'1' * (rest >> rice)}0{low}"


def code_lengths(values: npt.NDArray[np.int64], rice: int) -> npt.NDArray[np.int64]:
    """Bits of each weight: of `_code`."""
    return np.where(values == 0, 1, 3 + rice + ((np.abs(values) - 1) >> rice))


def unpacked(payload: bytes | memoryview, gray: bool) -> Weights:
    """The weights of a chunk's payload. Raises FormatError for any that no writer makes."""
    shape = shape_of(gray)
    if not payload or payload[0] > _LARGEST_RICE:
        raise FormatError("the filter of the picture is of an unknown kind: install a newer basic-codec")
    rice = payload[0]
    bits = _Bits(payload[1:])
    values = [_read(bits, rice) for _ in range(int(np.prod(shape)))]
    bits.end()
    return np.array(values, np.int8).reshape(shape)


class _Bits:
    """Bits of bytes, the most significant first."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._position = data, 0

    def next(self) -> int:
        byte, bit = divmod(self._position, 8)
        if byte == len(self._data):
            raise _damaged()
        self._position += 1
        return self._data[byte] >> (7 - bit) & 1

    def end(self) -> None:
        """Raises FormatError unless nothing but zeros is left of the last byte."""
        if len(self._data) != -(-self._position // 8) or any(self.next() for _ in range(-self._position % 8)):
            raise _damaged()


def _read(bits: _Bits, rice: int) -> int:
    if not bits.next():
        return 0
    negative, quotient = bits.next(), 0
    while bits.next():
        quotient += 1
        if quotient << rice > 127:
            raise _damaged()
    low = 0
    for _ in range(rice):
        low = low << 1 | bits.next()
    value = (quotient << rice | low) + 1
    if value > 127 + negative:
        raise _damaged()
    return -value if negative else value


def _damaged() -> FormatError:
    return FormatError("the filter of the picture (chunk filt) is damaged: get the file again")
