"""Cuts a picture into tiles.

A graph's *reach* is how far beside its own place an output can look (basic_export.reach). A tile is run with that much
more on each side, and the margin of its outputs is dropped. At the picture's own edges there is no margin, and the
graph pads there as it always does. So the integers of the entropy path are the same as without tiles, and pixels
differ by float rounding at most. All positions are rows and columns of the padded picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

Rows = tuple[int, int]
"""Rows of the picture: the first, and the one after the last."""

TILE_PIXELS = 1024
"""Side of a tile, without its margin, and of the largest picture that is computed whole."""

BAND_TILES = 6
"""Tiles in a row of a band as high as a tile; wider bands are lower."""

TILE_BYTES = 8 << 20
"""Size of the largest tensor of a tile."""


@dataclass(frozen=True)
class Span:
    """Part of one axis of the picture: `start` to `stop` is read, `first` to `last` counts."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """A rectangle of the picture."""

    rows: Span
    columns: Span


@dataclass(frozen=True)
class Canvas:
    """The padded picture: `height` and `width` are multiples of `align`, and so are `side`, that of a square as large
    as a tile, and `longest`, which no side of a tile may pass, where engines have such a limit. `threads` move parts of
    its tensors."""

    height: int
    width: int
    side: int
    align: int
    longest: int | None = None
    threads: int = 1

    def side_for(self, bytes_per_pixel: float) -> int:
        """Side of the tiles of a graph whose largest tensor takes so many bytes per pixel of the picture: such that the
        tensor stays in the processor's caches, where `side` is `TILE_PIXELS`, and in proportion elsewhere."""
        share = math.sqrt(TILE_BYTES / bytes_per_pixel) / TILE_PIXELS
        return max(self.align, round(self.side * share / self.align) * self.align)

    @property
    def latent_side(self) -> int:
        """Side of the tiles of graphs whose tensors are those of latents: they are small, and wide tiles spend less on
        margins."""
        return 2 * self.side

    @property
    def whole(self) -> bool:
        """Whether the picture is one tile."""
        return max(self.height, self.width) <= self.side

    @property
    def band(self) -> int:
        """Rows of the picture that go through a graph at a time: fewer of a wide picture, so that memory is that of
        some tiles in a row, whatever its width."""
        if self.whole:
            return self.height
        tiles = max(1, -(-self.width // self.side))
        return max(self.align, min(self.side, self.side * BAND_TILES // tiles // self.align * self.align))

    def rows_at_once(self, side: int) -> int:
        """How many rows of all columns are about as many pixels as a square of this side."""
        return max(self.align, side * side // self.width // self.align * self.align)

    def tiles(self, first: int, last: int, side: int, margin: int | None, together: int = 1) -> Iterator[Tile]:
        """Tiles over all columns of rows `first` to `last`, as large as a square of this `side` or smaller: so many
        that `together` at a time leave no thread idle. A `margin` of None asks for the whole picture."""
        if margin is None:
            yield Tile(Span(0, self.height, first, last), Span(0, self.width, 0, self.width))
            return
        side = min(side, self.longest or side)
        down = list(spans(first, last, self.height, side, margin, self.align))
        multiple = together // math.gcd(together, len(down))
        for rows in down:
            wide = side * side // (rows.last - rows.first)
            wide = max(self.align, min(wide, self.longest or 4 * side) // self.align * self.align)
            for columns in spans(0, self.width, self.width, wide, margin, self.align, multiple):
                yield Tile(rows, columns)


def spans(first: int, last: int, length: int, side: int, margin: int, align: int, multiple: int = 1) -> Iterator[Span]:
    """Cuts `first` to `last` of an axis of `length` into equal spans of at most `side`, the last one shorter, that
    begin at multiples of `align` from `first`: a multiple of `multiple` spans, where they are long enough for it."""
    count = -(-(last - first) // side)
    count = -(-count // multiple) * multiple
    step = -(-(last - first) // (count * align)) * align
    for begin in range(first, last, step):
        end = min(begin + step, last)
        yield Span(max(0, begin - margin), min(length, end + margin), begin, end)
