"""One process at a time trains in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from basic_runtime.errors import FileError

LOCK_FILE = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; the lock ends with this process, however that ends. Raises FileError
    where another one has it, OSError where the folder cannot be written."""
    with open(folder / LOCK_FILE, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                f"{folder}: another process trains in it; wait for its end, or name another --output"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
