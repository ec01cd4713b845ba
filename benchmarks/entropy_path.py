"""h_s and all stages of each entropy variant: the package's integer networks beside ONNX Runtime and OpenVINO.

    python benchmarks/entropy_path.py [--bundle DIR] [--size 768x512] [--reps 15] [--threads 2]

Milliseconds of the graphs alone, each fed with what it reads in a decode, medians of interleaved rounds; and for each
variant and kernel of the integer networks the multiplications per second. Loading is that of all graphs of a variant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import click
import numpy as np

from basic_runtime._native import dots_kernels
from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import PictureSize
from basic_runtime.engines import available_backends, create_backend
from basic_runtime.engines.base import Engine, FloatArray
from basic_runtime.engines.native import load_native
from basic_runtime.manifest import EntropySpec

Load = Callable[[str], Engine]


def loaders(bundle: Bundle, threads: int) -> dict[str, Load]:
    """How each contender loads a graph."""

    def native(kernel: str) -> Load:
        return lambda graph: load_native(bundle.graph_path(graph), bundle.weights_folder, threads, kernel)

    def library(name: str) -> Load:
        backend = create_backend(name, threads)
        return lambda graph: backend.load(bundle.graph_path(graph), external_data=bundle.weights_folder, strict=True)

    fast = [kernel for kernel in dots_kernels() if kernel != "scalar"] or ["scalar"]
    found = {f"native, {kernel}": native(kernel) for kernel in fast}
    return found | {name: library(name) for name in ("onnxruntime", "openvino") if name in available_backends()}


def chain(engines: Mapping[str, Engine], spec: EntropySpec, z: FloatArray, y: Mapping[str, FloatArray]) -> None:
    """h_s and the stages, with latents that are known."""
    state: dict[str, FloatArray] = {**engines[spec.h_s].run({"z": z}), **y}
    for stage in spec.stages:
        state |= engines[stage.graph].run({name: state[name] for name in stage.inputs})


@click.command()
@click.option("--bundle", help="Model bundle (default: the one that is installed).")
@click.option("--size", type=PictureSize(), default="768x512", show_default=True)
@click.option("--reps", default=15, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(bundle: str | None, size: tuple[int, int], reps: int, threads: int) -> None:
    """Print a Markdown table."""
    opened = Bundle(bundle)
    width, height = size
    rows, columns = -(-height // 64), -(-width // 64)
    rng = np.random.default_rng(0)
    z = rng.integers(-9, 9, (1, opened.manifest.z_channels, rows, columns)).astype(np.float32)
    print("| h_s | engine | ms | GMAC/s | load, ms |\n|---|---|---|---|---|")
    for spec in opened.manifest.entropy_variants:
        channels, ratio = opened.manifest.y_channels // spec.channel_groups, 4 // spec.tile
        shape = (1, channels, ratio * rows, ratio * columns)
        y = {
            f"y.{g}.{i}{j}": rng.integers(-99, 99, shape).astype(np.float32)
            for stage in spec.stages
            for g, i, j in stage.slots
        }
        engines: dict[str, dict[str, Engine]] = {}
        loading: dict[str, float] = {}
        for name, load in loaders(opened, threads).items():
            start = time.perf_counter()
            engines[name] = {graph: load(graph) for graph in spec.graphs}
            loading[name] = 1000 * (time.perf_counter() - start)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(reps + 1):
            for name, loaded in engines.items():
                start = time.perf_counter()
                chain(loaded, spec, z, y)
                times[name].append(1000 * (time.perf_counter() - start))
        macs = sum(opened.graph(graph).macs_per_pixel for graph in spec.graphs) * rows * columns * 64**2
        for name, values in times.items():
            ms = median(values[1:])
            print(f"| {spec.width} | {name} | {ms:.1f} | {macs / ms / 1e6:.0f} | {loading[name]:.0f} |")


if __name__ == "__main__":
    main()
