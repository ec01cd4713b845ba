"""The `elic` transforms: strided 5x5 convolutions with three bottlenecks behind each, no attention (He et al.,
"ELIC", 2022; model-spec §1.4)."""

from __future__ import annotations

from torch import nn

from basic_train.model.blocks import bottleneck, constant, down, halved, up, widened
from basic_train.model.config import ModelConfig
from basic_train.model.slimmable import Channels, SlimConv2d, SlimResidual, SlimSequential, Transforms

#: Bottlenecks behind each but the last strided convolution.
BLOCKS = 3


def build(config: ModelConfig) -> Transforms:
    """The four transforms of a configuration."""
    return Transforms(
        analysis(config.encoder_widths, config.y_channels),
        hyper_analysis(config.hyper_widths, config.y_channels, config.z_channels),
        hyper_synthesis(config.hyper_widths, config.z_channels, config.priors),
        synthesis(config.widths, config.y_channels),
    )


def _bottlenecks(widths: Channels) -> list[SlimResidual]:
    return [bottleneck(widths, halved(widths)) for _ in range(BLOCKS)]


def analysis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_a: picture (B, 3, H, W) to latent (B, y_channels, H/16, W/16)."""
    return SlimSequential(
        down(constant(3, widths), widths),
        *_bottlenecks(widths),
        down(widths, widths),
        *_bottlenecks(widths),
        down(widths, widths),
        *_bottlenecks(widths),
        down(widths, constant(y_channels, widths), precise=True),
    )


def synthesis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_s: latent (B, y_channels, h, w) to picture (B, 3, 16h, 16w), not clamped."""
    return SlimSequential(
        up(constant(y_channels, widths), widths, precise=True),
        *_bottlenecks(widths),
        up(widths, widths),
        *_bottlenecks(widths),
        up(widths, widths),
        *_bottlenecks(widths),
        up(widths, constant(3, widths), precise=True),
    )


def hyper_analysis(widths: Channels, y_channels: int, z_channels: int) -> SlimSequential:
    """h_a: y (B, y_channels, h, w), not rounded, to z (B, z_channels, h/4, w/4)."""
    return SlimSequential(
        SlimConv2d(constant(y_channels, widths), widths, 3),
        nn.ReLU(),
        down(widths, widths),
        nn.ReLU(),
        down(widths, constant(z_channels, widths), precise=True),
    )


def hyper_synthesis(widths: Channels, z_channels: int, priors: Channels) -> SlimSequential:
    """h_s: z (B, z_channels, h/4, w/4) to the prior of y (B, priors[width], h, w)."""
    wider = widened(widths)
    return SlimSequential(
        up(constant(z_channels, widths), widths),
        nn.ReLU(),
        up(widths, wider),
        nn.ReLU(),
        SlimConv2d(wider, priors, 3),
    )
