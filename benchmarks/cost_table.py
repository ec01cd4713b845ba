"""What each level costs: multiplications, milliseconds and memory of encoding and decoding, as tables in Markdown.

    python benchmarks/cost_table.py [--bundle DIR] [--size 768x512] [--reps 15] [--threads 2]

Times are medians of interleaved rounds over all levels; memory is the largest resident set of a process that does
nothing else, Python and libraries included. The second table parts the times of levels 0, 3 and 7 on the first engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import PictureSize
from basic_runtime.codec import Codec
from basic_runtime.engines import BF16, FLOAT32, INT16, create_backend
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_runtime.errors import BasicError
from basic_runtime.profile import profile, synthetic_picture

QUALITY = 50

CHILD = r"""
import json, re, sys
from pathlib import Path
from basic_runtime.codec import Codec
from basic_runtime.profile import synthetic_picture
width, height, level, direction, file, bundle, engine, threads = json.loads(sys.argv[1])
codec = Codec(bundle, engine, threads=threads)
if direction == "encode":
    Path(file).write_bytes(codec.encode(synthetic_picture(width, height), quality=50, level=level, effort=0))
else:
    codec.decode(Path(file).read_bytes(), level=level)
# Not getrusage, whose largest set counts what the parent had when it forked.
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6)
"""

Table = dict[tuple[int, str], float]
"""A value for each level and direction."""


def engines() -> list[tuple[str, str]]:
    """(engine, precision) of each column that this machine has."""
    found = [("auto", INT16), ("onnxruntime", FLOAT32)]
    if OpenVinoBackend.available():
        found.append(("auto", FLOAT32))
        try:
            create_backend("auto", precision=BF16)
            found.append(("auto", BF16))
        except BasicError as error:
            print(f"no bf16: {error}", file=sys.stderr)
    return found


def times(bundle: Bundle, engine: str, precision: str, size: tuple[int, int], threads: int, reps: int) -> Table:
    """Median milliseconds, rounds interleaved over levels."""
    codec = Codec(bundle, engine, threads=threads, precision=precision)
    picture = synthetic_picture(*size)
    works = {}
    for level in range(len(bundle.manifest.levels)):
        data = codec.encode(picture, quality=QUALITY, level=level, effort=0)
        codec.decode(data, level=level)
        works[level, "encode"] = partial(codec.encode, picture, quality=QUALITY, level=level, effort=0)
        works[level, "decode"] = partial(codec.decode, data, level=level)
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in works}
    for _ in range(reps):
        for key, work in works.items():
            start = time.perf_counter()
            work()
            seconds[key].append(time.perf_counter() - start)
    return {key: 1000 * float(np.median(values)) for key, values in seconds.items()}


def memory(bundle: Bundle, engine: str, size: tuple[int, int], threads: int) -> Table:
    """MB of a process that encodes or decodes one picture."""
    found: Table = {}
    with TemporaryDirectory() as folder:
        for level in range(len(bundle.manifest.levels)):
            for direction in ("encode", "decode"):
                arguments = [*size, level, direction, f"{folder}/file", str(bundle.path), engine, threads]
                command = [sys.executable, "-P", "-c", CHILD, json.dumps(arguments)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[level, direction] = float(done.stdout)
    return found


def print_levels(bundle: Bundle, columns: dict[str, Table]) -> None:
    """A row per level: kMAC per pixel, and each column's value for encode / decode."""
    print("| level | kMAC/pixel | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for number, level in enumerate(bundle.manifest.levels):
        macs = f"{level.encode_macs_per_pixel / 1000:.1f} / {level.decode_macs_per_pixel / 1000:.1f}"
        cells = [f"{table[number, 'encode']:.0f} / {table[number, 'decode']:.0f}" for table in columns.values()]
        print(f"| {number} | {macs} | " + " | ".join(cells) + " |")


def print_parts(bundle: Bundle, engine: str, size: tuple[int, int], threads: int, reps: int) -> None:
    """A row per part, median milliseconds of encode / decode at three levels; all stages are one."""
    levels = sorted({0, len(bundle.manifest.levels) // 2 - 1, len(bundle.manifest.levels) - 1} & {*range(8)})
    width, height = size
    backend = create_backend(engine, threads)
    result = profile(bundle, backend, width=width, height=height, levels=levels, repetitions=reps)
    parts: dict[str, Table] = {}
    for timing in result.timings:
        name = "stages" if timing.part.startswith("stage ") else timing.part
        row = parts.setdefault(name, {})
        row[timing.level, timing.direction] = row.get((timing.level, timing.direction), 0.0) + timing.p50
    print("| part | " + " | ".join(f"level {level}" for level in levels) + " |")
    print("|---" * (len(levels) + 1) + "|")
    for name, row in parts.items():
        cells = [
            " / ".join(f"{row[level, way]:.1f}" if (level, way) in row else "–" for way in ("encode", "decode"))
            for level in levels
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: the model that is installed.")
@click.option("--size", type=PictureSize(), default="768x512", show_default=True)
@click.option("--reps", default=15, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(bundle: Path | None, size: tuple[int, int], reps: int, threads: int) -> None:
    """Print both tables."""
    width, height = size
    opened = Bundle(bundle)
    columns: dict[str, Table] = {}
    for engine, precision in engines():
        name = f"{engine}, {precision}"
        columns[f"{name}, ms"] = times(opened, engine, precision, (width, height), threads, reps)
    first = engines()[0][0]
    columns["MB"] = memory(opened, first, (width, height), threads)
    print(f"{opened.name}, {width}x{height}, {threads} threads, encode / decode\n")
    print_levels(opened, columns)
    print()
    print_parts(opened, first, (width, height), threads, reps)


if __name__ == "__main__":
    main()
