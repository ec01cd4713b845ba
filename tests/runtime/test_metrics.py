"""PSNR and bits per pixel against values worked out by hand."""

import math

import numpy as np
import pytest

from basic_runtime.metrics import bpp, psnr


def test_psnr_of_a_known_error() -> None:
    a = np.full((300, 7, 3), 100, np.uint8)
    assert psnr(a, a) == math.inf
    assert psnr(a, a + 1) == pytest.approx(48.1308036)
    assert psnr(np.zeros_like(a), np.full_like(a, 255)) == pytest.approx(0)


def test_psnr_takes_no_wrap_around_and_weighs_all_samples() -> None:
    a = np.zeros((600, 5), np.uint8)
    b = a.copy()
    b[0, 0] = 255
    assert psnr(a, b) == psnr(b, a) == pytest.approx(10 * math.log10(3000))


def test_psnr_refuses_other_shapes_and_types() -> None:
    a = np.zeros((4, 4), np.uint8)
    for b in (np.zeros((4, 5), np.uint8), a.astype(float)):
        with pytest.raises(ValueError):
            psnr(a, b)


def test_bpp() -> None:
    assert bpp(1000, 100, 40) == 2.0
