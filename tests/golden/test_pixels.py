"""The bytes of files and pixels that the installed model gives in fixed point: the same on every processor, for ever.

`python tests/golden/test_pixels.py` prints the table for another model, or for other arithmetic.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from basic_runtime.codec import Codec

CASES = [
    *[(0, 1, 0), (0, 60, 0), (3, 100, 0), (5, 30, 0), (7, 1, 0), (7, 100, 0)],
    *[(0, 60, 1), (3, 20, 1), (7, 50, 1), (0, 60, 4), (7, 30, 2)],
]
"""Level, quality and effort."""

EXPECTED = {
    (0, 1, 0): ("fb50479a8cf4e8cb", "b10a8e3eab4375df"),
    (0, 60, 0): ("6a3b0481439fcb39", "b2737194fbf51a4a"),
    (3, 100, 0): ("c049eec62457926d", "29fa932c91f74cd4"),
    (5, 30, 0): ("1ec54545ceb23ad6", "b36f4cb7d4c509ab"),
    (7, 1, 0): ("376cb3467275db6f", "674e5bdee77c9e05"),
    (7, 100, 0): ("61a45afbb0134423", "35658c3b630ba346"),
    (0, 60, 1): ("cab8667439ce99e0", "e140768797d9ce5e"),
    (3, 20, 1): ("3fb714f46f7256d8", "185ced3656341271"),
    (7, 50, 1): ("19db25c1a2fd457a", "45007bdec1c36f07"),
    (0, 60, 4): ("edc304fcbf07d211", "07922de461d1eb34"),
    (7, 30, 2): ("bcb7c6ae4361dca3", "6af2d259807129a4"),
}


def picture() -> np.ndarray:
    """Slopes, edges and some noise, of integers alone: uint8 (150, 210, 3)."""
    rows, columns = np.mgrid[:150, :210]
    disc = (rows - 70) ** 2 + (columns - 90) ** 2 < 50**2
    colours = np.stack([rows * 255 // 149, columns * 255 // 209, np.where(disc, 230, (rows * columns) // 7 % 256)], 2)
    noise = np.random.default_rng(7).integers(-9, 10, colours.shape)
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def digests(level: int, quality: int, effort: int, **settings: int) -> tuple[str, str]:
    codec = Codec(**settings)
    data = codec.encode(picture(), quality=quality, level=level, effort=effort)
    pixels = np.ascontiguousarray(codec.decode(data))
    return hashlib.sha256(data).hexdigest()[:16], hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("case", CASES)
def test_files_and_pixels_are_those_of_every_processor(case: tuple[int, int, int]) -> None:
    assert digests(*case, threads=1) == EXPECTED[case]
    tiles = {"tile_pixels": 64} if case[2] < 2 else {}  # in which a search finds something else
    assert digests(*case, threads=2, **tiles) == EXPECTED[case]


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("lite-8", None, "5b9b54a798d8d43b"),  # before g_s got filters
        ("lite-9-level0", None, "683d878d63927f8c"),  # before level 0 was a net of its own
        ("lite-9-level3", None, "92ac9a21a58c5dbd"),
        ("lite-9-level3", 0, "358857cb068f3f6b"),
        ("lite-10-level0", None, "70e656b388f34223"),  # before level 0 went on beside the others
        ("lite-10-level0", 3, "de11547969d1860e"),
        ("lite-10-level7", 0, "22b73e2a4d6f3e15"),
        ("lite-11-level7", None, "f589a09f75b00187"),  # before level 7 got another encoder
    ],
)
def test_files_of_earlier_models_decode_as_they_did(name: str, level: int | None, expected: str) -> None:
    data = (Path(__file__).parent / "earlier" / f"{name}.basic").read_bytes()
    pixels = np.ascontiguousarray(Codec(threads=1).decode(data, level=level))
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == expected


if __name__ == "__main__":
    for case in CASES:
        print(f"    {case}: {digests(*case)},")
