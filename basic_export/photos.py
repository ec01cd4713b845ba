"""Photos for calibration and checks: a folder of yours, or those that scikit-image brings along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from basic_export.errors import ExportError
from basic_runtime.container import QUALITY_STEPS
from basic_runtime.errors import BasicError, ImageError
from basic_train.data import evenly, list_photos, load_rgb, split
from basic_train.model.coded import analyse, to_tensor
from basic_train.model.supernet import Supernet, Widths
from basic_train.pages import draw_page

#: Colour photos inside the scikit-image package; none is downloaded.
BUNDLED = ("astronaut", "chelsea", "coffee", "rocket")

#: The photo on which exported graphs are compared with PyTorch.
CHECK_PHOTO = "astronaut"

#: Calibration uses at most this many photos, of each the middle part of at most this many pixels a side.
MOST_PHOTOS, MOST_SIDE = 48, 320

#: Photos with which the formats of fixed point are found.
FIXED_POINT_PHOTOS = 6

#: Photos of a folder that filters of pixels are fitted to, half of them, and tried on.
FILTER_PHOTOS = 96

#: Photos and drawn pages that show which hidden units are of use.
VARIED_PHOTOS, VARIED_PAGES = 24, 8

#: Every photo calibrates at the finest quality, where latents are largest, and at one of these steps in turn.
CALIBRATION_STEPS = (0, 32, 16, 48)


def calibration_photos(folder: Path | None) -> list[np.ndarray]:
    """Photos uint8 (H, W, 3) of at most `MOST_SIDE` a side, evenly chosen from a folder, or scikit-image's.

    Of a folder the held-out tenth that training never sees, where that is enough. Raises ImageError or
    ExportError.
    """
    if folder is None:
        return [_middle(bundled_photo(name)) for name in BUNDLED]
    photos = list_photos(folder)
    held_out = split(photos)[1]
    chosen = held_out if len(held_out) >= MOST_PHOTOS else photos
    return _loaded(evenly(chosen, MOST_PHOTOS), folder)


def _loaded(paths: Sequence[Path], folder: Path) -> list[np.ndarray]:
    """The middles of photos that can be read; raises ImageError if none can."""
    loaded = []
    for path in paths:
        try:
            loaded.append(_middle(load_rgb(path)))
        except BasicError:
            continue  # a damaged or huge photo is no reason not to calibrate on the others
    if not loaded:
        raise ImageError(f"{folder}: no photo in it can be read; name another folder with --data")
    return loaded


def filter_photos(folder: Path | None) -> list[np.ndarray]:
    """Photos that filters of decoded pixels are fitted to and tried on: more than calibration takes, those of the
    training among them, as a few weights remember none. Raises ImageError or ExportError."""
    if folder is None:
        return calibration_photos(None)
    return _loaded(evenly(list_photos(folder), FILTER_PHOTOS), folder)


def fixed_point_photos(folder: Path | None) -> list[np.ndarray]:
    """Some of `calibration_photos`: as many as fixed point needs, which looks at them at many qualities."""
    return list(evenly(calibration_photos(folder), FIXED_POINT_PHOTOS))


def varied_pictures(folder: Path | None) -> list[Tensor]:
    """What hidden units are tried on: some of `calibration_photos`, drawn pages, noise and a chessboard, (1, 3, H, W)
    in [0, 1] each, sides multiples of Z_STRIDE."""
    photos = evenly(calibration_photos(folder), VARIED_PHOTOS)
    pages = [_middle(draw_page(0, number)) for number in range(VARIED_PAGES)]
    return [to_tensor(picture) for picture in (*photos, *pages, *extremes())]


def extremes() -> Iterator[np.ndarray]:
    """Noise in colours and in black and white, and a chessboard, uint8 (H, W, 3)."""
    random, side = np.random.default_rng(0), 192
    yield random.integers(0, 256, (side, side, 3), np.uint8)
    yield np.repeat(random.integers(0, 2, (side, side, 1), np.uint8) * 255, 3, axis=2)
    board = np.add.outer(np.arange(side) // 8, np.arange(side) // 8) % 2 * 255
    yield np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)


def check_photo(path: Path | None) -> np.ndarray:
    """The photo for the comparison with PyTorch, uint8 (H, W, 3)."""
    return _middle(load_rgb(path) if path is not None else bundled_photo(CHECK_PHOTO))


def bundled_photo(name: str) -> np.ndarray:
    """A photo of the scikit-image package, uint8 (H, W, 3). Raises ExportError without it."""
    try:
        import skimage
    except ImportError as error:
        raise ExportError(
            "the default photos come with scikit-image: pip install scikit-image, "
            "or name your own with --data and --check-photo"
        ) from error
    folder = Path(skimage.__file__).parent / "data"
    return load_rgb(next(folder.glob(f"{name}.*")))


def calibration_latents(
    net: Supernet, photos: Sequence[np.ndarray], widths: Sequence[Widths]
) -> list[tuple[Tensor, Tensor]]:
    """Float latents (y (1, M, h, w), z (1, Cz, h/4, w/4)) of photos as these levels' encoders see them.

    All photos at the finest quality, then all with other qualities in turn; levels are cycled through.
    """
    steps = [QUALITY_STEPS - 1] * len(photos)
    steps += [CALIBRATION_STEPS[number % len(CALIBRATION_STEPS)] for number in range(len(photos))]
    return [
        analyse(net, photos[number % len(photos)], step, widths[number % len(widths)])
        for number, step in enumerate(steps)
    ]


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - MOST_SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + MOST_SIDE, left : left + MOST_SIDE]
