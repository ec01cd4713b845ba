"""Graphs on large pictures: tile by tile, so that memory stays that of a tile.

A graph's *reach* is how many input rows and columns beside its own an output can depend on (basic_export.reach). A tile
is run with that much more on each side, cut from the same input, and the margin of its outputs is dropped. At the
picture's own edges there is no margin, and the graph pads there as it always does. So the integers of the entropy
path are the same as without tiles, and pixels differ by float rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from basic_runtime.engines import Engine
from basic_runtime.engines.base import FloatArray

TILE_PIXELS = 1536
"""Side of a tile in pixels of the picture, without its margin. A tile at full width takes about 300 MB."""


@dataclass(frozen=True)
class Tiling:
    """How a graph may be cut, in input rows: `reach`, or None if unknown; `side` of a tile; margins are multiples of
    `step`, so that outputs of lower resolution are whole; tiles begin at multiples of `align`, itself one of `step`."""

    reach: int | None
    side: int
    step: int = 1
    align: int = 1


@dataclass(frozen=True)
class Span:
    """Part of one axis of the input: `start` to `stop` is read, `first` to `last` counts."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """A rectangle of a graph's input."""

    rows: Span
    columns: Span

    def cut(self, array: FloatArray) -> FloatArray:
        """What the graph reads of an input (1, C, H, W); inputs of one row and column are the same for all tiles."""
        if array.shape[2:] == (1, 1):
            return array
        part = array[:, :, self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]
        return np.ascontiguousarray(part)


Read = Callable[[Tile], Mapping[str, FloatArray]]
Write = Callable[[str, FloatArray, int, int], None]
"""Called with an output's name, a part of it (1, C, h, w), and the row and column where that belongs."""


def spans(length: int, tiling: Tiling) -> Iterator[Span]:
    """Cuts an axis of `length` input rows into equal spans of at most `tiling.side`, the last one shorter."""
    if tiling.reach is None or length <= tiling.side:
        yield Span(0, length, 0, length)
        return
    margin = _up(tiling.reach, tiling.step)
    count = -(-length // tiling.side)
    side = _up(-(-length // count), tiling.align)
    for first in range(0, length, side):
        last = min(first + side, length)
        yield Span(max(0, first - margin), min(length, last + margin), first, last)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class TiledEngine(Engine):
    """An engine whose graph runs tile by tile where its input is large."""

    def __init__(self, engine: Engine, tiling: Tiling) -> None:
        self._engine, self._tiling = engine, tiling
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        height, width = (max(inputs[name].shape[axis] for name in self.inputs) for axis in (2, 3))
        tiles = self.tiles(height, width)
        if len(tiles) == 1:
            return self._engine.run(inputs)
        results: dict[str, FloatArray] = {}

        def write(name: str, part: FloatArray, top: int, left: int) -> None:
            results[name][:, :, top : top + part.shape[2], left : left + part.shape[3]] = part

        def allocate(name: str, shape: tuple[int, ...]) -> None:
            results[name] = np.empty(shape, np.float32)

        self._run(
            tiles,
            lambda tile: {n: tile.cut(np.asarray(inputs[n])) for n in self.inputs},
            write,
            (height, width),
            allocate,
        )
        return results

    def layer_times(self) -> dict[str, float]:
        return self._engine.layer_times()

    def run_parts(self, height: int, width: int, read: Read, write: Write) -> None:
        """Run on an input of `height` x `width` that `read` gives part by part; outputs go to `write` in parts."""
        self._run(self.tiles(height, width), read, write, (height, width))

    def tiles(self, height: int, width: int) -> list[Tile]:
        """The tiles of an input, row by row."""
        return [
            Tile(rows, columns)
            for rows in spans(height, self._tiling)
            for columns in spans(width, self._tiling)
        ]

    def _run(
        self,
        tiles: list[Tile],
        read: Read,
        write: Write,
        size: tuple[int, int],
        allocate: Callable[[str, tuple[int, ...]], None] = lambda name, shape: None,
    ) -> None:
        for number, tile in enumerate(tiles):
            for name, found in self._engine.run(read(tile)).items():
                values = np.asarray(found)
                rows = _scaled(tile.rows, values.shape[2])
                columns = _scaled(tile.columns, values.shape[3])
                if number == 0:
                    whole = (
                        _scaled_length(size[0], tile.rows, values.shape[2]),
                        _scaled_length(size[1], tile.columns, values.shape[3]),
                    )
                    allocate(name, (*values.shape[:2], *whole))
                part = values[
                    :, :, rows.first - rows.start : rows.last - rows.start,
                    columns.first - columns.start : columns.last - columns.start,
                ]  # fmt: skip
                write(name, part, rows.first, columns.first)


def _scaled_length(length: int, span: Span, out: int) -> int:
    """Output rows of `length` input rows, if the input rows of `span` give `out` output rows."""
    return length * out // (span.stop - span.start)


def _scaled(span: Span, out: int) -> Span:
    """The span in rows of an output of which it gives `out` rows."""
    return Span(
        *(_scaled_length(value, span, out) for value in (span.start, span.stop, span.first, span.last))
    )
