"""Photos, the split, crops and the stream of batches."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from basic_runtime.errors import ImageError
from basic_train.data import CropStream, centre_crop, list_photos, load_all, load_rgb, random_crop, split


def test_photos_are_found_in_sub_folders_and_sorted(tmp_path):
    for name in ("b.png", "sub/a.JPG", "a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(p.relative_to(tmp_path)) for p in list_photos(tmp_path)]
    assert found == ["a.png", "b.png", "sub/a.JPG"]


def test_folders_without_photos_are_named(tmp_path):
    with pytest.raises(ImageError, match="no pictures found below this folder"):
        list_photos(tmp_path)
    with pytest.raises(ImageError, match="missing: no such folder"):
        list_photos(tmp_path / "missing")


def test_a_fixed_tenth_is_held_out(photos):
    paths = [photos / f"{i:02}.png" for i in range(31)]
    train, held_out = split(paths)
    assert held_out == [paths[i] for i in (0, 10, 20, 30)]
    assert sorted(train + held_out) == paths and len(train) == 27


def test_small_and_damaged_files_are_skipped_with_a_reason(tmp_path):
    Image.new("L", (64, 80), 7).save(tmp_path / "gray.png")
    Image.new("RGB", (63, 80)).save(tmp_path / "small.png")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    pictures, skipped = load_all(list_photos(tmp_path), 64)
    assert len(pictures) == 1 and pictures[0].shape == (80, 64, 3) and (pictures[0] == 7).all()
    assert len(skipped) == 2
    assert "damaged.png" in skipped[0] and "small.png: smaller than 64 pixels" in skipped[1]


@pytest.mark.parametrize("shape", [(64, 64), (70, 300), (500, 400)])
def test_crops_have_the_size_asked_for(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for seed in range(20):
        crop = random_crop(picture, 64, np.random.default_rng(seed))
        assert crop.shape == (64, 64, 3) and crop.dtype == np.uint8


def test_crops_cover_the_photo_and_both_flips():
    rows = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3))
    crops = [random_crop(rows, 64, np.random.default_rng(seed)) for seed in range(100)]
    assert min(c.min() for c in crops) < 10 and max(c.max() for c in crops) > 190
    upright = sum(int(c[0, 0, 0]) < int(c[-1, 0, 0]) for c in crops)
    assert 20 < upright < 80


def test_the_centre_crop_is_the_middle():
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(centre_crop(picture, 4), picture[1:5, 2:6])


def test_batch_n_is_the_same_wherever_the_stream_starts(photos):
    pictures = [load_rgb(p) for p in list_photos(photos)]
    stream = CropStream(pictures, 64, 3, seed=5)
    early, late = stream.batches(0), stream.batches(2)
    batches = [next(early) for _ in range(4)]
    assert torch.equal(batches[2], next(late)) and torch.equal(batches[3], next(late))
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], CropStream(pictures, 64, 3, seed=6).batch(0))
    for batch in batches:
        assert batch.shape == (3, 3, 64, 64) and batch.dtype == torch.float32
        assert (
            batch.min() >= 0 and batch.max() <= 1 and batch.is_contiguous(memory_format=torch.channels_last)
        )
    early.close()
    late.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("crops")]


def test_large_photos_are_drawn_more_often():
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 640, 3), 255, np.uint8)
    share = float(CropStream([black, white], 64, 200, seed=0).batch(0).mean())
    assert 0.8 < share < 1


def test_an_error_in_the_thread_reaches_the_loop():
    picture = np.zeros((64, 64, 3), np.uint8)
    batches = CropStream([picture], 64, batch=0, seed=0).batches(0)
    with pytest.raises(ValueError, match="need at least one array"):
        next(batches)
