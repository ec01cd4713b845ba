"""Graphs for strongly typed engine builders: constants folded, float16 written out, small integers as bytes.

TensorRT-RTX and TensorRT 11 build networks of exactly the types that the ONNX file states; there are no precision
flags. So the float16 variant of the pixel path is made here, and so are the outputs that travel as small integers.
Needs no PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from basic_export.errors import ExportError
from basic_export.graphs import GraphBuilder, load_inline
from basic_runtime.engines.base import INDEX
from basic_runtime.engines.tensorrt import PACKED_MEAN

#: Changes whenever the graphs made here change: part of the key of cached engines.
REVISION = 1

_CONVOLUTIONS = ("Conv", "ConvTranspose")
#: Element-wise and moving operators compute in the type they are given.
_FOLLOWERS = ("Relu", "LeakyRelu", "DepthToSpace", "SpaceToDepth", "Slice", "Identity", "Pad", "Split")


def load_folded(path: Path, external_data: Path) -> ModelProto:
    """The graph `path` with inline weights and everything that depends on constants alone computed.

    Stored float16 and int8 weights become the float32 values that they stand for.
    """
    model = load_inline(path, external_data)
    constants = _constants(model.graph)
    kept: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "Constant" and all(name in constants for name in node.input if name):
            values = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input if name})
            constants |= dict(zip(node.output, values, strict=True))
        else:
            kept.append(node)
    _rebuild(model.graph, kept, constants)
    return model


def with_half(model: ModelProto) -> ModelProto:
    """A copy whose convolutions compute in float16, with float32 inputs and outputs as before.

    Residual sums of two float16 values are float16: they cost nothing that can be measured, and stay far below 65504
    (docs/lab.md). Left in float32 are other sums, products and roots (quality gains; the squares of GDN, which
    overflow), GDN's own convolution, and every convolution that alone lies between the input and the output: the linear
    path of `lite`, whose weak components float16 would drown. Raises ExportError for weights out of range.
    """
    return _HalfConverter(model).run()


def with_packed_outputs(model: ModelProto, index_lut: np.ndarray) -> ModelProto:
    """A copy of a stage's graph with two more outputs for the way to the host: INDEX, uint8 (1, C, h, w), the row of
    the coder's tables of each scale, and PACKED_MEAN, uint8 (1, C, h, w, 2), the means as little-endian int16.

    The latter is left out if the graph's own clamp does not prove that means fit.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = _Packer(result.graph)
    graph.add_index(index_lut)
    low, high = mean_bounds(model.graph)
    if low >= -(2**15) and high < 2**15:
        graph.add_packed_mean()
    return result


def mean_bounds(graph: GraphProto) -> tuple[float, float]:
    """The clamp that all means of a stage have passed, or infinities if there is none."""
    constants = _constants(graph)
    producers = {name: node for node in graph.node for name in node.output}
    bounds = []
    waiting = ["mean"]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.op_type in ("Identity", "Concat", "Split"):
            waiting += [name for name in node.input if name not in constants]
        elif node is not None and node.op_type == "Clip":
            bounds.append((constants[node.input[1]].item(), constants[node.input[2]].item()))
        else:
            return -np.inf, np.inf
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _constants(graph: GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _rebuild(graph: GraphProto, nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> None:
    """Put `nodes` in the place of the graph's own, with those constants that they or the outputs use."""
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    for name in sorted(used & set(constants)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(constants[name], order="C"), name))


class _HalfConverter:
    """Rewrites a folded graph node by node; `_half` holds the names of values that are float16."""

    def __init__(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self._constants = _constants(model.graph)
        self._half: set[str] = set()
        self._nodes: list[NodeProto] = []
        self._precise = precise_convolutions(model.graph)

    def run(self) -> ModelProto:
        graph = self._model.graph
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            self._convert(node)
        for name in outputs & self._half:
            self._rename_output(name)
        _rebuild(graph, self._nodes, self._constants)
        return self._model

    def _convert(self, node: NodeProto) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        if node.op_type in _CONVOLUTIONS and node.output[0] not in self._precise:
            copy.input[:] = [self._as_half(name) for name in node.input]
            self._half |= set(node.output)
        elif self._follows(node):
            self._half |= set(node.output)
        else:
            copy.input[:] = [self._as_float(name) for name in node.input]
        self._nodes.append(copy)

    def _follows(self, node: NodeProto) -> bool:
        if node.op_type == "Add":  # a residual sum within the network
            return set(node.input) <= self._half
        return node.op_type in _FOLLOWERS and node.input[0] in self._half

    def _as_half(self, name: str) -> str:
        if name in self._half or not name:
            return name
        if name not in self._constants:
            return self._cast(name, f"{name}.half", TensorProto.FLOAT16)
        values = self._constants[name].astype(np.float32)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ExportError(f"weight {name} is out of float16's range: build with --precision fp32")
        self._constants[f"{name}.half"] = values.astype(np.float16)
        return f"{name}.half"

    def _as_float(self, name: str) -> str:
        return self._cast(name, f"{name}.float", TensorProto.FLOAT) if name in self._half else name

    def _cast(self, name: str, result: str, to: int) -> str:
        if not any(result in node.output for node in self._nodes):
            self._nodes.append(helper.make_node("Cast", [name], [result], to=to))
        return result

    def _rename_output(self, name: str) -> None:
        """The graph's output keeps its name and is float32; the float16 value behind it gets another."""
        for node in self._nodes:
            node.input[:] = [f"{name}.inner" if item == name else item for item in node.input]
            node.output[:] = [f"{name}.inner" if item == name else item for item in node.output]
        self._nodes.append(helper.make_node("Cast", [f"{name}.inner"], [name], to=TensorProto.FLOAT))


def precise_convolutions(graph: GraphProto) -> set[str]:
    """Outputs of the convolutions that `with_half` leaves in float32."""
    outputs = {node.output[0] for node in graph.node if node.op_type in _CONVOLUTIONS}
    squares = {node.output[0] for node in graph.node if node.op_type == "Mul" and len(set(node.input)) == 1}
    convolved: set[str] = set()  # values computed from a convolution's output
    for node in graph.node:
        if (outputs | convolved) & set(node.input):
            convolved |= set(node.output)
    awaited: set[str] = set()  # values that a convolution is computed from
    for node in reversed(graph.node):
        if node.op_type in _CONVOLUTIONS or awaited & set(node.output):
            awaited |= set(node.input)
    return {
        node.output[0]
        for node in graph.node
        if node.op_type in _CONVOLUTIONS
        and (node.input[0] in squares or not (node.input[0] in convolved or node.output[0] in awaited))
    }


class _Packer(GraphBuilder):
    """Adds the outputs that travel as small integers to a stage's graph, in place."""

    def add_index(self, lut: np.ndarray) -> None:
        """clamp(scale, 0, L - 1) through the table of L rows."""
        bounds = [self.constant(np.float32(0), "index.low"), self.constant(np.float32(lut.size - 1), "index.high")]
        clamped = self.node("Clip", ["scale", *bounds], "index.clamped")
        position = self.node("Cast", [clamped], "index.position", to=TensorProto.INT32)
        table = self.constant(lut.astype(np.float32), "index.table")
        rows = self.node("Gather", [table, position], "index.rows", axis=0)
        self.node("Cast", [rows], INDEX, to=TensorProto.UINT8)
        self._output(INDEX, [])

    def add_packed_mean(self) -> None:
        """The two bytes of each mean: mean - 256 floor(mean / 256), and floor(mean / 256), 256 added if negative."""
        whole, part = self.constant(np.float32(256), "mean.256"), self.constant(np.float32(1 / 256), "mean.1/256")
        high = self.node("Floor", [self.node("Mul", ["mean", part], "mean.scaled")], "mean.floor")
        low = self.node("Sub", ["mean", self.node("Mul", [high, whole], "mean.rest")], "mean.low")
        sign = self.node("Less", [high, self.constant(np.float32(0), "mean.0")], "mean.sign")
        wrap = self.node("Mul", [self.node("Cast", [sign], "mean.one", to=TensorProto.FLOAT), whole], "mean.wrap")
        high = self.node("Add", [high, wrap], "mean.high")
        axis = self.constant(np.array([4], np.int64), "mean.axis")
        parts = [self.node("Unsqueeze", [value, axis], f"{value}.5") for value in (low, high)]
        bytes_ = self.node("Concat", parts, "mean.bytes", axis=4)
        self.node("Cast", [bytes_], PACKED_MEAN, to=TensorProto.UINT8)
        self._output(PACKED_MEAN, [2])

    def _output(self, name: str, extra: list[int]) -> None:
        scale = next(value for value in self.graph.output if value.name == "scale").type.tensor_type.shape.dim
        shape = [dim.dim_param or dim.dim_value for dim in scale]
        self.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [*shape, *extra]))
