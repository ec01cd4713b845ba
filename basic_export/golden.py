"""Golden vectors: inputs whose results every engine must reproduce bit by bit before it may decode.

Each entropy variant gets a z and a y (teacher-forced: all slots are given, so that stages need no coder).
Part of both is a real photo's latent, part is random up to the ends of the legal range, which drives sums to
their bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from basic_export.options import GOLDEN_SIDE
from basic_export.pixel import PixelExport
from basic_runtime.bundle import Bundle
from basic_runtime.container import QUALITY_STEPS
from basic_runtime.engines import Engine
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.latent import slot_name
from basic_train.grouping import Grouping
from basic_train.model.coded import SYMBOL_MAX, analyse, round_z, to_tensor
from basic_train.model.integer import MEAN_BITS, Z_MAX
from basic_train.model.supernet import Z_STRIDE, Supernet

#: Pixels a side of the picture of the pixel path's golden vectors: smaller, as it is stored in float32.
PIXEL_SIDE = Z_STRIDE

#: Quality step of the golden latents.
STEP = 40


def golden_picture(photo: np.ndarray) -> np.ndarray:
    """The part of a photo that golden vectors use: uint8 (128, 128, 3), edges repeated if it is smaller."""
    part = photo[:GOLDEN_SIDE, :GOLDEN_SIDE]
    missing = [(0, GOLDEN_SIDE - length) for length in part.shape[:2]]
    return np.pad(part, [*missing, (0, 0)], mode="edge")


def golden_latents(net: Supernet, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers z float32 (1, Cz, 2, 2) and y float32 (1, M, 8, 8) in units 2^-MEAN_BITS, the last half of the columns
    of both made random."""
    y, z = analyse(net, golden_picture(photo), STEP, net.full)
    rng = np.random.default_rng(0)
    integers_z = round_z(z).numpy()
    integers_y = torch.floor(y * 2.0**MEAN_BITS + 0.5).numpy()
    real_z, real_y = z.shape[3] // 2, y.shape[3] // 2
    extreme_z, extreme_y = integers_z[..., real_z:], integers_y[..., real_y:]
    extreme_z[...] = rng.choice([-Z_MAX, Z_MAX], extreme_z.shape)
    # Magnitudes from one step to the largest that symbols allow, log-uniform, of both signs.
    largest = SYMBOL_MAX << MEAN_BITS
    magnitude = np.exp2(rng.uniform(0, np.log2(largest), extreme_y.shape))
    extreme_y[...] = np.floor(magnitude) * rng.choice([-1, 1], extreme_y.shape)
    return integers_z.astype(np.float32), integers_y.astype(np.float32)


def slots_of(y: np.ndarray, grouping: Grouping) -> dict[str, np.ndarray]:
    """The slots "y.g.ij" of a latent (1, M, h, w): (1, M/G, h/t, w/t) each."""
    size, side = y.shape[1] // grouping.groups, grouping.side
    return {
        slot_name((g, i, j)): np.ascontiguousarray(y[:, g * size : (g + 1) * size, i::side, j::side])
        for g in range(grouping.groups)
        for i in range(side)
        for j in range(side)
    }


def golden_tensors(variant: int, z: np.ndarray, y: np.ndarray, grouping: Grouping) -> dict[str, np.ndarray]:
    """What golden.safetensors holds of an entropy variant."""
    slots = {f"e{variant}.{name}": value.astype(np.int32) for name, value in slots_of(y, grouping).items()}
    return {f"e{variant}.z": z.astype(np.int16), **slots}


def golden_sha256(
    bundle: Bundle,
    variant: int,
    load: Callable[[str], Engine],
    z: np.ndarray,
    y: np.ndarray,
    grouping: Grouping,
) -> str:
    """Hash of all that h_s and the stages of a variant compute, as the runtime will ask for it."""
    return GroupedEntropy(bundle, variant, load).golden_sha256(z, slots_of(y, grouping))


@torch.no_grad()
def pixel_tensors(net: Supernet, widest: Mapping[str, PixelExport], photo: np.ndarray) -> dict[str, np.ndarray]:
    """ "x", "y" (at quality step `STEP`) and "xhat" of the widest level in PyTorch, float32: engines are
    compared with them within a tolerance."""
    quality = torch.tensor([STEP / (QUALITY_STEPS - 1)])
    x = to_tensor(golden_picture(photo)[:PIXEL_SIDE, :PIXEL_SIDE])
    y = widest["g_a"].module(x, net.gains.encode(quality))
    x_hat = widest["g_s"].module(torch.floor(y + 0.5), net.gains.decode(quality))
    return {"x": x.numpy(), "y": y.numpy(), "xhat": x_hat.numpy()}
