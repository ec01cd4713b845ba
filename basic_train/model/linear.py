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

from basic_train.model.slimmable import Slim, SlimConv2d, SlimResidual, SlimSequential

if TYPE_CHECKING:
    from basic_train.model.supernet import Supernet

#: Side of a block: the stride of y.
BLOCK = 16

#: Of a block of three channels.
LINEAR_COMPONENTS = 3 * BLOCK**2

#: Pictures whose blocks are in memory together, in double precision.
PART = 16

#: Subtracted from the picture that the network of g_a sees.
MIDDLE = 0.5

#: The networks see strong components divided by this power of their standard deviation: 1 would make a rare weak one
#: that is not zero a great outlier, 0 leaves the mean alone in sight.
EVENNESS = 0.5

#: Variance below which a component is scaled as if it had this much: half a step of 8-bit pixels, squared.
SMALLEST_VARIANCE = (0.5 / 255) ** 2


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
