"""The results of an evaluation as a table, JSON and a plot."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basic_runtime.bundle import Bundle
from basic_runtime.evaluate.curves import METRICS, SHORT_OVERLAP, Curve, bd_rate, per_picture
from basic_runtime.evaluate.measure import RIVALS, Row
from basic_runtime.files import write_file

if TYPE_CHECKING:
    from rich.table import Table

ANCHORS = ("JPEG", "WebP", "AVIF")

#: Labels of a cost axis, in kMAC per pixel.
COST_TICKS = (1, 2, 5, 10, 20, 50, 100)


def summary(
    rows: Sequence[Row], measured: Sequence[Curve], published: Sequence[Curve], bundle: Bundle
) -> dict[str, Any]:
    """Curves, BD-rates against every anchor that was measured, times and costs, as plain values."""
    anchors = [curve for curve in measured if curve.name in ANCHORS]
    return {
        "model": bundle.name,
        "model_id": bundle.model_id,
        "pictures": len({row.picture for row in rows}),
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "curves": [_curve_values(curve) for curve in (*measured, *published)],
        "bd_rates": [
            values
            for metric in METRICS
            for anchor in anchors
            for curve in (*measured, *published)
            if curve.name != anchor.name and (values := _bd_values(rows, anchor, curve, metric)) is not None
        ],
        "macs_per_pixel": {
            f"level {number}": [level.encode_macs_per_pixel, level.decode_macs_per_pixel]
            for number, level in enumerate(bundle.manifest.levels)
        },
    }


def _curve_values(curve: Curve) -> dict[str, Any]:
    return {
        "name": curve.name,
        "bpp": list(curve.bpp),
        "psnr": list(curve.psnr),
        "ms_ssim": [_finite(value) for value in curve.ms_ssim],
        "encode_ms": _finite(curve.encode_ms),
        "decode_ms": _finite(curve.decode_ms),
    }


def _finite(value: float) -> float | None:
    """The value, or what JSON has for one that it cannot tell."""
    return value if math.isfinite(value) else None


def _bd_values(rows: Sequence[Row], anchor: Curve, curve: Curve, metric: str) -> dict[str, Any] | None:
    delta = bd_rate(anchor, curve, metric)
    if delta is None:
        return None
    return {
        "metric": metric,
        "anchor": anchor.name,
        "codec": curve.name,
        "percent": delta.percent,
        "overlap": delta.overlap,
        "median_of_pictures": per_picture(rows, anchor.name, curve.name, metric),
    }


def table(values: dict[str, Any]) -> Table:
    """BD-rates in PSNR against every anchor and in MS-SSIM against one, times, and ranges."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    deltas = {(d["metric"], d["anchor"], d["codec"]): d for d in values["bd_rates"]}
    anchors = [name for name in ANCHORS if any(d["anchor"] == name for d in values["bd_rates"])]
    pairs = [("psnr", name) for name in anchors]
    pairs += [("ms_ssim", name) for name in anchors if name == "WebP"]
    result = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 0, 0, 1),  # a terminal of 80 columns shows all
        title=f"{values['model']} ({values['model_id']}), {values['pictures']} pictures",
        title_justify="left",
        caption="BD-rate: % of size at equal quality; ~ curves share less than half of it" if anchors else None,
        caption_justify="left",
    )
    result.add_column("codec", no_wrap=True)
    headings = [f"{METRICS[metric]}\n{anchor}" for metric, anchor in pairs]
    for heading in (*headings, "enc.\nms", "dec.\nms", "bpp", "PSNR"):
        result.add_column(heading, justify="right", no_wrap=True)
    for curve in values["curves"]:
        cells = [_delta_text(deltas.get((*pair, curve["name"]))) for pair in pairs]
        times = ["" if curve[key] is None else f"{curve[key]:.0f}" for key in ("encode_ms", "decode_ms")]
        ends = [f"{curve['bpp'][0]:.2f}-{curve['bpp'][-1]:.2f}", f"{curve['psnr'][0]:.1f}-{curve['psnr'][-1]:.1f}"]
        result.add_row(curve["name"].partition(" (")[0], *cells, *times, *ends)
    return result


def _delta_text(delta: dict[str, Any] | None) -> str:
    if delta is None:
        return ""
    return f"{'~' if delta['overlap'] < SHORT_OVERLAP else ''}{delta['percent']:+.1f}"


def plot(values: dict[str, Any], path: Path) -> None:
    """Rate and distortion of all curves, and what each level costs: PNG. Needs matplotlib."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6))
    rate, cost = figure.subplots(1, 2, width_ratios=(3, 2))
    levels = [c["name"] for c in values["curves"] if c["name"].startswith("level ")]
    colours = colormaps["viridis"]
    for curve in values["curves"]:
        name = curve["name"]
        if name in levels:
            shade = colours(0.1 + 0.75 * levels.index(name) / max(1, len(levels) - 1))
            rate.plot(curve["bpp"], curve["psnr"], "o-", markersize=3, color=shade, label=f"BaSIC {name}")
        else:
            style = "--" if name in RIVALS else ":"
            rate.plot(curve["bpp"], curve["psnr"], style, linewidth=1.2, label=name)
    rate.set(
        xlabel="bits per pixel",
        ylabel="PSNR, dB",
        xlim=(0, 2),
        title=f"{values['model']}, {values['pictures']} pictures",
    )
    rate.set_ylim(24, 42)
    rate.grid(alpha=0.3)
    rate.legend(fontsize=7, ncols=2, loc="lower right")
    _plot_cost(cost, values, levels)
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=120, bbox_inches="tight"), overwrite=True)


def _plot_cost(axes: Any, values: dict[str, Any], levels: list[str]) -> None:
    """Size at equal PSNR against the first anchor, over the cost of each side."""
    anchor = next((d["anchor"] for d in values["bd_rates"] if d["metric"] == "psnr"), None)
    for side, marker, label in ((0, "s", "encode"), (1, "o", "decode")):
        points = [
            (values["macs_per_pixel"][d["codec"]][side] / 1000, d["percent"])
            for d in values["bd_rates"]
            if d["metric"] == "psnr" and d["anchor"] == anchor and d["codec"] in levels
        ]
        if points:
            axes.plot(*zip(*sorted(points), strict=True), marker + "-", markersize=4, label=label)
    axes.set_xscale("log")
    limits = axes.get_xlim()
    axes.set(
        xlabel="kMAC per pixel",
        ylabel=f"BD-rate against {anchor}, %",
        title="cost of the levels",
    )
    axes.set_xticks(COST_TICKS, [f"{tick:g}" for tick in COST_TICKS])
    axes.minorticks_off()
    axes.set_xlim(limits)  # ticks beyond would widen it
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
