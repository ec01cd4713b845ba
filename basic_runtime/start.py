"""Where the installed commands begin: Ctrl-C may come while their modules are imported, which takes longest."""

from __future__ import annotations

import sys
from importlib import import_module


def start(program: str, module: str) -> None:
    """Run `main` of a module, and end with status 130 and one line on Ctrl-C wherever it comes."""
    try:
        import_module(module).main()
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)


def main() -> None:
    """The command `basic-run`."""
    start("basic-run", "basic_runtime.cli")
