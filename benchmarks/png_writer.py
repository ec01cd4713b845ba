"""Time and size of PNG files: the package's own writer beside Pillow, in turns.

    python benchmarks/png_writer.py [FOLDER] [--count 8] [--rounds 7]

Pictures of a folder, or synthetic ones, are encoded and decoded at level 0, quality 50, as what is written is what was
decoded. Files are written to memory. "runs" are the options of zlib that the package had before it wrote PNG itself
(level 1, Z_RLE); "default" are Pillow's.
"""

from __future__ import annotations

import io
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click

from basic_runtime import Codec, Picture, read_picture, write_picture
from basic_runtime.evaluate.measure import list_pictures
from basic_runtime.imageio import image_of
from basic_runtime.profile import synthetic_picture


def pictures(folder: Path | None, count: int) -> list[Picture]:
    """What a level 0 decode gives of the first pictures of a folder, or of synthetic ones."""
    if folder is None:
        sources = [Picture(synthetic_picture(768, 512, seed)) for seed in range(count)]
    else:
        sources = [read_picture(path) for path in list_pictures(folder)[:count]]
    codec = Codec()
    return [codec.decode_picture(codec.encode(source, quality=50, level=0, effort=0)) for source in sources]


def by_pillow(**options: int) -> Callable[[io.BytesIO, Picture], object]:
    """A writer with these options of Pillow."""
    return lambda file, picture: image_of(picture).save(file, "PNG", **options)


def by_package(threads: int) -> Callable[[io.BytesIO, Picture], object]:
    """The package's writer."""
    return lambda file, picture: write_picture(file, picture, "PNG", threads=threads)


WRITERS = {
    "package, 1 thread": by_package(1),
    "package, 2 threads": by_package(2),
    "Pillow, runs": by_pillow(compress_level=1, compress_type=zlib.Z_RLE),
    "Pillow, default": by_pillow(),
}


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--count", default=8, show_default=True, help="Pictures.")
@click.option("--rounds", default=7, show_default=True, help="Times that each is written by each.")
def main(folder: Path | None, count: int, rounds: int) -> None:
    chosen = pictures(folder, count)
    megapixels = sum(picture.width * picture.height for picture in chosen) / 1e6
    seconds: dict[str, list[float]] = {name: [] for name in WRITERS}
    sizes = dict.fromkeys(WRITERS, 0)
    for _ in range(rounds):
        for name, write in WRITERS.items():
            sizes[name], taken = 0, 0.0
            for picture in chosen:
                file = io.BytesIO()
                start = time.perf_counter()
                write(file, picture)
                taken += time.perf_counter() - start
                sizes[name] += len(file.getvalue())
            seconds[name].append(taken)
    print("| | ms per megapixel | least to most | bytes per pixel |\n|---|---|---|---|")
    for name, values in seconds.items():
        median, least, most = (
            1000 * value / megapixels for value in (statistics.median(values), min(values), max(values))
        )
        print(f"| {name} | {median:.1f} | {least:.1f} to {most:.1f} | {sizes[name] / megapixels / 1e6:.3f} |")


if __name__ == "__main__":
    main()
