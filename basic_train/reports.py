"""How long work tells of itself."""

from __future__ import annotations

from collections.abc import Callable

#: Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def unheard(what: str, done: int, total: int) -> None:
    """For work that nobody watches."""
