"""A record of finished files, a JSON line each, so that a run that was stopped does only what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from basic_runtime.errors import FileError


class Journal:
    """Facts by key in a file of JSON lines. A line that a killed run left unfinished is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, dict[str, Any]] = {}
        try:
            text = path.read_bytes() if path.exists() else b""
            self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
            if text and not text.endswith(b"\n"):
                self._file.write(b"\n")
        except OSError as error:
            raise FileError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
        for line in text.splitlines():
            self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self.facts[row["key"]] = row["fact"]
        except (ValueError, KeyError, TypeError):
            return  # cut off in the middle: that file is done again

    def add(self, key: str, fact: dict[str, Any]) -> None:
        """Store a fact; it is on its way to the disk when this returns."""
        self.facts[key] = fact
        self._file.write(json.dumps({"key": key, "fact": fact}).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
