"""State dicts of CompressAI: bmshj2018-hyperprior, mbt2018-mean and mbt2018."""

from __future__ import annotations

import torch
from torch import Tensor

from basic_train.checkpoint import CheckpointError
from basic_train.grouping import tiled
from basic_train.importing.entries import Entries
from basic_train.importing.paper_weights import (
    Channels,
    Weights,
    assembled,
    configuration,
    gains,
    normalisations,
    prior_of_z,
    transforms,
)
from basic_train.model.context import ContextShape
from basic_train.model.presets import PAPER
from basic_train.model.supernet import Supernet


def architecture(entries: Entries) -> str:
    """Name of the model in CompressAI's zoo. Raises CheckpointError for others."""
    if "g_a.6.weight" not in entries or "g_a.1.beta" not in entries or "h_s.4.weight" not in entries:
        raise CheckpointError(
            f"{entries.name}: not a state dict of bmshj2018-hyperprior, mbt2018-mean or mbt2018 of CompressAI, "
            "nor of the original BaSIC; other models cannot be imported"
        )
    if "entropy_parameters.0.weight" in entries:
        return "mbt2018"
    m = entries.shape("g_a.6.weight")[0]
    return "mbt2018-mean" if entries.shape("h_s.4.weight")[0] == 2 * m else "bmshj2018-hyperprior"


def convert(entries: Entries, lambda_: float, lambdas: tuple[float, float], grouping: str) -> Supernet:
    """The supernet whose widest width computes what a model of CompressAI does.

    lambda_: that the model was trained for; lambdas: of the lowest and highest quality. grouping: of y for
    mbt2018, by name. CompressAI decodes position by position, which `MaskedContext` with labels of `scanline`
    does with the same weights; taps that no raster scan sees are zero. Raises CheckpointError.
    """
    name = architecture(entries)
    n, m = (_outputs(entries, key) for key in ("g_a.0.weight", "g_a.6.weight"))
    scale_only = name == "bmshj2018-hyperprior"
    channels = Channels(n, m, z=n, h_a=n, h_s=n if scale_only else m, scale_only=scale_only)
    channels.check(entries.name)
    shape: ContextShape | None = None
    weights: Weights = {}
    if name == "mbt2018":
        shape, weights = ContextShape(2 * m, 10 * m // 3, 8 * m // 3), _raster_context(entries, m)
    elif name == "mbt2018-mean":
        shape, weights = ContextShape(1, 4 * m, 4 * m), _no_context(m)
    order = tiled(grouping if name == "mbt2018" else "none", 1)
    config = configuration(channels, shape, order, lambdas)
    parts = {part: entries.below(f"{part}.") for part in ("g_a", "h_a", "h_s", "g_s")}
    weights |= transforms(parts, "", channels)
    weights |= normalisations(parts, n, lambda *_: _plain_scalars())
    weights |= prior_of_z(entries.below("entropy_bottleneck."), n)
    return assembled(config, weights | gains(config, lambda_))


def _outputs(entries: Entries, key: str) -> int:
    """Channels that a convolution gives."""
    shape = entries.shape(key)
    if len(shape) != 4:
        raise CheckpointError(f"{entries.name}: {key} has {len(shape)} dimensions, not the 4 of a convolution")
    return shape[0]


def _plain_scalars() -> dict[str, Tensor]:
    """Switchable scalars that leave GDN as it is, at every width."""
    count = len(PAPER.widths)
    ones, zeros = torch.ones(count), torch.zeros(count)
    return {"beta_scales": ones, "beta_biases": zeros, "gamma_scales": ones, "gamma_biases": zeros}


def _raster_context(entries: Entries, m: int) -> Weights:
    """Context model and merger of mbt2018, whose first layer sees the prior before the context."""
    hidden1, hidden2 = 10 * m // 3, 8 * m // 3
    first = entries.take("entropy_parameters.0.weight", (hidden1, 4 * m, 1, 1))
    second = entries.take("entropy_parameters.2.weight", (hidden2, hidden1, 1, 1))
    last = entries.take("entropy_parameters.4.weight", (2 * m, hidden2, 1, 1))
    return {
        "context.context_weight": entries.take("context_prediction.weight", (2 * m, m, 5, 5)) * _raster_mask(5),
        "context.context_bias": entries.take("context_prediction.bias", (2 * m,)),
        "context.merge_prior.weight": first[:, : 2 * m].contiguous(),
        "context.merge_prior.bias": entries.take("entropy_parameters.0.bias", (hidden1,)),
        "context.merge_context.weight": first[:, 2 * m :, 0, 0].contiguous(),
        "context.merge_context.bias": torch.zeros(hidden1),
        "context.merge_hidden.weight": second[:, :, 0, 0],
        "context.merge_hidden.bias": entries.take("entropy_parameters.2.bias", (hidden2,)),
        "context.merge_out.weight": _mean_before_scale(last[:, :, 0, 0]),
        "context.merge_out.bias": _mean_before_scale(entries.take("entropy_parameters.4.bias", (2 * m,))),
    }


def _raster_mask(kernel: int) -> Tensor:
    """1 for the taps before the centre, row by row (mask A of PixelCNN)."""
    before = torch.arange(kernel * kernel) < kernel * kernel // 2
    return before.float().reshape(kernel, kernel)


def _no_context(m: int) -> Weights:
    """A context model that hands on the prior: x = (lrelu(x) - lrelu(-x)) / (1 + slope), twice."""
    half = torch.eye(2 * m) / (1 + PAPER.context_slope)
    signs = torch.cat([torch.eye(2 * m), -torch.eye(2 * m)])  # (4m, 2m): x to x, -x
    back = torch.cat([half, -half], 1)  # (2m, 4m): rectified x, -x to x
    return {
        "context.context_weight": torch.zeros(1, m, 5, 5),
        "context.context_bias": torch.zeros(1),
        "context.merge_prior.weight": signs[:, :, None, None],
        "context.merge_prior.bias": torch.zeros(4 * m),
        "context.merge_context.weight": torch.zeros(4 * m, 1),
        "context.merge_context.bias": torch.zeros(4 * m),
        "context.merge_hidden.weight": signs @ back,
        "context.merge_hidden.bias": torch.zeros(4 * m),
        "context.merge_out.weight": _mean_before_scale(back),
        "context.merge_out.bias": torch.zeros(2 * m),
    }


def _mean_before_scale(rows: Tensor) -> Tensor:
    """Rows of all scales, then all means, as CompressAI has them, to mean and scale of each latent in turn."""
    scales, means = rows.chunk(2)
    return torch.stack([means, scales], 1).flatten(0, 1)
