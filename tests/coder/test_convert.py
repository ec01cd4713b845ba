"""`convert`, from parts of arrays to parts of others, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime._native import convert

PAIRS = [(source, target) for source in (np.int16, np.int32, np.float32) for target in (np.int16, np.float32)] + [
    (np.uint8, np.uint8)
]
FILLER = 77


@st.composite
def parts(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """An array, and a part of it of the given shape: its axes in any order, every so many, forwards or backwards."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from((1, 1, 2, 3, -1, -2))) for _ in shape]
    before, after = ([draw(st.integers(0, 2)) for _ in shape] for _ in range(2))
    sizes = [b + n * abs(step) + a for b, n, step, a in zip(before, shape, steps, after, strict=True)]
    whole = np.full([sizes[axis] for axis in order], FILLER, dtype)
    turned = whole.transpose(np.argsort(order))
    cuts = tuple(slice(b, b + n * abs(s)) for b, n, s in zip(before, shape, steps, strict=True))
    part = turned[cuts][tuple(slice(None, None, step) for step in steps)]
    assert part.shape == shape
    return whole, part


@given(data=st.data(), pair=st.sampled_from(PAIRS), threads=st.integers(1, 3))
def test_parts_of_any_strides(data: st.DataObject, pair: tuple[Any, Any], threads: int) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    _, values = data.draw(parts(shape, pair[0]))
    whole, out = data.draw(parts(shape, pair[1]))
    scale = data.draw(st.sampled_from((1.0, 0.25, -3.0))) if pair[1] == np.float32 else 1.0
    values[...] = np.random.default_rng(0).integers(0, 200, shape).astype(pair[0])
    assert convert(values, out, scale, threads)
    np.testing.assert_array_equal(out, values.astype(pair[1]) * np.asarray(scale, pair[1]))
    out[...] = FILLER
    assert (whole == FILLER).all()  # nothing beside it was written


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 3, 70, 900), (100_000,), (3, 40_000), (40_000, 3)])
def test_more_than_a_thread_takes_at_a_time(shape: tuple[int, ...], threads: int) -> None:
    values = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, shape).astype(np.float32)
    out = np.empty(shape, np.int16)
    assert convert(values, out, threads=threads)
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_the_ends_of_int16_fit(dtype: type) -> None:
    values, out = np.array([-32768, -1, 0, 7, 32767], dtype), np.empty(5, np.int16)
    assert convert(values, out)
    np.testing.assert_array_equal(out, values)


@pytest.mark.parametrize(
    ("wrong", "dtype"),
    [(value, np.float32) for value in (np.nan, np.inf, -np.inf, 0.5, 32768, -32769, 1e30)]
    + [(value, np.int32) for value in (32768, -32769, 1 << 20, -(1 << 31))],
)
def test_what_int16_cannot_hold(wrong: float, dtype: type) -> None:
    for place in (0, 20_000, 39_999):
        values = np.ones(40_000, dtype)
        values[place] = wrong
        assert not convert(values, np.empty(40_000, np.int16), threads=2)


def test_wrong_arrays_are_refused() -> None:
    floats, shorts = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int16)
    for wrong in (np.zeros((3, 2), np.float32), np.zeros(6, np.float32)):
        with pytest.raises(ValueError, match="out must have the shape of values"):
            convert(floats, wrong)
    for values, out in ((floats, np.zeros((2, 3))), (np.zeros((2, 3)), floats), (np.zeros((2, 3), np.uint8), shorts)):
        with pytest.raises(TypeError, match="must have dtype"):
            convert(values, out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="integers have no scale"):
        convert(floats, shorts, 2.0)
    shorts.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        convert(floats, shorts)
    crooked = np.frombuffer(bytes(25), np.float32, 6, offset=1).reshape(2, 3)
    with pytest.raises(ValueError, match="values must be aligned"):
        convert(crooked, floats)
    with pytest.raises(ValueError, match="threads must be 1 to 1024"):
        convert(floats, floats.copy(), threads=0)


@pytest.mark.parametrize("step", [1, -1])
def test_overlapping_arrays_are_refused(step: int) -> None:
    values = np.arange(1000, dtype=np.float32)
    for one, other in ((values[:-1], values[1:]), (values[:600], values[400:])):
        with pytest.raises(ValueError, match="out overlaps values"):
            convert(one[: len(other)][::step], other[: len(one)])
    assert convert(values[:500][::step], values[500:])
    np.testing.assert_array_equal(values[500:], values[:500][::step])
