"""Graphs in parts: where they are cut, that the parts do what the whole does, and that bundles without them work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from basic_export.bundle import write_parts
from basic_export.cli import main
from basic_export.parts import split
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.errors import BundleError

from .models import Exported


def test_parts_do_what_the_graph_does(exported: Exported) -> None:
    bundle, backend = Bundle(exported.path), OnnxRuntimeBackend(threads=1)
    rng = np.random.default_rng(0)

    def run(graph: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        path = bundle.graph_path(graph)
        return backend.load(path, external_data=bundle.weights_folder, strict=False).run(values)

    cut = [spec for spec in bundle.manifest.graphs.values() if spec.parts]
    assert {spec.transform for spec in cut} == {"g_a", "g_s"}
    for spec in cut:
        assert spec.parts is not None and spec.reach is not None
        channels, main_input = (3, "x") if spec.transform == "g_a" else (bundle.manifest.y_channels, "y")
        values = {
            main_input: rng.random((1, channels, 128, 192), np.float32)[:, :, :: 1 if channels == 3 else 16],
            "gain": rng.random((1, bundle.manifest.y_channels, 1, 1), np.float32) + 0.5,
        }
        values[main_input] = np.ascontiguousarray(values[main_input])
        (whole,) = run(spec.id, values).values()
        for part in spec.parts.graphs:
            found = run(part.id, values)
            values |= found
        np.testing.assert_allclose(*found.values(), whole, atol=1e-5 * np.abs(whole).max())
        assert len(spec.parts.graphs) > 1 and set(spec.parts.strides) < set(values)


def test_no_part_reaches_as_far_as_the_graph(exported: Exported) -> None:
    """In rows of the picture: that is what parts are for."""
    bundle = Bundle(exported.path)
    for spec in bundle.manifest.graphs.values():
        if spec.parts is None or spec.reach is None:
            continue
        stride = 1 if spec.transform == "g_a" else 16
        strides = {"x": 1, "y": 16} | spec.parts.strides
        for part in spec.parts.graphs:
            model = onnx.load(bundle.graph_path(part.id), load_external_data=False)
            coarsest = max(strides.get(value.name, 1) for value in model.graph.input)
            assert part.reach * coarsest < spec.reach * stride
            assert part.bytes_per_pixel > 0


def test_graphs_of_one_resolution_are_not_cut() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, "h", "w"])
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 4, 3, 3), np.zeros(144))
    nodes = [
        helper.make_node("Conv", [a, "w"], [b], kernel_shape=[3, 3], pads=[1] * 4)
        for a, b in (("x", "a"), ("a", "out"))
    ]
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [out], [weights]), opset_imports=opsets)
    assert split(model, {"x": 1}) is None


def _without_parts(bundle: Path, target: Path) -> Path:
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    for entry in manifest["graphs"].values():
        for part in entry.pop("parts", {"graphs": []})["graphs"]:
            (target / "graphs" / f"{part['id']}.onnx").unlink(missing_ok=True)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def test_parts_of_a_stored_graph_are_those_that_it_has(exported: Exported, tmp_path: Path) -> None:
    """Of graphs whose weights are references into the bundle, one after the other."""
    older = _without_parts(exported.path, tmp_path / "older")
    entries = json.loads((exported.path / "manifest.json").read_text())["graphs"]
    found = {}
    for name, entry in entries.items():
        model = onnx.load(older / "graphs" / f"{name}.onnx", load_external_data=False)
        found[name] = write_parts(older, model, entry["transform"])
    assert found == {name: {k: v for k, v in entry.items() if k == "parts"} for name, entry in entries.items()}
    assert sum(map(bool, found.values())) == 6
    for path in (exported.path / "graphs").iterdir():
        assert (older / "graphs" / path.name).read_bytes() == path.read_bytes()


def test_a_bundle_without_parts_decodes_the_same(exported: Exported, tmp_path: Path) -> None:
    older = _without_parts(exported.path, tmp_path / "older")
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    data = Codec(exported.path, tile_pixels=64).encode(pixels, quality=70, level=7)
    difference = np.abs(
        Codec(exported.path, tile_pixels=64).decode(data).astype(int) - Codec(older, tile_pixels=64).decode(data)
    )
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-4


def test_a_damaged_part_is_found(exported: Exported, tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported.path, tmp_path / "copy"))
    spec = next(spec for spec in Bundle(copy).manifest.graphs.values() if spec.parts)
    assert spec.parts is not None
    path = copy / "graphs" / f"{spec.parts.graphs[0].id}.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="damaged"):
        Bundle(copy)
    arguments = [copy, "--level", f"0={tiny_checkpoint}", "--name", "new", "-o", tmp_path / "new"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1 and "damaged" in result.output and "Traceback" not in result.output
