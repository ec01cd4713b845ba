"""`python -m basic_runtime.demo`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from basic_runtime.demo import BUNDLED_PHOTOS, code_with_pillow, load_photos, side_by_side

Photo = Callable[[int, int], np.ndarray]


def test_the_bundled_photos_need_no_network() -> None:
    photos = load_photos([])
    assert [name for name, _ in photos] == list(BUNDLED_PHOTOS)
    assert all(pixels.ndim == 3 and pixels.dtype == np.uint8 for _, pixels in photos)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("gray", [False, True])
def test_rivals_get_the_size_they_may_have(photo: Photo, format: str, gray: bool) -> None:
    pixels = photo(120, 160)[:, :, 0].copy() if gray else photo(120, 160)
    coded = code_with_pillow(format, pixels, 3000)
    assert 2000 < coded.size <= 3000 and coded.psnr > 25
    assert code_with_pillow(format, pixels, 10).size > 10


@pytest.mark.parametrize("size", [(300, 200), (1, 1), (2, 500), (500, 2)])
def test_side_by_side_of_any_size(photo: Photo, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    sheet = side_by_side(pixels, [code_with_pillow("JPEG", pixels, 1000)] * 3)
    assert sheet.width == 4 * 480 + 3 * 8 and 480 < sheet.height <= 1000


def test_the_whole_demo(tiny_path: Path, tmp_path: Path, photo: Photo) -> None:
    Image.fromarray(photo(90, 110)).save(tmp_path / "mine.png")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "basic_runtime.demo", "mine.png", "-o", "out"],
        cwd=tmp_path,
        env=os.environ | {"BASIC_BUNDLE": str(tiny_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "mine, 110x90" in done.stdout and "side by side: out/demo-mine.png" in done.stdout
    names = [f"demo-{name}.png" for name in (*BUNDLED_PHOTOS, "mine")]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(names)


def test_a_missing_photo_is_one_line(tiny_path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "basic_runtime.demo", "missing.png", "--bundle", str(tiny_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("demo: error: missing.png: ") and done.stderr.count("\n") == 1
