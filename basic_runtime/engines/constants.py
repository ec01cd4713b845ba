"""Constants of a graph that is taken apart (`entropy_graph`, `pixel_graph`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def constant(value: Any) -> NDArray[Any]:
    """The array of a value that is there before the graph runs. Raises ValueError for any other."""
    if not isinstance(value, np.ndarray):
        raise ValueError("a value that should be a constant")
    return value


def per_channel(values: NDArray[Any], count: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """One value for each of `count` channels: a new array (count,). Raises ValueError for another number of values."""
    if values.size not in (1, count):
        raise ValueError(f"{values.size} values for {count} channels")
    return np.array(np.broadcast_to(values.reshape(-1), count), dtype)
