"""Compares the graphs of a written bundle with the model in PyTorch.

Graphs are loaded from the bundle's files by the runtime's own back-end, as a user's machine will load them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from basic_export.errors import ExportError
from basic_export.golden import slots_of
from basic_export.pixel import PixelExport
from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend, Engine
from basic_runtime.latent import slot_name
from basic_runtime.manifest import EntropySpec
from basic_train.model.coded import round_z, to_tensor
from basic_train.model.integer import IntegerEntropy
from basic_train.model.supernet import Supernet

#: Largest difference of y and z, as a share of the tensor's largest magnitude.
LATENT_TOLERANCE = 1e-4

#: Largest difference of the picture, in steps of an 8-bit value.
PICTURE_TOLERANCE = 0.1

#: Quality (0 to 1) at which the pixel path is compared: the finest, where errors of y weigh most.
QUALITY = 1.0


@dataclass(frozen=True)
class Check:
    """One graph compared with PyTorch: the largest difference in `unit`, and how much is tolerated."""

    graph: str
    transform: str
    width: int
    difference: float
    tolerance: float
    unit: str

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class HalfEffect:
    """What float16 weights change against the checkpoint's float32: largest and root mean square difference,
    of y and z in quantisation steps at the finest quality, of the picture in steps of an 8-bit value."""

    transform: str
    width: int
    largest: float
    rms: float


@dataclass(frozen=True)
class PixelInputs:
    """Real inputs of the pixel path: x (1, 3, H, W), y, rounded y, and the gains at `QUALITY`."""

    x: Tensor
    y: Tensor
    y_hat: Tensor
    encode_gain: Tensor
    decode_gain: Tensor

    def of(self, transform: str) -> tuple[Tensor, ...]:
        if transform == "g_a":
            return self.x, self.encode_gain
        return (self.y,) if transform == "h_a" else (self.y_hat, self.decode_gain)


@torch.no_grad()
def pixel_inputs(net: Supernet, photo: np.ndarray) -> PixelInputs:
    """Inputs of g_a, h_a and g_s from a photo uint8 (H, W, 3), by the widest g_a."""
    quality = torch.tensor([QUALITY])
    x, encode, decode = to_tensor(photo), net.gains.encode(quality), net.gains.decode(quality)
    y = net.analyse(x, quality, net.full.g_a)
    return PixelInputs(x, y, torch.floor(y + 0.5), encode, decode)


class Loader:
    """Loads a bundle's graphs on one back-end, each once."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle, self.backend = bundle, backend
        self._engines: dict[str, Engine] = {}

    def __call__(self, graph: str) -> Engine:
        if graph not in self._engines:
            strict = self.bundle.graph(graph).path == "entropy"
            path, weights = self.bundle.graph_path(graph), self.bundle.weights_folder
            self._engines[graph] = self.backend.load(path, external_data=weights, strict=strict)
        return self._engines[graph]


@torch.no_grad()
def check_pixel(graph: PixelExport, graph_id: str, load: Callable[[str], Engine], inputs: PixelInputs) -> Check:
    """Compare a graph of the pixel path with PyTorch on the same rounded weights."""
    values = inputs.of(graph.transform)
    wanted = graph.module(*values).numpy()
    arrays = dict(zip(graph.inputs, (value.numpy() for value in values), strict=True))
    found = load(graph_id).run(arrays)[graph.output]
    if found.shape != wanted.shape:
        raise ExportError(f"graph {graph_id} ({graph.transform}) gives {found.shape}, PyTorch {wanted.shape}")
    difference = float(np.abs(found - wanted).max())
    if graph.transform == "g_s":
        return Check(graph_id, "g_s", graph.width, 255 * difference, PICTURE_TOLERANCE, "of 255")
    share = difference / max(float(np.abs(wanted).max()), 1e-9)
    return Check(graph_id, graph.transform, graph.width, share, LATENT_TOLERANCE, "of range")


@torch.no_grad()
def half_effect(graph: PixelExport, inputs: PixelInputs) -> HalfEffect:
    """Compare rounded and exact weights of a transform in PyTorch."""
    values = inputs.of(graph.transform)
    scale = 255.0 if graph.transform == "g_s" else 1.0
    difference = (graph.module(*values) - graph.exact(*values)) * scale
    return HalfEffect(
        graph.transform, graph.width, float(difference.abs().max()), float(difference.square().mean().sqrt())
    )


def check_entropy(
    integer: IntegerEntropy, spec: EntropySpec, load: Callable[[str], Engine], z: np.ndarray, y: np.ndarray
) -> list[Check]:
    """Compare h_s and every stage with the integer reference in PyTorch, teacher-forced: they must be equal.

    z (1, Cz, a, b) and y (1, M, 4a, 4b): integers in float32, y in units 2^-mean_bits.
    """
    side = spec.tile
    prior = integer.h_s(torch.from_numpy(z))
    state = load(spec.h_s).run({"z": z})
    wrong = sum(
        _mismatches(state[f"prior.{i}{j}"], prior[:, :, i::side, j::side].numpy())
        for i in range(side)
        for j in range(side)
    )
    checks = [_equality(spec.h_s, "h_s", spec.width, wrong)]
    means, scales = (
        slots_of(value.numpy(), integer.grouping) for value in integer.parameters(torch.from_numpy(y), prior)
    )
    slots = slots_of(y, integer.grouping)
    for stage in spec.stages:
        found = load(stage.graph).run({name: state[name] for name in stage.inputs})
        names = [slot_name(slot) for slot in stage.slots]
        wrong = _mismatches(found["mean"], np.concatenate([means[name] for name in names], 1))
        wrong += _mismatches(found["scale"], np.concatenate([scales[name] for name in names], 1))
        checks.append(_equality(stage.graph, "stage", spec.width, wrong))
        state.update(found)
        state.update({name: slots[name] for name in names})
    return checks


def photo_latents(inputs: PixelInputs, net: Supernet, mean_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers z and y (units 2^-mean_bits) of a photo, as `check_entropy` takes them."""
    with torch.no_grad():
        z = round_z(net.h_a(inputs.y, net.full.h_a))
    return z.numpy(), torch.floor(inputs.y * 2.0**mean_bits + 0.5).numpy()


def require(checks: Sequence[Check]) -> None:
    """Raises ExportError naming the worst graph if a check has failed."""
    failed = [check for check in checks if not check.passed]
    if failed:
        worst = max(failed, key=lambda check: check.difference / max(check.tolerance, 1e-30))
        raise ExportError(
            f"{len(failed)} of {len(checks)} graphs differ from PyTorch; the worst is {worst.transform} "
            f"at width {worst.width} ({worst.graph}): {worst.difference:.3g} {worst.unit}, "
            f"{worst.tolerance:g} is tolerated"
        )


def _equality(graph: str, transform: str, width: int, wrong: int) -> Check:
    return Check(graph, transform, width, float(wrong), 0.0, "values unequal")


def _mismatches(found: ArrayLike, wanted: np.ndarray) -> int:
    values = np.asarray(found)
    return wanted.size if values.shape != wanted.shape else int((values != wanted).sum())
