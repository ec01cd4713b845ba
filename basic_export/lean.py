"""A smaller encoder for hardly more bits: fewer hidden units, and weights of fewer bits.

A decoder must compute what its files say; an encoder may compute anything, so that what it saves costs only bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from basic_train.model import units
from basic_train.model.supernet import Supernet, Widths

#: Bits of float16 behind the first one.
HALF_BITS = 10


@torch.no_grad()
def silence_least(net: Supernet, level: Widths, pictures: Sequence[Tensor], share: float) -> int:
    """Switch off hidden units of g_a that matter least, until so large a `share` of the weights of all has gone;
    returns how many. What a unit brings is the mean square of what it adds, per weight. It is dead afterwards, and can
    be pruned (`units.prune`). pictures: (1, 3, H, W) in [0, 1] each.
    """
    layers = {name: layer for name, layer in units.layers(net).items() if name.startswith("g_a.")}
    squares = _mean_squares(net, level, pictures, layers)
    found = []
    for name, layer in layers.items():
        into = layer.into.weight[: layer.into.outs[level.g_a], : layer.into.ins[level.g_a]]
        out = layer.out.weight[: layer.out.outs[level.g_a], : layer.out.ins[level.g_a]]
        weights = into[0].numel() + out[:, 0].numel()
        brings = squares[name][: len(into)] * out.square().sum((0, 2, 3))[: len(into)]
        found += [(float(value) / weights, weights, name, unit) for unit, value in enumerate(brings) if value > 0]
    left, count = share * sum(weights for _, weights, _, _ in found), 0
    for _, weights, name, unit in sorted(found):
        left -= weights
        if left < 0:
            break
        layer = layers[name]
        layer.into.weight[unit], layer.into.bias[unit], layer.out.weight[:, unit] = 0, -1, 0
        count += 1
    return count


def _mean_squares(
    net: Supernet, level: Widths, pictures: Sequence[Tensor], layers: dict[str, units.Layer]
) -> dict[str, Tensor]:
    """Of all units' values, over all pictures and some qualities."""
    sums = {name: torch.zeros(max(layer.into.outs)) for name, layer in layers.items()}

    def add(name: str, values: Tensor) -> None:
        sums[name][: values.shape[1]] += values.square().mean((0, 2, 3))

    with units.watched(layers, add):
        for x in pictures:
            for quality in torch.linspace(0, 1, units.QUALITIES):
                net.analyse(x, quality[None], level.g_a)
    return sums


@torch.no_grad()
def round_weights(net: Supernet, bits: int) -> None:
    """Round the filters of g_a and h_a to so many bits behind the first one, but for g_a's linear path, which bundles
    store once for all levels."""
    for name, parameter in net.named_parameters():
        if name.startswith(("g_a.", "h_a.")) and not name.startswith("g_a.path.") and parameter.ndim > 1:
            fraction, exponent = torch.frexp(parameter)
            parameter.copy_(torch.ldexp(torch.round(fraction * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent))
