"""The entropy path in integers carried in float32: the same bits on every engine, thread count and machine.

Weights and activations are integers, every partial sum stays below 2^24 and requantisation is a multiplication by a
power of two, a floor and a clamp. Each of these operations is exact in float32, so any summation order gives the same
result (design decision "bit-exact entropy path"; idea of integer networks: Ballé et al. 2019). `quantise` makes such
a path from a trained supernet; `prove` is the bound that every output channel is checked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from basic_train.grouping import Grouping
from basic_train.model.context import context_mask, interleave, merger_mask, phases

#: Sums of magnitudes stay below this: float32 holds every integer up to 2^24.
EXACT_LIMIT = 2**24
#: Largest magnitude of a weight: fits int16 and float16 storage.
WEIGHT_MAX = 2047
#: That of k x k convolutions, by far the largest layers: fits int8, and costs up to 0.3 % of rate (docs/lab.md). The
#: full width, which is there for the rate, has two bits more.
KERNEL_WEIGHT_MAX, FULL_KERNEL_WEIGHT_MAX = 127, 511
#: Means are multiples of 2^-MEAN_BITS, so that symbol + mean is exact.
MEAN_BITS = 6
MEAN_MAX = 2**15 - 1
#: Hyper-latent symbols are clamped to +- this.
Z_MAX = 127
#: LeakyReLU's slope in the integer path: the power of two next to the original's 0.01, and what `lite` trains with.
LEAK_BITS = 7
#: sigma of the "linear" scale parameter is carried in units of 2^-LINEAR_SCALE_BITS.
LINEAR_SCALE_BITS = 8


class OverflowBoundError(ValueError):
    """A layer could leave the range in which float32 is exact."""


@dataclass(frozen=True)
class IntegerLayer:
    """One convolution with requantisation: clamp(leak(floor((conv(x) + bias) * 2^-shift)), low, high).

    weight: integers in float32, (out, in, k, k), or (in, out, k, k) when transposed. bias: integers (out,), the half
    that turns floor into rounding included. shift: int64 (out,), at least 1. low, high: of each channel
    (out,). leak: negative results are multiplied by 2^-LEAK_BITS and rounded. shuffle: factor of the pixel shuffle
    behind, or 1.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor
    leak: bool = False
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    transposed: bool = False
    shuffle: int = 1

    def accumulate(self, x: Tensor) -> Tensor:
        """Integer sums before requantisation."""
        if self.transposed:
            return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.requantise(self.accumulate(x))
        return F.pixel_shuffle(y, self.shuffle) if self.shuffle > 1 else y

    def requantise(self, sums: Tensor) -> Tensor:
        return requantise(sums, self.shift, self.low, self.high, self.leak)


def requantise(sums: Tensor, shift: Tensor, low: Tensor, high: Tensor, leak: bool) -> Tensor:
    """clamp(leak(floor(sums * 2^-shift)), low, high) per channel: sums (1, C, h, w), shift, low and high (C,).

    leak divides negative integers by 2^LEAK_BITS and rounds again: rounding only once, with the half that sits in the
    bias, would divide that half too and pull every negative unit down by 1/2.
    """
    rounded = torch.floor(sums * torch.exp2(-shift.to(sums.dtype))[None, :, None, None])
    if leak:
        rounded = torch.floor(torch.maximum(rounded, rounded * 2.0**-LEAK_BITS) + 0.5)
    return torch.clamp(rounded, low[None, :, None, None], high[None, :, None, None])


@dataclass(frozen=True)
class IntegerContext:
    """The grouped context model in integers.

    context: masked convolution as one unmasked layer (the mask is applied per phase), merge_context and merge_prior:
    the two halves of the first merger layer, whose sums and the phase's part of phase_bias (t, t, hidden1) are added
    before the requantisation of merge_context. y_shift: int64 (M,), bits by which y_hat (units 2^-MEAN_BITS) is rounded
    on its way in, y_max: (M,) what it is clamped to then.
    """

    grouping: Grouping
    kernel: int
    y_shift: Tensor
    y_max: Tensor
    context: IntegerLayer
    merge_context: IntegerLayer
    merge_prior: Tensor
    phase_bias: Tensor
    merge_hidden: IntegerLayer
    merge_out: IntegerLayer

    def input(self, y_hat: Tensor) -> Tensor:
        """What the masked convolution reads: y_hat rounded and clamped to +-y_max."""
        rounded = torch.floor(y_hat * torch.exp2(-self.y_shift.float())[None, :, None, None] + 0.5)
        limit = self.y_max[None, :, None, None]
        return torch.clamp(rounded, -limit, limit)

    def masked_weight(self, phase: tuple[int, int]) -> Tensor:
        """Weights of the masked convolution as one phase sees them."""
        mask = context_mask(self.grouping, phase, self.kernel)
        return self.context.weight * expand(mask, self.context.weight)

    def __call__(self, y_hat: Tensor, prior: Tensor) -> Tensor:
        """All parameters in one pass: y_hat (1, M, h, w), prior (1, P, h, w) to (1, 2M, h, w)."""
        side, pad = self.grouping.side, self.kernel // 2
        padded = F.pad(self.input(y_hat), [pad] * 4)
        grid: list[list[Tensor]] = [[] for _ in range(side)]
        for i, j in phases(side):
            sums = F.conv2d(padded[:, :, i:, j:], self.masked_weight((i, j)), self.context.bias, stride=side)
            part = prior[:, :, i::side, j::side]
            context = self.context.requantise(sums[:, :, : part.shape[2], : part.shape[3]])
            grid[i].append(self._merge(context, part, (i, j)))
        return interleave(grid)

    def _merge(self, context: Tensor, prior: Tensor, phase: tuple[int, int]) -> Tensor:
        mask = merger_mask(self.grouping, phase)[:, :, None, None]

        def masked(layer: IntegerLayer) -> IntegerLayer:
            return replace(layer, weight=layer.weight * expand(mask, layer.weight))

        first = masked(self.merge_context)
        own = self.phase_bias[phase][None, :, None, None]
        hidden = first.requantise(first.accumulate(context) + F.conv2d(prior, self.merge_prior) + own)
        return masked(self.merge_out)(masked(self.merge_hidden)(hidden))


def expand(mask: np.ndarray, weight: Tensor) -> Tensor:
    """A mask over channel groups (G out, G in, kh, kw) repeated to a weight's channels."""
    groups = mask.shape[0]
    tensor = torch.from_numpy(mask).to(weight.dtype)
    tensor = tensor.repeat_interleave(weight.shape[0] // groups, 0)
    return tensor.repeat_interleave(weight.shape[1] // groups, 1)


@dataclass(frozen=True)
class IntegerEntropy:
    """h_s and the context model at one width, with all that the runtime needs to turn their outputs into tables.

    index_lut: uint8 (L,), table index of each value of the scale output, which is clamped to 0 .. L-1.
    """

    width: int
    layers: tuple[IntegerLayer, ...]
    context: IntegerContext
    index_lut: np.ndarray
    mean_bits: int = MEAN_BITS
    z_amax: int = Z_MAX

    @property
    def grouping(self) -> Grouping:
        return self.context.grouping

    @torch.no_grad()
    def h_s(self, z: Tensor) -> Tensor:
        """Prior of y (1, P, h, w) from integer z (1, N, h/4, w/4); both float32 holding integers."""
        for layer in self.layers:
            z = layer(z)
        return z

    @torch.no_grad()
    def parameters(self, y_hat: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Means (units 2^-mean_bits) and scale values, each (1, M, h, w), for y_hat in units 2^-mean_bits."""
        out = self.context(y_hat, prior)
        return out[:, 0::2], out[:, 1::2]

    def indexes(self, scale: Tensor) -> Tensor:
        """Table index of each scale value (clamped to the table's range), uint8."""
        return torch.from_numpy(self.index_lut)[scale.clamp(0, len(self.index_lut) - 1).long()]


def prove(name: str, weight: Tensor, bias: Tensor, in_max: Tensor, extra: Tensor | None = None) -> float:
    """Check sum |w| max|a| + |b| < 2^24 for every output channel; returns the largest share of the limit used.

    weight: (out, in, k, k) integers as the layer applies them (masked); in_max: (in,) largest magnitude of each input
    channel; extra: further sums of magnitudes per output channel.
    Raises OverflowBoundError naming the layer.
    """
    total = weight.abs().double().flatten(2).sum(2) @ in_max.double() + bias.abs().double()
    if extra is not None:
        total = total + extra.double()
    worst = float(total.max())
    if not worst < EXACT_LIMIT:  # so that NaN is refused too
        raise OverflowBoundError(f"{name}: a sum may reach {worst:.0f}, beyond 2^24: not exact in float32")
    return worst / EXACT_LIMIT


def exact_share(entropy: IntegerEntropy) -> float:
    """Largest share of the exact range that any sum of the path can use. Raises OverflowBoundError naming a layer whose
    sums may leave it."""
    context, first_in = entropy.context, out_first(entropy.layers[0]).shape[1]
    shares, in_max = [], torch.full((first_in,), Z_MAX)
    for number, layer in enumerate(entropy.layers):
        shares.append(prove(f"h_s layer {number}", out_first(layer), layer.bias, in_max))
        in_max = layer.high.unflatten(0, (-1, layer.shuffle**2)).amax(1)
    shares += [
        prove(f"masked convolution, phase {p}", context.masked_weight(p), context.context.bias, context.y_max)
        for p in phases(context.grouping.side)
    ]
    first = context.merge_context
    extra = context.merge_prior.abs().double().flatten(1) @ in_max.double()
    extra += context.phase_bias.abs().double().amax((0, 1))
    shares.append(prove("merger layer 1", first.weight, first.bias, context.context.high, extra))
    ins = first.high
    for number, layer in ((2, context.merge_hidden), (3, context.merge_out)):
        shares.append(prove(f"merger layer {number}", layer.weight, layer.bias, ins))
        ins = layer.high
    return max(shares)


def out_first(layer: IntegerLayer) -> Tensor:
    return layer.weight.transpose(0, 1) if layer.transposed else layer.weight
