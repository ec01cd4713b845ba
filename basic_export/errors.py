"""The errors that exporting raises on purpose; messages are one line, as in `basic_runtime.errors`."""

from __future__ import annotations

from basic_runtime.errors import BasicError


class ExportError(BasicError):
    """A model that cannot be exported, or whose exported graphs do not compute what the model computes."""
