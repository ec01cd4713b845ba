"""Photos, the split, crops and the stream of batches."""

import os
import threading

import numpy as np
import pytest
import torch
from in_memory import PhotosInMemory
from PIL import Image

from basic_runtime.errors import ImageError
from basic_train.data import (
    NOISE,
    WIDTHS,
    CropStream,
    PhotoFiles,
    cache_budget,
    centre_crop,
    evenly,
    list_photos,
    load_all,
    load_rgb,
    random_crop,
    random_gamma,
    split,
)


def test_photos_are_found_in_sub_folders_and_sorted(tmp_path):
    for name in ("b.png", "sub/a.JPG", "a.png", "notes.txt", "._a.jpg", ".thumbnails/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(p.relative_to(tmp_path)) for p in list_photos(tmp_path)]
    assert found == ["a.png", "b.png", "sub/a.JPG"]


def test_pipes_and_folders_are_no_photos_and_dangling_links_are(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "linked.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    assert [p.name for p in list_photos(tmp_path)] == ["dangling.png"]


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


@pytest.mark.parametrize("length", [1, 5, 12, 49, 90])
def test_some_are_chosen_evenly(length):
    chosen = evenly(range(length), 12)
    gaps = set(np.diff(chosen))
    assert len(chosen) == min(length, 12) and chosen[0] == 0 and max(gaps, default=1) - min(gaps, default=1) <= 1


def test_kinds_of_random_numbers_have_nothing_in_common(photos):
    stream = CropStream(PhotosInMemory([np.zeros((64, 64, 3), np.uint8)]), 64, 4, seed=3)
    first = {kind: np.random.default_rng([kind, 3, 7]).random() for kind in (WIDTHS, NOISE)}
    crops = [rng.random() for rng in stream.draws(7)]
    assert len({*first.values(), *crops}) == 6


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
    stream = CropStream(PhotosInMemory(pictures), 64, 3, seed=5)
    early, late = stream.batches(0), stream.batches(2)
    batches = [next(early) for _ in range(4)]
    assert torch.equal(batches[2], next(late)) and torch.equal(batches[3], next(late))
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], CropStream(PhotosInMemory(pictures), 64, 3, seed=6).batch(0))
    for batch in batches:
        assert batch.shape == (3, 3, 64, 64) and batch.dtype == torch.float32
        assert batch.min() >= 0 and batch.max() <= 1 and batch.is_contiguous(memory_format=torch.channels_last)
    early.close()
    late.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("crops")]


def test_large_photos_are_drawn_more_often():
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 640, 3), 255, np.uint8)
    share = float(CropStream(PhotosInMemory([black, white]), 64, 200, seed=0).batch(0).mean())
    assert 0.8 < share < 1


def test_an_error_in_the_thread_reaches_the_loop():
    picture = np.zeros((64, 64, 3), np.uint8)
    batches = CropStream(PhotosInMemory([picture]), 64, batch=0, seed=0).batches(0)
    with pytest.raises(ValueError, match="need at least one array"):
        next(batches)


def test_ranks_share_out_the_batch_that_one_process_would_see(photos):
    pictures = [load_rgb(p) for p in list_photos(photos)]
    whole = CropStream(PhotosInMemory(pictures), 64, 6, seed=5).batch(7)
    parts = [CropStream(PhotosInMemory(pictures), 64, 6, seed=5, rank=r, ranks=3).batch(7) for r in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(ValueError, match="6 crops does not divide among 4"):
        CropStream(PhotosInMemory(pictures), 64, 6, seed=5, ranks=4)


def test_batches_do_not_depend_on_how_much_stays_in_memory(photos):
    paths = list_photos(photos)
    expected = CropStream(PhotosInMemory([load_rgb(p) for p in paths]), 64, 4, seed=1)
    one_photo = load_rgb(paths[0]).nbytes
    for cache_bytes in (0, 2 * one_photo, len(paths) * one_photo):
        files = PhotoFiles(paths, 64, cache_bytes)
        stream = CropStream(files, 64, 4, seed=1).batches(3)
        for number in range(3, 8):
            assert torch.equal(next(stream), expected.batch(number))
        stream.close()


def test_photos_are_decoded_once_while_the_budget_lasts(photos):
    path = list_photos(photos)[0]
    size = load_rgb(path).nbytes
    kept, streamed = PhotoFiles([path], 64, size), PhotoFiles([path], 64, size - 1)
    assert kept.pixels(0) is kept.pixels(0)
    assert streamed.pixels(0) is not streamed.pixels(0)
    np.testing.assert_array_equal(kept.pixels(0), streamed.pixels(0))


def test_photos_damaged_behind_their_header_are_reported_once_and_replaced(photos, tmp_path):
    good = list_photos(photos)[0]
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:4000])
    (tmp_path / "empty.jpg").touch()
    Image.new("RGB", (63, 300)).save(tmp_path / "small.png")
    messages: list[str] = []
    files = PhotoFiles([cut, good, tmp_path / "empty.jpg", tmp_path / "small.png"], 64, 0, messages.append)
    assert len(files) == 2 and len(messages) == 2
    assert "empty.jpg" in messages[0] and "small.png: smaller than 64 pixels" in messages[1]
    first = CropStream(files, 64, 8, seed=0).batch(0)
    assert [m for m in messages[2:] if "cut.png" in m and "damaged" in m] == messages[2:]
    assert len(messages) == 3 and torch.equal(first, CropStream(files, 64, 8, seed=0).batch(0))


def test_a_folder_of_damaged_photos_ends_the_run(photos, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(list_photos(photos)[0].read_bytes()[:4000])
    files = PhotoFiles([cut], 64, 0, lambda message: None)
    with pytest.raises(ImageError, match="no usable photo"):
        CropStream(files, 64, 1, seed=0).batch(0)
    with pytest.raises(ImageError, match="no usable photo"):
        PhotoFiles([tmp_path / "missing.png"], 64, 0, lambda message: None)


def test_the_budget_is_shared_by_the_processes_of_a_machine():
    assert cache_budget(6, processes=4) == 1_500_000_000
    assert 0 < cache_budget(processes=2) <= cache_budget() * 0.6


def test_gamma_keeps_black_and_white_and_the_order_of_values():
    results = [random_gamma(np.random.default_rng(seed)) for seed in range(40)]
    for result in results:
        assert result.dtype == np.float32 and result.shape == (256,) and (np.diff(result) >= 0).all()
        assert abs(result[0]) < 1e-3 and abs(result[-1] - 255) < 1e-3
    middles = [float(r[128]) for r in results]
    assert min(middles) < 60 and max(middles) > 180 and 128.0 in middles


def test_gamma_changes_crops_and_nothing_else_of_the_stream(photos):
    pictures = [load_rgb(p) for p in list_photos(photos)]
    plain = CropStream(PhotosInMemory(pictures), 64, 8, seed=0).batch(0)
    changed = CropStream(PhotosInMemory(pictures), 64, 8, seed=0, gamma=True).batch(0)
    same = [torch.equal(a, b) for a, b in zip(plain, changed, strict=True)]
    assert any(same) and not all(same) and changed.max() <= 1 + 1e-6
