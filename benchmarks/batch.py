"""A folder through basic-run, files side by side against one by one: wall time, share of the cores, memory.

    python benchmarks/batch.py [FOLDER] [--count 48] [--size 768x512] [--levels 0,7] [--rounds 3] [--json FILE]

Without a FOLDER of pictures it makes its own. Each row is a whole command, start-up and files included, as the median
of rounds in which `--jobs 1` and the default take turns. "busy" is processor time by wall time and cores.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
from PIL import Image

from basic_runtime.cli.options import LevelList, PictureSize
from basic_runtime.evaluate.measure import list_pictures
from basic_runtime.profile import synthetic_picture
from basic_runtime.threads import available_cores

CORES = available_cores()
COMMAND = [sys.executable, "-P", "-c", "from basic_runtime.cli import main; main()"]


def make_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """PNG files of synthetic pictures, each another."""
    width, height = size
    for number in range(count):
        Image.fromarray(synthetic_picture(width, height, number)).save(folder / f"{number:03}.png")
    return sorted(str(path) for path in folder.glob("*.png"))


def run(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, share of the cores, and largest resident set in MB of one command."""
    start = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(said.strip())
    return seconds, cpu_seconds(usage) / seconds / CORES, usage.ru_maxrss * 1024 / 1e6


def cpu_seconds(usage: resource.struct_rusage) -> float:
    """Processor time of a process, its own and the system's for it."""
    return usage.ru_utime + usage.ru_stime


def compare(direction: str, files: list[str], level: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row for one by one, and one for side by side."""
    found: dict[str, list[tuple[float, float, float]]] = {"one by one": [], "side by side": []}
    options = [*files, "--level", str(level), "--overwrite", "--out-dir", str(folder)]
    options += ["--effort", "0"] if direction == "encode" else []
    for _ in range(rounds):
        found["one by one"].append(run([direction, *options, "--jobs", "1"]))
        found["side by side"].append(run([direction, *options]))
    slow = median(seconds for seconds, _, _ in found["one by one"])
    rows = []
    for name, runs in found.items():
        seconds, busy, memory = (median(values) for values in zip(*runs, strict=True))
        row = {"direction": direction, "level": level, "files": len(files), "way": name, "seconds": seconds}
        rows.append(row | {"busy": busy, "megabytes": memory, "ratio": slow / seconds})
        print(
            f"{direction} level {level}  {name:<13}{seconds:>7.2f} s{1000 * seconds / len(files):>7.1f} ms/file"
            f"{100 * busy:>5.0f} % busy{memory:>6.0f} MB{slow / seconds:>6.2f}x",
            flush=True,
        )
    return rows


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=48, show_default=True, help="Pictures to make.")
@click.option("--size", type=PictureSize(), default="768x512", show_default=True)
@click.option("--levels", type=LevelList(), default="0,7", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "output", metavar="FILE", help="Write the rows there.")
def main(
    folder: Path | None,
    count: int,
    size: tuple[int, int],
    levels: tuple[int, ...],
    rounds: int,
    output: str | None,
) -> None:
    """Print a row per direction, level and way."""
    rows = []
    with TemporaryDirectory() as name:
        scratch = Path(name)
        for part in ("pictures", "packed", "unpacked"):
            (scratch / part).mkdir()
        if folder is None:
            pictures = make_pictures(scratch / "pictures", count, size)
        else:
            pictures = [str(path) for path in list_pictures(folder)]
        for level in levels:
            rows += compare("encode", pictures, level, rounds, scratch / "packed")
            packed = sorted(str(path) for path in (scratch / "packed").glob("*.basic"))
            rows += compare("decode", packed, level, rounds, scratch / "unpacked")
    if output:
        Path(output).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
