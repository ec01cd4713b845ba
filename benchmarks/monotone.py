"""Do files grow and pictures get better with every quality step? Counts the steps that do not, picture by picture.

    python benchmarks/monotone.py FOLDER [--level 7] [--json]

All 64 steps of each picture are encoded, with the default effort, and decoded. A step that falls back is reported with
the largest fall in bytes and in dB.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from basic_runtime.codec import Codec
from basic_runtime.container import QUALITY_STEPS
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import psnr
from basic_runtime.quality import quality_step


@dataclass(frozen=True)
class Ladder:
    """Steps of one picture that are not above the step before: how many, and the largest fall (percent of the bytes,
    dB)."""

    picture: str
    steps: int
    smaller_files: int
    largest_percent: float
    worse_pictures: int
    largest_db: float


def ladder(codec: Codec, path: Path, level: int) -> Ladder:
    """Encode and decode a picture at every quality step."""
    pixels = read_picture(path).pixels
    qualities = {quality_step(quality): quality for quality in range(1, 101)}  # several qualities share a step
    sizes, values = [], []
    for step in sorted(qualities):
        data = codec.encode(pixels, quality=qualities[step], level=level)
        sizes.append(len(data))
        values.append(psnr(pixels, codec.decode(data)))
    growth, gain = np.diff(sizes) / sizes[:-1] * 100, np.diff(values)
    return Ladder(
        path.name,
        len(sizes),
        int((growth < 0).sum()),
        abs(float(growth.min(initial=0))),
        int((gain < 0).sum()),
        abs(float(gain.min(initial=0))),
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--level", default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of a table.")
def main(folder: Path, level: int, as_json: bool) -> None:
    """Print how many quality steps of each PNG in FOLDER fall back in size or PSNR."""
    codec = Codec()
    console = Console(stderr=True)
    paths = sorted(folder.glob("*.png"))
    rows = [ladder(codec, path, level) for path in track(paths, console=console, disable=not console.is_terminal)]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    table = Table(title=f"{codec.bundle.name}, level {level}, {QUALITY_STEPS} quality steps")
    for heading in ("picture", "smaller files", "largest, %", "worse pictures", "largest, dB"):
        table.add_column(heading, justify="right")
    for row in rows:
        falls = (f"{row.largest_percent:.2f}", str(row.worse_pictures), f"{row.largest_db:.3f}")
        table.add_row(row.picture, str(row.smaller_files), *falls)
    Console().print(table)


if __name__ == "__main__":
    main()
