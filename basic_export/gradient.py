"""The gradient graph of g_s: how each element of y changes the squared error of the picture.

Reverse accumulation, written out in forward operators that every engine has: the adjoint of a convolution is one with
transposed and mirrored weights, that of a ReLU a product with its sign. Weights are those of g_s, and a bundle stores
them once.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from basic_export.graphs import GraphBuilder, attributes, canonical, channels_of, model_of

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


class _Adjoint(GraphBuilder):
    """A graph of g_s with what follows from its output back to y, through the nodes `reached`."""

    def __init__(self, model: ModelProto, reached: list[NodeProto]) -> None:
        super().__init__(helper.make_graph([], GRADIENT, [], []), "back.")
        self.model, self.reached = model, reached
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
        self.node("Identity", [self._sum(INPUTS[0])], output=GRADIENT)
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
        return canonical(model_of(self.graph), GRADIENT)

    def _error(self, picture: str) -> None:
        """Squared errors of the pixels as they are shown, which no value beyond black or white makes worse."""
        low, high = self.constant(np.float32(0)), self.constant(np.float32(1))
        shown = self.node("Clip", [picture, low, high])
        error = self.node("Mul", [self.node("Sub", [shown, "x"]), "inside"])
        squares = self.node("Mul", [error, error])
        self.node("ReduceSum", [squares, self.constant(np.array([2, 3]))], output=ERROR, keepdims=1)
        self.parts[picture].append(self.node("Add", [error, error]))

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
                    self.parts[name].append(self.node("Mul", [back, other]))
        elif node.op_type == "Relu":
            self.parts[first].append(self.node("Mul", [back, self.node("Sign", [node.output[0]])]))
        elif node.op_type == "DepthToSpace":
            self.parts[first].append(self._unshuffled(back, node))
        else:
            self.parts[first].append(self._correlated(back, node))

    def _correlated(self, back: str, node: NodeProto) -> str:
        """The adjoint of a convolution of stride 1 that keeps sides."""
        given, weight = attributes(node), node.input[1]
        if given["group"] == 1:
            weight = self.node("Transpose", [weight], perm=[1, 0, 2, 3])
        for axis, side in zip((2, 3), given["kernel_shape"], strict=True):
            if side > 1:
                weight = self.node("Gather", [weight, self.constant(np.arange(side)[::-1])], axis=axis)
        return self.node("Conv", [back, weight], **given)

    def _unshuffled(self, back: str, node: NodeProto) -> str:
        """The adjoint of a pixel shuffle, as a convolution that picks one place of each block. SpaceToDepth has its
        channels in another order, and OpenVINO refuses it here, where it cannot know that two sides are equal."""
        size = int(attributes(node)["blocksize"])
        colours = self.channels[node.input[0]] // size**2
        places = np.eye(size**2, dtype=np.int64).reshape(1, size**2, 1, size, size)  # integers stay in the graph
        picks = self.node("Cast", [self.constant(places)], to=TensorProto.FLOAT)
        wide = self.node("Expand", [picks, self.constant(np.array([colours, *places.shape[1:]]))])
        weight = self.node("Reshape", [wide, self.constant(np.array([colours * size**2, 1, size, size]))])
        return self.node("Conv", [back, weight], group=colours, kernel_shape=[size] * 2, strides=[size] * 2)

    def _sum(self, name: str) -> str:
        """The derivative of a tensor: that of all its uses."""
        return self.total(self.parts[name])
