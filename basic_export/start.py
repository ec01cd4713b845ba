"""Where the installed command `basic-export` begins."""

from __future__ import annotations

from basic_runtime.start import start


def main() -> None:
    """The command `basic-export`."""
    start("basic-export", "basic_export.cli")
