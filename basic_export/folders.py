"""Folders that are complete or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from basic_runtime.errors import FileError
from basic_runtime.files import reason


def beside(target: Path) -> Path:
    """A name of its own beside `target`, for what is to become that."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def clear(folder: Path, target: Path, error: BaseException | None) -> None:
    """Remove what is left of a folder that was to become `target`. Raises FileError for an `error` of the system, which
    is one of writing, as others are told by who reads."""
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(error, OSError):
        raise FileError(f"{target}: cannot be written ({reason(error)}): is there room?") from error


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
