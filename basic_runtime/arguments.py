"""Checks of the numbers that callers give, before any work begins. NumPy's become Python's, as those of few bits would
overflow."""

from __future__ import annotations

import operator
from contextlib import suppress
from numbers import Real
from reprlib import repr as shortly
from typing import SupportsIndex


def whole(name: str, value: SupportsIndex) -> int:
    """The whole number `value`. Raises TypeError, which names the argument, for anything else, 7.0 and True too."""
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)
    raise TypeError(f"{name} must be a whole number, not {shown(value)}")


def number(name: str, value: object) -> float:
    """The number `value`. Raises TypeError, which names the argument, for anything else, and ValueError for one that no
    float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:  # an int that is too large
        raise ValueError(f"{name} is out of all bounds: {shown(value)}") from None


def shown(value: object) -> str:
    """The value, and no more than a line of it."""
    return " ".join(shortly(value).split())
