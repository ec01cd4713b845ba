"""Photos for training: decoded once into memory, cut into random crops by a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from basic_runtime.errors import ImageError
from basic_runtime.imageio import read_picture

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".bmp"}

#: Every tenth file is kept from training, for validation, calibration and the level search.
HOLD_OUT_EVERY = 10

#: Crops are shrunk by a random factor of this range, so that no 8x8 lattice of JPEG sources is learnt.
SCALE_RANGE = (0.6, 1.0)


def list_photos(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted by path. Raises ImageError when there is none."""
    photos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not photos:
        raise ImageError(f"{folder}: no pictures found below this folder; name a folder with PNG, JPEG or WebP photos")
    return photos


def split(photos: list[Path]) -> tuple[list[Path], list[Path]]:
    """Training and held-out photos: a fixed tenth by index is held out."""
    held_out = photos[::HOLD_OUT_EVERY]
    return [p for i, p in enumerate(photos) if i % HOLD_OUT_EVERY], held_out


def load_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as uint8 (H, W, 3)."""
    pixels = read_picture(path).pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def load_all(paths: list[Path], min_side: int) -> tuple[list[np.ndarray], list[str]]:
    """Decode photos in parallel: pictures of at least `min_side` pixels a side, and a message per skipped file."""

    def load(path: Path) -> np.ndarray | str:
        try:
            pixels = load_rgb(path)
        except ImageError as error:
            return str(error)
        return pixels if min(pixels.shape[:2]) >= min_side else f"{path}: smaller than {min_side} pixels, skipped"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(load, paths))
    return [r for r in results if isinstance(r, np.ndarray)], [r for r in results if isinstance(r, str)]


def random_crop(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A size x size crop, uint8 (size, size, 3), shrunk from a larger window by a random factor, randomly flipped."""
    factor = rng.uniform(*SCALE_RANGE)
    window = min(round(size / factor), *picture.shape[:2])
    top = int(rng.integers(picture.shape[0] - window + 1))
    left = int(rng.integers(picture.shape[1] - window + 1))
    crop = picture[top : top + window, left : left + window]
    if window != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return crop if rng.random() < 0.5 else crop[::-1]


class CropStream:
    """Endless batches of crops, float32 (B, 3, size, size) in [0, 1], prepared ahead in one thread.

    Larger photos are drawn more often, in proportion to their pixels.
    """

    def __init__(self, pictures: list[np.ndarray], size: int, batch: int, seed: int) -> None:
        self.pictures, self.size, self.batch = pictures, size, batch
        self.rng = np.random.default_rng(seed)
        area = np.array([p.shape[0] * p.shape[1] for p in pictures], np.float64)
        self.weights = area / area.sum()
        self.ready: queue.Queue[Tensor] = queue.Queue(maxsize=4)
        threading.Thread(target=self._produce, daemon=True).start()

    def _produce(self) -> None:
        while True:
            chosen = self.rng.choice(len(self.pictures), self.batch, p=self.weights)
            crops = np.stack([random_crop(self.pictures[i], self.size, self.rng) for i in chosen])
            tensor = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
            self.ready.put(tensor.contiguous(memory_format=torch.channels_last))

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.ready.get()
