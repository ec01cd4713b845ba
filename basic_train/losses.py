"""The rate-distortion loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basic_train.model.supernet import TrainOutput

#: The quality whose loss has weight 1, and how fast the weight falls with lambda. Losses grow with lambda;
#: without the balance the gradient of a batch of mixed qualities is that of its best picture.
BALANCE_LAMBDA, BALANCE_POWER = 0.013, 0.4

#: lambda of bpp + lambda (1 - MS-SSIM) that goes with a lambda of bpp + lambda 255^2 MSE. CompressAI's pairs for its
#: qualities 1 to 8, from 2.40 and 0.0018 to 220 and 0.18, have ratios of 1222 to 1333; this is their geometric mean.
MS_SSIM_LAMBDA = 1275.0


@dataclass
class RateDistortion:
    """loss: scalar to minimise; bpp and mse: per image (B,), detached."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor


def balance(lambdas: Tensor) -> Tensor:
    """Weight of each image's loss, so that no quality drowns the others: lambdas (B,)."""
    return (BALANCE_LAMBDA / lambdas) ** BALANCE_POWER


def squared_error(x: Tensor, other: Tensor) -> Tensor:
    """Mean squared error per image (B,) of pictures (B, C, H, W)."""
    return (x - other).square().flatten(1).mean(1)


def rate_distortion(output: TrainOutput, x: Tensor, lambdas: Tensor, distortion: str = "mse") -> RateDistortion:
    """Mean of bpp + lambda 255^2 MSE per image (CompressAI's lambda), balanced over qualities.

    x: (B, 3, H, W) in [0, 1]; lambdas: (B,). distortion: "ms-ssim" puts MS_SSIM_LAMBDA lambda (1 - MS-SSIM) in the
    place of the squared error, for sides of more than 160 pixels.
    """
    pixels = x.shape[-1] * x.shape[-2]
    bpp = (output.y_bits + output.z_bits) / pixels
    mse = squared_error(output.x_hat, x)
    weighed = lambdas * 255**2 * mse
    if distortion == "ms-ssim":
        weighed = torch.where(*_dissimilarity(output.x_hat, x, MS_SSIM_LAMBDA * lambdas), weighed)
    loss = torch.mean(balance(lambdas) * (bpp + weighed))
    return RateDistortion(loss, bpp.detach(), mse.detach())


def _dissimilarity(x_hat: Tensor, x: Tensor, lambdas: Tensor) -> tuple[Tensor, Tensor]:
    """Which images (B,) have an MS-SSIM, and lambda (1 - MS-SSIM) of these, 0 of the others.

    Where a channel's structure is not even positively correlated at some scale, MS-SSIM is a power of 0, whose gradient
    is not finite; such images, as an untrained net makes them, learn by squared error.
    """
    from pytorch_msssim import ms_ssim

    def similarity(ours: Tensor, theirs: Tensor) -> Tensor:
        planes = [v.float().flatten(0, 1)[:, None] for v in (ours, theirs)]  # (3B, 1, H, W): a value per channel
        return ms_ssim(*planes, data_range=1.0, size_average=False).view(-1, 3)

    with torch.autocast(x.device.type, enabled=False):
        with torch.no_grad():
            usable = (similarity(x_hat, x) > 0).all(1)
        weighed = torch.zeros_like(lambdas)
        if usable.any():
            per_channel = similarity(x_hat[usable], x[usable])
            weighed = weighed.masked_scatter(usable, lambdas[usable] * (1 - per_channel.mean(1)))
    return usable, weighed
