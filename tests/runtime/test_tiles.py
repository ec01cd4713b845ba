"""How inputs are cut into tiles."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime.engines.base import Engine
from basic_runtime.tiles import TiledEngine, Tiling, spans


@given(
    units=st.integers(1, 200),
    side_units=st.integers(1, 30),
    reach=st.integers(0, 200),
    step=st.sampled_from((1, 4, 16)),
)
def test_spans_cover_an_axis_once_with_their_margins(
    units: int, side_units: int, reach: int, step: int
) -> None:
    align = 4 * step
    length, tiling = units * align, Tiling(reach, side_units * align, step, align)
    found = list(spans(length, tiling))
    assert found[0].first == 0 and found[-1].last == length
    assert all(a.last == b.first for a, b in zip(found, found[1:], strict=False))
    for span in found:
        assert 0 < span.last - span.first <= tiling.side and span.first % align == 0
        assert span.start == 0 or span.first - span.start >= reach
        assert span.stop == length or span.stop - span.last >= reach
        assert span.start % step == 0 and span.stop % step == 0
        assert 0 <= span.start <= span.first and span.last <= span.stop <= length


def test_an_unknown_reach_is_not_cut() -> None:
    assert len(list(spans(10_000, Tiling(None, 64, 16, 64)))) == 1


class _Sums(Engine):
    """A sum over 3x3 neighbours, up-sampled by two, times a gain: an engine of known reach."""

    inputs, outputs = ("x", "gain"), ("out",)
    largest = 0

    def run(self, inputs):
        x = inputs["x"]
        self.largest = max(self.largest, x.shape[2], x.shape[3])
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        h, w = x.shape[2:]
        total = sum(padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3))
        return {"out": (total * inputs["gain"]).repeat(2, 2).repeat(2, 3).astype(np.float32)}


def test_tiles_give_what_the_whole_gives() -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.integers(-9, 9, (1, 2, 50, 37)).astype(np.float32),
        "gain": np.full((1, 2, 1, 1), 2, np.float32),
    }
    plain = _Sums()
    tiled = TiledEngine(plain, Tiling(1, 10))
    whole = _Sums().run(inputs)
    np.testing.assert_array_equal(tiled.run(inputs)["out"], whole["out"])
    assert plain.largest <= 12
    parts = np.zeros_like(whole["out"])

    def write(name: str, part: np.ndarray, top: int, left: int) -> None:
        parts[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part

    tiled.run_parts(50, 37, lambda tile: {"x": tile.cut(inputs["x"]), "gain": inputs["gain"]}, write)
    np.testing.assert_array_equal(parts, whole["out"])
