"""What one training step minimises: an `Objective`, named by `Recipe.objective`.

To add one, write a class with `forward` and name it in `OBJECTIVES`. The loop owns optimisers, processes, averaging
and files; an objective owns what is drawn, run and summed in a step, and any modules of its own that train along.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from basic_runtime.errors import BasicError
from basic_train import checkpoint
from basic_train.losses import RateDistortion, balance, rate_distortion, squared_error
from basic_train.model.config import ModelConfig
from basic_train.model.supernet import Supernet, TrainOutput, Widths
from basic_train.recipe import Recipe

#: Of a batch one crop in so many, and at least one, goes between the nets of `Interchange`: the g_s of the other one
#: may cost ten times what that of the net to train does.
CROPS_PER_EXCHANGE = 8


#: Parts of the net that all levels of a bundle share.
SHARED = ("gains", "z_prior")


class ObjectiveError(BasicError):
    """An objective cannot train a net with these weights."""


class Objective(nn.Module):
    """Base of objectives. Parameters and buffers that a subclass registers are optimised, averaged, saved for resume
    and kept equal on all processes, like those of the net."""

    #: Whether alternative groupings train, too.
    trains_alternatives = False

    def __init__(self, config: ModelConfig, recipe: Recipe) -> None:
        """Raises ValueError for a model or a recipe that it cannot train."""
        super().__init__()
        if config.alternatives and not self.trains_alternatives and "alternatives" not in recipe.frozen:
            raise ValueError(
                f"objective {recipe.objective!r} trains one grouping, and this model has {len(config.groupings())}: "
                "take --objective combined, or leave the others as they are with --freeze alternatives"
            )
        self.config, self.recipe = config, recipe

    @classmethod
    def has_unused_parameters(cls, config: ModelConfig) -> bool:
        """Whether a step may give some parameters no gradient. Several processes then look for them, which takes time;
        they cannot go on where False turns out to be wrong."""
        return True

    def forward(self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator) -> RateDistortion:
        """The loss of a batch and what the log shows of it.

        x: (B, 3, H, W) in [0, 1]; quality: (B,) in [0, 1]; rng: the same on every process, fresh for each step.
        Torch's own generator differs between processes.
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
        lambdas = self.config.lambda_of(quality)
        return rate_distortion(output, x, lambdas, self.recipe.distortion)

    def error_weights(self, quality: Tensor) -> Tensor:
        """What a squared error of each image (B,) counts in the rate-distortion loss by MSE."""
        lambdas = self.config.lambda_of(quality)
        return balance(lambdas) * lambdas * 255**2


def random_widths(config: ModelConfig, recipe: Recipe, rng: np.random.Generator) -> Widths:
    """Width index per transform: full with probability `full_share`, else uniform over the others; one draw for all
    with probability `uniform_share`, and always where the latents go with the width."""

    def draw(choices: list[int]) -> int:
        *narrower, full = choices
        return full if rng.random() < recipe.full_share or not narrower else narrower[rng.integers(len(narrower))]

    choices = config.choices()
    alike = all(indexes == choices[0] for indexes in choices)
    if config.latents or (alike and rng.random() < recipe.uniform_share):
        return Supernet.uniform(draw(choices[0]))
    return Widths(*(draw(indexes) for indexes in choices))


class RandomWidths(Objective):
    """A random width of each transform, or of all together, in each step."""

    @classmethod
    def has_unused_parameters(cls, config: ModelConfig) -> bool:
        return bool(config.latents)  # the priors of z of other widths

    def forward(self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator) -> RateDistortion:
        widths = random_widths(self.config, self.recipe, rng)
        return self.measure(net(x, quality, widths), x, quality)


class Distillation(RandomWidths):
    """Rate and distortion at the full width of g_s; a narrower one, and with `sandwich` the narrowest too, learns the
    full width's picture from the same latent, which it does not move (model-spec §2.4; Yu and Huang, "Universally
    slimmable networks", 2019).

    The distance is weighed as the distortion of the image's quality is, times `Recipe.distillation`; the original
    leaves it unweighted.
    """

    def forward(self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator) -> RateDistortion:
        widths = random_widths(self.config, self.recipe, rng)
        choices = self.config.choices()[3]
        narrowest, full = choices[0], choices[-1]
        latents = net.latents(x, quality, widths)
        picture = net.reconstruct(latents.y_hat, quality, full)
        result = self.measure(TrainOutput(latents.y_bits, latents.z_bits, picture), x, quality)
        students = {widths.g_s} | ({narrowest} if self.recipe.sandwich else set())
        weight = self.recipe.distillation * self.error_weights(quality)
        for index in sorted(students - {full}):
            student = net.reconstruct(latents.y_hat.detach(), quality, index)
            result.loss = result.loss + torch.mean(weight * squared_error(student, picture.detach()))
        return result


class Interchange(RandomWidths):
    """Rate and distortion of a net, and the distortion where its files go to a level of another one and that level's
    files come to it.

    `Recipe.beside` names the checkpoint of the other net, which stays as it is; each step draws a level of its table
    (or without a table a width), the last one with probability `full_share`. Both distortions are weighed as the
    images' own, times `Recipe.beside_weight`. Rates are not concerned: a file is decoded with the entropy model that
    wrote it. Both nets have the same gains and prior of z, which stay frozen: all levels of a bundle share them.
    """

    def __init__(self, config: ModelConfig, recipe: Recipe) -> None:
        super().__init__(config, recipe)
        if recipe.beside is None:
            raise ValueError("objective 'interchange' needs the checkpoint of the other levels: name it with --beside")
        other = checkpoint.load(Path(recipe.beside))[0]
        for name in ("y_channels", "lambda_min", "lambda_max", "quality_anchors"):
            ours, theirs = getattr(config, name), getattr(other.config, name)
            if ours != theirs:
                raise ValueError(f"{recipe.beside}: its {name} is {theirs}, that of the net to train {ours}")
        if not set(SHARED) <= set(recipe.frozen):
            raise ValueError("levels of a bundle share gains and the prior of z: pass --freeze gains,z_prior")
        other.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self._others = (other,)  # a tuple hides it from the module: neither trained, averaged nor saved
        self._compared = False
        levels = [Widths(**level) for level in other.config.levels]
        self._levels = levels or [other.trained(index) for index in range(len(other.config.widths))]

    def forward(self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator) -> RateDistortion:
        self._require_shared(net)
        widths = random_widths(self.config, self.recipe, rng)
        latents = net.latents(x, quality, widths)
        picture = net.reconstruct(latents.y_hat, quality, widths.g_s)
        result = self.measure(TrainOutput(latents.y_bits, latents.z_bits, picture), x, quality)
        some = slice(max(1, len(x) // CROPS_PER_EXCHANGE))
        x, quality = x[some], quality[some]
        other, level = self._others[0].to(x.device), self._draw(rng)
        with torch.no_grad():
            coming = other.latents(x, quality, level).y_hat
        errors = squared_error(net.reconstruct(coming, quality, widths.g_s), x)
        errors = errors + squared_error(other.reconstruct(latents.y_hat[some], quality, level.g_s), x)
        result.loss = result.loss + self.recipe.beside_weight * torch.mean(self.error_weights(quality) * errors)
        return result

    def _require_shared(self, net: Supernet) -> None:
        """Once, with the weights that the run begins or goes on with."""
        if self._compared:
            return
        for part in SHARED:
            ours, theirs = (dict(each.get_submodule(part).named_parameters()) for each in (net, self._others[0]))
            for name, values in ours.items():  # of which one may have been stored as float16
                if not torch.allclose(values.cpu(), theirs[name].float(), rtol=2e-3, atol=1e-4):
                    raise ObjectiveError(
                        f"{self.recipe.beside}: has another {part} than the net to train, so that no files can go "
                        "between them: train one of its own levels (basic-train narrow)"
                    )
        self._compared = True

    def _draw(self, rng: np.random.Generator) -> Widths:
        *others, last = self._levels
        return last if not others or rng.random() < self.recipe.full_share else others[rng.integers(len(others))]


class Combined(RandomWidths):
    """A model with alternative groupings: the original's combined entropy coder (model-spec §3.5).

    blend "all": the first context model trains the backbone and is what is reported; each other one sees y and prior
    detached, and its rate is added. blend "learned": the rates are summed with the softmax of learned weights, and all
    train the backbone; the likeliest becomes the model's first grouping in the checkpoint.
    """

    trains_alternatives = True

    def __init__(self, config: ModelConfig, recipe: Recipe) -> None:
        super().__init__(config, recipe)
        if not config.alternatives:
            raise ValueError(
                f"objective 'combined' needs a model with alternative groupings, which {config.preset!r} has not; "
                "take preset paper-combined"
            )
        if recipe.blend == "learned":
            self.blend = nn.Parameter(torch.zeros(len(config.groupings())))

    def forward(self, net: Supernet, x: Tensor, quality: Tensor, rng: np.random.Generator) -> RateDistortion:
        widths = random_widths(self.config, self.recipe, rng)
        latents = net.latents(x, quality, widths)
        learned = self.recipe.blend == "learned"
        y, prior = (v if learned else v.detach() for v in (latents.y, latents.prior))
        others = [net.means_and_rate(context, y, prior, widths.h_s)[1] for context in net.alternatives]
        y_bits = latents.y_bits
        if learned:
            y_bits = torch.einsum("k,kb->b", self.blend.softmax(0), torch.stack([y_bits, *others]))
        picture = net.reconstruct(latents.y_hat, quality, widths.g_s)
        result = self.measure(TrainOutput(y_bits, latents.z_bits, picture), x, quality)
        if not learned:
            lambdas = self.config.lambda_of(quality)
            pixels = x.shape[-1] * x.shape[-2]
            for bits in others:
                result.loss = result.loss + torch.mean(balance(lambdas) * bits / pixels)
        return result

    def stored(
        self, net_weights: dict[str, Tensor], own_weights: dict[str, Tensor], config: ModelConfig
    ) -> tuple[dict[str, Tensor], ModelConfig]:
        if self.recipe.blend != "learned":
            return net_weights, config
        return _with_first(int(own_weights["blend"].argmax()), net_weights, config)


def _with_first(chosen: int, weights: dict[str, Tensor], config: ModelConfig) -> tuple[dict[str, Tensor], ModelConfig]:
    """The model with its chosen grouping and the first one exchanged."""
    if chosen == 0:
        return weights, config
    place = f"alternatives.{chosen - 1}."

    def renamed(name: str) -> str:
        if name.startswith("context."):
            return place + name.removeprefix("context.")
        return "context." + name.removeprefix(place) if name.startswith(place) else name

    groupings = config.groupings()
    groupings[0], groupings[chosen] = groupings[chosen], groupings[0]
    changed = replace(
        config,
        grouping_name=groupings[0].name,
        grouping=groupings[0].tile.tolist(),
        alternatives=[{"name": g.name, "tile": g.tile.tolist()} for g in groupings[1:]],
    )
    return {renamed(name): value for name, value in weights.items()}, changed


class TrainingStep(nn.Module):
    """Net and objective as one module: what the loop optimises, averages, saves and spreads over processes."""

    def __init__(self, net: Supernet, objective: Objective) -> None:
        super().__init__()
        self.net, self.objective = net, objective

    def forward(self, x: Tensor, quality: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (), bpp (B,) and mse (B,) of a batch."""
        result = self.objective(self.net, x, quality, rng)
        return result.loss, result.bpp, result.mse

    def stored(self, weights: dict[str, Tensor], config: ModelConfig) -> tuple[dict[str, Tensor], ModelConfig]:
        """Weights and configuration of the checkpoint, from (averaged) weights of this module."""
        return self.objective.stored(_below("net.", weights), _below("objective.", weights), config)


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


OBJECTIVES: dict[str, type[Objective]] = {
    "random-widths": RandomWidths,
    "distillation": Distillation,
    "combined": Combined,
    "interchange": Interchange,
}
