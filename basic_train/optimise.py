"""Chooses an optimiser for each weight, and keeps the running average of the weights that is saved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basic_train.model.context import GroupedContext, GroupedLinear
from basic_train.model.linear_start import latent_sizes
from basic_train.model.slimmable import SlimConvTranspose2d
from basic_train.model.supernet import Supernet
from basic_train.muon import Muon
from basic_train.recipe import Recipe


def optimizers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the weights of convolutions and of context models, unless the recipe says Adam; Adam for all else.
    Frozen parameters are in none. Each optimiser's default lr is its rate before the schedule's factor."""
    columns = {id(m.weight) for m in module.modules() if isinstance(m, SlimConvTranspose2d | nn.ConvTranspose2d)}
    merged = {id(m.weight) for m in module.modules() if isinstance(m, GroupedLinear)}
    factors = _factors(module)
    rows_first: list[Tensor] = []
    columns_first: list[Tensor] = []
    others: list[Tensor] = []
    groups: list[dict[str, Any]] = []
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        if recipe.optimizer == "adam" or not (parameter.ndim == 4 or id(parameter) in merged):
            others.append(parameter)
        elif id(parameter) in factors:
            groups.append({"params": [parameter], "factors": factors[id(parameter)]})
        else:
            (columns_first if id(parameter) in columns else rows_first).append(parameter)
    groups += [{"params": rows_first}] if rows_first else []
    groups += [{"params": columns_first, "transposed": True}] if columns_first else []
    found: list[torch.optim.Optimizer] = [Muon(groups, recipe.muon_rate)] if groups else []
    if others:
        found.append(torch.optim.Adam(others, recipe.learning_rate, fused=True))
    return found


def _factors(module: nn.Module) -> dict[int, Tensor]:
    """Factors of Muon for the layers of nets with a linear path that read or predict y, by the weight's id.

    The mean component spans tens of quantisation steps and weak ones a fraction. A step of equal size in all inputs
    would be noise of the mean in every unit, and the mean itself would never be predicted (docs/lab.md).
    """
    found: dict[int, Tensor] = {}
    for net in module.modules():
        if isinstance(net, Supernet) and net.config.linear_path:
            sizes = latent_sizes(net)
            found[id(net.h_a.layers[0].weight)] = 1 / sizes[None, :, None, None]
            for context in (net.context, *net.alternatives):
                if not isinstance(context, GroupedContext):
                    continue  # without a context model nothing but h_a reads y
                found[id(context.context_weight)] = 1 / sizes[None, :, None, None]
                means_and_scales = torch.stack([sizes, torch.ones_like(sizes)], 1).flatten()
                found[id(context.merge_out.weight)] = means_and_scales[:, None]
    return found


class Averager:
    """Exponential moving average of a module's weights, with the usual warm start; whole numbers are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        floats = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in floats], [current[name] for name in floats], 1 - decay)
        for name in self.weights.keys() - floats:
            self.weights[name].copy_(current[name])

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(weights[name])
