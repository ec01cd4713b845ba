"""Folders that are complete or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from basic_runtime.errors import FileError
from basic_runtime.files import reason


@contextmanager
def whole_folder(target: Path, way_out: str = "choose another place") -> Iterator[Path]:
    """An empty folder to fill, which becomes `target` at the end; an older one there is replaced whole.

    After an error it is removed, and what was at `target` stays. Raises FileError, with `way_out`, if the folder cannot
    be made, and for any OSError raised meanwhile, which is taken for one of writing.
    """
    target = Path(os.path.abspath(target))  # "." has no name that another could begin with
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({reason(error)}); {way_out}") from error
    try:
        yield folder
        _put_in_place(folder, target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written ({reason(error)}): is there room?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, target: Path) -> None:
    """Rename a folder to one beside it; an older one there is replaced whole, or stays if that fails."""
    old = folder.with_suffix(".old")
    try:
        if target.exists():
            os.rename(target, old)
        os.rename(folder, target)
    except OSError:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
