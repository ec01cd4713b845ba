"""Copies the weights of a trained supernet into one with more channels, which starts as the same function.

A width is a prefix of the channels, so the trained weights become the prefix of the larger ones. New channels are read
with weight 0 by old ones, and themselves start as in a new net (T. Chen et al., "Net2Net", 2016): wherever a width of
the larger net is one of the trained net's, it computes the same.
"""

from __future__ import annotations

import torch
from torch import nn

from basic_train.model.slimmable import SlimConv2d


@torch.no_grad()
def load_into(net: nn.Module, trained: nn.Module) -> None:
    """Copy the weights of `trained` into `net`, whose `SlimConv2d` may have more channels and all else the same shape.
    Raises ValueError for anything else."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, SlimConv2d)}
    old, new = trained.state_dict(), net.state_dict()
    if old.keys() != new.keys():
        name = min(old.keys() ^ new.keys())
        raise ValueError(f"one has {name} and the other has not")
    for name, weight in old.items():
        layer = name.rpartition(".")[0]
        if weight.shape == new[name].shape:
            new[name].copy_(weight)
        elif layer in layers and _fits(weight.shape, new[name].shape):
            new[name][: len(weight)] = 0
            new[name][tuple(slice(0, n) for n in weight.shape)] = weight
        else:
            raise ValueError(f"{name}: {tuple(weight.shape)} does not become {tuple(new[name].shape)}")


def _fits(small: torch.Size, large: torch.Size) -> bool:
    """Whether channels, the first two dimensions, are as many or more, and the kernel is the same."""
    return small[2:] == large[2:] and all(a <= b for a, b in zip(small, large, strict=True))
