"""The `hyperprior` model: the transforms of `paper`, scales from h_s alone, no context (Ballé et al., "Variational
image compression with a scale hyperprior", 2018; bmshj2018-hyperprior of CompressAI)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from basic_train.grouping import tiled
from basic_train.model import paper
from basic_train.model.blocks import Abs, down, up
from basic_train.model.config import ModelConfig
from basic_train.model.priors import FactorizedPrior
from basic_train.model.slimmable import Channels, SlimConv2d, SlimSequential, Transforms


def build(config: ModelConfig) -> Transforms:
    """The four transforms of a configuration; the prior of y is its scale."""
    y, z = config.y_widths, config.z_widths
    return Transforms(
        paper.analysis(config.encoder_widths, y),
        hyper_analysis(config.hyper_widths, y, z),
        hyper_synthesis(config.hyper_widths, z, config.priors),
        paper.synthesis(config.widths, y),
    )


def hyper_analysis(widths: Channels, latents: Channels, hyper_latents: Channels) -> SlimSequential:
    """h_a: y (B, latents[width], h, w), not rounded, to z (B, hyper_latents[width], h/4, w/4)."""
    return SlimSequential(
        Abs(),
        SlimConv2d(latents, widths, 3),
        nn.ReLU(),
        down(widths, widths),
        nn.ReLU(),
        down(widths, hyper_latents, precise=True),
    )


def hyper_synthesis(widths: Channels, hyper_latents: Channels, priors: Channels) -> SlimSequential:
    """h_s: z (B, hyper_latents[width], h/4, w/4) to scales of y (B, priors[width], h, w)."""
    return SlimSequential(
        up(hyper_latents, widths),
        nn.ReLU(),
        up(widths, widths),
        nn.ReLU(),
        SlimConv2d(widths, priors, 3),
        nn.ReLU(),
    )


class ScaleOnly(nn.Module):
    """In place of a context model: mean 0, and the prior as the scale of y, all in one stage."""

    def __init__(self) -> None:
        super().__init__()
        self.grouping = tiled("none", 1)

    def forward(self, y: Tensor, prior: Tensor, index: int) -> Tensor:
        """Parameters (B, 2C, h, w), interleaved as those of `GroupedContext`, from scales (B, C, h, w)."""
        return torch.stack([torch.zeros_like(prior), prior], 2).flatten(1, 2)

    def macs(self, index: int) -> float:
        return 0.0


class PriorPerWidth(nn.ModuleList):
    """A prior of z for each width, where the width decides how many channels z has."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(FactorizedPrior(count) for count in channels)
