"""Graphs of a bundle that is there already, written into another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from basic_export.bundle import GRAPHS, BundleWriter


def copy_graphs(path: Path, entries: Mapping[str, Any], names: Iterable[str], writer: BundleWriter) -> dict[str, str]:
    """Write graphs of the bundle in the folder `path`, with all that its manifest's `entries` say of them; returns
    their new names, which hold where weights lie."""
    copied = {}
    for name in names:
        entry = entries[name]
        copied[name] = writer.add_graph(_whole(path, name), entry["transform"], entry["width"], entry["macs_per_pixel"])
        if "gradient" in entry:
            writer.add_gradient(copied[name], _whole(path, entry["gradient"]))
        for field in ("formats", "filter"):
            if field in entry:
                writer.graphs[copied[name]][field] = entry[field]
    return copied


def _whole(path: Path, name: str) -> ModelProto:
    """A graph of a bundle with its weights inside."""
    model = onnx.load(path / GRAPHS / f"{name}.onnx", load_external_data=False)
    onnx.load_external_data_for_model(model, str(path))
    return model


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Entries of a manifest with the new names of graphs."""
    if isinstance(value, dict):
        return {key: renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
