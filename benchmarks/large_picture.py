"""Time per megapixel and memory of pictures of growing size, file to file, each way in a process of its own.

    python benchmarks/large_picture.py [--megapixels 0.4,4,24,100] [--levels 0,7] [--format png] [--json FILE]
    python benchmarks/large_picture.py --plot docs/results/large_pictures.png a.json b.json

Pictures are synthetic, of aspect 3:2; 0.4 stands for 768x512. A process reads a picture, encodes it and writes the
.basic file, or reads that, decodes it and writes the picture: "ms/MP" is the codec's time alone, as the median of as
many runs as fit in two seconds after one on a small picture, "all" includes reading and writing. Memory is the largest
resident set of the process, Python and libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from basic_runtime.cli.options import LevelList

CHILD = """
import json, resource, statistics, sys, time
from basic_runtime import Codec, file_info, read_picture, write_picture
from basic_runtime.files import read_bytes, write_bytes
from basic_runtime.profile import synthetic_picture

direction, picture_file, packed_file, level, tile, bundle = json.loads(sys.argv[1])
codec = Codec(bundle, **({"tile_pixels": tile} if tile else {}))
small_picture = synthetic_picture(768, 512)
small = codec.encode(small_picture, quality=50, level=level, effort=0)
codec.decode(small, level=level)

def timed(work):
    seconds = []
    while not seconds or sum(seconds) + seconds[0] < 2:
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds), len(seconds)

def reference():
    if direction == "encode":
        return timed(lambda: codec.encode(small_picture, quality=50, level=level, effort=0))[1]
    return timed(lambda: codec.decode(small, level=level))[1]

references = [reference()]
start = time.perf_counter()
if direction == "encode":
    picture = read_picture(picture_file)
    read = time.perf_counter()
    data, seconds, runs = timed(lambda: codec.encode(picture, quality=50, level=level, effort=0))
    done = time.perf_counter()
    write_bytes(packed_file, data, overwrite=True)
else:
    data = read_bytes(packed_file)
    read = time.perf_counter()
    picture, seconds, runs = timed(lambda: codec.decode_picture(data, level=level))
    done = time.perf_counter()
    write_picture(picture_file, picture, overwrite=True)
outside = read - start + time.perf_counter() - done
del picture
references.append(reference())
info = file_info(data)
pixels = info.width * info.height
print(json.dumps({
    "codec_seconds": seconds, "all_seconds": seconds + outside, "runs": runs, "bytes": len(data),
    "ratio": seconds / pixels / (statistics.mean(references) / (768 * 512)),
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
}))
"""

PICTURE = """
import sys
import numpy as np
from PIL import Image
from basic_runtime.profile import synthetic_picture

width, height = int(sys.argv[1]), int(sys.argv[2])
part = synthetic_picture(min(width, 3072), min(height, 2048))
image = Image.new("RGB", (width, height))
for top in range(0, height, 2048):
    for left in range(0, width, 3072):
        image.paste(Image.fromarray(part), (left, top))
image.save(sys.argv[3], quality=95, compress_level=1)
"""


def size_of(megapixels: float) -> tuple[int, int]:
    """Width and height of a picture of aspect 3:2."""
    if megapixels == 0.4:
        return 768, 512
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return round(1.5 * height), height


def run(program: str, *arguments: str) -> str:
    """What a Python program prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def measure(
    megapixels: float, levels: tuple[int, ...], kind: str, tile: int | None, bundle: str | None
) -> list[dict[str, Any]]:
    """A row per level and direction."""
    width, height = size_of(megapixels)
    rows = []
    with TemporaryDirectory() as folder:
        picture, packed = f"{folder}/picture.{kind}", f"{folder}/picture.basic"
        run(PICTURE, str(width), str(height), picture)
        for level in levels:
            for direction in ("encode", "decode"):
                target = picture if direction == "encode" else f"{folder}/decoded.{kind}"
                found = json.loads(run(CHILD, json.dumps([direction, target, packed, level, tile, bundle])))
                row = {
                    "width": width,
                    "height": height,
                    "level": level,
                    "direction": direction,
                    "format": kind,
                }
                rows.append(row | found)
                print(described(rows[-1]), flush=True)
    return rows


def described(row: dict[str, Any]) -> str:
    """A line of the table."""
    size = row["width"] * row["height"] / 1e6
    return (
        f"{row['width']:>5}x{row['height']:<5} {size:>6.1f} MP  level {row['level']}  {row['direction']}"
        f"{1000 * row['codec_seconds'] / size:>7.0f} ms/MP{row['ratio']:>6.2f}x"
        f"{1000 * row['all_seconds'] / size:>6.0f} all"
        f"{row['megabytes']:>7.0f} MB{row['runs']:>4} runs"
    )


def plot(rows: list[dict[str, Any]], path: str) -> None:
    """Time per megapixel and memory by size, both directions of each level."""
    import matplotlib.pyplot as plt

    figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for level, colour in zip(sorted({row["level"] for row in rows}), ("#1f77b4", "#d62728", "#2ca02c"), strict=False):
        for direction, style in (("encode", "o-"), ("decode", "s--")):
            chosen = sorted(
                (row["width"] * row["height"] / 1e6, 1000 * row["codec_seconds"], row["megabytes"])
                for row in rows
                if row["level"] == level and row["direction"] == direction
            )
            sizes = [size for size, _, _ in chosen]
            label = f"level {level}, {direction}"
            time_axes.plot(sizes, [ms / size for size, ms, _ in chosen], style, color=colour, label=label)
            memory_axes.plot(sizes, [memory for _, _, memory in chosen], style, color=colour, label=label)
    for axes, title in ((time_axes, "ms per megapixel"), (memory_axes, "largest resident set, MB")):
        axes.set(xscale="log", xlabel="megapixels", title=title, ylim=(0, None))
        axes.grid(alpha=0.3)
    time_axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


@click.command()
@click.argument("files", nargs=-1)
@click.option("--megapixels", default="0.4,4,24,100", show_default=True)
@click.option("--levels", type=LevelList(), default="0,7", show_default=True)
@click.option("--format", "kind", type=click.Choice(["png", "jpg"]), default="png", show_default=True)
@click.option("--tile", type=int, help="Side of the tiles (default: the runtime's).")
@click.option("--bundle", help="Default: the bundled model.")
@click.option("--json", "output", metavar="FILE", help="Write the rows there.")
@click.option("--plot", "picture", metavar="FILE", help="Measure nothing, draw the rows of the JSON files named.")
def main(
    files: tuple[str, ...],
    megapixels: str,
    levels: tuple[int, ...],
    kind: str,
    tile: int | None,
    bundle: str | None,
    output: str | None,
    picture: str | None,
) -> None:
    """Print a line per size, level and direction."""
    if picture:
        plot([row for file in files for row in json.loads(Path(file).read_text())], picture)
        return
    rows = []
    for size in megapixels.split(","):
        rows += measure(float(size), levels, kind, tile, bundle)
    if output:
        Path(output).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
