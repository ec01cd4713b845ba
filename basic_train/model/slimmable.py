"""Slimmable layers: one weight tensor, used at five widths by slicing a prefix of its channels.

A layer knows how many channels go in and out at each width index (0 = narrowest), so that the same object
trains at any width, tells its cost, and gives a plain module with the sliced weights for export. The width is
an argument of every call, never hidden state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Channels = Sequence[int]


class Slim(nn.Module):
    """Base of modules whose width is chosen per call: ``module(x, width_index)``."""

    def plain(self, index: int) -> nn.Module:
        """The module at one width, with its own copy of the sliced weights and no width argument."""
        raise NotImplementedError(f"{type(self).__name__} defines plain()")

    def macs(self, index: int) -> float:
        """Multiply-accumulates per *input* position of this module at a width."""
        raise NotImplementedError(f"{type(self).__name__} defines macs()")

    @property
    def scale(self) -> float:
        """Output positions per input position along one side (1/2 for a stride of 2, 2 for up-sampling)."""
        return 1.0


def prefix(weight: Tensor, *channels: int) -> Tensor:
    """The first channels along the first axes. A whole tensor stays itself: the gradient of a slice is copied into
    zeros, which costs a GPU more than the slice is worth."""
    for axis, count in enumerate(channels):
        if count != weight.shape[axis]:
            weight = weight.narrow(axis, 0, count)
    return weight


class SlimConv2d(Slim):
    """Convolution with prefix-sliced weights.

    ins, outs: channels per width index. Weight (max outs, max ins, k, k) and bias (max outs), PyTorch's
    default initialisation, as in the original method. precise: run in float32 under autocast, for the few
    cheap layers whose input or output spans many quantisation steps (bf16 resolves 1 part in 256).
    """

    def __init__(
        self,
        ins: Channels,
        outs: Channels,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        precise: bool = False,
    ) -> None:
        super().__init__()
        self.ins, self.outs = tuple(ins), tuple(outs)
        self.stride, self.precise = stride, precise
        self.padding = (kernel // 2 if stride == 1 else 0) if padding is None else padding
        reference = nn.Conv2d(max(self.ins), max(self.outs), kernel)
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, x: Tensor, index: int) -> Tensor:
        out = self.outs[index]
        weight, bias = prefix(self.weight, out, x.shape[1]), prefix(self.bias, out)
        stride = self.stride
        if stride > 1 and weight.shape[-1] == 1:
            # The same, without a bug of oneDNN: the gradient of strided 1x1 convolutions in the channels-last
            # layout writes beyond its memory for some sizes (torch 2.13, three input channels).
            x, stride = x[:, :, ::stride, ::stride], 1
        if not self.precise:
            return F.conv2d(x, weight, bias, stride, self.padding)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), weight, bias, stride, self.padding)

    def plain(self, index: int) -> nn.Conv2d:
        ins, outs, kernel = self.ins[index], self.outs[index], self.weight.shape[-1]
        conv = nn.Conv2d(ins, outs, kernel, self.stride, self.padding)
        with torch.no_grad():
            conv.weight.copy_(self.weight[:outs, :ins])
            conv.bias.copy_(self.bias[:outs])
        return conv

    def macs(self, index: int) -> float:
        return self.ins[index] * self.outs[index] * self.weight.shape[-1] ** 2 * self.scale**2

    @property
    def scale(self) -> float:
        return 1.0 / self.stride


class SlimConvTranspose2d(Slim):
    """5x5 transposed convolution that doubles each side exactly (padding 2, output padding 1), prefix-sliced.

    Weight (max ins, max outs, k, k) as in PyTorch. precise: as for `SlimConv2d`.
    """

    KERNEL, STRIDE, PADDING, OUTPUT_PADDING = 5, 2, 2, 1

    def __init__(self, ins: Channels, outs: Channels, precise: bool = False) -> None:
        super().__init__()
        self.ins, self.outs, self.precise = tuple(ins), tuple(outs), precise
        reference = nn.ConvTranspose2d(max(self.ins), max(self.outs), self.KERNEL)
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, x: Tensor, index: int) -> Tensor:
        out = self.outs[index]
        weight, bias = prefix(self.weight, x.shape[1], out), prefix(self.bias, out)
        shape = (self.STRIDE, self.PADDING, self.OUTPUT_PADDING)
        if not self.precise:
            return F.conv_transpose2d(x, weight, bias, *shape)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv_transpose2d(x.float(), weight, bias, *shape)

    def plain(self, index: int) -> nn.ConvTranspose2d:
        ins, outs = self.ins[index], self.outs[index]
        deconv = nn.ConvTranspose2d(ins, outs, self.KERNEL, self.STRIDE, self.PADDING, self.OUTPUT_PADDING)
        with torch.no_grad():
            deconv.weight.copy_(self.weight[:ins, :outs])
            deconv.bias.copy_(self.bias[:outs])
        return deconv

    def macs(self, index: int) -> float:
        return float(self.ins[index] * self.outs[index] * self.KERNEL**2)

    @property
    def scale(self) -> float:
        return float(self.STRIDE)


class SlimSequential(Slim):
    """Slimmable and ordinary layers in a row."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, index: int) -> Tensor:
        for layer in self.layers:
            x = layer(x, index) if isinstance(layer, Slim) else layer(x)
        return x

    def plain(self, index: int) -> nn.Sequential:
        """Layers keep their places; where one adds a constant, the convolution before it does, and an `nn.Identity` is
        there."""
        found: list[nn.Module] = []
        for layer in self.layers:
            constant = layer.constant(index) if isinstance(layer, SlimResidual) else None
            if constant is not None:
                _move(found, constant)
                found.append(nn.Identity())
            else:
                found.append(layer.plain(index) if isinstance(layer, Slim) else layer)
        return nn.Sequential(*found)

    def macs(self, index: int) -> float:
        total, side = 0.0, 1.0
        for layer in self.layers:
            if isinstance(layer, Slim):
                total += layer.macs(index) * side**2
            side *= _side(layer)
        return total

    @property
    def scale(self) -> float:
        side = 1.0
        for layer in self.layers:
            side *= _side(layer)
        return side


class Residual(nn.Module):
    """x + body(x), or skip(x) + body(x), with plain layers: what `SlimResidual` exports."""

    def __init__(self, body: nn.Module, skip: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor) -> Tensor:
        return (x if self.skip is None else self.skip(x)) + self.body(x)


class SlimResidual(Slim):
    """x + body(x, width), or skip(x, width) + body(x, width) where the body changes the shape."""

    def __init__(self, body: SlimSequential, skip: Slim | None = None) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor, index: int) -> Tensor:
        constant = self.constant(index)
        if constant is not None:
            return x + constant[:, None, None]
        return (x if self.skip is None else self.skip(x, index)) + self.body(x, index)

    def constant(self, index: int) -> Tensor | None:
        """What the body adds to each channel (C,) at a width where its last convolution reads nothing; else None."""
        last = self.body.layers[-1]
        if self.skip is not None or not isinstance(last, SlimConv2d) or last.ins[index]:
            return None
        return last.bias[: last.outs[index]]

    def plain(self, index: int) -> Residual:
        return Residual(self.body.plain(index), self.skip.plain(index) if self.skip else None)

    def macs(self, index: int) -> float:
        return self.body.macs(index) + (self.skip.macs(index) if self.skip else 0.0)

    @property
    def scale(self) -> float:
        return self.body.scale


def _move(layers: list[nn.Module], by: Tensor) -> None:
    """Add a constant for each channel to what plain layers give, the last of which is or ends with a convolution."""
    last = next(layer for layer in reversed(layers) if not isinstance(layer, nn.Identity))
    conv = last.body[-1] if isinstance(last, Residual) else last
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    with torch.no_grad():
        conv.bias += by


class Transforms(NamedTuple):
    """What a backbone consists of; see `basic_train.model.backbones`."""

    g_a: Slim
    h_a: SlimSequential
    h_s: SlimSequential
    g_s: Slim


def _side(layer: nn.Module) -> float:
    if isinstance(layer, Slim):
        return layer.scale
    return float(layer.upscale_factor) if isinstance(layer, nn.PixelShuffle) else 1.0
