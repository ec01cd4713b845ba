"""What the encoder's effort saves, and what it takes: bits and milliseconds by effort, level and quality.

    python benchmarks/effort.py PHOTOS [--levels 0,7] [--efforts 1,2,4,6,9] [--count 8]

All efforts code the same pictures, 768x512 out of the middle of each, interleaved. A saving is the change of
bits per pixel + lambda 255^2 MSE, which the model was trained for, as a share of the bits: to first order the change of
size at equal distortion. Times are medians of encodes in memory.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from basic_runtime.cli.options import LevelList
from basic_runtime.codec import Codec
from basic_runtime.definitions import PASSES
from basic_runtime.evaluate.measure import list_pictures
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import bpp
from basic_runtime.quality import quality_step

WIDTH, HEIGHT = 768, 512
QUALITIES = (5, 30, 60, 95)

Pixels = NDArray[np.uint8]


def middle(path: Path) -> Pixels:
    """The middle of a photo, as much of it as there is."""
    pixels = read_picture(path).pixels
    top, left = (max(0, (side - wanted) // 2) for side, wanted in zip(pixels.shape, (HEIGHT, WIDTH), strict=False))
    return np.ascontiguousarray(pixels[top : top + HEIGHT, left : left + WIDTH])


def coded(codec: Codec, pixels: Pixels, quality: int, level: int, effort: int) -> tuple[float, float, float]:
    """Bits per pixel, those + lambda 255^2 MSE, and milliseconds to encode."""
    begun = time.perf_counter()
    data = codec.encode(pixels, quality=quality, level=level, effort=effort)
    milliseconds = 1000 * (time.perf_counter() - begun)
    error = float(np.square(codec.decode(data).astype(np.float32) - pixels).mean())
    rate = bpp(len(data), pixels.shape[1], pixels.shape[0])
    return rate, rate + codec.bundle.lambda_of(quality_step(quality)) * error, milliseconds


@click.command()
@click.argument("photos", type=click.Path(path_type=Path, exists=True))
@click.option("--levels", type=LevelList(), default="0,7", show_default=True)
@click.option("--efforts", default="1,2,4,6,9", show_default=True)
@click.option("--count", default=8, show_default=True, help="Photos, spread over the folder.")
@click.option("--engine", default="auto", show_default=True)
@click.option("--precision", help="Default: the first that the engine has.")
@click.option("--json", "as_json", is_flag=True)
def main(
    photos: Path, levels: tuple[int, ...], efforts: str, count: int, engine: str, precision: str | None, as_json: bool
) -> None:
    """Print a row for each level and effort."""
    paths = list_pictures(photos)
    pictures = [middle(path) for path in paths[:: max(1, len(paths) // count)][:count]]
    codec = Codec(backend=engine, precision=precision)
    wanted = [0, *(int(effort) for effort in efforts.split(","))]
    savings, times = defaultdict(list), defaultdict(list)
    for level in levels:
        for effort in wanted[:2]:
            codec.encode(pictures[0], quality=50, level=level, effort=effort)  # loads the graphs
        for pixels in pictures:
            for quality in QUALITIES:
                found = {effort: coded(codec, pixels, quality, level, effort) for effort in wanted}
                for effort in wanted:
                    savings[level, effort, quality].append(100 * (found[effort][1] - found[0][1]) / found[0][0])
                    times[level, effort].append(found[effort][2])
    rows = [
        {
            "level": level,
            "effort": effort,
            "passes": PASSES[effort],
            "percent": {quality: statistics.mean(savings[level, effort, quality]) for quality in QUALITIES},
            "mean_percent": statistics.mean(statistics.mean(savings[level, effort, q]) for q in QUALITIES),
            "ms": statistics.median(times[level, effort]),
        }
        for level in levels
        for effort in wanted
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table("level", "effort", "passes", *(f"quality {q}, %" for q in QUALITIES), "all, %", "ms")
    for row in rows:
        percents = [f"{value:+.1f}" for value in (*row["percent"].values(), row["mean_percent"])]
        table.add_row(*map(str, (row["level"], row["effort"], row["passes"], *percents, round(row["ms"]))))
    Console(width=None if Console().is_terminal else 120).print(table)


if __name__ == "__main__":
    main()
