"""The way back through g_s in fixed point: PyTorch's derivative, the same integers everywhere, never past an int32."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basic_export.gradient import _computed, gradient_formats_of
from basic_export.photos import fixed_point_photos
from basic_export.pixel import export_pixel
from basic_runtime._native import ERROR_BITS, dots_kernels, errors_of_patches
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines.fixed_point import Format, fixed_point
from basic_runtime.engines.integer_net import IntegerGraph, Reading, View
from basic_runtime.engines.native import NativeEngine
from basic_runtime.engines.pixel_gradient import ERROR, GRADIENT, GradientEngine, adjoint
from basic_runtime.engines.pixel_graph import Convolution, Input, Layer, NotPixelGraphError, PixelGraph
from basic_runtime.engines.pixel_path import PixelPath, formats_at
from basic_runtime.errors import BundleError
from basic_runtime.manifest import GraphSpec
from basic_train.model.supernet import Supernet

from .models import Exported
from .test_fixed_point import bounds

STEP = 25


def synthesis(bundle: Bundle) -> list[GraphSpec]:
    """From the narrowest g_s to the widest."""
    found = [spec for spec in bundle.manifest.graphs.values() if spec.transform == "g_s"]
    return sorted(found, key=lambda spec: spec.width)


def latents(bundle: Bundle, picture: np.ndarray, step: int) -> np.ndarray:
    """Rounded, of the full g_a."""
    g_a = PixelPath(bundle).engines(bundle.level(7).g_a, step, 1)[0]
    return np.round(np.asarray(g_a.run({"x": picture.transpose(2, 0, 1)[None]})["y"]))


def engine(bundle: Bundle, spec: GraphSpec, step: int, threads: int, kernel: str | None) -> GradientEngine:
    assert spec.formats is not None and spec.gradient_formats is not None
    lowered = PixelPath(bundle).lowered(spec.id, step)
    formats, back = (formats_at(given, step) for given in (spec.formats, spec.gradient_formats))
    return GradientEngine(lowered, formats, back, threads, kernel)


@pytest.fixture(scope="module")
def picture(photo_folder: Path) -> np.ndarray:
    from basic_runtime.imageio import read_picture

    return np.ascontiguousarray(read_picture(str(photo_folder / "astronaut.png")).pixels[:128, :192])


def test_it_is_the_derivative_of_the_squared_error(exported: Exported, tiny_net: Supernet, picture: np.ndarray) -> None:
    bundle = Bundle(exported.path)
    y = latents(bundle, picture, STEP)
    for index, spec in enumerate(synthesis(bundle)):
        gradient, error = PixelPath(bundle).gradient(spec.id, STEP, 1).run(y, picture, (0, 128, 0, 150))
        wanted_y = torch.from_numpy(y).requires_grad_()
        decoded = export_pixel(tiny_net, "g_s", index).module(wanted_y, torch.from_numpy(bundle.decode_gain(STEP)))
        off = 255 * decoded.clamp(0, 1) - torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))
        off[..., 150:] = 0
        # A pixel beyond black or white is pushed by what is shown, so that the derivative goes through the clamp.
        (wanted,) = torch.autograd.grad(decoded, wanted_y, 510 * off.detach())
        assert gradient.shape == wanted.shape
        assert np.linalg.norm(gradient - wanted.numpy()) < 0.03 * np.linalg.norm(wanted)
        assert error == pytest.approx(float(off.detach().square().sum()), rel=1e-3)
        assert PixelPath(bundle).gradient(spec.id, STEP, 1).error(y, picture, (0, 128, 0, 150)) == error


def test_it_is_that_of_float32_on_the_model_that_ships(picture: np.ndarray) -> None:
    bundle = Bundle()
    y = latents(bundle, picture, STEP)
    for level in (0, 7):
        spec = bundle.graph(bundle.level(level).g_s)
        found, _ = PixelPath(bundle).gradient(spec.id, STEP, 1).run(y, picture, (0, 128, 0, 192))
        there = PixelPath(bundle).lowered(spec.id, STEP)
        wanted = 510 * derivative(there, y, picture)
        assert np.linalg.norm(found - wanted) < 0.12 * np.linalg.norm(wanted)
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def derivative(there: PixelGraph, y: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """By PyTorch, of half the squared error, through a g_s that writes patches of 4x4."""
    given = torch.from_numpy(y).requires_grad_()
    patches = _computed(there, {"y": given})[there.outputs["xhat"][0]]
    decoded = torch.nn.functional.pixel_shuffle(patches, 4)
    off = 255 * decoded.clamp(0, 1) - torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))
    return torch.autograd.grad(decoded, given, off.detach())[0].numpy()


def network(rng: np.random.Generator) -> PixelGraph:
    """Latents that are read twice and added to sums, a kernel that reaches further to one side, shuffles and ReLUs."""

    def convolution(source: int, outputs: int, inputs: int, *size: int) -> Convolution:
        weights = rng.normal(size=(outputs, inputs, *size)).astype(np.float32)
        return Convolution(source, weights, rng.uniform(0.5, 2, outputs), size[0] // 2, (size[1] - 1) // 2, 1)

    def layer(key: str, stride: int, c: Convolution, *skips: int, relu: bool = False, shuffle: int = 1) -> Layer:
        return Layer(key, key, stride, (c,), rng.normal(size=len(c.weights)), relu, shuffle, skips)

    tensors = [
        Input("y", "y", "y", 16, rng.uniform(0.5, 2, 5), np.zeros(5)),
        Input("y", "scaled", "scaled", 16, rng.uniform(0.5, 2, 5), np.zeros(5)),
        layer("a", 16, convolution(1, 7, 5, 1, 1), relu=True),
        layer("b", 16, convolution(2, 5, 7, 3, 2), 1),
        layer("c", 8, convolution(3, 12, 5, 1, 1), relu=True, shuffle=2),
        layer("d", 4, convolution(4, 4 * 48, 3, 1, 1), shuffle=2),
        layer("e", 4, convolution(0, 16 * 48, 5, 1, 1), shuffle=4),
        layer("f", 4, convolution(5, 48, 48, 3, 3), 5, 6),
    ]
    return PixelGraph(tensors, {"xhat": (7, 4)})


@pytest.mark.parametrize("seed", range(4))
def test_the_way_back_is_that_of_autograd(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = network(rng)
    y = torch.from_numpy(rng.normal(size=(1, 5, 3, 4)).astype(np.float32)).requires_grad_()
    there = _computed(graph, {"y": y})
    error = torch.from_numpy(rng.normal(size=there[7].shape).astype(np.float32))
    (wanted,) = torch.autograd.grad(there[7], y, error)
    back = adjoint(graph)
    values = {tensor.key: value.detach() for tensor, value in zip(graph.tensors, there, strict=True)}
    (found,) = (_computed(back, values | {ERROR: error})[number] for number, _ in back.outputs.values())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("step", [0, 31, 63])
def test_no_sum_can_pass_an_int32(exported: Exported, step: int) -> None:
    for bundle in (Bundle(exported.path), Bundle()):
        for spec in synthesis(bundle):
            if spec.gradient_formats is None:
                continue
            lowered = PixelPath(bundle).lowered(spec.id, step)
            graph = adjoint(lowered)
            given = {tensor.name: Format(0) for tensor in graph.tensors if isinstance(tensor, Input)}
            errors = {ERROR: Format(ERROR_BITS, 255 << ERROR_BITS)}
            integers = fixed_point(graph, formats_at(spec.gradient_formats, step), given | errors).integers
            limits = bounds(integers)
            limits[0] = 255 << ERROR_BITS
            for layer in integers.layers:
                total = np.abs(layer.bias.astype(np.int64))
                for term in layer.terms:
                    weights = np.abs(term.weights.astype(np.int64)).reshape(len(total), -1)
                    total += weights.sum(axis=1) * limits[term.source]
                for skip in layer.skips:
                    total += np.int64(limits[skip.source]) << skip.shift.astype(np.int64)
                assert total.max() < 2**31


def test_kernels_and_threads_give_the_same_integers(exported: Exported, picture: np.ndarray) -> None:
    for bundle in (Bundle(exported.path), Bundle()):
        y, spec = latents(bundle, picture, STEP), bundle.graph(bundle.level(7).g_s)
        engines = [engine(bundle, spec, STEP, threads, kernel) for kernel in dots_kernels() for threads in (1, 3)]
        runs = [each.run(y, picture, (3, 125, 1, 190)) for each in engines]
        assert len({(gradient.tobytes(), error) for gradient, error in runs}) == 1


def test_files_of_efforts_are_those_of_every_kernel(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for kernel in dots_kernels():
        monkeypatch.setenv("BASIC_DOTS_KERNEL", kernel)
        for threads in (1, 2):
            found.add(Codec(threads=threads).encode(picture[:64, :128], quality=60, level=0, effort=4))
    assert len(found) == 1


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.integers(6, 13), st.integers(0, 99))
def test_errors_are_those_of_what_is_shown(size: int, rows: int, columns: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, threads = 3 * size**2, 1 + seed % 3
    values = rng.integers(-(1 << bits), 2 << bits, (1, channels, rows, columns)).astype(np.int16)
    plane = NativeEngine(IntegerGraph([Reading.of("v", channels)], [], {"p": (View(0, 0, channels),)}), 1).run(
        {"v": values}
    )["p"]
    height, width = rows * size, columns * size
    pixels = rng.integers(0, 256, (height, width + 2, 3), np.uint8)[:, :width]
    top, left = rng.integers(0, height), rng.integers(0, width)
    bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
    split = values[0].reshape(3, size, size, rows, columns).transpose(3, 1, 4, 2, 0).reshape(height, width, 3)
    shown = np.clip(split.astype(int), 0, 1 << bits)
    wanted = np.floor((255 * shown - (pixels.astype(int) << bits)) / 2.0 ** (bits - ERROR_BITS) + 0.5).astype(int)
    counts = np.zeros((height, width, 1), int)
    counts[top:bottom, left:right] = 1
    wanted *= counts
    errors, squares = errors_of_patches(plane, pixels, size, bits, (top, bottom, left, right), threads)
    found = np.asarray(errors)[0].reshape(3, size, size, rows, columns).transpose(3, 1, 4, 2, 0)
    np.testing.assert_array_equal(found.reshape(height, width, 3), wanted)
    assert squares == np.square(wanted).sum()


def test_errors_of_other_shapes_are_refused() -> None:
    graph = IntegerGraph([Reading.of("v", 12)], [], {"p": (View(0, 0, 12),)})
    plane = NativeEngine(graph, 1).run({"v": np.zeros((1, 12, 2, 3), np.int16)})["p"]
    pixels = np.zeros((4, 6, 3), np.uint8)
    for wrong, size, bits in ((pixels[:2], 2, 13), (pixels, 1, 13), (pixels, 2, 14), (pixels, 2, 5)):
        with pytest.raises(ValueError, match="plane must have|pixels must be|patches must be"):
            errors_of_patches(plane, wrong, size, bits, (0, 4, 0, 6))


def test_ways_back_that_are_not_known_are_refused() -> None:
    graph = network(np.random.default_rng(0))

    def changed(number: int, **fields: object) -> PixelGraph:
        tensors = list(graph.tensors)
        layer = tensors[number]
        assert isinstance(layer, Layer)
        convolution = {key: value for key, value in fields.items() if key in ("weights", "stride")}
        rest = {key: value for key, value in fields.items() if key not in convolution}
        tensors[number] = replace(layer, convolutions=(replace(layer.convolutions[0], **convolution),), **rest)
        return PixelGraph(tensors, graph.outputs)

    for wrong in (
        changed(7, relu=True),
        changed(5, weights=np.ones((4 * 48, 3, 3, 3), np.float32)),
        changed(2, stride=2),
        changed(6, skips=(5,)),
        changed(5, shuffle=8),
        PixelGraph(graph.tensors, {"xhat": (7, 2)}),
    ):
        with pytest.raises(NotPixelGraphError):
            adjoint(wrong)


def test_formats_are_found_again_as_they_were(exported: Exported, photo_folder: Path) -> None:
    bundle = Bundle(exported.path)
    specs = [spec for spec in synthesis(bundle) if spec.gradient_formats is not None]
    assert specs == synthesis(bundle)
    found = gradient_formats_of(bundle, fixed_point_photos(photo_folder))
    for spec in specs:
        assert spec.gradient_formats is not None
        assert found[spec.id]["bits"] == {key: list(bits) for key, bits in spec.gradient_formats.bits.items()}
        assert found[spec.id]["wide"] == [GRADIENT]


def test_damaged_formats_are_told(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(exported.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    entry = next(entry for entry in manifest["graphs"].values() if "gradient_formats" in entry)
    entry["gradient_formats"]["bits"][GRADIENT] = [1]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="bits.gradient must have a number for each"):
        Bundle(path)


def test_a_bundle_says_what_its_model_was_trained_for(exported: Exported, tiny_net: Supernet) -> None:
    config = tiny_net.config
    assert Bundle(exported.path).manifest.lambdas == (config.lambda_min, config.lambda_max)
