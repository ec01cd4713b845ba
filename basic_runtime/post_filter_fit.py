"""Weights of the filter of decoded pixels by least squares.

The error that a filter leaves is a quadratic function of its weights, whose coefficients are sums over samples:
products of features with each other and with the error before. So weights are found, rounded and, where they are not
worth their bits, left out without another look at the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from basic_runtime.post_filter import BITS, CLIP, PAIRS, Weights, code_length, packed, shape_of

_STRIP, _STRIP_PIXELS, _MOST_PIXELS = 32, 400_000, 2_000_000
"""Rows whose features are there at a time, at most, and pixels, which take 150 bytes each. Of large pictures so many
pixels are looked at: whole strips, evenly apart."""

_RIDGE = 1.0
"""Squared units of a weight count as this many squared errors: enough to decide what no sample decides."""

_CHUNK_BITS = 8 * 10
"""Type, length, checksum and Rice parameter."""

_USUAL_RICE = 3
"""For bits that weights are expected to take while it is open which of them stay."""

Pixels = npt.NDArray[np.uint8]


class Moments:
    """Sums over samples of some pictures of as many colours."""

    def __init__(self, colours: int) -> None:
        self.colours, self.count = colours, len(PAIRS) * colours * 2
        self.features = np.zeros((self.count, self.count))
        self.errors = np.zeros((self.count, colours))

    def add(self, original: Pixels, decoded: Pixels) -> None:
        """Count a picture, uint8 (H, W, 3) or (H, W), and what was decoded of it; of large ones a part stands for
        all."""
        height, width = decoded.shape[:2]
        strip = max(1, min(_STRIP, _STRIP_PIXELS // width))
        starts = range(0, height, strip)
        every = -(-height * width // _MOST_PIXELS)
        taken = list(starts)[every // 2 :: every] or list(starts)
        features = np.zeros_like(self.features)
        errors = np.zeros_like(self.errors)
        for first in taken:
            values = _features(decoded, first, min(first + strip, height))
            rows = slice(first, first + strip)
            error = original[rows].astype(np.float32) - decoded[rows]
            features += values @ values.T
            errors += values @ error.reshape(-1, self.colours)
        share = len(starts) / len(taken)
        self.features += share * features
        self.errors += share * errors

    def gain(self, weights: Weights) -> float:
        """Squared errors of samples that a filter takes away, before rounding to bytes."""
        columns = _columns(weights) / (1 << BITS)
        return float(2 * (columns * self.errors).sum() - (columns * (self.features @ columns)).sum())


def fitted(moments: Moments) -> Weights:
    """The weights that leave the least error."""
    return _rounded(moments, [np.arange(moments.count)] * moments.colours)


def worthwhile(moments: Moments, bits_per_error: float, otherwise: Weights | None) -> Weights | None:
    """Weights that take more bits' worth of error away than they cost, if there are any: bits_per_error is what a
    squared error of a sample is worth; otherwise, the filter that the picture gets without."""
    kept = [_worth_keeping(moments, colour, bits_per_error) for colour in range(moments.colours)]
    weights = _rounded(moments, kept)
    gain = moments.gain(weights) - (moments.gain(otherwise) if otherwise is not None else 0.0)
    cost = 8 * len(packed(weights)) + _CHUNK_BITS
    return weights if gain * bits_per_error > cost else None


def _features(pixels: Pixels, first: int, last: int) -> npt.NDArray[np.float32]:
    """(features, samples) of the rows from first to last, in the order of the weights of a colour."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, colours = planes.shape
    margin = max(abs(side) for pair in PAIRS for side in pair)
    rows = np.clip(np.arange(first - margin, last + margin), 0, height - 1)
    wide = np.pad(planes[rows].transpose(2, 0, 1).astype(np.float32), ((0, 0), (0, 0), (margin, margin)), mode="edge")

    def moved(down: int, right: int) -> npt.NDArray[np.float32]:
        return wide[:, margin + down : margin + down + last - first, margin + right : margin + right + width]

    centre = moved(0, 0)
    found = np.empty((len(PAIRS), colours, 2, last - first, width), np.float32)
    for pair, (down, right) in enumerate(PAIRS):
        near, far = moved(down, right) - centre, moved(-down, -right) - centre
        np.add(near, far, out=found[pair, :, 1])
        np.add(np.clip(near, -CLIP, CLIP), np.clip(far, -CLIP, CLIP), out=found[pair, :, 0])
    return found.reshape(len(PAIRS) * colours * 2, -1)


def _columns(weights: Weights) -> npt.NDArray[np.float64]:
    """(features, colours), in units of 1 / 2^BITS."""
    return weights.reshape(weights.shape[0], -1).T.astype(np.float64)


def _worth_keeping(moments: Moments, colour: int, bits_per_error: float) -> npt.NDArray[np.intp]:
    """Features whose weights are worth their bits: one after the other goes, and the others make up for it."""
    places = np.arange(moments.count)
    while len(places):
        inverse = np.linalg.inv(moments.features[np.ix_(places, places)] + _RIDGE * np.eye(len(places)))
        weights = inverse @ moments.errors[places, colour]
        lost = weights**2 / np.diag(inverse) * bits_per_error  # LeCun et al., "Optimal Brain Damage", for a quadratic
        saved = [code_length(value, _USUAL_RICE) - 1 for value in np.rint(weights * (1 << BITS)).astype(int).tolist()]
        worst = int(np.argmin(lost - saved))
        if lost[worst] >= saved[worst] and saved[worst]:
            break
        places = np.delete(places, worst)
    return places


def _rounded(moments: Moments, kept: list[npt.NDArray[np.intp]]) -> Weights:
    """Weights in whole units: each in turn is rounded, and those that are still open make up for what that changed."""
    columns = np.zeros((moments.count, moments.colours))
    for colour, places in enumerate(kept):
        errors = moments.errors[:, colour].copy()
        left = places
        while len(left):
            products = moments.features[np.ix_(left, left)] + _RIDGE * np.eye(len(left))
            first = np.linalg.solve(products, errors[left])[0]
            value = float(np.clip(np.rint(first * (1 << BITS)), -128, 127))
            columns[left[0], colour] = value
            errors -= moments.features[:, left[0]] * value / (1 << BITS)
            left = left[1:]
    return np.ascontiguousarray(columns.T, np.int8).reshape(shape_of(moments.colours == 1))
