"""Time per megapixel and memory of pictures of growing size, each coded in a process of its own.

    python benchmarks/large_picture.py [--megapixels 0.4,4,24,100] [--level 7] [--bundle DIR]

Pictures are synthetic, of aspect 3:2. Memory is the process's largest resident set, Python and libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys

import click

CHILD = """
import json, resource, sys, time
from dataclasses import replace
from basic_runtime.codec import Codec
from basic_runtime.limits import DEFAULT_LIMITS
from basic_runtime.profile import synthetic_picture

width, height, level, direction, path, bundle = json.loads(sys.argv[1])
codec = Codec(bundle, limits=replace(DEFAULT_LIMITS, max_pixels=width * height))
codec.load(level)
if direction == "encode":
    picture = synthetic_picture(min(width, 3072), min(height, 2048))
    import numpy as np
    tiles = [-(-side // part) for side, part in zip((height, width), picture.shape)]
    picture = np.tile(picture, (*tiles, 1))[:height, :width]
    start = time.perf_counter()
    data = codec.encode(picture, 50, level)
    seconds = time.perf_counter() - start
    open(path, "wb").write(data)
else:
    data = open(path, "rb").read()
    start = time.perf_counter()
    codec.decode(data, level)
    seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@click.command()
@click.option("--megapixels", default="0.4,4,24,100", show_default=True)
@click.option("--level", default=7, show_default=True)
@click.option("--bundle", help="Default: the bundled model.")
def main(megapixels: str, level: int, bundle: str | None) -> None:
    """Print a line per size and direction."""
    from tempfile import TemporaryDirectory

    print("      size   MP  way     seconds  s/MP   MB     MB/MP")
    with TemporaryDirectory() as folder:
        for part in megapixels.split(","):
            height = round((float(part) * 1e6 / 1.5) ** 0.5)
            width = round(1.5 * height)
            for direction in ("encode", "decode"):
                arguments = [width, height, level, direction, f"{folder}/file", bundle]
                command = [sys.executable, "-P", "-c", CHILD, json.dumps(arguments)]
                seconds, memory = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                size = width * height / 1e6
                print(
                    f"{width:>5}x{height:<5}{size:>5.1f}  {direction}{seconds:>9.2f}{seconds / size:>6.2f}"
                    f"{memory:>8.0f}{memory / size:>8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
