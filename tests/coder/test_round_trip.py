"""Whatever is put in comes out, for any stages, symbols, rows and lanes, and as docs/coder-stream.md says."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime.coder import Decoder, Encoder, StreamError, Tables
from basic_runtime.tables import TableArrays

from .conftest import extreme_rows
from .reference import ReferenceDecoder

LANES = [1, 2, 4, 8, 16, 32, 64]
EXTREME = extreme_rows()
TABLES = EXTREME.coder_tables()
INT16 = st.integers(-(2**15), 2**15 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)


def stages_of(symbols: st.SearchStrategy[int], rows: int) -> st.SearchStrategy:
    near = st.integers(-9, 9)
    pair = st.tuples(near | near | symbols, st.integers(0, rows - 1))
    return st.lists(st.lists(pair, max_size=60), max_size=5)


def arrays(stages: list, dtype: type) -> list[tuple[np.ndarray, np.ndarray]]:
    def column(stage: list, which: int, kind: type) -> np.ndarray:
        return np.array([pair[which] for pair in stage], kind)

    return [(column(stage, 0, dtype), column(stage, 1, np.uint8)) for stage in stages]


def encode(tables: Tables, stages: list[tuple[np.ndarray, np.ndarray]], lanes: int = 0) -> bytes:
    encoder = Encoder(tables)
    for symbols, indexes in stages:
        encoder.put(symbols, indexes)
    return encoder.finish(lanes)


@given(stages_of(INT32, TABLES.rows), st.sampled_from([0, *LANES]))
def test_any_int32(stages: list, lanes: int) -> None:
    stages = arrays(stages, np.int32)
    data = encode(TABLES, stages, lanes)
    decoder = Decoder(TABLES, data)
    reference = ReferenceDecoder(EXTREME, data)
    for symbols, indexes in stages:
        decoded = decoder.get(indexes)
        assert decoded.dtype == np.int32
        np.testing.assert_array_equal(decoded, symbols)
        assert reference.get(indexes.tolist()) == symbols.tolist()
    decoder.finish()
    reference.finish()


@given(stages_of(INT16, TABLES.rows), st.sampled_from([0, *LANES]))
def test_any_int16(stages: list, lanes: int) -> None:
    narrow = arrays(stages, np.int16)
    data = encode(TABLES, narrow, lanes)
    assert data == encode(TABLES, arrays(stages, np.int32), lanes)
    decoder = Decoder(TABLES, data)
    for symbols, indexes in narrow:
        out = np.empty(symbols.size, np.int16)
        assert decoder.get(indexes, out=out) is out
        np.testing.assert_array_equal(out, symbols)
    decoder.finish()


@pytest.mark.parametrize("lanes", LANES)
def test_every_lane_count_follows_the_specification(mixed: TableArrays, lanes: int) -> None:
    rng = np.random.default_rng(lanes)
    stages = []
    for size in (700, 1, 0, 3, 2500, 64):
        symbols = np.rint(rng.standard_t(3, size) * 4).astype(np.int32)
        stages.append((symbols, rng.integers(0, mixed.sizes.size, size).astype(np.uint8)))
    tables = mixed.coder_tables()
    data = encode(tables, stages, lanes)
    decoder, reference = Decoder(tables, data), ReferenceDecoder(mixed, data)
    assert decoder.lanes == lanes
    for symbols, indexes in stages:
        np.testing.assert_array_equal(decoder.get(indexes), symbols)
        assert reference.get(indexes.tolist()) == symbols.tolist()
    decoder.finish()
    reference.finish()


def test_shapes_are_kept() -> None:
    symbols = np.arange(-12, 12, dtype=np.int32).reshape(2, 3, 4)
    indexes = np.full((2, 3, 4), 3, np.uint8)
    data = encode(TABLES, [(symbols, indexes)])
    np.testing.assert_array_equal(Decoder(TABLES, data).get(indexes), symbols)
    out = np.empty(24, np.int16)
    assert Decoder(TABLES, data).get(indexes, out=out).shape == (24,)


def test_nothing_and_one_symbol() -> None:
    assert encode(TABLES, []) == bytes.fromhex("0000000100")
    empty = np.empty((0, 4), np.int32), np.empty((0, 4), np.uint8)
    data = encode(TABLES, [empty, empty])
    assert len(data) == 5
    decoder = Decoder(TABLES, data)
    assert decoder.get(empty[1]).shape == (0, 4)
    decoder.finish()
    for symbol in (0, 1, -(2**31), 2**31 - 1):
        one = np.array([symbol], np.int32), np.array([0], np.uint8)
        data = encode(TABLES, [one])
        assert len(data) <= 16
        assert Decoder(TABLES, data).get(one[1]).tolist() == [symbol]


def test_encoder_is_empty_after_finish_and_reset() -> None:
    stage = np.array([1, -1], np.int16), np.array([2, 3], np.uint8)
    encoder = Encoder(TABLES)
    encoder.put(*stage)
    encoder.reset()
    assert encoder.finish() == encode(TABLES, [])
    encoder.put(*stage)
    assert encoder.finish() == encode(TABLES, [stage])
    assert encoder.finish() == encode(TABLES, [])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_bytes_and_is_copied(kind: type) -> None:
    stage = np.array([1, -1], np.int32), np.array([2, 3], np.uint8)
    data = kind(encode(TABLES, [stage]))
    decoder = Decoder(TABLES, data)
    if kind is bytearray:
        data[:] = bytes(len(data))
    assert decoder.get(stage[1]).tolist() == [1, -1]
    decoder.finish()


def test_wrong_arrays_are_refused() -> None:
    indexes = np.array([2, 2, 3, 3], np.uint8)
    symbols = np.array([0, 1, 2, 3], np.int32)
    encoder = Encoder(TABLES)
    for wrong in (np.int64, np.uint16, np.float32, np.int8, ">i4"):
        with pytest.raises(TypeError, match="symbols must have dtype"):
            encoder.put(symbols.astype(wrong), indexes)
    with pytest.raises(TypeError, match="indexes must have dtype"):
        encoder.put(symbols, indexes.astype(np.int32))
    with pytest.raises(TypeError):
        encoder.put(symbols.tolist(), indexes)
    with pytest.raises(ValueError, match="contiguous"):
        encoder.put(symbols[::2], indexes[:2])
    with pytest.raises(ValueError, match="contiguous"):
        encoder.put(symbols.reshape(2, 2), indexes.reshape(2, 2).T)
    with pytest.raises(ValueError, match="size"):
        encoder.put(symbols, indexes[:3])
    with pytest.raises(ValueError, match="index beyond"):
        encoder.put(symbols, np.array([0, 1, 2, TABLES.rows], np.uint8))
    for lanes in (-1, 3, 65, 128):
        with pytest.raises(ValueError, match="lanes"):
            encoder.finish(lanes)
    encoder.put(symbols, indexes)
    data = encoder.finish()
    assert data == encode(TABLES, [(symbols, indexes)])  # refused calls left no trace

    decoder = Decoder(TABLES, data)
    with pytest.raises(TypeError, match="indexes must have dtype"):
        decoder.get(indexes.astype(np.int64))
    with pytest.raises(ValueError, match="contiguous"):
        decoder.get(np.repeat(indexes, 2)[::2])
    for wrong in (np.int64, np.uint8, np.float32):
        with pytest.raises(TypeError, match="out must have dtype"):
            decoder.get(indexes, out=np.empty(4, wrong))
    with pytest.raises(ValueError, match="contiguous"):
        decoder.get(indexes, out=np.empty(8, np.int32)[::2])
    with pytest.raises(ValueError, match="size"):
        decoder.get(indexes, out=np.empty(5, np.int32))
    with pytest.raises(ValueError, match="index beyond"):
        decoder.get(np.full(4, 255, np.uint8))
    read_only = np.empty(4, np.int32)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        decoder.get(indexes, out=read_only)
    with pytest.raises(ValueError, match="contiguous"):
        Decoder(TABLES, memoryview(data)[::2])
    np.testing.assert_array_equal(decoder.get(indexes), symbols)
    decoder.finish()


def test_symbol_too_large_for_out() -> None:
    stage = np.array([40000], np.int32), np.array([2], np.uint8)
    decoder = Decoder(TABLES, encode(TABLES, [stage]))
    with pytest.raises(StreamError, match="out of range"):
        decoder.get(stage[1], out=np.empty(1, np.int16))
    with pytest.raises(StreamError):
        decoder.get(stage[1])


def test_tables_are_shared_by_threads(gaussian: TableArrays) -> None:
    tables = gaussian.coder_tables()  # its rows are built by whichever thread comes first
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, 64, 50_000).astype(np.uint8)
    symbols = rng.integers(-3, 4, 50_000).astype(np.int32)
    data = encode(gaussian.coder_tables(), [(symbols, indexes)])
    equal = []

    def work() -> None:
        equal.append(np.array_equal(Decoder(tables, data).get(indexes), symbols))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 6
