"""The `paper` transforms: 5x5 convolutions of stride 2 with GDN, as in the original (model-spec §1.1).

Layers keep the original's positions in the sequence, so that its weights import by name.
"""

from __future__ import annotations

from torch import nn

from basic_train.model.gdn import SlimGDN
from basic_train.model.slimmable import Channels, SlimConv2d, SlimConvTranspose2d, SlimSequential

SLOPE = 0.01


def _down(ins: Channels, outs: Channels, precise: bool = False) -> SlimConv2d:
    return SlimConv2d(ins, outs, 5, stride=2, padding=2, precise=precise)


def _up(ins: Channels, outs: Channels, precise: bool = False) -> SlimConvTranspose2d:
    return SlimConvTranspose2d(ins, outs, precise=precise)


def analysis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_a: picture (B, 3, H, W) to latent (B, y_channels, H/16, W/16)."""
    count = len(widths)
    return SlimSequential(
        _down([3] * count, widths),
        SlimGDN(widths),
        _down(widths, widths),
        SlimGDN(widths),
        _down(widths, widths),
        SlimGDN(widths),
        _down(widths, [y_channels] * count, precise=True),
    )


def synthesis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_s: latent (B, y_channels, h, w) to picture (B, 3, 16h, 16w), not clamped."""
    count = len(widths)
    return SlimSequential(
        _up([y_channels] * count, widths, precise=True),
        SlimGDN(widths, inverse=True),
        _up(widths, widths),
        SlimGDN(widths, inverse=True),
        _up(widths, widths),
        SlimGDN(widths, inverse=True),
        _up(widths, [3] * count, precise=True),
    )


def hyper_analysis(widths: Channels, y_channels: int, z_channels: int) -> SlimSequential:
    """h_a: y (B, y_channels, h, w), not rounded, to z (B, z_channels, h/4, w/4)."""
    count = len(widths)
    return SlimSequential(
        SlimConv2d([y_channels] * count, widths, 3),
        nn.LeakyReLU(SLOPE),
        _down(widths, widths),
        nn.LeakyReLU(SLOPE),
        _down(widths, [z_channels] * count, precise=True),
    )


def hyper_synthesis(widths: Channels, z_channels: int, priors: Channels) -> SlimSequential:
    """h_s: z (B, z_channels, h/4, w/4) to the prior of y (B, priors[width], h, w)."""
    wider = [3 * w // 2 for w in widths]
    return SlimSequential(
        _up([z_channels] * len(widths), widths),
        nn.LeakyReLU(SLOPE),
        _up(widths, wider),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(wider, priors, 3),
    )
