"""What decoding in stages costs over decoding all latents at once, and beside CompressAI's scanline decoding.

    python benchmarks/stages.py [--bundle DIR] [--levels 0,3,7] [--size 768x512] [--reps 15] [--threads 2]

Three ways to get a latent's probabilities, in interleaved rounds with the rest of a decode (coder, g_s, pixels):

* stages: as a decoder does, each stage after the one before is decoded;
* merged: h_s, and all stages as one graph that is given y, the same multiplications in one call (needs onnx);
* no context: h_s and the first stage's graph, which reads nothing decoded, as often as there are stages.

All on what the codec takes for its entropy path: the package's own integer networks where the engine leaves it to them.

With the package compressai, its mbt2018 (random weights, which cost the same time) decodes a picture of this size too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import LevelList, PictureSize
from basic_runtime.codec import Codec
from basic_runtime.engines import create_backend
from basic_runtime.engines.base import Backend, Engine, FloatArray
from basic_runtime.engines.native import load_native
from basic_runtime.manifest import EntropySpec
from basic_runtime.profile import synthetic_picture

Work = Callable[[], object]
QUALITY = 50


def merged_engine(bundle: Bundle, spec: EntropySpec, backend: Backend) -> Engine:
    """All stages of an entropy variant in one graph: the prior and y to every mean and scale."""
    import onnx

    graphs = [onnx.load(bundle.graph_path(stage.graph), load_external_data=False) for stage in spec.stages]
    shared = {value.name for model in graphs for value in model.graph.input}
    whole = onnx.GraphProto(name="merged")
    given: set[str] = set()
    for number, model in enumerate(graphs):
        prefix = f"{number}/"

        def renamed(name: str, prefix: str = prefix) -> str:
            return name if name in shared or not name else prefix + name

        for node in model.graph.node:
            node.name = prefix + node.name
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
            whole.node.append(node)
        for tensor in model.graph.initializer:
            tensor.name = renamed(tensor.name)
            whole.initializer.append(tensor)
        for value in model.graph.output:
            value.name = renamed(value.name)
            given.add(value.name)
            if value.name not in shared:
                whole.output.append(value)
    inputs = {value.name: value for model in graphs for value in model.graph.input if value.name not in given}
    whole.input.extend(inputs.values())
    model = onnx.helper.make_model(whole, opset_imports=graphs[0].opset_import, ir_version=graphs[0].ir_version)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "merged.onnx"
        path.write_bytes(model.SerializeToString())
        return load_strict(path, bundle, backend)


def load_strict(path: Path, bundle: Bundle, backend: Backend) -> Engine:
    """A graph of the entropy path, as the codec loads it."""
    if backend.native_entropy:
        return load_native(path, bundle.weights_folder, backend.threads)
    return backend.load(path, external_data=bundle.weights_folder, strict=True)


def probability_works(bundle: Bundle, backend: Backend, level: int, width: int, height: int) -> dict[str, Work]:
    """The three ways for one level, on random latents."""
    spec = bundle.entropy(bundle.level(level).entropy_variant)
    rows, columns = -(-height // 64), -(-width // 64)
    rng = np.random.default_rng(0)

    def load(graph: str) -> Engine:
        return load_strict(bundle.graph_path(graph), bundle, backend)

    z = rng.integers(-9, 9, (1, bundle.manifest.z_channels, rows, columns)).astype(np.float32)
    channels, ratio = bundle.manifest.y_channels // spec.channel_groups, 4 // spec.tile
    slots = [f"y.{g}.{i}{j}" for stage in spec.stages for g, i, j in stage.slots]
    y = {name: rng.integers(-99, 99, (1, channels, ratio * rows, ratio * columns)).astype(np.float32) for name in slots}
    h_s, stages = load(spec.h_s), [(stage, load(stage.graph)) for stage in spec.stages]

    def in_stages() -> None:
        state: dict[str, FloatArray] = {**h_s.run({"z": z}), **y}
        for stage, engine in stages:
            state |= engine.run({name: state[name] for name in stage.inputs})

    def without_context() -> None:
        prior = h_s.run({"z": z})
        stage, engine = stages[0]
        for _ in stages:
            engine.run({name: prior[name] for name in stage.inputs})

    works: dict[str, Work] = {"stages": in_stages, "no context": without_context}
    if find_spec("onnx") is not None:
        merged = merged_engine(bundle, spec, backend)

        def all_at_once() -> None:
            for values in merged.run({**h_s.run({"z": z}), **y}).values():
                np.asarray(values)

        works["merged"] = all_at_once
    return works


def measure(works: dict[str, Work], reps: int) -> dict[str, float]:
    """Median milliseconds of each, after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(reps + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def scanline(width: int, height: int, threads: int) -> float:
    """Milliseconds of CompressAI's mbt2018 at quality 5 (192 and 192 channels) for decoding, second of two."""
    import torch
    from compressai.zoo import mbt2018

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    net = mbt2018(5, pretrained=False).eval()
    net.update(force=True)
    with torch.no_grad():
        coded = net.compress(torch.rand(1, 3, -(-height // 64) * 64, -(-width // 64) * 64))
        for _ in range(2):
            start = time.perf_counter()
            net.decompress(coded["strings"], coded["shape"])
            seconds = time.perf_counter() - start
    return 1000 * seconds


@click.command()
@click.option("--bundle", help="Model bundle (default: the one that is installed).")
@click.option("--levels", type=LevelList(), default="0,3,7", show_default=True)
@click.option("--size", type=PictureSize(), default="768x512", show_default=True)
@click.option("--reps", default=15, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--engine", default="auto", show_default=True)
def main(
    bundle: str | None, levels: tuple[int, ...], size: tuple[int, int], reps: int, threads: int, engine: str
) -> None:
    """Print a Markdown table of medians in milliseconds."""
    width, height = size
    opened, backend = Bundle(bundle), create_backend(engine, threads)
    codec = Codec(opened, backend)
    picture = synthetic_picture(width, height)
    whole: dict[int, float] = {}
    print("| level | whole decode | h_s and stages | merged | no context | decode over merged | over no context |")
    print("|---|---|---|---|---|---|---|")
    for level in levels:
        data = codec.encode(picture, quality=QUALITY, level=level, effort=0)
        works = probability_works(opened, backend, level, width, height)
        found = measure(works | {"decode": partial(codec.decode, data, level=level)}, reps)
        whole[level] = found["decode"]
        rest = found["decode"] - found["stages"]
        row = [found["decode"], found["stages"], found.get("merged", float("nan")), found["no context"]]
        ratios = [found["decode"] / (rest + value) for value in row[2:]]
        cells = [f"{value:.1f}" for value in row] + [f"{value:.2f}" for value in ratios]
        print(f"| {level} | " + " | ".join(cells) + " |")
    if find_spec("compressai") is not None:
        peer = scanline(width, height, threads)
        ratios = ", ".join(f"{peer / ms:.0f} times level {level}'s" for level, ms in whole.items())
        print(f"\nCompressAI mbt2018, scanline: {peer:.0f} ms, {ratios}")


if __name__ == "__main__":
    main()
