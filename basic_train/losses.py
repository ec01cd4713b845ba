"""The rate-distortion loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basic_train.model.supernet import TrainOutput

#: The quality whose loss has weight 1, and how fast the weight falls with lambda. Losses grow with lambda;
#: without the balance the gradient of a batch of mixed qualities is that of its best picture.
BALANCE_LAMBDA, BALANCE_POWER = 0.013, 0.4


@dataclass
class RateDistortion:
    """loss: scalar to minimise; bpp and mse: per image (B,), detached."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor


def lambda_of_quality(quality: Tensor, lambda_min: float, lambda_max: float) -> Tensor:
    """Geometric: quality 0 is lambda_min, quality 1 is lambda_max."""
    return lambda_min * (lambda_max / lambda_min) ** quality


def rate_distortion(output: TrainOutput, x: Tensor, lambdas: Tensor) -> RateDistortion:
    """Mean of bpp + lambda 255^2 MSE per image (CompressAI's lambda), balanced over qualities.

    x: (B, 3, H, W) in [0, 1]; lambdas: (B,).
    """
    pixels = x.shape[-1] * x.shape[-2]
    bpp = (output.y_bits + output.z_bits) / pixels
    mse = (output.x_hat - x).square().flatten(1).mean(1)
    weight = (BALANCE_LAMBDA / lambdas) ** BALANCE_POWER
    loss = torch.mean(weight * (bpp + lambdas * 255**2 * mse))
    return RateDistortion(loss, bpp.detach(), mse.detach())
