"""Bytes and tables from anywhere: a typed error or symbols, never a crash, a hang or a large allocation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime._native import fit_filter
from basic_runtime.coder import Decoder, Encoder, StreamError, Tables

from .conftest import extreme_rows

TABLES = extreme_rows().coder_tables()
RNG = np.random.default_rng(5)
STAGES = [
    (RNG.integers(-9, 10, size).astype(np.int32), RNG.integers(0, TABLES.rows, size).astype(np.uint8))
    for size in (90, 0, 45)
]
LANES = [1, 2, 8, 64]


def encoded(lanes: int) -> bytes:
    encoder = Encoder(TABLES)
    for stage in STAGES:
        encoder.put(*stage)
    return encoder.finish(lanes)


def decode(data: bytes) -> list[np.ndarray]:
    decoder = Decoder(TABLES, data)
    result = [decoder.get(indexes) for _, indexes in STAGES]
    decoder.finish()
    return result


def test_stream_error_is_a_value_error() -> None:
    assert issubclass(StreamError, ValueError)


@pytest.mark.parametrize("lanes", LANES)
def test_truncated(lanes: int) -> None:
    data = encoded(lanes)
    for length in range(len(data)):
        with pytest.raises(StreamError):
            decode(data[:length])


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\xff\xff", b"\1\2\3"])
def test_extended(lanes: int, extra: bytes) -> None:
    with pytest.raises(StreamError):
        decode(encoded(lanes) + extra)


@pytest.mark.parametrize("lanes", LANES)
def test_bit_flips_give_an_error_or_symbols(lanes: int) -> None:
    data = encoded(lanes)
    unnoticed = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decode(bytes(flipped))
            unnoticed += 1
        except StreamError:
            pass
    assert unnoticed < 8 * len(data) / 2  # raw bits carry no redundancy


@pytest.mark.parametrize("lanes", LANES)
def test_other_lane_count(lanes: int) -> None:
    data = encoded(lanes)
    for log2 in range(8):
        if log2 != data[0] & 7:
            with pytest.raises(StreamError):
                decode(bytes([data[0] & ~7 | log2]) + data[1:])


@pytest.mark.parametrize("lanes", LANES)
def test_other_indexes(lanes: int) -> None:
    data = encoded(lanes)
    decoder = Decoder(TABLES, data)
    with pytest.raises(StreamError):
        for _, indexes in STAGES:
            decoder.get((indexes + 1) % TABLES.rows)
        decoder.finish()


@pytest.mark.parametrize("lanes", LANES)
def test_more_or_fewer_symbols_than_coded(lanes: int) -> None:
    data = encoded(lanes)
    for change in (lambda i: i[:-1], lambda i: np.append(i, np.uint8(0))):
        decoder = Decoder(TABLES, data)
        decoder.get(STAGES[0][1])
        with pytest.raises(StreamError):
            decoder.get(change(STAGES[2][1]))
            decoder.finish()
    with pytest.raises(StreamError):
        Decoder(TABLES, data).finish()


@given(st.binary(max_size=300), st.integers(0, 15))
def test_noise(noise: bytes, flags: int) -> None:
    for data in (noise, bytes([flags]) + noise):
        try:
            decode(data)
        except StreamError as error:
            assert str(error).startswith("coder stream: ")


@pytest.mark.parametrize(
    "hexes",
    [
        "",
        "07 0000 0100" + "00" * 999,  # 128 lanes
        "10 00000100",  # unknown flag
        "08 00 00000100",  # side bits of length 0
        "08 ffffffffffffffffff7f 00000100",  # side bits of 2^63 bytes and more
        "08 ffffffffffffffff7f 00000100",
        "06 ffffffffffffffff7f",  # lanes without states
        "01 8000 00000100 00000100",  # number not in its shortest form
        "00 ffff0000",  # state below 2^16
        "00 00000100 00",  # half a word
        "01 00 00000100 00000200",  # lane 1 not in its initial state
        "08 01 00000100 01",  # padding is not zero
    ],
)
def test_bad_headers(hexes: str) -> None:
    with pytest.raises(StreamError):
        Decoder(TABLES, bytes.fromhex(hexes)).finish()


def test_long_escape_is_refused() -> None:
    """33 zeros in an Elias gamma code: no distance between 32-bit numbers is that long."""
    stage = np.array([2**31 - 1], np.int32), np.array([0], np.uint8)
    encoder = Encoder(TABLES)
    encoder.put(*stage)
    data = bytearray(encoder.finish())
    flags, length = data[0], data[1]
    assert flags == 8 and length == 8
    data[-8:] = bytes(8)
    with pytest.raises(StreamError, match="escape"):
        Decoder(TABLES, bytes(data)).get(stage[1])


def _tables(freqs: list[int], sizes: list[int], offsets: list[int], shifts: list[int]) -> Tables:
    return Tables(
        np.array(freqs, np.uint16),
        np.array(sizes, np.uint16),
        np.array(offsets, np.int32),
        np.array(shifts, np.uint8),
    )


@pytest.mark.parametrize(
    ("freqs", "sizes", "offsets", "shifts"),
    [
        ([], [], [], []),
        ([4096], [1], [0], [0]),
        ([], [0], [0], [0]),
        ([4095, 2], [2], [0], [0]),
        ([4095], [2], [0], [0]),
        ([4000, 95], [2], [0], [0]),
        ([4096, 0], [2], [0], [0]),
        ([65535, 1], [2], [0], [0]),
        ([8] * 512, [512], [0], [0]),
        ([4095, 1], [2], [0], [16]),
        ([4095, 1], [2], [2**31 - 1], [1]),
        ([4095, 1], [2], [-(2**31)], [1]),
        ([4094, 1, 1], [3], [2**31 - 1], [0]),
        ([4095, 1], [2], [0, 0], [0]),
        ([4095, 1], [2], [0], [0, 0]),
        ([4095, 1] * 257, [2] * 257, [0] * 257, [0] * 257),
    ],
)
def test_bad_tables(freqs: list[int], sizes: list[int], offsets: list[int], shifts: list[int]) -> None:
    with pytest.raises(ValueError, match="tables: "):
        _tables(freqs, sizes, offsets, shifts)


def test_tables_refuse_other_dtypes_and_shapes() -> None:
    freqs, sizes = np.array([4095, 1], np.uint16), np.array([2], np.uint16)
    offsets, shifts = np.array([0], np.int32), np.array([0], np.uint8)
    with pytest.raises(TypeError, match="freqs"):
        Tables(freqs.astype(np.int64), sizes, offsets, shifts)
    with pytest.raises(TypeError, match="shifts"):
        Tables(freqs, sizes, offsets, shifts.astype(np.int8))
    with pytest.raises(ValueError, match="dimension"):
        Tables(freqs[None], sizes, offsets, shifts)
    assert Tables(freqs, sizes, offsets, shifts).rows == 1


@pytest.mark.parametrize("make", [Encoder, lambda tables: Decoder(tables, encoded(1))])
def test_no_tables_are_a_type_error(make: Callable[[None], object]) -> None:
    with pytest.raises(TypeError, match="incompatible"):
        make(None)


def test_symbols_are_not_written_over_the_rows_that_are_still_to_be_read() -> None:
    buffer = np.zeros(400, np.uint8)
    encoder = Encoder(TABLES)
    encoder.put(np.zeros(100, np.int32), buffer[:100])
    decoder = Decoder(TABLES, encoder.finish())
    with pytest.raises(ValueError, match="out overlaps indexes"):
        decoder.get(buffer[:100], buffer.view(np.int32))
    assert not decoder.get(buffer[:100], np.empty(100, np.int32)).any()  # nothing was read


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_moments_that_are_no_numbers_are_refused(wrong: float) -> None:
    features, errors = np.eye(12), np.ones((12, 1))
    assert fit_filter(features, errors, 1.0).dtype == np.int8
    for arrays in ((wrong * np.ones((12, 12)), errors), (features, wrong * errors)):
        with pytest.raises(ValueError, match="must be finite"):
            fit_filter(*arrays, 1.0)
    with pytest.raises(ValueError, match="must be finite"):
        fit_filter(features, errors, np.nan)
    with pytest.raises(ValueError, match="features are no sums of products"):
        fit_filter(np.full_like(features, 1e200), errors, 1.0)
