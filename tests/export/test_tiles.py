"""Large pictures in tiles: how far graphs reach, and that tiles change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from basic_export.errors import ExportError
from basic_export.reach import reach
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend

from .models import Exported

ROWS = {"g_a": 384, "h_a": 64, "h_s": 16, "stage": 24, "g_s": 32}


@pytest.mark.parametrize("transform", list(ROWS))
def test_nothing_beyond_the_reach_changes_an_output(exported: Exported, transform: str) -> None:
    """One changed input row (column) in the middle: outputs change within the reach, and as far as it says, but for
    what rounding to whole rows adds."""
    bundle = Bundle(exported.path)
    backend = OnnxRuntimeBackend(threads=1)
    rng = np.random.default_rng(0)
    for graph_id, spec in bundle.manifest.graphs.items():
        if spec.transform != transform:
            continue
        path = bundle.graph_path(graph_id)
        engine = backend.load(path, external_data=bundle.weights_folder, strict=True)
        inputs = _inputs(path, ROWS[transform], rng)
        before = engine.run(inputs)
        for axis in (2, 3):
            place = [slice(None)] * 4
            middle = ROWS[transform] // 2
            place[axis] = slice(middle, middle + 1)
            changed = {n: v.copy() for n, v in inputs.items()}
            for values in changed.values():
                if values.shape[axis] > 1:
                    values[tuple(place)] += 40
            after = engine.run(changed)
            assert spec.reach is not None
            furthest = max(_furthest(before[n], after[n], axis, middle, ROWS[transform]) for n in before)
            assert furthest <= spec.reach, (transform, spec)
            if transform in ("g_a", "g_s"):  # integer layers may clip or round a change away
                assert furthest >= spec.reach - ROWS[transform] // 16


def _inputs(path: Path, side: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    model = onnx.load(path, load_external_data=False)
    found = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        spatial = [1 if d.HasField("dim_value") else side for d in dims[2:]]
        found[value.name] = rng.integers(-9, 10, (1, dims[1].dim_value, *spatial)).astype(np.float32)
    return found


def _furthest(before: np.ndarray, after: np.ndarray, axis: int, middle: int, side: int) -> int:
    """Input rows between the changed one and the own rows of the changed output that is furthest away."""
    others = tuple(i for i in range(4) if i != axis)
    changed = np.flatnonzero((before != after).any(axis=others))
    if not changed.size:
        return 0
    rows = [(int(r * side / before.shape[axis]), -(-(r + 1) * side // before.shape[axis]) - 1) for r in changed]
    return max(max(0, middle - last, first - middle) for first, last in rows)


@pytest.mark.parametrize("size", [(300, 200), (129, 321), (64, 260)])
@pytest.mark.parametrize("tile", [64, 128, 192])
def test_a_file_decodes_to_the_same_picture_in_tiles(exported: Exported, size: tuple[int, int], tile: int) -> None:
    """Equal latents are checked by each decode itself, against the checksum in the file."""
    pixels = _picture(*size)
    whole, tiled = Codec(exported.path), Codec(exported.path, tile_pixels=tile)
    for level in (0, 7):
        for encoder in (whole, tiled):
            data = encoder.encode(pixels, quality=70, level=level)
            one, two = whole.decode(data), tiled.decode(data)
            difference = np.abs(one.astype(int) - two)
            assert difference.max() <= 1 and (difference > 0).mean() < 1e-4


def test_gray_pictures_in_tiles(exported: Exported) -> None:
    pixels = _picture(200, 150)[:, :, 0]
    whole, tiled = Codec(exported.path), Codec(exported.path, tile_pixels=64)
    data = tiled.encode(pixels, quality=70, level=3)
    assert np.abs(whole.decode(data).astype(int) - tiled.decode(data)).max() <= 1


def test_bundles_without_reach_run_whole(exported: Exported, tmp_path: Path) -> None:
    import shutil

    older = tmp_path / "older"
    shutil.copytree(exported.path, older)
    manifest = json.loads((older / "manifest.json").read_text())
    for graph in manifest["graphs"].values():
        del graph["reach"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    pixels = _picture(200, 150)
    data = Codec(older, tile_pixels=64).encode(pixels, quality=70, level=3)
    assert data == Codec(exported.path).encode(pixels, quality=70, level=3)


def test_tiles_must_lie_on_the_grid(exported: Exported) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        Codec(exported.path, tile_pixels=100)


def _picture(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    rng = np.random.default_rng(height)
    planes = [128 + 90 * np.sin(rows / a) * np.cos(columns / b) for a, b in ((9, 31), (23, 14), (40, 55))]
    return np.clip(np.stack(planes, -1) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


# --- reach of single nodes ------------------------------------------------------------------------------------------


def _graph(*nodes: onnx.NodeProto, weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    stored = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, np.zeros(dims).ravel()) for name, dims in weights.items()
    ]
    return helper.make_model(helper.make_graph(list(nodes), "g", [value], [out], stored))


@pytest.mark.parametrize(
    ("attributes", "kernel", "expected"),
    [
        ({"pads": [1, 1, 1, 1]}, (3, 3), 1),
        ({"pads": [0, 1, 0, 1]}, (1, 3), 1),
        ({"pads": [2, 0, 0, 2]}, (3, 3), 2),
        ({"strides": [4, 4]}, (4, 4), 0),
        ({"strides": [2, 2], "pads": [2, 2, 2, 2]}, (5, 5), 2),
    ],
)
def test_reach_of_convolutions(attributes: dict[str, list[int]], kernel: tuple[int, int], expected: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["out"], **attributes)
    assert reach(_graph(node, weights={"w": (4, 4, *kernel)})) == expected


def test_reach_adds_up_through_resolutions() -> None:
    """Up by two, then 3x3: half an input row, so the next one."""
    up = helper.make_node("DepthToSpace", ["x"], ["u"], blocksize=2, mode="CRD")
    conv = helper.make_node("Conv", ["u", "w"], ["out"], pads=[1, 1, 1, 1])
    assert reach(_graph(up, conv, weights={"w": (1, 1, 3, 3)})) == 1
    transposed = helper.make_node(
        "ConvTranspose", ["x", "w"], ["out"], strides=[2, 2], pads=[2, 2, 2, 2], output_padding=[1, 1]
    )
    assert reach(_graph(transposed, weights={"w": (4, 4, 5, 5)})) == 1


def test_unknown_nodes_are_refused() -> None:
    with pytest.raises(ExportError, match="Resize"):
        reach(_graph(helper.make_node("Resize", ["x"], ["out"]), weights={}))
