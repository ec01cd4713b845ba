"""The derivative of a decoded picture's squared error by its latents, in fixed point: the same on every machine.

Reverse accumulation through the network of a g_s: the adjoint of a convolution is one with transposed and mirrored
weights, that of a pixel shuffle reads patches, and that of a ReLU lets through what the network itself let through. The
bundle states how many bits the tensors on the way back have, as `basic_export.gradient` found them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import ERROR_BITS, errors_of_patches
from basic_runtime.engines.base import FloatArray, TensorLike
from basic_runtime.engines.fixed_point import PIXEL_BITS, PIXELS, Format, fixed_point
from basic_runtime.engines.native import NativeEngine
from basic_runtime.engines.pixel_graph import Convolution, Floats, Input, Layer, NotPixelGraphError, PixelGraph
from basic_runtime.errors import EngineError

ERROR, GRADIENT = "error", "gradient"
"""What the way back begins with, by how much each sample of the picture is off, and its result."""

#: Errors are of 255: none passes these bounds.
_ERRORS = Format(ERROR_BITS, 255 << ERROR_BITS)

_WEIGHT_BITS = 20
"""Of the largest weight of a layer on the way back: sums of as many weights as there are are exact in float64, in
whatever order a processor adds them."""

_LARGEST_PATCH = 5
"""Rows and columns of the largest kernel that integer networks have."""

Rectangle = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""


@dataclass
class _Parts:
    """What adds up to the derivative by a tensor."""

    convolutions: list[Convolution] = field(default_factory=list)
    skips: list[int] = field(default_factory=list)


def adjoint(graph: PixelGraph) -> PixelGraph:
    """The way back through a g_s, with two kinds of inputs: `ERROR`, the picture's error as the channels of its
    patches, and, under their keys, the tensors behind a ReLU. Its output `GRADIENT` is the sum over all samples of
    their error times the derivative by each latent. Raises NotPixelGraphError for layers whose adjoint is not known."""
    return _Adjoint(graph).run()


def gates(graph: PixelGraph) -> dict[str, tuple[int, int]]:
    """The outputs of the way there that the way back reads: tensors behind a ReLU, by their keys."""
    return {
        tensor.key: (number, 1)
        for number, tensor in enumerate(graph.tensors)
        if isinstance(tensor, Layer) and tensor.relu
    }


class _Adjoint:
    def __init__(self, graph: PixelGraph) -> None:
        self._graph, self._found = graph, PixelGraph()
        self._parts: defaultdict[int, _Parts] = defaultdict(_Parts)

    def run(self) -> PixelGraph:
        tensors = self._graph.tensors
        picture, size = self._graph.outputs[PIXELS]
        last = tensors[picture]
        if not isinstance(last, Layer) or last.relu or last.shuffle != 1 or last.stride != size:
            raise NotPixelGraphError("a picture that is not written in patches")
        error = self._input(ERROR, size, len(last.bias))
        gated = {number: self._gate(number) for number, _ in gates(self._graph).values()}
        for number in reversed(range(len(tensors))):
            tensor = tensors[number]
            if isinstance(tensor, Layer):
                back = error if number == picture else self._of_layer(number, tensor, gated.get(number))
                self._hand_on(back, tensor)
        inputs = [number for number, tensor in enumerate(tensors) if isinstance(tensor, Input)]
        gradient = self._layer(GRADIENT, tensors[inputs[0]].stride, self._of_inputs(inputs), (), None)
        self._found.outputs[GRADIENT] = (gradient, 1)
        return self._found

    def _input(self, key: str, stride: int, channels: int) -> int:
        return self._append(Input(key, key, key, stride, np.ones(channels), np.zeros(channels)))

    def _gate(self, number: int) -> int:
        tensor = self._graph.tensors[number]
        assert isinstance(tensor, Layer)
        return self._input(tensor.key, tensor.stride, len(tensor.bias) // tensor.shuffle**2)

    def _append(self, tensor: Input | Layer) -> int:
        self._found.tensors.append(tensor)
        return len(self._found.tensors) - 1

    def _layer(
        self, key: str, stride: int, convolutions: list[Convolution], skips: tuple[int, ...], gate: int | None
    ) -> int:
        if not convolutions:
            raise NotPixelGraphError(f"{key}: no convolution reads it")
        bias = np.zeros(len(convolutions[0].weights))
        return self._append(Layer(key, key, stride, tuple(convolutions), bias, False, 1, skips, gate))

    def _of_layer(self, number: int, tensor: Layer, gate: int | None) -> int:
        """The derivative by the sums of a layer."""
        parts = self._parts[number]
        if not parts.convolutions and len(parts.skips) == 1 and gate is None:
            return parts.skips[0]
        return self._layer(tensor.key, tensor.stride, parts.convolutions, tuple(parts.skips), gate)

    def _of_inputs(self, inputs: list[int]) -> list[Convolution]:
        """What adds up to the derivative by the latents, which several inputs read, each with scales of its own."""
        found = []
        for number in inputs:
            tensor, parts = self._graph.tensors[number], self._parts[number]
            assert isinstance(tensor, Input)
            convolutions = parts.convolutions
            if parts.skips:
                back = self._layer(tensor.key, tensor.stride, convolutions, tuple(parts.skips), None)
                one = np.eye(len(tensor.scale), dtype=np.float32)[:, :, None, None]
                convolutions = [Convolution(back, one, np.ones(len(one)), 0, 0, 1)]
            found += [replace(convolution, scale=tensor.scale) for convolution in convolutions]
        return found

    def _hand_on(self, back: int, tensor: Layer) -> None:
        """Hand the derivative by a layer's sums, `back` once shuffled, on to what it reads."""
        for convolution in tensor.convolutions:
            self._parts[convolution.source].convolutions.append(_transposed(convolution, tensor.shuffle, back))
        for source in tensor.skips:
            if tensor.shuffle != 1:
                raise NotPixelGraphError(f"{tensor.key}: a sum that is shuffled")
            self._parts[source].skips.append(back)


def _transposed(convolution: Convolution, shuffle: int, back: int) -> Convolution:
    """The adjoint of a convolution, and of the pixel shuffle behind it, that reads the tensor `back`."""
    weights = convolution.weights * convolution.scale[:, None, None, None]
    outputs, inputs, height, width = weights.shape
    if convolution.stride != 1 or (shuffle != 1 and (height, width) != (1, 1)) or shuffle > _LARGEST_PATCH:
        raise NotPixelGraphError("a convolution of patches, a shuffled one of neighbours, or too large a shuffle")
    if shuffle == 1:
        above, before = height - 1 - convolution.above, width - 1 - convolution.before
        turned = weights[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    else:
        above = before = 0
        turned = weights.reshape(outputs // shuffle**2, shuffle, shuffle, inputs).transpose(3, 0, 1, 2)
    return Convolution(back, _rounded(turned), np.ones(inputs), above, before, shuffle)


def _rounded(weights: Floats) -> NDArray[np.float32]:
    """Multiples of one power of two, whose sums are exact."""
    step = np.ldexp(1.0, np.frexp(np.abs(weights).max())[1] - _WEIGHT_BITS)
    return np.ascontiguousarray(np.rint(weights / step) * step, np.float32)


class GradientEngine:
    """A g_s at one quality, there and back; runs may overlap from several threads."""

    def __init__(
        self,
        graph: PixelGraph,
        formats: Mapping[str, Format],
        back_formats: Mapping[str, Format],
        threads: int,
        kernel: str | None = None,
    ) -> None:
        """`formats`: of the network's tensors, by their keys; `back_formats`: of those on the way back. Raises
        NotPixelGraphError."""
        there = fixed_point(replace(graph, outputs=graph.outputs | gates(graph)), formats, {})
        back = fixed_point(adjoint(graph), back_formats, there.output_formats | {ERROR: _ERRORS})
        self._patch, self._threads = there.shuffle, threads
        # Twice the error of 255 of each sample, times 255 for samples in [0, 1]: exact in float32.
        scale = 510 * 2.0 ** -back_formats[GRADIENT].bits
        self._there = NativeEngine(there.integers, threads, kernel, {})
        self._back = NativeEngine(back.integers, threads, kernel, {GRADIENT: scale})
        self.weight_bytes = self._there.weight_bytes + self._back.weight_bytes

    def run(self, yhat: FloatArray, pixels: NDArray[np.uint8], inside: Rectangle) -> tuple[FloatArray, float]:
        """The derivative by `yhat`, float32 (1, M, h, w), of the sum of squared errors of all samples, of 255, inside a
        rectangle, and that sum. `pixels`: uint8 (16 h, 16 w, 3). Samples beyond black and white count as these."""
        tensors, squares = self._compared(yhat, pixels, inside)
        return np.asarray(self._back.run(tensors)[GRADIENT]), squares

    def error(self, yhat: FloatArray, pixels: NDArray[np.uint8], inside: Rectangle) -> float:
        """That sum alone, in half the time."""
        return self._compared(yhat, pixels, inside)[1]

    def _compared(
        self, yhat: FloatArray, pixels: NDArray[np.uint8], inside: Rectangle
    ) -> tuple[dict[str, TensorLike], float]:
        """What the way back reads, and the sum of squared errors."""
        found: dict[str, Any] = self._there.run({"y": yhat})
        picture = found.pop(PIXELS)
        try:
            error, squares = errors_of_patches(picture, pixels, self._patch, PIXEL_BITS, inside, self._threads)
        except ValueError as problem:
            raise EngineError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} is not compared: {problem}") from None
        return found | {ERROR: error}, squares * 4.0**-ERROR_BITS
