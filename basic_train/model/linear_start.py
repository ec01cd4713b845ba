"""Starts a net with linear paths as the Karhunen-Loève transform of pictures (`basic_train.model.linear`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basic_train.model.linear import BLOCK, MIDDLE, LinearAnalysis, LinearSynthesis, components
from basic_train.model.slimmable import SlimConv2d, SlimResidual, SlimSequential
from basic_train.model.supernet import Supernet

#: The networks see strong components divided by this power of their standard deviation: 1 would make a rare weak one
#: that is not zero a great outlier, 0 leaves the mean alone in sight.
EVENNESS = 0.5

#: Variance below which a component is scaled as if it had this much: half a step of 8-bit pixels, squared.
SMALLEST_VARIANCE = (0.5 / 255) ** 2


@torch.no_grad()
def initialise(net: Supernet, pictures: Tensor) -> None:
    """Start a net with linear paths as the transform of the pictures (B, 3, H, W) in [0, 1].

    The networks beside the paths start at zero output; the first convolution of g_a gives components of its patches.
    The gains give quality 0 the quantisation step that is best for uniform quantisation at its lambda:
    minimising 3 (h - log2 step) + lambda 255^2 step^2 / 12 gives step^2 = 18 / (lambda 255^2 ln 2).
    """
    config = net.config
    found = components(pictures, BLOCK)
    basis = found.basis[:, : config.y_channels]
    deviations = found.variances[: config.y_channels].clamp(min=SMALLEST_VARIANCE).sqrt()
    step = math.sqrt(18 / (config.lambda_min * 255**2 * math.log(2)))
    _set_analysis(net.g_a, basis, found.mean)
    _set_synthesis(net.g_s, basis, found.mean)
    _set_first(net.g_a.body.layers[0], pictures)
    # At the middle quality strong latents span hundreds of steps, which the network of g_s sees as their root.
    middle = step * (config.lambda_min / config.lambda_max) ** 0.25
    net.g_s.body.layers[0].weight.copy_((deviations / middle).clamp(min=1)[None, :, None, None] ** -EVENNESS)
    net.gains.log_encode -= math.log(step)
    net.gains.log_decode += math.log(step)


def latent_sizes(net: Supernet) -> Tensor:
    """Standard deviations of the latents (M,) in quantisation steps at the middle quality, at least 1, as `initialise`
    found them."""
    return net.g_s.body.layers[0].weight.detach().flatten() ** (-1 / EVENNESS)


def _set_analysis(transform: LinearAnalysis, basis: Tensor, mean: Tensor) -> None:
    transform.path.weight.copy_(basis.T.reshape(-1, 3, BLOCK, BLOCK))
    transform.path.bias.copy_(-basis.T @ mean)
    _silence(transform.body)


def _set_synthesis(transform: LinearSynthesis, basis: Tensor, mean: Tensor) -> None:
    path = transform.path.layers[0]
    path.weight.copy_(basis[:, :, None, None])
    path.bias.copy_(mean)
    _silence(transform.body)


def _silence(body: SlimSequential) -> None:
    """Output 0: that of the last convolution, and of the residual blocks after it."""
    for layer in reversed(body.layers):
        if isinstance(layer, SlimResidual):
            _silence(layer.body)
        elif isinstance(layer, SlimConv2d):
            layer.weight.zero_()
            layer.bias.zero_()
            return


def _set_first(conv: SlimConv2d, pictures: Tensor) -> None:
    """First outputs: components of its patches, strongest first, on a more even scale."""
    side = conv.weight.shape[-1]
    found = components(pictures - MIDDLE, side)
    count = min(len(conv.weight), 3 * side**2)
    scales = found.variances[:count].clamp(min=SMALLEST_VARIANCE) ** (EVENNESS / 2)
    rows = (found.basis[:, :count] / scales).T
    conv.weight[:count] = rows.reshape(-1, 3, side, side)
    conv.bias[:count] = 0
