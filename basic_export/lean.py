"""Takes units that nothing stirs out of the g_a of a bundle that is there already.

What files decode to hangs on h_s, the stages, g_s and the tables, which stay as they are, so the bundle keeps its
model id: it decodes all files that it ever made, and those that it makes now decode with its older copies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from safetensors.numpy import load_file

from basic_export import photos
from basic_export.bundle import GOLDEN, GRAPHS, MANIFEST, TABLES, BundleWriter
from basic_export.errors import ExportError
from basic_export.export import gain_arrays
from basic_export.fixed_point import formats_of
from basic_export.levels import choose_levels
from basic_export.pixel import export_pixel
from basic_runtime.bundle import Bundle
from basic_train.model import units
from basic_train.model.supernet import Supernet

_FIELDS = ("latent", "mean_bits", "z_amax", "quality_steps", "lambda")


def lean_analysis(path: Path, net: Supernet, folder: Path | None = None) -> int:
    """Replace the g_a of a bundle's levels by that of its supernet without units that nothing stirs; returns how many
    units went: with none the bundle stays as it is. folder: photos that show it, scikit-image's unless told. `net` is
    changed.

    Raises ExportError for a net that the bundle is not of, FileError, BundleError, ImageError.
    """
    bundle = Bundle(path)
    levels = choose_levels(net, len(bundle.manifest.levels))
    _require_same(bundle, net, [level.g_a for level in levels])
    found = units.stirred(net, photos.varied_pictures(folder), levels)
    keep = {name: mask if name.startswith("g_a.") else torch.ones_like(mask) for name, mask in found.items()}
    count = units.leave_out(net, keep)
    if not count:
        return count
    old = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    indexes = {entry["g_a"]: level.g_a for entry, level in zip(old["levels"], levels, strict=True)}
    with BundleWriter(path, overwrite=True) as writer:
        names = _copy_graphs(path, old["graphs"], net, indexes, writer)
        writer.write_tables(load_file(path / TABLES))
        writer.write_golden(load_file(path / GOLDEN))
        fields = {name: old[name] for name in _FIELDS if name in old}
        fields |= {"entropy": _renamed(old["entropy"], names), "levels": _levels(old, writer, names)}
        model = old["model"]
        writer.write_manifest(model["name"], fields, model)
        formats = formats_of(Bundle(writer.folder), photos.fixed_point_photos(folder))
        for graph in indexes:
            writer.graphs[names[graph]]["formats"] = formats[names[graph]]
        writer.write_manifest(model["name"], fields, model)
        writer.commit()
    return count


def _require_same(bundle: Bundle, net: Supernet, indexes: list[int]) -> None:
    """Raises ExportError unless the levels of both have a g_a of the same widths that costs the same, and the gains of
    both, which every training changes, agree."""
    for level, index in zip(bundle.manifest.levels, indexes, strict=True):
        spec = bundle.graph(level.g_a)
        wanted = net.config.channels("g_a", index), round(net.g_a.macs(index), 3)
        if (spec.width, spec.macs_per_pixel) != wanted:
            raise ExportError(
                f"{bundle.path}: has a g_a of {spec.width} channels and {spec.macs_per_pixel} MAC per pixel where the "
                f"checkpoint has {wanted[0]} and {wanted[1]}: name the checkpoint that it was exported from"
            )
    tables = load_file(bundle.path / TABLES)
    for name, gains in gain_arrays(net).items():
        if not np.allclose(tables[name], gains, rtol=2e-3):  # checkpoints may be float16
            raise ExportError(
                f"{bundle.path}: has other gains than the checkpoint, which is of another training: name the "
                "checkpoint that it was exported from"
            )


def _copy_graphs(
    path: Path, entries: dict[str, Any], net: Supernet, indexes: dict[str, int], writer: BundleWriter
) -> dict[str, str]:
    """Write all graphs, those of g_a anew; returns their new names, which hold where weights lie."""
    names = {}
    for name, entry in entries.items():
        if name in indexes:
            graph = export_pixel(net, "g_a", indexes[name])
            names[name] = writer.add_graph(graph.model, "g_a", graph.width, graph.macs_per_pixel)
            continue
        model = _whole(path, name)
        names[name] = writer.add_graph(model, entry["transform"], entry["width"], entry["macs_per_pixel"])
        if "gradient" in entry:
            writer.add_gradient(names[name], _whole(path, entry["gradient"]))
        for field in ("formats", "filter"):
            if field in entry:
                writer.graphs[names[name]][field] = entry[field]
    return names


def _whole(path: Path, name: str) -> ModelProto:
    """A graph of a bundle with its weights inside."""
    model = onnx.load(path / GRAPHS / f"{name}.onnx", load_external_data=False)
    onnx.load_external_data_for_model(model, str(path))
    return model


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Entries of the manifest with the new names of graphs."""
    if isinstance(value, dict):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def _levels(old: dict[str, Any], writer: BundleWriter, names: dict[str, str]) -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = _renamed(old["levels"], names)
    for level, before in zip(levels, old["levels"], strict=True):
        saved = old["graphs"][before["g_a"]]["macs_per_pixel"] - writer.graphs[level["g_a"]]["macs_per_pixel"]
        level["encode_macs_per_pixel"] = round(before["encode_macs_per_pixel"] - saved, 3)
    return levels
