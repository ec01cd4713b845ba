"""The encoder's search for a cheaper latent, on the model that ships: what it saves, and that files stay files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from basic_runtime import container, refine
from basic_runtime._native import random_by_key, symbol_bits
from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.definitions import MAX_EFFORT, PASSES
from basic_runtime.engines.base import FloatArray
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.engines.pixel_gradient import GradientEngine
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.errors import BundleError
from basic_runtime.picture import Picture
from basic_runtime.quality import quality_step
from basic_runtime.refine import Inside, Movable, Places, Refinement
from basic_runtime.tables import code_lengths
from basic_runtime.tiles import Canvas, Span, Tile

from .test_bundle import edit_manifest

Photo = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(threads=1)


def cost(codec: Codec, picture: np.ndarray, quality: int, level: int, effort: int) -> float:
    """Bits per pixel + lambda 255^2 MSE of what comes back: what the model was trained for."""
    data = codec.encode(picture, quality=quality, level=level, effort=effort)
    error = np.square(codec.decode(data).astype(float) - picture).mean()
    lambdas = codec.bundle.manifest.lambdas
    assert lambdas is not None
    share = quality_step(quality) / (codec.bundle.manifest.quality_steps - 1)
    pixels = picture.shape[0] * picture.shape[1]
    return 8 * len(data) / pixels + lambdas[0] * (lambdas[1] / lambdas[0]) ** share * float(error)


@pytest.mark.parametrize(("quality", "level"), [(5, 0), (50, 0), (95, 0), (60, 7)])
def test_effort_makes_files_cheaper(codec: Codec, photo: Photo, quality: int, level: int) -> None:
    picture = photo(192, 256)
    plain, some, more = (cost(codec, picture, quality, level, effort) for effort in (0, 2, 7))
    assert more <= some < plain


def test_the_same_picture_gives_the_same_file(codec: Codec, photo: Photo) -> None:
    picture = photo(128, 192)
    assert codec.encode(picture, quality=50, level=0, effort=3) == codec.encode(picture, quality=50, level=0, effort=3)


def test_threads_and_kernels_give_the_same_file(codec: Codec, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level 7, gray and colours; level 0 on every kernel: tests/export/test_gradient.py."""
    pictures = [photo(70, 130), photo(64, 64)[:, :, 0]]
    for picture in pictures:
        found = {Codec(codec.bundle, threads=k).encode(picture, quality=40, level=7, effort=3) for k in (1, 2)}
        monkeypatch.setenv("BASIC_DOTS_KERNEL", "scalar")
        found.add(Codec(codec.bundle, threads=2).encode(picture, quality=40, level=7, effort=3))
        monkeypatch.delenv("BASIC_DOTS_KERNEL")
        assert len(found) == 1


def test_threads_give_the_same_file_of_a_picture_in_tiles(codec: Codec, photo: Photo) -> None:
    picture = photo(200, 330)
    files = {
        Codec(codec.bundle, threads=threads, tile_pixels=128).encode(picture, quality=50, level=0, effort=2)
        for threads in (1, 2, 3)
    }
    assert len(files) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_process_searches(photo: Photo) -> None:
    """With the networks of its parent, and threads of its own."""
    codec, picture = Codec(threads=2), photo(100, 150)
    data = codec.encode(picture, quality=50, level=0, effort=2)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if codec.encode(picture, quality=50, level=0, effort=2) == data else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_library_for_networks_is_loaded() -> None:
    code = (
        "import sys, numpy as np; from basic_runtime import Codec; "
        "Codec().encode(np.zeros((64, 64, 3), np.uint8), level=0, effort=2); "
        "assert not {'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_every_engine_decodes_it(codec: Codec, photo: Photo) -> None:
    picture = photo(100, 150)
    data = codec.encode(picture, quality=50, level=0, effort=3)
    expected = codec.decode(data).astype(int)
    for engine in ("openvino", "torch"):
        assert np.abs(Codec(backend=engine, threads=1).decode(data) - expected).max() <= 1


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_every_engine_refines(codec: Codec, photo: Photo, engine: str) -> None:
    picture = photo(128, 192)
    other = Codec(backend=engine, threads=1)
    refined = cost(other, picture, 50, 0, 4)
    assert refined < cost(other, picture, 50, 0, 0)
    assert refined == pytest.approx(cost(codec, picture, 50, 0, 4), rel=0.01)  # but for the filter, they are the same


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (64, 200)])
def test_any_size(codec: Codec, photo: Photo, size: tuple[int, int]) -> None:
    picture = photo(*size)
    assert codec.decode(codec.encode(picture, quality=50, level=0, effort=2)).shape == picture.shape
    few_bytes = 4 * 8 / picture[..., 0].size
    assert cost(codec, picture, 50, 0, 6) <= cost(codec, picture, 50, 0, 0) + few_bytes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("level", [0, 7])
def test_flat_pictures(codec: Codec, value: int, level: int) -> None:
    picture = np.full((64, 128, 3), value, np.uint8)
    few_bytes = 4 * 8 / picture[..., 0].size
    assert cost(codec, picture, 5, level, 3) <= cost(codec, picture, 5, level, 0) + few_bytes


def test_gray_and_alpha(codec: Codec, photo: Photo) -> None:
    gray = photo(70, 90)[:, :, 0]
    data = codec.encode(gray, quality=50, level=0, alpha=gray, effort=2)
    found = codec.decode_picture(data)
    assert found.pixels.shape == gray.shape
    np.testing.assert_array_equal(found.alpha, gray)


def test_pictures_in_tiles_gain_nearly_as_much(codec: Codec, photo: Photo) -> None:
    """Of several, as chance moves a fourth of the gain of one."""
    tiled = Codec(codec.bundle, threads=1, tile_pixels=128)
    pictures = [photo(300, 420), photo(420, 300), photo(200, 330), photo(260, 260)]
    before, whole, parts = (
        sum(cost(each, picture, 50, 0, effort) for picture in pictures)
        for each, effort in ((codec, 0), (codec, 4), (tiled, 4))
    )
    assert before - whole > 0 and before - parts > 0.9 * (before - whole)


def test_a_target_is_met_with_effort(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    """By two or three searches, near the quality that fits without."""
    codec, efforts = Codec(threads=1), []
    encode = codec._encode

    def watched(picture: Picture, step: int, level: int, effort: int) -> bytes:
        efforts.append(effort)
        return encode(picture, step, level, effort)

    monkeypatch.setattr(codec, "_encode", watched)
    picture = photo(128, 192)
    data = codec.encode_within(picture, 2500, level=0, effort=2)
    assert len(data) <= 2500
    assert efforts.count(2) <= 3 and efforts.count(0) <= 4
    plain = codec.encode_within(picture, 2500, level=0)
    assert container.peek(data).quality_step >= container.peek(plain).quality_step


def test_a_target_that_only_fits_without_effort_is_met(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(threads=1)
    encode = codec._encode
    monkeypatch.setattr(codec, "_encode", lambda *a: encode(*a[:3], 0) + bytes(a[3] * 100_000))
    picture = photo(64, 64)
    assert codec.encode_within(picture, 600, level=0, effort=1) == codec.encode_within(picture, 600, level=0)


def test_no_search_ends_dearer_than_it_began(codec: Codec, photo: Photo) -> None:
    """By its own reckoning, which counts the bits of the tables and the error of unrounded pixels."""
    costs = []

    class Watched(refine._Search):
        def _point(self, y: FloatArray, last: bool = False) -> refine._Point:
            point = super()._point(y, last)
            costs.append((point.cost, point.y))
            return point

    graphs, values = _graphs(codec, photo(128, 192), 30)
    weight = codec.bundle.lambda_of(30) / 3
    bits = refine._bits_of_symbols(codec.bundle)
    y = np.asarray(graphs.g_a.run({"x": values["x"]})["y"])
    z = np.floor(np.asarray(graphs.h_a.run({"y": y})["z"]) + np.float32(0.5))
    search = Watched(graphs, graphs.entropy.prior(z), weight, bits, y, values)
    best = search.best(5)
    assert len(costs) == 6
    cheapest = min(costs, key=lambda pair: pair[0])
    np.testing.assert_array_equal(best, cheapest[1])
    assert cheapest[0] < costs[0][0]


@pytest.mark.filterwarnings("error")
def test_nothing_moves_where_no_latent_changes_the_picture(codec: Codec, photo: Photo) -> None:
    class Still(GradientEngine):
        def __init__(self) -> None:
            pass

        def run(self, yhat: FloatArray, *_: object) -> tuple[FloatArray, float]:
            return np.zeros_like(yhat), 0.0

        def error(self, *_: object) -> float:
            return 0.0

    graphs, values = _graphs(codec, photo(64, 64), 30)
    y = np.asarray(graphs.g_a.run({"x": values["x"]})["y"])
    z = graphs.entropy.rounded(np.asarray(graphs.h_a.run({"y": y})["z"]))
    still = replace(graphs, gradient=Still())
    search = refine._Search(still, graphs.entropy.prior(z), 1.0, refine._bits_of_symbols(codec.bundle), y, values)
    np.testing.assert_array_equal(search.best(3), y)


def test_what_is_refined_is_what_is_coded(codec: Codec, photo: Photo) -> None:
    """The search's symbols, coded, are the file's stream but for z, to the coder's own overhead."""
    picture = photo(128, 192)
    graphs, values = _graphs(codec, picture, quality_step(50))
    found = Refinement(graphs, codec.bundle, quality_step(50), PASSES[2]).run(values)
    symbols, indexes, _ = graphs.entropy.quantised(found["y"], graphs.entropy.prior(found["z"]))
    rows = refine.TableArrays(*codec.bundle.coder_rows)
    z = found["z"].astype(np.int32)
    bits = code_lengths(rows, symbols, indexes).sum() + code_lengths(rows, z, graphs.entropy.z_indexes(z.shape)).sum()
    stream = container.read(codec.encode(picture, quality=50, level=0, effort=2), codec.limits).data
    assert 8 * len(stream) == pytest.approx(bits, rel=0.05)


def _graphs(codec: Codec, picture: np.ndarray, step: int) -> tuple[refine.Graphs, Mapping[str, NDArray[Any]]]:
    bundle = codec.bundle
    level, path = bundle.level(0), PixelPath(bundle)
    g_a, h_a = (path.engines(graph, step, 1)[0] for graph in (level.g_a, level.h_a))
    height, width = picture.shape[:2]
    canvas, whole = Canvas(height, width, 1024, 64), Tile(Span(0, height, 0, height), Span(0, width, 0, width))
    values = {
        "x": picture.transpose(2, 0, 1)[None],
        "inside": np.ones((1, 1, height, width), np.float32),
        "movable": np.ones((1, 1, height // 16, width // 16), np.float32),
        "places": Places(canvas, bundle.manifest.y_stride).cut(whole),
    }
    entropy = codec._networks.entropy_on(level.entropy_variant, codec._networks.whole)
    return refine.Graphs(g_a, h_a, path.gradient(level.g_s, step, 1), entropy), values


def test_bits_of_symbols_are_the_coders() -> None:
    bundle = Bundle()
    bits = refine._bits_of_symbols(bundle)
    symbols = np.array([0, 1, -1, 37, -255, 255], np.int32)
    for row in (0, 20, 63):
        indexes = np.full(symbols.shape, row, np.uint8)
        expected = code_lengths(refine.TableArrays(*bundle.coder_rows), symbols, indexes)
        for symbol, wanted in zip(symbols, expected, strict=True):
            found = symbol_bits(np.array([symbol]), np.array([row], np.uint8), bits)
            assert found == pytest.approx(wanted, abs=2.0**-13 + 1e-9)
            assert found * 4096 == int(found * 4096)
        for beyond, largest in ((-1000, -255), (1000, 255)):
            values = (symbol_bits(np.array([k], np.int32), np.array([row], np.uint8), bits) for k in (beyond, largest))
            assert len(set(values)) == 1


def test_pixels_count_in_and_near_a_tile() -> None:
    canvas = Canvas(640, 640, 128, 64)
    inside = Inside(70, 1000, canvas).cut(Tile(Span(0, 320, 0, 128), Span(64, 576, 256, 384)))
    assert inside.shape == (1, 1, 320, 512) and inside.sum() == 70 * 256
    assert inside[0, 0, 69, 128:384].all() and not inside[0, 0, 70:].any()


def test_elements_near_a_tile_may_move_and_those_behind_the_end_of_the_picture() -> None:
    canvas = Canvas(640, 640, 128, 64)
    tile = Tile(Span(0, 320, 128, 192), Span(64, 576, 256, 384))
    movable = Movable(500, 1000, canvas, 16).cut(tile)
    assert movable.shape == (1, 1, 20, 32)
    assert np.flatnonzero(movable.any((0, 1, 3))).tolist() == list(range(4, 16))  # 64 pixels around the tile
    assert np.flatnonzero(movable.any((0, 1, 2))).tolist() == list(range(8, 24))
    behind = Movable(250, 380, canvas, 16).cut(tile)  # the picture ends in the margin of both sides
    assert np.flatnonzero(behind.any((0, 1, 3))).tolist() == list(range(4, 20))
    assert np.flatnonzero(behind.any((0, 1, 2))).tolist() == list(range(8, 32))


def test_places_are_those_of_the_picture() -> None:
    canvas = Canvas(640, 640, 128, 64)
    places = Places(canvas, 16).cut(Tile(Span(64, 128, 64, 128), Span(0, 192, 0, 192)))
    assert places.shape == (1, 2, 4, 12)
    assert places[0, 0, :, 0].tolist() == [4, 5, 6, 7] and places[0, 1, 0].tolist() == list(range(12))


def test_chance_goes_by_the_place() -> None:
    """Even, different from pass to pass, and the same for a place whatever the tile it is in."""
    canvas = Canvas(640, 640, 128, 64)
    whole, part = (
        refine._keys(Places(canvas, 16).cut(Tile(span, span)), 320)
        for span in (Span(0, 640, 0, 640), Span(64, 256, 128, 192))
    )
    np.testing.assert_array_equal(whole[:, :, 4:16, 4:16], part)
    assert np.unique(whole).size == whole.size
    first, second = (random_by_key(whole, salt) for salt in (refine._SIGNS, 0))
    assert first.min() >= 0 and first.max() < 1
    assert abs(first.mean() - 0.5) < 0.005 and abs((first < 0.85).mean() - 0.85) < 0.005
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01


def test_efforts_rise() -> None:
    assert len(PASSES) == MAX_EFFORT + 1 and PASSES[0] == 0
    assert list(PASSES[1:]) == sorted(set(PASSES))  # the first one fits a filter and moves nothing


@pytest.mark.parametrize("effort", [-1, 10])
def test_efforts_out_of_range(codec: Codec, photo: Photo, effort: int) -> None:
    with pytest.raises(ValueError, match="effort must be 0 to 9"):
        codec.encode(photo(64, 64), quality=50, level=0, effort=effort)


def test_bundles_without_gradients_say_so(tiny_path: Path, photo: Photo) -> None:
    codec = Codec(tiny_path, threads=1)
    with pytest.raises(BundleError, match="does not say what a bit is worth: encode with effort 0"):
        codec.encode(photo(64, 64), quality=50, level=0, effort=1)
    codec.bundle.manifest = replace(codec.bundle.manifest, lambdas=(0.001, 0.1))
    assert codec.encode(photo(64, 64), quality=50, level=0, effort=1)
    with pytest.raises(BundleError, match="no gradients to refine with: encode with effort 0 or 1"):
        codec.encode(photo(64, 64), quality=50, level=0, effort=2)
    codec.bundle.manifest = replace(codec.bundle.manifest, lambdas=None)
    with pytest.raises(BundleError, match="field lambda is missing"):
        codec.bundle.lambda_of(0)


def test_lambdas_rise_geometrically(codec: Codec) -> None:
    found = [codec.bundle.lambda_of(step) for step in range(codec.bundle.manifest.quality_steps)]
    assert (found[0], found[-1]) == pytest.approx(codec.bundle.manifest.lambdas)
    np.testing.assert_allclose(np.diff(np.log(found), 2), 0, atol=1e-12)


def test_engines_of_graphs_that_are_built_search_in_integers(codec: Codec, photo: Photo) -> None:
    """Which computes whole tiles with their margins, larger than such engines take, as others do."""

    class Built(OnnxRuntimeBackend):
        native_entropy = False

        def tile_limit(self, bundle: Path) -> int | None:
            return 64

    picture = photo(100, 150)
    built = Codec(backend=Built(threads=1))
    assert built.encode(photo(64, 64), quality=50, level=0, effort=1)
    data = built.encode(picture, quality=50, level=0, effort=2)
    assert cost(built, picture, 50, 0, 2) < cost(built, picture, 50, 0, 0)
    assert np.abs(built.decode(data).astype(int) - codec.decode(data)).max() <= 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"lowest": 0.1}, "lambda.highest is missing"),
        ({"lowest": 0.2, "highest": 0.1}, "lambda.highest must be no less than lowest"),
        ({"lowest": 0, "highest": 0.1}, "both more than 0"),
    ],
)
def test_a_bundle_with_wrong_lambdas(bundle_copy: Path, value: dict[str, float], message: str) -> None:
    edit_manifest(bundle_copy, lambda manifest: manifest.update({"lambda": value}))
    with pytest.raises(BundleError, match=message):
        Bundle(bundle_copy)


def test_the_command(tmp_path: Path, photo: Photo) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(photo(128, 192)).save(source)

    def encode(*options: str) -> tuple[int, str, Path]:
        target = tmp_path / f"{'-'.join(options)}.basic"
        result = CliRunner().invoke(main, ["encode", str(source), "--level", "0", "-o", str(target), *options])
        return result.exit_code, result.output, target

    (_, _, plain), (code, output, refined) = encode(), encode("--effort", "4")
    assert code == 0, output
    assert container.peek(refined.read_bytes()) == replace(
        container.peek(plain.read_bytes()), yhat_crc=container.peek(refined.read_bytes()).yhat_crc
    )
    assert plain.read_bytes() != refined.read_bytes()
    code, output, target = encode("--effort", "10")
    assert code == 2 and not target.exists()
    assert "--effort" in output


def test_a_budget_is_for_no_search(tmp_path: Path, photo: Photo) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(photo(64, 64)).save(source)
    result = CliRunner().invoke(main, ["encode", str(source), "--effort", "2", "--budget-ms", "50"])
    assert result.exit_code == 2 and "--budget-ms knows the time of --effort 0 to 1: take one of" in result.output
    assert list(tmp_path.iterdir()) == [source]
