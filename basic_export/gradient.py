"""Chooses the fixed-point formats of a g_s's way back, from the picture's error to the latents
(`basic_runtime.engines.pixel_gradient`): by the values that its tensors take on pictures, as `fixed_point` does for the
way there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from basic_export.fixed_point import LEAST, STEPS, bits_of, calibration_pictures, inputs_of
from basic_runtime.bundle import Bundle
from basic_runtime.engines.fixed_point import LIMIT, PIXELS, WIDE, Format
from basic_runtime.engines.pixel_gradient import ERROR, GRADIENT, GradientEngine, adjoint
from basic_runtime.engines.pixel_graph import Input, Layer, NotPixelGraphError, PixelGraph
from basic_runtime.engines.pixel_path import PixelPath, formats_at
from basic_runtime.manifest import LevelSpec

HEADROOM = 2.0
"""Room above the largest value that was seen, as errors of latents that are moved are larger; there are bits enough."""


def gradient_formats_of(
    bundle: Bundle, photos: Sequence[NDArray[np.uint8]], graphs: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """For each g_s whose way back can be computed in fixed point, by its id, the manifest's "gradient_formats".

    The bundle must state the formats of the way there; photos and graphs: as of `formats_of`.
    """
    path, found = PixelPath(bundle), {}
    pictures = calibration_pictures(bundle, photos[::2])  # it is noise and chessboards that are farthest off
    for level in bundle.manifest.levels:
        if level.g_s not in found and path.has(level.g_s) and (graphs is None or level.g_s in graphs):
            try:
                found[level.g_s] = _formats(bundle, path, level, pictures)
            except NotPixelGraphError:
                found[level.g_s] = {}
    return {graph: formats for graph, formats in found.items() if formats}


@torch.no_grad()
def _formats(
    bundle: Bundle, path: PixelPath, level: LevelSpec, pictures: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    spec = bundle.graph(level.g_s)
    assert spec.formats is not None
    bits: dict[str, list[int]] = {}
    for step in STEPS:
        there = path.lowered(level.g_s, step)
        back = adjoint(there)
        largest: dict[str, float] = {}
        for x, given in zip(pictures, inputs_of(bundle, level.g_s, level, step, pictures), strict=True):
            for key, values in _way_back(there, back, torch.from_numpy(given["y"]), torch.from_numpy(x)).items():
                largest[key] = max(largest.get(key, 0.0), float(values.abs().max()))
        formats: dict[str, Format] = {}
        for tensor in back.tensors:
            if isinstance(tensor, Layer):
                limit = WIDE if tensor.key == GRADIENT else LIMIT
                formats[tensor.key] = Format(bits_of(max(HEADROOM * largest[tensor.key], LEAST), limit), limit)
        GradientEngine(there, formats_at(spec.formats, step), formats, 1)  # raises NotPixelGraphError
        for key, kept in formats.items():
            bits.setdefault(key, []).append(kept.bits)
    return {"steps": list(STEPS), "bits": bits, "wide": [GRADIENT]}


def _way_back(there: PixelGraph, back: PixelGraph, y: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Tensors of the way back by their keys, of latents and the picture that they shall become."""
    values = _computed(there, {"y": y})
    picture, size = there.outputs[PIXELS]
    error = 255 * (values[picture].clamp(0, 1) - functional.pixel_unshuffle(x, size))
    keys = {tensor.key: value for tensor, value in zip(there.tensors, values, strict=True)}
    found = _computed(back, keys | {ERROR: error})
    return {tensor.key: value for tensor, value in zip(back.tensors, found, strict=True)}


def _computed(graph: PixelGraph, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """All tensors of a network, in float32."""
    found: list[Tensor] = []
    for tensor in graph.tensors:
        if isinstance(tensor, Input):
            found.append(inputs[tensor.name] * _per_channel(tensor.scale) + _per_channel(tensor.offset))
            continue
        total = _per_channel(tensor.bias) + sum(found[number] for number in tensor.skips)
        for c in tensor.convolutions:
            height, width = c.weights.shape[2:]
            pads = c.before, width - c.stride - c.before, c.above, height - c.stride - c.above
            weights = torch.from_numpy(c.weights * c.scale[:, None, None, None].astype(np.float32))
            total = total + functional.conv2d(functional.pad(found[c.source], pads), weights, stride=c.stride)
        if tensor.relu:
            total = total.relu()
        if tensor.gate is not None:
            total = total * (found[tensor.gate] > 0)
        found.append(functional.pixel_shuffle(total, tensor.shuffle) if tensor.shuffle > 1 else total)
    return found


def _per_channel(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None]
