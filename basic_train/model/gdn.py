"""Generalised divisive normalisation with shared weights and a few switchable scalars per width.

Ballé, Laparra and Simoncelli 2016; the switchable scalars are those of slimmable compressive autoencoders
(Yang et al. 2021) as BaSIC uses them (model-spec §1.2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.model.priors import lower_bound
from basic_train.model.slimmable import Channels, Slim

#: Keeps the gradient of the reparametrised square alive at zero.
PEDESTAL = 2.0**-36
BETA_MIN = 1e-6

#: Parameters of `SlimGDN` with a value for each width.
PER_WIDTH = ("beta_scales", "beta_biases", "gamma_scales", "gamma_biases")


def non_negative(raw: Tensor, minimum: float = 0.0) -> Tensor:
    """max(raw, sqrt(minimum + p))^2 - p, never below `minimum`, with the gradient of `lower_bound`."""
    return lower_bound(raw, (minimum + PEDESTAL) ** 0.5).square() - PEDESTAL


class SlimGDN(Slim):
    """x / sqrt(beta + Gamma x^2) over channels, or x * sqrt(...) when `inverse`.

    beta (C,) and gamma (C, C) are shared by all widths (a prefix of each is used); every width has its own
    scale and bias for either, all stored raw and made non-negative by `non_negative`. Names are those of the
    original.
    """

    def __init__(self, channels: Channels, inverse: bool = False) -> None:
        super().__init__()
        self.channels, self.inverse = tuple(channels), inverse
        full, widths = max(self.channels), len(self.channels)
        self.beta = nn.Parameter((torch.ones(full) + PEDESTAL).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(full) + PEDESTAL).sqrt())
        self.beta_scales, self.beta_biases = (
            nn.Parameter(torch.ones(widths)),
            nn.Parameter(torch.zeros(widths)),
        )
        self.gamma_scales, self.gamma_biases = (
            nn.Parameter(torch.ones(widths)),
            nn.Parameter(torch.zeros(widths)),
        )

    def folded(self, index: int) -> tuple[Tensor, Tensor]:
        """beta (C,) and Gamma (C, C) in effect at a width."""
        channels = self.channels[index]
        beta = non_negative(self.beta[:channels], BETA_MIN)
        gamma = non_negative(self.gamma[:channels, :channels])
        beta = non_negative(self.beta_scales[index]) * beta + non_negative(self.beta_biases[index])
        return beta, non_negative(self.gamma_scales[index]) * gamma + non_negative(self.gamma_biases[index])

    def forward(self, x: Tensor, index: int) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # squares need more than the 8 bits of bf16
            x = x.float()
            beta, gamma = self.folded(index)
            norm = F.conv2d(x * x, gamma[:, :, None, None], beta)
            return x * (norm.sqrt() if self.inverse else norm.rsqrt())

    def plain(self, index: int) -> PlainGDN:
        with torch.no_grad():
            return PlainGDN(*self.folded(index), self.inverse)

    def macs(self, index: int) -> float:
        return float(self.channels[index] ** 2)


class PlainGDN(nn.Module):
    """GDN with constants: a 1x1 convolution of x^2, a square root, a division (a product when `inverse`)."""

    def __init__(self, beta: Tensor, gamma: Tensor, inverse: bool) -> None:
        super().__init__()
        self.inverse = inverse
        self.norm = nn.Conv2d(gamma.shape[1], gamma.shape[0], 1)
        with torch.no_grad():
            self.norm.weight.copy_(gamma[:, :, None, None])
            self.norm.bias.copy_(beta)

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.sqrt(self.norm(x * x))
        return x * norm if self.inverse else x / norm
