"""The default number of threads, and a lock that is open in a forked process."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

from basic_runtime.arguments import whole

MAX_DEFAULT_THREADS = 8
"""The most threads of a session by default: a level has a dozen sessions, each with its own."""


MAX_THREADS = 1024
"""More than these are a mistake."""


def checked_threads(threads: int | None) -> int | None:
    """The number of threads; None is the default. Raises ValueError unless it is 1 to 1024, TypeError for anything but
    a whole number."""
    if threads is None:
        return None
    count = whole("threads", threads)
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"threads must be 1 to {MAX_THREADS}, not {count}")
    return count


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """The cores that this process may use, at most `MAX_DEFAULT_THREADS`."""
    return min(available_cores(), MAX_DEFAULT_THREADS)


class ProcessLock:
    """A lock that a forked process finds open, whichever thread of its parent had it; a thread may take it twice."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Make it open."""
        self._lock = threading.RLock()


_locks: WeakSet[ProcessLock] = WeakSet()


def _renew_locks() -> None:
    for lock in _locks:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
