"""Float planes to bytes, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from basic_runtime._native import from_pixels, to_pixels


def reference(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    scaled = np.floor(planes * np.float32(255) + np.float32(0.5))
    return np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 511), (2, 512), (4, 1300), (0, 4), (4, 0)])
def test_equals_numpy(shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(1).uniform(-0.2, 1.2, (3, *shape)).astype(np.float32)
    pixels = np.empty((*shape, 3), np.uint8)
    to_pixels(planes, pixels)
    np.testing.assert_array_equal(pixels, reference(planes))


def test_every_border_between_two_bytes() -> None:
    borders = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    near = np.stack([borders, np.nextafter(borders, np.float32(0)), np.nextafter(borders, np.float32(9))])
    pixels = np.empty((1, 256, 3), np.uint8)
    to_pixels(near[:, None], pixels)
    np.testing.assert_array_equal(pixels, reference(near[:, None]))


def test_what_is_no_number_of_a_picture() -> None:
    planes = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5], np.float32).reshape(3, 1, 2)
    pixels = np.empty((1, 2, 3), np.uint8)
    to_pixels(planes, pixels)
    assert pixels.transpose(2, 0, 1).ravel().tolist() == [0, 255, 0, 255, 0, 128]


def test_parts_of_larger_arrays() -> None:
    planes = np.random.default_rng(2).uniform(0, 1, (3, 20, 40)).astype(np.float32)
    whole = np.zeros((30, 50, 3), np.uint8)
    to_pixels(planes[:, 2:12, 5:38], whole[7:17, 11:44])
    wanted = np.zeros_like(whole)
    wanted[7:17, 11:44] = reference(planes[:, 2:12, 5:38])
    np.testing.assert_array_equal(whole, wanted)


def test_arrays_that_do_not_fit() -> None:
    planes, pixels = np.zeros((3, 4, 6), np.float32), np.zeros((4, 6, 3), np.uint8)
    for bad in (planes.astype(np.float64), planes.astype(np.uint8)):
        with pytest.raises(TypeError, match="planes must have dtype float32"):
            to_pixels(bad, pixels)
    with pytest.raises(TypeError, match="pixels must have dtype uint8"):
        to_pixels(planes, pixels.astype(np.int16))
    unlike = ((planes[:2], pixels), (planes[:, :3], pixels), (planes, pixels[:, :, :2]), (planes, pixels[0]))
    for first, second in unlike:
        with pytest.raises(ValueError, match="shape"):
            to_pixels(first, second)
    with pytest.raises(ValueError, match="rows of planes"):
        to_pixels(np.zeros((3, 4, 12), np.float32)[:, :, ::2], pixels)
    with pytest.raises(ValueError, match="rows of pixels"):
        to_pixels(planes, np.zeros((4, 12, 3), np.uint8)[:, ::2])
    pixels.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        to_pixels(planes, pixels)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (300, 511), (90, 1300), (0, 4), (4, 0)])
def test_shares_of_threads_are_the_whole(shape: tuple[int, int], threads: int) -> None:
    planes = np.random.default_rng(4).uniform(-0.2, 1.2, (3, *shape)).astype(np.float32)
    pixels = np.empty((*shape, 3), np.uint8)
    to_pixels(planes, pixels, threads)
    np.testing.assert_array_equal(pixels, reference(planes))
    back = np.empty_like(planes)
    from_pixels(pixels, back, threads)
    np.testing.assert_array_equal(back, pixels.transpose(2, 0, 1) * np.float32(1 / 255))


def test_bytes_to_a_part_of_planes() -> None:
    whole = np.zeros((3, 20, 40), np.float32)
    pixels = np.arange(30 * 50 * 3, dtype=np.uint32).astype(np.uint8).reshape(30, 50, 3)
    from_pixels(pixels[5:15, 7:40], whole[:, 2:12, 5:38])
    wanted = np.zeros_like(whole)
    wanted[:, 2:12, 5:38] = pixels[5:15, 7:40].transpose(2, 0, 1) * np.float32(1 / 255)
    np.testing.assert_array_equal(whole, wanted)
    with pytest.raises(ValueError, match="must have shape"):
        from_pixels(pixels, whole)
    whole.flags.writeable = False
    with pytest.raises(ValueError, match="planes is read-only"):
        from_pixels(pixels[5:15, 7:40], whole[:, 2:12, 5:38])
