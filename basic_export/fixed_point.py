"""Chooses the fixed-point formats of the pixel path from the values that its tensors take on pictures.

Graphs run in float32 on photos and on synthetic pictures (noise, black and white), at several qualities. A tensor gets
as many fractional bits as its largest value allows; noise makes that about twice as large as photos do. Larger values
are clamped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from basic_export.graphs import load_inline
from basic_export.photos import extremes
from basic_runtime.bundle import Bundle
from basic_runtime.engines.fixed_point import LATENTS, LIMIT, PICTURE, PIXELS, WIDE, Format, fixed_point
from basic_runtime.engines.onnxruntime import onnxruntime
from basic_runtime.engines.pixel_graph import Input, Layer, NotPixelGraphError, PixelGraph
from basic_runtime.engines.pixel_path import GAIN, PixelPath
from basic_runtime.manifest import LevelSpec

STEPS = (0, 9, 18, 27, 36, 45, 54, 63)
"""Quality steps at which formats are found: tensors grow by half a bit from one to the next."""

QUIET = 1 / 8
"""A tensor's largest value counts as at least this share of the largest that goes into it: other pictures may activate
elements that none of these does."""

LEAST = 2.0**-10
"""What the largest value of a tensor is taken for at least."""

SIDE = 320
"""Of the photos, at most so many rows and columns count."""

Tensors = dict[str, NDArray[np.float32]]


def formats_of(
    bundle: Bundle, photos: Sequence[NDArray[np.uint8]], graphs: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """For each graph of the pixel path that can be computed in fixed point, by its id, the manifest's "formats".

    photos: uint8 (H, W, 3), their sides multiples of the bundle's z_stride once cropped to `SIDE`; graphs: ids, if only
    these are asked for.
    """
    path, found = PixelPath(bundle), {}
    pictures = calibration_pictures(bundle, photos)
    for level in bundle.manifest.levels:
        for graph in (level.g_a, level.h_a, level.g_s):
            if graph not in found and (graphs is None or graph in graphs):
                try:
                    found[graph] = _formats(bundle, path, graph, level, pictures)
                except NotPixelGraphError:
                    found[graph] = {}
    return {graph: formats for graph, formats in found.items() if formats}


def calibration_pictures(bundle: Bundle, photos: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """Photos and synthetic pictures as g_a reads them."""
    return [_planes(picture, bundle.manifest.z_stride) for picture in (*photos, *extremes())]


def _formats(
    bundle: Bundle, path: PixelPath, graph: str, level: LevelSpec, pictures: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    bits: dict[str, list[int]] = {}
    wide: list[str] = []
    for step in STEPS:
        lowered = path.lowered(graph, step)
        largest = _largest(bundle, graph, lowered, inputs_of(bundle, graph, level, step, pictures))
        read = {lowered.tensors[c.source].key for layer in _layers(lowered) for c in layer.convolutions}
        wide = sorted(key for key in largest if key not in read)
        formats = {
            key: Format(bits_of(value, WIDE if key in wide else LIMIT), WIDE if key in wide else LIMIT)
            for key, value in largest.items()
        }
        fixed_point(lowered, formats, {})  # raises NotPixelGraphError where sums have too few bits
        for key, kept in formats.items():
            bits.setdefault(key, []).append(kept.bits)
    return {"steps": list(STEPS), "bits": bits, "wide": wide}


def _layers(graph: PixelGraph) -> Iterator[Layer]:
    return (tensor for tensor in graph.tensors if isinstance(tensor, Layer))


def bits_of(largest: float, limit: int) -> int:
    """The most fractional bits with which a value is no larger than `limit`."""
    return int(np.floor(np.log2(limit / largest)))


def _largest(bundle: Bundle, graph: str, lowered: PixelGraph, inputs: Iterator[Tensors]) -> dict[str, float]:
    """The largest absolute value of each tensor by its key, but for those whose format is always the same."""
    results = {number for name, (number, _) in lowered.outputs.items() if name in (*LATENTS, PIXELS)}
    tensors = {
        k: tensor
        for k, tensor in enumerate(lowered.tensors)
        if k not in results and not (isinstance(tensor, Input) and tensor.name == PICTURE)
    }
    run = _Session(bundle, graph, [tensor.value for tensor in tensors.values()])
    found: dict[str, float] = {}
    for given in inputs:
        values = given | run(given)
        for tensor in tensors.values():
            found[tensor.key] = max(found.get(tensor.key, 0.0), float(np.abs(values[tensor.value]).max()))
    for tensor in tensors.values():
        read = () if isinstance(tensor, Input) else tensor.convolutions
        sources = [found[tensors[c.source].key] for c in read if c.source in tensors]
        found[tensor.key] = max(found[tensor.key], QUIET * max(sources, default=0.0), LEAST)
    return found


class _Session:
    """A graph of a bundle on ONNX Runtime, with results of its inner operations."""

    def __init__(self, bundle: Bundle, graph: str, values: Sequence[str] = ()) -> None:
        ort = onnxruntime()
        model = load_inline(bundle.graph_path(graph), bundle.weights_folder)
        known = {value.name for value in (*model.graph.input, *model.graph.output)}
        for name in dict.fromkeys(values):
            if name not in known:
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        self._session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in model.graph.input]
        self._outputs = [value.name for value in model.graph.output]

    def __call__(self, given: Tensors) -> Tensors:
        found = self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))


def inputs_of(
    bundle: Bundle, graph: str, level: LevelSpec, step: int, pictures: Sequence[NDArray[np.float32]]
) -> Iterator[Tensors]:
    """What the graph reads of each picture at this level and quality step."""
    encode, decode = bundle.encode_gain(step), bundle.decode_gain(step)
    transform = bundle.graph(graph).transform
    g_a = None if transform == "g_a" else _Session(bundle, level.g_a)
    for x in pictures:
        if g_a is None:
            yield {"x": x, GAIN: encode}
            continue
        y = g_a({"x": x, GAIN: encode})["y"]
        yield {"y": y} if transform == "h_a" else {"y": np.round(y), GAIN: decode}


def _planes(picture: NDArray[np.uint8], unit: int) -> NDArray[np.float32]:
    """The middle of a picture as g_a reads it, its edges repeated to whole units."""
    height, width = (min(side, SIDE) for side in picture.shape[:2])
    top, left = ((side - part) // 2 for side, part in zip(picture.shape[:2], (height, width), strict=True))
    part = picture[top : top + height, left : left + width]
    below, beside = -height % unit, -width % unit
    part = np.pad(part, ((0, below), (0, beside), (0, 0)), mode="edge")
    return np.ascontiguousarray((part.astype(np.float32) * np.float32(1 / 255)).transpose(2, 0, 1)[None])
