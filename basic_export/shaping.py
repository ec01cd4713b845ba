"""Rewrites transforms with operators that inference engines run fastest; they stay the same functions.

Engines on CPUs lose time by moving data: tensors of three channels at full resolution, and changes between plain and
blocked layouts. So the two paths of `lite` are added at a quarter of the resolution, where the sum has 48 channels;
both paths of the analysis read one tensor; and residual blocks begin with a tensor in blocked layout. Figures are in
docs/lab.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.model.linear import MIDDLE, PlainAnalysis, PlainSynthesis, Scale
from basic_train.model.slimmable import Residual


class ShapedAnalysis(nn.Module):
    """`PlainAnalysis`: x (B, 3, H, W), gain (B, M, 1, 1) to y (B, M, H/16, W/16).

    The linear path reads the scaled picture, too, and its output is scaled back.
    """

    def __init__(self, plain: PlainAnalysis) -> None:
        super().__init__()
        self.path = _without_bias(plain.path)
        self.bias = nn.Parameter(plain.path.bias + MIDDLE * plain.path.weight.sum((1, 2, 3)), requires_grad=False)
        self.body = plain.body

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        first = gain[:, :1]
        scaled = (x - MIDDLE) * first
        return self.path(scaled) * (gain / first) + self.bias[:, None, None] * gain + self.body(scaled)


class ShapedSynthesis(nn.Module):
    """`PlainSynthesis`: y (B, M, h, w), gain (B, M, 1, 1) to x (B, 3, 16h, 16w)."""

    def __init__(self, plain: PlainSynthesis) -> None:
        super().__init__()
        path, shuffle = plain.path
        *body, last = plain.body
        self.factor, self.inner = last.upscale_factor, shuffle.upscale_factor // last.upscale_factor
        order = _two_shuffles(path.out_channels, self.inner, self.factor)
        self.path = nn.Conv2d(path.in_channels, path.out_channels, 1)
        with torch.no_grad():
            self.path.weight.copy_(path.weight[order])
            self.path.bias.copy_(path.bias[order])
        self.body = blocked_residuals(nn.Sequential(*body))

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        path = F.pixel_shuffle(self.path(y * gain), self.inner)
        return F.pixel_shuffle(self.body(y) * gain[:, :1] + path, self.factor)


def shaped(transform: nn.Module) -> nn.Module:
    """A plain transform in the form that is exported; transforms without a better one as they are."""
    if isinstance(transform, PlainAnalysis):
        return ShapedAnalysis(transform)
    if isinstance(transform, PlainSynthesis):
        return ShapedSynthesis(transform)
    return transform


def blocked_residuals(layers: nn.Sequential) -> nn.Sequential:
    """Layers in which each row of residual blocks begins with the output of a convolution.

    ONNX Runtime keeps the outputs of convolutions in its blocked layout, but not those of pixel shuffles and products;
    a block whose input is not blocked changes the layout twice for its sum. So a scale becomes a depthwise convolution,
    and after a pixel shuffle comes one that changes nothing.
    """
    result: list[nn.Module] = []
    for position, layer in enumerate(layers):
        if isinstance(layer, Scale):
            layer = _depthwise(layer.weight.flatten())
        elif isinstance(layer, Residual) and isinstance(layers[position - 1], nn.PixelShuffle):
            result.append(_depthwise(torch.ones(layer.body[0].in_channels)))
        result.append(layer)
    return nn.Sequential(*result)


def _without_bias(conv: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, bias=False)
    with torch.no_grad():
        copy.weight.copy_(conv.weight)
    return copy


def _depthwise(factors: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(len(factors), len(factors), 1, groups=len(factors), bias=False)
    with torch.no_grad():
        conv.weight.copy_(factors[:, None, None, None])
    return conv


def _two_shuffles(channels: int, inner: int, outer: int) -> Tensor:
    """Which channels to take, in order, so that a pixel shuffle by `inner` and then one by `outer` gives what a single
    one by their product gives."""
    side = inner * outer
    places = torch.arange(channels).reshape(channels // side**2, inner, outer, inner, outer)
    return places.permute(0, 2, 4, 1, 3).flatten()
