"""The `paper` transforms: 5x5 convolutions of stride 2 with GDN, as in the original (model-spec §1.1).

Layers keep the original's positions in the sequence, so that its weights import by name.
"""

from __future__ import annotations

from torch import nn

from basic_train.model.blocks import constant, down, up, widened
from basic_train.model.config import ModelConfig
from basic_train.model.gdn import SlimGDN
from basic_train.model.slimmable import Channels, SlimConv2d, SlimSequential, Transforms

SLOPE = 0.01


def build(config: ModelConfig) -> Transforms:
    """The four transforms of a configuration."""
    y, z = config.y_widths, config.z_widths
    return Transforms(
        analysis(config.encoder_widths, y),
        hyper_analysis(config.hyper_widths, y, z),
        hyper_synthesis(config.hyper_widths, z, config.priors),
        synthesis(config.widths, y),
    )


def analysis(widths: Channels, latents: Channels) -> SlimSequential:
    """g_a: picture (B, 3, H, W) to latent (B, latents[width], H/16, W/16)."""
    return SlimSequential(
        down(constant(3, widths), widths),
        SlimGDN(widths),
        down(widths, widths),
        SlimGDN(widths),
        down(widths, widths),
        SlimGDN(widths),
        down(widths, latents, precise=True),
    )


def synthesis(widths: Channels, latents: Channels) -> SlimSequential:
    """g_s: latent (B, latents[width], h, w) to picture (B, 3, 16h, 16w), not clamped."""
    return SlimSequential(
        up(latents, widths, precise=True),
        SlimGDN(widths, inverse=True),
        up(widths, widths),
        SlimGDN(widths, inverse=True),
        up(widths, widths),
        SlimGDN(widths, inverse=True),
        up(widths, constant(3, widths), precise=True),
    )


def hyper_analysis(widths: Channels, latents: Channels, hyper_latents: Channels) -> SlimSequential:
    """h_a: y (B, latents[width], h, w), not rounded, to z (B, hyper_latents[width], h/4, w/4)."""
    return SlimSequential(
        SlimConv2d(latents, widths, 3),
        nn.LeakyReLU(SLOPE),
        down(widths, widths),
        nn.LeakyReLU(SLOPE),
        down(widths, hyper_latents, precise=True),
    )


def hyper_synthesis(widths: Channels, hyper_latents: Channels, priors: Channels) -> SlimSequential:
    """h_s: z (B, hyper_latents[width], h/4, w/4) to the prior of y (B, priors[width], h, w)."""
    wider = widened(widths)
    return SlimSequential(
        up(hyper_latents, widths),
        nn.LeakyReLU(SLOPE),
        up(widths, wider),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(wider, priors, 3),
    )
