"""What one training step minimises: an `Objective`, named by `Recipe.objective`.

To add one, write a class with `forward` and name it in `OBJECTIVES`. The loop owns optimisers, processes, averaging
and files; an objective owns what is drawn, run and summed in a step, and any modules of its own that train along.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from basic_train.losses import RateDistortion, lambda_of_quality, rate_distortion
from basic_train.model.presets import ModelConfig
from basic_train.model.supernet import Supernet, TrainOutput, Widths
from basic_train.recipe import Recipe


class Objective(nn.Module):
    """Base of objectives. Parameters and buffers that a subclass registers are optimised, averaged, saved for resume
    and kept equal on all processes, like those of the net."""

    def __init__(self, config: ModelConfig, recipe: Recipe) -> None:
        super().__init__()
        self.config, self.recipe = config, recipe

    def prepare(self, net: Supernet) -> None:
        """Called once, with the weights a run starts from, before the optimisers are made; may freeze parts with
        `requires_grad_(False)`. A resumed run calls it too, then loads its state."""

    def forward(
        self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator, progress: float
    ) -> RateDistortion:
        """The loss of a batch and what the log shows of it.

        x: (B, 3, H, W) in [0, 1]; quality: (B,) in [0, 1]; rng: the same on every process, fresh for each step;
        progress: share of the schedule used up, in [0, 1]. Torch's own generator differs between processes.
        """
        raise NotImplementedError(f"{type(self).__name__} defines forward()")

    def stored(
        self, net_weights: dict[str, Tensor], own_weights: dict[str, Tensor], config: ModelConfig
    ) -> tuple[dict[str, Tensor], ModelConfig]:
        """Weights and configuration of the checkpoint, from the averaged weights of the net and of this objective;
        `Supernet(config)` must be able to load the weights."""
        return net_weights, config

    def measure(self, output: TrainOutput, x: Tensor, quality: Tensor) -> RateDistortion:
        """The recipe's rate-distortion loss of an output."""
        lambdas = lambda_of_quality(quality, self.config.lambda_min, self.config.lambda_max)
        return rate_distortion(output, x, lambdas)


def random_widths(config: ModelConfig, full_share: float, rng: np.random.Generator) -> Widths:
    """Width index per transform: full with probability `full_share`, else uniform over the others."""
    last = len(config.widths) - 1
    draw = [last if rng.random() < full_share else int(rng.integers(last)) for _ in range(4)]
    return Widths(*draw)


class RandomWidths(Objective):
    """One random width per transform and step."""

    def forward(
        self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator, progress: float
    ) -> RateDistortion:
        widths = random_widths(self.config, self.recipe.full_share, rng)
        return self.measure(net(x, quality, widths), x, quality)


class TrainingStep(nn.Module):
    """Net and objective as one module: what the loop optimises, averages, saves and spreads over processes."""

    def __init__(self, net: Supernet, objective: Objective) -> None:
        super().__init__()
        objective.prepare(net)
        self.net, self.objective = net, objective

    def forward(
        self, x: Tensor, quality: Tensor, rng: np.random.Generator, progress: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (), bpp (B,) and mse (B,) of a batch."""
        result = self.objective(self.net, x, quality, rng, progress)
        return result.loss, result.bpp, result.mse

    def stored(
        self, weights: dict[str, Tensor], config: ModelConfig
    ) -> tuple[dict[str, Tensor], ModelConfig]:
        """Weights and configuration of the checkpoint, from (averaged) weights of this module."""
        return self.objective.stored(_below("net.", weights), _below("objective.", weights), config)


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


OBJECTIVES: dict[str, type[Objective]] = {"random-widths": RandomWidths}
