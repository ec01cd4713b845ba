"""Photos for training: decoded once into memory, cut into random crops by a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from basic_runtime.errors import BasicError, ImageError
from basic_runtime.imageio import EXTENSIONS, read_picture

#: Every tenth file is kept from training, for validation, calibration and the level search.
HOLD_OUT_EVERY = 10

#: Crops are shrunk by a random factor of this range, so that no 8x8 lattice of JPEG sources is learnt.
SCALE_RANGE = (0.6, 1.0)

#: Batches prepared ahead of the one in use.
AHEAD = 4


def list_photos(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted by path. Raises ImageError when there is none."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; name a folder with PNG, JPEG or WebP photos")
    photos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not photos:
        raise ImageError(
            f"{folder}: no pictures found below this folder; name a folder with PNG, JPEG or WebP photos"
        )
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
    """Decode photos in parallel: pictures of at least `min_side` pixels, and a message per skipped file."""

    def load(path: Path) -> np.ndarray | str:
        try:
            pixels = load_rgb(path)
        except BasicError as error:
            return str(error)
        return (
            pixels
            if min(pixels.shape[:2]) >= min_side
            else f"{path}: smaller than {min_side} pixels, skipped"
        )

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(load, paths))
    return [r for r in results if isinstance(r, np.ndarray)], [r for r in results if isinstance(r, str)]


def random_crop(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A crop, uint8 (size, size, 3), shrunk from a larger window by a random factor, randomly flipped."""
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


def centre_crop(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle of a picture, uint8 (size, size, 3)."""
    top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return picture[top : top + size, left : left + size]


def to_tensor(crops: list[np.ndarray]) -> Tensor:
    """Crops, uint8 (size, size, 3), as float32 (B, 3, size, size) in [0, 1], channels last in memory."""
    tensor = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)
    return tensor.contiguous(memory_format=torch.channels_last)


class CropStream:
    """Endless batches of crops, float32 (B, 3, size, size) in [0, 1], prepared ahead in one thread.

    Larger photos are drawn more often, in proportion to their pixels. Batch n depends on the seed and n
    alone, so that a run resumed at its n-th step sees what an uninterrupted one sees.
    """

    def __init__(self, pictures: list[np.ndarray], size: int, batch: int, seed: int) -> None:
        self.pictures, self.size, self.batch_size, self.seed = pictures, size, batch, seed
        area = np.array([p.shape[0] * p.shape[1] for p in pictures], np.float64)
        self.weights = area / area.sum()

    def batch(self, number: int) -> Tensor:
        """The batch with a number."""
        rng = np.random.default_rng([self.seed, number])
        chosen = rng.choice(len(self.pictures), self.batch_size, p=self.weights)
        return to_tensor([random_crop(self.pictures[i], self.size, rng) for i in chosen])

    def batches(self, start: int) -> Iterator[Tensor]:
        """Batches start, start + 1, ...; closing the iterator ends its thread, whose errors it raises."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="crops")
        ready: deque[Future[Tensor]] = deque()
        try:
            for number in count(start):
                ready.append(pool.submit(self.batch, number))
                if len(ready) > AHEAD:
                    yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
