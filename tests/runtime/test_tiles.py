"""How pictures are cut into tiles, and graphs that run over their rows one behind the other."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime.engines.base import Engine, FloatArray
from basic_runtime.errors import EngineError
from basic_runtime.flow import Crew, TileStep, drop_read, last_readers, limit, readers_of, run
from basic_runtime.planes import Band, Planes
from basic_runtime.tiles import Canvas, spans


@given(
    first=st.integers(0, 20),
    units=st.integers(1, 200),
    after=st.integers(0, 20),
    side_units=st.integers(1, 30),
    margin=st.integers(0, 200),
    align=st.sampled_from((1, 4, 64)),
    multiple=st.integers(1, 4),
)
def test_spans_cover_an_axis_once_with_their_margins(
    first: int, units: int, after: int, side_units: int, margin: int, align: int, multiple: int
) -> None:
    begin, end = first * align, (first + units) * align
    length = end + after * align
    found = list(spans(begin, end, length, side_units * align, margin, align, multiple))
    assert found[0].first == begin and found[-1].last == end
    assert all(a.last == b.first for a, b in zip(found, found[1:], strict=False))
    for span in found:
        assert 0 < span.last - span.first <= side_units * align and span.first % align == 0
        assert span.start == max(0, span.first - margin)
        assert span.stop == min(length, span.last + margin)


@pytest.mark.parametrize("together", [1, 2, 3, 4])
def test_tiles_are_as_many_as_keep_all_threads_at_work(together: int) -> None:
    """2448 pixels are three tiles of up to 1024: two threads would take as long over three as over four."""
    canvas = Canvas(1664, 2496, 1024, 64)
    for first, last in ((0, 1024), (0, 1664), (1024, 1664)):
        tiles = list(canvas.tiles(first, last, canvas.side, 64, together))
        assert len(tiles) % together == 0
        areas = {(t.rows.last - t.rows.first) * (t.columns.last - t.columns.first) for t in tiles}
        assert max(areas) <= 1024**2
        assert sum((t.rows.last - t.rows.first) * (t.columns.last - t.columns.first) for t in tiles) == (
            (last - first) * 2496
        )


@pytest.mark.parametrize(("size", "count"), [(1, 5), (2, 5), (3, 2), (4, 0)])
def test_a_crew_shares_evenly(size: int, count: int) -> None:
    shares = Crew(size).shares(count)
    assert [i for share in shares for i in range(count)[share]] == list(range(count))
    lengths = [share.stop - share.start for share in shares]
    assert len(shares) == min(size, count) and max(lengths, default=0) - min(lengths, default=0) <= 1


class _Sums(Engine):
    """Sums over 3x3 neighbours, up-sampled by two: an engine whose reach is 1."""

    inputs, outputs = ("in",), ("out",)

    def __init__(self) -> None:
        self.tallest = self.pixels = 0

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        (x,) = inputs.values()
        height, width = x.shape[2:]
        self.tallest, self.pixels = max(self.tallest, height), self.pixels + height * width
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        total = sum(padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3))
        return {"out": np.float32(total).repeat(2, 2).repeat(2, 3)}


class _Kept(Planes):
    """A result, of which nothing is dropped."""

    def drop(self, before: int) -> None:
        pass


def _chain(canvas: Canvas, x: FloatArray, graphs: int) -> tuple[list[TileStep], list[Planes], list[_Sums]]:
    """A graph after the other: each up-samples what the one before gave. x: (1, C, h, w)."""
    tensors = [Planes.of(canvas, x)]
    steps, engines = [], [_Sums() for _ in range(graphs)]
    for number, engine in enumerate(engines):
        kind = _Kept if number == graphs - 1 else Planes
        tensors.append(kind(canvas, tensors[-1].stride // 2))
        steps.append(TileStep(f"{number}", engine, {"in": tensors[-2]}, {"out": tensors[-1]}, canvas, reach=1))
    return steps, tensors, engines


@pytest.mark.parametrize("side", [64, 128, 192])
@pytest.mark.parametrize("size", [(640, 320), (64, 448), (320, 64)])
def test_a_chain_in_tiles_gives_what_the_whole_gives(size: tuple[int, int], side: int) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, size[0] // 16, size[1] // 16)).astype(np.float32)
    results = []
    for tile in (side, 1024):
        canvas = Canvas(*size, tile, 64)
        steps, tensors, engines = _chain(canvas, x, 3)
        run(steps)
        assert all(planes.done == size[0] for planes in tensors)
        results.append(tensors[-1].rows(0, size[0]))
        if not canvas.whole:
            for engine, planes in zip(engines, tensors, strict=False):
                assert engine.tallest <= side // planes.stride + 2
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "rows", [[(0, 100)], [(300, 428), (812, 940)], [(130, 131), (140, 300), (1100, 1200)], [(1199, 1200)]]
)
@pytest.mark.parametrize("side", [64, 192])
def test_rows_that_nobody_asks_for_are_not_computed(side: int, rows: list[tuple[int, int]]) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, 75, 12)).astype(np.float32)
    results, pixels = [], []
    for wanted in (None, rows):
        canvas = Canvas(1216, 192, side, 64)
        steps, tensors, engines = _chain(canvas, np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))), 3)
        if wanted is not None:
            limit(steps, wanted)
        run(steps)
        assert all(planes.done == 1216 for planes in tensors)
        scale = tensors[-1].stride
        results.append([tensors[-1].part(a // scale, -(-b // scale), 0, 192 // scale) for a, b in rows])
        pixels.append([engine.pixels for engine in engines])
    for whole, part in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, part)
    needed = sum(b - a for a, b in rows)
    assert pixels[1][2] < pixels[0][2] * (needed + 128 * len(rows)) / 1216


def test_a_picture_of_one_tile_is_computed_whole() -> None:
    canvas = Canvas(320, 64, 1024, 64)
    steps, _, engines = _chain(canvas, np.zeros((1, 1, 20, 4), np.float32), 2)
    limit(steps, [(64, 128)])
    run(steps)
    assert [engine.pixels for engine in engines] == [80, 320]


def test_rows_between_graphs_leave_memory() -> None:
    """Of 40 tiles one above the other, the graphs between hold a few at a time."""
    canvas = Canvas(2560, 64, 64, 64)
    x = np.zeros((1, 1, 160, 4), np.float32)
    steps, tensors, _ = _chain(canvas, x, 3)
    most, readers = 0, readers_of(steps)
    while steps[-1].done < canvas.height:
        step = next(step for step in reversed(steps) if step.ready() > step.done)
        step.advance(step.ready())
        drop_read(step, readers)
        most = max(most, tensors[1].view().shape[2] if steps[1].done < canvas.height else 0)
    assert 8 < most <= 32


def test_the_last_reader_of_a_tensor_is_known() -> None:
    canvas = Canvas(64, 64, 64, 64)
    steps, tensors, engines = _chain(canvas, np.ones((1, 1, 4, 4), np.float32), 2)
    again = TileStep("again", engines[0], {"in": tensors[0]}, {"out": Planes(canvas, 16)}, canvas, reach=1)
    assert last_readers(steps) == {steps[0]: {tensors[0]}, steps[1]: {tensors[1]}}
    assert last_readers([*steps, again]) == {steps[0]: set(), steps[1]: {tensors[1]}, again: {tensors[0]}}


def test_bands_of_wide_pictures_are_lower() -> None:
    """So that a band of a picture of any width takes about as much memory."""
    bands = [Canvas(64_000, width, 1024, 64).band for width in (1024, 6144, 12_288, 64_000)]
    assert bands == [1024, 1024, 512, 64]


def test_tiles_side_by_side_give_what_one_by_one_gives() -> None:
    canvas = Canvas(512, 512, 64, 64)
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, 32, 32)).astype(np.float32)
    results = []
    for crew in (Crew(), Crew(3)):
        result = _Kept(canvas, 8)
        run([TileStep("g", _Sums(), {"in": Planes.of(canvas, x)}, {"out": result}, canvas, reach=1, crew=crew)])
        results.append(result.view())
    np.testing.assert_array_equal(*results)


def test_an_error_in_a_crew_reaches_the_caller() -> None:
    def fail(item: int) -> None:
        if item == 3:
            raise EngineError("third")

    for crew in (Crew(), Crew(2)):
        with pytest.raises(EngineError, match="third"):
            crew.each(fail, range(9))


def test_no_work_goes_on_behind_an_error() -> None:
    begun, ended = set(), set()

    def work(item: int) -> None:
        begun.add(item)
        if item == 0:
            raise EngineError("first")
        time.sleep(0.05)
        ended.add(item)

    with pytest.raises(EngineError, match="first"):
        Crew(3).each(work, range(100))
    assert ended == begun - {0} and len(begun) < 100


def test_an_unknown_reach_runs_whole() -> None:
    canvas = Canvas(256, 256, 64, 64)
    engine, result = _Sums(), _Kept(canvas, 8)
    x = Planes.of(canvas, np.zeros((1, 1, 16, 16), np.float32))
    run([TileStep("whole", engine, {"in": x}, {"out": result}, canvas, reach=None)])
    assert engine.tallest == 16 and engine.pixels == 256


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
@pytest.mark.parametrize("tile", [64, 1024])
def test_engines_may_give_other_types(dtype: type, tile: int) -> None:
    class Other(_Sums):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            return {name: value.astype(dtype) for name, value in super().run(inputs).items()}

    canvas = Canvas(256, 256, tile, 64)
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, 16, 16)).astype(np.float32)
    results = []
    for engine in (_Sums(), Other()):
        result = _Kept(canvas, 8)
        run([TileStep("g", engine, {"in": Planes.of(canvas, x)}, {"out": result}, canvas, reach=1)])
        results.append(result.view())
    np.testing.assert_array_equal(*results)


def test_outputs_of_another_size_are_refused() -> None:
    canvas = Canvas(64, 64, 64, 64)
    x = Planes.of(canvas, np.zeros((1, 1, 4, 4), np.float32))
    step = TileStep("g_s", _Sums(), {"in": x}, {"out": Planes(canvas, 4)}, canvas, reach=1)
    with pytest.raises(EngineError, match="g_s gave out of shape"):
        step.advance(64)
    band = Band(canvas, 8, 3)
    with pytest.raises(EngineError, match="1 channels, not 3"):
        TileStep("stage 0", _Sums(), {"in": x}, {"out": band}, canvas, reach=1).advance(64)


# --- integers in 16 bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(32767, np.int16), (-32768, np.int16), (32768, np.float32), (-40000, np.float32), (0.5, np.float32)],
)
def test_integers_are_kept_in_16_bits_only_where_they_fit(value: float, dtype: type) -> None:
    """The value that does not fit comes last: what was kept before is still right."""
    canvas = Canvas(128, 64, 64, 64)
    planes = Planes(canvas, 16)
    planes.begin(0, 128)
    parts = [np.full((1, 2, 4, 4), 77, np.float32), np.full((1, 2, 4, 4), value, np.float32)]
    for number, part in enumerate(parts):
        planes.write(part, 4 * number, 0)
    planes.end(0, 128)
    assert planes.view().dtype == dtype
    np.testing.assert_array_equal(planes.view(), np.concatenate(parts, 2))
