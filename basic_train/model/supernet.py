"""The supernet: all widths, all qualities and one grouping in one set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from basic_train.model import lite
from basic_train.model.context import GroupedContext
from basic_train.model.presets import ModelConfig
from basic_train.model.priors import (
    SCALE_MIN,
    FactorizedPrior,
    gaussian_bits,
    lower_bound,
    round_ste,
    scale_from_log_index,
    uniform_noise,
)

#: The log scale parameter is learnt as (index - LOG_SCALE_BIAS) / LOG_SCALE_GAIN, so that unit steps of the
#: network's output mean factors of e, and an untrained network starts at sigma = 1.3.
LOG_SCALE_GAIN, LOG_SCALE_BIAS = 8.0, 20.0

Y_STRIDE, Z_STRIDE = 16, 64


class Widths(NamedTuple):
    """Width index of each transform (0 = narrowest). The context model goes with h_s."""

    g_a: int
    h_a: int
    h_s: int
    g_s: int


@dataclass
class TrainOutput:
    """Bits per image of y and z (B,) and the reconstruction (B, 3, H, W), not clamped."""

    y_bits: Tensor
    z_bits: Tensor
    x_hat: Tensor


class QualityGains(nn.Module):
    """Per-channel scaling of y for every quality in [0, 1], interpolated between anchors in the log domain.

    The encoder multiplies y by encode(q), the decoder multiplies y_hat by decode(q); they start as
    reciprocals with the quantisation step that rate theory predicts, proportional to 1/sqrt(lambda) (gained
    VAE, Cui et al. 2021).
    """

    def __init__(self, channels: int, anchors: int, lambda_ratio: float) -> None:
        super().__init__()
        steps = 0.5 * torch.linspace(0, 1, anchors) * torch.tensor(lambda_ratio).log()
        self.log_encode = nn.Parameter(steps[:, None].repeat(1, channels))
        self.log_decode = nn.Parameter(-steps[:, None].repeat(1, channels))

    def encode(self, quality: Tensor) -> Tensor:
        """Gains (B, M, 1, 1) for qualities (B,) in [0, 1]."""
        return self._interpolate(self.log_encode, quality)

    def decode(self, quality: Tensor) -> Tensor:
        """Inverse gains (B, M, 1, 1) for qualities (B,) in [0, 1]."""
        return self._interpolate(self.log_decode, quality)

    @staticmethod
    def _interpolate(table: Tensor, quality: Tensor) -> Tensor:
        position = quality.clamp(0, 1) * (table.shape[0] - 1)
        low = position.floor().clamp(max=table.shape[0] - 2).long()
        weight = (position - low)[:, None]
        return torch.exp(table[low] * (1 - weight) + table[low + 1] * weight)[:, :, None, None]


class Supernet(nn.Module):
    """Four slimmable transforms, the prior of z, the grouped context model and the quality gains."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        m, n = config.y_channels, config.z_channels
        if config.backbone == "lite":
            blocks = lite.Blocks(config.quarter_blocks, config.eighth_blocks, config.latent_blocks)
            self.g_a = lite.analysis(config.widths, m, blocks)
            self.h_a = lite.hyper_analysis(config.hyper_widths, m, n)
            self.h_s = lite.hyper_synthesis(config.hyper_widths, n, config.priors)
            self.g_s = lite.synthesis(config.widths, m, blocks)
        else:
            from basic_train.model import paper

            self.g_a = paper.analysis(config.widths, m)
            self.h_a = paper.hyper_analysis(config.hyper_widths, m, n)
            self.h_s = paper.hyper_synthesis(config.hyper_widths, n, config.priors)
            self.g_s = paper.synthesis(config.widths, m)
        self.z_prior = FactorizedPrior(n)
        self.context = GroupedContext(
            m,
            config.grouping_map(),
            config.contexts,
            config.priors,
            config.context_kernel,
            config.context_slope,
        )
        self.gains = QualityGains(m, config.quality_anchors, config.lambda_max / config.lambda_min)

    @property
    def full(self) -> Widths:
        """The widest configuration."""
        return self.uniform(len(self.config.widths) - 1)

    @staticmethod
    def uniform(index: int) -> Widths:
        """All four transforms at one width index."""
        return Widths(index, index, index, index)

    def sigma(self, raw: Tensor) -> Tensor:
        """Standard deviation of y from the context model's scale output."""
        if self.config.scale_parameter == "log":
            return scale_from_log_index(LOG_SCALE_GAIN * raw + LOG_SCALE_BIAS)
        return lower_bound(raw, SCALE_MIN)

    def forward(self, x: Tensor, quality: Tensor, widths: Widths) -> TrainOutput:
        """Training pass: x (B, 3, H, W) in [0, 1], sides multiples of 64; quality (B,) in [0, 1].

        Rates use uniform noise; h_s and g_s see rounded latents with straight-through gradients, g_s by the
        rule of the real decoder, y_hat = round(y - mean) + mean (model-spec §2.2, §9.14).
        """
        y = self.g_a(x, widths.g_a).float() * self.gains.encode(quality)
        z = self.h_a(y, widths.h_a).float()
        prior = self.h_s(round_ste(z), widths.h_s)
        parameters = self.context(uniform_noise(y), prior, widths.h_s).float()
        mean, sigma = parameters[:, 0::2], self.sigma(parameters[:, 1::2])
        y_hat = round_ste(y - mean) + mean
        x_hat = self.g_s(y_hat * self.gains.decode(quality), widths.g_s).float()
        with torch.autocast(x.device.type, enabled=False):
            y_bits = gaussian_bits(uniform_noise(y - mean), sigma).flatten(1).sum(1)
            z_bits = self.z_prior.bits(uniform_noise(z)).flatten(1).sum(1)
        return TrainOutput(y_bits, z_bits, x_hat)
