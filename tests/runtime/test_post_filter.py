"""The filter of decoded pixels: its weights, their bytes and their fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from basic_runtime import post_filter_fit
from basic_runtime._native import filter_moments, post_filter
from basic_runtime.errors import FormatError
from basic_runtime.metrics import psnr
from basic_runtime.post_filter import (
    BITS,
    CLIP,
    PAIRS,
    _code,
    code_lengths,
    gray_of,
    interpolated,
    packed,
    shape_of,
    unpacked,
)
from basic_runtime.post_filter_fit import Moments, fit_if_worthwhile, fitted, strips_of

WEIGHTS = st.booleans().flatmap(
    lambda gray: st.tuples(st.just(gray), st_numpy.arrays(np.int8, shape_of(gray), elements=st.integers(-128, 127)))
)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Waves, whose neighbours tell much of a sample."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    planes = [128 + 70 * np.sin(rows / 5 + phase) * np.cos(columns / 7 + phase) for phase in phases]
    return np.asarray(np.stack(planes, -1) if len(shape) == 3 else planes[0]).round().astype(np.uint8)


def noisy(pixels: np.ndarray, much: float = 6) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, much, pixels.shape)
    return np.clip(pixels + noise, 0, 255).round().astype(np.uint8)


@given(WEIGHTS)
def test_bytes_give_the_weights_back(drawn: tuple[bool, np.ndarray]) -> None:
    gray, weights = drawn
    found = unpacked(packed(weights), gray)
    assert found.dtype == np.int8 and np.array_equal(found, weights)


@given(st.binary(max_size=150), st.booleans())
def test_any_bytes_are_weights_or_refused(payload: bytes, gray: bool) -> None:
    try:
        weights = unpacked(payload, gray)
    except FormatError:
        return
    assert weights.shape == shape_of(gray)


def test_few_weights_take_few_bytes() -> None:
    assert len(packed(np.zeros(shape_of(False), np.int8))) == 1 + 14
    assert len(packed(np.full(shape_of(True), -128, np.int8))) <= 1 + 18


@pytest.mark.parametrize("more", [b"\0", b"\1"])
def test_bytes_that_follow_are_refused(more: bytes) -> None:
    payload = packed(np.ones(shape_of(True), np.int8))
    with pytest.raises(FormatError, match="chunk filt"):
        unpacked(payload + more, True)
    with pytest.raises(FormatError, match="chunk filt"):
        unpacked(payload[:-1], True)


def test_padding_must_be_zeros() -> None:
    payload = bytearray(packed(np.zeros(shape_of(True), np.int8)))
    payload[-1] |= 1
    with pytest.raises(FormatError):
        unpacked(bytes(payload), True)


def test_a_gray_picture_is_filtered_as_its_colours_would_be() -> None:
    weights = np.random.default_rng(2).integers(-20, 20, shape_of(False)).astype(np.int8)
    gray = noisy(smooth((40, 50)))
    colours = np.repeat(gray[:, :, None], 3, axis=2)
    post_filter(colours, weights)
    post_filter(gray, gray_of(weights))
    # The mean of three, each rounded by itself, against weights that are rounded once.
    assert np.abs(colours.mean(axis=2) - gray).max() <= 4


def test_gray_weights_are_rounded_means() -> None:
    weights = np.zeros(shape_of(False), np.int8)
    weights[:, 0, 0, 0] = 1, 1, 0
    weights[:, 1, 0, 0] = -1, 0, 0
    weights[:, 2, 0, 0] = 127, 127, 127
    weights[:, 2, 1, 0] = 127, 127, 127
    assert gray_of(weights)[0, :3, 0, 0].tolist() == [1, 0, 127]


def test_weights_between_steps() -> None:
    low, high = np.full(shape_of(True), 10, np.int8), np.full(shape_of(True), -20, np.int8)
    found = {step: int(interpolated((10, 20), (low, high), step)[0, 0, 0, 0]) for step in (0, 10, 11, 15, 19, 20, 63)}
    assert found == {0: 10, 10: 10, 11: 7, 15: -5, 19: -17, 20: -20, 63: -20}


def features_of(pixels: np.ndarray) -> np.ndarray:
    """As docs/format.md has them: (n, samples)."""
    planes = np.atleast_3d(pixels).astype(np.int64)
    height, width, colours = planes.shape
    wide = np.pad(planes, ((2, 2), (2, 2), (0, 0)), mode="edge")
    found = []
    for down, right in PAIRS:
        sides = [
            wide[2 + s * down : 2 + s * down + height, 2 + s * right : 2 + s * right + width] - planes for s in (1, -1)
        ]
        clipped, linear = sum(np.clip(side, -CLIP, CLIP) for side in sides), sum(sides)
        for colour in range(colours):
            found += [clipped[:, :, colour].ravel(), linear[:, :, colour].ravel()]
    return np.array(found)


@pytest.mark.parametrize("shape", [(96, 80, 3), (41, 600), (1, 7, 3), (3, 1), (33, 257, 3)])
def test_moments_are_sums_over_samples(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    original, decoded = (rng.choice(np.array([0, 255, 90, 100], np.uint8), shape) for _ in range(2))
    features = features_of(decoded)
    errors = (original.astype(np.int64) - decoded).reshape(-1, 3 if len(shape) == 3 else 1)
    for threads in (1, 2, 5):
        found = filter_moments(decoded, original, 0, shape[0], threads)
        np.testing.assert_array_equal(found[0], features @ features.T)
        np.testing.assert_array_equal(found[1], features @ errors)
    parts = [filter_moments(decoded, original, *rows) for rows in ((0, shape[0] // 3), (shape[0] // 3, shape[0]))]
    np.testing.assert_array_equal(parts[0][0] + parts[1][0], found[0])


def test_moments_of_what_does_not_fit() -> None:
    picture = smooth((20, 10, 3))
    with pytest.raises(ValueError, match="same shape"):
        filter_moments(picture, picture[:10], 0, 10)
    with pytest.raises(ValueError, match="no such rows"):
        filter_moments(picture, picture, 0, 21)
    with pytest.raises(ValueError, match="shape"):
        filter_moments(picture[:, :, :2].copy(), picture[:, :, :2].copy(), 0, 20)


def test_code_lengths_are_those_of_the_codes() -> None:
    values = np.arange(-128, 128)
    for rice in range(8):
        assert code_lengths(values, rice).tolist() == [len(_code(int(value), rice)) for value in values]


@pytest.mark.parametrize("shape", [(96, 80, 3), (96, 80), (1, 7, 3), (3, 1), (33, 2, 3)])
def test_a_fitted_filter_does_what_it_promises(shape: tuple[int, ...]) -> None:
    original = smooth(shape)
    decoded = noisy(original)
    moments = Moments(3 if len(shape) == 3 else 1)
    moments.add(original, decoded)
    weights = fitted(moments)
    filtered = decoded.copy()
    post_filter(filtered, weights)
    errors = [float(np.square(original.astype(float) - pixels).sum()) for pixels in (decoded, filtered)]
    # Bytes round, by a twelfth of a squared unit a sample, and are bounded.
    assert errors[0] - errors[1] == pytest.approx(moments.gain(weights), abs=0.3 * original.size + 20)


def test_a_fitted_filter_takes_noise_away() -> None:
    original, decoded = smooth((96, 80, 3)), noisy(smooth((96, 80, 3)))
    moments = Moments(3)
    moments.add(original, decoded)
    filtered = decoded.copy()
    post_filter(filtered, fitted(moments))
    assert psnr(original, filtered) > psnr(original, decoded) + 2


def test_rounding_costs_little() -> None:
    """Weights that are still open make up for those that were rounded."""
    original, decoded = smooth((96, 80, 3)), noisy(smooth((96, 80, 3)))
    moments = Moments(3)
    moments.add(original, decoded)
    best = np.linalg.solve(moments.features, moments.errors)
    ideal = float((best * moments.errors).sum())
    naive = np.clip(np.rint(best.T * (1 << BITS)), -128, 127).astype(np.int8).reshape(shape_of(False))
    assert ideal >= moments.gain(fitted(moments)) > max(0.995 * ideal, moments.gain(naive))


def test_weights_stay_where_they_pay() -> None:
    original, decoded = smooth((96, 80, 3)), noisy(smooth((96, 80, 3)))
    moments = Moments(3)
    moments.add(original, decoded)
    assert fit_if_worthwhile(moments, 0.0, None) is None
    sizes = []
    for worth in (0.002, 0.02, 1.0):
        weights = fit_if_worthwhile(moments, worth, None)
        assert weights is not None
        sizes.append(len(packed(weights)))
        better = fit_if_worthwhile(moments, worth, weights)  # of two equal filters that in the file costs bits
        assert better is None
    assert sizes[0] < sizes[1] < sizes[2]


def test_strips_lie_within_the_picture() -> None:
    for width in (1, 700, 2000, 4000, 16_000, 65_535):
        for height in (*range(1, 300), *range(1000, 1300), 4097, 65_535):
            strips = strips_of(height, width)
            assert strips[0][0] >= 0 and strips[-1][1] <= height
            assert all(b - a == 64 for a, b in strips) or strips == [(0, height)]
            assert all(b <= c for (_, b), (c, _) in zip(strips, strips[1:], strict=False))
            if height * width > 6_000_000 and height > 1000:
                assert sum(b - a for a, b in strips) * width < 0.75 * height * width
    assert len(strips_of(3000, 4000)) == 8 and strips_of(1000, 2000) == [(0, 1000)]


def test_of_large_pictures_a_part_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_filter_fit, "_PIXELS", 300_000)
    original, decoded = smooth((1500, 1400)), noisy(smooth((1500, 1400)))
    assert len(strips_of(1500, 1400)) == 8
    moments, whole = Moments(1), Moments(1)
    moments.add(original, decoded)
    for top in range(0, 1500, 150):
        whole.add(original[top : top + 150], decoded[top : top + 150])
    assert np.trace(moments.features) == pytest.approx(np.trace(whole.features), rel=0.05)
    assert whole.gain(fitted(moments)) == pytest.approx(whole.gain(fitted(whole)), rel=0.01)
