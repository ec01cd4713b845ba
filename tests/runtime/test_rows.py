"""Graphs that run over the rows of a picture, whose engines keep what later rows need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from basic_runtime import Codec
from basic_runtime._native import IntegerNet
from basic_runtime.engines.base import Advance, FloatArray, StreamEngine
from basic_runtime.engines.native import NativeEngine, native_engines
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.flow import RowStep, drop_read, readers_of, run
from basic_runtime.planes import Planes
from basic_runtime.tiles import Canvas


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=2)


class _Below(StreamEngine):
    """Adds the row below to each row: knows a row when the next one has come."""

    inputs, outputs = ("in",), ("out",)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return self.stream()(inputs, True)

    def stream(self) -> Advance:
        kept: list[FloatArray] = []

        def advance(inputs: Mapping[str, FloatArray], last: bool) -> dict[str, FloatArray]:
            x = np.concatenate([*kept, inputs["in"]], axis=2)
            below = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:]
            kept[:] = [x[:, :, -1:]]
            return {"out": (x + below)[:, :, : x.shape[2] - (not last)]}

        return advance


def _chain(
    canvas: Canvas, x: FloatArray, side: int, after: Callable[[int, int], None] | None = None
) -> tuple[list[RowStep], list[Planes]]:
    tensors = [Planes.of(canvas, x), Planes(canvas, 16), Planes(canvas, 16)]
    steps = [
        RowStep("g", _Below(), {"in": a}, {"out": b}, canvas, side=side, after=after)
        for a, b in itertools.pairwise(tensors)
    ]
    return steps, tensors


@pytest.mark.parametrize("side", [64, 128, 300, 2000])
def test_rows_give_what_the_whole_gives(side: int) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, 60, 8)).astype(np.float32)
    steps, tensors = _chain(Canvas(960, 128, 64, 64), x, side)
    expected = [_Below().run({"in": x})["out"]]
    expected.append(_Below().run({"in": expected[0]})["out"])
    readers, found, most = readers_of(steps), [], 0
    while steps[1].done < 960:
        step = next(step for step in reversed(steps) if step.ready() > step.done)
        step.advance(step.ready())
        if step is steps[1]:
            found.append(tensors[2].rows(0, tensors[2].done).copy())
        drop_read(step, readers)
        if steps[1].done < 960:
            most = max(most, tensors[1].view().shape[2])
    assert tensors[2].done == 960
    np.testing.assert_array_equal(found[-1], expected[1])
    rows = max(64, side * side // 128 // 64 * 64) // 16
    assert most <= max(4 * (rows + 1), 1), "what was read left memory"


def test_what_comes_after_sees_rows_that_are_written() -> None:
    canvas, x = Canvas(256, 64, 64, 64), np.ones((1, 1, 16, 4), np.float32)
    seen: list[tuple[int, int]] = []
    steps, tensors = _chain(canvas, x, 64, lambda first, last: seen.append((first, last)))
    run(steps[:1])
    assert seen == [(0, 48), (48, 112), (112, 176), (176, 256)]
    seen.clear()
    steps, tensors = _chain(canvas, x, 64, lambda first, last: seen.append((first, last)))
    steps[0].advance(256)  # as a decoder does, whose stages come one after the other
    assert seen == [(0, 256)] and tensors[1].done == 256


def test_rows_at_a_time_are_fewer_in_wide_pictures() -> None:
    rows = [Canvas(64_000, width, 1024, 64).rows_at_once(1024) for width in (1024, 2048, 6144, 64_000)]
    assert rows == [1024, 512, 128, 64]


def test_networks_of_all_transforms_run_over_rows(codec: Codec) -> None:
    """What rows in parts of any size give is what the whole tensors give."""
    rng = np.random.default_rng(0)
    path, bundle = PixelPath(codec.bundle), codec.bundle
    for level in (0, 4, 7):
        spec = bundle.level(level)
        inputs = {
            spec.g_a: {"x": rng.integers(0, 256, (1, 384, 80, 3), dtype=np.uint8).transpose(0, 3, 1, 2)},
            spec.g_s: {"y": rng.integers(-900, 900, (1, bundle.manifest.y_channels, 24, 6), dtype=np.int16)},
        }
        for graph, given in inputs.items():
            (engine,) = path.engines(graph, 40, 2)
            ((name, values),) = given.items()
            unit = 16 if name == "x" else 1
            whole = {key: np.asarray(value) for key, value in engine.run(given).items()}
            advance, parts, first = engine.stream(), [], 0
            for rows in (1, 5, 2, 9, 7):
                last = first + rows * unit
                some = advance({name: values[:, :, first:last]}, last == values.shape[2])
                parts.append({key: np.asarray(value) for key, value in some.items()})
                first = last
            for key, value in whole.items():
                np.testing.assert_array_equal(np.concatenate([part[key] for part in parts], axis=2), value)


def test_a_stream_refuses_what_does_not_follow() -> None:
    ones, bounds = np.ones(2, np.float32), (np.full(2, -9.0, np.float32), np.full(2, 9.0, np.float32))
    net = IntegerNet([(ones, *bounds, 1)], [], [([(0, 0, 2, 1, 0, 0)], 1.0)])
    stream, x = net.stream(), np.ones((1, 2, 3, 4), np.float32)
    (found,) = stream.advance([x], False)
    np.testing.assert_array_equal(found, x)
    with pytest.raises(ValueError, match="other columns than before"):
        stream.advance([x[..., :3]], False)
    stream.advance([x], True)
    with pytest.raises(ValueError, match="after the last ones"):
        stream.advance([x], True)
    phases = IntegerNet([(ones, *bounds, 1)], [], [([(0, 0, 2, 2, 0, 0)], 1.0)])
    with pytest.raises(ValueError, match="not given by rows"):
        phases.stream()


def test_engines_of_stages_run_over_rows(codec: Codec) -> None:
    engines = native_engines(codec.bundle, 0, 1)
    assert engines is not None
    spec = codec.bundle.entropy(0).stages[1]
    engine = engines[spec.graph]
    assert isinstance(engine, NativeEngine)
    rng = np.random.default_rng(0)
    h_s = engines[codec.bundle.entropy(0).h_s]
    prior = h_s.run(
        {h_s.inputs[0]: rng.integers(-3, 4, (1, codec.bundle.manifest.z_channels, 5, 4)).astype(np.float32)}
    )
    given = {name: np.asarray(prior[name]) for name in engine.inputs if name in prior}
    rows, columns = next(iter(given.values())).shape[2:]
    given |= {
        name: rng.integers(-2000, 2000, (1, 160, rows, columns), dtype=np.int16)
        for name in engine.inputs
        if name not in given
    }
    whole = {key: np.asarray(value) for key, value in engine.run(given).items()}
    advance, parts = engine.stream(), []
    for first, last in ((0, 3), (3, 4), (4, rows)):
        some = advance({name: value[:, :, first:last] for name, value in given.items()}, last == rows)
        parts.append({key: np.asarray(value) for key, value in some.items()})
        assert len({value.shape[2] for value in parts[-1].values()}) == 1, "of each output as many rows"
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[key] for part in parts], axis=2), value)
