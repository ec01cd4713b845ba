"""From a supernet to a bundle: levels, integer entropy paths, graphs, tables, golden vectors, checks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from basic_export import golden, photos, verify
from basic_export.bundle import new_bundle
from basic_export.fixed_point import formats_of
from basic_export.gradient import gradient_formats_of
from basic_export.levels import choose_levels
from basic_export.net_export import Latents, NetExport, Pruned, cropped, require_grouped
from basic_export.options import Options, Steps
from basic_export.post_filters import filters_of
from basic_runtime.bundle import Bundle
from basic_runtime.container import QUALITY_STEPS
from basic_runtime.definitions import GRAPHS, MANIFEST
from basic_runtime.tables import TableArrays
from basic_train.model.coded import RateCost, coder_tables, symbol_counts
from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet
from basic_train.progress import Progress, silent

#: The coder's tables are fitted to so many latents of each entropy path, of the same size: with 48 photos to 12 of the
#: finest quality and 12 of each of four others.
TABLE_LATENTS = 60


@dataclass
class Level:
    """A level of a bundle by its channels in g_a, h_a, h_s and g_s, and costs per pixel."""

    channels: dict[str, int]
    encode_macs_per_pixel: float
    decode_macs_per_pixel: float


@dataclass
class Report:
    """What was exported, and how well. Sizes in bytes; weight_bytes: of all graphs without sharing."""

    path: Path
    name: str
    model_id: str
    levels: list[Level]
    graphs: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    weight_bytes: int
    pruned: Pruned
    rate_costs: list[RateCost]
    half_effects: list[verify.HalfEffect]
    checks: list[verify.Check] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    encoder_percent: dict[int, float] = field(default_factory=dict)
    """By level whose encoder another one took the place of: change of bits at equal distortion."""
    silenced: int = 0
    """Hidden units of that encoder that were not dead, and were pruned, too."""
    seconds: float = 0.0


def export_bundle(net: Supernet, target: Path, options: Options, progress: Progress = silent) -> Report:
    """Export a supernet, which is put into eval mode, as a bundle in the new folder `target`.

    Raises ExportError (a graph that differs from PyTorch, levels that do not fit, an entropy path that cannot
    be made exact), FileError (the target), ImageError (photos).
    """
    require_grouped(net)
    started = time.perf_counter()
    with new_bundle(target, options.overwrite) as writer:
        levels = choose_levels(net, options.levels)
        step = Steps(progress)
        parts = NetExport(net.float().eval(), levels, writer, options, step)
        parts.prune()
        latents = parts.integer_paths()
        step("tables for the symbols of the entropy paths")
        tables = _fitted_tables(parts, latents)
        parts.add_variants(tables, latents)
        parts.add_pixels()
        step("tables and golden vectors")
        _write_files(parts, tables)
        manifest = complete(parts, {"name": options.name}, _fields(parts))
        checks = parts.check()
        report = report_of(parts, manifest, writer.graphs, checks)
        step("done")
    report.seconds = time.perf_counter() - started
    return report


def _fitted_tables(parts: NetExport, latents: list[list[Latents]]) -> TableArrays:
    """The rows of y serve all widths, so that the symbols of all count."""
    counted = [
        symbol_counts(parts.net, integer, cropped(found[-TABLE_LATENTS:]))
        for integer, found in zip(parts.integers, latents, strict=True)
    ]
    return coder_tables(parts.net, [sum(rows) for rows in zip(*counted, strict=True)])


def _write_files(parts: NetExport, tables: TableArrays) -> None:
    parts.writer.write_tables(coder_arrays(parts.net, tables, parts.integers[0].index_lut))
    full = {name: parts.pixels[name, indexes[-1]][1] for name, indexes in parts.pixel_indexes.items()}
    parts.writer.write_golden(parts.golden_tensors() | golden.pixel_tensors(parts.net, full, parts.photo))


def complete(parts: NetExport, model: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest (`BundleWriter.write_manifest`), with what is found out of the net's graphs in the bundle
    itself, opened as a user will open it; returns it."""
    writer, options = parts.writer, parts.options
    graphs = {graph_id for graph_id, _ in parts.pixels.values()}

    def write() -> Bundle:
        writer.write_manifest(model, fields)
        return Bundle(writer.folder)

    parts.hash_golden(write())
    parts.step("formats of fixed point")
    calibration = photos.fixed_point_photos(options.photos)
    for name, formats in formats_of(write(), calibration, graphs).items():
        writer.graphs[name]["formats"] = formats
    for name, formats in gradient_formats_of(write(), calibration, graphs).items():
        writer.graphs[name]["gradient_formats"] = formats
    pictures = photos.filter_photos(options.photos)
    for name, weights in filters_of(write(), pictures, parts.step, graphs).items():
        writer.graphs[name]["filter"] = weights
    return writer.write_manifest(model, fields)


def _fields(parts: NetExport) -> dict[str, Any]:
    config = parts.net.config
    return {
        "latent": {
            "y_channels": config.y_channels,
            "z_channels": config.z_channels,
            "y_stride": Y_STRIDE,
            "z_stride": Z_STRIDE,
        },
        "mean_bits": parts.integers[0].mean_bits,
        "z_amax": parts.integers[0].z_amax,
        "quality_steps": QUALITY_STEPS,
        "lambda": {"lowest": config.lambda_min, "highest": config.lambda_max},
        "entropy": parts.variants,
        "levels": [parts.level_entry(level) for level in parts.levels],
    }


def report_of(
    parts: NetExport, manifest: dict[str, Any], graphs: dict[str, dict[str, Any]], checks: list[verify.Check]
) -> Report:
    """What was made of a net: `graphs` of it, and all levels of the bundle."""
    writer = parts.writer
    sizes = {name: writer.size_of(name) for name in (MANIFEST, *manifest["files"])}
    sizes["graphs"] = sum(path.stat().st_size for path in (writer.folder / GRAPHS).iterdir())
    notices = parts.notices()
    if not any("filter" in entry for entry in manifest["graphs"].values()):
        notices.append(
            "no filters of decoded pixels: they take two photos or more, and must improve those that they are not "
            "fitted to; name a folder of more photos with --data"
        )
    return Report(
        writer.target,
        manifest["model"]["name"],
        manifest["model"]["id"],
        levels_of(manifest),
        graphs,
        sizes,
        writer.weights.referenced_bytes,
        parts.pruned,
        parts.rate_costs,
        parts.half_effects(),
        checks,
        notices,
    )


def levels_of(manifest: dict[str, Any]) -> list[Level]:
    """The levels that a manifest describes."""
    graphs, found = manifest["graphs"], []
    for entry in manifest["levels"]:
        channels = {name: graphs[entry[name]]["width"] for name in ("g_a", "h_a")}
        channels["h_s"] = manifest["entropy"][entry["entropy"]]["width"]
        channels["g_s"] = graphs[entry["g_s"]]["width"]
        found.append(Level(channels, entry["encode_macs_per_pixel"], entry["decode_macs_per_pixel"]))
    return found


@torch.no_grad()
def coder_arrays(net: Supernet, tables: TableArrays, index_lut: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of tables.safetensors: coder rows, index table, gains (quality_steps, M) of both ends."""
    return {
        "coder.freqs": tables.freqs,
        "coder.sizes": tables.sizes,
        "coder.offsets": tables.offsets,
        "coder.shifts": tables.shifts,
        "index_lut": index_lut,
        **gain_arrays(net),
    }


@torch.no_grad()
def gain_arrays(net: Supernet) -> dict[str, np.ndarray]:
    """Of those, the gains."""
    quality = torch.arange(QUALITY_STEPS) / (QUALITY_STEPS - 1)
    gains = {"gain.encode": net.gains.encode(quality), "gain.decode": net.gains.decode(quality)}
    return {name: gain.flatten(1).float().numpy() for name, gain in gains.items()}
