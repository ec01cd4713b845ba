"""Writes a bundle, which appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from safetensors.numpy import save

import basic_runtime
from basic_export.folders import whole_folder
from basic_export.graphs import OPSET, canonical, serialise
from basic_export.parts import split
from basic_export.reach import reach
from basic_export.weights import WeightStore
from basic_runtime.definitions import GOLDEN, GRAPHS, MANIFEST, TABLES, WEIGHTS
from basic_runtime.errors import FileError
from basic_runtime.manifest import FORMAT, FORMAT_VERSION
from basic_train.model.supernet import Y_STRIDE

#: Fields of a manifest that a bundle made of another has from that.
CARRIED_FIELDS = ("latent", "mean_bits", "z_amax", "quality_steps", "lambda")

#: Rows of the picture per row of the input of graphs that are cut into parts.
PICTURE_ROWS = {"g_a": {"x": 1}, "g_s": {"y": Y_STRIDE}}

#: Hex digits of a graph's sha256 that name it.
GRAPH_ID_DIGITS = 16


def write_graph(bundle: Path, model: ModelProto) -> str:
    """Write a graph whose weights are references into the folder of a bundle, and return its id."""
    data = serialise(model)
    name = hashlib.sha256(data).hexdigest()[:GRAPH_ID_DIGITS]
    (bundle / GRAPHS / f"{name}.onnx").write_bytes(data)
    return name


def write_parts(bundle: Path, model: ModelProto, transform: str) -> dict[str, Any]:
    """Write the parts of a graph of g_a or g_s, and return what the manifest says of them; {} if there are none."""
    found = split(model, PICTURE_ROWS[transform]) if transform in PICTURE_ROWS else None
    if found is None:
        return {}
    graphs = [
        {"id": write_graph(bundle, part.model), "reach": part.reach, "bytes_per_pixel": part.bytes_per_pixel}
        for part in found.parts
    ]
    return {"parts": {"strides": found.strides, "graphs": graphs}}


class BundleWriter:
    """A bundle in the making (`new_bundle`): graphs are written as they come; `write_tables`, `write_golden` and
    `write_manifest` complete it."""

    def __init__(self, folder: Path, target: Path) -> None:
        """folder: an empty one to write to; target: what it becomes, as reports call it."""
        self.folder, self.target = folder, target
        self.weights = WeightStore()
        self.graphs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        (folder / GRAPHS).mkdir()

    def add_graph(self, model: ModelProto, transform: str, width: int, macs_per_pixel: float) -> str:
        """Write a graph with inline weights once, and its parts, if it has any; returns its id. transform: as in the
        manifest."""
        stored = self.weights.externalise(canonical(model, transform))
        name = write_graph(self.folder, stored)
        path = "entropy" if transform in ("h_s", "stage") else "pixel"
        self.graphs[name] = {
            "transform": transform,
            "width": width,
            "path": path,
            "macs_per_pixel": round(macs_per_pixel, 3),
            "reach": reach(model),
        } | write_parts(self.folder, stored, transform)
        return name

    def write_tables(self, tables: Mapping[str, np.ndarray]) -> None:
        """Write weights.bin, which is complete once all graphs are in, and tables.safetensors."""
        (self.folder / WEIGHTS).write_bytes(self.weights.data)
        self._save(TABLES, tables)
        self.files[WEIGHTS] = self._sha256(WEIGHTS)

    def write_golden(self, golden: Mapping[str, np.ndarray]) -> None:
        self._save(GOLDEN, golden)

    def write_manifest(self, model: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write manifest.json from `fields` (latent, mean_bits, z_amax, quality_steps, lambda, entropy, levels)
        and from what was written before; returns it. model: its name, the other models whose files it decodes as
        "earlier" (`earlier_models`), and the id of a bundle that decodes as this one does; without one it gets its
        own."""
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": {"name": model["name"], "id": self._model_id(fields), **model},
            "producer": {
                "basic": basic_runtime.__version__,
                "torch": torch.__version__.partition("+")[0],
                "onnx": onnx.__version__,
            },
            "opset": OPSET,
            **fields,
            "files": dict(sorted(self.files.items())),
            "graphs": dict(sorted(self.graphs.items())),
        }
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return manifest

    def size_of(self, name: str) -> int:
        """Bytes of one of the bundle's files."""
        return (self.folder / name).stat().st_size

    def _save(self, name: str, tensors: Mapping[str, np.ndarray]) -> None:
        ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
        (self.folder / name).write_bytes(save(ordered))  # save_file makes files that only their owner can read
        self.files[name] = self._sha256(name)

    def _model_id(self, fields: Mapping[str, Any]) -> str:
        """4 bytes of a sha256 over all that decides what a file decodes to."""
        decoding = {key: fields[key] for key in ("latent", "mean_bits", "z_amax", "quality_steps", "levels")}
        variants = [{k: v for k, v in item.items() if k != "golden"} for item in fields["entropy"]]
        graphs = sorted(name for name, spec in self.graphs.items() if spec["transform"] in ("h_s", "stage", "g_s"))
        parts = [decoding, variants, graphs, self.files[TABLES], self.files[WEIGHTS]]
        filters = {name: spec["filter"] for name, spec in self.graphs.items() if "filter" in spec}
        return id_with_filters(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8], filters)

    def _sha256(self, name: str) -> str:
        return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()


@contextmanager
def new_bundle(target: Path, overwrite: bool = False) -> Iterator[BundleWriter]:
    """A bundle to write, which is in its place at the end, where it replaces an older one whole, or not at all.

    Raises FileError if the target exists and is not a bundle to overwrite, or cannot be written.
    """
    target = Path(os.path.abspath(target))  # "." has no name to show
    check_target(target, overwrite)
    with whole_folder(target) as folder:
        yield BundleWriter(folder, target)


def id_with_filters(model_id: str, filters: Mapping[str, Any]) -> str:
    """The id of a model that had this one and got filters: they change what its files decode to."""
    if not filters:
        return model_id
    return hashlib.sha256(json.dumps([model_id, filters], sort_keys=True).encode()).hexdigest()[:8]


def earlier_models(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The models whose files a bundle made from another one decodes: that of `manifest` and those before it, as the
    new manifest's model lists them."""
    model = manifest["model"]
    own = {"g_s": [level["g_s"] for level in manifest["levels"]], "filtered": True}
    return model.get("earlier", {}) | {model["id"]: own}


def check_target(target: Path, overwrite: bool) -> None:
    """Raises FileError if `target` exists and may not be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise FileError(f"{target}: exists already; pass --overwrite to replace it, or choose another place")
    if not (target / MANIFEST).is_file():
        raise FileError(f"{target}: is not a bundle, so --overwrite leaves it alone; choose another place")
