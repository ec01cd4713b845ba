"""The graph that tells an encoder how each element of y moves the picture's error: g_s, the squared error, and back.

Reverse accumulation, written out in forward operators that every engine has: the adjoint of a convolution is one with
transposed and mirrored weights, that of a ReLU a product with its sign. Weights are those of g_s, and a bundle stores
them once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from basic_export.graphs import IR_VERSION, OPSET, attributes, canonical, channels_of

#: What the graph reads: yhat, its gain, the picture in [0, 1], and 1 where pixels count, 0 where they are padding.
INPUTS = ("y", "gain", "x", "inside")

#: What it gives: the derivative (1, M, h, w) of the sum of squared errors of all samples, and that sum (1, 3, 1, 1).
GRADIENT, ERROR = "gradient", "error"

_SIZES = ("height", "width")


def error_gradient(model: ModelProto) -> ModelProto | None:
    """The graph for a g_s (1, M, h, w) to (1, 3, 16h, 16w), with its weights; None if g_s has an operator whose adjoint
    is not known here."""
    reached = _reached(model)
    return _Adjoint(model, reached).build() if all(map(_known, reached)) else None


def _reached(model: ModelProto) -> list[NodeProto]:
    """The nodes whose output depends on y, in order."""
    names, nodes = {INPUTS[0]}, []
    for node in model.graph.node:
        if names.intersection(node.input):
            names.update(node.output)
            nodes.append(node)
    return nodes


def _known(node: NodeProto) -> bool:
    given = attributes(node)
    if node.op_type == "Conv":
        pads, kernel = given["pads"], given["kernel_shape"]
        same = all(2 * pad == side - 1 for pad, side in zip(pads, [*kernel, *kernel], strict=True))
        return same and set(given["strides"]) == {1} and set(given["dilations"]) == {1}
    if node.op_type == "DepthToSpace":
        return bool(given.get("mode") == b"CRD")
    return node.op_type in ("Add", "Mul", "Relu")


class _Adjoint:
    """A graph of g_s with what follows from its output back to y, through the nodes `reached`."""

    def __init__(self, model: ModelProto, reached: list[NodeProto]) -> None:
        self.model, self.reached, self.graph = model, reached, helper.make_graph([], GRADIENT, [], [])
        self.graph.node.extend(model.graph.node)
        self.graph.initializer.extend(model.graph.initializer)
        self.moving = {INPUTS[0]} | {name for node in reached for name in node.output}
        self.channels = channels_of(model)
        self.parts: defaultdict[str, list[str]] = defaultdict(list)

    def build(self) -> ModelProto:
        """See `error_gradient`."""
        (picture,) = self.model.graph.output
        self._error(picture.name)
        for node in reversed(self.reached):
            self._back(node)
        self._node("Identity", [self._sum(INPUTS[0])], output=GRADIENT)
        inputs = [
            *self.model.graph.input,
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *_SIZES]),
            helper.make_tensor_value_info("inside", TensorProto.FLOAT, [1, 1, *_SIZES]),
        ]
        (y,) = (value for value in self.model.graph.input if value.name == INPUTS[0])
        gradient = helper.make_tensor_value_info(GRADIENT, TensorProto.FLOAT, [])
        gradient.type.CopyFrom(y.type)
        error = helper.make_tensor_value_info(ERROR, TensorProto.FLOAT, [1, 3, 1, 1])
        self.graph.input.extend(sorted(inputs, key=lambda value: INPUTS.index(value.name)))
        self.graph.output.extend([gradient, error])
        opsets = [helper.make_opsetid("", OPSET)]
        return canonical(helper.make_model(self.graph, opset_imports=opsets, ir_version=IR_VERSION), GRADIENT)

    def _error(self, picture: str) -> None:
        """Squared errors of the pixels as they are shown, which no value beyond black or white makes worse."""
        low, high = self._constant(np.float32(0)), self._constant(np.float32(1))
        shown = self._node("Clip", [picture, low, high])
        error = self._node("Mul", [self._node("Sub", [shown, "x"]), "inside"])
        squares = self._node("Mul", [error, error])
        self._node("ReduceSum", [squares, self._constant(np.array([2, 3]))], output=ERROR, keepdims=1)
        self.parts[picture].append(self._node("Add", [error, error]))

    def _back(self, node: NodeProto) -> None:
        """Hand the derivative of a node's output on to its inputs."""
        back = self._sum(node.output[0])
        first = node.input[0]
        if node.op_type == "Add":
            for name in self.moving.intersection(node.input):
                self.parts[name].append(back)
        elif node.op_type == "Mul":
            for name, other in (node.input, reversed(node.input)):
                if name in self.moving:
                    self.parts[name].append(self._node("Mul", [back, other]))
        elif node.op_type == "Relu":
            self.parts[first].append(self._node("Mul", [back, self._node("Sign", [node.output[0]])]))
        elif node.op_type == "DepthToSpace":
            self.parts[first].append(self._unshuffled(back, node))
        else:
            self.parts[first].append(self._correlated(back, node))

    def _correlated(self, back: str, node: NodeProto) -> str:
        """The adjoint of a convolution of stride 1 that keeps sides."""
        given, weight = attributes(node), node.input[1]
        if given["group"] == 1:
            weight = self._node("Transpose", [weight], perm=[1, 0, 2, 3])
        for axis, side in zip((2, 3), given["kernel_shape"], strict=True):
            if side > 1:
                weight = self._node("Gather", [weight, self._constant(np.arange(side)[::-1])], axis=axis)
        return self._node("Conv", [back, weight], **given)

    def _unshuffled(self, back: str, node: NodeProto) -> str:
        """The adjoint of a pixel shuffle, as a convolution that picks one place of each block. SpaceToDepth has its
        channels in another order, and OpenVINO refuses it here, where it cannot know that two sides are equal."""
        size = int(attributes(node)["blocksize"])
        colours = self.channels[node.input[0]] // size**2
        places = np.eye(size**2, dtype=np.int64).reshape(1, size**2, 1, size, size)  # integers stay in the graph
        picks = self._node("Cast", [self._constant(places)], to=TensorProto.FLOAT)
        wide = self._node("Expand", [picks, self._constant(np.array([colours, *places.shape[1:]]))])
        weight = self._node("Reshape", [wide, self._constant(np.array([colours * size**2, 1, size, size]))])
        return self._node("Conv", [back, weight], group=colours, kernel_shape=[size] * 2, strides=[size] * 2)

    def _sum(self, name: str) -> str:
        """The derivative of a tensor: that of all its uses."""
        found = self.parts[name]
        total = found[0]
        for part in found[1:]:
            total = self._node("Add", [total, part])
        return total

    def _node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"back.{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _constant(self, values: np.ndarray | np.generic) -> str:
        name = f"back.constant.{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name
