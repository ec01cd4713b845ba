"""Dead hidden units of residual blocks: found, reinitialised or pruned.

A unit behind a ReLU whose sum is negative for every picture gives zero, and so do its gradients: it never learns again,
and costs a decoder as much as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from basic_train.model.slimmable import SlimConv2d, SlimResidual, SlimSequential
from basic_train.model.supernet import Supernet, Widths

#: Parts of the net whose units these are: the entropy path has its own arithmetic.
TRANSFORMS = ("g_a", "g_s")

#: How many qualities pictures run at.
QUALITIES = 4


class Layer(NamedTuple):
    """Units of a residual block: outputs of `into`, which `relu` bounds and `out` alone reads."""

    into: SlimConv2d
    relu: nn.ReLU
    out: SlimConv2d


def layers(net: nn.Module) -> dict[str, Layer]:
    """All hidden layers of residual blocks of convolutions and ReLU in g_a and g_s, by the name of their ReLU."""
    found = {}
    for name, block in net.named_modules():
        if isinstance(block, SlimResidual) and name.partition(".")[0] in TRANSFORMS:
            parts = block.body.layers
            for place, three in enumerate(zip(parts, parts[1:], parts[2:], strict=False)):
                into, relu, out = three
                if isinstance(into, SlimConv2d) and isinstance(relu, nn.ReLU) and isinstance(out, SlimConv2d):
                    found[f"{name}.body.layers.{place + 1}"] = Layer(into, relu, out)
    return found


@torch.no_grad()
def live_units(net: Supernet, pictures: Sequence[Tensor], widths: Sequence[Widths]) -> dict[str, Tensor]:
    """Which units of `layers` are above zero anywhere, bool (units of the widest,), by layer.

    pictures: (B, 3, H, W) in [0, 1] each; they run at all `widths`, and each at two of QUALITIES evenly spread
    qualities, which take turns. Units that only wider ones use count as dead.
    """
    hidden = layers(net)
    found = {name: torch.zeros(max(layer.into.outs), dtype=torch.bool) for name, layer in hidden.items()}
    values = torch.linspace(0, 1, QUALITIES)
    with watched(hidden, lambda name, units: _mark(found[name], units)):
        for number, x in enumerate(pictures):
            turns = torch.arange(len(x)) + number
            for turn in (turns, turns + QUALITIES // 2):
                _run(net, x, values[turn % QUALITIES], widths)
    return found


@contextmanager
def watched(hidden: Mapping[str, Layer], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Meanwhile, `see` is told the values (B, units, h, w) of `layers`, and of which, whenever the net runs."""
    handles = [
        layer.relu.register_forward_hook(lambda _, __, values, name=name: see(name, values))
        for name, layer in hidden.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(net: Supernet, x: Tensor, quality: Tensor, widths: Sequence[Widths]) -> None:
    """g_a at each width, and each g_s on the latents of the g_a that goes with it and of the widest. No context model,
    which would take longer than both: y is rounded about zero."""
    latents = {index: torch.round(net.analyse(x, quality, index)) for index in {chosen.g_a for chosen in widths}}
    pairs = {(chosen.g_a, chosen.g_s) for chosen in widths} | {(max(latents), chosen.g_s) for chosen in widths}
    for g_a, g_s in sorted(pairs):
        net.reconstruct(latents[g_a], quality, g_s)


def _mark(seen: Tensor, values: Tensor) -> None:
    seen[: values.shape[1]] |= (values.amax((0, 2, 3)) > 0).cpu()


@torch.no_grad()
def reinitialise_dead(net: Supernet, pictures: Sequence[Tensor], beyond: int) -> int:
    """Give new weights to the units from the `beyond`-th on that are dead at every width, but for those of layers
    that are frozen; returns how many.

    They read what a new layer would and are read with weight 0: the net stays the same function (as `growth`).
    """
    found, count = live_units(net, pictures, [net.uniform(index) for index in range(len(net.config.widths))]), 0
    for name, layer in layers(net).items():
        if not (layer.into.weight.requires_grad and layer.out.weight.requires_grad):
            continue  # frozen: they would never learn
        idle = ~found[name]
        idle[:beyond] = False
        fresh = nn.Conv2d(layer.into.weight.shape[1], len(idle), layer.into.weight.shape[-1])
        layer.into.weight[idle] = fresh.weight[idle]
        layer.into.bias[idle] = 0
        layer.out.weight[:, idle] = 0
        count += int(idle.sum())
    return count


@torch.no_grad()
def prune(net: Supernet, keep: Mapping[str, Tensor]) -> int:
    """Take away the units that `keep`, from `live_units`, does not have; returns how many.

    Widths stay prefixes: of its units, each keeps those that are left. Where a block's last layer has none, it adds a
    constant (`SlimResidual.constant`), for which there must be a convolution before it; elsewhere one unit stays.
    """
    first = {f"{name}.body.layers." for name in _without_convolution_before(net)}
    read_by_units = {id(layer.into) for layer in layers(net).values()}
    count = 0
    for name, layer in reversed(layers(net).items()):  # a unit that only units read that are gone goes, too
        mask = keep[name].clone()
        widths = [width if reads else 0 for width, reads in zip(layer.into.outs, layer.out.outs, strict=True)]
        if id(layer.out) in read_by_units or any(name.startswith(block) for block in first):
            mask[0] |= any(width and not mask[:width].any() for width in widths)
        outs = [int(mask[:width].sum()) for width in widths]
        mask &= any(outs)
        layer.into.outs = layer.out.ins = tuple(outs)
        layer.into.weight = nn.Parameter(layer.into.weight[mask])
        layer.into.bias = nn.Parameter(layer.into.bias[mask])
        layer.out.weight = nn.Parameter(layer.out.weight[:, mask])
        count += int((~mask).sum())
    return count


def _without_convolution_before(net: nn.Module) -> Iterator[str]:
    """Names of residual blocks at the start of a row of them that does not begin with a convolution."""
    for name, row in net.named_modules():
        if isinstance(row, SlimSequential):
            for place, part in enumerate(row.layers):
                before = row.layers[place - 1] if place else None
                if isinstance(part, SlimResidual) and not isinstance(before, SlimConv2d | SlimResidual):
                    yield f"{name}.layers.{place}"
