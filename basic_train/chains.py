"""Chains of configurations of widths, from cheap to full, along which no transform gets narrower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from basic_runtime.errors import BasicError
from basic_train.model.supernet import Widths

#: A chain may not rise by less than this factor per level.
SMALLEST_RISE = 1.02


class LevelError(BasicError):
    """No level table can be made."""


def targets(low: float, high: float, count: int, spacing: str) -> np.ndarray:
    """`count` costs from low to high in a "geometric" or "linear" series."""
    return np.geomspace(low, high, count) if spacing == "geometric" else np.linspace(low, high, count)


def best_chain(configurations: Sequence[Widths], costs: np.ndarray, penalty: np.ndarray, starts: int = 1) -> list[int]:
    """Indexes of the chain with the least sum of penalties, by dynamic programming.

    configurations: in order of cost, one of the first `starts` of which begins the chain and the last of which ends
    it; costs (N,); penalty (levels, N): of a configuration at a level. In a chain no transform gets narrower and each
    level costs at least SMALLEST_RISE times the one before. Raises LevelError if there is no such chain.
    """
    widths, logs, count = np.array(configurations), np.log(costs), len(penalty)
    if count == 1:
        return [len(logs) - 1]
    follows = (widths[None] >= widths[:, None]).all(2) & (logs[None] - logs[:, None] >= np.log(SMALLEST_RISE))
    best = np.where(np.arange(len(logs)) < starts, penalty[0], np.inf)
    origins = []
    for level in range(1, count):
        reach = np.where(follows, best[:, None], np.inf)
        origins.append(reach.argmin(0))
        best = reach.min(0) + penalty[level]
    if not np.isfinite(best[-1]):
        raise LevelError(f"{count} levels are too many for these widths: pass fewer --levels")
    chain = [len(logs) - 1]
    for origin in reversed(origins):
        chain.append(int(origin[chain[-1]]))
    return chain[::-1]
