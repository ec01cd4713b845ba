"""Crops cut by tensors are those that Pillow cuts."""

import numpy as np
import pytest
import torch
from PIL import Image

from basic_train import device_crops
from basic_train.data import CropStream, PhotoFiles, list_photos, random_crop, random_window
from basic_train.device_crops import DeviceCropStream

CPU = torch.device("cpu")


def levels_apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return 255 * (one - other).abs()


@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("ranks", [(0, 1), (1, 2)])
def test_batches_are_those_of_the_stream(photos, ranks, gamma):
    files = PhotoFiles(list_photos(photos), 64, 2**30)
    expected = CropStream(files, 64, 8, 5, *ranks, gamma=gamma)
    stream = DeviceCropStream(expected, CPU)
    batches = stream.batches(3)
    for number in range(3, 6):
        batch = next(batches)
        assert batch.shape == (8 // ranks[1], 3, 64, 64) and batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)
        difference = levels_apart(batch, expected.batch(number))
        assert (difference > 0.01).float().mean() < 1e-3
        assert gamma or difference.max() < 1.01
    batches.close()


@pytest.mark.parametrize("side", [40, 64, 65, 106, 107])
def test_windows_of_all_sizes_are_resampled_as_pillow_does(side):
    """Also photos smaller than a crop, which are enlarged."""
    picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    weights = device_crops.resampling(torch.tensor([side]), 64, torch.arange(side), torch.tensor([False]))[0]
    assert torch.allclose(weights.sum(1), torch.ones(64))
    values = torch.from_numpy(picture).float()
    across = torch.einsum("xj,rjc->rxc", weights, values).add(0.5).floor().clamp(0, 255)
    down = torch.einsum("yr,rxc->yxc", weights, across).add(0.5).floor().clamp(0, 255)
    assert np.abs(down.numpy() - pillow).max() <= 1


def test_windows_that_are_not_resampled_are_turned_as_drawn():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    turns = set()
    for seed in range(8):
        place = random_window(64, 64, 64, np.random.default_rng(seed))
        turns.add((place.mirrored, place.upside_down))
        crop = random_crop(picture, 64, np.random.default_rng(seed))
        rows, columns = (-1 if turned else 1 for turned in (place.upside_down, place.mirrored))
        np.testing.assert_array_equal(crop, picture[::rows, ::columns])
    assert len(turns) == 4


def test_damaged_photos_are_left_out(photos, tmp_path):
    good = list_photos(photos)[0]
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:4000])
    (tmp_path / "good.png").write_bytes(good.read_bytes())
    files = PhotoFiles(list_photos(tmp_path), 64, 2**30, lambda message: None)
    stream = CropStream(files, 64, 8, 0)
    batch = DeviceCropStream(stream, CPU).batch(0)
    assert (levels_apart(batch, stream.batch(0)) < 1.01).all()


def test_only_a_gpu_takes_photos(photos):
    assert not device_crops.fits(PhotoFiles(list_photos(photos), 64, 0), CPU)
