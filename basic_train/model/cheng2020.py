"""The `cheng2020` transforms: residual blocks of 3x3 convolutions with GDN, no attention (Cheng et al., "Learned image
compression with discretized Gaussian mixture likelihoods and attention modules", 2020; model-spec §1.4)."""

from __future__ import annotations

from torch import nn

from basic_train.model.blocks import constant, shuffled_up, widened
from basic_train.model.config import ModelConfig
from basic_train.model.gdn import SlimGDN
from basic_train.model.slimmable import Channels, SlimConv2d, SlimResidual, SlimSequential, Transforms

SLOPE = 0.01


def build(config: ModelConfig) -> Transforms:
    """The four transforms of a configuration."""
    return Transforms(
        analysis(config.encoder_widths, config.y_channels),
        hyper_analysis(config.hyper_widths, config.y_channels, config.z_channels),
        hyper_synthesis(config.hyper_widths, config.z_channels, config.priors),
        synthesis(config.widths, config.y_channels),
    )


def _halving(ins: Channels, outs: Channels, precise: bool = False) -> SlimConv2d:
    return SlimConv2d(ins, outs, 3, stride=2, padding=1, precise=precise)


def _block(ins: Channels, outs: Channels) -> SlimResidual:
    """Two 3x3 convolutions; the skip is a 1x1 convolution even where the shapes agree, as in the original."""
    body = SlimSequential(SlimConv2d(ins, outs, 3), nn.LeakyReLU(SLOPE), SlimConv2d(outs, outs, 3), nn.LeakyReLU(SLOPE))
    return SlimResidual(body, SlimConv2d(ins, outs, 1))


def _down_block(ins: Channels, outs: Channels) -> SlimResidual:
    body = SlimSequential(_halving(ins, outs), nn.LeakyReLU(SLOPE), SlimConv2d(outs, outs, 3), SlimGDN(outs))
    return SlimResidual(body, SlimConv2d(ins, outs, 1, stride=2))


def _up_block(ins: Channels, outs: Channels) -> SlimResidual:
    body = SlimSequential(
        *shuffled_up(ins, outs, 2, kernel=3),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(outs, outs, 3),
        SlimGDN(outs, inverse=True),
    )
    return SlimResidual(body, SlimSequential(*shuffled_up(ins, outs, 2, kernel=3)))


def analysis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_a: picture (B, 3, H, W) to latent (B, y_channels, H/16, W/16)."""
    return SlimSequential(
        _down_block(constant(3, widths), widths),
        _block(widths, widths),
        _down_block(widths, widths),
        _block(widths, widths),
        _down_block(widths, widths),
        _block(widths, widths),
        _halving(widths, constant(y_channels, widths), precise=True),
    )


def synthesis(widths: Channels, y_channels: int) -> SlimSequential:
    """g_s: latent (B, y_channels, h, w) to picture (B, 3, 16h, 16w), not clamped."""
    return SlimSequential(
        _block(constant(y_channels, widths), widths),
        _up_block(widths, widths),
        _block(widths, widths),
        _up_block(widths, widths),
        _block(widths, widths),
        _up_block(widths, widths),
        _block(widths, widths),
        *shuffled_up(widths, constant(3, widths), 2, kernel=3, precise=True),
    )


def hyper_analysis(widths: Channels, y_channels: int, z_channels: int) -> SlimSequential:
    """h_a: y (B, y_channels, h, w), not rounded, to z (B, z_channels, h/4, w/4)."""
    return SlimSequential(
        SlimConv2d(constant(y_channels, widths), widths, 3),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(widths, widths, 3),
        nn.LeakyReLU(SLOPE),
        _halving(widths, widths),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(widths, widths, 3),
        nn.LeakyReLU(SLOPE),
        _halving(widths, constant(z_channels, widths), precise=True),
    )


def hyper_synthesis(widths: Channels, z_channels: int, priors: Channels) -> SlimSequential:
    """h_s: z (B, z_channels, h/4, w/4) to the prior of y (B, priors[width], h, w)."""
    wider = widened(widths)
    return SlimSequential(
        SlimConv2d(constant(z_channels, widths), widths, 3),
        nn.LeakyReLU(SLOPE),
        *shuffled_up(widths, widths, 2, kernel=3),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(widths, wider, 3),
        nn.LeakyReLU(SLOPE),
        *shuffled_up(wider, wider, 2, kernel=3),
        nn.LeakyReLU(SLOPE),
        SlimConv2d(wider, priors, 3),
    )
