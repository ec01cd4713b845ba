"""The bytes of files and pixels that the installed model gives in fixed point: the same on every processor, for ever.

`python tests/golden/test_pixels.py` prints the table for another model, or for other arithmetic.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from basic_runtime.codec import Codec

CASES = [(0, 1), (0, 60), (3, 100), (5, 30), (7, 1), (7, 100)]
"""Level and quality."""

EXPECTED = {
    (0, 1): ("8115736528218ad4", "98be03b37011a574"),
    (0, 60): ("4a1f0ab6fcd65c41", "5b9b54a798d8d43b"),
    (3, 100): ("6174cd011df05348", "d610034818b5d4c2"),
    (5, 30): ("f4f8f9ad82e2573e", "3177119e74e6a03a"),
    (7, 1): ("7b24b4d0187c5b49", "38836168df48bbfd"),
    (7, 100): ("1fdc49e4cc45b451", "c6eb050461edf696"),
}


def picture() -> np.ndarray:
    """Slopes, edges and some noise, of integers alone: uint8 (150, 210, 3)."""
    rows, columns = np.mgrid[:150, :210]
    disc = (rows - 70) ** 2 + (columns - 90) ** 2 < 50**2
    colours = np.stack([rows * 255 // 149, columns * 255 // 209, np.where(disc, 230, (rows * columns) // 7 % 256)], 2)
    noise = np.random.default_rng(7).integers(-9, 10, colours.shape)
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def digests(level: int, quality: int, **settings: int) -> tuple[str, str]:
    codec = Codec(**settings)
    data = codec.encode(picture(), quality, level)
    pixels = np.ascontiguousarray(codec.decode(data))
    return hashlib.sha256(data).hexdigest()[:16], hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("level", "quality"), CASES)
def test_files_and_pixels_are_those_of_every_processor(level: int, quality: int) -> None:
    assert digests(level, quality, threads=1) == EXPECTED[level, quality]
    assert digests(level, quality, threads=2, tile_pixels=64) == EXPECTED[level, quality]


if __name__ == "__main__":
    for case in CASES:
        print(f"    {case}: {digests(*case)},")
