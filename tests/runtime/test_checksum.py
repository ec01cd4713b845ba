"""The checksum of an array that comes in bands is that of the whole."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basic_runtime._native import crc32_of_channels, crc32_of_integers
from basic_runtime.checksum import BandedCrc


@given(
    channels=st.integers(1, 5),
    bands=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    width=st.integers(1, 40),
    before=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 99),
)
def test_bands_give_the_checksum_of_the_whole(
    channels: int, bands: list[int], width: int, before: int, seed: int
) -> None:
    whole = np.random.default_rng(seed).integers(-(2**24), 2**24 + 1, (channels, sum(bands), width), np.int32)
    crc = BandedCrc(channels)
    for band in np.split(whole.astype(np.float32), np.cumsum(bands)[:-1], axis=1):
        crc.add(crc32_of_channels(np.ascontiguousarray(band)), band[0].nbytes)
    expected = zlib.crc32(whole.astype("<i4").tobytes(), before)
    assert crc.after(before) == expected
    assert crc32_of_integers(whole.astype(np.float32), before) == expected


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 8191, 16384, 24577, 100_003])
def test_threads_give_the_checksum_of_one(count: int, threads: int) -> None:
    values = np.random.default_rng(count).integers(-(2**24), 2**24 + 1, count, np.int32)
    expected = zlib.crc32(values.astype("<i4").tobytes(), 77)
    assert crc32_of_integers(values.astype(np.float32), 77, threads) == expected
