"""Gives a network of the pixel path its integers: values int16, sums int32, all scales powers of two.

A tensor is kept in units of 2^-bits; the bundle states the bits of each, as the exporter found them on pictures
(basic_export.fixed_point). Weights need nothing stated: each output channel has the finest unit in which its sum cannot
pass 2^31, whatever it reads. So all that a network gives is integers that any processor computes alike. With
scales that are powers of two, this is the scheme of Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", 2018, with twice as many bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from basic_runtime.engines.integer_net import IntegerGraph, Reading, Scaling, Skip, Term, View
from basic_runtime.engines.integer_net import Layer as IntegerLayer
from basic_runtime.engines.pixel_graph import (
    Convolution,
    Floats,
    Input,
    Layer,
    NotPixelGraphError,
    PixelGraph,
)

LIMIT, WIDE = (1 << 14) - 1, (1 << 15) - 1
"""The largest absolute value of a tensor, and of one that no convolution reads: what the former has less than int16,
weights have more."""

PICTURE = "x"
LATENTS, LATENT_BITS = ("y", "z"), 12
"""Outputs that others compute with in floating point, and their bits."""

PIXELS, PIXEL_BITS = "xhat", 13
"""The output that becomes pixels."""


@dataclass(frozen=True)
class Format:
    """How a tensor is kept: in units of 2^-bits, from -limit to limit."""

    bits: int
    limit: int = LIMIT


_BYTES = Format(0, 255)
"""2 p - 255 stands for a byte p of a picture: exact, and as far from zero to both sides."""

_LATENTS = Format(LATENT_BITS, (1 << 23) - 1)
_PIXELS = Format(PIXEL_BITS, WIDE)
_SUM = 2**31 - 2**24
"""What a sum may come to: less than 2^31, as weights are rounded afterwards."""

_LEAST = 2.0**-24
"""What the largest weight of an output is taken for at least."""


@dataclass(frozen=True)
class FixedPoint:
    """A network that reads a picture does so in squares of `patch` x `patch` pixels, each one position whose channels
    are its rows, columns and colours. `output_formats` are those of outputs that other networks read;
    `shuffle` is the pixel shuffle through which the picture is to be read."""

    integers: IntegerGraph
    patch: int | None
    output_formats: dict[str, Format]
    shuffle: int


def fixed_point(graph: PixelGraph, formats: Mapping[str, Format], input_formats: Mapping[str, Format]) -> FixedPoint:
    """The integer network of a graph. `formats`: of tensors, by their keys; `input_formats`: of inputs that other
    networks give, by name. Raises NotPixelGraphError."""
    return _Numbering(graph, formats, input_formats).run()


class _Numbering:
    def __init__(self, graph: PixelGraph, formats: Mapping[str, Format], input_formats: Mapping[str, Format]) -> None:
        self._graph, self._formats, self._given = graph, formats, input_formats
        self._coarsest = max(tensor.stride for tensor in graph.tensors)
        self._names = {tensor: name for name, (tensor, _) in graph.outputs.items()}
        readings = [number for number, tensor in enumerate(graph.tensors) if isinstance(tensor, Input)]
        layers = [number for number, tensor in enumerate(graph.tensors) if isinstance(tensor, Layer)]
        self._place = {number: place for place, number in enumerate(readings + layers)}
        self._patch: int | None = None

    def run(self) -> FixedPoint:
        graph, found = self._graph, IntegerGraph()
        for number, tensor in enumerate(graph.tensors):
            if isinstance(tensor, Input):
                found.readings.append(self._reading(number, tensor))
            else:
                found.layers.append(self._layer(number, tensor))
        shuffle = 1
        given: dict[str, Format] = {}
        for name, (number, size) in graph.outputs.items():
            tensor = graph.tensors[number]
            if not isinstance(tensor, Layer):
                raise NotPixelGraphError("an output that is an input")
            found.outputs[name] = (View(self._place[number], 0, len(tensor.bias) // tensor.shuffle**2),)
            if name == PIXELS:
                shuffle = size
            elif name not in LATENTS:
                given[name] = self._format(number)
        return FixedPoint(found, self._patch, given, shuffle)

    def _format(self, number: int) -> Format:
        name, tensor = self._names.get(number), self._graph.tensors[number]
        if name in LATENTS:
            return _LATENTS
        if name == PIXELS:
            return _PIXELS
        if isinstance(tensor, Input) and tensor.name == PICTURE:
            return _BYTES
        if isinstance(tensor, Input) and tensor.name in self._given:
            return self._given[tensor.name]
        if tensor.key not in self._formats:
            raise NotPixelGraphError(f"no format is known of {tensor.key}")
        return self._formats[tensor.key]

    def _bits_of(self, number: int) -> int:
        return self._format(number).bits

    def _reading(self, number: int, tensor: Input) -> Reading:
        count, rate = len(tensor.scale), self._coarsest // tensor.stride
        if tensor.name == PICTURE:
            self._patch = size = self._patch_size()
            return replace(Reading.of(tensor.name, 3 * size**2), rate=rate // size)
        if tensor.offset.any():
            raise NotPixelGraphError(f"input {tensor.name} is moved")
        if tensor.name in self._given:
            return replace(Reading.of(tensor.name, count), rate=rate)
        kept = self._format(number)
        bound = np.full(count, kept.limit, np.float32)
        return Reading(tensor.name, (tensor.scale * 2.0**kept.bits).astype(np.float32), -bound, bound, rate)

    def _patch_size(self) -> int:
        """Side of the squares in which the picture is read: those that all convolutions of it divide into."""
        sizes = {
            c.stride
            for layer in self._graph.tensors
            if isinstance(layer, Layer)
            for c in layer.convolutions
            if self._is_picture(c.source)
        }
        if not sizes or any(size % min(sizes) for size in sizes) or min(sizes) == 1:
            raise NotPixelGraphError("a picture that is not read in patches")
        return min(sizes)

    def _is_picture(self, number: int) -> bool:
        tensor = self._graph.tensors[number]
        return isinstance(tensor, Input) and tensor.name == PICTURE

    def _layer(self, number: int, tensor: Layer) -> IntegerLayer:
        bits, limit = self._format(number).bits, self._format(number).limit
        convolutions = [self._of_patches(c) if self._is_picture(c.source) else c for c in tensor.convolutions]
        exponent = self._exponent(convolutions, tensor, bits)
        terms = tuple(_term(c, self._place[c.source], exponent - self._bits_of(c.source)) for c in convolutions)
        skips = tuple(Skip(self._place[k], np.asarray(exponent - self._bits_of(k), np.int32)) for k in tensor.skips)
        shift = exponent - bits
        half = np.where(shift > 0, np.exp2(shift - 1.0), 0)
        outputs = len(tensor.bias)
        return IntegerLayer(
            terms,
            np.rint(np.ldexp(tensor.bias, exponent) + half).astype(np.int32),
            shift.astype(np.int32),
            np.full(outputs, 0 if tensor.relu else -limit, np.int32),
            np.full(outputs, limit, np.int32),
            leak=False,
            shuffle=tensor.shuffle,
            skips=skips,
            gate=None if tensor.gate is None else self._place[tensor.gate],
        )

    def _exponent(self, convolutions: list[Convolution], tensor: Layer, bits: int) -> NDArray[np.int32]:
        """The bits of the sum of each output: the most with which it cannot pass `_SUM`, nor a weight int16."""
        most = np.full(len(tensor.bias), bits + 31, np.int32)
        sums = np.abs(tensor.bias) + 2.0**-bits
        for k in tensor.skips:
            sums += self._format(k).limit * 2.0 ** -self._bits_of(k)
        for c in convolutions:
            absolute, scale = np.abs(c.weights).reshape(len(c.weights), -1), np.abs(c.scale)
            # Weights come from float16: their sums in float64 are exact, in whatever order a processor adds them.
            total = absolute.sum(axis=1, dtype=np.float64) * scale
            sums += total * (self._format(c.source).limit * 2.0 ** -self._bits_of(c.source))
            largest = np.maximum(absolute.max(axis=1) * scale, _LEAST)
            most = np.minimum(most, self._bits_of(c.source) + _floor_log2(np.iinfo(np.int16).max / largest))
        exponent: NDArray[np.int32] = np.minimum(most, _floor_log2(_SUM / sums))
        finest = max([bits, *(self._bits_of(k) for k in tensor.skips)])
        if exponent.min() < finest or (exponent - bits).max() > 31:
            raise NotPixelGraphError(f"{tensor.key}: its sums have too few bits")
        return exponent

    def _of_patches(self, convolution: Convolution) -> Convolution:
        """A convolution of pixels as one of patches, whose channels are rows, columns and colours."""
        size, tensor = self._patch_size(), self._graph.tensors[convolution.source]
        assert isinstance(tensor, Input)
        factor = tensor.scale[0]
        if np.any(tensor.scale != factor) or np.abs(factor / 2 + tensor.offset).max() > 1e-6 * abs(factor):
            raise NotPixelGraphError("a picture whose colours are scaled differently, or whose middle is not gray")
        weights = convolution.weights
        outputs, colours, height, width = weights.shape
        if convolution.above or convolution.before or height % size or width % size or height != convolution.stride:
            raise NotPixelGraphError("a picture that is not read in patches")
        split = weights.reshape(outputs, colours, height // size, size, width // size, size)
        moved = split.transpose(0, 3, 5, 1, 2, 4)
        channels = size * size * colours
        return Convolution(
            convolution.source,
            np.ascontiguousarray(moved).reshape(outputs, channels, height // size, width // size),
            convolution.scale * (factor / 510),
            0,
            0,
            convolution.stride // size,
        )


def _floor_log2(values: Floats) -> NDArray[np.int32]:
    exponents: NDArray[np.int32] = np.frexp(values)[1]  # of 32 bits, which is all that ldexp takes on Windows
    return exponents - np.int32(1)


def _term(convolution: Convolution, place: int, exponent: NDArray[np.int32]) -> Term:
    """The convolution with its weights in units of 2^-exponent of each output."""
    factor = np.ldexp(convolution.scale, exponent).astype(np.float32)
    integers = np.rint(convolution.weights * factor[:, None, None, None]).astype(np.int16)
    scaling = Scaling(convolution.weights, factor)
    return Term(place, integers, convolution.above, convolution.before, convolution.stride, scaling)
