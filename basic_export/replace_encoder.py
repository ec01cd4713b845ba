"""Replaces the encoder of a level of a bundle, g_a and h_a, by that of a net that was trained on.

Nothing that decodes changes. So the model's name and id stay, and files that the new encoder makes decode wherever
those of the old one do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from basic_export import golden, photos, verify
from basic_export.bundle import CARRIED_FIELDS, new_bundle
from basic_export.copies import copy_graphs, renamed
from basic_export.export import Report, complete, report_of
from basic_export.lean import HALF_BITS, round_weights, silence_least
from basic_export.net_export import NetExport, require_grouped
from basic_export.options import Options, Steps
from basic_export.pixel import export_pixel
from basic_export.replace_level import NetError, require_rising, require_same_latents
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.definitions import GOLDEN, MANIFEST, TABLES
from basic_runtime.engines import create_backend
from basic_runtime.quality import quality_of_step
from basic_train.data import evenly
from basic_train.model.supernet import Supernet, Widths
from basic_train.progress import Progress, silent

#: What an encoder is.
ENCODER = ("g_a", "h_a")

#: Root mean square difference of pictures, in steps of an 8-bit value, from which a net's g_s is not the bundle's:
#: weights in float16 make less.
SAME_PICTURE = 0.25

#: Photos and quality steps on which encoders are compared.
COMPARED_PHOTOS, COMPARED_STEPS = 8, (6, 20, 38, 57)


def replace_encoder(
    source: Path,
    number: int,
    net: Supernet,
    target: Path,
    options: Options,
    progress: Progress = silent,
    *,
    prune: float = 0.0,
    weight_bits: int = HALF_BITS,
    keep_hyper: bool = False,
) -> Report:
    """Write a bundle in the new folder `target` that is the one in `source` with the g_a and h_a of `net` at level
    `number`: of the width that the net's own table has for it, or of its only one. Other levels that had the same g_a
    or h_a have the new one, too. prune: share of the weights of its hidden units that go, the least useful ones;
    weight_bits: of its weights, behind the first one; keep_hyper: g_a alone is replaced. The report's graphs and checks
    are those of the encoder; it compares the bits that files of all these levels take with it.

    Raises NetError for a net whose other parts are not the bundle's or whose encoder costs so much that the levels
    would not rise in cost, and what `export_bundle` raises.
    """
    require_grouped(net)
    started, bundle = time.perf_counter(), Bundle(source)
    net = net.float().eval()
    require_same_latents(bundle, net)
    level = _widths_of(net, bundle, number)
    _require_same_decoder(bundle, number, net, level, options)
    old = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    transforms = ("g_a",) if keep_hyper else ENCODER
    replaced = {old["levels"][number][name] for name in transforms}
    changed = [k for k, entry in enumerate(old["levels"]) if replaced & {entry[name] for name in transforms}]
    step = Steps(progress)
    with new_bundle(target, options.overwrite) as writer:
        step("graphs of the bundle")
        names = copy_graphs(source, old["graphs"], [name for name in old["graphs"] if name not in replaced], writer)
        silenced = _silence(net, level, options, prune, step)
        if weight_bits < HALF_BITS:
            round_weights(net, weight_bits)
        parts = NetExport(net, [level], writer, options, step, transforms=transforms)
        parts.prune()
        parts.add_pixels()
        new = {old["levels"][number][name]: parts.pixels[name, getattr(level, name)][0] for name in transforms}
        dearer = {
            after: writer.graphs[after]["macs_per_pixel"] - old["graphs"][before]["macs_per_pixel"]
            for before, after in new.items()
        }
        levels = [_with_costs(entry, dearer) for entry in renamed(old["levels"], names | new)]
        require_rising(levels)
        fields = {name: old[name] for name in CARRIED_FIELDS if name in old}
        fields |= {"entropy": renamed(old["entropy"], names), "levels": levels}
        writer.write_tables(load_file(source / TABLES))
        writer.write_golden(load_file(source / GOLDEN) | _golden_pixels(parts, bundle, number, level))
        manifest = complete(parts, renamed(old["model"], names), fields)
        checks = parts.check()
        report = report_of(parts, manifest, {name: writer.graphs[name] for name in new.values()}, checks)
        for k in changed if bundle.manifest.lambdas is not None else ():  # or else nothing says what a bit is worth
            step(f"level {k} with the old encoder and the new one")
            report.encoder_percent[k] = _change_of_bits(bundle, Bundle(writer.folder), k, options)
        report.notices = [*parts.notices(), *_notices(report.encoder_percent)]
        report.silenced = silenced
        step("done")
    report.seconds = time.perf_counter() - started
    return report


def _with_costs(entry: dict[str, Any], dearer: Mapping[str, float]) -> dict[str, Any]:
    """The manifest's entry of a level, some graphs of which are dearer than those that it had, by so many MACs."""
    more = sum(by for graph, by in dearer.items() if graph in (entry["g_a"], entry["h_a"]))
    return entry | {"encode_macs_per_pixel": round(entry["encode_macs_per_pixel"] + more, 3)}


def _silence(net: Supernet, level: Widths, options: Options, prune: float, step: Steps) -> int:
    if not prune:
        return 0
    step("hidden units that matter least")
    return silence_least(net, level, photos.varied_pictures(options.photos), prune)


def _widths_of(net: Supernet, bundle: Bundle, number: int) -> Widths:
    count = len(bundle.manifest.levels)
    if number >= count:
        raise NetError(f"is for level {number}, and {bundle.path} has levels 0 to {count - 1}")
    if len(net.config.widths) == 1:
        return net.full
    if len(net.config.levels) != count:
        raise NetError(
            f"has several widths and a table of {len(net.config.levels)} levels, where {bundle.path} has {count}: "
            "search its levels with basic-train levels, or take one width with basic-train narrow"
        )
    return Widths(**net.config.levels[number])


@torch.no_grad()
def _require_same_decoder(bundle: Bundle, number: int, net: Supernet, level: Widths, options: Options) -> None:
    """Whether the bundle makes the net's pictures: else the encoder was trained for another decoder."""
    inputs = verify.pixel_inputs(net, photos.check_photo(options.check_photo))
    wanted = net.reconstruct(inputs.y_hat, torch.tensor([verify.QUALITY]), level.g_s)
    load = verify.Loader(bundle, create_backend("onnxruntime"))
    arrays = {"y": inputs.y_hat.numpy(), "gain": inputs.decode_gain.numpy()}
    found = np.asarray(load(bundle.manifest.levels[number].g_s).run(arrays)["xhat"])
    difference = 255 * float(np.sqrt(np.mean((found - wanted.numpy()) ** 2)))
    if not difference < SAME_PICTURE:
        raise NetError(
            f"makes other pictures than level {number} of {bundle.path}, by {difference:.1f} of 255: train an encoder "
            "from the bundle's own checkpoint, with --freeze h_s,g_s,context,gains,z_prior"
        )


def _golden_pixels(parts: NetExport, bundle: Bundle, number: int, level: Widths) -> dict[str, np.ndarray]:
    """The golden vectors of the pixel path, which are those of the last level."""
    if number != len(bundle.manifest.levels) - 1:
        return {}
    widest = {"g_a": parts.pixels["g_a", level.g_a][1], "g_s": export_pixel(parts.net, "g_s", level.g_s)}
    return golden.pixel_tensors(parts.net, widest, parts.photo)


def _change_of_bits(before: Bundle, after: Bundle, number: int, options: Options) -> float:
    """Change of what files take at equal distortion, in percent of their bits: of bits + lambda 255^2 SSE, on some
    photos and qualities."""
    pictures = list(evenly(photos.calibration_photos(options.photos), COMPARED_PHOTOS))
    old, new = (_costs(bundle, number, pictures) for bundle in (before, after))
    return 100 * float(np.mean([(b[0] - a[0]) / a[1] for a, b in zip(old, new, strict=True)]))


def _costs(bundle: Bundle, number: int, pictures: Iterable[np.ndarray]) -> list[tuple[float, float]]:
    """Bits + lambda 255^2 SSE, and bits alone, of each picture at each quality."""
    codec, costs = Codec(bundle), []
    for pixels in pictures:
        for step in COMPARED_STEPS:
            data = codec.encode(pixels, quality=quality_of_step(step), level=number, effort=0)
            error = np.square(codec.decode(data).astype(np.float64) - pixels).mean(axis=2).sum()
            costs.append((8 * len(data) + bundle.lambda_of(step) * error, 8.0 * len(data)))
    return costs


def _notices(changes: Mapping[int, float]) -> list[str]:
    return [
        f"level {number} takes {percent:.2f} % more bits at equal distortion than with the encoder that it had"
        for number, percent in changes.items()
        if percent > 0
    ]
