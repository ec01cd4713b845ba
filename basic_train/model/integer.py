"""The entropy path in integers carried in float32: the same bits on every engine, thread count and machine.

Weights and activations are integers, every partial sum stays below 2^24 and requantisation is a multiplication by a
power of two, a floor and a clamp. Each of these operations is exact in float32, so any summation order gives the same
result (design decision "bit-exact entropy path"; idea of integer networks: Ballé et al. 2019). `quantise` makes such a
path from a trained supernet: power-of-two scales chosen on calibration latents, and a bound that is checked for every
output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.grouping import Grouping
from basic_train.model.context import context_mask, interleave, merger_mask, phases
from basic_train.model.priors import LOG_SCALE_STEP, SCALE_MIN, SCALE_STEPS
from basic_train.model.supernet import LOG_SCALE_BIAS, LOG_SCALE_GAIN, Supernet

#: Sums of magnitudes stay below this: float32 holds every integer up to 2^24.
EXACT_LIMIT = 2**24
#: Largest magnitude of an activation. With fan-ins of 256 to 3200 this balances the rounding errors of activations and
#: of the weights that then fit below the limit (docs/lab.md).
ACTIVATION_MAX = 1023
#: Largest magnitude of a weight: fits int16 and float16 storage.
WEIGHT_MAX = 2047
#: That of k x k convolutions, by far the largest layers: fits int8, and costs no rate (docs/lab.md).
KERNEL_WEIGHT_MAX = 127
#: Means are multiples of 2^-MEAN_BITS, so that symbol + mean is exact.
MEAN_BITS = 6
MEAN_MAX = 2**15 - 1
#: Hyper-latent symbols are clamped to +- this.
Z_MAX = 127
#: LeakyReLU's slope in the integer path: the power of two next to the original's 0.01, and what `lite` trains with.
LEAK_BITS = 7
#: sigma of the "linear" scale parameter is carried in units of 2^-LINEAR_SCALE_BITS.
LINEAR_SCALE_BITS = 8
#: How far beyond the largest value of the calibration latents an activation may go before it is clipped.
HEADROOM = 2.0


class OverflowBoundError(ValueError):
    """A layer could leave the range in which float32 is exact."""


@dataclass(frozen=True)
class IntegerLayer:
    """One convolution with requantisation: clamp(leak(floor((conv(x) + bias) * 2^-shift)), low, high).

    weight: integers in float32, (out, in, k, k), or (in, out, k, k) when transposed. bias: integers (out,), the half
    that turns floor into rounding included. shift: int64 (out,), at least 1. leak: negative results are multiplied by
    2^-LEAK_BITS and rounded. shuffle: factor of the pixel shuffle behind, or 1.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    low: int
    high: int
    leak: bool = False
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    transposed: bool = False
    shuffle: int = 1

    def accumulate(self, x: Tensor) -> Tensor:
        """Integer sums before requantisation."""
        if self.transposed:
            return F.conv_transpose2d(
                x, self.weight, self.bias, self.stride, self.padding, self.output_padding
            )
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.requantise(self.accumulate(x))
        return F.pixel_shuffle(y, self.shuffle) if self.shuffle > 1 else y

    def requantise(self, sums: Tensor) -> Tensor:
        return requantise(sums, self.shift, self.low, self.high, self.leak)


def requantise(sums: Tensor, shift: Tensor, low: int, high: int, leak: bool) -> Tensor:
    """clamp(leak(floor(sums * 2^-shift)), low, high) per channel: sums (1, C, h, w), shift (C,).

    leak divides negative integers by 2^LEAK_BITS and rounds again: rounding only once, with the half that sits in the
    bias, would divide that half too and pull every negative unit down by 1/2.
    """
    rounded = torch.floor(sums * torch.exp2(-shift.to(sums.dtype))[None, :, None, None])
    if leak:
        rounded = torch.floor(torch.maximum(rounded, rounded * 2.0**-LEAK_BITS) + 0.5)
    return torch.clamp(rounded, low, high)


@dataclass(frozen=True)
class IntegerContext:
    """The grouped context model in integers.

    context: masked convolution as one unmasked layer (the mask is applied per phase), merge_context and merge_prior:
    the two halves of the first merger layer, whose sums and the phase's part of phase_bias (t, t, hidden1) are added
    before the requantisation of merge_context. y_shift: int64 (M,), bits by which y_hat (units 2^-MEAN_BITS) is rounded
    on its way in, per channel.
    """

    grouping: Grouping
    kernel: int
    y_shift: Tensor
    context: IntegerLayer
    merge_context: IntegerLayer
    merge_prior: Tensor
    phase_bias: Tensor
    merge_hidden: IntegerLayer
    merge_out: IntegerLayer

    def input(self, y_hat: Tensor) -> Tensor:
        """What the masked convolution reads: y_hat rounded and clamped to +-ACTIVATION_MAX."""
        rounded = torch.floor(y_hat * torch.exp2(-self.y_shift.float())[None, :, None, None] + 0.5)
        return torch.clamp(rounded, -ACTIVATION_MAX, ACTIVATION_MAX)

    def masked_weight(self, phase: tuple[int, int]) -> Tensor:
        """Weights of the masked convolution as one phase sees them."""
        mask = context_mask(self.grouping, phase, self.kernel)
        return self.context.weight * _expand(mask, self.context.weight)

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
            return replace(layer, weight=layer.weight * _expand(mask, layer.weight))

        first = masked(self.merge_context)
        own = self.phase_bias[phase][None, :, None, None]
        hidden = first.requantise(first.accumulate(context) + F.conv2d(prior, self.merge_prior) + own)
        return masked(self.merge_out)(masked(self.merge_hidden)(hidden))


def _expand(mask: np.ndarray, weight: Tensor) -> Tensor:
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


# --- building the integer path --------------------------------------------------------------------------------------


def fraction_bits(values: Sequence[Tensor], limit: int) -> Tensor:
    """Per channel, the most fraction bits f for which |v| 2^f stays below limit / HEADROOM: int64 (C,).

    values: tensors (1, C, h, w) seen in calibration. Channels of very different range share a layer, so one f for all
    would clip the large ones or blur the small ones. Clipping costs far more than coarse rounding (docs/lab.md), so
    even the largest value seen is left room to grow.
    """
    largest = torch.stack([value[0].abs().flatten(1).amax(1) for value in values]).amax(0)
    bits = torch.log2(limit / HEADROOM / (largest + 1e-9))
    return torch.floor(bits).clamp(-3, 12).to(torch.int64)


@dataclass(frozen=True)
class _Target:
    """Where a layer's output goes: fraction bits per channel and clamp."""

    bits: Tensor
    low: int = -ACTIVATION_MAX
    high: int = ACTIVATION_MAX


def _sum_bits(
    weight: Tensor,
    bias: Tensor,
    in_bits: Tensor,
    in_max: int,
    masks: Sequence[Tensor] = (),
    weight_max: int = WEIGHT_MAX,
) -> Tensor:
    """Most fraction bits of a layer's sums, per output channel, that keep them exact: int64 (out,).

    Bounded by sum |w| max|a| + |b| (the largest over the masks the layer is used with) and by weight_max; a sixteenth
    of the range is left for the rounding of the weights.
    """
    magnitude = (weight * torch.exp2(-in_bits.float())[None, :, None, None]).abs()
    l1 = torch.stack([(magnitude * m).flatten(1).sum(1) for m in masks or (torch.ones(()),)]).amax(0)
    room = EXACT_LIMIT * (15 / 16) / (l1 * in_max + bias.abs() + 1e-9)
    bits = torch.minimum(torch.log2(room), torch.log2(weight_max / (magnitude.flatten(1).amax(1) + 1e-9)))
    return torch.floor(bits).to(torch.int64)


def _reachable(wanted: Tensor, sum_bits: Tensor, group: int = 1) -> Tensor:
    """Output fraction bits that rounding can serve: below those of the sums, in all `group` channels of a shuffle."""
    return torch.minimum(wanted, sum_bits.unflatten(0, (-1, group)).amin(1) - 1)


def integer_layer(
    weight: Tensor, bias: Tensor, in_bits: Tensor, sum_bits: Tensor, target: _Target
) -> IntegerLayer:
    """Quantise one convolution (out, in, k, k) whose input channel c holds integers in units of 2^-in_bits[c]."""
    bits = torch.minimum(sum_bits, target.bits + 23)
    shift = bits - target.bits
    scaled = weight * torch.exp2(-in_bits.float())[None, :, None, None]
    integers = torch.round(scaled * torch.exp2(bits.float())[:, None, None, None])
    offsets = torch.round(bias * torch.exp2(bits.float())) + torch.exp2((shift - 1).float())
    return IntegerLayer(integers, offsets, shift, target.low, target.high)


def prove(name: str, weight: Tensor, bias: Tensor, in_max: int, extra: Tensor | None = None) -> float:
    """Check sum |w| max|a| + |b| < 2^24 for every output channel; returns the largest share of the limit used.

    weight: (out, in, k, k) integers as the layer applies them (masked); extra: further sums of magnitudes per channel.
    Raises OverflowBoundError naming the layer.
    """
    total = weight.abs().double().flatten(1).sum(1) * in_max + bias.abs().double()
    if extra is not None:
        total = total + extra.double()
    worst = float(total.max())
    if not worst < EXACT_LIMIT:  # so that NaN is refused too
        raise OverflowBoundError(f"{name}: a sum may reach {worst:.0f}, beyond 2^24: not exact in float32")
    return worst / EXACT_LIMIT


def _hyper_layers(
    net: Supernet, index: int, z: Sequence[Tensor]
) -> tuple[list[IntegerLayer], Tensor, list[Tensor]]:
    """h_s in integers: layers, fraction bits of the prior, and the float prior of each calibration latent."""
    blocks = _blocks(net.h_s.plain(index))
    layers: list[IntegerLayer] = []
    values, in_max = list(z), Z_MAX
    in_bits = torch.zeros(net.config.z_channels, dtype=torch.int64)
    for conv, followers in blocks:
        tail = nn.Sequential(*followers)
        values = [tail(conv(v)) for v in values]
        layer, out_bits = _hyper_layer(
            conv, followers, in_bits, in_max, fraction_bits(values, ACTIVATION_MAX)
        )
        prove(f"h_s layer {len(layers)}", _out_first(layer), layer.bias, in_max)
        layers.append(layer)
        in_bits, in_max = out_bits, ACTIVATION_MAX
    return layers, in_bits, values


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


def _out_first(layer: IntegerLayer) -> Tensor:
    return layer.weight.transpose(0, 1) if layer.transposed else layer.weight


def _hyper_layer(
    conv: nn.Module, followers: list[nn.Module], in_bits: Tensor, in_max: int, wanted: Tensor
) -> tuple[IntegerLayer, Tensor]:
    """One block of h_s in integers, and the fraction bits of its output channels."""
    transposed = isinstance(conv, nn.ConvTranspose2d)
    relu = any(isinstance(m, nn.ReLU) for m in followers)
    shuffle = next((m.upscale_factor for m in followers if isinstance(m, nn.PixelShuffle)), 1)
    weight = conv.weight.detach().transpose(0, 1) if transposed else conv.weight.detach()
    bias = conv.bias.detach()
    sum_bits = _sum_bits(weight, bias, in_bits, in_max, weight_max=KERNEL_WEIGHT_MAX)
    out_bits = _reachable(wanted, sum_bits, shuffle**2)
    target = _Target(out_bits.repeat_interleave(shuffle**2), low=0 if relu else -ACTIVATION_MAX)
    layer = integer_layer(weight, bias, in_bits, sum_bits, target)
    layer = replace(
        layer,
        weight=layer.weight.transpose(0, 1).contiguous() if transposed else layer.weight,
        leak=any(isinstance(m, nn.LeakyReLU) for m in followers),
        stride=conv.stride[0],
        padding=conv.padding[0],
        output_padding=conv.output_padding[0] if transposed else 0,
        transposed=transposed,
        shuffle=shuffle,
    )
    return layer, out_bits


def _observe(net: Supernet, index: int, y: Sequence[Tensor], priors: Sequence[Tensor]) -> list[Tensor]:
    """Fraction bits of the float context model's inner tensors: masked convolution, merger layers 1 and 2."""
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
    return [fraction_bits(values, ACTIVATION_MAX) for values in seen]


def _scale_row_factors(net: Supernet) -> tuple[float, float, int, int, np.ndarray]:
    """How the scale output maps to integers: factor, offset, fraction bits, high clamp, and the index table."""
    if net.config.scale_parameter == "log":
        return LOG_SCALE_GAIN, LOG_SCALE_BIAS, 0, SCALE_STEPS - 1, np.arange(SCALE_STEPS, dtype=np.uint8)
    high = 2**16 - 1
    sigma = np.maximum(np.arange(high + 1) * 2.0**-LINEAR_SCALE_BITS, SCALE_MIN)
    nearest = np.floor(np.log(sigma / SCALE_MIN) / LOG_SCALE_STEP + 0.5)
    return 1.0, 0.0, LINEAR_SCALE_BITS, high, np.clip(nearest, 0, SCALE_STEPS - 1).astype(np.uint8)


@torch.no_grad()
def quantise(net: Supernet, index: int, latents: Sequence[tuple[Tensor, Tensor]]) -> IntegerEntropy:
    """The integer entropy path of one h_s width.

    latents: calibration pairs (y, z) of float latents, (1, M, h, w) scaled by the quality gain and (1, N, h/4, w/4),
    from photos at several qualities. Raises OverflowBoundError when a layer cannot be made exact.
    """
    y, z = [pair[0].float() for pair in latents], [pair[1].float() for pair in latents]
    z = [torch.clamp(torch.floor(v + 0.5), -Z_MAX, Z_MAX) for v in z]
    layers, prior_bits, priors = _hyper_layers(net, index, z)
    y_bits = fraction_bits(y, ACTIVATION_MAX).clamp(max=MEAN_BITS)
    context, lut = _integer_context(net, index, y_bits, prior_bits, _observe(net, index, y, priors))
    return IntegerEntropy(net.config.hyper_widths[index], tuple(layers), context, lut)


def _integer_context(
    net: Supernet, index: int, y_bits: Tensor, prior_bits: Tensor, inner_bits: list[Tensor]
) -> tuple[IntegerContext, np.ndarray]:
    model, shape = net.context, net.context.shapes[index]
    grouping, kernel = model.grouping, model.kernel
    weight, bias = (t.flatten(0, 1) for t in model.context_slice(shape.context))
    masks = [_expand(context_mask(grouping, p, kernel), weight) for p in phases(grouping.side)]
    sum_bits = _sum_bits(weight, bias, y_bits, ACTIVATION_MAX, masks, KERNEL_WEIGHT_MAX)
    context_bits = _reachable(inner_bits[0], sum_bits)
    context = integer_layer(weight, bias, y_bits, sum_bits, _Target(context_bits))
    for phase, mask in zip(phases(grouping.side), masks, strict=True):
        prove(f"masked convolution, phase {phase}", context.weight * mask, context.bias, ACTIVATION_MAX)

    first = _first_merger_weight(net, index)
    own = model.phase_bias_slice(shape.hidden1)
    both, bits = _merger_layer(*first, torch.cat([context_bits, prior_bits]), inner_bits[1], own.flatten(0, 1))
    phase_bias = torch.round(own * torch.exp2((both.shift + bits).float()))
    prove("merger layer 1", both.weight, both.bias, ACTIVATION_MAX, phase_bias.abs().amax((0, 1)))
    merge_context = replace(both, weight=both.weight[:, : shape.context], leak=True)
    second = model.merge_hidden.sliced(shape.hidden1, shape.hidden2)
    hidden, bits = _merger_layer(second[0].flatten(2).flatten(0, 1), second[1].flatten(), bits, inner_bits[2])
    prove("merger layer 2", hidden.weight, hidden.bias, ACTIVATION_MAX)
    out, lut = _output_layer(net, shape.hidden2, bits)
    merge_prior = both.weight[:, shape.context :]
    integer = IntegerContext(
        grouping,
        kernel,
        MEAN_BITS - y_bits,
        context,
        merge_context,
        merge_prior,
        phase_bias,
        replace(hidden, leak=True),
        out,
    )
    return integer, lut


def _merger_layer(
    weight: Tensor, bias: Tensor, in_bits: Tensor, wanted: Tensor, further: Tensor | None = None
) -> tuple[IntegerLayer, Tensor]:
    """A 1x1 layer (out, in) in integers, and the fraction bits of its output channels. further: (N, out), of which one
    row is added to the sums."""
    weight = weight[:, :, None, None]
    largest = bias.abs() if further is None else bias.abs() + further.abs().amax(0)
    sum_bits = _sum_bits(weight, largest, in_bits, ACTIVATION_MAX)
    out_bits = _reachable(wanted, sum_bits)
    return integer_layer(weight, bias, in_bits, sum_bits, _Target(out_bits)), out_bits


def _first_merger_weight(net: Supernet, index: int) -> tuple[Tensor, Tensor]:
    """Weight (hidden1, context + prior) and bias of the merger layer that reads the context's units and the prior."""
    model, shape = net.context, net.context.shapes[index]
    weight, bias = model.merge_context.sliced(shape.context, shape.hidden1)
    groups, priors = model.grouping.groups, model.priors[index]
    prior = model.merge_prior.weight.flatten(1).unflatten(0, (groups, -1))
    prior = prior[:, : shape.hidden1 // groups, :priors].flatten(0, 1)
    prior_bias = model.merge_prior.bias.unflatten(0, (groups, -1))[:, : shape.hidden1 // groups].flatten()
    return torch.cat([weight.flatten(2).flatten(0, 1), prior], 1), bias.flatten() + prior_bias


def _output_layer(net: Supernet, ins: int, in_bits: Tensor) -> tuple[IntegerLayer, np.ndarray]:
    """The last merger layer: means in units 2^-MEAN_BITS (even channels), scale values (odd channels).

    Means and scales share the wider clamp of the two; the runtime clamps scale values to the index table.
    """
    factor, offset, scale_bits, high, lut = _scale_row_factors(net)
    weight, bias = (t.clone() for t in net.context.merge_out.sliced(ins, 2 * net.config.y_channels))
    weight[:, 1::2] *= factor
    bias[:, 1::2] = bias[:, 1::2] * factor + offset
    bits = torch.full((2 * net.config.y_channels,), MEAN_BITS)
    bits[1::2] = scale_bits
    flat, bias = weight.flatten(2).flatten(0, 1)[:, :, None, None], bias.flatten()
    sum_bits = torch.maximum(_sum_bits(flat, bias, in_bits, ACTIVATION_MAX), bits + 1)
    layer = integer_layer(flat, bias, in_bits, sum_bits, _Target(bits, -MEAN_MAX, max(MEAN_MAX, high)))
    prove("merger layer 3", layer.weight, layer.bias, ACTIVATION_MAX)
    return layer, lut


def exact_share(entropy: IntegerEntropy) -> float:
    """Largest share of the exact range that any sum of the path can use; below 1 by construction, for reports."""
    context = entropy.context
    shares = [
        prove("h_s", _out_first(layer), layer.bias, Z_MAX if i == 0 else ACTIVATION_MAX)
        for i, layer in enumerate(entropy.layers)
    ]
    shares += [
        prove("context", context.masked_weight(p), context.context.bias, ACTIVATION_MAX)
        for p in phases(context.grouping.side)
    ]
    first = context.merge_context
    extra = context.merge_prior.abs().double().flatten(1).sum(1) * ACTIVATION_MAX
    extra += context.phase_bias.abs().double().amax((0, 1))
    shares.append(prove("merger 1", first.weight, first.bias, ACTIVATION_MAX, extra))
    shares += [
        prove("merger", m.weight, m.bias, ACTIVATION_MAX) for m in (context.merge_hidden, context.merge_out)
    ]
    return max(shares)
