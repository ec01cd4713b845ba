"""What /proc says of the processes that a test starts."""

from pathlib import Path


def children(process: int) -> list[str]:
    """Numbers of those that its main thread has started and that still run."""
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()
