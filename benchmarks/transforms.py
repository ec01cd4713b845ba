"""g_a and g_s alone: milliseconds and share of the machine's peak by engine, beside CompressAI's at the same widths.

    python benchmarks/transforms.py [--bundle DIR] [--size 768x512] [--reps 15] [--threads 2]

The peak is that of the fastest product of matrices in float32 (`SHAPES`), by OpenVINO with a constant right factor as a
convolution has it, or by NumPy, in the same rounds as the graphs; share of peak is best against best. CompressAI's
transforms are those of its mbt2018 in PyTorch (random weights; 5x5 convolutions and GDN), with as many channels inside
as ours and 320 latents, in its default layout and in channels-last. Rounds are interleaved, medians printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

import click
import numpy as np

from basic_runtime.bundle import Bundle
from basic_runtime.cli.options import PictureSize
from basic_runtime.engines import BF16, create_backend
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.errors import BasicError

Work = Callable[[], object]
Key = tuple[str, int, str]
"""Transform, width, engine."""

SHAPES = ((2048, 2048, 2048), (4096, 512, 512), (6144, 864, 96))
"""Rows, inner side and columns of the products; the last is that of a 3x3 convolution of 96 channels at 1/8."""

#: Before each round: threads of PyTorch, the last of the round before, spin on for a while.
PAUSE_SECONDS = 0.3

QUALITY_STEP = 31
"""Of the networks in int16, which are made for one quality."""

FLOAT32_ENGINES = ("onnxruntime", "openvino")


def graph_works(bundle: Bundle, width: int, height: int, threads: int) -> dict[Key, Work]:
    """A run of each g_a and g_s of the bundle on each engine, by (transform, width, engine)."""
    rng = np.random.default_rng(0)
    channels = bundle.manifest.y_channels
    inputs = {
        "x": rng.random((1, 3, height, width), np.float32),
        "y": np.rint(rng.normal(0, 5, (1, channels, height // 16, width // 16))).astype(np.float32),
        "gain": np.ones((1, channels, 1, 1), np.float32),
    }
    works: dict[Key, Work] = {}
    for label, backend in _backends(threads).items():
        for spec in bundle.manifest.graphs.values():
            if spec.transform in ("g_a", "g_s"):
                engine = backend.load(bundle.graph_path(spec.id), external_data=bundle.weights_folder, strict=False)
                given = {name: inputs[name] for name in engine.inputs}
                works[spec.transform, spec.width, label] = partial(engine.run, given)
    path = PixelPath(bundle)
    inputs["x"] = np.rint(255 * inputs["x"]).astype(np.uint8)
    for spec in bundle.manifest.graphs.values():
        if spec.transform in ("g_a", "g_s") and path.has(spec.id):
            (engine,) = path.engines(spec.id, QUALITY_STEP, threads)
            given = {name: inputs[name] for name in engine.inputs}
            works[spec.transform, spec.width, "int16"] = partial(engine.run, given)
    return works


def _backends(threads: int) -> dict[str, Any]:
    backends: dict[str, Any] = {"onnxruntime": create_backend("onnxruntime", threads)}
    if OpenVinoBackend.available():
        backends["openvino"] = create_backend("openvino", threads)
        with suppress(BasicError):  # the processor has none
            backends["openvino bf16"] = create_backend("openvino", threads, BF16)
    return backends


def product_works(threads: int) -> dict[Key, Work]:
    """Products of matrices, by ("product", multiplications, library). NumPy takes threads of its own choice."""
    works: dict[Key, Work] = {}
    for rows, inner, columns in SHAPES:
        a, b = np.random.rand(rows, inner).astype(np.float32), np.random.rand(inner, columns).astype(np.float32)
        count = rows * inner * columns
        works["product", count, "numpy"] = partial(np.dot, a, b)
        if OpenVinoBackend.available():
            import openvino
            from openvino import opset13 as ops

            left = ops.parameter([rows, inner], np.float32)
            model = openvino.Model([ops.matmul(left, ops.constant(b), False, False)], [left])
            config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
            request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
            works["product", count, "openvino"] = partial(request.infer, [a], share_inputs=True)
    return works


def peer_works(widths: list[int], width: int, height: int, threads: int) -> dict[Key, Work]:
    """CompressAI's transforms, by (transform, width, layout)."""
    import torch
    from compressai.models import JointAutoregressiveHierarchicalPriors

    torch.set_num_threads(threads)
    works: dict[Key, Work] = {}
    for channels in widths:
        net = JointAutoregressiveHierarchicalPriors(channels, 320).eval()
        x, y = torch.rand(1, 3, height, width), torch.randn(1, 320, height // 16, width // 16)
        for layout in (torch.contiguous_format, torch.channels_last):
            name = "channels-last" if layout == torch.channels_last else "default"
            for transform, given in (("g_a", x), ("g_s", y)):
                module = getattr(net, transform).to(memory_format=layout)
                works[transform, channels, f"CompressAI {name}"] = partial(
                    torch.inference_mode()(module), given.to(memory_format=layout)
                )
    return works


def peer_macs(transform: str, channels: int, latents: int = 320) -> float:
    """Thousand multiply-accumulates per pixel of CompressAI's transform: 5x5 layers of stride 2, GDN between them."""
    sides = [3, channels, channels, channels, latents]
    convolutions = sum(25 * sides[i] * sides[i + 1] / 4 ** (i + 1) for i in range(4))
    return (convolutions + sum(channels**2 / 4 ** (i + 1) for i in range(3))) / 1000


def measure(works: dict[Key, Work], reps: int) -> dict[Key, list[float]]:
    """Milliseconds of each in every round, right after a run that does not count; the first round does not either."""
    times: dict[Key, list[float]] = {key: [] for key in works}
    for _ in range(reps + 1):
        time.sleep(PAUSE_SECONDS)
        for key, work in works.items():
            work()
            start = time.perf_counter()
            work()
            times[key].append(1000 * (time.perf_counter() - start))
    return {key: values[1:] for key, values in times.items()}


@click.command()
@click.option("--bundle", help="Model bundle (default: the one that is installed).")
@click.option("--size", type=PictureSize(), default="768x512", show_default=True)
@click.option("--reps", default=15, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(bundle: str | None, size: tuple[int, int], reps: int, threads: int) -> None:
    """Print a Markdown table of medians in milliseconds."""
    width, height = size
    opened = Bundle(bundle)
    graphs = {(g.transform, g.width): g for g in opened.manifest.graphs.values() if g.transform in ("g_a", "g_s")}
    works = product_works(threads) | graph_works(opened, width, height, threads)
    if find_spec("compressai") is not None:
        works |= peer_works(sorted({w for _, w in graphs}), width, height, threads)
    found = measure(works, reps)
    peak = max(key[1] / min(times) / 1e6 for key, times in found.items() if key[0] == "product")
    print(f"{opened.name}, {width}x{height}, {threads} threads; products of matrices: {peak:.0f} GMAC/s\n")
    labels = list(dict.fromkeys(label for transform, _, label in found if transform != "product"))
    print("| | width | kMAC/pixel | " + " | ".join(labels) + " | share of peak |")
    print("|---" * (len(labels) + 4) + "|")
    for (transform, channels), spec in sorted(graphs.items()):
        macs = spec.macs_per_pixel / 1000
        costs = f"{macs:.1f}"
        if find_spec("compressai") is not None:
            costs += f" (CompressAI {peer_macs(transform, channels):.0f})"
        rows = {label: found[transform, channels, label] for label in labels}
        best = min(min(rows[label]) for label in FLOAT32_ENGINES if label in rows)
        share = 100 * (macs * width * height / 1e6) / (best / 1e3) / peak
        shown = " | ".join(f"{np.median(values):.1f}" for values in rows.values())
        print(f"| {transform} | {channels} | {costs} | {shown} | {share:.0f} % |")


if __name__ == "__main__":
    main()
