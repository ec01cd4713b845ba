"""What is lost where another level decodes a file than the one that encoded it?

    python benchmarks/interchange.py FOLDER [--qualities 10,50,90] [--effort 1] [--bundle DIR] [--json]

Each PNG is encoded at every level and decoded at every level. Prints the mean PSNR of the pictures where a level
decodes its own files, and for the others how far they are from that of the level that encoded, in dB: above 0 where
decoding at the dearer level pays.
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
from basic_runtime.imageio import read_picture
from basic_runtime.metrics import psnr


@dataclass(frozen=True)
class Exchange:
    """Mean PSNR (dB) and size (bits per pixel) of pictures that one level encoded and another one decoded."""

    quality: int
    encoder: int
    decoder: int
    bpp: float
    psnr: float


def exchanges(codec: Codec, paths: list[Path], quality: int, effort: int, console: Console) -> list[Exchange]:
    """All pairs of levels at one quality."""
    levels = range(len(codec.bundle.manifest.levels))
    values = np.zeros((len(paths), len(levels), len(levels)))
    bpp = np.zeros((len(paths), len(levels)))
    quiet = not console.is_terminal
    for number, path in enumerate(track(paths, f"quality {quality}", console=console, disable=quiet)):
        pixels = read_picture(path).pixels
        for encoder in levels:
            data = codec.encode(pixels, quality=quality, level=encoder, effort=effort)
            bpp[number, encoder] = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
            for decoder in levels:
                values[number, encoder, decoder] = psnr(pixels, codec.decode(data, level=decoder))
    means, rates = values.mean(axis=0), bpp.mean(axis=0)
    return [Exchange(quality, a, b, float(rates[a]), float(means[a, b])) for a in levels for b in levels]


def table_of(found: list[Exchange], quality: int, name: str) -> Table:
    """A row for each level that encoded, a column for each that decoded."""
    rows = [row for row in found if row.quality == quality]
    own = {row.encoder: row for row in rows if row.encoder == row.decoder}
    title = f"{name}, quality {quality}: rows encoded at a level, columns decoded at one"
    table = Table("", "bpp", *map(str, own), title=title)
    for level, same in own.items():
        cells = [
            f"{row.psnr:.2f} dB" if row.decoder == level else f"{row.psnr - same.psnr:+.2f}"
            for row in rows
            if row.encoder == level
        ]
        table.add_row(str(level), f"{same.bpp:.3f}", *cells)
    return table


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--qualities", default="10,50,90", show_default=True, help="From 1 to 100, with commas between them.")
@click.option("--effort", default=1, show_default=True)
@click.option("--bundle", default=None, help="Folder or name of a bundle (default: the one that ships).")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of tables.")
def main(folder: Path, qualities: str, effort: int, bundle: str | None, as_json: bool) -> None:
    """Print what each level makes of the files of each other level."""
    codec, console = Codec(bundle), Console(stderr=True)
    paths, wanted = sorted(folder.glob("*.png")), [int(text) for text in qualities.split(",")]
    if not paths:
        raise click.ClickException(f"{folder}: holds no PNG files")
    found = [row for quality in wanted for row in exchanges(codec, paths, quality, effort, console)]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found], indent=1))
        return
    for quality in wanted:
        Console().print(table_of(found, quality, codec.bundle.name))


if __name__ == "__main__":
    main()
