"""Which optimiser moves which weight, and the running average of the weights that is saved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from basic_train.model.slimmable import SlimConvTranspose2d
from basic_train.muon import Muon
from basic_train.recipe import Recipe


def optimizers(module: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the weights of convolutions and of context models, unless the recipe says Adam; Adam for all else.
    Frozen parameters are in none. Each optimiser's default lr is its rate before the schedule's factor."""
    columns = {
        id(m.weight) for m in module.modules() if isinstance(m, SlimConvTranspose2d | nn.ConvTranspose2d)
    }
    rows_first: list[Tensor] = []
    columns_first: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_layer = parameter.ndim == 4 or (parameter.ndim == 2 and "context" in name)
        if recipe.optimizer == "adam" or not is_layer:
            others.append(parameter)
        else:
            (columns_first if id(parameter) in columns else rows_first).append(parameter)
    groups = [{"params": rows_first}] if rows_first else []
    groups += [{"params": columns_first, "transposed": True}] if columns_first else []
    found: list[torch.optim.Optimizer] = [Muon(groups, recipe.muon_rate)] if groups else []
    if others:
        found.append(torch.optim.Adam(others, recipe.learning_rate, fused=True))
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
        torch._foreach_lerp_(
            [self.weights[name] for name in floats], [current[name] for name in floats], 1 - decay
        )
        for name in self.weights.keys() - floats:
            self.weights[name].copy_(current[name])

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(weights[name])
