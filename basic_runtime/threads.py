"""How many threads work gets unless told otherwise."""

from __future__ import annotations

import os

MAX_DEFAULT_THREADS = 8
"""Threads of a session unless told otherwise, at most: a level has a dozen sessions, each with its own."""


MAX_THREADS = 1024
"""More than these are a mistake."""


def check_threads(threads: int | None) -> None:
    """Raises ValueError for a number of threads that cannot be; None is the default."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads must be 1 to {MAX_THREADS}, not {threads}")


def default_threads() -> int:
    """The cores that this process may use, at most `MAX_DEFAULT_THREADS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_DEFAULT_THREADS)
