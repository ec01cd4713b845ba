"""What tests of the commands without Python share."""

from __future__ import annotations

import subprocess
from typing import Protocol

import numpy as np


class Command(Protocol):
    """Runs basic-decode or basic-encode with arguments."""

    def __call__(self, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...


def failure(result: subprocess.CompletedProcess[bytes], *texts: str) -> None:
    """The command ended with status 1 and one line that says all of this."""
    line = result.stderr.decode()
    assert result.returncode == 1, line
    assert line.startswith(("basic-decode: error: ", "basic-encode: error: ")) and line.count("\n") == 1
    for text in texts:
        assert text in line


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Slopes, edges and noise: uint8 (height, width, 3)."""
    rows, columns = np.mgrid[:height, :width]
    colours = np.stack([rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1), (rows * columns) // 7], 2)
    noise = np.random.default_rng(seed).integers(-20, 21, colours.shape)
    return np.clip(colours % 256 + noise, 0, 255).astype(np.uint8)
