"""Tensors of a picture that are written and read in parts; rows stay in memory until they have been read."""

from __future__ import annotations

import math
import mmap
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import convert
from basic_runtime.engines.base import FloatArray, TensorLike
from basic_runtime.errors import EngineError
from basic_runtime.tiles import Canvas, Tile

_OWN_PAGES, _LARGE_PAGES = 1 << 20, 4 << 20
"""Bytes from which an array gets pages of its own, and of the processor's larger size: rows of one lie far apart."""


class Planes:
    """One tensor (1, C, h, w) of a picture: graphs write parts of it from the top down, and cut parts out of it.

    Its values lie as those of the parts do: by channel, or by position with the channels side by side.

    `stride` is how many rows of the picture one row stands for, `done` to which row of the picture it is written.
    Rows that `drop` gave up leave memory. The integers of the entropy path (`integers`) of a picture in tiles are kept
    as int16 as long as they all fit, and as float32 from the first that does not.
    """

    def __init__(self, canvas: Canvas, stride: int, *, integers: bool = True) -> None:
        self.stride = stride
        self.done = 0
        self._rows, self._columns, self._threads = canvas.height // stride, canvas.width // stride, canvas.threads
        self._dtype: Any = np.int16 if integers and not canvas.whole else np.float32
        self._data: Any = None  # an array, or what an engine gave in its place
        self._low = self._top = 0  # first row that counts, and row at the top of the data
        self._last = 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, canvas: Canvas, values: FloatArray) -> Planes:
        """The planes of a tensor (1, C, h, w) that is there already."""
        planes = cls(canvas, canvas.height // values.shape[2], integers=False)
        planes._data, planes.done = values, canvas.height
        return planes

    @property
    def planes(self) -> tuple[Planes, ...]:
        return (self,)

    def begin(self, first: int, last: int) -> None:
        """Rows of the picture to `last` are about to be written."""
        self._last = last // self.stride

    def write(self, part: TensorLike, row: int, column: int) -> None:
        """A part (1, C, h, w), whose upper left corner lies at a row and column of this tensor."""
        if part.shape[2:] == (self._rows, self._columns) and self._dtype == np.float32:
            self._data = part  # as it is: it may stay on a device until it is read
            return
        values = np.asarray(part)
        with self._lock:
            place = self._place(self._room(values), values, row, column)
            if not convert(values, place, threads=self._threads):  # the first that is no int16
                self._dtype, self._data = np.float32, self._data.astype(np.float32)
                convert(values, self._place(self._data, values, row, column), threads=self._threads)

    def _place(self, data: NDArray[Any], part: NDArray[Any], row: int, column: int) -> NDArray[Any]:
        """Where a part goes."""
        top = row - self._top
        return data[:, :, top : top + part.shape[2], column : column + part.shape[3]]

    def end(self, first: int, last: int) -> None:
        """Rows of the picture to `last` are written."""
        self.done = last

    def cut(self, tile: Tile) -> TensorLike:
        """What a graph reads for a tile: float32, C-contiguous, or all of what an engine gave as that gave it."""
        return self._cut(tile)

    def cut_kept(self, tile: Tile) -> TensorLike:
        """The same, but as it is kept, in type and order."""
        return self._cut(tile, kept=True)

    def _cut(self, tile: Tile, *, kept: bool = False) -> TensorLike:
        sides = (tile.rows.start, tile.rows.stop, tile.columns.start, tile.columns.stop)
        whole = tuple(side // self.stride for side in sides) == (0, self._rows, 0, self._columns)
        if whole and self._data is not None and not isinstance(self._data, np.ndarray):
            given: TensorLike = self._data
            return given
        part = self.part(*(side // self.stride for side in sides))
        return part if kept else contiguous(part, self._threads)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows of the picture from `start` to `stop`, as they are kept: int16 or float32."""
        return self.part(start // self.stride, stop // self.stride, 0, self._columns)

    def part(self, top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        """Own rows and columns, as they are kept."""
        return self.view()[:, :, top - self._top : bottom - self._top, left:right]

    def view(self) -> NDArray[Any]:
        """The whole tensor as it is kept, int16 or float32."""
        assert self._data is not None
        values: NDArray[Any] = np.asarray(self._data)
        self._data = values
        return values

    def drop(self, before: int) -> None:
        """Rows of the picture above `before` will not be read again."""
        self._low = max(self._low, before // self.stride)
        if self._low >= self._rows:
            self._data = None

    def _room(self, part: NDArray[Any]) -> NDArray[Any]:
        """The data, for such parts, made to reach to the last row announced."""
        data: NDArray[Any] | None = self._data
        if data is not None and self._last - self._top <= data.shape[2]:
            return data
        wanted = self._last - self._low
        if data is None or wanted > data.shape[2]:  # twice as many: rows that stay are moved seldom
            place = self._new(part, min(2 * wanted, self._rows - self._low))
        else:
            place = data
        if data is not None:
            old, live = self._low - self._top, self.done // self.stride - self._low
            kept = data[:, :, old : old + live]  # fewer where nothing was written of the last rows
            place[:, :, : kept.shape[2]] = kept
        self._top, self._data = self._low, place
        return place

    def _new(self, part: NDArray[Any], rows: int) -> NDArray[Any]:
        channels = part.shape[1]
        if channels > 1 and part.strides[1] == part.itemsize:
            return room((rows, self._columns, channels), self._dtype).transpose(2, 0, 1)[None]
        return room((1, channels, rows, self._columns), self._dtype)


def room(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A new array, of any content, whose memory the system gets back with it: of arrays below 32 MB malloc keeps it,
    scattered among others."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _OWN_PAGES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError from error
    if size >= _LARGE_PAGES and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them keeps to small ones
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def contiguous(part: NDArray[Any], threads: int) -> FloatArray:
    """The same numbers, C-contiguous in float32; the array itself if it is that."""
    if part.dtype == np.float32 and part.flags.c_contiguous:
        return part
    values = np.empty(part.shape, np.float32)
    convert(part, values, threads=threads)
    return values


class Constant:
    """An input that is the same for all tiles, like a gain."""

    stride = 1
    planes: tuple[Planes, ...] = ()

    def __init__(self, values: FloatArray, canvas: Canvas) -> None:
        self._values, self.done = values, canvas.height

    def cut(self, tile: Tile) -> FloatArray:
        return self._values

    cut_kept = cut


class Scratch:
    """Memory for the moment, which one band or stage after another uses: the system gives it once."""

    def __init__(self) -> None:
        self._flat: NDArray[Any] = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array of any content, good until the next one is asked for."""
        size = math.prod(shape)
        if self._flat.size < size or self._flat.dtype != dtype:
            self._flat = np.empty(size, dtype)
        return self._flat[:size].reshape(shape)


class Band:
    """The output (1, C, h, w) of a graph for the rows that it was just run on. It is taken once, and no longer used
    when the next band with the same `scratch` is written."""

    def __init__(self, canvas: Canvas, stride: int, channels: int, scratch: Scratch | None = None) -> None:
        self.stride, self._scratch = stride, scratch or Scratch()
        self._channels, self._columns, self._top = channels, canvas.width // stride, 0
        self._threads = canvas.threads
        self._shape: tuple[int, ...] = ()
        self._values: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def begin(self, first: int, last: int) -> None:
        self._top = first // self.stride
        self._shape = (1, self._channels, (last - first) // self.stride, self._columns)

    def write(self, part: TensorLike, row: int, column: int) -> None:
        if part.shape[1] != self._channels:
            raise EngineError(f"a stage gave a mean or scale of {part.shape[1]} channels, not {self._channels}")
        if part.shape == self._shape:
            self._values = np.ascontiguousarray(part)
            return
        values = np.asarray(part)
        with self._lock:
            if self._values is None:
                self._values = self._scratch.array(self._shape, values.dtype)
        top = row - self._top
        place = self._values[:, :, top : top + values.shape[2], column : column + values.shape[3]]
        convert(values, place, threads=self._threads)

    def end(self, first: int, last: int) -> None:
        """Nothing is left to do."""

    def take(self) -> NDArray[Any]:
        """The band (1, C, h, w), C-contiguous."""
        values, self._values = self._values, None
        assert values is not None
        return values
