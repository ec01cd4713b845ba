"""The codec without Python beside `basic-run`: whole commands from a cold shell, and WebAssembly in Node.

    python benchmarks/c_library.py [PICTURE] [--levels 0,3,7] [--rounds 9]
    python benchmarks/c_library.py --folder FOLDER [--levels 0,7] [--rounds 3]

Run `make codec` first; Node must be there for its rows. With a folder of pictures the columns are milliseconds for each
of them: encoding all with effort 1, and decoding all to PNG. Commands take turns; each column has medians of wall time,
start-up and files included: decoding to PPM and PNG, encoding a PPM with efforts 0 and 1; and largest resident sets.
Rows of Node are of later pictures in a program that has coded one before, on its one thread.
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
from basic_runtime.imageio import read_picture, write_picture
from basic_runtime.packed_model import packed_model
from basic_runtime.picture import Picture
from basic_runtime.profile import synthetic_picture

BUILD = Path(__file__).parents[1] / "build-codec"
WEB = files("basic_runtime") / "web"
PYTHON = [sys.executable, "-P", "-c", "from basic_runtime.cli import main; main()"]

NODE = """
import { readFile } from "node:fs/promises";
const [folder, model, file] = process.argv.slice(2);
const { BasicCodec } = await import(`file://${folder}/basic-codec.mjs`);
const bytes = async (path) => new Uint8Array(await readFile(path));
const codec = await BasicCodec.load(await bytes(`${folder}/basic-codec.wasm`), await bytes(model));
const data = await bytes(file);
const picture = await codec.decode(data);
const later = async (work) => {
  const times = [];
  for (let k = 0; k < 10; ++k) {
    const start = performance.now();
    await work();
    if (k > 0) times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[4];
};
const decode = await later(() => codec.decode(data));
const encode = [];
for (const effort of [0, 1]) encode.push(await later(() => codec.encode(picture, { effort })));
console.log(JSON.stringify([decode, ...encode]));
"""

MEMORY = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
print(os.wait4(process, 0)[2].ru_maxrss)
"""
"""A small process to start another from, as whoever forks counts as what runs in the fork."""

Commands = dict[str, list[str | Path]]


def commands(folder: Path, level: int, *, python: bool) -> Commands:
    """What is timed, by column; it reads and writes files of a folder."""
    model, plain = folder / "model", ["--overwrite"]
    decode = [*PYTHON, "decode", *plain, folder / "a.basic", "-o"]
    encode = [*PYTHON, "encode", *plain, folder / "a.ppm", "--level", str(level), "-o", folder / "b.basic"]
    if not python:
        decode = [BUILD / "basic-decode", *plain, model, folder / "a.basic"]
        encode = [BUILD / "basic-encode", *plain, "--level", str(level), model, folder / "a.ppm", folder / "b.basic"]
    return {
        "to .ppm": [*decode, folder / "b.ppm"],
        "to .png": [*decode, folder / "b.png"],
        "effort 0": [*encode, "--effort", "0"],
        "effort 1": [*encode, "--effort", "1"],
    }


def milliseconds(command: list[str | Path]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - start)


def megabytes(command: list[str | Path]) -> float:
    """The largest resident set of a command."""
    told = subprocess.run([sys.executable, "-S", "-c", MEMORY, *command], capture_output=True, check=True, text=True)
    return int(told.stdout.splitlines()[-1]) * 1024 / 1e6


def node_times(folder: Path) -> list[float]:
    """Milliseconds of a decode and of encodes with efforts 0 and 1."""
    command = ["node", "--input-type=module", "-", WEB, folder / "model", folder / "a.basic"]
    return json.loads(subprocess.run(command, input=NODE, capture_output=True, check=True, text=True).stdout)


def compare(folder: Path, level: int, rounds: int) -> None:
    """Print the rows of a level."""
    contenders = {"basic-run": commands(folder, level, python=True), "C": commands(folder, level, python=False)}
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, timed in contenders.items():
            for column, command in timed.items():
                found.setdefault((name, column), []).append(milliseconds(command))
    for name, timed in contenders.items():
        cells = [f"{median(found[name, column]):.0f}" for column in timed]
        sizes = [f"{megabytes(timed[column]):.0f}" for column in ("to .ppm", "effort 1")]
        print(f"| {level} | {name} | {' | '.join(cells)} | {', '.join(sizes)} |", flush=True)
    if shutil.which("node"):
        decode, fast, usual = node_times(folder)
        print(f"| {level} | Node | {decode:.0f} | | {fast:.0f} | {usual:.0f} | |", flush=True)


def compare_folders(folder: Path, pictures: Path, level: int, rounds: int) -> None:
    """Print the rows of a level: whole folders."""
    packed, shown, model = folder / "packed", folder / "shown", folder / "model"
    by_level = ["--level", str(level)]
    encode = [*PYTHON, "encode", "--overwrite", *by_level, "--out-dir", packed, pictures]
    decode = [*PYTHON, "decode", "--overwrite", "--out-dir", shown, packed]
    contenders: dict[str, tuple[list[str | Path], list[str | Path]]] = {
        "basic-run --jobs 1": ([*encode, "--jobs", "1"], [*decode, "--jobs", "1"]),
        "basic-run": (encode, decode),
    }
    for name, threads in (("C, --threads 1", ["--threads", "1"]), ("C", [])):
        rest = ["--overwrite", *threads, model]
        contenders[name] = (
            [BUILD / "basic-encode", *by_level, "--out-dir", packed, *rest, pictures],
            [BUILD / "basic-decode", "--out-dir", shown, *rest, packed],
        )
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, timed in contenders.items():
            found[name].append(tuple(milliseconds(command) for command in timed))
    count = len(list(packed.rglob("*.basic")))
    for name, times in found.items():
        print(f"| {level} | {name} |", " | ".join(f"{median(v) / count:.0f}" for v in zip(*times, strict=True)), "|")


@click.command()
@click.argument("picture", required=False)
@click.option(
    "--folder", "pictures", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Time folders."
)
@click.option("--levels", type=LevelList(), default="0,3,7", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
def main(picture: str | None, pictures: Path | None, levels: list[int], rounds: int) -> None:
    if not (BUILD / "basic-decode").is_file():
        raise click.ClickException(f"{BUILD} is not there: make codec builds it")
    bundle = Bundle()
    if pictures:
        print("| level | | encode | decode |\n|---|---|---|---|")
        for level in levels:
            with TemporaryDirectory() as name:
                (Path(name) / "model").write_bytes(packed_model(bundle, [level], [level], encoders=True))
                compare_folders(Path(name), pictures.absolute(), level, rounds)
        return
    pixels = read_picture(picture).pixels if picture else synthetic_picture(768, 512)
    print("| level | | decode to .ppm | to .png | encode, effort 0 | effort 1 | MB |\n|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_picture(folder / "a.ppm", Picture(pixels))
        for level in levels:
            (folder / "a.basic").write_bytes(Codec(bundle).encode(pixels, level=level))
            (folder / "model").write_bytes(packed_model(bundle, [level], [level], encoders=True))
            compare(folder, level, rounds)


if __name__ == "__main__":
    main()
