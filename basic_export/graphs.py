"""ONNX graphs in canonical form: two exports of one model give the same bytes.

Exporters leave traces of their run in a file (source paths, symbol counters, versions). They are removed
here, so that a graph can be named by the hash of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
    shape_inference,
)
from onnx.external_data_helper import load_external_data_for_model

from basic_export.errors import ExportError

OPSET, IR_VERSION = 20, 10


def canonical(model: ModelProto, name: str) -> ModelProto:
    """A copy of the model without traces of the exporter, its graph called `name`.

    Names of inputs, outputs and initialisers stay; nodes and values between them are numbered. Their names
    sort behind all others, as OpenVINO calls an input that it merged with a value by the first of the two
    names. Raises ExportError for another opset, local functions or control flow, which not every engine reads.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if set(opsets) - {"", "ai.onnx"} or model.functions or any(_has_subgraph(node) for node in model.graph.node):
        raise ExportError(f"graph {name}: only operators of the standard ONNX domain can be exported")
    if OPSET not in opsets.values():
        raise ExportError(f"graph {name}: the exporter wrote opset {opsets}, not {OPSET}")
    graph = GraphProto(name=name)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.initializer.extend(sorted(model.graph.initializer, key=lambda tensor: tensor.name))
    graph.node.extend(_renamed(model.graph))
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        _strip(item)
    return model_of(graph)


def model_of(graph: GraphProto) -> ModelProto:
    """The model of a graph, of the opset and IR version that all exported graphs have."""
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="basic-export")


def load_inline(path: Path, folder: Path) -> ModelProto:
    """A graph with its weights inline, which lie in `folder`."""
    model = onnx.load(path, load_external_data=False)
    load_external_data_for_model(model, str(folder))
    return model


class GraphBuilder:
    """Adds nodes and constants to a graph, which are numbered where they get no name.

    A subclass may number them in its own way: names of constants stay in exported graphs.
    """

    def __init__(self, graph: GraphProto, prefix: str = "") -> None:
        self.graph, self.prefix = graph, prefix

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Returns the name of the output."""
        output = output or f"{self.prefix}{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: np.ndarray | np.generic, name: str = "") -> str:
        """Returns its name."""
        name = name or f"{self.prefix}constant.{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def total(self, names: Sequence[str]) -> str:
        """The sum of tensors, from the first to the last."""
        value = names[0]
        for name in names[1:]:
            value = self.node("Add", [value, name])
        return value


def serialise(model: ModelProto) -> bytes:
    """Bytes of a model, the same for equal models."""
    return model.SerializeToString(deterministic=True)


def name_sides(model: ModelProto, sides: dict[str, tuple[str, str]]) -> None:
    """Name height and width (axes 2, 3) of inputs and outputs, in place: {"x": ("height", "width")}."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, symbol in zip((2, 3), sides.get(value.name, ()), strict=False):
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            dim.dim_param = symbol


def slice_of(model: ModelProto, name: str, full: np.ndarray) -> None:
    """Replace the initialiser `name` by a prefix slice of `full`, cast to the initialiser's type, in place.

    The full tensor becomes the initialiser "<name>.full". Engines fold slice and cast when they load the
    graph.
    """
    position = [tensor.name for tensor in model.graph.initializer].index(name)
    small = model.graph.initializer[position]
    shape, data_type = list(small.dims), small.data_type
    del model.graph.initializer[position]
    stored = numpy_helper.from_array(full, f"{name}.full")
    model.graph.initializer.append(stored)
    nodes, value = [], stored.name
    axes = [axis for axis, length in enumerate(shape) if length != full.shape[axis]]
    casts = stored.data_type != data_type
    if axes:
        bounds = {"starts": [0] * len(axes), "ends": [shape[axis] for axis in axes], "axes": axes}
        names = [f"{name}.{key}" for key in bounds]
        for key, values in zip(names, bounds.values(), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), key))
        sliced = f"{name}.slice" if casts else name
        nodes.append(helper.make_node("Slice", [value, *names], [sliced]))
        value = sliced
    if casts:
        nodes.append(helper.make_node("Cast", [value], [name], to=data_type))
    if not nodes:
        stored.name = name
        model.graph.initializer[-1].name = name
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def channels_of(model: ModelProto) -> dict[str, int]:
    """Axis 1 of inputs, outputs and values between, as far as shape inference finds it (0 where it has no number)."""
    inferred = shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) > 1}


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def initializers(model: ModelProto) -> dict[str, np.ndarray]:
    """Inline initialisers by name."""
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    }


def _renamed(graph: GraphProto) -> Iterator[NodeProto]:
    kept = {item.name for item in (*graph.input, *graph.output, *graph.initializer)}
    names: dict[str, str] = {"": ""}

    def rename(name: str) -> str:
        if name in kept:
            return name
        return names.setdefault(name, f"~{len(names)}")

    for number, node in enumerate(graph.node):
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{node.op_type}_{number}"
        copy.input[:] = [rename(name) for name in node.input]
        copy.output[:] = [rename(name) for name in node.output]
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        del copy.attribute[:]
        copy.attribute.extend(attributes)
        yield copy


def _strip(item: Any) -> None:
    for field in ("doc_string", "metadata_props", "device_configurations"):
        if any(descriptor.name == field for descriptor in item.DESCRIPTOR.fields):
            item.ClearField(field)


def _has_subgraph(node: NodeProto) -> bool:
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
