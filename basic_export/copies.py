"""Copies graphs of an existing bundle into a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from basic_export.bundle import BundleWriter
from basic_export.graphs import load_inline
from basic_export.layout import GRAPHS


def copy_graphs(path: Path, entries: Mapping[str, Any], names: Iterable[str], writer: BundleWriter) -> dict[str, str]:
    """Write graphs of the bundle in the folder `path`, with all that its manifest's `entries` say of them.

    Returns their new ids by the old ones: an id is a hash over the places of weights, which differ between bundles.
    """
    copied = {}
    for name in names:
        entry = entries[name]
        copied[name] = writer.add_graph(_whole(path, name), entry["transform"], entry["width"], entry["macs_per_pixel"])
        for field in ("formats", "gradient_formats", "filter"):
            if field in entry:
                writer.graphs[copied[name]][field] = entry[field]
    return copied


def _whole(path: Path, name: str) -> ModelProto:
    return load_inline(path / GRAPHS / f"{name}.onnx", path)


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Entries of a manifest with new ids of graphs."""
    if isinstance(value, dict):
        return {key: renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value
