"""Probability models of the latents: the factorised prior of z and the conditional of y, Gaussian or logistic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from basic_runtime.tables import SCALES, Pmf, gaussian_pmfs, logistic_pmfs

SCALE_MIN, SCALE_MAX, SCALE_STEPS = float(SCALES[0]), float(SCALES[-1]), len(SCALES)
#: ln of the ratio of neighbouring table scales (1.1309...).
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_STEPS - 1)

Y_LIKELIHOOD_FLOOR = 1e-7
Z_LIKELIHOOD_FLOOR = 1e-9

#: Sizes of the hidden layers of the prior of z, and the range of values that it starts with, as in the original.
FILTERS, INIT_SCALE = (3, 3, 3, 3), 10.0


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient passes where x >= bound or where it would raise x."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    return LowerBound.apply(x, bound)


def round_ste(x: Tensor) -> Tensor:
    """floor(x + 1/2) with the gradient of the identity (the rounding rule of the runtime)."""
    return x + (torch.floor(x + 0.5) - x).detach()


def uniform_noise(x: Tensor) -> Tensor:
    """x + U(-1/2, 1/2), the training stand-in for rounding."""
    return x + torch.empty_like(x).uniform_(-0.5, 0.5)


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * math.sqrt(0.5))


def gaussian_bits(values: Tensor, sigma: Tensor) -> Tensor:
    """Bits of zero-mean Gaussian values integrated over [v - 1/2, v + 1/2]; float32, shape of `values`.

    Evaluated on the negative side, where the two tails do not cancel (Ballé et al. 2018).
    """
    magnitude = values.abs()
    p = _normal_cdf((0.5 - magnitude) / sigma) - _normal_cdf((-0.5 - magnitude) / sigma)
    return -torch.log2(lower_bound(p, Y_LIKELIHOOD_FLOOR))


def logistic_bits(values: Tensor, sigma: Tensor) -> Tensor:
    """Bits of zero-mean logistic values of standard deviation sigma, integrated as by `gaussian_bits`.

    A logistic's variance is (pi s)^2 / 3 with s its scale.
    """
    magnitude, rate = values.abs(), (math.pi / math.sqrt(3)) / sigma
    p = torch.sigmoid((0.5 - magnitude) * rate) - torch.sigmoid((-0.5 - magnitude) * rate)
    return -torch.log2(lower_bound(p, Y_LIKELIHOOD_FLOOR))


class Density(NamedTuple):
    """A density of y about its mean: bits of values by their sigma, and probabilities of rounded values for scales."""

    bits: Callable[[Tensor, Tensor], Tensor]
    pmfs: Callable[[ArrayLike], list[Pmf]]


#: By the name that `ModelConfig.density` has for it.
DENSITIES = {
    "gaussian": Density(gaussian_bits, gaussian_pmfs),
    "logistic": Density(logistic_bits, logistic_pmfs),
}


def scale_from_log_index(index: Tensor) -> Tensor:
    """sigma of a real-valued table index: SCALE_MIN * ratio^index, index bounded to the table."""
    bounded = lower_bound(index, 0.0)
    bounded = -lower_bound(-bounded, -(SCALE_STEPS - 1.0))
    return SCALE_MIN * torch.exp(LOG_SCALE_STEP * bounded)


class FactorizedPrior(nn.Module):
    """Per-channel density of z with learned monotone cumulative (Ballé et al. 2018, appendix 6.1).

    Values are coded as round(z): the prior carries the location itself, so no medians are needed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = (1, *FILTERS, 1)
        scale = INIT_SCALE ** (1 / len(FILTERS))
        self.channels = channels
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for ins, outs in zip(sizes[:-1], sizes[1:], strict=True):
            init = math.log(math.expm1(1 / scale / outs))
            self.matrices.append(nn.Parameter(torch.full((channels, outs, ins), init)))
            self.biases.append(nn.Parameter(torch.empty(channels, outs, 1).uniform_(-0.5, 0.5)))
            if outs != 1:
                self.factors.append(nn.Parameter(torch.zeros(channels, outs, 1)))

    def logits(self, x: Tensor) -> Tensor:
        """Logit of the cumulative at x (C, 1, N)."""
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = F.softplus(matrix) @ x + bias
            if k < len(self.factors):
                x = x + torch.tanh(self.factors[k]) * torch.tanh(x)
        return x

    def likelihood(self, z: Tensor) -> Tensor:
        """Probability mass of [z - 1/2, z + 1/2]: z (B, C, h, w), float32."""
        flat = z.transpose(0, 1).reshape(self.channels, 1, -1)
        lower, upper = self.logits(flat - 0.5), self.logits(flat + 0.5)
        sign = -torch.sign(lower + upper).detach()
        p = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return p.reshape(z.shape[1], z.shape[0], *z.shape[2:]).transpose(0, 1)

    def bits(self, z: Tensor) -> Tensor:
        """Bits per element of z (B, C, h, w)."""
        return -torch.log2(lower_bound(self.likelihood(z), Z_LIKELIHOOD_FLOOR))

    @torch.no_grad()
    def pmf(self, amax: int) -> Tensor:
        """Probabilities of the integers -amax .. amax: float64 (C, 2 amax + 1), not normalised."""
        values = torch.arange(-amax, amax + 1, dtype=torch.float32)
        grid = values.reshape(1, 1, 1, -1).expand(1, self.channels, 1, -1)
        return self.likelihood(grid)[0, :, 0].double()
