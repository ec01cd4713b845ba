"""The filter of decoded pixels in files and bundles: on the model that ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from basic_runtime import _native, container, post_filter, post_filter_fit
from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.errors import BundleError
from basic_runtime.limits import DEFAULT_LIMITS
from basic_runtime.metrics import psnr
from basic_runtime.picture import as_picture
from basic_runtime.quality import quality_step

from .test_bundle import edit_manifest

Photo = Callable[[int, int], np.ndarray]

QUALITY = 60


@pytest.fixture(scope="module")
def photo() -> Photo:
    """photo(height, width): a part of a photo, as noise drawn at random has neighbours that tell nothing."""
    from skimage import data

    return lambda height, width: np.ascontiguousarray(data.astronaut()[60 : 60 + height, 120 : 120 + width])


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=1)


def parts(data: bytes) -> container.Container:
    return container.read(data)


def with_filter(data: bytes, weights: np.ndarray | None) -> bytes:
    return container.write(replace(parts(data), post_filter=weights))


def nothing(gray: bool = False) -> np.ndarray:
    return np.zeros(post_filter.shape_of(gray), np.int8)


def test_the_cheapest_level_has_a_filter_and_the_best_has_none(codec: Codec) -> None:
    manifest = codec.bundle.manifest
    cheapest, best = (codec.bundle.graph(manifest.levels[level].g_s).post_filter for level in (0, 7))
    assert cheapest is not None and best is None


def test_the_bundles_filter_brings_photos_closer(codec: Codec, photo: Photo) -> None:
    picture = photo(192, 160)
    data = codec.encode(picture, quality=QUALITY, level=0, effort=0)
    assert parts(data).post_filter is None
    unfiltered = codec.decode(with_filter(data, nothing()))
    filtered = codec.decode(data)
    assert psnr(picture, filtered) > psnr(picture, unfiltered) + 0.05
    weights = codec.bundle.post_filter(codec.bundle.level(0).g_s, container.peek(data).quality_step, gray=False)
    assert weights is not None
    _native.post_filter(unfiltered, weights)
    np.testing.assert_array_equal(unfiltered, filtered)


@pytest.mark.parametrize("level", [0, 7])
def test_effort_1_fits_a_filter_and_leaves_latents_alone(codec: Codec, photo: Photo, level: int) -> None:
    picture = photo(256, 192)
    plain, fitted = (codec.encode(picture, quality=QUALITY, level=level, effort=effort) for effort in (0, 1))
    assert parts(plain).data == parts(fitted).data and parts(plain).header == parts(fitted).header
    assert parts(fitted).post_filter is not None
    assert psnr(picture, codec.decode(fitted)) > psnr(picture, codec.decode(plain)) + 0.03
    assert 0 < len(fitted) - len(plain) < 130


def test_who_asks_for_no_effort_gets_the_filter(codec: Codec, photo: Photo, bundle_copy: Path) -> None:
    """Or none, where a bundle does not say what its bits are worth."""
    picture = photo(256, 192)
    assert codec.encode(picture, quality=QUALITY, level=7) == codec.encode(picture, quality=QUALITY, level=7, effort=1)
    edit_manifest(bundle_copy, lambda manifest: manifest.pop("lambda", None))
    other = Codec(bundle_copy)
    assert other.encode(picture, quality=QUALITY, level=0) == other.encode(picture, quality=QUALITY, level=0, effort=0)


def encoded_and_decoded(codec: Codec, picture: np.ndarray, level: int, effort: int) -> tuple[bytes, np.ndarray]:
    subject, *given = codec._subject(as_picture(picture), level, effort)
    return codec._encode_and_decode(subject, quality_step(QUALITY), *given)


@pytest.mark.parametrize(("level", "effort"), [(0, 0), (0, 1), (7, 0), (7, 1), (0, 2)])
@pytest.mark.parametrize("tile_pixels", [None, 64])
def test_an_encoder_knows_what_will_be_decoded(photo: Photo, level: int, effort: int, tile_pixels: int | None) -> None:
    codec = Codec(threads=2, tile_pixels=tile_pixels)
    for picture in (photo(150, 130), photo(70, 130)[:, :, 0].copy()):
        data, decoded = encoded_and_decoded(codec, picture, level, effort)
        np.testing.assert_array_equal(decoded, codec.decode(data))


@pytest.mark.parametrize("tile_pixels", [None, 64])
def test_strips_of_large_pictures_stand_for_all(
    photo: Photo, tile_pixels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_filter_fit, "_PIXELS", 10_000)
    monkeypatch.setattr(post_filter_fit, "_STRIP", 16)
    codec = Codec(threads=2, tile_pixels=tile_pixels)
    for picture in (photo(300, 180), photo(300, 180)[:, :, 0].copy()):
        strips = post_filter_fit.strips_of(300, 180)
        assert 0 < sum(last - first for first, last in strips) < 150 and strips[0][0] > 0
        data, decoded = encoded_and_decoded(codec, picture, 0, 1)
        assert codec.encode(picture, quality=QUALITY, level=0) == data and parts(data).post_filter is not None
        np.testing.assert_array_equal(decoded, codec.decode(data))
        assert psnr(picture, decoded) > psnr(picture, codec.decode(with_filter(data, None)))


def test_gray_pictures_have_filters_of_one_colour(codec: Codec, photo: Photo) -> None:
    gray = photo(256, 192)[:, :, 1].copy()
    plain, fitted = (codec.encode(gray, quality=QUALITY, level=0, effort=effort) for effort in (0, 1))
    weights = parts(fitted).post_filter
    assert weights is not None and weights.shape == post_filter.shape_of(gray=True)
    found = [psnr(gray, codec.decode(data)) for data in (with_filter(plain, nothing(True)), plain, fitted)]
    assert found[0] < found[1] < found[2]


def test_a_filter_is_for_the_g_s_that_it_was_fitted_to(codec: Codec, photo: Photo) -> None:
    picture = photo(192, 160)
    fitted = codec.encode(picture, quality=QUALITY, level=7, effort=1)
    plain = with_filter(fitted, None)
    assert not np.array_equal(codec.decode(fitted), codec.decode(plain))
    np.testing.assert_array_equal(codec.decode(fitted, level=6), codec.decode(fitted))  # the same g_s
    np.testing.assert_array_equal(codec.decode(fitted, level=0), codec.decode(plain, level=0))


def test_tiny_pictures_take_no_bytes_for_filters(codec: Codec, photo: Photo) -> None:
    for height, width in ((1, 1), (9, 7)):
        picture = photo(height, width)
        filtered, plain = (codec.encode(picture, quality=20, level=0, effort=effort) for effort in (1, 0))
        assert filtered == plain


def test_tiles_and_threads_change_no_pixel(codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(200, 170), quality=QUALITY, level=0, effort=1)
    for other in (Codec(threads=3), Codec(threads=2, tile_pixels=64)):
        np.testing.assert_array_equal(other.decode(data), codec.decode(data))
        assert other.encode(photo(200, 170), quality=QUALITY, level=0, effort=1) == data


def test_files_of_the_model_before_it_had_filters_get_none(codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(100, 90), quality=QUALITY, level=1, effort=0)  # level 0 had another g_s then
    [unfiltered] = [model_id for model_id, model in codec.bundle.manifest.earlier.items() if not model.filtered]
    content = parts(data)
    before = container.write(replace(content, header=replace(content.header, model_id=unfiltered)))
    np.testing.assert_array_equal(codec.decode(before), codec.decode(with_filter(data, nothing())))


def test_a_target_counts_the_filter(codec: Codec, photo: Photo) -> None:
    picture = photo(256, 192)
    data = codec.encode_within(picture, 4000, level=0, effort=1)
    assert len(data) <= 4000
    reached = codec.encode_reaching(picture, 33.0, level=0, effort=1)
    assert psnr(picture, codec.decode(reached)) >= 33.0
    plain = codec.encode_reaching(picture, 33.0, level=0, effort=0)
    assert container.peek(reached).quality_step <= container.peek(plain).quality_step


def test_a_filter_takes_one_more_encode_to_a_target(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, efforts = Codec(threads=1), []
    encode = codec._encode
    monkeypatch.setattr(codec, "_encode", lambda *args: (efforts.append(args[3]), encode(*args))[1])
    assert len(codec.encode_within(photo(128, 192), 2500, level=0)) <= 2500
    assert efforts.count(0) <= 4 and efforts.count(1) == 1


def test_a_filter_that_does_not_fit_may_be_worth_a_step_of_quality(codec: Codec) -> None:
    """Of drawings it brings more than that: what a few bytes more can hold is no worse."""
    rows, columns = np.mgrid[:256, :384]
    disc, bars = (rows - 120) ** 2 + (columns - 160) ** 2 < 90**2, (columns // 24 % 2 == 0) & (rows > 200)
    ground = np.where(bars[:, :, None], [20, 40, 90], [250, 250, 245])
    drawing = np.where(disc[:, :, None], [230, 80, 40], ground).astype(np.uint8)
    plain = codec.encode(drawing, quality=60, level=0, effort=0)
    tight = codec.encode_within(drawing, len(plain), level=0)
    assert len(tight) <= len(plain) and parts(tight).post_filter is not None
    assert psnr(drawing, codec.decode(tight)) > psnr(drawing, codec.decode(plain)) + 0.5


def test_a_damaged_filter_is_one_line(tmp_path: Path, codec: Codec, photo: Photo) -> None:
    data = codec.encode(photo(64, 64), quality=QUALITY, level=0)
    weights = nothing()
    weights[0, 0, 0, 0] = 1
    whole = with_filter(data, weights)
    chunk = container._pack_chunk(container.FILTER, post_filter.packed(weights), DEFAULT_LIMITS)
    cut = container._pack_chunk(container.FILTER, post_filter.packed(weights)[:-1], DEFAULT_LIMITS)
    damaged = whole.replace(chunk, cut)
    assert damaged != whole
    (tmp_path / "a.basic").write_bytes(damaged)
    result = CliRunner().invoke(main, ["decode", str(tmp_path / "a.basic")])
    assert result.exit_code == 1 and "filt" in result.output and result.output.count("\n") == 1


def test_info_tells_of_the_filter(tmp_path: Path, photo: Photo) -> None:
    source, coded = tmp_path / "a.png", tmp_path / "a.basic"
    Image.fromarray(photo(160, 160)).save(source)
    assert CliRunner().invoke(main, ["encode", str(source), "--level", "0", "--effort", "1"]).exit_code == 0
    assert "filt" in CliRunner().invoke(main, ["info", str(coded)]).output


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"steps": [0, 9], "weights": ["00" * 108]}, "must have an entry for each of 2 steps"),
        ({"steps": [0], "weights": ["00" * 107]}, "must be of 108 bytes each"),
        ({"steps": [0], "weights": ["zz" * 108]}, "must be of 108 bytes each"),
        ({"steps": [9, 0], "weights": ["00" * 108] * 2}, "must rise"),
    ],
)
def test_manifests_with_other_filters_are_refused(bundle_copy: Path, value: object, message: str) -> None:
    def change(manifest: dict) -> None:
        entry = next(spec for spec in manifest["graphs"].values() if spec["transform"] == "g_s")
        entry["filter"] = value

    edit_manifest(bundle_copy, change)
    with pytest.raises(BundleError, match=message):
        Bundle(bundle_copy)
