"""The pixel path in fixed point: close to the float32 graphs, never past an int32, and the same however it is run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from basic_export.fixed_point import formats_of
from basic_export.photos import fixed_point_photos
from basic_runtime._native import dots_kernels, pixels_of_patches, take_patches
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import FLOAT32, pixel_path
from basic_runtime.engines.fixed_point import FixedPoint, Format, fixed_point
from basic_runtime.engines.integer_net import IntegerGraph, Reading, View
from basic_runtime.engines.native import NativeEngine
from basic_runtime.engines.onnx_file import read_graph
from basic_runtime.engines.pixel_graph import NotPixelGraphError, pixel_graph
from basic_runtime.engines.pixel_path import GAIN, PixelEngine, PixelPath, formats_at
from basic_runtime.errors import BundleError
from basic_runtime.manifest import FormatsSpec

from .models import Exported, unfiltered


def networks(bundle: Bundle, step: int) -> dict[str, FixedPoint]:
    """All graphs of the pixel path at a quality step."""
    path, found = PixelPath(bundle), {}
    for name, spec in bundle.manifest.graphs.items():
        if spec.path == "pixel":
            assert spec.formats is not None
            found[name] = fixed_point(path.lowered(name, step), formats_at(spec.formats, step), {})
    return found


def bounds(graph: IntegerGraph) -> list[int]:
    """The largest absolute value of each tensor."""
    limits = [int(max(np.abs(r.low).max(), np.abs(r.high).max())) for r in graph.readings]
    return limits + [int(max(np.abs(layer.low).max(), np.abs(layer.high).max())) for layer in graph.layers]


@pytest.mark.parametrize("step", [0, 5, 31, 63])
def test_no_sum_can_pass_an_int32(exported: Exported, step: int) -> None:
    for bundle in (Bundle(exported.path), Bundle()):
        for network in networks(bundle, step).values():
            graph = network.integers
            limits = bounds(graph)
            if network.patch is not None:
                limits[0] = 255
            for layer in graph.layers:
                total = np.abs(layer.bias.astype(np.int64))
                largest = 0
                for term in layer.terms:
                    weights = np.abs(term.weights.astype(np.int64)).reshape(len(total), -1)
                    total += weights.sum(axis=1) * limits[term.source]
                    largest = max(largest, int(weights.max()))
                for skip in layer.skips:
                    total += np.int64(limits[skip.source]) << skip.shift.astype(np.int64)
                assert total.max() < 2**31
                assert total.max() > 2**29 or largest > 2**14  # and bits are not wasted


def test_pixels_and_latents_are_close_to_those_of_float32(photo_folder: Path) -> None:
    """With the model that is shipped, whose formats were found on photos."""
    from basic_runtime.imageio import read_picture

    picture = read_picture(str(photo_folder / "astronaut.png")).pixels
    fixed, floats = Codec(threads=1), Codec(threads=1, precision=FLOAT32)
    for level, quality in ((0, 1), (0, 100), (7, 50), (7, 100)):
        data, reference = (codec.encode(picture, quality=quality, level=level) for codec in (fixed, floats))
        assert len(data) == pytest.approx(len(reference), rel=0.015, abs=6)
        found, expected = (codec.decode(reference).astype(int) for codec in (fixed, floats))
        difference = np.abs(found - expected)
        assert 0 < difference.mean() < 0.3 and difference.max() <= 4


def test_kernels_threads_and_tiles_give_the_same_bytes(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    picture = np.kron(rng.integers(0, 256, (20, 27, 3), np.uint8), np.ones((10, 9, 1), np.uint8))
    for bundle, level in ((Bundle(exported.path), 2), (Bundle(), 5)):
        found = set()
        for kernel in dots_kernels():
            monkeypatch.setenv("BASIC_DOTS_KERNEL", kernel)
            for threads, tile in ((1, None), (2, None), (1, 64), (2, 128)):
                codec = Codec(bundle, threads=threads, tile_pixels=tile)
                data = codec.encode(picture, quality=60, level=level)
                found.add((data, codec.decode(data).tobytes()))
        assert len(found) == 1


def test_the_command_line_takes_it_unless_told(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    codec = Codec(bundle)
    assert (codec.backend.name, codec.backend.precision) == ("auto", "int16")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    plain = Codec(bundle, threads=1, precision=FLOAT32)
    data = codec.encode(picture, quality=50, level=7)
    assert not np.array_equal(codec.decode(data), plain.decode(data))


def test_no_library_for_networks_is_loaded(exported: Exported) -> None:
    code = (
        "import sys, numpy as np; from basic_runtime import Codec; codec = Codec(sys.argv[1]); "
        "codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8))); "
        "assert not {'onnxruntime', 'openvino', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(exported.path)], check=True)


def test_gray_pictures_are_the_mean_of_the_colours(exported: Exported) -> None:
    codec = Codec(exported.path)
    gray = np.random.default_rng(0).integers(0, 256, (70, 45), np.uint8)
    colours = codec.encode(np.repeat(gray[:, :, None], 3, axis=2), quality=90, level=3)
    decoded = codec.decode(unfiltered(colours)).astype(float).mean(axis=2)
    assert np.abs(codec.decode(unfiltered(codec.encode(gray, quality=90, level=3))) - decoded).max() <= 0.5 + 1e-9


def test_bundles_without_formats_are_computed_in_float32(
    exported: Exported, photo_folder: Path, tmp_path: Path
) -> None:
    """And their formats can be found from them as they were at the export."""
    path = tmp_path / "old"
    shutil.copytree(exported.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    formats = {name: entry.pop("formats") for name, entry in manifest["graphs"].items() if "formats" in entry}
    (path / "manifest.json").write_text(json.dumps(manifest))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    floats = Codec(exported.path, threads=1, precision=FLOAT32)
    data = Codec(path).encode(picture, quality=30, level=1)
    assert data == floats.encode(picture, quality=30, level=1)
    np.testing.assert_array_equal(Codec(path).decode(data), floats.decode(data))

    assert formats_of(Bundle(path), fixed_point_photos(photo_folder)) == formats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [3, 3]}, "steps must rise"),
        ({"steps": [70]}, "steps must be a list of integers from 0 to 63"),
        ({"bits": {"a": [1]}}, "bits.a must have a number for each"),
        ({"bits": {"a": ["1"]}}, "bits.a must be a list of integers"),
        ({"wide": [3]}, "wide must be a list of names"),
    ],
)
def test_damaged_formats_are_told(exported: Exported, tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(exported.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    entry = next(entry for entry in manifest["graphs"].values() if "formats" in entry)
    entry["formats"].update(change)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        Bundle(path)


def test_between_steps_both_are_safe() -> None:
    spec = FormatsSpec((0, 10, 20), {"a": (9, 8, 5)}, frozenset({"a"}))
    assert [formats_at(spec, step)["a"].bits for step in (0, 1, 10, 11, 19, 20, 63)] == [9, 8, 8, 5, 5, 5, 5]


def simple(tmp_path: Path, nodes: list, outputs: int = 4, **constants: np.ndarray):
    """A graph that reads x (1, 3, h, w), lowered."""
    info = helper.make_tensor_value_info
    initial = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    x, y = ([1, 3, "h", "w"], [1, outputs, "a", "b"])
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", [info("x", float32, x)], [info("y", float32, y)], initial)
    path = tmp_path / "g.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return pixel_graph(read_graph(path, tmp_path), {"x": 1}, {})


PATCH = helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, group=1)


def test_a_small_network_by_hand(tmp_path: Path) -> None:
    """Sums of patches, moved, cut at zero and added to: to the last bit what the numbers say."""
    rng = np.random.default_rng(3)
    weights, bias, square = rng.normal(size=(4, 3, 2, 2)), rng.normal(size=(1, 4, 1, 1)), rng.normal(size=(4, 4, 1, 1))
    middle = helper.make_node("Sub", ["x", "half"], ["m"])
    patch = helper.make_node("Conv", ["m", "w"], ["c"], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, group=1)
    nodes = [
        middle, patch, helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("Conv", ["d", "s"], ["e"], kernel_shape=[1, 1]), helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("Conv", ["f", "s"], ["g"], kernel_shape=[1, 1]), helper.make_node("Add", ["d", "g"], ["y"]),
    ]  # fmt: skip
    weights, bias, square = (v.astype(np.float16).astype(np.float32) for v in (weights, bias, square))
    lowered = simple(tmp_path, nodes, half=np.array(0.5), w=weights, b=bias, s=square)
    keys = {tensor.key for tensor in lowered.tensors}
    network = fixed_point(lowered, {key: Format(8) for key in keys}, {})
    engine = PixelEngine(network, 1)
    pixels = rng.integers(0, 256, (6, 10, 3), np.uint8)
    (found,) = engine.run({"x": pixels.transpose(2, 0, 1)[None]}).values()
    from_floats = engine.run({"x": (pixels.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]})["y"]
    np.testing.assert_array_equal(found, from_floats)
    x = pixels.astype(np.float64).transpose(2, 0, 1) / 255 - 0.5
    blocks = x.reshape(3, 3, 2, 5, 2)
    d = np.einsum("ocij,caibj->oab", weights, blocks) + bias[0]
    f = np.maximum(np.einsum("oc,cab->oab", square[:, :, 0, 0], d), 0)
    y = d + np.einsum("oc,cab->oab", square[:, :, 0, 0], f)
    assert np.abs(found[0] - y).max() < 0.05 and np.abs(found[0] - y).max() > 0


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[1, 1], pads=[0] * 4)],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[2, 2], dilations=[2, 2])],
        [PATCH, helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=2, mode="DCR")],
        [PATCH, helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=0, mode="CRD")],
        [PATCH, helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=-1, mode="CRD")],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[1, 1], pads=[-1, 1, 2, 0])],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0] * 4)],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[0, 0], pads=[0] * 4)],
        [helper.make_node("Conv", ["x", "w"], [])],
        [PATCH, helper.make_node("Mul", ["c", "c"], ["y"])],
        [PATCH, helper.make_node("Add", ["c", "missing"], ["y"])],
        [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")],
        [helper.make_node("Conv", ["x"], ["y"])],
        [
            helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT16),
            helper.make_node("Conv", ["x", "v"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        [helper.make_node("Slice", ["x", "w", "w", "w"], ["y"])],
    ],
)
def test_other_graphs_are_not_taken(tmp_path: Path, nodes: list) -> None:
    with pytest.raises(NotPixelGraphError):
        lowered = simple(tmp_path, nodes, w=np.ones((4, 3, 2, 2)))
        fixed_point(lowered, {tensor.key: Format(8) for tensor in lowered.tensors}, {})


def test_sums_with_too_few_bits_are_refused(tmp_path: Path) -> None:
    middle = helper.make_node("Sub", ["x", "half"], ["m"])
    patch = helper.make_node("Conv", ["m", "w"], ["c"], kernel_shape=[2, 2], strides=[2, 2])
    nodes = [middle, patch, helper.make_node("Conv", ["c", "s"], ["y"], kernel_shape=[1, 1])]
    lowered = simple(tmp_path, nodes, half=np.array(0.5), w=1e4 * np.ones((4, 3, 2, 2)), s=1e6 * np.ones((4, 4, 1, 1)))
    with pytest.raises(NotPixelGraphError, match="too few bits"):
        fixed_point(lowered, {tensor.key: Format(8) for tensor in lowered.tensors}, {})


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.integers(1, 3), st.integers(0, 99))
def test_patches_are_squares_of_pixels(size: int, rows: int, columns: int, threads: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (rows * size, columns * size + 3, 3), np.uint8)
    pixels = pixels[:, : columns * size]
    found = take_patches(pixels, size, threads)
    split = (2 * pixels.astype(np.int16) - 255).reshape(rows, size, columns, size, 3).transpose(1, 3, 4, 0, 2)
    np.testing.assert_array_equal(found[0], split.reshape(3 * size**2, rows, columns))


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.integers(1, 16), st.integers(0, 99))
def test_pixels_are_rounded_from_patches(size: int, rows: int, columns: int, bits: int, seed: int) -> None:
    channels, threads = 3 * size**2, 1 + seed % 3
    values = np.random.default_rng(seed).integers(-32768, 32768, (1, channels, rows, columns)).astype(np.int16)
    graph = IntegerGraph([Reading.of("v", channels)], [], {"p": (View(0, 0, channels),)})
    plane = NativeEngine(graph, 1).run({"v": values})["p"]
    wanted = np.clip((values.astype(int) * 255 + (1 << (bits - 1))) >> bits, 0, 255)
    split = wanted.reshape(3, size, size, rows, columns).transpose(3, 1, 4, 2, 0)
    np.testing.assert_array_equal(
        pixels_of_patches(plane, size, bits, threads), split.reshape(rows * size, columns * size, 3)
    )


def test_patches_that_do_not_divide_are_refused() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    for wrong, size in ((pixels, 4), (pixels, 0), (pixels, 9), (pixels[:, ::2], 1), (pixels[:, :, :2], 1)):
        with pytest.raises(ValueError, match="patches must be|pixels must be"):
            take_patches(wrong, size)
    with pytest.raises(TypeError, match="uint8"):
        take_patches(pixels.astype(np.int16), 2)


def test_gain_is_the_name_that_graphs_use(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    graph = read_graph(bundle.graph_path(bundle.level(0).g_s), bundle.weights_folder)
    assert set(graph.inputs) == {"y", GAIN}


def test_networks_of_many_qualities_take_bounded_memory(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose users choose the quality kept 128 networks."""
    bundle = Bundle(exported.path)
    name = bundle.level(7).g_s
    path = PixelPath(bundle)
    (first,) = path.engines(name, 0, 1)
    assert isinstance(first, PixelEngine)
    monkeypatch.setattr(pixel_path, "_KEPT_BYTES", 3 * first.weight_bytes)
    assert path.engines(name, 0, 1)[0] is first
    for step in (1, 2):
        path.engines(name, step, 1)
    assert path.engines(name, 0, 1)[0] is first
    path.engines(name, 3, 1)  # in the place of step 1, which was used longest ago
    assert path.engines(name, 0, 1)[0] is first
    monkeypatch.setattr(pixel_path, "_KEPT_BYTES", 0)
    path.engines(name, 4, 1)
    assert path.engines(name, 4, 1)[0] is path.engines(name, 4, 1)[0]
    assert path.engines(name, 0, 1)[0] is not first
