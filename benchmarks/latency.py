"""Latency of encode and decode by engine, threads and level, beside JPEG and WebP by Pillow.

    python benchmarks/latency.py [--bundle DIR] [--size 768x512] [--levels 0,3,7] [--reps 10]

Rounds are interleaved, so that what else the machine does hits all alike; the table shows minimum and median.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import available_backends
from basic_runtime.profile import synthetic_picture

QUALITY = 50
Work = Callable[[], object]


def codec_works(bundle: Bundle, picture: np.ndarray, levels: list[int]) -> dict[tuple[str, str], Work]:
    """Calls to time, by (what, direction)."""
    works: dict[tuple[str, str], Work] = {}
    for name in available_backends():
        for threads in (1, 2):
            codec = Codec(bundle, name, threads=threads)
            for level in levels:
                data = codec.encode(picture, quality=QUALITY, level=level, effort=0)
                label = f"{name}, threads {threads}, level {level}"
                works[label, "encode"] = partial(codec.encode, picture, quality=QUALITY, level=level, effort=0)
                works[label, "decode"] = partial(codec.decode, data)
    return works


def pillow_works(picture: np.ndarray) -> dict[tuple[str, str], Work]:
    image = Image.fromarray(picture)
    works: dict[tuple[str, str], Work] = {}
    for format in ("JPEG", "WEBP"):
        file = io.BytesIO()
        image.save(file, format, quality=QUALITY)
        works[format, "encode"] = partial(_save, image, format)
        works[format, "decode"] = partial(_load, file.getvalue())
    return works


def _save(image: Image.Image, format: str) -> None:
    image.save(io.BytesIO(), format, quality=QUALITY)


def _load(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@click.command()
@click.option("--bundle", help="Model bundle (default: the one that is installed).")
@click.option("--size", default="768x512", show_default=True)
@click.option("--levels", default="0,3,7", show_default=True)
@click.option("--reps", default=10, show_default=True)
def main(bundle: str | None, size: str, levels: str, reps: int) -> None:
    """Print the latencies of all engines that are installed."""
    width, height = (int(side) for side in size.split("x"))
    picture = synthetic_picture(width, height)
    opened = Bundle(bundle)
    works = codec_works(opened, picture, [int(level) for level in levels.split(",")]) | pillow_works(picture)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for _ in range(reps + 1):
        for key, work in works.items():
            start = time.perf_counter()
            work()
            times[key].append(1000 * (time.perf_counter() - start))
    table = Table(title=f"{opened.name}, {size}, {reps} rounds, ms")
    for heading in ("what", "encode min", "median", "decode min", "median"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what in dict.fromkeys(what for what, _ in works):
        kept = [times[what, direction][1:] for direction in ("encode", "decode")]
        table.add_row(what, *(f"{f(values):.1f}" for values in kept for f in (np.min, np.median)))
    Console().print(table)


if __name__ == "__main__":
    main()
