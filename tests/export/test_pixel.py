"""Pixel graphs against PyTorch: every transform, width and optimisation level, at sizes the exporter never saw."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from basic_export.graphs import serialise
from basic_export.pixel import TRANSFORMS, PixelExport, export_pixel
from basic_export.shaping import shaped
from basic_export.weights import WeightStore
from basic_runtime.definitions import WEIGHTS
from basic_runtime.engines.base import Backend
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_train.model.presets import PAPER
from basic_train.model.supernet import Supernet

OPTIMISATIONS = ("none", "basic", "extended", "all")
SIZES = ((64, 64), (64, 192), (192, 128))


@pytest.fixture(scope="session")
def graphs(tiny_net: Supernet) -> dict[str, PixelExport]:
    """Each transform at a middle width, which slices both axes."""
    return {transform: export_pixel(tiny_net, transform, 1) for transform in TRANSFORMS}


def arrays(graph: PixelExport, channels: int, height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(height)
    y = rng.normal(0, 4, (1, channels, height // 16, width // 16))
    every = {
        "x": rng.uniform(0, 1, (1, 3, height, width)),
        "y": y,
        "gain": rng.uniform(0.5, 2, (1, channels, 1, 1)),
    }
    return {name: every[name].astype(np.float32) for name in graph.inputs}


def assert_equals_torch(graph: PixelExport, backend: Backend, channels: int, folder: Path) -> None:
    store = WeightStore()
    path = folder / f"{graph.transform}.onnx"
    path.write_bytes(serialise(store.externalise(graph.model)))
    (folder / WEIGHTS).write_bytes(store.data)
    engine = backend.load(path, external_data=folder, strict=False)
    for height, width in SIZES:
        values = arrays(graph, channels, height, width)
        with torch.no_grad():
            wanted = graph.module(*(torch.from_numpy(value) for value in values.values())).numpy()
        found = engine.run(values)[graph.output]
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_onnx_runtime_equals_torch(
    graphs: dict[str, PixelExport], transform: str, optimisation: str, tiny_net: Supernet, tmp_path: Path
) -> None:
    backend = OnnxRuntimeBackend(threads=1, optimisation=optimisation)  # type: ignore[arg-type]
    assert_equals_torch(graphs[transform], backend, tiny_net.config.y_channels, tmp_path)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_openvino_equals_torch(
    graphs: dict[str, PixelExport], transform: str, tiny_net: Supernet, tmp_path: Path
) -> None:
    backend = OpenVinoBackend(threads=1)
    assert_equals_torch(graphs[transform], backend, tiny_net.config.y_channels, tmp_path)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_bytes_do_not_change_between_exports(
    graphs: dict[str, PixelExport], transform: str, tiny_net: Supernet
) -> None:
    again = serialise(export_pixel(tiny_net, transform, 1).model)
    assert hashlib.sha256(again).digest() == hashlib.sha256(serialise(graphs[transform].model)).digest()


def test_all_filters_are_slices_of_the_supernet_s(graphs: dict[str, PixelExport], tiny_net: Supernet) -> None:
    for transform, graph in graphs.items():
        widest = shaped(getattr(tiny_net, transform).plain(len(tiny_net.config.widths) - 1))
        filters = [p for p in widest.parameters() if p.ndim == 4]
        stored = [t for t in graph.model.graph.initializer if len(t.dims) == 4]
        assert len(stored) == len(filters)
        assert sorted(tuple(t.dims) for t in stored) == sorted(tuple(p.shape) for p in filters)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_float16_weights_change_little(graphs: dict[str, PixelExport], transform: str, tiny_net: Supernet) -> None:
    graph = graphs[transform]
    values = [torch.from_numpy(v) for v in arrays(graph, tiny_net.config.y_channels, 64, 128).values()]
    with torch.no_grad():
        exact, rounded = graph.exact(*values), graph.module(*values)
    assert 0 < float((exact - rounded).abs().max()) < 2e-3 * float(exact.abs().max())


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_paper_s_narrowest_width(transform: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Supernet(PAPER).eval()
    graph = export_pixel(net, transform, 0)
    assert graph.width == PAPER.widths[0]
    assert_equals_torch(graph, OnnxRuntimeBackend(threads=1), PAPER.y_channels, tmp_path)
