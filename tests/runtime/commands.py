"""What tests of the commands share."""

from __future__ import annotations

from click.testing import Result


def fails(result: Result, *parts: str) -> None:
    """The run ended with status 1 and one line on standard error that holds `parts`."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 1, result.output
    assert len(lines) == 1 and lines[0].startswith("basic-run: error: "), result.stderr
    for part in parts:
        assert part in lines[0]
