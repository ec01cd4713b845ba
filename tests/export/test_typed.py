"""Typed graphs: constants folded, float16 where it costs nothing, means and table rows in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from basic_export import typed
from basic_export.errors import ExportError
from basic_export.photos import bundled_photo
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import Engine
from basic_runtime.engines.base import INDEX
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.engines.tensorrt import PACKED_MEAN, unpacked_mean
from basic_runtime.engines.torch import TorchBackend, TorchEngine
from basic_runtime.metrics import psnr

from .models import Exported

SIDE = 8


def inputs_of(model: ModelProto, low: int = -900, high: int = 900) -> dict[str, np.ndarray]:
    """Integers for every input, which all graphs of the entropy path take."""
    rng = np.random.default_rng(1)
    found = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [1, dims[1].dim_value, *(d.dim_value or 4 * SIDE for d in dims[2:])]
        found[value.name] = rng.integers(low, high, shape).astype(np.float32)
    return found


def run(model: ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def test_folded_graphs_compute_what_the_graphs_compute(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    for graph_id, spec in bundle.manifest.graphs.items():
        path, weights = bundle.graph_path(graph_id), bundle.weights_folder
        model = typed.load_folded(path, weights)
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        assert kinds <= {TensorProto.FLOAT, TensorProto.INT64} and "Cast" not in {n.op_type for n in model.graph.node}
        inputs = inputs_of(model, -99, 99)
        wanted = OnnxRuntimeBackend(1).load(path, external_data=weights, strict=True).run(inputs)
        for name, values in run(model, inputs).items():
            if spec.path == "entropy":
                np.testing.assert_array_equal(values, wanted[name])
            else:
                np.testing.assert_allclose(values, wanted[name], rtol=1e-5, atol=1e-5 * np.abs(wanted[name]).max())


def kinds_of(model: ModelProto) -> dict[str, int]:
    """Output of each convolution -> type of its weights."""
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {n.output[0]: weights[n.input[1]] for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")}


@pytest.mark.parametrize("transform", ["g_a", "h_a", "g_s"])
def test_all_convolutions_but_the_linear_path_are_half(exported: Exported, transform: str) -> None:
    bundle = Bundle(exported.path)
    graph_id = getattr(bundle.level(7), transform)
    model = typed.with_half(typed.load_folded(bundle.graph_path(graph_id), bundle.weights_folder))
    kinds = kinds_of(model)
    precise = [name for name, kind in kinds.items() if kind == TensorProto.FLOAT]
    assert len(kinds) > 3 and len(precise) == (0 if transform == "h_a" else 1)
    onnx.checker.check_model(model)
    sides = (*model.graph.input, *model.graph.output)
    assert {value.type.tensor_type.elem_type for value in sides} == {TensorProto.FLOAT}


def small_graph(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], outputs: tuple[str, ...]) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, "h", "w"])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in outputs]
    constants = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], given, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


WEIGHT = np.eye(2, dtype=np.float32)[:, :, None, None]
NODE = helper.make_node


def test_the_norm_of_gdn_stays_float32() -> None:
    nodes = [
        NODE("Conv", ["x", "w"], ["a"]),
        NODE("Mul", ["a", "a"], ["square"]),
        NODE("Conv", ["square", "gamma"], ["norm"]),
        NODE("Sqrt", ["norm"], ["root"]),
        NODE("Div", ["a", "root"], ["b"]),
        NODE("Conv", ["b", "w"], ["y"]),
    ]
    half = typed.with_half(small_graph(nodes, {"w": WEIGHT, "gamma": WEIGHT}, ("y",)))
    assert kinds_of(half)["norm"] == TensorProto.FLOAT and kinds_of(half)["a"] == TensorProto.FLOAT16
    x = np.full((1, 2, 3, 3), 300, np.float32)  # its square is out of float16's range
    np.testing.assert_allclose(run(half, {"x": x})["y"], np.ones_like(x))


def test_a_weight_out_of_range_is_named() -> None:
    nodes = [NODE("Conv", ["x", "w"], ["a"]), NODE("Conv", ["a", "w"], ["y"])]
    with pytest.raises(ExportError, match="weight w is out of float16's range: build with --precision fp32"):
        typed.with_half(small_graph(nodes, {"w": WEIGHT * 1e5}, ("y",)))


class HalfTorch(TorchBackend):
    """The pixel path as engines of --precision fp16 compute it: torch rounds each value to float16."""

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        proto = typed.load_folded(model, external_data)
        proto = proto if strict else typed.with_half(proto)
        constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
        return TorchEngine(proto.graph, constants, self.threads)


@pytest.mark.parametrize("quality", [20, 100])
def test_half_costs_nothing_on_a_photo(quality: int) -> None:
    """Bundled model, both ends, cheapest and best level: within 0.05 dB and 0.5 % of the file."""
    photo = bundled_photo("astronaut")[60:188, 150:342]
    exact, half = Codec(backend="onnxruntime", threads=1), Codec(backend=HalfTorch(1))
    for level in (0, 7):
        data = exact.encode(photo, quality=quality, level=level)
        again = half.encode(photo, quality=quality, level=level)
        wanted = psnr(photo, exact.decode(data))
        assert abs(psnr(photo, half.decode(data)) - wanted) < 0.05
        assert abs(psnr(photo, exact.decode(again)) - wanted) < 0.05
        assert abs(len(again) - len(data)) < 0.005 * len(data)


@pytest.mark.parametrize("name", ["exported", None])
def test_packed_outputs_are_those_of_the_graph(name: str | None, request: pytest.FixtureRequest) -> None:
    bundle = Bundle(request.getfixturevalue(name).path if name else None)
    for stage in bundle.entropy(0).stages:
        model = typed.load_folded(bundle.graph_path(stage.graph), bundle.weights_folder)
        packed = typed.with_packed_outputs(model, bundle.index_lut)
        onnx.checker.check_model(packed)
        found = run(packed, inputs_of(model))
        np.testing.assert_array_equal(unpacked_mean(found[PACKED_MEAN]), found["mean"])
        rows = bundle.index_lut[np.clip(found["scale"], 0, bundle.index_lut.size - 1).astype(int)]
        np.testing.assert_array_equal(found[INDEX], rows)
        assert found["mean"].min() < 0 < found["mean"].max()


def stage_like(low: float, high: float) -> ModelProto:
    """Means are inputs within a clamp, scales as well."""
    nodes = [
        NODE("Clip", ["x", "low", "high"], ["clamped"]),
        NODE("Split", ["clamped"], ["mean", "scale"], axis=1, num_outputs=2),
    ]
    return small_graph(nodes, {"low": np.float32(low), "high": np.array([high], np.float32)}, ("mean", "scale"))


def test_packed_means_at_the_ends_of_int16() -> None:
    x = np.array([-(2**15), -257, -256, -1, 0, 255, 256, 2**15 - 1], np.float32).reshape(1, 2, 2, 2)
    model = stage_like(-(2**15), 2**15 - 1)
    found = run(typed.with_packed_outputs(model, np.arange(64, dtype=np.uint8)), {"x": x})
    np.testing.assert_array_equal(unpacked_mean(found[PACKED_MEAN]), x[:, :1])


def test_means_that_may_not_fit_stay_float32() -> None:
    packed = typed.with_packed_outputs(stage_like(-(2**15), 2**16), np.arange(64, dtype=np.uint8))
    assert {output.name for output in packed.graph.output} == {"mean", "scale", INDEX}


class Packed(OnnxRuntimeBackend):
    """Stages with packed outputs, which the entropy loop reads in place of the graph's own."""

    native_entropy = False

    def __init__(self, lut: np.ndarray, wrong_row: bool = False) -> None:
        super().__init__(threads=1)
        self._lut = np.roll(lut, 1) if wrong_row else lut

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        inner = super().load(model, external_data=external_data, strict=strict)
        if "scale" not in inner.outputs:
            return inner
        graph = typed.with_packed_outputs(typed.load_folded(model, external_data), self._lut)

        class Stage(Engine):
            inputs, outputs = inner.inputs, inner.outputs

            def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                found = run(graph, {name: inputs[name] for name in self.inputs})
                return found | {"mean": unpacked_mean(found.pop(PACKED_MEAN))}

        return Stage()


def test_files_are_the_same_with_packed_outputs(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    photo = bundled_photo("chelsea")[:70, :130]
    plain, packed = Codec(bundle, "onnxruntime", threads=1), Codec(bundle, Packed(bundle.index_lut))
    data = plain.encode(photo, quality=60)
    assert packed.encode(photo, quality=60) == data
    np.testing.assert_array_equal(packed.decode(data), plain.decode(data))
    assert {check.error for check in packed.verify()} == {None}


def test_a_wrong_table_row_fails_the_golden_vector(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    checks = Codec(bundle, Packed(bundle.index_lut, wrong_row=True)).verify()
    assert all("other rows of the coder's tables" in str(check.error) for check in checks)
