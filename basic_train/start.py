"""Where the installed command `basic-train` begins."""

from __future__ import annotations

from basic_runtime.start import start


def main() -> None:
    """The command `basic-train`."""
    start("basic-train", "basic_train.cli")
