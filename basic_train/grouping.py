"""Groupings: in which stage each element of the latent y is decoded.

A grouping labels every (channel group, row, column) of y with a stage number. All elements of a stage are
decoded together, conditioned on z and on the stages before it ("intra-node structure" of BaSIC, ECCV 2024).

`labels(name, groups, height, width)` gives the full map of any fixed method. Groupings that repeat with a
small square tile can be trained, exported and decoded stage by stage; they are `Grouping` objects made by
`tiled`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int64]

#: ELIC's uneven channel split (16, 16, 32, 64, 64 of 192 channels) counted in groups of one twelfth.
ELIC_SPLITS = (1, 1, 2, 4, 4)

#: The same of 320 channels (16, 16, 32, 64, 192) in groups of one twentieth.
ELIC320_SPLITS = (1, 1, 2, 4, 12)

#: Order of the four phases of a 2x2 tile that decodes diagonal neighbours first: (0,0), (1,1), (0,1), (1,0).
DIAGONAL_RANK = np.array([[0, 2], [3, 1]])


def _grid(groups: int, height: int, width: int) -> tuple[Labels, Labels, Labels]:
    g, r, c = np.meshgrid(np.arange(groups), np.arange(height), np.arange(width), indexing="ij")
    return g, r, c


def none(groups: int, height: int, width: int) -> Labels:
    """No autoregression: one stage."""
    return np.zeros((groups, height, width), np.int64)


def scanline(groups: int, height: int, width: int) -> Labels:
    """One stage per position, row by row (Minnen et al. 2018)."""
    _, r, c = _grid(groups, height, width)
    return r * width + c


def zigzag(groups: int, height: int, width: int) -> Labels:
    """Anti-diagonals: h + w - 1 stages."""
    _, r, c = _grid(groups, height, width)
    return r + c


def checkerboard(groups: int, height: int, width: int) -> Labels:
    """Two stages (He et al. 2021)."""
    _, r, c = _grid(groups, height, width)
    return (r + c) % 2


def half_checkerboard(groups: int, height: int, width: int) -> Labels:
    """The quarter of positions with odd row and column first."""
    _, r, c = _grid(groups, height, width)
    return np.where((r % 2 == 1) & (c % 2 == 1), 0, 1)


def halfinv_checkerboard(groups: int, height: int, width: int) -> Labels:
    """The quarter of positions with odd row and column last."""
    return 1 - half_checkerboard(groups, height, width)


def quarter_checkerboard(groups: int, height: int, width: int) -> Labels:
    """One position in eight first."""
    _, r, c = _grid(groups, height, width)
    first = ((r % 4 == 1) & (c % 4 == 3)) | ((r % 4 == 3) & (c % 4 == 1))
    return np.where(first, 0, 1)


def interlace_checkerboard(groups: int, height: int, width: int) -> Labels:
    """Checkerboard whose colours swap from one channel group to the next."""
    g, r, c = _grid(groups, height, width)
    return (r + c + g + 1) % 2


def raster2x2(groups: int, height: int, width: int) -> Labels:
    """The four phases of a 2x2 tile, row by row."""
    _, r, c = _grid(groups, height, width)
    return 2 * (r % 2) + c % 2


def channelwise(groups: int, height: int, width: int) -> Labels:
    """One stage per channel group (Minnen and Singh 2020)."""
    return _grid(groups, height, width)[0]


def channelwise_checkerboard(groups: int, height: int, width: int) -> Labels:
    """Two stages per channel group."""
    g, r, c = _grid(groups, height, width)
    return 2 * g + (r + c) % 2


def channelwise_scanline(groups: int, height: int, width: int) -> Labels:
    """Scanline within a channel group, group after group."""
    g, r, c = _grid(groups, height, width)
    return g * height * width + r * width + c


def channelwise_g10(groups: int, height: int, width: int) -> Labels:
    """Twelve channel groups in ten stages: the last three together."""
    _require_groups("channelwise-g10", groups, 12)
    return np.minimum(channelwise(groups, height, width), 9)


def elic(groups: int, height: int, width: int) -> Labels:
    """Five uneven channel splits, each a checkerboard (He et al. 2022): ten stages."""
    return _uneven_checkerboards("elic", ELIC_SPLITS, groups, height, width)


def elic320(groups: int, height: int, width: int) -> Labels:
    """ELIC's splits of 320 channels: ten stages."""
    return _uneven_checkerboards("elic320", ELIC320_SPLITS, groups, height, width)


def _uneven_checkerboards(name: str, splits: tuple[int, ...], groups: int, height: int, width: int) -> Labels:
    _require_groups(name, groups, sum(splits))
    g, r, c = _grid(groups, height, width)
    return 2 * np.repeat(np.arange(len(splits)), splits)[g] + (r + c) % 2


def group_diagonal(groups: int, height: int, width: int) -> Labels:
    """Channel group after group, each in four diagonal-first phases of a 2x2 tile: 4 G stages."""
    g, r, c = _grid(groups, height, width)
    return 4 * g + DIAGONAL_RANK[r % 2, c % 2]


def random(groups: int, height: int, width: int, *, stages: int | None = None, seed: int | None = None) -> Labels:
    """Uniform labels in [0, stages); without `stages`, as many as there are elements."""
    count = groups * height * width if stages is None else stages
    return np.random.default_rng(seed).integers(0, count, (groups, height, width))


def channelwise_random(groups: int, height: int, width: int, *, seed: int | None = None) -> Labels:
    """Group after group, uniform labels within a group's own block of h w stages."""
    block = height * width
    return channelwise(groups, height, width) * block + random(groups, height, width, stages=block, seed=seed)


def _require_groups(name: str, groups: int, expected: int) -> None:
    if groups != expected:
        raise ValueError(f"grouping {name!r} is defined for {expected} channel groups, not {groups}")


METHODS: dict[str, Callable[[int, int, int], Labels]] = {
    "none": none,
    "scanline": scanline,
    "zigzag": zigzag,
    "checkerboard": checkerboard,
    "half-checkerboard": half_checkerboard,
    "halfinv-checkerboard": halfinv_checkerboard,
    "quarter-checkerboard": quarter_checkerboard,
    "interlace-checkerboard": interlace_checkerboard,
    "raster2x2": raster2x2,
    "channelwise": channelwise,
    "channelwise-checkerboard": channelwise_checkerboard,
    "channelwise-scanline": channelwise_scanline,
    "channelwise-g10": channelwise_g10,
    "elic": elic,
    "elic320": elic320,
    "group-diagonal": group_diagonal,
    "random": random,
    "channelwise-random": channelwise_random,
}

#: Side of the tile that each periodic method repeats with.
TILES = {
    "none": 1,
    "channelwise": 1,
    "channelwise-g10": 1,
    "checkerboard": 2,
    "half-checkerboard": 2,
    "halfinv-checkerboard": 2,
    "interlace-checkerboard": 2,
    "raster2x2": 2,
    "channelwise-checkerboard": 2,
    "elic": 2,
    "elic320": 2,
    "group-diagonal": 2,
    "quarter-checkerboard": 4,
}


def labels(name: str, groups: int, height: int, width: int) -> Labels:
    """Full map of a fixed method: int64 (groups, height, width). Raises ValueError for an unknown name."""
    if name not in METHODS:
        raise ValueError(f"unknown grouping {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name](groups, height, width)


def relabel_dense(values: ArrayLike) -> Labels:
    """The same order with labels 0, 1, 2, ... and none missing (a learned map may leave stages empty)."""
    array = np.asarray(values, np.int64)
    return np.unique(array, return_inverse=True)[1].reshape(array.shape)


@dataclass(frozen=True)
class Grouping:
    """A grouping that repeats with a square tile: plain integers, never re-drawn.

    tile: stage of each channel group and phase, int64 (G, t, t), labels dense from 0. The array is read-only.
    """

    name: str
    tile: Labels

    def __post_init__(self) -> None:
        tile = relabel_dense(self.tile)
        if tile.ndim != 3 or tile.shape[1] != tile.shape[2]:
            raise ValueError(f"a grouping tile is (G, t, t), not {np.shape(self.tile)}")
        tile.setflags(write=False)
        object.__setattr__(self, "tile", tile)

    @property
    def groups(self) -> int:
        return int(self.tile.shape[0])

    @property
    def side(self) -> int:
        return int(self.tile.shape[1])

    @property
    def stages(self) -> int:
        return int(self.tile.max()) + 1

    def slots(self, stage: int) -> list[tuple[int, int, int]]:
        """The (channel group, phase row, phase column) decoded in a stage, in lexicographic order."""
        return [(group, row, column) for group, row, column in np.argwhere(self.tile == stage).tolist()]

    def labels(self, height: int, width: int) -> Labels:
        """The tile repeated over a map: int64 (G, height, width)."""
        rows, cols = np.arange(height) % self.side, np.arange(width) % self.side
        return self.tile[:, rows[:, None], cols[None, :]]


def tiled(name: str, groups: int) -> Grouping:
    """A periodic fixed method as a `Grouping`. Raises ValueError for methods that do not repeat."""
    if name not in TILES:
        raise ValueError(f"grouping {name!r} does not repeat with a tile; these do: {', '.join(TILES)}")
    return Grouping(name, labels(name, groups, TILES[name], TILES[name]))


#: Maps found by `basic-train groupings` on `lite` (docs/lab.md), two in fewer stages than allowed: name -> tile
#: (G, 2, 2).
LEARNED: dict[str, list[list[list[int]]]] = {
    "learned-g4-s8": [[[0, 5], [5, 2]], [[0, 5], [5, 2]], [[1, 4], [6, 3]], [[1, 4], [6, 3]]],
    "learned-g4-s6": [[[1, 3], [3, 0]], [[1, 3], [3, 0]], [[2, 4], [4, 2]], [[2, 4], [4, 2]]],
    "learned-g4-s4": [[[0, 2], [2, 0]], [[0, 2], [2, 0]], [[1, 3], [3, 1]], [[1, 3], [3, 1]]],
    "learned-g2-s2": [[[0, 0], [0, 0]], [[1, 1], [1, 1]]],
}
