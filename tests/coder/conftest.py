from __future__ import annotations

import numpy as np
import pytest

from basic_runtime.tables import TableArrays, concatenate, gaussian_rows


def extreme_rows() -> TableArrays:
    """Near-certain codes, 256 codes, raw bits up to 15, codes at both ends of int32."""
    rows = [
        ([4095, 1], 0, 0),
        ([1, 4095], 7, 0),
        ([100, 3000, 900, 96], -1, 0),
        ([16] * 256, -128, 0),
        ([16] * 256, -128, 15),
        ([2048, 2047, 1], -1, 3),
        ([2000, 2096], 2**31 - 1, 0),
        ([2000, 2096], -(2**31), 0),
    ]
    return TableArrays(
        np.array([freq for freqs, _, _ in rows for freq in freqs], np.uint16),
        np.array([len(freqs) for freqs, _, _ in rows], np.uint16),
        np.array([offset for _, offset, _ in rows], np.int32),
        np.array([shift for _, _, shift in rows], np.uint8),
    )


@pytest.fixture(scope="session")
def extreme() -> TableArrays:
    return extreme_rows()


@pytest.fixture(scope="session")
def gaussian() -> TableArrays:
    return gaussian_rows()


@pytest.fixture(scope="session")
def mixed(gaussian: TableArrays) -> TableArrays:
    return concatenate(extreme_rows(), gaussian)
