"""ONNX graphs of the pixel path: g_a, h_a and g_s at one width, through PyTorch's exporter.

All widths of a transform are prefix slices of one supernet tensor. Convolution weights are stored once, at
full width and as float16; each graph slices them, and engines fold that when they load it.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from basic_export.errors import ExportError
from basic_export.graphs import OPSET, canonical, initializers, name_sides, slice_of
from basic_export.shaping import ShapedAnalysis, ShapedSynthesis, shaped
from basic_train.model.cost import macs_per_pixel
from basic_train.model.gdn import PlainGDN
from basic_train.model.linear import PlainAnalysis, PlainSynthesis
from basic_train.model.supernet import Z_STRIDE, Supernet

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSFORMS = ("g_a", "h_a", "g_s")


class Analysis(nn.Module):
    """g_a with its quality gain: x (1, 3, H, W) in [0, 1], gain (1, M, 1, 1) to y (1, M, H/16, W/16)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        if isinstance(self.body, (PlainAnalysis, ShapedAnalysis)):
            return self.body(x, gain)
        return self.body(x) * gain


class HyperAnalysis(nn.Module):
    """h_a: y (1, M, h, w) to z (1, Cz, h/4, w/4), not rounded."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, y: Tensor) -> Tensor:
        return self.body(y)


class Synthesis(nn.Module):
    """g_s with its quality gain: y (1, M, h, w), gain (1, M, 1, 1) to x (1, 3, 16h, 16w), not clamped."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        if isinstance(self.body, (PlainSynthesis, ShapedSynthesis)):
            return self.body(y, gain)
        return self.body(y * gain)


@dataclass(frozen=True)
class _Signature:
    module: type[nn.Module]
    inputs: tuple[str, ...]
    output: str
    sides: dict[str, tuple[str, str]]


_Y_SIDES, _X_SIDES = ("y_height", "y_width"), ("height", "width")
_SIGNATURES = {
    "g_a": _Signature(Analysis, ("x", "gain"), "y", {"x": _X_SIDES, "y": _Y_SIDES}),
    "h_a": _Signature(HyperAnalysis, ("y",), "z", {"y": _Y_SIDES, "z": ("z_height", "z_width")}),
    "g_s": _Signature(Synthesis, ("y", "gain"), "xhat", {"y": _Y_SIDES, "xhat": _X_SIDES}),
}


@dataclass(frozen=True)
class PixelExport:
    """A transform at one width.

    `module` computes in PyTorch what `model` does, with the same rounded weights and in the same form (`shaping`);
    `exact` is the transform as it was trained, but for units that were pruned. macs_per_pixel counts per pixel of the
    picture.
    """

    transform: str
    index: int
    width: int
    model: ModelProto
    module: nn.Module
    exact: nn.Module
    macs_per_pixel: float
    inputs: tuple[str, ...]
    output: str


def export_pixel(net: Supernet, transform: str, index: int) -> PixelExport:
    """The graph of "g_a", "h_a" or "g_s" at a width index, with inline weights.

    Raises ExportError for weights outside float16's range.
    """
    signature = _SIGNATURES[transform]
    body: nn.Module = getattr(net, transform)
    exact, rounded = (signature.module(form(body.plain(index))).eval() for form in (nn.Identity(), shaped))
    widest = signature.module(shaped(body.plain(len(net.config.widths) - 1)))
    shared = _shared_weights(widest, rounded)
    with torch.no_grad():
        for name, full in shared.items():
            parameter = rounded.get_parameter(name)
            parameter.copy_(torch.from_numpy(_prefix(full, parameter.shape).astype(np.float32)))
    model = canonical(_to_onnx(rounded, signature, net.config.y_channels), transform)
    name_sides(model, signature.sides)
    _share(model, shared)
    return PixelExport(
        transform,
        index,
        net.config.channels(transform, index),
        model,
        rounded,
        exact,
        macs_per_pixel(net, net.uniform(index))[transform],
        signature.inputs,
        signature.output,
    )


def _shared_weights(widest: nn.Module, narrow: nn.Module) -> dict[str, np.ndarray]:
    """Parameters of a transform that are prefix slices of those at full width: {name: full tensor}.

    Filters are float16, vectors (biases) stay float32: they are few, and shift whole channels. So do the constants of
    GDN, whose range is that of squares; they belong to one width.
    """
    full = {name: parameter.detach().numpy() for name, parameter in widest.named_parameters()}
    norms = [part for part in narrow.modules() if isinstance(part, PlainGDN)]
    own = {id(parameter) for part in norms for parameter in part.parameters()}
    shared = {}
    for name, parameter in narrow.named_parameters():
        values = full[name]
        if id(parameter) not in own and np.array_equal(_prefix(values, parameter.shape), parameter.detach().numpy()):
            shared[name] = _half(values, name) if values.ndim > 1 else values
    return shared


def _prefix(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return values[tuple(slice(length) for length in shape)]


def _half(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"weight {name} has values outside the range of float16; the checkpoint looks diverged")
    return half


def _share(model: ModelProto, shared: dict[str, np.ndarray]) -> None:
    """Turn initialisers into slices of full tensors where the exporter kept them as they were."""
    for name, values in initializers(model).items():
        full = shared.get(name)
        if full is not None and np.array_equal(_prefix(full, values.shape).astype(np.float32), values):
            slice_of(model, name, full)


def _to_onnx(module: nn.Module, signature: _Signature, y_channels: int) -> ModelProto:
    dynamic = torch.export.Dim.DYNAMIC
    sides = {2: dynamic, 3: dynamic}
    # Sides are unequal and not of the smallest size, or the exporter would take them for constants or for
    # equal.
    examples = {
        "x": torch.zeros(1, 3, 2 * Z_STRIDE, 3 * Z_STRIDE),
        "y": torch.zeros(1, y_channels, 8, 12),
        "gain": torch.ones(1, y_channels, 1, 1),
    }
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(examples[name] for name in signature.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(signature.inputs),
            output_names=[signature.output],
            dynamic_shapes={name: {} if name == "gain" else sides for name in signature.inputs},
            verbose=False,
        )
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on optional packages and on its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
