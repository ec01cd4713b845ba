"""Building blocks shared by several backbones."""

from __future__ import annotations

from torch import Tensor, nn

from basic_train.model.slimmable import (
    Channels,
    SlimConv2d,
    SlimConvTranspose2d,
    SlimResidual,
    SlimSequential,
)


class Abs(nn.Module):
    """Absolute values: the hyper-analysis of a zero-mean prior has no use for signs."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


def constant(channels: int, like: Channels) -> list[int]:
    """The same number of channels at every width."""
    return [channels] * len(like)


def halved(channels: Channels) -> list[int]:
    return [c // 2 for c in channels]


def widened(channels: Channels) -> list[int]:
    """Half as much again, rounded down: the inner width of the original's h_s."""
    return [3 * c // 2 for c in channels]


def down(ins: Channels, outs: Channels, precise: bool = False) -> SlimConv2d:
    """5x5 convolution of stride 2."""
    return SlimConv2d(ins, outs, 5, stride=2, padding=2, precise=precise)


def up(ins: Channels, outs: Channels, precise: bool = False) -> SlimConvTranspose2d:
    """5x5 transposed convolution of stride 2."""
    return SlimConvTranspose2d(ins, outs, precise=precise)


def shuffled_up(ins: Channels, outs: Channels, factor: int, kernel: int = 1, precise: bool = False) -> list[nn.Module]:
    """Convolution and pixel shuffle; a prefix of the outputs is a prefix of the convolution's channels."""
    return [SlimConv2d(ins, [c * factor**2 for c in outs], kernel, precise=precise), nn.PixelShuffle(factor)]


def bottleneck(channels: Channels, inner: Channels) -> SlimResidual:
    """1x1, 3x3, 1x1: 2 C I + 9 I^2 MAC per position with I channels inside."""
    return SlimResidual(
        SlimSequential(
            SlimConv2d(channels, inner, 1),
            nn.ReLU(),
            SlimConv2d(inner, inner, 3),
            nn.ReLU(),
            SlimConv2d(inner, channels, 1),
        )
    )
