"""The bytes of files and pixels that the installed model gives in fixed point: the same on every processor, for ever.

`python tests/golden/test_pixels.py` prints the table for another model, or for other arithmetic.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from basic_runtime.codec import Codec

CASES = [(0, 1), (0, 60), (3, 100), (5, 30), (7, 1), (7, 100)]
"""Level and quality."""

EXPECTED = {
    (0, 1): ("3beb8c6a717c089d", "4c649c125f3d5272"),
    (0, 60): ("c83f62be621f3921", "6ffba5a6d03034e3"),
    (3, 100): ("08c8af506dc421a5", "275da014ab86440f"),
    (5, 30): ("dc9c5bc10bb8ff0a", "dd55412eac02d8d7"),
    (7, 1): ("7b24b4d0187c5b49", "38836168df48bbfd"),
    (7, 100): ("5fcace30945b866f", "59e768c72774984f"),
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


def test_a_file_of_an_earlier_encoder_decodes_as_it_did() -> None:
    """Made before g_a lost the units that nothing stirs: the model's id stayed, and so did what decoding gives."""
    data = (Path(__file__).parent / "earlier" / "lite-8.basic").read_bytes()
    pixels = np.ascontiguousarray(Codec(threads=1).decode(data))
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "5b9b54a798d8d43b"


if __name__ == "__main__":
    for case in CASES:
        print(f"    {case}: {digests(*case)},")
