"""The linear path of `lite`: principal components of 16x16 blocks beside the networks of g_a and g_s.

A network that starts from random weights learns the weak components of a picture last, and a codec's high qualities
are made of them. With the linear path the transforms start as the Karhunen-Loève transform, the best linear one (R. J.
Clarke, "Transform coding of images", 1985), and the networks learn what to add to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.model.slimmable import SlimConv2d, SlimResidual, SlimSequential

if TYPE_CHECKING:
    from basic_train.model.supernet import Supernet

#: Side of a block: the stride of y.
BLOCK = 16

#: Latents are components divided by this power of their standard deviation. 1 makes all of unit variance, so that a
#: rare weak one that is not zero is a great outlier to g_s; 0 leaves the mean alone in sight (docs/lab.md).
EVENNESS = 0.5

#: Variance below which a component is scaled as if it had this much: half a step of 8-bit pixels, squared.
SMALLEST_VARIANCE = (0.5 / 255) ** 2


class Components(NamedTuple):
    """Principal components of blocks, strongest first: mean (D,), basis (D, D) with a component per column, variances
    (D,); D = 3 side^2, in the order of `torch.nn.functional.pixel_unshuffle`."""

    mean: Tensor
    basis: Tensor
    variances: Tensor


def analysis_path(body: SlimSequential, widths: int, y_channels: int) -> SlimResidual:
    """body(x) + linear(x): x (B, 3, H, W) to y (B, y_channels, H/16, W/16)."""
    path = SlimConv2d([3] * widths, [y_channels] * widths, BLOCK, stride=BLOCK, precise=True)
    return SlimResidual(body, path.requires_grad_(False))


def synthesis_path(body: SlimSequential, widths: int, y_channels: int) -> SlimResidual:
    """body(y) + linear(y), the mirror of `analysis_path`."""
    path = SlimConv2d([y_channels] * widths, [3 * BLOCK**2] * widths, 1, precise=True)
    return SlimResidual(body, SlimSequential(path.requires_grad_(False), nn.PixelShuffle(BLOCK)))


def components(pictures: Tensor, side: int) -> Components:
    """Of the side x side blocks of pictures (B, 3, H, W), sides multiples of `side`."""
    blocks = F.pixel_unshuffle(pictures, side).permute(0, 2, 3, 1).reshape(-1, 3 * side**2).double()
    mean = blocks.mean(0)
    covariance = (blocks - mean).T @ (blocks - mean) / len(blocks)
    variances, basis = torch.linalg.eigh(covariance)
    return Components(mean.float(), basis.flip(1).float(), variances.flip(0).clamp(min=0).float())


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
    scales = found.variances[: config.y_channels].clamp(min=SMALLEST_VARIANCE) ** (EVENNESS / 2)
    _set_analysis(net.g_a.layers[0], basis, scales, found.mean)
    _set_synthesis(net.g_s.layers[0], basis, scales, found.mean)
    _set_first(net.g_a.layers[0].body.layers[0], pictures)
    step = math.sqrt(18 / (config.lambda_min * 255**2 * math.log(2)))
    net.gains.log_encode += (scales / step).log()
    net.gains.log_decode -= (scales / step).log()


def _set_analysis(transform: SlimResidual, basis: Tensor, scales: Tensor, mean: Tensor) -> None:
    rows = (basis / scales).T  # (M, D)
    transform.skip.weight.copy_(rows.reshape(-1, 3, BLOCK, BLOCK))
    transform.skip.bias.copy_(-rows @ mean)
    _silence(transform.body)


def _set_synthesis(transform: SlimResidual, basis: Tensor, scales: Tensor, mean: Tensor) -> None:
    path = transform.skip.layers[0]
    path.weight.copy_((basis * scales)[:, :, None, None])
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
    """First outputs: components of its patches, strongest first, on the scale of latents."""
    side = conv.weight.shape[-1]
    found = components(pictures, side)
    count = min(len(conv.weight), 3 * side**2)
    scales = found.variances[:count].clamp(min=SMALLEST_VARIANCE) ** (EVENNESS / 2)
    rows = (found.basis[:, :count] / scales).T
    conv.weight[:count] = rows.reshape(-1, 3, side, side)
    conv.bias[:count] = -rows @ found.mean
