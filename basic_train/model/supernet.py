"""The supernet: all widths, all qualities and one grouping in one set of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from basic_train.model.backbones import BACKBONES
from basic_train.model.config import ModelConfig
from basic_train.model.context import GroupedContext
from basic_train.model.hyperprior import PriorPerWidth, ScaleOnly
from basic_train.model.priors import (
    DENSITIES,
    SCALE_MIN,
    FactorizedPrior,
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


@dataclass
class Latents:
    """What reaches the decoder, (B, M, h, w), and bits per image of y and z (B,); y and its prior, for other coders
    of y."""

    y_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor
    y: Tensor
    prior: Tensor


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
        self.g_a, self.h_a, self.h_s, self.g_s = BACKBONES[config.backbone](config)
        self.z_prior = PriorPerWidth(config.latents) if config.latents else FactorizedPrior(n)
        self.context = self._context(config, 0)
        self.alternatives = nn.ModuleList(self._context(config, k + 1) for k in range(len(config.alternatives)))
        self.gains = QualityGains(m, config.quality_anchors, config.lambda_max / config.lambda_min)

    @staticmethod
    def _context(config: ModelConfig, number: int) -> GroupedContext | ScaleOnly:
        if config.context == "scale-only":
            return ScaleOnly()
        return GroupedContext(
            config.y_channels,
            config.groupings()[number],
            config.contexts,
            config.priors,
            config.context_kernel,
            config.context_slope,
            config.phase_bias,
        )

    @property
    def full(self) -> Widths:
        """The widest configuration."""
        return self.uniform(len(self.config.widths) - 1)

    @staticmethod
    def uniform(index: int) -> Widths:
        """All four transforms at one width index."""
        return Widths(index, index, index, index)

    def trained(self, index: int) -> Widths:
        """All four transforms at the size of a width index; of several indexes of one size, the one that is trained."""
        return Widths(*(next(i for i in choices if i >= index) for choices in self.config.choices()))

    def sigma(self, raw: Tensor) -> Tensor:
        """Standard deviation of y from the context model's scale output."""
        if self.config.scale_parameter == "log":
            return scale_from_log_index(LOG_SCALE_GAIN * raw + LOG_SCALE_BIAS)
        return lower_bound(raw, SCALE_MIN)

    def mean_and_sigma(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (B, M, h, w) of y from a context model's output (B, 2M, h, w)."""
        return parameters[:, 0::2], self.sigma(parameters[:, 1::2])

    def bits(self, values: Tensor, sigma: Tensor) -> Tensor:
        """Bits of each element of y less its mean, by the density of the model."""
        return DENSITIES[self.config.density].bits(values, sigma)

    def forward(self, x: Tensor, quality: Tensor, widths: Widths) -> TrainOutput:
        """Training pass: x (B, 3, H, W) in [0, 1], sides multiples of 64; quality (B,) in [0, 1].

        h_s, the context model and g_s see rounded latents with straight-through gradients, y_hat by the rule of the
        real decoder, round(y - mean) + mean (model-spec §9.14); rates: `means_and_rate`, and uniform noise for z.
        Raises ValueError for different widths where latents go with the width.
        """
        latents = self.latents(x, quality, widths)
        x_hat = self.reconstruct(latents.y_hat, quality, widths.g_s)
        return TrainOutput(latents.y_bits, latents.z_bits, x_hat)

    def latents(self, x: Tensor, quality: Tensor, widths: Widths) -> Latents:
        """The part of `forward` before g_s."""
        if self.config.latents and len(set(widths)) > 1:
            raise ValueError(f"the latents of {self.config.preset} go with the width: all four must be equal")
        y = self.analyse(x, quality, widths.g_a)
        z = self.h_a(y, widths.h_a).float()
        prior = self.h_s(round_ste(z), widths.h_s)
        mean, y_bits = self.means_and_rate(self.context, y, prior, widths.h_s)
        with torch.autocast(x.device.type, enabled=False):
            z_bits = self._prior_of_z(widths).bits(uniform_noise(z)).flatten(1).sum(1)
        return Latents(round_ste(y - mean) + mean, y_bits, z_bits, y, prior)

    def means_and_rate(
        self, context: Callable[[Tensor, Tensor, int], Tensor], y: Tensor, prior: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        """Means of y (B, M, h, w) and its bits per image (B,) by a context model.

        With `train_rounded` the context model reads what the decoder will have: y rounded about means that a first
        pass predicts from y itself. The bits are those of the rounded symbols and teach the scales; y and its means
        learn from the noise stand-in, as rounding has no gradient ("soft then hard", Guo et al. 2021; rounded
        context: Minnen and Singh 2020). Without, both are noise, as in the original.
        """
        read = self._decoded(context, y, prior, index) if self.config.train_rounded else uniform_noise(y)
        parameters = context(read, prior, index).float()
        mean, sigma = self.mean_and_sigma(parameters)
        with torch.autocast(y.device.type, enabled=False):
            if not self.config.train_rounded:
                return mean, self.bits(uniform_noise(y - mean), sigma).flatten(1).sum(1)
            soft = self.bits(uniform_noise(y - mean), sigma.detach())
            bits = self.bits(torch.floor(y - mean + 0.5).detach(), sigma) + soft - soft.detach()
            return mean, bits.flatten(1).sum(1)

    @staticmethod
    def _decoded(context: Callable[[Tensor, Tensor, int], Tensor], y: Tensor, prior: Tensor, index: int) -> Tensor:
        """About the y_hat of the decoder, with the gradient of y."""
        with torch.no_grad():
            guess = context(y, prior, index).float()[:, 0::2]
            decoded = round_ste(y - guess) + guess
        return y + (decoded - y).detach()

    def with_grouping(self, name: str) -> Supernet:
        """This net with one of its groupings as the only one; weights are copied. Raises ValueError."""
        names = [grouping.name for grouping in self.config.groupings()]
        if name not in names:
            raise ValueError(f"the model has no grouping {name!r}; it has {', '.join(names)}")
        number = names.index(name)
        chosen = self.config.groupings()[number]
        net = Supernet(replace(self.config, grouping_name=name, grouping=chosen.tile.tolist(), alternatives=[]))
        kept = {k: v for k, v in self.state_dict().items() if not k.startswith(("alternatives.", "context."))}
        context = self.context if number == 0 else self.alternatives[number - 1]
        kept |= {f"context.{k}": v for k, v in context.state_dict().items()}
        net.load_state_dict(kept)
        return net.train(self.training)

    def analyse(self, x: Tensor, quality: Tensor, index: int) -> Tensor:
        """y (B, M, h, w) in quantisation steps, of x (B, 3, 16h, 16w) at a width of g_a."""
        gain = self.gains.encode(quality)
        if self.config.linear_path:
            return self.g_a(x, index, gain)
        y = self.g_a(x, index).float()
        return y * gain[:, : y.shape[1]]

    def reconstruct(self, y_hat: Tensor, quality: Tensor, index: int) -> Tensor:
        """The picture (B, 3, 16h, 16w), not clamped, of y_hat (B, M, h, w) at a width of g_s."""
        gain = self.gains.decode(quality)
        if self.config.linear_path:
            return self.g_s(y_hat, index, gain)
        return self.g_s(y_hat * gain[:, : y_hat.shape[1]], index).float()

    def _prior_of_z(self, widths: Widths) -> FactorizedPrior:
        return self.z_prior[widths.h_s] if isinstance(self.z_prior, PriorPerWidth) else self.z_prior
