"""The graphs of the entropy path in integers, by the C++ of this package instead of a library for neural networks.

The graphs and their results are those of every other back-end. But rounding needs no proof, as integers have none, and
products of int16 take half the time of those of float32.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime import __version__, _native
from basic_runtime._native import Plane, default_dots_kernel
from basic_runtime.bundle import Bundle
from basic_runtime.cache import contents
from basic_runtime.engines import constants, entropy_graph, integer_net, onnx_file
from basic_runtime.engines.base import Advance, Engine, Phases, StreamEngine, TensorLike
from basic_runtime.engines.integer_net import IntegerGraph
from basic_runtime.engines.onnx_file import read_graph
from basic_runtime.errors import EngineError
from basic_runtime.files import reason
from basic_runtime.threads import default_threads

VALUES = {"mean": 1.0, "scale": 1.0}
"""Outputs that are returned as arrays, and what they are multiplied by; others pass from graph to graph as `Plane`s."""


class NativeEngine(StreamEngine):
    """An integer network; runs may overlap from several threads."""

    def __init__(
        self, graph: IntegerGraph, threads: int, kernel: str | None = None, values: Mapping[str, float] = VALUES
    ) -> None:
        """`kernel`: one of `_native.dots_kernels()`, None for the fastest; `values`: the outputs that are arrays, and
        times what they are given."""
        self.inputs = tuple(reading.name for reading in graph.readings)
        self.outputs = tuple(graph.outputs)
        self._net = graph.net(values, threads, kernel)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the network's weights."""
        return self._net.bytes

    def run(self, inputs: Mapping[str, TensorLike | Phases]) -> dict[str, TensorLike]:
        return self._found(self._net.run, inputs)

    def stream(self) -> Advance:
        stream = self._net.stream()
        return lambda inputs, last: self._found(lambda values: stream.advance(values, last), inputs)

    def _found(
        self, work: Callable[[list[Any]], list[Any]], inputs: Mapping[str, TensorLike | Phases]
    ) -> dict[str, TensorLike]:
        values: list[Any] = [inputs[name] for name in self.inputs]
        try:
            found = work([value if isinstance(value, Plane | Phases) else _array(value) for value in values])
        except ValueError as error:
            raise EngineError(f"a network of integers could not run: {error}") from error
        return dict(zip(self.outputs, found, strict=True))


def _array(value: NDArray[Any]) -> NDArray[Any]:
    """The array as networks read it: int16 by channel or by position, or float32 by channel."""
    if value.ndim == 4:
        by_channel, by_position = value.strides[3] == value.itemsize, value.strides[1] == value.itemsize
        if (value.dtype == np.int16 and (by_channel or by_position)) or (value.dtype == np.float32 and by_channel):
            return value
    return np.ascontiguousarray(value, np.int16 if value.dtype == np.int16 else np.float32)


def load_native(
    model: Path, external_data: Path, threads: int | None = None, kernel: str | None = None
) -> NativeEngine:
    """The graph of an ONNX file as an integer network. Raises NotIntegerError, UnreadableError or another ValueError if
    it is none that is known here, OSError if it cannot be opened, KernelError for an unknown kernel."""
    graph = entropy_graph.entropy_graph(read_graph(model, external_data))
    return NativeEngine(graph, threads or default_threads(), kernel)


def native_engines(bundle: Bundle, variant: int, threads: int | None) -> dict[str, Engine] | None:
    """Engines of all graphs of an entropy variant, by id; None if one of them is unlike those that are known here,
    as in bundles of other exporters. Raises EngineError for a file that cannot be opened, and MemoryError."""
    engines: dict[str, Engine] = {}
    for name in bundle.entropy(variant).graphs:
        path = bundle.graph_path(name)
        try:
            with opening_errors(path):
                engines[name] = load_native(path, bundle.weights_folder, threads)
        except ValueError:
            return None
    return engines


@contextmanager
def opening_errors(path: Path) -> Iterator[None]:
    """What the system says when it does not open a graph or its weights, as MemoryError or EngineError: no engine of
    another library would do better."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        raise EngineError(f"{path}: cannot be read ({reason(error)})") from error


def native_version() -> str:
    """The name of this implementation with its kernels, as checks and messages state it."""
    return f"native {default_dots_kernel()}"


def native_key() -> list[str]:
    """`native_version`, and checksums of the code: what is remembered of one build says nothing of another."""
    code = [module.__file__ or "" for module in (_native, constants, entropy_graph, integer_net, onnx_file)]
    return [native_version(), __version__, *map(contents, [*code, __file__])]
