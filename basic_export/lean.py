"""Takes units that nothing stirs out of the g_a of a bundle that is there already.

What files decode to hangs on h_s, the stages, g_s and the tables, which stay as they are, so the bundle keeps its
model id: it decodes all files that it ever made, and those that it makes now decode with its older copies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from basic_export import photos
from basic_export.bundle import CARRIED_FIELDS, GOLDEN, MANIFEST, TABLES, BundleWriter
from basic_export.copies import copy_graphs, renamed
from basic_export.errors import ExportError
from basic_export.export import gain_arrays
from basic_export.fixed_point import formats_of
from basic_export.levels import choose_levels
from basic_export.pixel import export_pixel
from basic_runtime.bundle import Bundle
from basic_train.model import units
from basic_train.model.supernet import Supernet


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
        names = _analyses(net, indexes, writer)
        others = [name for name in old["graphs"] if name not in indexes]
        names |= copy_graphs(path, old["graphs"], others, writer)
        writer.write_tables(load_file(path / TABLES))
        writer.write_golden(load_file(path / GOLDEN))
        fields = {name: old[name] for name in CARRIED_FIELDS if name in old}
        fields |= {"entropy": renamed(old["entropy"], names), "levels": _levels(old, writer, names)}
        model = renamed(old["model"], names)
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


def _analyses(net: Supernet, indexes: dict[str, int], writer: BundleWriter) -> dict[str, str]:
    """Write g_a anew at these widths; returns the new names of the graphs that had it."""
    names = {}
    for name, index in indexes.items():
        graph = export_pixel(net, "g_a", index)
        names[name] = writer.add_graph(graph.model, "g_a", graph.width, graph.macs_per_pixel)
    return names


def _levels(old: dict[str, Any], writer: BundleWriter, names: dict[str, str]) -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = renamed(old["levels"], names)
    for level, before in zip(levels, old["levels"], strict=True):
        saved = old["graphs"][before["g_a"]]["macs_per_pixel"] - writer.graphs[level["g_a"]]["macs_per_pixel"]
        level["encode_macs_per_pixel"] = round(before["encode_macs_per_pixel"] - saved, 3)
    return levels
