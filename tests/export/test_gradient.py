"""The gradient graph of g_s: PyTorch's derivative, on every engine, without weights of its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from basic_export.gradient import error_gradient
from basic_export.pixel import export_pixel
from basic_runtime.bundle import Bundle
from basic_runtime.engines import create_backend
from basic_train.model.presets import PRESETS
from basic_train.model.supernet import Supernet

from .models import Exported

HEIGHT, WIDTH = 64, 128


def _inputs(channels: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    inside = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    inside[:, :, 50:] = 0
    return {
        "y": rng.normal(0, 2, (1, channels, HEIGHT // 16, WIDTH // 16)).astype(np.float32),
        "gain": rng.uniform(0.5, 1.5, (1, channels, 1, 1)).astype(np.float32),
        "x": rng.random((1, 3, HEIGHT, WIDTH), np.float32),
        "inside": inside,
    }


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_it_is_the_derivative_of_the_squared_error(exported: Exported, tiny_net: Supernet, engine: str) -> None:
    bundle, channels = Bundle(exported.path), tiny_net.config.y_channels
    values = _inputs(channels)
    x, inside = (torch.from_numpy(values[name]) for name in ("x", "inside"))
    for index, spec in enumerate(sorted(_synthesis(bundle), key=lambda spec: spec.width)):
        assert spec.gradient is not None
        loaded = create_backend(engine, 1).load(
            bundle.graph_path(spec.gradient), external_data=bundle.weights_folder, strict=False
        )
        found = loaded.run(values)
        y = torch.from_numpy(values["y"]).requires_grad_()
        picture = export_pixel(tiny_net, "g_s", index).module(y, torch.from_numpy(values["gain"]))
        off = (picture.clamp(0, 1) - x) * inside
        # A pixel beyond black or white is pushed by what is shown, so that the derivative goes through the clamp.
        (wanted,) = torch.autograd.grad(picture, y, 2 * off.detach())
        assert found["gradient"].shape == wanted.shape and found["error"].shape == (1, 3, 1, 1)
        scale = float(wanted.abs().max())
        assert scale > 0
        np.testing.assert_allclose(found["gradient"], wanted.numpy(), atol=1e-4 * scale)
        np.testing.assert_allclose(found["error"].sum(), float(off.detach().square().sum()), rtol=1e-4)


def test_it_has_the_weights_of_its_graph(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    for spec in _synthesis(bundle):
        assert spec.gradient is not None
        own, shared = (_references(bundle, graph) for graph in (spec.gradient, spec.id))
        assert own and own <= shared


def test_a_bundle_says_what_its_model_was_trained_for(exported: Exported, tiny_net: Supernet) -> None:
    config = tiny_net.config
    assert Bundle(exported.path).manifest.lambdas == (config.lambda_min, config.lambda_max)


def test_other_transforms_have_none() -> None:
    """The paper's upsample with transposed convolutions and normalise with GDN: their bundles are as they were."""
    torch.manual_seed(0)
    net = Supernet(PRESETS["paper"]).eval()
    assert error_gradient(export_pixel(net, "g_s", 0).model) is None


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [(2, {"strides": [2, 2]}), (3, {"pads": [0] * 4}), (3, {"pads": [2] * 4, "dilations": [2] * 2})],
)
def test_convolutions_that_are_not_known_have_none(kernel: int, attributes: dict[str, list[int]]) -> None:
    assert error_gradient(_convolution(3, 3, 1)) is not None
    assert error_gradient(_convolution(3, kernel, 1, **attributes)) is None


def _synthesis(bundle: Bundle) -> list:
    return [spec for spec in bundle.manifest.graphs.values() if spec.transform == "g_s"]


def _references(bundle: Bundle, graph: str) -> set[str]:
    """Offsets in weights.bin of a graph's tensors."""
    model = onnx.load(bundle.graph_path(graph), load_external_data=False)
    return {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "offset"
    }


def _convolution(channels: int, kernel: int, group: int, **attributes: list[int]) -> ModelProto:
    shape = ["y_height", "y_width"]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, *shape])
    gain = helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1, channels, 1, 1])
    out = helper.make_tensor_value_info("xhat", TensorProto.FLOAT, [1, 3, *shape])
    size = (3, channels // group, kernel, kernel)
    weight = helper.make_tensor("w", TensorProto.FLOAT, size, np.ones(np.prod(size)))
    given = {"pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1], "group": group} | attributes
    nodes = [
        helper.make_node("Mul", ["y", "gain"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w"], ["xhat"], kernel_shape=[kernel] * 2, **given),
    ]
    graph = helper.make_graph(nodes, "g_s", [y, gain], [out], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
