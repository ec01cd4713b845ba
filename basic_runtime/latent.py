"""The latent y: in slots, as the stages decode it, and whole, as g_s reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import convert
from basic_runtime.engines.base import FloatArray, Phases
from basic_runtime.flow import Trace, no_trace
from basic_runtime.planes import Planes
from basic_runtime.tiles import Canvas, Span, Tile

Slot = tuple[int, int, int]
"""Channel group, row and column phase of some elements of y."""


def slot_name(slot: Slot) -> str:
    return f"y.{slot[0]}.{slot[1]}{slot[2]}"


class Latent:
    """yhat (1, M, h, w) in units of y, from slots whose integers are in units of 2^-mean_bits."""

    def __init__(
        self,
        slots: Mapping[Slot, Planes],
        canvas: Canvas,
        *,
        stride: int,
        tile: int,
        channels: int,
        mean_bits: int,
        trace: Trace = no_trace,
    ) -> None:
        """`stride`: picture rows per row of y; `tile`: rows of y per row of a slot; `channels`: those of y."""
        self.stride = stride
        self._slots, self._canvas, self._tile, self._trace = slots, canvas, tile, trace
        self._channels, self._unit = channels, 2.0**-mean_bits
        self._group = channels * tile**2 // len(slots)

    @property
    def done(self) -> int:
        return min(planes.done for planes in self._slots.values())

    @property
    def planes(self) -> tuple[Planes, ...]:
        return tuple(self._slots.values())

    def cut(self, tile: Tile) -> FloatArray:
        """What g_s reads for a tile: float32, C-contiguous."""
        height, width = ((span.stop - span.start) // self.stride for span in (tile.rows, tile.columns))
        with self._trace("split"):
            result = np.empty((1, self._channels, height, width), np.float32)
            for part, channel, row, column in self._parts(tile):
                place = result[:, channel : channel + self._group, row :: self._tile, column :: self._tile]
                convert(part, place, self._unit, self._canvas.threads)
        return result

    def cut_kept(self, tile: Tile) -> Phases:
        """The same as the stages wrote it."""
        return Phases(self._parts(tile), self._tile, self._unit)

    def _parts(self, tile: Tile) -> list[tuple[NDArray[Any], int, int, int]]:
        """The part of each slot that lies in a tile, and its first channel, row and column there."""
        top, bottom = tile.rows.start // self.stride, tile.rows.stop // self.stride
        left, right = tile.columns.start // self.stride, tile.columns.stop // self.stride
        parts = []
        for (group, row, column), planes in self._slots.items():
            # The slot's first row is the first one from `top` on in this phase.
            first_row, last_row = (-(-(side - row) // self._tile) for side in (top, bottom))
            first_column, last_column = (-(-(side - column) // self._tile) for side in (left, right))
            part = planes.part(first_row, last_row, first_column, last_column)
            above, beside = first_row * self._tile + row - top, first_column * self._tile + column - left
            parts.append((part, group * self._group, above, beside))
        return parts

    def whole(self) -> FloatArray:
        """The whole latent, float32 (1, M, h, w)."""
        height, width = self._canvas.height, self._canvas.width
        return self.cut(Tile(Span(0, height, 0, height), Span(0, width, 0, width)))
