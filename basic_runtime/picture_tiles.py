"""Pixels of a picture: cut into tiles for g_a, and put together from the tiles of g_s."""

from __future__ import annotations

import numpy as np

from basic_runtime._native import convert, from_pixels, to_pixels
from basic_runtime.engines.base import FloatArray, TensorLike
from basic_runtime.flow import Trace
from basic_runtime.picture import Pixels
from basic_runtime.planes import Planes
from basic_runtime.tiles import Canvas, Rows, Tile

_ROWS_AT_ONCE = 64


class PictureSource:
    """A picture's pixels, uint8 (H, W, 3) or (H, W), as g_a reads them: float32 (1, 3, h, w) in [0, 1]."""

    stride = 1
    planes: tuple[Planes, ...] = ()

    def __init__(self, pixels: Pixels, canvas: Canvas, trace: Trace) -> None:
        self._pixels, self._threads, self._trace, self.done = pixels, canvas.threads, trace, canvas.height

    def cut(self, tile: Tile) -> FloatArray:
        """Rows and columns of a tile; beyond the picture, edges repeat."""
        rows, columns = tile.rows, tile.columns
        with self._trace("from pixels"):
            part = self._pixels[rows.start : rows.stop, columns.start : columns.stop]
            height, width = part.shape[:2]
            planes = np.empty((1, 3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
            inside = planes[0, :, :height, :width]
            if part.ndim == 3 and part.strides[1:] == (3, 1):
                from_pixels(part, inside, self._threads)
            else:
                np.multiply(part.transpose(2, 0, 1) if part.ndim == 3 else part, np.float32(1 / 255), out=inside)
            planes[:, :, :height, width:] = planes[:, :, :height, width - 1 : width]
            planes[:, :, height:] = planes[:, :, height - 1 : height]
        return planes

    def cut_kept(self, tile: Tile) -> Pixels:
        """The same as uint8 (1, 3, h, w), whose channels lie side by side."""
        rows, columns = tile.rows, tile.columns
        with self._trace("from pixels"):
            part = self._pixels[rows.start : rows.stop, columns.start : columns.stop]
            if part.ndim == 2:
                part = np.repeat(part[:, :, None], 3, axis=2)
            below, beside = rows.stop - rows.start - part.shape[0], columns.stop - columns.start - part.shape[1]
            if below or beside:
                part = np.pad(part, ((0, below), (0, beside), (0, 0)), mode="edge")
            return part.transpose(2, 0, 1)[None]


class PictureSink:
    """The picture that g_s gives: uint8 (H, W, 3), or (H, W) if it is gray, rounded from float32 as it is written."""

    stride = 1

    def __init__(self, height: int, width: int, gray: bool, threads: int, trace: Trace) -> None:
        self.values: Pixels = np.empty((height, width) if gray else (height, width, 3), np.uint8)
        self._threads, self._trace = threads, trace

    def begin(self, first: int, last: int) -> None:
        """There is room for all of it."""

    def write(self, part: TensorLike, row: int, column: int) -> None:
        with self._trace("to pixels"):
            place = self.values[row : row + part.shape[2], column : column + part.shape[3]]
            inside = np.asarray(part)[0, :, : place.shape[0], : place.shape[1]]
            if inside.dtype != np.uint8:
                _to_pixels(inside, place, self._threads)
            elif place.ndim == 3:
                convert(inside.transpose(1, 2, 0), place, threads=self._threads)
            else:
                place[...] = (inside.sum(axis=0, dtype=np.uint16) + 1) // 3  # the mean, rounded

    def end(self, first: int, last: int) -> None:
        """Nothing is left to do."""


class PictureStrips:
    """Strips of the picture that g_s gives, each from row `first` to row `last`."""

    stride = 1

    def __init__(self, rows: list[Rows], width: int, gray: bool, threads: int, trace: Trace) -> None:
        self._sinks = {(first, last): PictureSink(last - first, width, gray, threads, trace) for first, last in rows}

    @property
    def values(self) -> dict[Rows, Pixels]:
        return {rows: sink.values for rows, sink in self._sinks.items()}

    def begin(self, first: int, last: int) -> None:
        """There is room for all of them."""

    def write(self, part: TensorLike, row: int, column: int) -> None:
        for (first, last), sink in self._sinks.items():
            low, high = max(first, row), min(last, row + part.shape[2])
            if low < high:
                sink.write(np.asarray(part)[:, :, low - row : high - row], low - first, column)

    def end(self, first: int, last: int) -> None:
        """Nothing is left to do."""


def _to_pixels(planes: FloatArray, pixels: Pixels, threads: int) -> None:
    """clip(floor(255 x + 0.5)) of float32 (3, h, w) into uint8 (h, w, 3), or of the mean into gray (h, w)."""
    if pixels.ndim == 3:
        to_pixels(planes, pixels, threads)
        return
    for top in range(0, pixels.shape[0], _ROWS_AT_ONCE):
        scaled = planes[:, top : top + _ROWS_AT_ONCE].mean(axis=0) * np.float32(255)
        scaled += np.float32(0.5)
        np.clip(scaled, 0, 255, out=scaled)
        pixels[top : top + _ROWS_AT_ONCE] = scaled
