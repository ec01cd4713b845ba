"""An ONNX graph of the entropy path, taken back to the integers it stands for.

`basic-export` writes h_s and the stages as float32 graphs in which every value is an integer and every scale a power of
two (basic_export/stages.py). This module finds the layers of the integer network again. `pixel_graph` does so with the
graphs of the pixel path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime.engines.constants import constant, per_channel
from basic_runtime.engines.integer_net import Floats, IntegerGraph, Layer, Reading, Term, View
from basic_runtime.engines.onnx_file import FLOAT, Graph, Node

_LEAK, _EXACT = 2.0**-7, 2.0**24
_MAX_STRIDE = 8
_CONVOLUTION = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}
_ATTRIBUTES: dict[str, set[str]] = {
    "Cast": {"to"},
    "Concat": {"axis"},
    "Conv": _CONVOLUTION,
    "ConvTranspose": _CONVOLUTION | {"output_padding"},
    "DepthToSpace": {"blocksize", "mode"},
    "LeakyRelu": {"alpha"},
    "Split": {"axis", "num_outputs"},
}
"""What the operations below look at; any other attribute may mean another result."""


class NotIntegerError(ValueError):
    """The graph computes something else than an integer network."""


@dataclass(frozen=True)
class _Weights:
    integers: NDArray[Any]
    scale: NDArray[Any] | None = None  # of each output


@dataclass(frozen=True)
class _Sums:
    """Sums of convolutions on their way to a layer, in units of `scale`, and the pixel shuffle that they need."""

    terms: tuple[Term, ...]
    scale: Floats
    bias: Floats
    shuffle: int = 1


@dataclass(frozen=True)
class _Scaled:
    """An input times a scale, with or without the half that turns floor into rounding."""

    name: str
    scale: Floats
    half: bool = False


@dataclass(frozen=True)
class _Floored:
    """Sums or an input after a floor. `step` counts what was done of the leak: its product, its half and its floor."""

    source: _Sums | _Scaled
    step: int = 0
    high: Floats | None = None


@dataclass(frozen=True)
class _Joined:
    """Tensors, one after the other."""

    views: tuple[View, ...]


_Value = Any
"""A constant (array), the name of an input that is not read yet (str), or one of the classes above."""


def entropy_graph(graph: Graph) -> IntegerGraph:
    """The integer network that a graph stands for. Raises NotIntegerError if it is something else."""
    try:
        return _Lowering(graph).run()
    except NotIntegerError:
        raise
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:  # unexpected inputs or attributes
        raise NotIntegerError(f"an operation that is not of an integer network ({error})") from error


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self._graph, self._channels = graph, graph.inputs
        self._values: dict[str, _Value] = {name: name for name in graph.inputs} | graph.constants
        self._readings: dict[str, Reading] = {}
        self._layers: list[Layer] = []
        self._handlers: dict[str, Callable[[Node, list[_Value]], _Value]] = {
            "Add": self._add,
            "Cast": self._cast,
            "Clip": self._clip,
            "Concat": self._concat,
            "Conv": self._conv,
            "ConvTranspose": self._transposed,
            "DepthToSpace": self._shuffle,
            "Floor": self._floor,
            "Identity": lambda node, values: values[0],
            "LeakyRelu": self._leaky,
            "Max": self._max,
            "Min": self._min,
            "Mul": self._mul,
            "Slice": self._slice,
            "Split": self._split,
        }

    def run(self) -> IntegerGraph:
        # Views count readings first; negative numbers stand for layers until it is known how many readings there are.
        for node in self._graph.nodes:
            if node.kind not in self._handlers or any(name not in self._values for name in node.inputs):
                raise NotIntegerError(f"{node.kind} is not of an integer network")
            if unknown := set(node.attributes) - _ATTRIBUTES.get(node.kind, set()):
                raise NotIntegerError(f"{node.kind} with {min(unknown)}")
            found = self._handlers[node.kind](node, [self._values[name] for name in node.inputs])
            results = found if isinstance(found, list) else [found]
            if len(results) != len(node.outputs):
                raise NotIntegerError(f"{node.kind} has {len(node.outputs)} outputs")
            self._values.update(zip(node.outputs, results, strict=True))
        outputs = {name: self._views(self._values.get(name)) for name in self._graph.outputs}
        return self._numbered(outputs)

    def _numbered(self, outputs: dict[str, tuple[View, ...]]) -> IntegerGraph:
        count = len(self._readings)

        def number(tensor: int) -> int:
            return tensor if tensor >= 0 else count - 1 - tensor

        layers = [
            replace(layer, terms=tuple(replace(term, source=number(term.source)) for term in layer.terms))
            for layer in self._layers
        ]
        views = {
            name: tuple(replace(view, tensor=number(view.tensor)) for view in parts) for name, parts in outputs.items()
        }
        return IntegerGraph(list(self._readings.values()), layers, views)

    # --- operations ---

    def _cast(self, node: Node, values: list[_Value]) -> _Value:
        weights = constant(values[0])
        if node.attributes["to"] != FLOAT:
            raise NotIntegerError("Cast to something else than float32")
        if weights.ndim != 4 or weights.dtype not in (np.int8, np.int16):
            raise NotIntegerError("Cast of something else than weights")
        return _Weights(weights)

    def _mul(self, node: Node, values: list[_Value]) -> _Value:
        source, scale = values[0], constant(values[1])
        if isinstance(source, _Weights) and source.scale is None:
            return _Weights(source.integers, scale)
        if isinstance(source, str):
            return _Scaled(source, per_channel(scale, self._channels[source], np.float32))
        raise NotIntegerError("Mul of something else than weights or an input")

    def _conv(self, node: Node, values: list[_Value]) -> _Value:
        weights, scale, bias = self._convolution(node, values, outputs_axis=0)
        pads, strides = _pads(node), node.attributes.get("strides", (1, 1))
        height, width = weights.shape[2:]
        if strides != (1, 1) or (pads[0] + pads[2], pads[1] + pads[3]) != (height - 1, width - 1):
            raise NotIntegerError("Conv that changes the size")
        return _Sums(self._terms(values[0], weights, (pads[0], pads[1])), scale, bias)

    def _transposed(self, node: Node, values: list[_Value]) -> _Value:
        """A transposed convolution that multiplies rows and columns by its stride: a convolution for each phase of the
        output, and a pixel shuffle."""
        weights, scale, bias = self._convolution(node, values, outputs_axis=1)
        kernel, pads = weights.shape[2:], _pads(node)
        more, strides = node.attributes.get("output_padding", (0, 0)), node.attributes.get("strides", (1, 1))
        stride = int(strides[0])
        if len({*strides}) > 1 or not 1 <= stride <= _MAX_STRIDE:
            raise NotIntegerError("ConvTranspose with unequal strides, or too far ones")
        if any(kernel[k] + more[k] - pads[k] - pads[k + 2] != stride for k in (0, 1)):
            raise NotIntegerError("ConvTranspose that does not multiply the size")
        integers, before = _phase_kernels(weights, stride, (pads[0], pads[1]))
        terms = self._terms(values[0], integers, before)
        return _Sums(terms, np.repeat(scale, stride**2), np.repeat(bias, stride**2), stride)

    def _convolution(self, node: Node, values: list[_Value], outputs_axis: int) -> tuple[NDArray[Any], Floats, Floats]:
        """Weights of a convolution without groups or dilations, and scale and bias of each output."""
        weights, attributes = values[1], node.attributes
        if not isinstance(weights, _Weights) or weights.scale is None:
            raise NotIntegerError(f"{node.kind} without integer weights")
        if attributes.get("group", 1) != 1 or set(attributes.get("dilations", (1,))) != {1}:
            raise NotIntegerError(f"{node.kind} with groups or dilations")
        if attributes.get("auto_pad", "NOTSET") != "NOTSET":
            raise NotIntegerError(f"{node.kind} that pads by itself")
        if attributes.get("kernel_shape", weights.integers.shape[2:]) != weights.integers.shape[2:]:
            raise NotIntegerError(f"{node.kind} of another size than its weights")
        outputs = weights.integers.shape[outputs_axis]
        if weights.scale.size != 1 and weights.scale.shape != tuple(
            outputs if axis == outputs_axis else 1 for axis in range(4)
        ):
            raise NotIntegerError(f"{node.kind} whose scales are not of its outputs")
        given = constant(values[2]) if len(values) > 2 else np.zeros(outputs)
        scale, bias = (per_channel(numbers, outputs, np.float32) for numbers in (weights.scale, given))
        return weights.integers, scale, bias

    def _terms(self, value: _Value, integers: NDArray[Any], before: tuple[int, int]) -> tuple[Term, ...]:
        views = self._joined(value)
        if sum(view.channels for view in views) != integers.shape[1]:
            raise NotIntegerError("a convolution of other channels than its weights")
        ends = np.cumsum([view.channels for view in views])[:-1]
        parts = np.split(integers, ends, axis=1)
        return tuple(
            Term(view.tensor, np.ascontiguousarray(part, np.int16), *before)
            for view, part in zip(views, parts, strict=True)
        )

    def _add(self, node: Node, values: list[_Value]) -> _Value:
        first, second = values
        if isinstance(first, _Sums) and isinstance(second, _Sums) and np.array_equal(first.scale, second.scale):
            return _Sums(first.terms + second.terms, first.scale, first.bias + second.bias)
        half = constant(second)
        if half.size == 1 and float(half.reshape(-1)[0]) == 0.5:
            if isinstance(first, _Scaled) and not first.half:
                return replace(first, half=True)
            if isinstance(first, _Floored) and first.step == 1:
                return replace(first, step=2)
        raise NotIntegerError("Add of something else than sums or a half")

    def _floor(self, node: Node, values: list[_Value]) -> _Value:
        (value,) = values
        if isinstance(value, _Sums) or (isinstance(value, _Scaled) and value.half):
            return _Floored(value)
        if isinstance(value, _Floored) and value.step == 2:
            return replace(value, step=3)
        raise NotIntegerError("Floor of something else than sums or an input")

    def _leaky(self, node: Node, values: list[_Value]) -> _Value:
        (value,) = values
        of_sums = isinstance(value, _Floored) and isinstance(value.source, _Sums) and value.step == 0
        if of_sums and node.attributes.get("alpha") == _LEAK:
            return replace(value, step=1)
        raise NotIntegerError("LeakyRelu that is not of an integer layer")

    def _min(self, node: Node, values: list[_Value]) -> _Value:
        value, high = values
        if not isinstance(value, _Floored) or value.high is not None:
            raise NotIntegerError("Min that is not of an integer layer")
        return replace(value, high=constant(high))

    def _max(self, node: Node, values: list[_Value]) -> _Value:
        value, low = values
        if not isinstance(value, _Floored) or value.high is None:
            raise NotIntegerError("Max that is not of an integer layer")
        return self._bounded(value, constant(low), value.high)

    def _clip(self, node: Node, values: list[_Value]) -> _Value:
        if len(values) != 3 or not isinstance(values[0], _Floored) or values[0].high is not None:
            raise NotIntegerError("Clip that is not of an integer layer")
        return self._bounded(values[0], constant(values[1]), constant(values[2]))

    def _bounded(self, value: _Floored, low: Floats, high: Floats) -> View:
        source = value.source
        if isinstance(source, _Scaled):
            count = len(source.scale)
            return self._read(Reading(source.name, source.scale, _bounds(low, count), _bounds(high, count)))
        if value.step not in (0, 3):
            raise NotIntegerError("a leak that is not rounded")
        bias, shift = _integers(source.scale, source.bias)
        places = source.shuffle**2
        lowest, highest = (np.repeat(_bounds(v, len(bias) // places), places).astype(np.int32) for v in (low, high))
        layer = Layer(source.terms, bias, shift, lowest, highest, value.step == 3, source.shuffle)
        self._layers.append(layer)
        return View(-len(self._layers), 0, layer.channels)

    def _shuffle(self, node: Node, values: list[_Value]) -> _Value:
        (view,) = values
        last = -len(self._layers)
        if not isinstance(view, View) or view.tensor != last or node.attributes.get("mode") != "CRD":
            raise NotIntegerError("DepthToSpace that is not of the layer before")
        layer = replace(self._layers[-1], shuffle=int(node.attributes["blocksize"]))
        if self._layers[-1].shuffle != 1 or layer.shuffle < 1 or len(layer.bias) % layer.shuffle**2:
            raise NotIntegerError("DepthToSpace of channels that it cannot divide")
        self._layers[-1] = layer
        return View(last, 0, layer.channels)

    def _concat(self, node: Node, values: list[_Value]) -> _Value:
        if node.attributes.get("axis") != 1:
            raise NotIntegerError("Concat of something else than channels")
        return _Joined(tuple(view for value in values for view in self._views(value)))

    def _slice(self, node: Node, values: list[_Value]) -> _Value:
        """Every `step`-th row and column, to the end: a phase."""
        view = self._view(values[0])
        starts, ends, axes, steps = (tuple(int(v) for v in constant(value).reshape(-1)) for value in values[1:])
        if axes != (2, 3) or len(set(steps)) != 1 or min(ends) < np.iinfo(np.int64).max or view.stride != 1:
            raise NotIntegerError("Slice that is not a phase")
        if len(starts) != 2 or not all(0 <= start < steps[0] for start in starts):
            raise NotIntegerError("Slice that is not a phase")
        return replace(view, stride=steps[0], row=starts[0], column=starts[1])

    def _split(self, node: Node, values: list[_Value]) -> _Value:
        view, count = self._view(values[0]), len(node.outputs)
        if count < 1 or node.attributes.get("num_outputs", count) != count:
            raise NotIntegerError("Split into other outputs than it has")
        if node.attributes.get("axis") != 1 or view.channels % count or len(values) != 1:
            raise NotIntegerError("Split into unequal parts")
        size = view.channels // count
        return [replace(view, first=view.first + k * size, channels=size) for k in range(count)]

    # --- tensors ---

    def _read(self, reading: Reading) -> View:
        if reading.name in self._readings:
            raise NotIntegerError(f"input {reading.name} is read in two ways")
        self._readings[reading.name] = reading
        return View(list(self._readings).index(reading.name), 0, reading.channels)

    def _view(self, value: _Value) -> View:
        """A tensor; inputs become one, of int16, when they are first used as they are."""
        if isinstance(value, str):
            channels = self._channels[value]
            if channels < 1:
                raise NotIntegerError(f"input {value} does not state its channels")
            self._values[value] = value = self._read(Reading.of(value, channels))
        if not isinstance(value, View):
            raise NotIntegerError("a value that is no tensor")
        return value

    def _views(self, value: _Value) -> tuple[View, ...]:
        return value.views if isinstance(value, _Joined) else (self._view(value),)

    def _joined(self, value: _Value) -> tuple[View, ...]:
        """Whole tensors, for a layer to read."""
        views = self._views(value)
        if any(view.stride != 1 or view.first != 0 or view.channels != self._width(view) for view in views):
            raise NotIntegerError("a layer that reads a part of a tensor")
        return views

    def _width(self, view: View) -> int:
        if view.tensor < 0:
            return self._layers[-1 - view.tensor].channels
        return list(self._readings.values())[view.tensor].channels


def _phase_kernels(weights: NDArray[Any], stride: int, pads: tuple[int, int]) -> tuple[NDArray[Any], tuple[int, int]]:
    """Weights (in, out, kh, kw) of a transposed convolution as those of a convolution (out * stride^2, in, h, w), whose
    outputs a pixel shuffle puts in their places, and the rows and columns that it reads above and before.

    Output stride * q + a reads input q + d by tap a + pad - stride * d.
    """
    reach = [
        [d for d in range(-size, size + 1) if any(0 <= a + pad - stride * d < size for a in range(stride))]
        for size, pad in zip(weights.shape[2:], pads, strict=True)
    ]
    if not all(reach) or max(reach[0][0], reach[1][0]) > 0:
        raise NotIntegerError("ConvTranspose that reads nothing, or only what comes after")
    inputs, outputs = weights.shape[:2]
    found = np.zeros((outputs, stride, stride, inputs, len(reach[0]), len(reach[1])), weights.dtype)
    for a, b, (i, d), (j, e) in product(range(stride), range(stride), enumerate(reach[0]), enumerate(reach[1])):
        row, column = a + pads[0] - stride * d, b + pads[1] - stride * e
        if 0 <= row < weights.shape[2] and 0 <= column < weights.shape[3]:
            found[:, a, b, :, i, j] = weights[:, :, row, column].T
    return found.reshape(outputs * stride**2, inputs, *found.shape[4:]), (-reach[0][0], -reach[1][0])


def _pads(node: Node) -> tuple[int, int, int, int]:
    above, before, below, behind = node.attributes.get("pads", (0, 0, 0, 0))
    if min(above, before, below, behind) < 0:
        raise NotIntegerError(f"{node.kind} that cuts its input")
    return above, before, below, behind


def _bounds(values: NDArray[Any], count: int) -> Floats:
    bounds = per_channel(values, count, np.float32)
    if np.any(bounds != np.floor(bounds)) or np.abs(bounds).max() > _EXACT:
        raise NotIntegerError("bounds that are no integers")
    return bounds


def _integers(scale: Floats, bias: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Bias and shift of sums that are carried in units of a power of two."""
    mantissa, exponent = np.frexp(scale)
    shift = 1 - exponent
    integers = bias.astype(np.float64) / scale
    if np.any(mantissa != 0.5) or shift.min() < 0 or shift.max() > 31:
        raise NotIntegerError("scales that are not powers of two")
    if np.any(integers != np.floor(integers)) or np.abs(integers).max() >= 2**31:
        raise NotIntegerError("biases that are not integers")
    return integers.astype(np.int32), shift.astype(np.int32)
