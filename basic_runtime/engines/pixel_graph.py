"""An ONNX graph of the pixel path, taken apart into convolutions, sums and pixel shuffles.

`basic-export` writes g_a, h_a and g_s as float32 graphs of few kinds of operations. With the gain of one quality, all
but the picture and the latents is constant, and what is left is a network of convolutions whose sums other tensors are
added to: what `fixed_point` gives numbers to, and `_native.IntegerNet` computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime.engines.constants import constant, per_channel
from basic_runtime.engines.onnx_file import FLOAT, Graph, Node

Floats = NDArray[np.float64]


class NotPixelGraphError(ValueError):
    """The graph computes something else than a network that is known here."""


@dataclass(frozen=True)
class Input:
    """value * scale + offset of each channel of an input: `key` names its numbers, `value` the tensor of the graph,
    `stride` is how many rows of the picture one of its rows stands for."""

    name: str
    key: str
    value: str
    stride: int
    scale: Floats
    offset: Floats


@dataclass(frozen=True)
class Convolution:
    """A convolution of one tensor: `weights` float32 (outputs, channels, height, width) times `scale` (outputs,),
    `above` and `before` the rows and columns of zeros that it is padded with."""

    source: int
    weights: NDArray[np.float32]
    scale: Floats
    above: int
    before: int
    stride: int


@dataclass(frozen=True)
class Layer:
    """max(sum of convolutions + bias + tensors `skips`, 0 if `relu`), 0 where the input `gate` is not positive, then a
    pixel shuffle."""

    key: str
    value: str
    stride: int
    convolutions: tuple[Convolution, ...]
    bias: Floats
    relu: bool
    shuffle: int
    skips: tuple[int, ...]
    gate: int | None = None


@dataclass
class PixelGraph:
    """Tensors are counted by `tensors`; `outputs` by name: a tensor, and the pixel shuffle that it is to be read
    through."""

    tensors: list[Input | Layer] = field(default_factory=list)
    outputs: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class _Sums:
    """Sums that become a layer, the number `tensor`, when they are first read."""

    key: str
    stride: int
    convolutions: tuple[Convolution, ...]
    bias: Floats
    relu: bool = False
    shuffle: int = 1
    skips: tuple[int, ...] = ()
    tensor: int | None = None


@dataclass
class _Affine:
    """An input, scaled and moved."""

    name: str
    key: str
    scale: Floats
    offset: Floats
    tensor: int | None = None


@dataclass(frozen=True)
class _Shuffled:
    """A tensor that is read through a pixel shuffle only."""

    tensor: int
    size: int


_Value = Any
"""A constant (array), _Sums, _Affine or _Shuffled."""


def pixel_graph(graph: Graph, strides: Mapping[str, int], constants: Mapping[str, NDArray[np.float32]]) -> PixelGraph:
    """The network of a graph. `strides`: of the inputs that vary, how many rows of the picture one of their rows stands
    for; `constants`: of all others, the values. Raises NotPixelGraphError."""
    try:
        return _Lowering(graph, strides, constants).run()
    except NotPixelGraphError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # unexpected inputs or attributes
        raise NotPixelGraphError(f"an operation that is not of a pixel network ({error})") from error


_ATTRIBUTES = {
    "Cast": {"to"},
    "Conv": {"dilations", "group", "kernel_shape", "pads", "strides"},
    "DepthToSpace": {"blocksize", "mode"},
}
"""Attributes that operations may have."""

_DEFAULTS = {"auto_pad": "NOTSET", "saturate": 1}
"""Attributes that change nothing with these values."""


class _Lowering:
    def __init__(self, graph: Graph, strides: Mapping[str, int], constants: Mapping[str, NDArray[np.float32]]) -> None:
        self._graph, self._strides, self._found = graph, strides, PixelGraph()
        self._values: dict[str, _Value] = dict(graph.constants)
        for name, channels in graph.inputs.items():
            if name in constants:
                self._values[name] = constants[name]
            elif channels < 1:
                raise NotPixelGraphError(f"input {name} does not state its channels")
            else:
                self._values[name] = _Affine(name, name, np.ones(channels), np.zeros(channels))
        self._weights = {name: name for name in graph.constants}  # the stored tensor that a constant comes from
        self._handlers: dict[str, Callable[[Node, list[_Value]], _Value]] = {
            "Add": self._add,
            "Cast": self._cast,
            "Conv": self._conv,
            "DepthToSpace": self._depth_to_space,
            "Div": self._div,
            "Mul": self._mul,
            "Relu": self._relu,
            "Slice": self._slice,
            "Sub": self._sub,
        }

    def run(self) -> PixelGraph:
        for node in self._graph.nodes:
            if node.kind not in self._handlers or any(name not in self._values for name in node.inputs):
                raise NotPixelGraphError(f"{node.kind} is not of a pixel network")
            unknown = {key for key, value in node.attributes.items() if _DEFAULTS.get(key) != value}
            if unknown - _ATTRIBUTES.get(node.kind, set()):
                raise NotPixelGraphError(f"{node.kind} has attributes that are unknown here")
            (name,) = node.outputs
            self._values[name] = self._handlers[node.kind](node, [self._values[name] for name in node.inputs])
            if isinstance(self._values[name], np.ndarray):
                self._weights[name] = self._weights.get(node.inputs[0], name)
        for name in self._graph.outputs:
            value = self._values[name]
            shuffled = isinstance(value, _Shuffled)
            self._found.outputs[name] = (value.tensor, value.size) if shuffled else (self._tensor(name), 1)
        return self._found

    # --- operations on constants, inputs and sums ---

    def _cast(self, node: Node, values: list[_Value]) -> _Value:
        if node.attributes["to"] != FLOAT:
            raise NotPixelGraphError("Cast to something else than float32")
        return constant(values[0]).astype(np.float32)

    def _slice(self, node: Node, values: list[_Value]) -> _Value:
        data, starts, ends, axes = (constant(value) for value in values[:4])
        if len(values) > 4 and np.any(constant(values[4]) != 1):
            raise NotPixelGraphError("Slice with steps")
        places = [slice(None)] * data.ndim
        for start, end, axis in zip(starts.reshape(-1), ends.reshape(-1), axes.reshape(-1), strict=True):
            places[int(axis)] = slice(int(start), int(min(end, data.shape[int(axis)])))
        return data[tuple(places)]

    def _div(self, node: Node, values: list[_Value]) -> _Value:
        first, second = (constant(value).astype(np.float64) for value in values)
        return first / second

    def _sub(self, node: Node, values: list[_Value]) -> _Value:
        return self._moved(values[0], -constant(values[1]).astype(np.float64), node)

    def _add(self, node: Node, values: list[_Value]) -> _Value:
        first, second = values
        for value, other in ((first, second), (second, first)):
            if isinstance(other, np.ndarray):
                return self._moved(value, other.astype(np.float64), node)
        return self._joined(node.inputs)

    def _moved(self, value: _Value, by: Floats, node: Node) -> _Value:
        if isinstance(value, np.ndarray):
            return value.astype(np.float64) + by
        if isinstance(value, _Affine) and value.tensor is None:
            return _Affine(value.name, value.key, value.scale, value.offset + per_channel(by, len(value.scale)))
        if isinstance(value, _Sums) and value.tensor is None and not value.relu:
            more = np.repeat(per_channel(by, len(value.bias) // value.shuffle**2), value.shuffle**2)
            return replace(value, bias=value.bias + more)
        raise NotPixelGraphError(f"{node.kind} of something that is read elsewhere")

    def _mul(self, node: Node, values: list[_Value]) -> _Value:
        first, second = values
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            return first.astype(np.float64) * second
        value, by = (second, first) if isinstance(first, np.ndarray) else (first, second)
        return self._scaled(value, constant(by).astype(np.float64), None)

    def _scaled(self, value: _Value, by: Floats, key: str | None) -> _Value:
        """A value times a constant for each channel."""
        if isinstance(value, _Affine) and value.tensor is None:
            each = per_channel(by, len(value.scale))
            return _Affine(value.name, key or value.key, value.scale * each, value.offset * each)
        if isinstance(value, _Sums) and value.tensor is None and not value.relu and not value.skips:
            each = np.repeat(per_channel(by, len(value.bias) // value.shuffle**2), value.shuffle**2)
            convolutions = tuple(replace(c, scale=c.scale * each) for c in value.convolutions)
            return replace(value, convolutions=convolutions, bias=value.bias * each)
        raise NotPixelGraphError("a product of something that is read elsewhere")

    def _relu(self, node: Node, values: list[_Value]) -> _Value:
        (value,) = values
        if not isinstance(value, _Sums) or value.tensor is not None or value.shuffle != 1:
            raise NotPixelGraphError("Relu of something else than new sums")
        return replace(value, relu=True)

    def _conv(self, node: Node, values: list[_Value]) -> _Value:
        weights = np.asarray(constant(values[1]), np.float32)
        outputs, inputs, height, width = weights.shape
        bias = per_channel(constant(values[2]).astype(np.float64), outputs) if len(values) > 2 else np.zeros(outputs)
        key = self._weights[node.inputs[1]].removesuffix(".full").removesuffix(".weight")
        group, attributes = node.attributes.get("group", 1), node.attributes
        pads, strides = attributes.get("pads", (0, 0, 0, 0)), attributes.get("strides", (1, 1))
        if set(attributes.get("dilations", (1,))) != {1} or len(set(strides)) != 1 or strides[0] < 1 or min(pads) < 0:
            raise NotPixelGraphError("Conv with dilations, unequal strides or padding below zero")
        if attributes.get("kernel_shape", (height, width)) != (height, width):
            raise NotPixelGraphError("Conv whose kernel is not that of its weights")
        if group != 1:
            if group != outputs or (inputs, height, width, strides[0]) != (1, 1, 1, 1) or bias.any():
                raise NotPixelGraphError("Conv with groups")
            return self._scaled(values[0], weights.reshape(-1).astype(np.float64), key)
        same = (pads[0] + pads[2], pads[1] + pads[3]) == (height - 1, width - 1) and strides[0] == 1
        patches = not any(pads) and (height, width) == (strides[0], strides[0])
        if not same and not patches:
            raise NotPixelGraphError("Conv that reads neither all positions nor patches side by side")
        source = self._tensor(node.inputs[0])
        stride = self._found.tensors[source].stride * strides[0]
        convolution = Convolution(source, weights, np.ones(outputs), pads[0], pads[1], int(strides[0]))
        return _Sums(key, stride, (convolution,), bias)

    def _depth_to_space(self, node: Node, values: list[_Value]) -> _Value:
        (value,), size = values, int(node.attributes["blocksize"])
        if not isinstance(value, _Sums) or value.tensor is not None or value.shuffle != 1 or value.relu:
            raise NotPixelGraphError("DepthToSpace of something else than new sums")
        if node.attributes.get("mode") != "CRD" or size < 1 or len(value.bias) % size**2 or value.stride % size:
            raise NotPixelGraphError("DepthToSpace of channels that it cannot divide")
        if node.outputs[0] in self._graph.outputs:
            return _Shuffled(self._tensor(node.inputs[0]), size)
        return replace(value, shuffle=size, stride=value.stride // size)

    def _joined(self, names: tuple[str, ...]) -> _Value:
        """A sum of two tensors, of which at least one is not read by anything else yet and takes up the other."""
        sums = {name: self._values[name] for name in names if isinstance(self._values[name], _Sums)}
        open_ones = [name for name, s in sums.items() if s.tensor is None and s.shuffle == 1 and not s.relu]
        if not open_ones:
            raise NotPixelGraphError("Add of tensors that both are there already")
        # Where either could take up the other, take the later: in a part of a graph, the earlier may be an input.
        taker = open_ones[-1]
        (other,) = [name for name in names if name != taker]
        value: _Sums = self._values[taker]
        return replace(value, skips=(*value.skips, self._tensor(other)))

    # --- tensors ---

    def _tensor(self, name: str) -> int:
        """The number of a tensor, which is made when it is first read."""
        value = self._values[name]
        if isinstance(value, _Affine):
            if value.tensor is None:
                stride = self._strides[value.name]
                value.tensor = self._append(Input(value.name, value.key, name, stride, value.scale, value.offset))
            return value.tensor
        if not isinstance(value, _Sums):
            raise NotPixelGraphError(f"{name} is no tensor")
        if value.tensor is None:
            value.tensor = self._append(
                Layer(
                    value.key,
                    name,
                    value.stride,
                    value.convolutions,
                    value.bias,
                    value.relu,
                    value.shuffle,
                    value.skips,
                )
            )
        return value.tensor

    def _append(self, tensor: Input | Layer) -> int:
        self._found.tensors.append(tensor)
        return len(self._found.tensors) - 1
