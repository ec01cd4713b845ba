"""Measures of a decoded picture and of a file."""

from __future__ import annotations

import math

import numpy as np

from basic_runtime.picture import Pixels

_ROWS_AT_ONCE = 256


def psnr(reference: Pixels, picture: Pixels) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures of one shape, over all samples; inf if equal."""
    if reference.shape != picture.shape or reference.dtype != np.uint8 or picture.dtype != np.uint8:
        raise ValueError("psnr compares two uint8 pictures of the same shape")
    total = 0
    for top in range(0, len(reference), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        difference = reference[rows].astype(np.int32) - picture[rows]
        total += int(np.square(difference).sum(dtype=np.int64))
    return 10 * math.log10(255**2 * reference.size / total) if total else math.inf


def bpp(size: int, width: int, height: int) -> float:
    """Bits per pixel of a file of `size` bytes."""
    return 8 * size / (width * height)
