"""The receptive field of a graph: the margin with which it can be run tile by tile (basic_runtime.tiles)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from basic_export.errors import ExportError
from basic_export.graphs import attributes

#: Nodes whose output at a position depends on their inputs at that position alone.
POINTWISE = frozenset(
    ("Abs", "Add", "Cast", "Clip", "Concat", "Div", "Floor", "Identity", "LeakyRelu", "Max", "Min")
    + ("Mul", "Pow", "Reciprocal", "Relu", "Split", "Sqrt", "Sub")
)


@dataclass(frozen=True)
class Field:
    """Row r of a tensor reads rows jump * r + low to jump * r + high of the graph's input."""

    jump: Fraction
    low: Fraction
    high: Fraction


def reach(model: ModelProto, strides: Mapping[str, int] | None = None) -> int:
    """Rows (or columns, whichever is more) of the coarsest input beside its own that any output depends on.

    Row r of an output with the k-th part of the input's rows has the input's rows r * k to r * k + k - 1 for its own.
    `strides` says how many rows of the picture a row of each input stands for, if they differ. Raises ExportError for a
    graph with a node that is not known here.
    """
    jumps = _jumps(strides or {})
    found = [fields(model, axis, jumps) for axis in (0, 1)]
    return max(_beside(of_axis[value.name]) for of_axis in found for value in model.graph.output)


def _jumps(strides: Mapping[str, int]) -> dict[str, Fraction]:
    coarsest = max(strides.values(), default=1)
    return {name: Fraction(stride, coarsest) for name, stride in strides.items()}


def fields(model: ModelProto, axis: int, jumps: Mapping[str, Fraction] | None = None) -> dict[str, Field]:
    """What each tensor reads of the inputs along an axis (0: rows), but for those computed from weights and gains
    alone. `jumps`: rows between two rows of an input, 1 unless told."""
    sides = {value.name: value.type.tensor_type.shape.dim[2 + axis] for value in model.graph.input}
    known = {
        name: Field((jumps or {}).get(name, Fraction(1)), Fraction(0), Fraction(0))
        for name, side in sides.items()
        if not (side.HasField("dim_value") and side.dim_value == 1)  # gains are the same everywhere
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        found = [known[name] for name in node.input if name in known]
        if not found:
            constants.update({name: constants[node.input[0]] for name in node.output if node.input[0] in constants})
            continue
        result = _through(node, axis, found, constants)
        known.update({name: result for name in node.output})
    return known


def _beside(field: Field) -> int:
    """Rows beyond a position's own, on the side where there are more."""
    below = field.high - max(field.jump - 1, Fraction(0))
    return max(0, ceil(-field.low), ceil(below))


def _through(node: NodeProto, axis: int, found: list[Field], constants: dict[str, TensorProto]) -> Field:
    field = found[0]
    if node.op_type in POINTWISE:
        if len({other.jump for other in found}) > 1:
            raise ExportError(f"node {node.name or node.op_type} joins tensors of different resolution")
        return Field(field.jump, min(f.low for f in found), max(f.high for f in found))
    given = attributes(node)
    if node.op_type in ("Conv", "ConvTranspose"):
        kernel = (given.get("kernel_shape") or constants[node.input[1]].dims[2:])[axis]
        stride = given.get("strides", (1, 1))[axis]
        pad = given.get("pads", (0, 0, 0, 0))[axis]
        if node.op_type == "Conv":  # row r reads rows r * stride - pad and the kernel - 1 next
            low, high = field.jump * -pad, field.jump * (kernel - 1 - pad)
            return Field(field.jump * stride, field.low + low, field.high + high)
        # Row r reads rows from (r + pad - kernel + 1) / stride to (r + pad) / stride.
        jump = field.jump / stride
        return Field(jump, field.low + jump * (pad - kernel + 1), field.high + jump * pad)
    if node.op_type == "DepthToSpace":  # row r reads row floor(r / block)
        block = given["blocksize"]
        return Field(field.jump / block, field.low - field.jump * Fraction(block - 1, block), field.high)
    if node.op_type == "Slice":  # one phase of a tile: row r reads row r * step + start
        starts, _, axes, steps = (numpy_helper.to_array(constants[name]).tolist() for name in node.input[1:5])
        place = axes.index(2 + axis)
        offset = field.jump * starts[place]
        return Field(field.jump * steps[place], field.low + offset, field.high + offset)
    raise ExportError(f"node {node.name or node.op_type} ({node.op_type}): its reach is not known")
