"""Levels of a bundle as one file of integers, for the codec without Python: docs/model-file.md is the normative text.

A bundle says how networks become integers; a packed model holds the integers, for each quality step. So whatever reads
it needs neither ONNX nor arithmetic in floating point but the scaling of what the networks read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime.bundle import Bundle
from basic_runtime.engines.entropy_graph import entropy_graph
from basic_runtime.engines.fixed_point import PIXEL_BITS, FixedPoint
from basic_runtime.engines.integer_net import IntegerGraph, Layer, Reading, Term, View
from basic_runtime.engines.onnx_file import read_graph
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.errors import BundleError
from basic_runtime.manifest import EntropySpec

SIGNATURE = b"\x89BSM\r\n\x1a\n"
VERSION = 1
NOTHING = 0xFFFFFFFF
"""In place of the number of an array, a factor, a gate or a g_s that is not there."""

_KINDS = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float16, np.float64)
_TYPES = {np.dtype(kind): code for code, kind in enumerate(_KINDS)}


def packed_model(
    bundle: Bundle, levels: Sequence[int], sources: Sequence[int], *, earlier: bool = False, encoders: bool = False
) -> bytes:
    """A file that decodes at `levels`, files that were made at the levels `sources`; with `earlier` also all files of
    the earlier models that the bundle knows. With `encoders` it encodes at `levels`, too.

    Raises ValueError for a level that the bundle has not, BundleError for one that it does not say how to compute in
    integers.
    """
    pack = _Pack(bundle)
    pack.coder()
    variants = {bundle.level(level).entropy_variant for level in (*sources, *(levels if encoders else ()))}
    pack.variants(range(len(bundle.manifest.entropy_variants)) if earlier else sorted(variants))
    pack.syntheses(sorted(set(levels)), earlier)
    pack.encoders(sorted(set(levels)) if encoders else ())
    body = pack.body()
    return SIGNATURE + struct.pack("<II", VERSION, zlib.crc32(body)) + body


@dataclass
class _Numbered:
    """Byte strings, each once, by the numbers of their first appearance."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def of(self, record: bytes) -> int:
        return self.numbers.setdefault(record, len(self.numbers))

    @property
    def packed(self) -> bytes:
        return struct.pack("<I", len(self.numbers)) + b"".join(self.numbers)


class _Pack:
    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._path = bundle, PixelPath(bundle)
        self._arrays, self._layers = _Numbered(), _Numbered()
        self._parts = [self._head()]

    def body(self) -> bytes:
        """Arrays and layers come first: what follows counts them."""
        return b"".join([self._arrays.packed, self._layers.packed, *self._parts])

    def _head(self) -> bytes:
        manifest = self._bundle.manifest
        numbers = struct.pack(
            "<4sBIHHHHB",
            bytes.fromhex(manifest.model_id),
            manifest.mean_bits,
            manifest.z_amax,
            manifest.y_channels,
            manifest.z_channels,
            manifest.y_stride,
            manifest.z_stride,
            manifest.quality_steps,
        )
        return _text(manifest.model_name) + numbers

    def coder(self) -> None:
        """The tables of the entropy coder."""
        freqs, sizes, offsets, shifts = self._bundle.coder_rows
        tables = (freqs, sizes, offsets, shifts, self._bundle.index_lut)
        self._add(struct.pack("<5I", *map(self._array, tables)))

    def variants(self, numbers: Sequence[int]) -> None:
        """Entropy variants: h_s and the stages."""
        self._add(_count(numbers), *(self._variant(number, self._bundle.entropy(number)) for number in numbers))

    def _variant(self, number: int, spec: EntropySpec) -> bytes:
        nets = [self._entropy_net(graph) for graph in spec.graphs]
        stages = [
            _count(stage.slots) + b"".join(struct.pack("<3B", *slot) for slot in stage.slots) + net
            for stage, net in zip(spec.stages, nets[1:], strict=True)
        ]
        head = struct.pack("<3B", number, spec.tile, spec.channel_groups)
        return b"".join([head, nets[0], _count(stages), *stages])

    def _entropy_net(self, graph: str) -> bytes:
        bundle = self._bundle
        try:
            return self._net(entropy_graph(read_graph(bundle.graph_path(graph), bundle.weights_folder)))
        except (ValueError, OSError) as error:
            raise BundleError(
                f"{bundle.graph_path(graph)}: cannot be packed ({error}): export the bundle again"
            ) from error

    def syntheses(self, levels: Sequence[int], earlier: bool) -> None:
        """The g_s of levels, and which of them a level has, in this model and in earlier ones."""
        here = [level.g_s for level in self._bundle.manifest.levels]
        before = self._bundle.manifest.earlier
        packed = [here, *(model.synthesis for model in before.values())] if earlier else [here]
        graphs = list(dict.fromkeys(model[level] for model in packed for level in levels))
        self._add(_count(graphs), *map(self._synthesis, graphs))
        self._add(_by_level(here, graphs, levels))
        self._add(_count(before))
        for model_id, model in sorted(before.items()):
            self._add(bytes.fromhex(model_id), bytes([model.filtered]), _by_level(model.synthesis, graphs, levels))

    def _synthesis(self, graph: str) -> bytes:
        bundle, networks = self._bundle, self._networks(graph)
        steps = range(len(networks))
        filters = [self._filter([bundle.post_filter(graph, step, gray) for step in steps]) for gray in (False, True)]
        head = struct.pack("<HBBII", bundle.graph(graph).reach, _shuffle(networks), PIXEL_BITS, *filters)
        return head + b"".join(self._net(network.integers) for network in networks)

    def encoders(self, levels: Sequence[int]) -> None:
        """What encodes at levels, and what a bit is worth."""
        bundle = self._bundle
        steps = range(bundle.manifest.quality_steps)
        known = bundle.manifest.lambdas is not None
        worth = self._array(np.array([bundle.lambda_of(step) for step in steps])) if known and levels else NOTHING
        self._add(struct.pack("<I", worth), _count(levels), *map(self._encoder, levels))

    def _encoder(self, level: int) -> bytes:
        spec = self._bundle.level(level)
        analysis, hyper = self._networks(spec.g_a), self._networks(spec.h_a)
        (patch,) = {network.patch for network in analysis}
        assert patch is not None
        head = struct.pack("<BBHB", level, spec.entropy_variant, self._bundle.graph(spec.g_a).reach, patch)
        nets = [self._net(network.integers, scaled=True) for network in analysis]
        return b"".join([head, *nets, *(self._net(network.integers) for network in hyper)])

    def _networks(self, graph: str) -> list[FixedPoint]:
        """A graph of the pixel path at all quality steps."""
        bundle, spec = self._bundle, self._bundle.graph(graph)
        if spec.formats is None or spec.reach is None:
            raise BundleError(f"{bundle.path}: does not say how {spec.transform} is in integers: export it again")
        return [self._path.network(graph, step) for step in range(bundle.manifest.quality_steps)]

    def _filter(self, weights: Sequence[NDArray[np.int8] | None]) -> int:
        known = [values.ravel() for values in weights if values is not None]
        return self._array(np.stack(known)) if known else NOTHING

    def _net(self, graph: IntegerGraph, *, scaled: bool = False) -> bytes:
        """A network; `scaled`: the weights of its outputs differ from one quality to the next by factors."""
        readings = [self._reading(reading) for reading in graph.readings]
        sums = _summed(graph) if scaled else set()
        records = [self._layer(layer, number in sums) for number, layer in enumerate(graph.layers)]
        layers = [struct.pack("<I", self._layers.of(record)) for record in records]
        outputs = [_text(name) + _count(views) + b"".join(map(_view, views)) for name, views in graph.outputs.items()]
        return b"".join(part for parts in (readings, layers, outputs) for part in (_count(parts), *parts))

    def _reading(self, reading: Reading) -> bytes:
        arrays = map(self._array, (reading.scale, reading.low, reading.high))
        return _text(reading.name) + struct.pack("<3IB", *arrays, reading.rate)

    def _layer(self, layer: Layer, scaled: bool) -> bytes:
        terms = [self._term(term, scaled) for term in layer.terms]
        skips = [struct.pack("<HI", skip.source, self._array(skip.shift)) for skip in layer.skips]
        arrays = map(self._array, (layer.bias, layer.shift, layer.low, layer.high))
        gate = NOTHING if layer.gate is None else layer.gate
        rest = struct.pack("<4I2BI", *arrays, layer.leak, layer.shuffle, gate)
        return b"".join([_count(terms), *terms, _count(skips), *skips, rest])

    def _term(self, term: Term, scaled: bool) -> bytes:
        if not scaled:
            weights, factor = self._array(term.weights), NOTHING
        else:
            assert term.scaling is not None
            half = term.scaling.weights.astype(np.float16)
            if not np.array_equal(half, term.scaling.weights):
                raise BundleError(f"{self._bundle.path}: weights of g_a are no float16: export it again")
            weights, factor = self._array(half), self._array(term.scaling.factor)
        shape = term.weights.shape[2:]
        return struct.pack("<H2H3B2I", term.source, *shape, term.above, term.before, term.stride, weights, factor)

    def _array(self, values: NDArray[Any]) -> int:
        """The number of an array: integers take one byte each where all of them fit."""
        flat = np.ascontiguousarray(values).ravel()
        if flat.dtype in (np.int16, np.int32) and flat.size and flat.min() >= -128 and flat.max() <= 127:
            flat = flat.astype(np.int8)
        record = struct.pack("<BI", _TYPES[flat.dtype], flat.size)
        return self._arrays.of(record + flat.astype(flat.dtype.newbyteorder("<")).tobytes())

    def _add(self, *parts: bytes) -> None:
        self._parts.extend(parts)


def _summed(graph: IntegerGraph) -> set[int]:
    """The layers that outputs are, and those that are added to these."""
    first = len(graph.readings)
    found = {view.tensor - first for views in graph.outputs.values() for view in views}
    while more := {skip.source - first for number in found for skip in graph.layers[number].skips} - found:
        found |= more
    return found


def _shuffle(networks: Iterable[FixedPoint]) -> int:
    (shuffle,) = {network.shuffle for network in networks}
    return shuffle


def _by_level(graphs: Sequence[str], known: Sequence[str], levels: Sequence[int]) -> bytes:
    """For each level the number of its g_s, or `NOTHING`."""
    numbers = [
        known.index(graph) if level in levels and graph in known else NOTHING for level, graph in enumerate(graphs)
    ]
    return _count(numbers) + struct.pack(f"<{len(numbers)}I", *numbers)


def _view(view: View) -> bytes:
    return struct.pack("<3H3B", view.tensor, view.first, view.channels, view.stride, view.row, view.column)


def _count(items: Any) -> bytes:
    return struct.pack("<H", len(items))


def _text(text: str) -> bytes:
    data = text.encode("ascii")
    return bytes([len(data)]) + data
