"""The `lite` transforms: made for CPUs and for fast training.

A 4x4 patch convolution first, residual bottlenecks with ReLU, convolution + pixel shuffle instead of
transposed convolution: operators that stay in the blocked layout of CPU inference engines, have integer and
bf16 kernels everywhere, and train seven times faster than 5x5 convolutions with GDN at the paper's widths.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from basic_train.model.blocks import bottleneck, constant, halved, shuffled_up
from basic_train.model.config import ModelConfig
from basic_train.model.linear import LinearAnalysis, LinearSynthesis
from basic_train.model.slimmable import Channels, SlimConv2d, SlimSequential, Transforms


class Blocks(NamedTuple):
    """Residual bottlenecks of g_a and g_s at 1/4, 1/8 and 1/16 of the picture's resolution."""

    quarter: int
    eighth: int
    latent: int


def build(config: ModelConfig) -> Transforms:
    """The four transforms of a configuration."""
    blocks = Blocks(config.quarter_blocks, config.eighth_blocks, config.latent_blocks)
    g_a = analysis(config.encoder_widths, config.y_channels, blocks, components=config.linear_path)
    g_s = synthesis(config.widths, config.y_channels, blocks)
    if config.linear_path:
        g_a = LinearAnalysis(g_a, len(config.widths), config.y_channels)
        g_s = LinearSynthesis(g_s, len(config.widths), config.y_channels)
    return Transforms(
        g_a,
        hyper_analysis(config.hyper_widths, config.y_channels, config.z_channels),
        hyper_synthesis(config.hyper_widths, config.z_channels, config.priors),
        g_s,
    )


def analysis(widths: Channels, y_channels: int, blocks: Blocks, components: bool) -> SlimSequential:
    """g_a: picture (B, 3, H, W) to latent (B, y_channels, H/16, W/16); width/2 at 1/4, width at 1/8.

    All widths write the same latents, so the blocks there are slim inside only; their sum stays float32.
    components: the first convolution gives principal components, the weak ones of which bf16 would drown.
    """
    half = halved(widths)
    latent = constant(y_channels, widths)
    return SlimSequential(
        SlimConv2d(constant(3, widths), half, 4, stride=4, precise=components),
        *(bottleneck(half, halved(half)) for _ in range(blocks.quarter)),
        SlimConv2d(half, widths, 2, stride=2),
        *(bottleneck(widths, half) for _ in range(blocks.eighth)),
        SlimConv2d(widths, latent, 2, stride=2, precise=True),
        *(bottleneck(latent, half) for _ in range(blocks.latent)),
    )


def synthesis(widths: Channels, y_channels: int, blocks: Blocks) -> SlimSequential:
    """g_s: latent (B, y_channels, h, w) to picture (B, 3, 16h, 16w), the mirror of `analysis`."""
    half = halved(widths)
    latent = constant(y_channels, widths)
    return SlimSequential(
        *(bottleneck(latent, half) for _ in range(blocks.latent)),
        *shuffled_up(latent, widths, 2, precise=True),
        *(bottleneck(widths, half) for _ in range(blocks.eighth)),
        *shuffled_up(widths, half, 2),
        *(bottleneck(half, halved(half)) for _ in range(blocks.quarter)),
        *shuffled_up(half, constant(3, widths), 4, precise=True),
    )


def hyper_analysis(widths: Channels, y_channels: int, z_channels: int) -> SlimSequential:
    """h_a: y (B, y_channels, h, w) to z (B, z_channels, h/4, w/4)."""
    return SlimSequential(
        SlimConv2d(constant(y_channels, widths), widths, 3),
        nn.ReLU(),
        SlimConv2d(widths, widths, 2, stride=2),
        nn.ReLU(),
        SlimConv2d(widths, widths, 3),
        nn.ReLU(),
        SlimConv2d(widths, constant(z_channels, widths), 2, stride=2),
    )


def hyper_synthesis(widths: Channels, z_channels: int, priors: Channels) -> SlimSequential:
    """h_s: z (B, z_channels, h/4, w/4) to the prior of y (B, priors[width], h, w)."""
    return SlimSequential(
        *shuffled_up(constant(z_channels, widths), widths, 2, kernel=3),
        nn.ReLU(),
        *shuffled_up(widths, widths, 2, kernel=3),
        nn.ReLU(),
        SlimConv2d(widths, priors, 3),
    )
