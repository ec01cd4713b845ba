"""Replaces a level of a bundle by a net of its own (`basic_train.narrow`).

All levels of a bundle share their latents, so that any decodes what any other has encoded: the gains, the prior of z
and the coder's tables are the bundle's, and a net must fit these. The new bundle keeps all that the old one had, and
decodes the files of both.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from basic_export.bundle import CARRIED_FIELDS, earlier_models, new_bundle
from basic_export.copies import copy_graphs, renamed
from basic_export.errors import ExportError
from basic_export.export import Report, complete, gain_arrays, report_of
from basic_export.net_export import NetExport, require_grouped
from basic_export.options import Options, Steps
from basic_runtime.bundle import Bundle
from basic_runtime.definitions import GOLDEN, MANIFEST, TABLES
from basic_runtime.tables import SCALES, TableArrays
from basic_train.model.coded import coder_tables
from basic_train.model.integer import IntegerEntropy
from basic_train.model.supernet import Supernet
from basic_train.progress import Progress, silent

#: Relative difference of gains, and difference of the coder's frequencies of z, up to which they are the same ones,
#: computed on another processor.
SAME_GAIN, SAME_FREQUENCY = 1e-5, 1


class NetError(ExportError):
    """A net cannot be the level that it should be."""


def replace_level(
    source: Path, number: int, net: Supernet, target: Path, options: Options, progress: Progress = silent
) -> Report:
    """Write a bundle in the new folder `target` that is the one in `source` with `net`, which has one width, as its
    level `number`, and with the name of `options`. The report's graphs and checks are those of the net.

    Raises NetError for a net that does not share the bundle's latents or does not cost more than the level below and
    less than the one above, and what `export_bundle` raises.
    """
    require_grouped(net)
    started, bundle = time.perf_counter(), Bundle(source)
    _require_own(bundle, net, number)
    require_same_latents(bundle, net)
    old = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    if options.name == old["model"]["name"]:
        raise ExportError(f"{source}: is called {options.name}: a bundle with another level needs another --name")
    net = net.float().eval()
    step = Steps(progress)
    with new_bundle(target, options.overwrite) as writer:
        step("graphs of the bundle")
        names = copy_graphs(source, old["graphs"], old["graphs"], writer)
        parts = NetExport(net, [net.full], writer, options, step, first_variant=len(old["entropy"]))
        parts.prune()
        latents = parts.integer_paths()
        _require_same_integers(bundle, parts.integers[0])
        parts.add_variants(TableArrays(*bundle.coder_rows), latents)
        parts.add_pixels()
        fields = {name: old[name] for name in CARRIED_FIELDS if name in old}
        fields |= {"entropy": renamed(old["entropy"], names) + parts.variants, "levels": renamed(old["levels"], names)}
        fields["levels"][number] = parts.level_entry(net.full)
        require_rising(fields["levels"])
        writer.write_tables(load_file(source / TABLES))
        writer.write_golden(load_file(source / GOLDEN) | parts.golden_tensors())
        model = {"name": options.name, "earlier": renamed(earlier_models(old), names)}
        manifest = complete(parts, model, fields)
        checks = parts.check()
        graphs = {name: entry for name, entry in manifest["graphs"].items() if name not in names.values()}
        report = report_of(parts, manifest, graphs, checks)
        step("done")
    report.seconds = time.perf_counter() - started
    return report


def _require_own(bundle: Bundle, net: Supernet, number: int) -> None:
    last = len(bundle.manifest.levels) - 1
    if number >= last:
        raise ExportError(f"{bundle.path}: has levels 0 to {last}, of which all but the last can be nets of their own")
    if len(net.config.widths) != 1:
        raise NetError(f"has {len(net.config.widths)} widths, not one: make a level of it with basic-train narrow")


def require_same_latents(bundle: Bundle, net: Supernet) -> None:
    """Raises NetError for a net whose latents are not those that all levels of the bundle share."""
    ours = net.config.y_channels, net.config.z_channels
    theirs = bundle.manifest.y_channels, bundle.manifest.z_channels
    if ours != theirs:
        raise NetError(
            f"has {ours[0]} and {ours[1]} latent channels, the bundle {theirs[0]} and {theirs[1]}: narrow the bundle's "
            "own checkpoint"
        )
    # The bundle may be of a copy of the checkpoint that was stored as float16.
    if not (_same_latents(bundle, net) or _same_latents(bundle, copy.deepcopy(net).half().float())):
        raise NetError(
            "has other gains or another prior of z than the bundle, which all levels share: narrow the bundle's own "
            "checkpoint, and train with --freeze gains,z_prior"
        )


def _same_latents(bundle: Bundle, net: Supernet) -> bool:
    """But for the last bits of float32: exponentials differ from processor to processor."""
    stored = load_file(bundle.path / TABLES)
    gains = all(np.allclose(stored[name], values, rtol=SAME_GAIN, atol=0) for name, values in gain_arrays(net).items())
    ours, theirs = (_rows_of_z(tables) for tables in (coder_tables(net), TableArrays(*bundle.coder_rows)))
    if not gains or any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return False
    apart = np.abs(ours[0].astype(np.int64) - theirs[0]).max()
    return bool(apart <= SAME_FREQUENCY) and all(map(np.array_equal, ours[1:], theirs[1:]))


def _rows_of_z(tables: TableArrays) -> tuple[np.ndarray, ...]:
    """Frequencies, sizes, offsets and shifts of the rows behind those of y."""
    first = len(SCALES)
    behind = int(tables.sizes[:first].sum())
    return tables.freqs[behind:], tables.sizes[first:], tables.offsets[first:], tables.shifts[first:]


def _require_same_integers(bundle: Bundle, integer: IntegerEntropy) -> None:
    found = integer.mean_bits, integer.z_amax
    wanted = bundle.manifest.mean_bits, bundle.manifest.z_amax
    if found != wanted or not np.array_equal(integer.index_lut, bundle.index_lut):
        raise ExportError(
            f"{bundle.path}: has integers of another kind than this version exports: export its checkpoint anew first"
        )


def require_rising(levels: list[dict[str, Any]]) -> None:
    """Raises NetError for entries of a manifest that do not rise in cost."""
    totals = [level["encode_macs_per_pixel"] + level["decode_macs_per_pixel"] for level in levels]
    for number, (before, after) in enumerate(zip(totals, totals[1:], strict=False)):
        if before >= after:
            raise NetError(
                f"with it level {number + 1} costs {after:.0f} multiplications per pixel, level {number} {before:.0f}: "
                "each level must cost more than the one before; narrow it further, or replace another level"
            )
