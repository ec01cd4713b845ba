"""The interface between the codec and the engines that run its graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from basic_runtime.threads import checked_threads

FloatArray = NDArray[np.float32]
DeviceTimes = Callable[[], dict[str, float]]
"""Seconds of GPU time by kind, "compute" and "transfer", since the last call."""

FLOAT32, BF16, INT16 = "float32", "bf16", "int16"

INDEX = "index"
"""An output that engines of stages may have beside those of their graph, to send less from a device to the host: uint8
(1, C, h, w), the row of the coder's tables for each scale."""


class TensorLike(Protocol):
    """A tensor, or what stands in for one that lies elsewhere: `np.asarray` fetches its values, at no cost if it is an
    array already."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __array__(self) -> NDArray[Any]: ...


class Phases(NamedTuple):
    """A tensor (1, C, h, w) in parts, float32 or int16, for engines that take integers.

    `parts`: arrays (1, c, a, b), each with its first channel, row and column of the tensor, of which it has every
    `stride`-th row and column from there on; `unit`: what values are multiplied by.
    """

    parts: list[tuple[NDArray[Any], int, int, int]]
    stride: int
    unit: float


class Engine(ABC):
    """One graph made runnable. Tensors are float32, C-contiguous, of shape (1, channels, height, width).

    An engine that computes on a device may return stand-ins for arrays, and takes them as inputs.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def run(self, inputs: Mapping[str, TensorLike]) -> dict[str, TensorLike]:
        """Run the graph and return its outputs by name; `inputs` must hold every name of `self.inputs`."""

    def layer_times(self) -> dict[str, float]:
        """Milliseconds of each layer, by name, in a repetition of this thread's last run; {} if it cannot tell."""
        return {}


class IntegerEngine(Engine):
    """An engine that takes inputs as they are kept, integers as int16, pixels as uint8 and latents as `Phases`, and
    gives such outputs."""

    @abstractmethod
    def run(self, inputs: Mapping[str, TensorLike | Phases]) -> dict[str, TensorLike]:
        """Run the graph, as `Engine.run` does."""


Advance = Callable[[Mapping[str, TensorLike | Phases], bool], dict[str, TensorLike]]
"""Given the next rows of all inputs, and whether they are the last, returns the next rows of each output, which may be
none: as many of each as are known of all."""


class StreamEngine(IntegerEngine):
    """An engine that can run over the rows of a picture and keep what later rows need of earlier ones."""

    @abstractmethod
    def stream(self) -> Advance:
        """Begin a run from the first rows on; all rows together give what `run` gives."""


def package_version(*names: str) -> str | None:
    """Version of the first of these packages that is installed, None if none is: importing a library to ask it takes
    as long as many pictures."""
    from importlib.metadata import PackageNotFoundError, version  # which takes 16 ms

    for name in names:
        with suppress(PackageNotFoundError):
            return version(name)
    return None


class Backend(ABC):
    """A library that loads ONNX graphs as engines.

    `threads` is the number of threads one run may use, None for the library's own choice; `precision`, one of the
    back-end's `precisions`, is that of graphs which are not loaded as strict, None the first of them. In int16 the
    codec takes the graphs of the pixel path, where their bundle says how, from `pixel_path` instead.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Names of the Python packages of which each brings its library."""
    precisions: ClassVar[tuple[str, ...]] = (FLOAT32,)
    native_entropy: bool = False
    """Whether the codec takes the graphs of the entropy path, where it can, from `native` instead of from this
    back-end: set it to False to see the library's own results."""
    entropy_fallback: ClassVar[str | None] = None
    """The back-end that runs the entropy path where this one does not compute it exactly; None: nothing does."""

    def __init__(self, threads: int | None = None, precision: str | None = None) -> None:
        self.threads = checked_threads(threads)
        self.precision = precision or self.precisions[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickling makes a new back-end from the same arguments."""
        return partial(type(self), **self._arguments()), (), {"native_entropy": self.native_entropy}

    def _arguments(self) -> dict[str, Any]:
        """The arguments that make another one; classes of a single precision take none."""
        precision = {} if len(self.precisions) == 1 else {"precision": self.precision}
        return {"threads": self.threads} | precision

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the library, part of the key under which golden checks are remembered."""

    @classmethod
    @abstractmethod
    def available(cls) -> bool:
        """Whether the library is installed and can run here. Never raises."""

    @abstractmethod
    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        """Load the ONNX file `model`, whose external tensors lie in the folder `external_data`.

        `strict` asks for true float32 sums: the integers of the entropy path are exact in nothing less.
        Raises EngineError if the library refuses the graph.
        """

    def side_by_side(self) -> tuple[Backend, int]:
        """A back-end whose engines are for tiles that run side by side, and how many may: this one, and one at a time,
        unless its library is faster otherwise."""
        return self, 1

    def settings(self) -> Any:
        """The rest of the configuration that can change results; part of the key of a golden check."""
        return None

    def engines_key(self, bundle: Path) -> str:
        """Names the engines that were built for the bundle in this folder ahead of time, if it uses such."""
        return ""

    def tile_limit(self, bundle: Path) -> int | None:
        """The largest side in pixels of a picture that engines of this bundle take in one piece, None for any."""
        return None

    def device_times(self) -> DeviceTimes | None:
        """Start to time the work of this thread on a device, as long as the result is kept; None for a back-end without
        a device."""
        return None
