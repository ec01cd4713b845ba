"""An integer network as `_native.IntegerNet` computes it: convolutions of whole tensors whose sums are shifted, bounded
and shuffled. `entropy_graph` and `fixed_point` make such networks of a bundle's graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import IntegerNet

Floats = NDArray[np.float32]
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Scaling:
    """Weights float32 (outputs, channels, height, width) times a factor of each output, float32 (outputs,)."""

    weights: Floats
    factor: Floats


@dataclass(frozen=True)
class Term:
    """A convolution of one tensor: `weights` int16 (outputs, channels, height, width), `above` and `before` the rows
    and columns of zeros that it is padded with. Weights that were scaled are those of `scaling`, rounded to nearest."""

    source: int
    weights: NDArray[np.int16]
    above: int
    before: int
    stride: int = 1
    scaling: Scaling | None = None


@dataclass(frozen=True)
class Skip:
    """A tensor that is added to sums, times 2^shift, int32 (channels,)."""

    source: int
    shift: NDArray[np.int32]


@dataclass(frozen=True)
class Layer:
    """clamp(leak((sum of terms + bias + skips) >> shift), low, high), all int32 (outputs,), 0 where the input `gate` is
    not positive, then a pixel shuffle."""

    terms: tuple[Term, ...]
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    leak: bool
    shuffle: int = 1
    skips: tuple[Skip, ...] = ()
    gate: int | None = None

    @property
    def channels(self) -> int:
        return len(self.bias) // self.shuffle**2


@dataclass(frozen=True)
class Reading:
    """clamp(floor(values * scale + 0.5), low, high) of an input, all float32 (channels,)."""

    name: str
    scale: Floats
    low: Floats
    high: Floats
    rate: int = 1
    """Its rows for each row of the coarsest input."""

    @classmethod
    def of(cls, name: str, channels: int) -> Reading:
        """An input that is read as it is."""
        low, high = (np.full(channels, bound, np.float32) for bound in (_INT16.min, _INT16.max))
        return cls(name, np.ones(channels, np.float32), low, high)

    @property
    def channels(self) -> int:
        return len(self.scale)


@dataclass(frozen=True)
class View:
    """Channels of a tensor, of every `stride`-th row and column."""

    tensor: int
    first: int
    channels: int
    stride: int = 1
    row: int = 0
    column: int = 0


@dataclass
class IntegerGraph:
    """`readings`, then `layers`, are the tensors that sources and views count; `outputs` by name: views, one after the
    other."""

    readings: list[Reading] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    outputs: dict[str, tuple[View, ...]] = field(default_factory=dict)

    def net(self, values: Mapping[str, float], threads: int, kernel: str | None) -> IntegerNet:
        """The network, ready to run. `values`: outputs that are returned as arrays, and what they are multiplied by;
        `kernel`: one of `_native.dots_kernels()`, None for the fastest. Raises ValueError for a network that cannot be
        computed exactly, KernelError for an unknown kernel."""
        return IntegerNet(
            [(reading.scale, reading.low, reading.high, reading.rate) for reading in self.readings],
            [
                (
                    [(term.source, term.weights, term.above, term.before, term.stride) for term in layer.terms],
                    layer.bias,
                    layer.shift,
                    layer.low,
                    layer.high,
                    layer.leak,
                    layer.shuffle,
                    [(skip.source, skip.shift) for skip in layer.skips],
                    layer.gate,
                )
                for layer in self.layers
            ],
            [
                (
                    [(v.tensor, v.first, v.channels, v.stride, v.row, v.column) for v in views],
                    values.get(name),
                )
                for name, views in self.outputs.items()
            ],
            threads,
            kernel,
        )
