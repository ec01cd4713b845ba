"""Fits the weights of the post-filter by least squares.

The error that a filter leaves is a quadratic function of its weights, whose coefficients are sums over samples:
products of features with each other and with the error before. So weights are found, rounded and, where they are not
worth their bits, left out without another look at the picture (`cpp/src/filter_fit.cpp`). Sums are exact, and no
library for linear algebra adds in an order of its own: the same picture gets the same weights on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from basic_runtime._native import filter_moments, fit_filter
from basic_runtime.picture import Pixels
from basic_runtime.post_filter import BITS, PAIRS, Weights, packed
from basic_runtime.tiles import Rows

_STRIP, _LEAST_STRIPS, _PIXELS = 64, 8, 2_000_000
"""Rows of a strip; of a large picture, so many strips are looked at, or as many as have so many pixels. They lie evenly
apart, and g_s need not compute what is between them."""

_MARGIN = max(down for down, _ in PAIRS)
"""Rows of a strip, above and below, that are there for the features of the others."""

_CHUNK_BITS = 8 * 10
"""Type, length, checksum and Rice parameter."""

_UNIT = 1 << BITS


class Moments:
    """Sums over samples of some pictures of as many colours."""

    def __init__(self, colours: int) -> None:
        self.colours, self.count = colours, len(PAIRS) * colours * 2
        self.features = np.zeros((self.count, self.count))
        self.errors = np.zeros((self.count, colours))

    def add(self, original: Pixels, decoded: Pixels, threads: int = 1) -> None:
        """Count a picture, uint8 (H, W, 3) or (H, W), and what was decoded of it."""
        strips = {rows: decoded[slice(*rows)] for rows in strips_of(*decoded.shape[:2])}
        self.add_strips(original, strips, threads)

    def add_strips(self, original: Pixels, strips: Mapping[Rows, Pixels], threads: int = 1) -> None:
        """Count a picture of which `strips_of` it were decoded, for the whole."""
        height, counted = len(original), 0
        features, errors = np.zeros_like(self.features, np.int64), np.zeros_like(self.errors, np.int64)
        for (top, bottom), decoded in strips.items():
            first = top + _MARGIN if top > 0 else 0
            last = bottom - _MARGIN if bottom < height else height
            wanted = np.ascontiguousarray(original[top:bottom])
            found = filter_moments(decoded, wanted, first - top, last - top, threads)
            features += found[0]
            errors += found[1]
            counted += last - first
        self.features += height / counted * features
        self.errors += height / counted * errors

    def gain(self, weights: Weights) -> float:
        """Squared errors of samples that a filter takes away, before rounding to bytes."""
        columns = weights.reshape(self.colours, -1).T / _UNIT  # (features, colours)
        quadratic = (columns[:, None] * columns[None]).sum(axis=2) * self.features
        return math.fsum([*(2 * columns * self.errors).ravel(), *-quadratic.ravel()])


def strips_of(height: int, width: int) -> list[Rows]:
    """Rows of a picture that stand for all: its own, or of a large one those of some strips."""
    count = max(_LEAST_STRIPS, _PIXELS // (_STRIP * width))
    apart = height // count
    if apart <= _STRIP or height * width <= _PIXELS:
        return [(0, height)]
    tops = [(apart - _STRIP) // 2 + apart * number for number in range(count)]
    return [(top, top + _STRIP) for top in tops]


def fitted(moments: Moments) -> Weights:
    """The weights that leave the least error."""
    return fit_filter(moments.features, moments.errors, math.inf)


def fit_if_worthwhile(moments: Moments, bits_per_error: float, otherwise: Weights | None) -> Weights | None:
    """Weights that take more bits' worth of error away than they cost, if there are any: bits_per_error is what a
    squared error of a sample is worth; otherwise, the filter that the picture gets without."""
    weights = fit_filter(moments.features, moments.errors, bits_per_error)
    gain = moments.gain(weights) - (moments.gain(otherwise) if otherwise is not None else 0.0)
    cost = 8 * len(packed(weights)) + _CHUNK_BITS
    return weights if gain * bits_per_error > cost else None
