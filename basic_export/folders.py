"""Folders that are complete or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from basic_runtime.errors import FileError


def put_in_place(folder: Path, target: Path) -> None:
    """Rename a finished folder, which lies beside `target`, to that; an older one there is replaced whole, or stays if
    that fails. Raises FileError."""
    old = folder.with_suffix(".old")
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(folder, target)
    except OSError as error:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise FileError(f"{target}: cannot be written ({error.strerror})") from error
    shutil.rmtree(old, ignore_errors=True)
