"""Writes a tiny but complete bundle, in the layout of a real one, without torch.

g_a and g_s are a block transform with 8 cosine-like basis pictures, so pictures come back recognisable; the
entropy path has random integer weights and the full structure: two variants, of 8 stages and of one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save_file

from basic_runtime.tables import SCALES, concatenate, gaussian_rows, rows_from_pmf

M, CZ, PRIOR, HIDDEN = 8, 4, 6, 8
MEAN_BITS, Z_AMAX, QUALITY_STEPS = 6, 31, 64
ORDERS = {
    "raster8": ([[[0, 2], [3, 1]], [[4, 6], [7, 5]]], 2, 2),
    "one": ([[[0]]], 1, 1),
}


class Weights:
    """weights.bin: distinct tensors once, 64-byte aligned."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._offsets: dict[bytes, int] = {}

    def external(self, name: str, values: np.ndarray) -> onnx.TensorProto:
        raw = values.tobytes()
        if raw not in self._offsets:
            self.data += b"\0" * (-len(self.data) % 64)
            self._offsets[raw] = len(self.data)
            self.data += raw
        tensor = TensorProto()
        tensor.name, tensor.dims[:] = name, values.shape
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", self._offsets[raw]), ("length", len(raw))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        return tensor


class Graph:
    """A small builder: every method adds a node and returns the name of its result."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[str] = []

    def input(self, name: str) -> str:
        self.inputs.append(name)
        return name

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def const(self, values: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, values: np.ndarray, rows: int, columns: int) -> str:
        """The first rows and columns of an integer tensor in weights.bin, as float32."""
        name = f"w{len(self.initializers)}"
        self.initializers.append(self.weights.external(name, values))
        bounds = [self.const(v, np.int64) for v in ([0, 0], [rows, columns], [0, 1])]
        return self.add("Cast", self.add("Slice", name, *bounds), to=TensorProto.FLOAT)

    def requantise(self, x: str, shift: int, low: float, high: float, out: str | None = None) -> str:
        scaled = self.add("Mul", x, self.const(2.0**-shift))
        rounded = self.add("Floor", self.add("Add", scaled, self.const(0.5)))
        return self.add("Clip", rounded, self.const(low), self.const(high), out=out)

    def model(self, name: str, outputs: list[str]) -> onnx.ModelProto:
        def values(names: list[str]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, None, f"{n}_h", f"{n}_w"]) for n in names]

        graph = helper.make_graph(self.nodes, name, values(self.inputs), values(outputs), self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def basis() -> np.ndarray:
    """(8, 3, 16, 16) orthogonal pictures as int16, unit norm = 1024: waves of luma and of two colours."""
    ramp = np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    flat = np.ones(16)
    planes = [np.outer(flat, flat), np.outer(ramp, flat), np.outer(flat, ramp), np.outer(ramp, ramp)]
    colours = [(1, 1, 1), (-1, -1, 2), (1, -1, 0)]
    chosen = [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (3, 0), (1, 1), (2, 1)]
    pictures = [np.array(colours[c])[:, None, None] * planes[p] for p, c in chosen]
    return np.stack([np.round(1024 * p / np.linalg.norm(p)) for p in pictures]).astype(np.int16)


def analysis(weights: Weights, width: int) -> onnx.ModelProto:
    g = Graph(weights)
    centred = g.add("Sub", g.input("x"), g.const(0.5))
    found = g.add("Conv", centred, g.weight(basis(), width, 3), strides=[16, 16])
    if width < M:
        found = g.add("Pad", found, g.const([0, 0, 0, 0, 0, M - width, 0, 0], np.int64))
    g.add("Mul", g.add("Mul", found, g.const(1 / 1024)), g.input("gain"), out="y")
    return g.model("g_a", ["y"])


def synthesis(weights: Weights, width: int) -> onnx.ModelProto:
    g = Graph(weights)
    scaled = g.add("Mul", g.input("y"), g.input("gain"))
    if width < M:
        bounds = [g.const(v, np.int64) for v in ([0], [width], [1])]
        scaled = g.add("Slice", scaled, *bounds)
    wide = g.add("ConvTranspose", scaled, g.weight(basis(), width, 3), strides=[16, 16])
    g.add("Add", g.add("Mul", wide, g.const(1 / 1024)), g.const(0.5), out="xhat")
    return g.model("g_s", ["xhat"])


def hyper_analysis(weights: Weights, rng: np.random.Generator) -> onnx.ModelProto:
    g = Graph(weights)
    kernel = rng.integers(-20, 21, (CZ, M, 4, 4)).astype(np.int8)
    found = g.add("Conv", g.add("Abs", g.input("y")), g.weight(kernel, CZ, M), strides=[4, 4])
    g.add("Mul", found, g.const(1 / 256), out="z")
    return g.model("h_a", ["z"])


def hyper_synthesis(weights: Weights, rng: np.random.Generator, tile: int) -> onnx.ModelProto:
    """z on the grid h/4 -> one prior of PRIOR channels per phase, on the grid h/tile."""
    g = Graph(weights)
    z = g.input("z")
    up = 4 // tile
    outputs = []
    for i in range(tile):
        for j in range(tile):
            kernel = rng.integers(-127, 128, (PRIOR * up * up, CZ, 1, 1)).astype(np.int8)
            wide = g.add("Conv", z, g.weight(kernel, *kernel.shape[:2]))
            shuffled = g.add("DepthToSpace", wide, blocksize=up, mode="CRD")
            outputs.append(g.requantise(g.add("Abs", shuffled), 4, 0, 255, out=f"prior.{i}{j}"))
    return g.model("h_s", outputs)


def stage(
    weights: Weights,
    rng: np.random.Generator,
    slots: list[list[int]],
    known: list[str],
    group: int,
    hidden: str | None,
) -> tuple[onnx.ModelProto, list[str], list[str]]:
    """A 3x3 convolution over all that is known, a hidden layer, and 1x1 convolutions to mean and scale."""
    g = Graph(weights)
    parts = [g.requantise(g.input(n), 4 if n.startswith("y.") else 0, -255, 255) for n in known]
    channels = sum(PRIOR if n.startswith("prior") else HIDDEN if n.startswith("h") else group for n in known)
    joined = g.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    kernel = rng.integers(-60, 61, (HIDDEN, channels, 3, 3)).astype(np.int8)
    wide = g.add("Conv", joined, g.weight(kernel, HIDDEN, channels), pads=[1, 1, 1, 1])
    unit = g.requantise(g.add("Relu", wide), 9, 0, 255, out=hidden)
    n = len(slots) * group
    for name, low, high, bias in (("mean", -4096, 4096, 0), ("scale", 0, 255, 150)):
        head = rng.integers(-40, 41, (n, HIDDEN, 1, 1)).astype(np.int8)
        found = g.add("Conv", unit, g.weight(head, n, HIDDEN), g.const(np.full(n, bias * 64)))
        g.requantise(found, 6, low, high, out=name)
    outputs = ["mean", "scale", *([hidden] if hidden else [])]
    return g.model("stage", outputs), list(known), outputs


class Writer:
    """Collects graphs and writes the bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = Weights()
        self.graphs: dict[str, dict[str, Any]] = {}
        self.models: dict[str, onnx.ModelProto] = {}

    def keep(self, model: onnx.ModelProto, width: int, macs: float) -> str:
        data = model.SerializeToString(deterministic=True)
        name = hashlib.sha256(data).hexdigest()[:16]
        transform = model.graph.name
        path = "entropy" if transform in ("h_s", "stage") else "pixel"
        self.graphs[name] = {"transform": transform, "width": width, "path": path, "macs_per_pixel": macs}
        self.models[name] = model
        (self.folder / "graphs" / f"{name}.onnx").write_bytes(data)
        return name

    def variant(self, rng: np.random.Generator, name: str) -> dict[str, Any]:
        labels, tile, groups = ORDERS[name]
        slot_of = {labels[g][i][j]: [g, i, j] for g in range(groups) for i in range(tile) for j in range(tile)}
        stages, done, cached = [], [], []
        for number in range(len(slot_of)):
            g, i, j = slot_of[number]
            hidden = f"h{number}.{i}{j}" if number in (0, 3) else None
            model, inputs, outputs = stage(
                self.weights, rng, [[g, i, j]], [f"prior.{i}{j}", *done, *cached], M // groups, hidden
            )
            graph = self.keep(model, HIDDEN, 10.0)
            stages.append({"graph": graph, "inputs": inputs, "outputs": outputs, "slots": [[g, i, j]]})
            done.append(f"y.{g}.{i}{j}")
            cached += [hidden] if hidden else []
        return {
            "width": HIDDEN,
            "grouping": {"name": name, "tile": tile, "channel_groups": groups, "labels": labels},
            "h_s": self.keep(hyper_synthesis(self.weights, rng, tile), PRIOR, 5.0),
            "stages": stages,
        }

    def evaluator(self, graph: str) -> ReferenceEvaluator:
        model = onnx.load_from_string(self.models[graph].SerializeToString())
        load_external_data_for_model(model, str(self.folder))
        return ReferenceEvaluator(model)


def golden_of(writer: Writer, number: int, spec: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random golden inputs of a variant; their hash by the onnx package's own evaluator goes into `spec`."""
    tile, groups = spec["grouping"]["tile"], spec["grouping"]["channel_groups"]
    z = rng.integers(-Z_AMAX, Z_AMAX + 1, (1, CZ, 2, 3)).astype(np.int16)
    side = 4 // tile
    slots = {
        f"y.{g}.{i}{j}": rng.integers(-6000, 6001, (1, M // groups, 2 * side, 3 * side)).astype(np.int32)
        for g in range(groups) for i in range(tile) for j in range(tile)
    }  # fmt: skip
    h_s = writer.evaluator(spec["h_s"])
    state = dict(zip(h_s.output_names, h_s.run(None, {"z": z.astype(np.float32)}), strict=True))
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].astype("<i4").tobytes())
    state |= {name: value.astype(np.float32) for name, value in slots.items()}
    for item in spec["stages"]:
        found = writer.evaluator(item["graph"]).run(None, {name: state[name] for name in item["inputs"]})
        for name, value in zip(item["outputs"], found, strict=True):
            digest.update(value.astype("<i4").tobytes())
            state[name] = value
    spec["golden"] = {"graph outputs sha256": digest.hexdigest()}
    return {f"e{number}.z": z, **{f"e{number}.{name}": value for name, value in slots.items()}}


def tables() -> dict[str, np.ndarray]:
    z = np.arange(-Z_AMAX, Z_AMAX + 1)
    pmf = np.exp(-np.abs(z) / np.linspace(2, 8, CZ)[:, None])
    rows = concatenate(gaussian_rows(SCALES), rows_from_pmf([(-Z_AMAX, p / p.sum()) for p in pmf]))
    gain = np.geomspace(1.0, 40.0, QUALITY_STEPS).astype(np.float32)[:, None] * np.ones((1, M), np.float32)
    return {
        "coder.freqs": rows.freqs,
        "coder.sizes": rows.sizes,
        "coder.offsets": rows.offsets,
        "coder.shifts": rows.shifts,
        "index_lut": (np.arange(256) // 4).astype(np.uint8),
        "gain.encode": gain,
        "gain.decode": 1 / gain,
    }


def write_tiny_bundle(folder: Path, seed: int = 1, name: str = "tiny-1") -> Path:
    """Write the bundle into the new folder `folder`; another seed gives another model."""
    rng = np.random.default_rng(seed)
    (folder / "graphs").mkdir(parents=True)
    writer = Writer(folder)
    wide = [writer.keep(analysis(writer.weights, w), w, 768.0 * w / 256) for w in (4, M)]
    back = [writer.keep(synthesis(writer.weights, w), w, 768.0 * w / 256) for w in (4, M)]
    h_a = writer.keep(hyper_analysis(writer.weights, rng), M, 0.5)
    entropy = [writer.variant(rng, order) for order in ("one", "raster8")]
    (folder / "weights.bin").write_bytes(writer.weights.data)
    golden: dict[str, np.ndarray] = {}
    for number, spec in enumerate(entropy):
        golden |= golden_of(writer, number, spec, rng)
    save_file(golden, folder / "golden.safetensors")
    save_file(tables(), folder / "tables.safetensors")
    levels = [
        {
            "g_a": wide[level >= 4], "h_a": h_a, "entropy": int(level >= 2), "g_s": back[level >= 4],
            "encode_macs_per_pixel": 20.0 + level, "decode_macs_per_pixel": 15.0 + level,
        }
        for level in range(8)
    ]  # fmt: skip
    manifest = {
        "format": "basic-bundle",
        "format_version": 1,
        "model": {"name": name, "id": hashlib.sha256(f"{name} {seed}".encode()).hexdigest()[:8]},
        "producer": {"basic": "0.1.0", "onnx": onnx.__version__},
        "opset": 20,
        "latent": {"y_channels": M, "z_channels": CZ, "y_stride": 16, "z_stride": 64},
        "mean_bits": MEAN_BITS,
        "z_amax": Z_AMAX,
        "quality_steps": QUALITY_STEPS,
        "files": {
            file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for file in ("tables.safetensors", "weights.bin", "golden.safetensors")
        },
        "graphs": writer.graphs,
        "entropy": entropy,
        "levels": levels,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return folder
