"""The report of an export: tables for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from basic_export.export import Report


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "bundle": str(report.path),
        "model": {"name": report.name, "id": report.model_id},
        "seconds": round(report.seconds, 2),
        "bytes": {
            **report.sizes,
            "total": sum(report.sizes.values()),
            "unshared weights": report.weight_bytes,
        },
        "levels": [
            {
                "widths": level.channels,
                "encode_macs_per_pixel": level.encode_macs_per_pixel,
                "decode_macs_per_pixel": level.decode_macs_per_pixel,
            }
            for level in report.levels
        ],
        "graphs": len(report.graphs),
        "pruned": asdict(report.pruned),
        "rate_cost": [
            {
                "width": c.width,
                "float_bits": c.float_bits,
                "integer_bits": c.integer_bits,
                "percent": c.percent,
                "worst_percent": c.worst_percent,
            }
            for c in report.rate_costs
        ],
        "float16_effect": [asdict(effect) for effect in report.half_effects],
        "silenced": report.silenced,
        "encoder_percent": {str(level): percent for level, percent in report.encoder_percent.items()},
        "checks": [{**asdict(check), "passed": check.passed} for check in report.checks],
        "notices": report.notices,
    }


def show(report: Report, console: Console) -> None:
    """Print the report as tables."""
    console.print(_level_table(report))
    console.print(_graph_table(report))
    if report.rate_costs:
        console.print(_rate_table(report))
    for number, percent in report.encoder_percent.items():
        console.print(f"level {number}: {percent:+.2f} % of the bits at equal distortion with the new encoder")
    for notice in report.notices:
        console.print(f"[yellow]warning:[/] {notice}")
    sizes = ", ".join(f"{name} {_bytes(size)}" for name, size in report.sizes.items())
    if report.pruned.units:
        console.print(
            f"{report.pruned.units} dead hidden units pruned"
            + (f", {report.silenced} of which were the least useful ones" if report.silenced else "")
            + ", which changes latents by at most "
            f"{report.pruned.latents:.1e} steps and the picture by {report.pruned.samples:.1e} of 255"
        )
    console.print(f"{len(report.graphs)} graphs; {sizes}; weights without sharing {_bytes(report.weight_bytes)}")
    total = _bytes(sum(report.sizes.values()))
    console.print(
        f"[bold]{report.path}[/]: model {report.name} ({report.model_id}), {total}, {report.seconds:.0f} s",
        highlight=False,
    )


def _level_table(report: Report) -> Table:
    table = Table(title="Levels", title_justify="left")
    for name in ("level", "g_a", "h_a", "h_s", "g_s", "encode kMAC/px", "decode kMAC/px", "of full"):
        table.add_column(name, justify="right")
    totals = [level.encode_macs_per_pixel + level.decode_macs_per_pixel for level in report.levels]
    for number, (level, total) in enumerate(zip(report.levels, totals, strict=True)):
        costs = (level.encode_macs_per_pixel, level.decode_macs_per_pixel)
        table.add_row(
            str(number),
            *map(str, level.channels.values()),
            *(f"{cost / 1000:.2f}" for cost in costs),
            f"{total / totals[-1]:.0%}",
        )
    return table


def _graph_table(report: Report) -> Table:
    """Per transform and width: cost, difference from PyTorch, and what float16 weights change."""
    table = Table(title="Graphs", title_justify="left")
    for name in (
        "transform",
        "width",
        "graphs",
        "kMAC/px",
        "against PyTorch",
        "float16 weights: largest (rms)",
    ):
        table.add_column(name, justify="right")
    groups: dict[tuple[str, int], list[float]] = {}
    for spec in report.graphs.values():
        groups.setdefault((spec["transform"], spec["width"]), []).append(spec["macs_per_pixel"])
    effects = {(effect.transform, effect.width): effect for effect in report.half_effects}
    units = {"g_a": "steps", "h_a": "steps", "g_s": "of 255"}
    order = ("g_a", "h_a", "h_s", "stage", "g_s")
    for key in sorted(groups, key=lambda item: (order.index(item[0]), item[1])):
        checks = [check for check in report.checks if (check.transform, check.width) == key]
        effect = effects.get(key)
        table.add_row(
            key[0],
            str(key[1]),
            str(len(groups[key])),
            f"{sum(groups[key]) / 1000:.3f}",
            _difference(max((c.difference for c in checks), default=None), checks[0].unit if checks else ""),
            f"{effect.largest:.3f} ({effect.rms:.4f}) {units[key[0]]}" if effect else "",
        )
    return table


def _difference(largest: float | None, unit: str) -> str:
    if largest is None:
        return "not checked"
    return "equal" if largest == 0 else f"{largest:.1e} {unit}"


def _rate_table(report: Report) -> Table:
    table = Table(title="Integer entropy path against float", title_justify="left")
    for name in ("width", "float bits", "integer bits", "cost", "of the worst latent"):
        table.add_column(name, justify="right")
    for cost in report.rate_costs:
        table.add_row(
            str(cost.width),
            f"{cost.float_bits:,.0f}",
            f"{cost.integer_bits:,.0f}",
            f"{cost.percent:+.2f} %",
            f"{cost.worst_percent:+.2f} %",
        )
    return table


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
