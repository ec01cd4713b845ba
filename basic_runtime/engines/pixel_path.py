"""The pixel path in fixed point, by the C++ of this package: the same pixels everywhere (docs/fixed-point.md)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime._native import pixels_of_patches, take_patches
from basic_runtime.bundle import Bundle
from basic_runtime.engines.base import Advance, Phases, StreamEngine, TensorLike
from basic_runtime.engines.fixed_point import (
    LATENT_BITS,
    LATENTS,
    LIMIT,
    PICTURE,
    PIXEL_BITS,
    PIXELS,
    WIDE,
    FixedPoint,
    Format,
    fixed_point,
)
from basic_runtime.engines.native import NativeEngine, opening_errors
from basic_runtime.engines.onnx_file import read_graph
from basic_runtime.engines.pixel_graph import PixelGraph, pixel_graph
from basic_runtime.errors import EngineError
from basic_runtime.manifest import FormatsSpec
from basic_runtime.threads import ProcessLock

if TYPE_CHECKING:
    from basic_runtime.engines.pixel_gradient import GradientEngine

GAIN = "gain"

_KEPT_BYTES = 64 << 20
"""Weights of networks that are kept, of which each is for one quality."""


class PixelEngine(StreamEngine):
    """A graph of the pixel path, or a part of one, at one quality. It reads x as float32 in [0, 1] or uint8, of which
    255 is white, and gives xhat as uint8."""

    def __init__(self, network: FixedPoint, threads: int) -> None:
        self._net = NativeEngine(network.integers, threads, values=dict.fromkeys(LATENTS, 2.0**-LATENT_BITS))
        self._patch, self._shuffle, self._threads = network.patch, network.shuffle, threads
        self.weight_bytes = self._net.weight_bytes
        self.inputs, self.outputs = tuple(dict.fromkeys(self._net.inputs)), self._net.outputs

    def run(self, inputs: Mapping[str, TensorLike | Phases]) -> dict[str, TensorLike]:
        return self._written(self._net.run(self._given(inputs)))

    def stream(self) -> Advance:
        advance = self._net.stream()
        return lambda inputs, last: self._written(advance(self._given(inputs), last))

    def _given(self, inputs: Mapping[str, TensorLike | Phases]) -> dict[str, TensorLike | Phases]:
        """What the network reads."""
        given = {name: inputs[name] for name in self.inputs}
        if PICTURE in given:
            given[PICTURE] = self._read(np.asarray(given[PICTURE]))
        return given

    def _written(self, found: dict[str, Any]) -> dict[str, TensorLike]:
        """What the network gave, with pixels for patches."""
        if PIXELS in found:
            pixels = pixels_of_patches(found[PIXELS], self._shuffle, PIXEL_BITS, self._threads)
            found[PIXELS] = pixels.transpose(2, 0, 1)[None]
        return found

    def _read(self, picture: NDArray[Any]) -> NDArray[Any]:
        assert self._patch is not None
        values = picture[0].transpose(1, 2, 0)
        if values.dtype != np.uint8:
            values = np.clip(np.floor(values * np.float32(255) + np.float32(0.5)), 0, 255).astype(np.uint8)
        if values.strides[1:] != (3, 1):
            values = np.ascontiguousarray(values)
        try:
            return take_patches(values, self._patch, self._threads)
        except ValueError as error:
            raise EngineError(f"a picture of {values.shape[1]}x{values.shape[0]} is not read: {error}") from error


class PixelPath:
    """The graphs of the pixel path of a bundle, as networks for each quality that is asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._lock = ProcessLock()
        self._engines: OrderedDict[tuple[Any, ...], list[PixelEngine] | list[GradientEngine]] = OrderedDict()

    def has(self, graph: str) -> bool:
        """Whether the bundle says how to compute the graph in fixed point."""
        return self._bundle.graph(graph).formats is not None

    def has_gradient(self, graph: str) -> bool:
        """Whether the bundle says how to compute the graph, a g_s, there and back."""
        return self.has(graph) and self._bundle.graph(graph).gradient_formats is not None

    def engines(self, graph: str, quality_step: int, threads: int, *, parts: bool = False) -> Sequence[PixelEngine]:
        """The graph at a quality step: one engine, or one for each of its parts. Raises EngineError for a graph that is
        not of the kind that is known here."""
        key = graph, quality_step, threads, parts
        found: list[PixelEngine] = self._kept(key, lambda: self._load(graph, quality_step, threads, parts))
        return found

    def gradient(self, graph: str, quality_step: int, threads: int) -> GradientEngine:
        """A g_s at a quality step, there and back. Raises EngineError as `engines` does."""
        key = graph, quality_step, threads, "gradient"
        found: list[GradientEngine] = self._kept(key, lambda: [self._load_gradient(graph, quality_step, threads)])
        return found[0]

    def _kept(self, key: tuple[Any, ...], load: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._engines:
                self._engines[key] = load()
                while len(self._engines) > 1 and self._bytes() > _KEPT_BYTES:
                    self._engines.popitem(last=False)
            self._engines.move_to_end(key)
            return self._engines[key]

    def _bytes(self) -> int:
        return sum(engine.weight_bytes for engines in self._engines.values() for engine in engines)

    def _gain(self, graph: str, quality_step: int) -> NDArray[np.float32] | None:
        pick: dict[str, Callable[[int], NDArray[np.float32]]] = {
            "g_a": self._bundle.encode_gain,
            "g_s": self._bundle.decode_gain,
        }
        transform = self._bundle.graph(graph).transform
        return pick[transform](quality_step) if transform in pick else None

    def _load(self, graph: str, quality_step: int, threads: int, parts: bool) -> list[PixelEngine]:
        spec = self._bundle.graph(graph)
        given: dict[str, Format] = {}
        engines: list[PixelEngine] = []
        names = [part.id for part in spec.parts.graphs] if parts and spec.parts is not None else [graph]
        for name in names:
            network = self.network(graph, quality_step, name, given)
            with self._errors_of(name):
                engines.append(PixelEngine(network, threads))
            given |= network.output_formats
        return engines

    def network(
        self, graph: str, quality_step: int, part: str | None = None, given: Mapping[str, Format] | None = None
    ) -> FixedPoint:
        """The integers of a graph at a quality step, or of a part of it that reads tensors in the formats `given`.
        Raises EngineError as `engines` does."""
        formats = self._bundle.graph(graph).formats
        assert formats is not None
        with self._errors_of(part or graph):
            lowered = self.lowered(graph, quality_step, part)
            return fixed_point(lowered, formats_at(formats, quality_step), given or {})

    def _load_gradient(self, graph: str, quality_step: int, threads: int) -> GradientEngine:
        from basic_runtime.engines.pixel_gradient import GradientEngine  # not at the top: most commands do without

        spec = self._bundle.graph(graph)
        assert spec.formats is not None and spec.gradient_formats is not None
        with self._errors_of(graph):
            lowered = self.lowered(graph, quality_step)
            formats, back = (formats_at(given, quality_step) for given in (spec.formats, spec.gradient_formats))
            return GradientEngine(lowered, formats, back, threads)

    @contextmanager
    def _errors_of(self, graph: str) -> Iterator[None]:
        path = self._bundle.graph_path(graph)
        try:
            with opening_errors(path):
                yield
        except ValueError as error:
            raise EngineError(f"{path}: not in fixed point: {error}") from error

    def lowered(self, graph: str, quality_step: int, part: str | None = None) -> PixelGraph:
        """A graph at a quality step, or a part of it, taken apart. Raises ValueError or OSError."""
        file = read_graph(self._bundle.graph_path(part or graph), self._bundle.weights_folder)
        gain = self._gain(graph, quality_step)
        return pixel_graph(file, self._input_strides(graph), {} if gain is None else {GAIN: gain})

    def _input_strides(self, graph: str) -> dict[str, int]:
        """Rows of the picture for each row of what the graph, or a part of it, may read."""
        given, parts = {"x": 1, "y": self._bundle.manifest.y_stride}, self._bundle.graph(graph).parts
        return given | (parts.strides if parts is not None else {})


def formats_at(spec: FormatsSpec, quality_step: int) -> dict[str, Format]:
    """The formats at a quality step: between two that are stated, bits that are safe for both."""
    return {
        key: Format(_between(spec.steps, values, quality_step), WIDE if key in spec.wide else LIMIT)
        for key, values in spec.bits.items()
    }


def _between(steps: Sequence[int], values: Sequence[int], quality_step: int) -> int:
    below = max((k for k, known in enumerate(steps) if known <= quality_step), default=0)
    above = min((k for k, known in enumerate(steps) if known >= quality_step), default=len(steps) - 1)
    return min(values[below], values[above])
