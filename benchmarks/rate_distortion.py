"""Rate and distortion of a bundle on a folder of pictures, beside Pillow's JPEG and WebP.

    python benchmarks/rate_distortion.py PICTURES [--bundle DIR] [--levels 0,3,7] [-o docs/results/NAME]

Sizes are those of real files, header and metadata chunks included; PSNR is that of 8-bit RGB pixels, averaged over
pictures as the curves of the literature are. BD-rates by the package `bjontegaard` (pchip, over the PSNR range that
both curves share). Writes NAME.csv (a line per picture and setting), NAME.json (curves and BD-rates) and NAME.png.
"""

from __future__ import annotations

import csv
import io
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import psnr

QUALITIES = (1, 15, 29, 43, 57, 72, 86, 100)
JPEG_QUALITIES = (5, 10, 20, 30, 45, 60, 75, 85, 92)
WEBP_QUALITIES = (1, 10, 25, 40, 55, 70, 80, 88, 94)

#: Codes a picture: file size in bytes and decoded pixels.
Coder = Callable[[np.ndarray], tuple[int, np.ndarray]]


@dataclass(frozen=True)
class Point:
    """One picture under one setting."""

    codec: str
    setting: int
    picture: str
    bpp: float
    psnr: float


def coders(codec: Codec, levels: list[int]) -> Iterator[tuple[str, int, Coder]]:
    """Every codec and setting of the comparison."""
    for level in levels:
        for quality in QUALITIES:
            yield f"level {level}", quality, partial(_ours, codec, quality, level)
    for quality in JPEG_QUALITIES:
        yield (
            "JPEG",
            quality,
            partial(_pillow, "JPEG", {"quality": quality, "optimize": True, "subsampling": "4:2:0"}),
        )
    for quality in WEBP_QUALITIES:
        yield "WebP", quality, partial(_pillow, "WEBP", {"quality": quality, "method": 6})


def _ours(codec: Codec, quality: int, level: int, pixels: np.ndarray) -> tuple[int, np.ndarray]:
    data = codec.encode(pixels, quality, level)
    return len(data), codec.decode(data, level)


def _pillow(name: str, options: dict[str, object], pixels: np.ndarray) -> tuple[int, np.ndarray]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return len(file.getvalue()), np.asarray(Image.open(file).convert("RGB"))


def measure(codec: Codec, levels: list[int], pictures: dict[str, np.ndarray]) -> list[Point]:
    """All points of the comparison."""
    jobs = [(*c, name) for name in pictures for c in coders(codec, levels)]
    points = []
    for label, setting, coder, name in track(jobs, "coding", console=Console(stderr=True)):
        pixels = pictures[name]
        size, decoded = coder(pixels)
        bpp = 8 * size / (pixels.shape[0] * pixels.shape[1])
        points.append(Point(label, setting, name, bpp, psnr(pixels, decoded)))
    return points


def curves(points: list[Point]) -> dict[str, list[tuple[float, float]]]:
    """Mean bpp and PSNR over pictures for each setting, by codec, in order of rate."""
    grouped: dict[str, dict[int, list[Point]]] = {}
    for point in points:
        grouped.setdefault(point.codec, {}).setdefault(point.setting, []).append(point)
    return {
        name: sorted(
            (float(np.mean([p.bpp for p in s])), float(np.mean([p.psnr for p in s]))) for s in of.values()
        )
        for name, of in grouped.items()
    }


def bd_rates(found: dict[str, list[tuple[float, float]]], anchor: str) -> dict[str, float]:
    """BD-rate in percent of every curve against an anchor: negative is smaller files at equal PSNR."""
    from bjontegaard import bd_rate

    reference = np.array(found[anchor])
    rates = {}
    for name, curve in found.items():
        values = np.array(curve)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # curves overlap over part of their range by design
            rates[name] = float(
                bd_rate(*reference.T, *values.T, method="pchip", require_matching_points=False)
            )
    return rates


def plot(found: dict[str, list[tuple[float, float]]], title: str, path: Path) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5))
    for name, curve in found.items():
        style = "--" if name in ("JPEG", "WebP") else "-"
        axes.plot(*np.array(curve).T, style, marker="o", markersize=3, label=name)
    axes.set(xlabel="bits per pixel", ylabel="PSNR (dB)", title=title, xlim=(0, 2))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def show(found: dict[str, list[tuple[float, float]]], against: dict[str, dict[str, float]]) -> None:
    """Curves and BD-rates as a table."""
    table = Table("codec", *(f"BD-rate against {anchor}" for anchor in against), "bpp / PSNR (dB)")
    for name, curve in found.items():
        rates = [f"{rates[name]:+.1f} %" for rates in against.values()]
        table.add_row(name, *rates, "  ".join(f"{bpp:.2f}/{value:.1f}" for bpp, value in curve))
    Console(width=200).print(table)


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="Default: the bundled model.")
@click.option("--levels", default="0,3,7", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Path of the results, without suffix.")
def main(pictures: Path, bundle: Path | None, levels: str, output: Path | None) -> None:
    """Compare a bundle with JPEG and WebP on all PNG files of a folder."""
    codec = Codec(bundle)
    loaded = {p.name: read_picture(p).pixels for p in sorted(pictures.glob("*.png"))}
    points = measure(codec, [int(v) for v in levels.split(",")], loaded)
    found = curves(points)
    against = {anchor: bd_rates(found, anchor) for anchor in ("JPEG", "WebP")}
    show(found, against)
    if output is None:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(points[0])))
        writer.writeheader()
        writer.writerows(asdict(p) for p in points)
    name = codec.bundle.name
    report = {
        "model": name,
        "pictures": len(loaded),
        "date": date.today().isoformat(),
        "machine": platform.machine(),
    }
    report |= {"curves": found, "bd_rate_percent": against}
    output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    plot(found, f"{name}, {len(loaded)} pictures of {pictures.name}", output.with_suffix(".png"))


if __name__ == "__main__":
    main()
