"""Weights of the `paper` and `hyperprior` supernets from tensors of one width, shared by all importers.

Foreign layers keep their positions in the sequence; only the names before and after them differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from basic_train.checkpoint import CheckpointError
from basic_train.grouping import Grouping
from basic_train.importing.entries import Entries
from basic_train.model.config import ModelConfig
from basic_train.model.context import ContextShape
from basic_train.model.presets import HYPERPRIOR, PAPER
from basic_train.model.supernet import Supernet

#: Filters of the factorised prior (Ballé et al. 2018), the same in all these models.
PRIOR_SIZES = (1, 3, 3, 3, 3, 1)

#: More channels than any published model has: keeps a hostile file from asking for memory.
MAX_CHANNELS = 1024

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Channels:
    """n: of g_a and g_s; m: of y; z: of z; h_a, h_s: of the hyper-transforms. scale_only: layers of the scale
    hyperprior, without means and context."""

    n: int
    m: int
    z: int
    h_a: int
    h_s: int
    scale_only: bool = False

    def check(self, name: str) -> Channels:
        """Itself, if there are not too many. Raises CheckpointError."""
        if not all(0 < c <= MAX_CHANNELS for c in (self.n, self.m, self.z, self.h_a, self.h_s)):
            raise CheckpointError(
                f"{name}: has layers of {max(self.n, self.m, self.z)} channels; 1 to {MAX_CHANNELS} are supported"
            )
        return self

    @property
    def hyper(self) -> int:
        """Full width of our hyper-transforms, which share one: the narrower is padded with zeros."""
        return max(self.h_a, self.h_s)

    @property
    def prior(self) -> int:
        """Channels of the prior of y."""
        return self.m if self.scale_only else 2 * self.m

    def second(self, width: int) -> int:
        """Channels behind the second layer of h_s at a width."""
        return width if self.scale_only else 3 * width // 2


def slim(full: int) -> tuple[int, ...]:
    """The widths of `paper` for another full width: 1/4, 3/8, 1/2, 3/4, 1."""
    return tuple(max(1, full * w // PAPER.widths[-1]) for w in PAPER.widths)


def configuration(
    channels: Channels, context: ContextShape | None, grouping: Grouping, lambdas: tuple[float, float]
) -> ModelConfig:
    """The `paper` configuration of a model's channels, or that of `hyperprior` for those without a context model,
    for lambdas from the lowest to the highest quality."""
    count = len(PAPER.widths)
    return replace(
        HYPERPRIOR if channels.scale_only else PAPER,
        widths=slim(channels.n),
        hyper_widths=slim(channels.hyper),
        priors=(channels.prior,) * count,
        contexts=(context,) * count if context else (),
        y_channels=channels.m,
        z_channels=channels.z,
        grouping_name=grouping.name,
        grouping=grouping.tile.tolist(),
        lambda_min=lambdas[0],
        lambda_max=lambdas[1],
    )


def transforms(entries: Mapping[str, Entries], infix: str, c: Channels) -> Weights:
    """Convolutions of the four transforms. infix: what stands between a layer's number and `weight`."""
    wide, hyper = c.second(c.h_s), c.second(c.hyper)
    down = [(c.n, 3, 5, 5), (c.n, c.n, 5, 5), (c.n, c.n, 5, 5), (c.m, c.n, 5, 5)]
    up = [(c.m, c.n, 5, 5), (c.n, c.n, 5, 5), (c.n, c.n, 5, 5), (c.n, 3, 5, 5)]
    weights: Weights = {}
    layers: list[tuple[str, int, tuple[int, ...], tuple[int, ...]]] = [
        *(("g_a", 2 * i, shape, shape) for i, shape in enumerate(down)),
        *(("g_s", 2 * i, shape, shape) for i, shape in enumerate(up)),
        ("h_a", 0, (c.h_a, c.m, 3, 3), (c.hyper, c.m, 3, 3)),
        ("h_a", 2, (c.h_a, c.h_a, 5, 5), (c.hyper, c.hyper, 5, 5)),
        ("h_a", 4, (c.z, c.h_a, 5, 5), (c.z, c.hyper, 5, 5)),
        ("h_s", 0, (c.z, c.h_s, 5, 5), (c.z, c.hyper, 5, 5)),
        ("h_s", 2, (c.h_s, wide, 5, 5), (c.hyper, hyper, 5, 5)),
        ("h_s", 4, (c.prior, wide, 3, 3), (c.prior, hyper, 3, 3)),
    ]
    for name, position, theirs, ours in layers:
        transposed = name == "g_s" or (name == "h_s" and position < 4)
        behind_abs = name == "h_a" and c.scale_only  # our h_a takes |y| in a layer of its own
        layer, target = f"{position}{infix}", f"{name}.layers.{position + behind_abs}"
        weights[f"{target}.weight"] = padded(entries[name].take(f"{layer}.weight", theirs), ours)
        outs, full_outs = (theirs[1], ours[1]) if transposed else (theirs[0], ours[0])
        weights[f"{target}.bias"] = padded(entries[name].take(f"{layer}.bias", (outs,)), (full_outs,))
    return weights


def normalisations(
    entries: Mapping[str, Entries], channels: int, scalars: Callable[[Entries, str], dict[str, Tensor]]
) -> Weights:
    """GDN of g_a and g_s; `scalars` gives the switchable ones of a layer."""
    weights: Weights = {}
    for name in ("g_a", "g_s"):
        for position in (1, 3, 5):
            target = f"{name}.layers.{position}"
            weights[f"{target}.beta"] = entries[name].take(f"{position}.beta", (channels,))
            weights[f"{target}.gamma"] = entries[name].take(f"{position}.gamma", (channels, channels))
            for key, value in scalars(entries[name], f"{position}.").items():
                weights[f"{target}.{key}"] = value
    return weights


def prior_of_z(entries: Entries, channels: int) -> Weights:
    """The factorised prior, under any of the names that versions of CompressAI have given its tensors.

    Its construction is ours. What is lost is the learned median, the offset of the grid that z is rounded to:
    our grid is the integers.
    """
    weights: Weights = {}
    last = len(PRIOR_SIZES) - 2
    for k in range(last + 1):
        ins, outs = PRIOR_SIZES[k : k + 2]
        for ours, names, shape in (
            ("matrices", ("matrices.{}", "_matrix{}", "_matrices.{}"), (channels, outs, ins)),
            ("biases", ("biases.{}", "_bias{}", "_biases.{}"), (channels, outs, 1)),
            ("factors", ("factors.{}", "_factor{}", "_factors.{}"), (channels, outs, 1)),
        ):
            if ours == "factors" and k == last:
                continue
            candidates = [name.format(k) for name in names]
            key = next((name for name in candidates if name in entries), candidates[0])
            weights[f"z_prior.{ours}.{k}"] = entries.take(key, shape)
    return weights


def gains(config: ModelConfig, trained: float) -> Weights:
    """Quality gains: 1 at the lambda that the model was trained for, elsewhere the step of rate theory."""
    lambdas = torch.linspace(math.log(config.lambda_min), math.log(config.lambda_max), config.quality_anchors)
    steps = (0.5 * (lambdas - math.log(trained)))[:, None].repeat(1, config.y_channels)
    return {"gains.log_encode": steps, "gains.log_decode": -steps}


def padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros behind the channels that a model has: they stay zero through every layer in between."""
    pads = [pad for have, want in zip(tensor.shape, shape, strict=True) for pad in (want - have, 0)]
    return F.pad(tensor, pads[::-1])


def assembled(config: ModelConfig, weights: Weights) -> Supernet:
    """The supernet with these weights, none missing."""
    net = Supernet(config)
    net.load_state_dict(weights)
    return net.eval()
