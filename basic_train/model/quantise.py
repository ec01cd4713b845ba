"""Makes the integer entropy path of a trained supernet: units chosen on calibration latents, rounded weights, biases
that make up for the rounding, and the bound of exactness proved for every output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from basic_train.model.coded import round_z
from basic_train.model.context import context_mask, phases
from basic_train.model.integer import (
    EXACT_LIMIT,
    FULL_KERNEL_WEIGHT_MAX,
    KERNEL_WEIGHT_MAX,
    LINEAR_SCALE_BITS,
    MEAN_BITS,
    MEAN_MAX,
    WEIGHT_MAX,
    Z_MAX,
    IntegerContext,
    IntegerEntropy,
    IntegerLayer,
    exact_share,
    expand,
)
from basic_train.model.priors import LOG_SCALE_STEP, SCALE_MIN, SCALE_STEPS
from basic_train.model.supernet import LOG_SCALE_BIAS, LOG_SCALE_GAIN, Supernet

#: How far beyond the largest value of the calibration latents an activation may go before it is clipped.
HEADROOM = 1.5
#: Largest magnitude of an activation.
LIMIT_MAX = 2**15 - 1
#: Share of the exact range that is planned with; the rest is for the rounding of the weights.
EXACT_SHARE = 15 / 16
#: What an error of one table index costs, squared, against an error of a mean by one step.
INDEX_IMPORTANCE = 0.01


@dataclass(frozen=True)
class ActivationStats:
    """What calibration saw of a tensor, per channel (C,): the largest magnitude, and a typical one.

    The typical magnitude is the geometric mean over latents of their root mean squares: activations of the finest
    quality are up to forty times those of the coarsest, which must not drown in their units.
    """

    largest: Tensor
    typical: Tensor

    @classmethod
    def of(cls, values: Sequence[Tensor]) -> ActivationStats:
        """Of tensors (1, C, h, w)."""
        flat = [value[0].flatten(1) for value in values]
        largest = torch.stack([value.abs().amax(1) for value in flat]).amax(0)
        sizes = torch.stack([value.square().mean(1) for value in flat])
        return cls(largest, torch.exp(0.5 * torch.log(sizes + 1e-9).mean(0)))

    def beside(self, other: ActivationStats) -> ActivationStats:
        """The channels of both."""
        return ActivationStats(torch.cat([self.largest, other.largest]), torch.cat([self.typical, other.typical]))

    @property
    def range(self) -> Tensor:
        """What must not be clipped: clipping costs far more rate than coarse rounding (docs/lab.md)."""
        return HEADROOM * self.largest + 1e-3


@dataclass(frozen=True)
class FixedPoint:
    """How a tensor is held in integers, per channel: v as round(v 2^bits), clamped to +-limit. float32 (C,)."""

    bits: Tensor
    limit: Tensor

    @classmethod
    def covering(cls, seen: ActivationStats, bits: Tensor) -> FixedPoint:
        """With these bits, or as many as LIMIT_MAX allows."""
        bits = torch.minimum(bits, torch.log2(LIMIT_MAX / seen.range))
        return cls(bits, torch.ceil(seen.range * torch.exp2(bits)).clamp(1, LIMIT_MAX))


def balanced(seen: ActivationStats, weight: Tensor, bias: Tensor, importance: Tensor, taps: float = 1) -> Tensor:
    """Fraction bits (C,) of a tensor with which the layer that reads it is least wrong.

    weight: (out, C, k, k), bias: (out,), as the float layer applies them; importance q: (out,) what the square of an
    error of each sum costs; taps: how many of k x k count. A sum that stays exact has a unit u >= sum |w| range / 2^24,
    whatever the units d of its inputs. Rounding of the input is off by d w, that of w d / u by a u / d: the sum of q
    times both squares is least at d^4 = taps a^2 sum q u^2 / sum q w^2.
    """
    units = (weight.abs().flatten(2).sum(2) @ seen.range + bias.abs()) / (EXACT_LIMIT * EXACT_SHARE)
    ratio = taps * seen.typical.square() * (importance @ units.square()) / (importance_of(weight, importance) + 1e-12)
    return -0.25 * torch.log2(ratio + 1e-12)


def importance_of(weight: Tensor, importance: Tensor) -> Tensor:
    """What the square of an error of each input (C,) of a layer costs: weight (out, C, k, k), importance (out,)."""
    return importance @ weight.flatten(2).square().sum(2)


def _sum_bits(
    weight: Tensor, bias: Tensor, ins: FixedPoint, masks: Sequence[Tensor] = (), weight_max: int = WEIGHT_MAX
) -> Tensor:
    """Most fraction bits of a layer's sums, per output channel, that keep them exact: float32 (out,).

    Bounded by sum |w| max|a| + |b| (the largest over the masks the layer is used with) and by weight_max.
    """
    magnitude = (weight * torch.exp2(-ins.bits)[None, :, None, None]).abs()
    sums = [(magnitude * m).flatten(2).sum(2) @ ins.limit for m in masks or (torch.ones(()),)]
    room = EXACT_LIMIT * EXACT_SHARE / (torch.stack(sums).amax(0) + bias.abs() + 1e-9)
    return torch.minimum(torch.log2(room), torch.log2(weight_max / (magnitude.flatten(1).amax(1) + 1e-9)))


def _reachable(seen: ActivationStats, wanted: Tensor, sum_bits: Tensor, group: int = 1) -> FixedPoint:
    """Output units that rounding can serve: coarser than those of the sums, in all `group` channels of a shuffle."""
    return FixedPoint.covering(seen, torch.minimum(wanted, sum_bits.unflatten(0, (-1, group)).amin(1) - 1))


def kernel_weight_max(net: Supernet, index: int) -> int:
    """Largest magnitude of the weights of k x k convolutions at a width of h_s."""
    return FULL_KERNEL_WEIGHT_MAX if index + 1 == len(net.config.hyper_widths) else KERNEL_WEIGHT_MAX


def integer_layer(weight: Tensor, bias: Tensor, ins: FixedPoint, sum_bits: Tensor, outs: FixedPoint) -> IntegerLayer:
    """Quantise one convolution (out, in, k, k) that reads integers in units `ins` and writes such in units `outs`."""
    shift = torch.floor(sum_bits - outs.bits).clamp(1, 23)
    scale = torch.exp2(outs.bits + shift)
    scaled = weight * torch.exp2(-ins.bits)[None, :, None, None]
    integers = torch.round(scaled * scale[:, None, None, None])
    offsets = torch.round(bias * scale) + torch.exp2(shift - 1)
    return IntegerLayer(integers, offsets, shift.to(torch.int64), -outs.limit, outs.limit)


def _hyper_seen(net: Supernet, index: int, z: Sequence[Tensor]) -> tuple[list[ActivationStats], list[Tensor]]:
    """What calibration sees of each layer's output, and the float prior of each latent."""
    values, seen = list(z), []
    for conv, followers in _blocks(net.h_s.plain(index)):
        values = [nn.Sequential(*followers)(conv(value)) for value in values]
        seen.append(ActivationStats.of(values))
    return seen, values


def _hyper_layers(
    net: Supernet, index: int, seen: Sequence[ActivationStats], prior_bits: Tensor, importance: Tensor
) -> tuple[list[IntegerLayer], FixedPoint]:
    """h_s in integers: layers, and the units of the prior, of `prior_bits` at best. importance: of the prior."""
    blocks = _blocks(net.h_s.plain(index))
    wanted = [prior_bits]
    for number in range(len(blocks) - 1, 0, -1):
        conv, followers = blocks[number]
        weight, group = _out_by_in(conv), _shuffle(followers) ** 2
        costs = importance.repeat_interleave(group)
        wanted.append(balanced(seen[number - 1], weight, conv.bias.detach(), costs, weight[0, 0].numel()))
        importance = importance_of(weight, costs)
    layers: list[IntegerLayer] = []
    ins = FixedPoint(torch.zeros(net.config.z_channels), torch.full((net.config.z_channels,), float(Z_MAX)))
    for (conv, followers), outputs, bits in zip(blocks, seen, reversed(wanted), strict=True):
        layer, ins = _hyper_layer(conv, followers, ins, outputs, bits, kernel_weight_max(net, index))
        layers.append(layer)
    return layers, ins


def _blocks(modules: nn.Sequential) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Convolutions with the activations and shuffles behind each. Raises TypeError for anything else."""
    blocks: list[tuple[nn.Module, list[nn.Module]]] = []
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            blocks.append((module, []))
        elif blocks and isinstance(module, nn.ReLU | nn.LeakyReLU | nn.PixelShuffle):
            blocks[-1][1].append(module)
        else:
            raise TypeError(f"h_s has a {type(module).__name__}, which the integer path does not know")
    return blocks


def _out_by_in(conv: nn.Module) -> Tensor:
    """Weight (out, in, k, k)."""
    weight = conv.weight.detach()
    return weight.transpose(0, 1) if isinstance(conv, nn.ConvTranspose2d) else weight


def _shuffle(followers: Sequence[nn.Module]) -> int:
    return next((m.upscale_factor for m in followers if isinstance(m, nn.PixelShuffle)), 1)


def _hyper_layer(
    conv: nn.Module, followers: list[nn.Module], ins: FixedPoint, seen: ActivationStats, wanted: Tensor, weight_max: int
) -> tuple[IntegerLayer, FixedPoint]:
    """One block of h_s in integers, and the units of its output channels."""
    transposed = isinstance(conv, nn.ConvTranspose2d)
    relu = any(isinstance(m, nn.ReLU) for m in followers)
    shuffle = _shuffle(followers)
    weight, bias = _out_by_in(conv), conv.bias.detach()
    sum_bits = _sum_bits(weight, bias, ins, weight_max=weight_max)
    outs = _reachable(seen, wanted, sum_bits, shuffle**2)
    unshuffled = FixedPoint(*(part.repeat_interleave(shuffle**2) for part in (outs.bits, outs.limit)))
    layer = integer_layer(weight, bias, ins, sum_bits, unshuffled)
    layer = replace(
        layer,
        weight=layer.weight.transpose(0, 1).contiguous() if transposed else layer.weight,
        low=torch.zeros_like(layer.low) if relu else layer.low,
        leak=any(isinstance(m, nn.LeakyReLU) for m in followers),
        stride=conv.stride[0],
        padding=conv.padding[0],
        output_padding=conv.output_padding[0] if transposed else 0,
        transposed=transposed,
        shuffle=shuffle,
    )
    return layer, outs


class _InnerStats(NamedTuple):
    """What calibration sees of the context model: units of the masked convolution and of merger layers 1 and 2."""

    context: ActivationStats
    hidden1: ActivationStats
    hidden2: ActivationStats


def _inner_seen(net: Supernet, index: int, y: Sequence[Tensor], priors: Sequence[Tensor]) -> _InnerStats:
    context = net.context
    inner = (context.merge_context, context.merge_hidden, context.merge_out)
    seen: list[list[Tensor]] = [[] for _ in inner]

    def keep(into: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: into.append(inputs[0])

    hooks = [layer.register_forward_pre_hook(keep(into)) for layer, into in zip(inner, seen, strict=True)]
    for latent, prior in zip(y, priors, strict=True):
        context(latent, prior, index)
    for hook in hooks:
        hook.remove()
    return _InnerStats(*(ActivationStats.of(values) for values in seen))


@dataclass(frozen=True)
class ScaleRows:
    """How the scale output of the net maps to integers: output * factor + offset, in units of 2^-bits, clamped to 0 ..
    high; table: uint8 (high + 1,), the table index of each value; importance: what an error of 1 in it costs, squared,
    against an error of a mean by one step."""

    factor: float
    offset: float
    bits: int
    high: int
    table: np.ndarray
    importance: float


def scale_rows(net: Supernet) -> ScaleRows:
    """By the net's scale parameter."""
    if net.config.scale_parameter == "log":
        table = np.arange(SCALE_STEPS, dtype=np.uint8)
        return ScaleRows(LOG_SCALE_GAIN, LOG_SCALE_BIAS, 0, SCALE_STEPS - 1, table, INDEX_IMPORTANCE)
    high = 2**16 - 1
    sigma = np.maximum(np.arange(high + 1) * 2.0**-LINEAR_SCALE_BITS, SCALE_MIN)
    nearest = np.floor(np.log(sigma / SCALE_MIN) / LOG_SCALE_STEP + 0.5)
    table = np.clip(nearest, 0, SCALE_STEPS - 1).astype(np.uint8)
    return ScaleRows(1.0, 0.0, LINEAR_SCALE_BITS, high, table, 1.0)


@torch.no_grad()
def quantise(net: Supernet, index: int, latents: Sequence[tuple[Tensor, Tensor]]) -> IntegerEntropy:
    """The integer entropy path of one h_s width.

    latents: calibration pairs (y, z) of float latents, (1, M, h, w) scaled by the quality gain and (1, N, h/4, w/4),
    from photos at several qualities. Raises OverflowBoundError when a layer cannot be made exact.
    """
    y, z = [pair[0].float() for pair in latents], [round_z(pair[1].float()) for pair in latents]
    hyper, priors = _hyper_seen(net, index, z)
    seen = _inner_seen(net, index, y, priors)
    merger = _Merger(net, index)
    bits = balanced(seen.context.beside(hyper[-1]), *merger.first, merger.importance1)
    split = [len(seen.context.largest)]
    context_bits, prior_bits = bits.tensor_split(split)
    of_context, of_prior = importance_of(merger.first[0], merger.importance1).tensor_split(split)
    layers, prior = _hyper_layers(net, index, hyper, prior_bits, of_prior)
    y_units, masked = _masked_convolution(net, index, ActivationStats.of(y), seen.context, context_bits, of_context)
    context = merger.quantised(seen, y_units, masked, prior)
    entropy = IntegerEntropy(net.config.hyper_widths[index], tuple(layers), context, scale_rows(net).table)
    exact_share(entropy)  # the proof, of all layers as they are
    return entropy


def _masked_convolution(
    net: Supernet, index: int, latents: ActivationStats, seen: ActivationStats, wanted: Tensor, importance: Tensor
) -> tuple[FixedPoint, tuple[IntegerLayer, FixedPoint]]:
    """Units of y as it is read (powers of two, as y is in such units), the layer without its mask, and its units."""
    model = net.context
    grouping, kernel = model.grouping, model.kernel
    weight, bias = (t.flatten(0, 1) for t in model.context_slice(model.shapes[index].context))
    masks = [expand(context_mask(grouping, phase, kernel), weight) for phase in phases(grouping.side)]
    share = float(torch.stack(masks).mean())
    bits = balanced(latents, weight * share, bias, importance, kernel**2 * share)
    y = FixedPoint.covering(latents, torch.floor(bits).clamp(max=MEAN_BITS))
    y = FixedPoint.covering(latents, torch.floor(y.bits))  # LIMIT_MAX may have taken a fraction of a bit
    sum_bits = _sum_bits(weight, bias, y, masks, kernel_weight_max(net, index))
    units = _reachable(seen, wanted, sum_bits)
    layer = integer_layer(weight, bias, y, sum_bits, units)
    return y, (layer, units)


class _Merger:
    """The three merger layers of one width as (weight (out, in, 1, 1), bias (out,)) in float."""

    def __init__(self, net: Supernet, index: int) -> None:
        self._net, self._shape = net, net.context.shapes[index]
        self.phase_bias = net.context.phase_bias_slice(self._shape.hidden1)
        weight, bias = _first_merger_weight(net, index)
        self._first_bias = bias
        #: The bias is the largest that a phase may have.
        self.first = weight[:, :, None, None], bias.abs() + self.phase_bias.abs().amax((0, 1))
        self.second = _flat(net.context.merge_hidden.sliced(self._shape.hidden1, self._shape.hidden2))
        self.out = _output_weight(net, self._shape.hidden2)
        #: What the square of an error costs: of the outputs, and of the sums of each layer before.
        self._costs = torch.ones(2 * net.config.y_channels)
        self._costs[1::2] = scale_rows(net).importance
        self.importance2 = importance_of(self.out[0], self._costs)
        self.importance1 = importance_of(self.second[0], self.importance2)

    def quantised(
        self, seen: _InnerStats, y: FixedPoint, masked: tuple[IntegerLayer, FixedPoint], prior: FixedPoint
    ) -> IntegerContext:
        """The context model, with what `_masked_convolution` gives and the units of the prior."""
        context, units = masked
        both = FixedPoint(torch.cat([units.bits, prior.bits]), torch.cat([units.limit, prior.limit]))
        weight, largest = self.first
        sum_bits = _sum_bits(weight, largest, both)
        hidden1 = _reachable(seen.hidden1, balanced(seen.hidden1, *self.second, self.importance2), sum_bits)
        first = integer_layer(weight, self._first_bias, both, sum_bits, hidden1)
        phase_bias = torch.round(self.phase_bias * torch.exp2(first.shift.float() + hidden1.bits))

        sum_bits = _sum_bits(*self.second, hidden1)
        hidden2 = _reachable(seen.hidden2, balanced(seen.hidden2, *self.out, self._costs), sum_bits)
        second = integer_layer(*self.second, hidden1, sum_bits, hidden2)
        count = self._shape.context
        return IntegerContext(
            self._net.context.grouping,
            self._net.context.kernel,
            MEAN_BITS - y.bits.to(torch.int64),
            y.limit,
            context,
            replace(first, weight=first.weight[:, :count], leak=True),
            first.weight[:, count:],
            phase_bias,
            replace(second, leak=True),
            self._output_layer(hidden2),
        )

    def _output_layer(self, ins: FixedPoint) -> IntegerLayer:
        """The last layer: means in units 2^-MEAN_BITS (even channels), scale values (odd channels).

        Means and scales share the wider clamp of the two; the runtime clamps scale values to the index table.
        """
        rows, (weight, bias) = scale_rows(self._net), self.out
        bits = torch.full((len(bias),), float(MEAN_BITS))
        bits[1::2] = rows.bits
        sum_bits = torch.maximum(_sum_bits(weight, bias, ins), bits + 1)
        limit = torch.full_like(bits, max(MEAN_MAX, rows.high))
        layer = integer_layer(weight, bias, ins, sum_bits, FixedPoint(bits, limit))
        return replace(layer, low=torch.full_like(bits, -MEAN_MAX))


def _flat(sliced: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight (out, in, 1, 1) and bias (out,) of what `GroupedLinear.sliced` gives."""
    weight, bias = sliced
    return weight.flatten(2).flatten(0, 1)[:, :, None, None], bias.flatten()


def _first_merger_weight(net: Supernet, index: int) -> tuple[Tensor, Tensor]:
    """Weight (hidden1, context + prior) and bias of the merger layer that reads the context's units and the prior."""
    model, shape = net.context, net.context.shapes[index]
    weight, bias = model.merge_context.sliced(shape.context, shape.hidden1)
    groups, priors = model.grouping.groups, model.priors[index]
    prior = model.merge_prior.weight.flatten(1).unflatten(0, (groups, -1))
    prior = prior[:, : shape.hidden1 // groups, :priors].flatten(0, 1)
    prior_bias = model.merge_prior.bias.unflatten(0, (groups, -1))[:, : shape.hidden1 // groups].flatten()
    return torch.cat([weight.flatten(2).flatten(0, 1), prior], 1), bias.flatten() + prior_bias


def _output_weight(net: Supernet, ins: int) -> tuple[Tensor, Tensor]:
    """The last merger layer in float, whose odd rows give scale values."""
    rows = scale_rows(net)
    weight, bias = _flat(net.context.merge_out.sliced(ins, 2 * net.config.y_channels))
    weight, bias = weight.clone(), bias.clone()
    weight[1::2] *= rows.factor
    bias[1::2] = bias[1::2] * rows.factor + rows.offset
    return weight, bias
