"""Refines the latent of a picture: moves elements of y by one quantisation step where that saves more than it costs.

g_a gives each picture what was best on average over those it was trained with. Here the derivative of the picture's
squared error, through g_s in fixed point, says what one step more or less of an element would do to it, and the coder's
tables what that would do to the bits. Both together are bits per pixel + lambda 255^2 MSE, for which the model was
trained. Such files are decoded as all others are. The idea is that of rate-distortion optimised quantisation in video
encoders; that latents can be improved after g_a: Campos et al., "Content adaptive optimization for neural image
compression", 2019.

All elements are judged at once, as if nothing else changed, and their effects add up wrongly; so only a share of those
that should move do, in several passes, of which the best counts. z stays: predictions that change with every pass
take back half of the gain (docs/lab.md, as for all constants here).

All machines choose alike: sums are of integers, or exact, and everything else is done element by element, each
operation rounded to float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import random_by_key, search_moves, symbol_bits
from basic_runtime.bundle import Bundle
from basic_runtime.definitions import SCALE_ROWS
from basic_runtime.engines.base import FloatArray, IntegerEngine, Phases, TensorLike
from basic_runtime.engines.pixel_gradient import GradientEngine
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.planes import Planes
from basic_runtime.tables import TableArrays, code_lengths
from basic_runtime.tiles import Canvas, Span, Tile

MARGIN, NEAR = 192, 64
"""Pixels around a tile that are read with it, so that its elements are predicted as they will be coded, and of them the
nearest, which are refined with it, as each element counts on its neighbours to make the best of it, too."""

BYTES_PER_PIXEL = 7.0
"""Taken for those of the largest tensor when the side of a tile is chosen: tensors on the way to the error stay for the
way back."""

SHARE = 0.85
"""Share of the elements that should move which a pass moves: all together would go too far."""

CAUTION, STIFFER = 1.05, 1.5
"""The curvature that is reckoned with, in units of the measured one, and its growth where an element wants to go back:
it went too far."""

#: The largest symbol whose bits are tabulated; beyond, a step changes them by so little that it is taken for nothing.
_LARGEST = 255

#: Bits of symbols are counted in 2^-_BIT_PARTS, so that sums of them are exact.
_BIT_PARTS = 12

#: What chance goes by beside the place: the number of the pass, and this for the signs that measure curvature.
_SIGNS = 2**32 - 1

#: Step of the difference that measures curvature; the least curvature of a channel, as a share of the mean; the bounds
#: of the curvature of a place, in units of its channel's.
_PROBE, _FLATTEST, _LOCAL = 0.5, 0.3, (0.7, 3.0)


@dataclass(frozen=True)
class Graphs:
    """The engines that refine a picture: of g_a, of h_a and of g_s there and back, and the entropy path."""

    g_a: IntegerEngine
    h_a: IntegerEngine
    gradient: GradientEngine
    entropy: GroupedEntropy


@dataclass(frozen=True)
class _Point:
    """A latent y of a tile, and of its part where pixels count: symbols and table rows that it is coded with, yhat, and
    the derivative by yhat of the error. `cost` is bits + weight * error."""

    y: FloatArray
    symbols: NDArray[np.int32]
    indexes: NDArray[np.uint8]
    yhat: FloatArray
    slope: FloatArray
    cost: float


class Refinement(IntegerEngine):
    """g_a, h_a and passes over what they give: x, uint8 (1, 3, H, W), where it counts ("inside", (1, 1, H, W)), which
    elements of y may move ("movable", (1, 1, h, w)) and their places in the picture ("places", (1, 2, h, w)) to y and
    to z, rounded."""

    inputs = ("x", "inside", "movable", "places")
    outputs = ("y", "z")

    def __init__(self, graphs: Graphs, bundle: Bundle, quality_step: int, passes: int) -> None:
        """Raises BundleError for a bundle that does not state its lambdas."""
        self._graphs, self._passes = graphs, passes
        # Bits that one more squared error, of 255, of a sample is worth: the mean is over three colours. As float32,
        # since powers may differ by a last bit from one machine to another.
        self._weight = float(np.float32(bundle.lambda_of(quality_step) / 3))
        self._bits = _bits_of_symbols(bundle)

    def run(self, inputs: Mapping[str, TensorLike | Phases]) -> dict[str, TensorLike]:
        graphs, entropy = self._graphs, self._graphs.entropy
        arrays = {name: np.asarray(inputs[name]) for name in self.inputs}
        y = np.array(_only(graphs.g_a, {"x": arrays["x"]}))
        z = entropy.rounded(_only(graphs.h_a, {"y": y}))
        search = _Search(graphs, entropy.prior(z), self._weight, self._bits, y, arrays)
        return {"y": search.best(self._passes), "z": z}


class _Search:
    """Passes over the latent of one tile."""

    def __init__(
        self,
        graphs: Graphs,
        prior: Mapping[str, TensorLike],
        weight: float,
        bits: NDArray[np.float32],
        y: FloatArray,
        inputs: Mapping[str, NDArray[Any]],
    ) -> None:
        self._graphs, self._prior, self._weight, self._bits, self._y = graphs, prior, weight, bits, y
        self._threads = graphs.entropy.threads
        # Most of the time goes to the error and its way back, which are followed only where elements may move.
        stride = inputs["inside"].shape[2] // inputs["places"].shape[2]
        rows, columns = _extents(inputs["movable"])
        self._near = (slice(None), slice(None), rows, columns)
        pixels = tuple(slice(v.start * stride, v.stop * stride) for v in (rows, columns))
        self._pixels = np.ascontiguousarray(inputs["x"][0].transpose(1, 2, 0)[pixels])
        below, beside = _extents(inputs["inside"][:, :, *pixels])
        self._inside = below.start, below.stop, beside.start, beside.stop
        self._keys = np.ascontiguousarray(_keys(inputs["places"], y.shape[1])[self._near])

    def best(self, passes: int) -> FloatArray:
        """The cheapest latent that so many passes from y come to, y itself if none is cheaper."""
        point = best = self._point(self._y)
        curvature, moves = self._curvature(point), np.zeros(self._keys.shape, np.int8)
        for number in range(passes):
            point = self._point(self._moved(point, curvature, moves, number), last=number == passes - 1)
            if point.cost < best.cost:
                best = point
        return best.y

    def _point(self, y: FloatArray, last: bool = False) -> _Point:
        """The last one needs no slope: nothing moves from there."""
        coded, near = self._graphs.entropy.quantised(y, self._prior), self._near
        symbols = np.ascontiguousarray(coded[0][near])
        indexes, yhat = np.ascontiguousarray(coded[1][near]), np.ascontiguousarray(coded[2][near])
        if last:
            slope, error = np.zeros_like(yhat), self._graphs.gradient.error(yhat, self._pixels, self._inside)
        else:
            slope, error = self._graphs.gradient.run(yhat, self._pixels, self._inside)
        bits = symbol_bits(symbols, indexes, self._bits, self._threads)
        return _Point(y, symbols, indexes, yhat, slope, bits + self._weight * error)

    def _curvature(self, point: _Point) -> FloatArray:
        """Second derivative of the error by each element, in bits per squared step: the diagonal by a
        random sign for each (Hutchinson's estimator), taken as a factor of the channel times one of the place."""
        signs = np.where(random_by_key(self._keys, _SIGNS) < 0.5, np.float32(-1), np.float32(1))
        probe = np.asarray(point.yhat + np.float32(_PROBE) * signs, np.float32)
        beside, _ = self._graphs.gradient.run(probe, self._pixels, self._inside)
        found = (beside - point.slope)[0] * signs[0]  # differences of few bits, of which all sums are exact
        channels = found.sum((1, 2), dtype=np.float64) / found[0].size
        if math.fsum(channels) <= 0:  # a black picture, say, that stays black whatever its latents: none shall move
            return np.full(self._keys.shape, np.inf, np.float32)
        channels = np.maximum(channels, _FLATTEST * math.fsum(channels) / len(channels))
        places = _blurred((found.sum(0, dtype=np.float64) / math.fsum(channels)).astype(np.float32))
        of_channels = (channels * (self._weight / _PROBE)).astype(np.float32)
        return np.asarray(of_channels[None, :, None, None] * np.clip(places, *_LOCAL))

    def _moved(self, point: _Point, curvature: FloatArray, moves: NDArray[np.int8], number: int) -> FloatArray:
        """y with some elements moved by a step, in the pass of this number. Keeps the last move of each in `moves`, and
        adapts `curvature`."""
        steps = search_moves(
            point.symbols,
            point.indexes,
            point.slope,
            self._keys,
            self._bits,
            curvature,
            moves,
            weight=self._weight,
            caution=CAUTION / 2,
            stiffer=STIFFER,
            share=SHARE,
            salt=number,
            threads=self._threads,
        )
        y = point.y.copy()
        y[self._near] += steps
        return y


class Inside:
    """1 where pixels count, in and near a tile, and 0 beyond and outside a picture of this height and width: float32
    (1, 1, h, w)."""

    stride = 1
    planes: tuple[Planes, ...] = ()

    def __init__(self, height: int, width: int, canvas: Canvas) -> None:
        self._height, self._width, self.done = height, width, canvas.height

    def cut(self, tile: Tile) -> FloatArray:
        rows, columns = (_near(*pair) for pair in ((tile.rows, self._height), (tile.columns, self._width)))
        return (rows[:, None] & columns)[None, None].astype(np.float32)

    cut_kept = cut


def _near(span: Span, length: int) -> NDArray[np.bool_]:
    places = np.arange(span.start, span.stop)
    return (places >= span.first - NEAR) & (places < min(span.last + NEAR, length))


class Movable:
    """1 for elements of y in and near a tile and 0 beyond, float32 (1, 1, h, w). Those behind the end of the picture
    may move, too: they are coded with it, and predicted from those that do."""

    planes: tuple[Planes, ...] = ()

    def __init__(self, height: int, width: int, canvas: Canvas, y_stride: int) -> None:
        self._height, self._width = height, width
        self.stride, self.done = y_stride, canvas.height

    def cut(self, tile: Tile) -> FloatArray:
        rows, columns = (
            _movable(*pair, self.stride) for pair in ((tile.rows, self._height), (tile.columns, self._width))
        )
        return (rows[:, None] & columns)[None, None].astype(np.float32)

    cut_kept = cut


def _movable(span: Span, length: int, stride: int) -> NDArray[np.bool_]:
    places = np.arange(span.start, span.stop, stride)
    near = (places + stride > span.first - NEAR) & (places < span.last + NEAR)
    return near | ((places >= span.last) & (span.last + NEAR >= length))


class Places:
    """Row and column in the picture of each place of y, float32 (1, 2, h, w) of a tile. What is left to chance goes by
    the place: tiles that both refine a margin decide alike there, and a picture always gives the same file."""

    planes: tuple[Planes, ...] = ()

    def __init__(self, canvas: Canvas, y_stride: int) -> None:
        self.stride, self.done = y_stride, canvas.height

    def cut(self, tile: Tile) -> FloatArray:
        sides = (np.arange(span.start, span.stop, self.stride) // self.stride for span in (tile.rows, tile.columns))
        return np.stack(np.meshgrid(*sides, indexing="ij"))[None].astype(np.float32)

    cut_kept = cut


def _only(engine: IntegerEngine, inputs: Mapping[str, NDArray[Any]]) -> FloatArray:
    (name,) = engine.outputs
    return np.asarray(engine.run(inputs)[name])


def _bits_of_symbols(bundle: Bundle) -> NDArray[np.float32]:
    """Bits of symbols from -_LARGEST to _LARGEST by table row, in whole multiples of 2^-_BIT_PARTS."""
    symbols = np.arange(-_LARGEST, _LARGEST + 1, dtype=np.int32)
    rows = np.arange(SCALE_ROWS, dtype=np.uint8)
    grid = np.broadcast_arrays(symbols[None], rows[:, None])
    lengths = code_lengths(TableArrays(*bundle.coder_rows), *grid)
    return np.asarray(np.rint(np.ldexp(lengths, _BIT_PARTS)) * 2.0**-_BIT_PARTS, np.float32)


def _extents(chosen: NDArray[Any]) -> tuple[slice, slice]:
    """From the first row and column of (1, 1, h, w) in which any is chosen to the last."""
    found = (np.flatnonzero(chosen.any((0, 1, axis))) for axis in (3, 2))
    rows, columns = (slice(int(places[0]), int(places[-1]) + 1) for places in found)
    return rows, columns


def _keys(places: FloatArray, channels: int) -> NDArray[np.uint32]:
    """A number for each element (1, M, h, w), by its place in the picture."""
    rows, columns = places[0].astype(np.uint32)
    numbers = (rows * np.uint32(1 << 13) + columns) * np.uint32(channels)
    return np.asarray(numbers[None, None] + np.arange(channels, dtype=np.uint32)[:, None, None])


def _blurred(values: FloatArray) -> FloatArray:
    """Means over 3x3 places, edges repeated."""
    wide = np.pad(values, 1, mode="edge")
    height, width = values.shape
    total = np.zeros_like(values)
    for row in range(3):
        for column in range(3):
            total += wide[row : row + height, column : column + width]
    return total / np.float32(9)
