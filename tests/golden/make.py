"""Writes the golden files of this folder. Run once per addition: files that are here already are never written again.

    python tests/golden/make.py

The bundle tiny-golden was made by `basic-train run --preset tiny --steps 400 --crop 128 --batch 4` on scikit-image's
photos and `basic-export run/model.safetensors -o tiny-golden --name tiny-golden`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from basic_runtime.codec import Codec
from basic_runtime.files import write_bytes
from basic_runtime.imageio import write_picture
from basic_runtime.picture import Picture

FOLDER = Path(__file__).parent

#: name: (height, width, gray, alpha, quality, level)
CASES = {
    "1x1": (1, 1, False, False, 50, 7),
    "1x64": (1, 64, False, False, 50, 0),
    "17x31": (17, 31, False, False, 100, 3),
    "gray": (70, 45, True, False, 70, 5),
    "alpha": (33, 66, False, True, 30, 2),
    "photo-like-low": (128, 192, False, False, 1, 7),
    "photo-like-high": (192, 128, False, False, 100, 7),
    "metadata": (40, 40, False, False, 60, 1),
}


def pattern(height: int, width: int) -> np.ndarray:
    """A picture with slopes, edges, a texture and noise: uint8 (height, width, 3)."""
    rows, cols = np.mgrid[:height, :width].astype(np.float64)
    disc = np.hypot(rows - height / 2, cols - width / 2) < min(height, width) / 3
    red = 255 * rows / max(1, height - 1)
    green = 127 + 120 * np.sin(cols / 5) * np.cos(rows / 9)
    blue = np.where(disc, 230.0, 255 * cols / max(1, width - 1))
    noise = np.random.default_rng(7).normal(0, 6, (height, width, 3))
    return np.clip(np.stack([red, green, blue], 2) + noise, 0, 255).astype(np.uint8)


def picture(height: int, width: int, gray: bool, alpha: bool) -> Picture:
    """The picture of a case."""
    pixels = pattern(height, width)
    plane = pattern(height, width)[:, :, 1] if alpha else None
    return Picture(np.ascontiguousarray(pixels[:, :, 0]) if gray else pixels, alpha=plane)


def main() -> None:
    codec = Codec(FOLDER / "tiny-golden")
    for name, (height, width, gray, alpha, quality, level) in CASES.items():
        file = FOLDER / f"{name}.basic"
        if file.exists():
            continue
        source = picture(height, width, gray, alpha)
        if name == "metadata":
            source.icc, source.xmp = b"golden profile" * 20, b"<x:xmpmeta/>"
        data = codec.encode(source, quality=quality, level=level)
        write_picture(str(FOLDER / f"{name}.png"), codec.decode_picture(data))
        write_bytes(str(file), data)


if __name__ == "__main__":
    main()
