"""ONNX graphs of integer layers under construction, and the names of the tensors between them.

Every weight is stored as a small integer and scaled by a power of two when an engine loads it, which float32 does
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from basic_export.graphs import GraphBuilder, model_of
from basic_train.model.integer import LEAK_BITS, IntegerLayer

#: Row and column within the tile of a grouping.
Phase = tuple[int, int]


def prior_name(phase: Phase) -> str:
    return f"prior.{phase[0]}{phase[1]}"


def unit_name(kind: str, stage: int, phase: Phase) -> str:
    """Cached hidden units of a stage at a phase: kind is "context", "hidden1" or "hidden2"."""
    return f"{kind}.{stage}.{phase[0]}{phase[1]}"


def input_name(group: int, phase: Phase) -> str:
    """A decoded slot as the masked convolution reads it: rounded to the context's precision and clamped."""
    return f"u.{group}.{phase[0]}{phase[1]}"


class EntropyGraph(GraphBuilder):
    """A graph of integer layers: knows the channels of its inputs and outputs, and counts multiply-accumulates.

    Values are t1, t2 ... and constants c1, c2 ..., numbered together, as in all bundles so far: names of constants are
    part of a graph's bytes.
    """

    def __init__(self, name: str) -> None:
        super().__init__(GraphProto(name=name))
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self.macs = 0.0
        self._serial = 0

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        self._serial += 1
        return super().node(operator, inputs, output or f"t{self._serial}", **attributes)

    def constant(self, values: np.ndarray | np.generic, name: str = "") -> str:
        self._serial += 1
        return super().constant(np.ascontiguousarray(values), name or f"c{self._serial}")

    def read(self, name: str, channels: int) -> str:
        self.inputs[name] = channels
        return name

    def write(self, name: str, value: str, channels: int) -> None:
        if value != name:
            self.node("Identity", [value], name)
        self.outputs[name] = channels

    def weight(self, integers: np.ndarray, scale: np.ndarray) -> str:
        """Integer weights times a power of two per output channel, as constants that engines fold at load."""
        small = np.abs(integers).max(initial=0) <= 127
        stored = self.constant(integers.astype(np.int8 if small else np.int16))
        real = self.node("Cast", [stored], to=TensorProto.FLOAT)
        return self.node("Mul", [real, self.constant(scale.astype(np.float32))])

    def concat(self, names: list[str]) -> str:
        return names[0] if len(names) == 1 else self.node("Concat", names, axis=1)

    def requantise(self, sums: str, low: Tensor, high: Tensor, leak: bool) -> str:
        """clamp(leak(floor(sums)), low, high), bounds (C,); sums are already scaled to output units."""
        value = self.node("Floor", [sums])
        if leak:
            value = self.node("LeakyRelu", [value], alpha=2.0**-LEAK_BITS)
            half = self.constant(np.array(0.5, np.float32))
            value = self.node("Floor", [self.node("Add", [value, half])])
        return self.clamp(value, as_numpy(low), as_numpy(high))

    def clamp(self, value: str, low: np.ndarray, high: np.ndarray) -> str:
        if np.ptp(low) == np.ptp(high) == 0:
            bounds = [self.constant(np.array(v[0], np.float32)) for v in (low, high)]
            return self.node("Clip", [value, *bounds])
        below, above = (self.constant(v.astype(np.float32).reshape(1, -1, 1, 1)) for v in (low, high))
        return self.node("Max", [self.node("Min", [value, above]), below])

    def model(self) -> ModelProto:
        self.graph.input.extend(_value(name, channels) for name, channels in self.inputs.items())
        self.graph.output.extend(_value(name, channels) for name, channels in self.outputs.items())
        return model_of(self.graph)


def _value(name: str, channels: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])


def as_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def scale_of(layer: IntegerLayer) -> np.ndarray:
    """What the sums of a layer's channels (out,) are multiplied by: powers of two."""
    return np.exp2(-as_numpy(layer.shift).astype(np.float64))
