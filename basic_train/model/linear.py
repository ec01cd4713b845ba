"""The linear path of `lite`: principal components of 16x16 blocks beside the networks of g_a and g_s.

A network that starts from random weights learns the weak components of a picture last, and a codec's high qualities
are made of them. With the linear path the transforms start as the Karhunen-Loève transform, the best linear one (R. J.
Clarke, "Transform coding of images", 1985), and the networks learn what to add to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.model.slimmable import Slim, SlimConv2d, SlimSequential

#: Side of a block: the stride of y.
BLOCK = 16

#: Of a block of three channels.
LINEAR_COMPONENTS = 3 * BLOCK**2

#: Pictures whose blocks are in memory together, in double precision.
PART = 16

#: Subtracted from the picture that the network of g_a sees.
MIDDLE = 0.5


class Components(NamedTuple):
    """Principal components of blocks, strongest first: mean (D,), basis (D, D) with a component per column, variances
    (D,); D = 3 side^2, in the order of `torch.nn.functional.pixel_unshuffle`."""

    mean: Tensor
    basis: Tensor
    variances: Tensor


class Scale(nn.Module):
    """Multiplies each channel by a constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class PlainAnalysis(nn.Module):
    """What `LinearAnalysis` is at one width."""

    def __init__(self, path: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.path, self.body = path, body

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        return self.path(x) * gain + self.body((x - MIDDLE) * gain[:, :1])


class PlainSynthesis(nn.Module):
    """What `LinearSynthesis` is at one width."""

    def __init__(self, path: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.path, self.body = path, body

    def forward(self, y: Tensor, gain: Tensor) -> Tensor:
        return self.path(y * gain) + self.body(y) * gain[:, :1]


class LinearAnalysis(Slim):
    """g_a with its gains: x (B, 3, H, W), gain (B, M, 1, 1) to y (B, M, H/16, W/16).

    The network sees the picture in quantisation steps, and adds to y: one network then does for all qualities what it
    would do for one, and its gradients weigh alike.
    """

    def __init__(self, body: SlimSequential, widths: int, y_channels: int) -> None:
        super().__init__()
        self.path = SlimConv2d([3] * widths, [y_channels] * widths, BLOCK, stride=BLOCK, precise=True)
        self.path.requires_grad_(False)
        self.body = body

    def forward(self, x: Tensor, index: int, gain: Tensor) -> Tensor:
        return self.path(x, index) * gain + self.body((x - MIDDLE) * gain[:, :1], index).float()

    def plain(self, index: int) -> PlainAnalysis:
        return PlainAnalysis(self.path.plain(index), self.body.plain(index))

    def macs(self, index: int) -> float:
        return self.path.macs(index) + self.body.macs(index)

    @property
    def scale(self) -> float:
        return 1 / BLOCK


class LinearSynthesis(Slim):
    """g_s with its gains: y (B, M, h, w), gain (B, M, 1, 1) to x (B, 3, 16h, 16w), the mirror of `LinearAnalysis`."""

    def __init__(self, body: SlimSequential, widths: int, y_channels: int) -> None:
        super().__init__()
        path = SlimConv2d([y_channels] * widths, [3 * BLOCK**2] * widths, 1, precise=True)
        self.path = SlimSequential(path.requires_grad_(False), nn.PixelShuffle(BLOCK))
        self.body = SlimSequential(Scale(y_channels), *body.layers)

    def forward(self, y: Tensor, index: int, gain: Tensor) -> Tensor:
        return self.path(y * gain, index) + self.body(y, index).float() * gain[:, :1]

    def plain(self, index: int) -> PlainSynthesis:
        return PlainSynthesis(self.path.plain(index), self.body.plain(index))

    def macs(self, index: int) -> float:
        return self.path.macs(index) + self.body.macs(index)

    @property
    def scale(self) -> float:
        return float(BLOCK)


def components(pictures: Tensor, side: int) -> Components:
    """Of the side x side blocks of pictures (B, 3, H, W), sides multiples of `side`."""
    size = 3 * side**2
    parts = pictures.split(PART)
    count = pictures.numel() // size
    mean = torch.stack([_blocks(part, side).sum(0) for part in parts]).sum(0) / count
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for part in parts:
        centred = _blocks(part, side) - mean
        covariance += centred.T @ centred / count
    variances, basis = torch.linalg.eigh(covariance)
    return Components(mean.float(), basis.flip(1).float(), variances.flip(0).clamp(min=0).float())


def _blocks(pictures: Tensor, side: int) -> Tensor:
    """float64 (N, 3 side^2)."""
    return F.pixel_unshuffle(pictures, side).permute(0, 2, 3, 1).reshape(-1, 3 * side**2).double()
