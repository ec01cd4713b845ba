"""Outputs that engines of stages may have beside those of their graph, for the way from a device to the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INDEX = "index"
"""uint8 (1, C, h, w): the row of the coder's tables for each scale."""

PACKED_MEAN = "mean.int16"
"""uint8 (1, C, h, w, 2): the means, as the bytes of little-endian int16."""


def unpacked_mean(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The means (1, C, h, w) of a `PACKED_MEAN`."""
    return packed.view("<i2")[..., 0].astype(np.float32)
