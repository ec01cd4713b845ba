"""Decoding without Python beside `basic-run decode`: whole commands from a cold shell, and WebAssembly in Node.

    python benchmarks/c_library.py [PICTURE] [--levels 0,3,7] [--rounds 9]

Run `make decode` first; Node must be there for its rows. Commands take turns; each row has medians of wall time,
start-up and files included, and the largest resident set. Rows of Node are of one decode in a program that has decoded
before, on its one thread, with what it takes to load program and model.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import LevelList
from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture
from basic_runtime.packed_model import packed_model
from basic_runtime.profile import synthetic_picture

ROOT = Path(__file__).parents[1]
PROGRAM, WEB = ROOT / "build-codec" / "basic-decode", files("basic_runtime") / "web"
PYTHON = [sys.executable, "-P", "-c", "from basic_runtime.cli import main; main()", "decode", "--overwrite"]

NODE = """
import { readFile } from "node:fs/promises";
const [folder, model, file] = process.argv.slice(2);
const { BasicCodec } = await import(`file://${folder}/basic-codec.mjs`);
const bytes = async (path) => new Uint8Array(await readFile(path));
const [wasm, packed, data] = [await bytes(`${folder}/basic-codec.wasm`), await bytes(model), await bytes(file)];
const times = [performance.now()];
const decoder = await BasicCodec.load(wasm, packed);
for (let k = 0; k < 12; ++k) {
  times.push(performance.now());
  await decoder.decode(data);
}
times.push(performance.now());
console.log(JSON.stringify(times));
"""


MEMORY = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
print(os.wait4(process, 0)[2].ru_maxrss)
"""
"""A small process to start another from, as whoever forks counts as what runs in the fork."""


def milliseconds(command: list[str | Path]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - start)


def megabytes(command: list[str | Path]) -> float:
    """The largest resident set of a command."""
    told = subprocess.run([sys.executable, "-S", "-c", MEMORY, *command], capture_output=True, check=True, text=True)
    return int(told.stdout.splitlines()[-1]) * 1024 / 1e6


def node_times(model: Path, file: Path) -> tuple[float, float]:
    """Milliseconds to load program and model and decode once, and of each later decode."""
    command = ["node", "--input-type=module", "-", WEB, model, file]
    told = json.loads(subprocess.run(command, input=NODE, capture_output=True, check=True, text=True).stdout)
    return told[2] - told[0], median(after - before for before, after in zip(told[2:], told[3:], strict=False))


@click.command()
@click.argument("picture", required=False)
@click.option("--levels", type=LevelList(), default="0,3,7", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
def main(picture: str | None, levels: list[int], rounds: int) -> None:
    if not PROGRAM.is_file():
        raise click.ClickException(f"{PROGRAM} is not there: make decode builds it")
    pixels = read_picture(picture).pixels if picture else synthetic_picture(768, 512)
    bundle = Bundle()
    print("| level | command | ms to .ppm | ms to .png | MB |\n|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for level in levels:
            file, model = Path(folder) / "a.basic", Path(folder) / "model"
            file.write_bytes(Codec(bundle).encode(pixels, level=level))
            model.write_bytes(packed_model(bundle, [level], [level]))
            commands = {
                (name, kind): [*head, *([model] if head[0] == PROGRAM else []), file, *last, Path(folder) / f"a.{kind}"]
                for kind in ("ppm", "png")
                for name, head, last in (
                    ("basic-run decode", PYTHON, ["-o"]),
                    ("basic-decode", [PROGRAM, "--overwrite"], []),
                )
            }
            found = {key: [] for key in commands}
            for _ in range(rounds):
                for key, command in commands.items():
                    found[key].append(milliseconds(command))
            for name in ("basic-run decode", "basic-decode"):
                ppm, png = (median(found[name, kind]) for kind in ("ppm", "png"))
                size = megabytes(commands[name, "ppm"])
                print(f"| {level} | `{name}` | {ppm:.0f} | {png:.0f} | {size:.0f} |")
            if shutil.which("node"):
                first, later = node_times(model, file)
                print(f"| {level} | Node: first, later decodes | {first:.0f}, {later:.0f} | | |")


if __name__ == "__main__":
    main()
