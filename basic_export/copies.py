"""Copies graphs of an existing bundle into a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper

from basic_export.bundle import BundleWriter
from basic_export.graphs import load_inline
from basic_runtime.definitions import GRAPHS


def copy_graphs(path: Path, entries: Mapping[str, Any], names: Iterable[str], writer: BundleWriter) -> dict[str, str]:
    """Write graphs of the bundle in the folder `path`, with all that its manifest's `entries` say of them, and with so
    much of their weights as the widest of them takes.

    Returns their new ids by the old ones: an id is a hash over the places of weights, which differ between bundles.
    """
    models = {name: load_inline(path / GRAPHS / f"{name}.onnx", path) for name in names}
    trim(models.values())
    copied = {}
    for name, model in models.items():
        entry = entries[name]
        copied[name] = writer.add_graph(model, entry["transform"], entry["width"], entry["macs_per_pixel"])
        for field in ("formats", "gradient_formats", "filter"):
            if field in entry:
                writer.graphs[copied[name]][field] = entry[field]
    return copied


def trim(models: Iterable[ModelProto]) -> None:
    """Cut weights of which graphs take the first rows and columns (`graphs.slice_of`) to what any of them takes, in
    place: graphs of one tensor share it afterwards, too."""
    models = list(models)
    taken: dict[tuple[bytes, tuple[int, ...]], np.ndarray] = {}
    for model in models:
        ends = _ends(model)
        for tensor in model.graph.initializer:
            key = tensor.raw_data, tuple(tensor.dims)
            most = np.array(ends.get(tensor.name, tensor.dims), np.int64)
            taken[key] = np.maximum(taken.get(key, most), most)
    for model in models:
        for tensor in model.graph.initializer:
            most = taken[tensor.raw_data, tuple(tensor.dims)]
            if tuple(most) != tuple(tensor.dims):
                part = numpy_helper.to_array(tensor)[tuple(slice(end) for end in most)]
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(part), tensor.name))


def _ends(model: ModelProto) -> dict[str, list[int]]:
    """Of the weights that only slices from the first on read, how many along each axis these take."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[int]] = {}
    for node in model.graph.node:
        if node.op_type != "Slice" or len(node.input) != 4 or not all(name in values for name in node.input):
            continue
        starts, ends, axes = (numpy_helper.to_array(values[name]) for name in node.input[1:4])
        if not starts.any():
            name = node.input[0]
            lengths = list(values[name].dims)
            for axis, end in zip(axes, ends, strict=True):
                lengths[axis] = min(lengths[axis], int(end))
            found[name] = lengths
    read = [name for node in model.graph.node for name in node.input]
    return {name: lengths for name, lengths in found.items() if read.count(name) == 1}


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Entries of a manifest with new ids of graphs."""
    if isinstance(value, dict):
        return {key: renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
