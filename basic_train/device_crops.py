"""Random crops cut on a GPU from photos in its memory, where the threads of a processor are too slow."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from basic_train.data import CropStream, Photos, Window, random_gamma, random_window

#: Share of a GPU's free memory that photos may take.
MEMORY_SHARE = 0.25

#: The parameter of Pillow's bicubic kernel, and its reach (Keys 1981).
BICUBIC, BICUBIC_REACH = -0.5, 2.0


def fits(photos: Photos, device: torch.device) -> bool:
    """Whether all photos may lie in a GPU's memory, as one uint8 for each pixel and channel."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return 3 * int(photos.areas.sum()) <= MEMORY_SHARE * free


class _Place(NamedTuple):
    """Where a crop comes from: first pixel and width of its photo in the row of all pixels, and the window there."""

    first: int
    width: int
    window: Window


class DeviceCropStream:
    """The batches of a `CropStream`, cut on `device`: a few pixels in 100,000 differ, by 1 of 255, where Pillow's
    fixed-point sums round otherwise. The stream's photos are decoded once and not kept."""

    def __init__(self, stream: CropStream, device: torch.device) -> None:
        self.stream, self.photos, self.device = stream, stream.photos, device
        self._load(stream.photos)

    def _load(self, photos: Photos) -> None:
        """All pixels as uint8 (3, N) on the device, photo after photo; damaged ones have a width of 0."""
        self.sizes = np.zeros((len(photos), 2), np.int64)
        self.firsts = np.cumsum(photos.areas) - photos.areas
        self.pixels = torch.zeros((3, int(photos.areas.sum())), dtype=torch.uint8, device=self.device)
        with ThreadPoolExecutor(photos.decoders) as pool:
            for index, pixels in enumerate(pool.map(photos.pixels, range(len(photos)))):
                if pixels is None:
                    continue
                self.sizes[index] = pixels.shape[:2]
                flat = torch.from_numpy(np.ascontiguousarray(pixels.reshape(-1, 3).T))
                self.pixels[:, self.firsts[index] : self.firsts[index] + flat.shape[1]] = flat
        photos.forget()

    def batch(self, number: int) -> Tensor:
        """This rank's part of the batch with a number, on the device."""
        return self._crops(*self._drawn(number))

    def batches(self, start: int) -> Iterator[Tensor]:
        """Batches start, start + 1, ...; a thread draws the next one's places while the device computes."""
        with ThreadPoolExecutor(1, thread_name_prefix="crops") as pool:
            following = pool.submit(self._drawn, start)
            for number in count(start + 1):
                drawn = following.result()
                following = pool.submit(self._drawn, number)
                yield self._crops(*drawn)

    def _drawn(self, number: int) -> tuple[list[_Place], list[np.ndarray]]:
        """Where the crops of a batch come from, and their gamma tables, if any."""
        places, gammas = [], []
        for rng in self.stream.draws(number):
            places.append(self._place(rng))
            if self.stream.gamma:
                gammas.append(random_gamma(rng))
        return places, gammas

    def _crops(self, places: list[_Place], gammas: list[np.ndarray]) -> Tensor:
        crops = self._cut(places)
        if gammas:
            tables = torch.from_numpy(np.stack(gammas)).to(self.device)
            crops = tables.gather(1, crops.long().flatten(1)).view_as(crops)
        return crops.div_(255).contiguous(memory_format=torch.channels_last)

    def _place(self, rng: np.random.Generator) -> _Place:
        index = self.stream.index(rng)
        while not self.sizes[index, 1]:
            index = self.stream.index(rng)
        height, width = self.sizes[index].tolist()
        window = random_window(height, width, self.stream.size, rng, self.photos.is_photo(index))
        return _Place(int(self.firsts[index]), width, window)

    def _cut(self, places: list[_Place]) -> Tensor:
        """Crops (B, 3, size, size), float32 of whole numbers 0 .. 255."""
        windows = [place.window for place in places]
        sides = self._tensor([window.side for window in windows])
        longest = torch.arange(max(window.side for window in windows), device=self.device)
        inside = torch.minimum(longest, sides[:, None] - 1)  # (B, longest)
        tops, widths = self._tensor([w.top for w in windows]), self._tensor([p.width for p in places])
        rows = (inside + tops[:, None]) * widths[:, None]
        firsts = self._tensor([place.first + place.window.left for place in places])
        pixels = self.pixels[:, (firsts[:, None, None] + rows[:, :, None] + inside[:, None, :])]
        pixels = pixels.transpose(0, 1).float()  # (B, 3, rows, columns)
        across = resampling(sides, self.stream.size, longest, self._tensor([w.mirrored for w in windows]))
        down = resampling(sides, self.stream.size, longest, self._tensor([w.upside_down for w in windows]))
        shrunk = _whole(pixels.flatten(1, 2) @ across.mT).unflatten(1, (3, -1))
        return _whole(down[:, None] @ shrunk)

    def _tensor(self, values: list[int] | list[bool]) -> Tensor:
        return torch.tensor(values, device=self.device)


def resampling(sides: Tensor, size: int, positions: Tensor, turned: Tensor) -> Tensor:
    """Weights (B, size, P) by which `size` pixels come from `sides` (B,) pixels at `positions` (P,): Pillow's bicubic
    filter, widened where it shrinks. turned (B,): last pixel first."""
    scale = (sides / size)[:, None, None]
    outputs = torch.arange(size, device=sides.device) + 0.5
    outputs = torch.where(turned[:, None], outputs.flip(0), outputs)  # (B, size)
    distance = (positions + 0.5 - outputs[:, :, None] * scale) / scale.clamp(min=1)
    weights = bicubic(distance) * (positions < sides[:, None])[:, None]
    return weights / weights.sum(2, keepdim=True)


def bicubic(x: Tensor) -> Tensor:
    """Keys's cubic convolution kernel (IEEE Trans. ASSP 29(6), 1981) with Pillow's parameter."""
    x, a = x.abs(), BICUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * a * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < BICUBIC_REACH, far, 0.0))


def _whole(values: Tensor) -> Tensor:
    """Rounded to 0 .. 255, as each of Pillow's two passes does."""
    return values.add_(0.5).floor_().clamp_(0, 255)
