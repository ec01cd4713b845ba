"""Photos for training: decoded when first used, kept while memory lasts, cut into random crops by threads."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from basic_runtime.errors import BasicError, ImageError
from basic_runtime.files import is_hidden, is_special
from basic_runtime.imageio import EXTENSIONS, read_picture
from basic_runtime.threads import available_cores

#: Every tenth file is kept from training, for validation, calibration and the level search.
HOLD_OUT_EVERY = 10

#: Crops are shrunk by a random factor of this range, so that no 8x8 lattice of JPEG sources is learnt.
SCALE_RANGE = (0.6, 1.0)

#: Batches prepared ahead of the one in use, for each thread that prepares them.
AHEAD = 4

Item = TypeVar("Item")

#: What seeds of random numbers begin with, so that those of crops, of widths and of noise have nothing in common.
CROPS, WIDTHS, NOISE = (int.from_bytes(kind) for kind in (b"crops", b"widths", b"noise"))

#: Threads that decode photos and cut crops; Pillow does both without the interpreter's lock.
MAX_DECODERS = 8

#: Share of the free memory that decoded photos may take when nobody says how much.
CACHE_SHARE = 0.5

#: The gamma augmentation of the original draws the exponent of its power law from this range.
GAMMA_RANGE = (0.05, 2.0)


def list_photos(folder: Path) -> list[Path]:
    """All picture files below a folder but hidden ones, sorted by path. Raises ImageError when there is none."""
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder; name a folder with PNG, JPEG or WebP photos")
    found = (p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    photos = sorted(p for p in found if not is_hidden(p.relative_to(folder)) and not is_special(p))
    if not photos:
        raise ImageError(f"{folder}: no pictures found below this folder; name a folder with PNG, JPEG or WebP photos")
    return photos


def split(photos: list[Path]) -> tuple[list[Path], list[Path]]:
    """Training and held-out photos: a fixed tenth by index is held out."""
    held_out = photos[::HOLD_OUT_EVERY]
    return [p for i, p in enumerate(photos) if i % HOLD_OUT_EVERY], held_out


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of them, evenly apart, the first among them."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def load_rgb(path: Path) -> np.ndarray:
    """Pixels of a picture as uint8 (H, W, 3)."""
    return read_picture(path).rgb


def load_all(paths: list[Path], min_side: int) -> tuple[list[np.ndarray], list[str]]:
    """Decode photos in parallel: pictures of at least `min_side` pixels, and a message per skipped file."""

    def load(path: Path) -> np.ndarray | str:
        try:
            pixels = load_rgb(path)
        except BasicError as error:
            return str(error)
        return pixels if min(pixels.shape[:2]) >= min_side else _too_small(path, min_side)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(load, paths))
    return [r for r in results if isinstance(r, np.ndarray)], [r for r in results if isinstance(r, str)]


class Photos(Protocol):
    """Pictures that crops are drawn from: pixels of each, and how often each is drawn, in any unit."""

    areas: np.ndarray

    @property
    def odds(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> np.ndarray | None:
        """uint8 (H, W, 3), or None for a file that turned out to be damaged."""
        ...

    def is_photo(self, index: int) -> bool:
        """Whether each crop of this picture is to be shrunk."""
        ...

    def forget(self) -> None:
        """Give the memory of decoded pictures back."""
        ...

    @property
    def decoders(self) -> int:
        """Threads worth using."""
        ...


class PhotoFiles:
    """Photos on disk: decoded when a crop needs them, and kept as long as `cache_bytes` of pixels allow.

    Only headers are read at first. Photos below `min_side` pixels a side are left out, as are files that turn
    out to be damaged, each with one message to `report`, which any thread may call. What fits is kept for
    good: crops are drawn independently, so replacing one photo by another would save no decoding. Raises
    ImageError when no photo is left.
    """

    def __init__(
        self,
        paths: list[Path],
        min_side: int,
        cache_bytes: int,
        report: Callable[[str], None] = print,
    ) -> None:
        self.report, self.cache_bytes = report, cache_bytes
        with ThreadPoolExecutor(MAX_DECODERS) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the reader has limits of its own
            found = list(pool.map(lambda path: _header(path, min_side), paths))
        self.paths = [path for path, size in zip(paths, found, strict=True) if isinstance(size, int)]
        self.areas = np.array([size for size in found if isinstance(size, int)], np.int64)
        for message in found:
            if isinstance(message, str):
                report(message)
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0
        self._damaged: set[int] = set()
        self._lock = threading.Lock()
        self._require_some()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def odds(self) -> np.ndarray:
        return self.areas

    def is_photo(self, index: int) -> bool:
        return True

    @property
    def decoders(self) -> int:
        """As many threads as this process has cores, or half of them when all photos stay in memory, up to 8."""
        cores = available_cores()
        stay = 3 * int(self.areas.sum()) <= self.cache_bytes
        return min(max(1, cores // 2) if stay else cores, MAX_DECODERS)

    def pixels(self, index: int) -> np.ndarray | None:
        if index in self._damaged:
            return None
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        try:
            pixels = load_rgb(self.paths[index])
        except BasicError as error:
            self._leave_out(index, str(error))
            return None
        with self._lock:
            if index not in self._kept and self._kept_bytes + pixels.nbytes <= self.cache_bytes:
                self._kept[index] = pixels
                self._kept_bytes += pixels.nbytes
        return pixels

    def forget(self) -> None:
        """Give the memory of decoded photos back."""
        with self._lock:
            self._kept, self._kept_bytes = {}, 0

    def _leave_out(self, index: int, message: str) -> None:
        with self._lock:
            if index in self._damaged:
                return
            self._damaged.add(index)
        self.report(f"{message}; skipped")
        self._require_some()

    def _require_some(self) -> None:
        if len(self._damaged) == len(self.paths):
            raise ImageError("no usable photo is left to train on; add undamaged photos of sufficient size")


class WithPages:
    """Photos with drawn pages after them, uint8 (H, W, 3) each, from which `share` of all crops come."""

    def __init__(self, photos: PhotoFiles, pages: list[np.ndarray], share: float) -> None:
        self.photos, self.pages = photos, pages
        page_areas = np.array([page.shape[0] * page.shape[1] for page in pages], np.int64)
        self.areas = np.concatenate([photos.areas, page_areas])
        odds = (1 - share) * photos.areas / photos.areas.sum(), share * page_areas / page_areas.sum()
        self.odds = np.concatenate(odds)

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def decoders(self) -> int:
        return self.photos.decoders

    def pixels(self, index: int) -> np.ndarray | None:
        return self.photos.pixels(index) if self.is_photo(index) else self.pages[index - len(self.photos)]

    def is_photo(self, index: int) -> bool:
        return index < len(self.photos)

    def forget(self) -> None:
        self.photos.forget()


def _header(path: Path, min_side: int) -> int | str:
    """Pixels of a photo by its header, or why it is left out."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception as error:  # Pillow raises anything on damaged headers
        return f"{path}: not a readable picture ({error}), skipped"
    return width * height if min(width, height) >= min_side else _too_small(path, min_side)


def _too_small(path: Path, min_side: int) -> str:
    return f"{path}: smaller than {min_side} pixels, skipped"


def cache_budget(gigabytes: float | None = None, processes: int = 1) -> int:
    """Bytes of decoded photos that each of `processes` on this machine may keep.

    `gigabytes` (10^9 bytes) are for all of them together; the default is half of the memory that is free now.
    """
    total = CACHE_SHARE * _free_memory() if gigabytes is None else gigabytes * 1e9
    return int(total / processes)


def _free_memory() -> int:
    """Bytes that this machine, or the container that this process runs in, can still give out; half of all that there
    is where the system is no Linux."""
    try:
        with open("/proc/meminfo") as file:
            values = dict(line.split(":", 1) for line in file)
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    free = 1024 * int(values["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        return min(free, max(0, limit - int((group / "memory.current").read_text())))
    except (OSError, ValueError):  # no control group, or the limit "max"
        return free


class Window(NamedTuple):
    """A square of a photo, `side` pixels wide, and how the crop made of it is turned over."""

    top: int
    left: int
    side: int
    mirrored: bool
    upside_down: bool


def random_window(height: int, width: int, size: int, rng: np.random.Generator, is_photo: bool = True) -> Window:
    """Where a crop of `size` comes from: a window larger by a random factor, as far as the picture allows. Of what is
    no photo every other crop is as it was drawn: thin lines are what matters there, and no JPEG was before it."""
    factor = rng.uniform(*SCALE_RANGE)
    if not is_photo and rng.random() < 0.5:
        factor = 1.0
    side = min(round(size / factor), height, width)
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    return Window(top, left, side, bool(rng.random() < 0.5), bool(rng.random() >= 0.5))


def random_crop(picture: np.ndarray, size: int, rng: np.random.Generator, is_photo: bool = True) -> np.ndarray:
    """A crop, uint8 (size, size, 3), from a `random_window`, randomly flipped."""
    place = random_window(*picture.shape[:2], size, rng, is_photo)
    crop = picture[place.top : place.top + place.side, place.left : place.left + place.side]
    if place.side != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    if place.mirrored:
        crop = crop[:, ::-1]
    return crop[::-1] if place.upside_down else crop


def random_gamma(rng: np.random.Generator) -> np.ndarray:
    """The original's gamma augmentation as a table of 256 values: a quarter each of sRGB to linear light, linear
    light to sRGB, a power law with a random exponent, and nothing. float32 in [0, 255], not rounded."""
    values = np.linspace(0, 1, 256)
    kind = int(rng.integers(4))
    if kind == 0:
        values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    elif kind == 1:
        values = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    elif kind == 2:
        values = values ** rng.uniform(*GAMMA_RANGE)
    return (255 * values).astype(np.float32)


def centre_crop(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle of a picture, uint8 (size, size, 3)."""
    top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return picture[top : top + size, left : left + size]


def to_tensor(crops: list[np.ndarray]) -> Tensor:
    """Crops (size, size, 3) of values 0 .. 255 as float32 (B, 3, size, size) in [0, 1], channels last in
    memory."""
    tensor = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)
    return tensor.contiguous(memory_format=torch.channels_last)


def centre_crops(
    photos: Sequence[Path], side: int, count: int, report: Callable[[str], None] = lambda _: None
) -> Tensor:
    """Middles of at most `count` of the photos, evenly chosen, float32 (N, 3, side, side) in [0, 1]; those that are too
    small or cannot be read are left out, each with a message to `report`."""
    pictures, skipped = load_all(evenly(photos, count), side)
    for message in skipped:
        report(message)
    crops = [centre_crop(picture, side) for picture in pictures]
    return to_tensor(crops) if crops else torch.empty(0, 3, side, side)


def held_out_crops(folder: Path, side: int, count: int, way_out: str) -> Tensor:
    """`centre_crops` of the held-out photos of a folder. Raises ImageError, with a way out, if none is so large."""
    crops = centre_crops(split(list_photos(folder))[1], side, count)
    if not len(crops):
        raise ImageError(f"{folder}: no held-out photo has {side} pixels a side; {way_out}")
    return crops


class CropStream:
    """Endless batches of crops, float32 (B, 3, size, size) in [0, 1], prepared ahead by threads.

    Pictures are drawn by their odds: photos in proportion to their pixels. Crop i of batch n depends on the pictures'
    odds, the seed, n and i alone: a run resumed at its n-th step sees what an uninterrupted one sees, however
    many photos stay in memory, and `ranks` processes share out the `batch` crops that one would train on. Rank
    r gets the r-th part. gamma: with the original's `random_gamma`. Raises ValueError for a batch that does
    not divide.
    """

    def __init__(
        self,
        photos: Photos,
        size: int,
        batch: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        gamma: bool = False,
    ) -> None:
        if batch % ranks:
            raise ValueError(f"a batch of {batch} crops does not divide among {ranks} processes")
        self.photos = photos
        self.size, self.seed, self.gamma = size, seed, gamma
        self.batch_size = batch // ranks
        self.first = rank * self.batch_size
        total = np.cumsum(self.photos.odds, dtype=np.float64)
        self.cumulative = total / total[-1]

    def batch(self, number: int) -> Tensor:
        """This rank's part of the batch with a number."""
        return to_tensor([self._crop(rng) for rng in self.draws(number)])

    def first_crops(self, count: int) -> Tensor:
        """The crops of the first batches, as many of these as `count` crops take."""
        return torch.cat([self.batch(number) for number in range(-(-count // self.batch_size))])

    def draws(self, number: int) -> Iterator[np.random.Generator]:
        """A generator for each of this rank's crops of a batch."""
        for position in range(self.first, self.first + self.batch_size):
            yield np.random.default_rng([CROPS, self.seed, number, position])

    def index(self, rng: np.random.Generator) -> int:
        """A random photo."""
        return int(np.searchsorted(self.cumulative, rng.random(), side="right"))

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        picture = None
        while picture is None:  # a damaged file: draw another
            index = self.index(rng)
            picture = self.photos.pixels(index)
        crop = random_crop(picture, self.size, rng, self.photos.is_photo(index))
        return random_gamma(rng)[crop] if self.gamma else crop

    def batches(self, start: int) -> Iterator[Tensor]:
        """Batches start, start + 1, ...; closing the iterator ends its threads, whose errors it raises."""
        threads = self.photos.decoders
        pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")
        ready: deque[Future[Tensor]] = deque()
        try:
            for number in count(start):
                ready.append(pool.submit(self.batch, number))
                if len(ready) > AHEAD * threads:
                    yield ready.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
