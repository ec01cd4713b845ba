"""What --precision int16 and bf16 cost in rate at equal PSNR, on the pictures of a folder.

    python benchmarks/precision.py ../shared/data/kodak [--bundle DIR] [--levels 0,7] [--every 1]

Every picture is coded at eight qualities in each precision, and each file decoded in each, on engine `auto`.
BD-rate (Akima) is that of the curves through the means over all pictures, against float32 at both ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import bjontegaard
import click
import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import LevelList
from basic_runtime.codec import Codec
from basic_runtime.engines import BF16, FLOAT32, INT16
from basic_runtime.errors import BasicError
from basic_runtime.evaluate.measure import QUALITIES, list_pictures
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import bpp, psnr

Ends = tuple[str, str]
"""Precision of the encoder and of the decoder."""

PRECISIONS = (FLOAT32, INT16, BF16)
EXACT: Ends = (FLOAT32, FLOAT32)


def points(codecs: dict[str, Codec], pictures: list[np.ndarray], level: int) -> dict[Ends, np.ndarray]:
    """Mean bits per pixel and PSNR at each quality, (qualities, 2), for each pair of ends."""
    found: dict[Ends, list[np.ndarray]] = {ends: [] for ends in product(codecs, repeat=2)}
    for quality in QUALITIES:
        rows: dict[Ends, list[tuple[float, float]]] = {ends: [] for ends in found}
        for picture in pictures:
            for encoder in codecs:
                data = codecs[encoder].encode(picture, quality=quality, level=level, effort=0)
                rate = bpp(len(data), picture.shape[1], picture.shape[0])
                for decoder in codecs:
                    decoded = codecs[decoder].decode(data, level=level)
                    rows[encoder, decoder].append((rate, psnr(picture, decoded)))
        for ends, values in rows.items():
            found[ends].append(np.mean(values, axis=0))
    return {ends: np.array(values) for ends, values in found.items()}


def codecs_of(bundle: Bundle, threads: int) -> Iterator[tuple[str, Codec]]:
    """One for each precision that can be computed here."""
    for precision in PRECISIONS:
        try:
            yield precision, Codec(bundle, threads=threads, precision=precision)
        except BasicError as error:
            print(f"no {precision}: {error}", file=sys.stderr)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--bundle", help="Model bundle (default: the one that is installed).")
@click.option("--levels", type=LevelList(), default="0,7", show_default=True)
@click.option("--every", default=1, show_default=True, help="Take every so manyth picture.")
@click.option("--threads", default=2, show_default=True)
def main(folder: Path, bundle: str | None, levels: tuple[int, ...], every: int, threads: int) -> None:
    """Print a Markdown table."""
    opened = Bundle(bundle)
    codecs = dict(codecs_of(opened, threads))
    pictures = [read_picture(path).pixels for path in list_pictures(folder)[::every]]
    print(f"{opened.name}, {len(pictures)} pictures, qualities {', '.join(str(q) for q in QUALITIES)}\n")
    print("| level | encoder | decoder | BD-rate | PSNR, dB: least and most change | rate, %: largest change |")
    print("|---|---|---|---|---|---|")
    for level in levels:
        found = points(codecs, pictures, level)
        exact = found.pop(EXACT)
        for (encoder, decoder), values in found.items():
            rate = bjontegaard.bd_rate(*exact.T, *values.T, method="akima")
            gain = values[:, 1] - exact[:, 1]
            bits = 100 * np.abs(values[:, 0] / exact[:, 0] - 1).max()
            change = f"{gain[np.abs(gain).argmin()]:+.3f}, {gain[np.abs(gain).argmax()]:+.3f}"
            print(f"| {level} | {encoder} | {decoder} | {rate:+.2f} % | {change} | {bits:.2f} |", flush=True)


if __name__ == "__main__":
    main()
