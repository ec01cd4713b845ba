"""Numbers that callers give, checked before any work begins. NumPy's are as good as Python's, and become such: those of
few bits would overflow."""

from __future__ import annotations

import operator
from numbers import Real
from reprlib import repr as shortly
from typing import SupportsIndex


def whole(name: str, value: SupportsIndex) -> int:
    """The whole number `value`. Raises TypeError, which names the argument, for anything else, 7.0 among them."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {_shown(value)}") from None


def number(name: str, value: object) -> float:
    """The number `value`. Raises TypeError, which names the argument, for anything else."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    """The value, and no more than a line of it."""
    return " ".join(shortly(value).split())
