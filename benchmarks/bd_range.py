"""BD-rates of a bundle's levels over a range of rates, from a report of `basic-run evaluate`.

    python benchmarks/bd_range.py docs/results/kodak.json [--least 0.1] [--most 1.5]

The report's own are over all qualities that two curves share. Here the mean is over the qualities that the level has
between two rates, as far as the anchor has them, too; interpolation is the same (piecewise cubic, of log rate).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.interpolate import PchipInterpolator

ANCHORS = ("JPEG", "WebP", "AVIF")
SAMPLES = 1000


def bd_rate(anchor: dict[str, Any], curve: dict[str, Any], least: float, most: float) -> float:
    """Percent of rate at equal PSNR over the qualities of `curve` at `least` to `most` bits per pixel."""
    rates = [PchipInterpolator(c["psnr"], np.log(c["bpp"])) for c in (anchor, curve)]
    ends = np.clip([least, most], curve["bpp"][0], curve["bpp"][-1])
    low, high = PchipInterpolator(np.log(curve["bpp"]), curve["psnr"])(np.log(ends))
    shared = np.linspace(max(low, anchor["psnr"][0]), min(high, anchor["psnr"][-1]), SAMPLES)
    return float(100 * (np.exp(np.mean(rates[1](shared) - rates[0](shared))) - 1))


@click.command()
@click.argument("report", type=click.Path(exists=True, path_type=Path))
@click.option("--least", default=0.1, show_default=True, help="Bits per pixel.")
@click.option("--most", default=1.5, show_default=True, help="Bits per pixel.")
def main(report: Path, least: float, most: float) -> None:
    """Print a line for each level."""
    curves = {curve["name"]: curve for curve in json.loads(report.read_text())["curves"]}
    for name, curve in curves.items():
        if name.startswith("level"):
            found = (f"{bd_rate(curves[anchor], curve, least, most):+.2f} %" for anchor in ANCHORS if anchor in curves)
            click.echo(f"{name}: {', '.join(found)} against {', '.join(ANCHORS)}, {least:g} to {most:g} bpp")


if __name__ == "__main__":
    main()
