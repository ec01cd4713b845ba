"""Results of the level search as table, plot and plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from basic_runtime.files import write_file
from basic_train.levels import Candidates, Level
from basic_train.model.supernet import Supernet, Widths

#: Beyond this loss configurations are left out of the plot.
PLOT_LOSS_PERCENT = 40


def as_json(levels: list[Level], unit: str, qualities: tuple[float, ...]) -> dict[str, Any]:
    """The table as plain values; psnr is that of the mean squared error over all crops."""
    return {
        "cost_unit": unit,
        "qualities": list(qualities),
        "levels": [
            {
                **level.widths._asdict(),
                "cost": level.cost,
                "loss_percent": level.loss_percent,
                "bpp": list(level.bpp),
                "psnr": [float(-10 * np.log10(mse)) for mse in level.mse],
            }
            for level in levels
        ],
    }


def table(net: Supernet, levels: list[Level], unit: str) -> Table:
    """Widths in channels, cost and loss of each level."""
    config, top = net.config, levels[-1].cost
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("level", *Widths._fields, unit, "of full", "rate loss"):
        result.add_column(heading, justify="right")
    for number, level in enumerate(levels):
        result.add_row(
            str(number),
            *(str(config.channels(name, index)) for name, index in level.widths._asdict().items()),
            f"{level.cost:,.0f}" if level.cost >= 100 else f"{level.cost:.1f}",
            f"{100 * level.cost / top:.1f} %",
            f"{level.loss_percent:+.2f} %",
        )
    return result


def plot(found: Candidates, levels: list[Level], unit: str, path: Path) -> None:
    """Loss over cost of all configurations, and the chain of levels among them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    shown = found.loss < PLOT_LOSS_PERCENT
    axes.scatter(found.costs[shown], found.loss[shown], s=6, color="0.75", label="configurations of widths")
    axes.plot([level.cost for level in levels], [level.loss_percent for level in levels], "o-", label="levels")
    for number, level in enumerate(levels):
        axes.annotate(str(number), (level.cost, level.loss_percent), textcoords="offset points", xytext=(4, 6))
    axes.set(xscale="log", xlabel=unit, ylabel="rate at equal quality, % above the full model")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=120, bbox_inches="tight"), overwrite=True)
