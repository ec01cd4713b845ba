"""The bundle that the command wrote: complete, shared, deterministic, and what the runtime runs from."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from basic_export.errors import ExportError
from basic_export.export import export_bundle
from basic_export.options import Options
from basic_export.photos import bundled_photo
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_train.model import units
from basic_train.model.cost import Costs
from basic_train.model.presets import PRESETS
from basic_train.model.supernet import Supernet

from .models import Exported


@pytest.fixture(scope="module")
def bundle(exported: Exported) -> Bundle:
    return Bundle(exported.path)


def test_the_runtime_accepts_it(bundle: Bundle, tiny_net: Supernet) -> None:
    manifest, config = bundle.manifest, tiny_net.config
    assert (manifest.y_channels, manifest.z_channels) == (config.y_channels, config.z_channels)
    assert (manifest.y_stride, manifest.z_stride) == (16, 64)
    assert manifest.model_name == "tiny-1"
    assert len(manifest.levels) == 8
    stored = json.loads((bundle.path / "manifest.json").read_text())
    assert stored["opset"] == 20 and set(stored["producer"]) == {"basic", "torch", "onnx"}
    assert [spec.width for spec in manifest.entropy_variants] == list(config.hyper_widths)


def test_only_the_bundle_is_left_behind(exported: Exported) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == [exported.path.name]
    assert sorted(path.name for path in exported.path.iterdir()) == [
        "golden.safetensors", "graphs", "manifest.json", "tables.safetensors", "weights.bin",
    ]  # fmt: skip


def test_others_may_read_it(exported: Exported) -> None:
    modes = {path.stat().st_mode & 0o777 for path in exported.path.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_graphs_are_shared_between_levels(bundle: Bundle) -> None:
    files = sorted(path.stem for path in (bundle.path / "graphs").iterdir())
    parts = {part.id for spec in bundle.manifest.graphs.values() if spec.parts for part in spec.parts.graphs}
    assert files == sorted({*bundle.manifest.graphs, *parts})
    used = {level.g_a for level in bundle.manifest.levels}
    assert len(used) == 3 < len(bundle.manifest.levels)


def test_weights_are_stored_once(exported: Exported, tiny_net: Supernet) -> None:
    sizes = exported.report["bytes"]
    assert sizes["weights.bin"] < 0.6 * sizes["unshared weights"]
    parameters = sum(p.numel() for p in tiny_net.parameters())
    assert sizes["weights.bin"] < 3.5 * parameters


def test_levels_cost_what_their_graphs_cost(bundle: Bundle, tiny_net: Supernet) -> None:
    graphs = bundle.manifest.graphs
    for level in bundle.manifest.levels:
        variant = bundle.entropy(level.entropy_variant)
        entropy = graphs[variant.h_s].macs_per_pixel + sum(graphs[s.graph].macs_per_pixel for s in variant.stages)
        decode = entropy + graphs[level.g_s].macs_per_pixel
        assert level.decode_macs_per_pixel == pytest.approx(decode, abs=0.05)
        encode = entropy + graphs[level.g_a].macs_per_pixel + graphs[level.h_a].macs_per_pixel
        assert level.encode_macs_per_pixel == pytest.approx(encode, abs=0.05)
    totals = [level.encode_macs_per_pixel + level.decode_macs_per_pixel for level in bundle.manifest.levels]
    assert totals == sorted(set(totals))
    assert totals[-1] <= Costs.of(tiny_net).total(tiny_net.full)


def test_graphs_are_dynamic_and_free_of_traces(bundle: Bundle) -> None:
    for graph_id in bundle.manifest.graphs:
        data = bundle.graph_path(graph_id).read_bytes()
        assert b"/home" not in data and b"site-packages" not in data
        model = onnx.load_model_from_string(data)
        for value in model.graph.input:
            dims = value.type.tensor_type.shape.dim
            assert value.name == "gain" or all(dim.dim_param for dim in dims[2:])


def test_golden_vectors_hold_on_every_back_end_here(bundle: Bundle) -> None:
    for engine in ("onnxruntime", "openvino", "torch"):
        assert [check.error for check in Codec(bundle, engine).verify()] == [None] * 3


def test_golden_latents_reach_the_ends_of_their_range(bundle: Bundle) -> None:
    golden = load_file(bundle.path / "golden.safetensors")
    assert np.abs(golden["e0.z"]).max() == bundle.manifest.z_amax
    assert max(np.abs(v).max() for k, v in golden.items() if k.startswith("e0.y.")) > 2**21
    assert golden["xhat"].shape == golden["x"].shape == (1, 3, 64, 64)


def test_pictures_round_trip(bundle: Bundle) -> None:
    photo = bundled_photo("chelsea")[:130, :200]
    codec = Codec(bundle, "onnxruntime")
    for level in (0, 7):
        data = codec.encode(photo, quality=50, level=level)
        assert codec.decode(data).shape == photo.shape
        assert np.array_equal(codec.decode(data), codec.decode(data))


def test_the_manifest_is_readable(exported: Exported) -> None:
    text = (exported.path / "manifest.json").read_text()
    assert text.count("\n") > 100
    assert json.loads(text)["format"] == "basic-bundle"


def test_models_without_a_grouped_context_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'hyperprior' has no grouped context model"):
        export_bundle(Supernet(PRESETS["hyperprior"]), tmp_path / "bundle", Options("none"))
    assert not list(tmp_path.iterdir())


def test_dead_units_are_pruned(tiny_net: Supernet, exported: Exported, photo_folder: Path, tmp_path: Path) -> None:
    """Of one layer all, so that its block is a constant; of another those of the narrow widths, where one stays."""
    net = copy.deepcopy(tiny_net)
    found = units.layers(net)
    for name, idle in (("g_a.body.layers.3", slice(None)), ("g_s.body.layers.4", slice(0, 12))):
        layer = found[f"{name}.body.layers.3"]
        with torch.no_grad():
            layer.into.bias[idle] = -30
            layer.out.bias.normal_(std=0.05)
    report = export_bundle(net, tmp_path / "lean", Options("lean", photos=photo_folder))
    assert report.pruned.units >= 16 + 16 and all(check.passed for check in report.checks)
    assert report.pruned.latents < 1e-4 and report.pruned.samples < 1e-2 and not report.notices
    assert len(layers_of(net, "g_a.body.layers.3")) == 2  # the net that was given stays as it was
    full, lean = Bundle(exported.path), Bundle(report.path)
    for old, new in zip(full.manifest.levels, lean.manifest.levels, strict=True):
        assert new.encode_macs_per_pixel < old.encode_macs_per_pixel
        assert new.decode_macs_per_pixel < old.decode_macs_per_pixel
    assert all(spec.formats for spec in lean.manifest.graphs.values() if spec.path == "pixel")
    pixels, codec = bundled_photo("astronaut")[:128, :192], Codec(lean, threads=1)
    for level in range(8):  # in fixed point, what was left out included
        assert codec.decode(codec.encode(pixels, quality=90, level=level)).shape == pixels.shape


def layers_of(net: Supernet, block: str) -> list[str]:
    return [name for name, layer in units.layers(net).items() if name.startswith(block) and layer.into.outs[0]]
