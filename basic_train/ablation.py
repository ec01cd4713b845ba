"""The grouping ablation: what the order of decoding is worth, all else equal (model-spec §5.3).

All transforms and the prior of z of a checkpoint are frozen, so latents are computed once. One context model is
trained on random groupings; from it, as the one base, a context model is fine-tuned for each method. Learned methods
first find their grouping, then are fine-tuned with it like the others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from basic_runtime.errors import BasicError
from basic_train.grouping import TILES, Grouping, Labels, labels, tiled
from basic_train.model.coded import round_z
from basic_train.model.config import ModelConfig
from basic_train.model.context import ContextShape, GroupedContext
from basic_train.model.gdn import PER_WIDTH, SlimGDN
from basic_train.model.masked import MaskedContext
from basic_train.model.priors import uniform_noise
from basic_train.model.supernet import Y_STRIDE, Supernet
from basic_train.model.topology import DirectTopology, TopologyPredictor, draw, likeliest, mean_rate, vimco
from basic_train.optimise import optimizers
from basic_train.progress import Progress
from basic_train.recipe import Recipe

#: Samples of VIMCO.
SAMPLES = 2

#: Share of a learned method's steps in which it finds its grouping by score function; the search takes none.
FINDING = 0.5

#: Of Adam for logits: some hundred steps take a probability from even odds to near certainty.
LOGIT_RATE = 0.05

LN2 = math.log(2)


class AblationError(BasicError):
    """A comparison that the model does not allow."""


@dataclass(frozen=True)
class Method:
    """A row of the comparison: a fixed method of `basic_train.grouping`, or stages to learn (0: fixed)."""

    name: str
    groups: int
    stages: int = 0

    @property
    def learned(self) -> bool:
        return self.stages > 0

    @property
    def title(self) -> str:
        """What its row is called: channelwise-g4, checkerboard, learned-g4-s8."""
        return f"{self.name}-g{self.groups}" if not self.learned and self.groups > 1 else self.name


def learned(stages: int, groups: int) -> Method:
    """A grouping of so many stages to be learned over a 2x2 tile."""
    return Method(f"learned-g{groups}-s{stages}", groups, stages)


def methods(config: ModelConfig) -> list[Method]:
    """The comparison for a model: that of the original, whose 12 channel groups become 10 where they do not divide its
    latents, and learned groupings of 2, 4, 6, 8 and 10 stages. Raises AblationError for models without groupings."""
    if config.context != "grouped":
        raise AblationError(
            f"preset {config.preset!r} decodes all latents at once: it has no order of decoding to compare others with"
        )
    latents = config.y_channels
    if latents % 4:
        raise AblationError(f"{latents} latent channels do not divide into the four channel groups of the comparison")
    many = next((groups for groups in (12, 10, 8) if latents % groups == 0), 4)
    uneven = [Method("elic", 12)] if latents % 12 == 0 else [Method("elic320", 20)] if latents % 20 == 0 else []
    fixed = [
        Method("none", 1),
        Method("channelwise", 2),
        Method("checkerboard", 1),
        Method("channelwise", 4),
        Method("raster2x2", 1),
        Method("channelwise-checkerboard", 4),
        Method("group-diagonal", 2),
        *uneven,
        Method("scanline", 1),
    ]
    return fixed + [learned(2, 2), learned(4, 4), learned(6, 4), learned(8, 4), learned(10, many)]


@dataclass(frozen=True)
class Latents:
    """Frozen latents of crops, float16: y (N, M, h, w) scaled by its quality's gain, prior of y (N, P, h, w); z_bits:
    of all of them together."""

    y: Tensor
    prior: Tensor
    z_bits: float

    def per_pixel(self, bits: float) -> float:
        """Of a picture pixel."""
        return bits / (Y_STRIDE**2 * self.y[:, 0].numel())

    def batches(self, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Random batches without end."""
        rng = np.random.default_rng(seed)
        while True:
            chosen = torch.from_numpy(rng.choice(len(self.y), size, replace=False))
            yield self.y[chosen].float(), self.prior[chosen].float()


@torch.no_grad()
def freeze(net: Supernet, crops: Tensor, quality: Tensor) -> Latents:
    """Latents of crops (N, 3, H, W) at their qualities (N,), at full width; half precision, as there are many."""
    full, found, z_bits = net.full, [], 0.0
    for x, q in zip(crops.split(8), quality.split(8), strict=True):
        y = net.analyse(x, q, full.g_a)
        z = round_z(net.h_a(y, full.h_a))
        z_bits += float(net.z_prior.bits(z).sum())
        found.append((y.half(), net.h_s(z, full.h_s).half()))
    y, prior = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Latents(y, prior, z_bits)


@dataclass(frozen=True)
class Outcome:
    """What a method gives: bits per pixel on held-out photos; tile: stages (G, t, t) of a method that repeats, else
    None."""

    name: str
    groups: int
    stages: int
    bpp: float
    tile: list[list[list[int]]] | None


class Ablation:
    """The comparison on the frozen latents of one net.

    shape: of every method's context model, divisible by all of their channel groups; steps: of the base and of each
    method; report: called with what is done, the step and the number of steps.
    """

    def __init__(
        self,
        net: Supernet,
        training: Latents,
        held_out: Latents,
        shape: ContextShape,
        steps: int,
        batch: int,
        learner: str,
        report: Progress,
    ) -> None:
        self.net, self.training, self.held_out = net, training, held_out
        self.steps, self.batch, self.learner, self.report = steps, batch, learner, report
        config = net.config
        torch.manual_seed(0)
        self.base = GroupedContext(
            config.y_channels,
            tiled("none", 1),
            [shape],
            [config.priors[-1]],
            config.context_kernel,
            config.context_slope,
        )

    def train_base(self, groups: int) -> None:
        """Train the base on random groupings of a 2x2 tile, another one in each step, of one to `groups` channel groups
        that divide them. (The original's random maps do not repeat, which costs a masked pass per channel group.)"""
        possible = [g for g in range(1, groups + 1) if groups % g == 0]
        rng = np.random.default_rng(0)

        def loss(y: Tensor, prior: Tensor) -> Tensor:
            count = possible[rng.integers(len(possible))]
            stages = int(rng.integers(1, 4 * count + 1))
            self.base.regroup(Grouping("random", rng.integers(0, stages, (count, 2, 2))))
            return self.net.means_and_rate(self.base, y, prior, 0)[1].mean()

        self._train("base", self.base, self.steps, loss)

    def run(self, method: Method) -> tuple[Outcome, GroupedContext]:
        """Find the grouping of a learned method, fine-tune the base with it, and measure."""
        context, name = copy.deepcopy(self.base), method.title
        if not method.learned and method.name not in TILES:
            return self._run_whole(method, context)
        steps = self.steps
        if not method.learned:
            grouping = tiled(method.name, method.groups)
        elif self.learner == "search":
            grouping = search_tile(self._any_order, method, lambda n, of: self.report(f"{name}: search", n, of))
        else:
            grouping = self._learn(context, method, int(FINDING * steps))
            steps -= int(FINDING * steps)
        context.regroup(grouping)

        def loss(y: Tensor, prior: Tensor) -> Tensor:
            return self.net.means_and_rate(context, y, prior, 0)[1].mean()

        self._train(name, context, steps, loss)
        height, width = self.held_out.y.shape[2:]
        bpp = self.measure(context, grouping.labels(height, width))
        return Outcome(name, method.groups, grouping.stages, bpp, grouping.tile.tolist()), context

    def _run_whole(self, method: Method, context: GroupedContext) -> tuple[Outcome, GroupedContext]:
        """A method whose map does not repeat, position by position."""
        order = labels(method.name, method.groups, *self.training.y.shape[2:])
        context.regroup(Grouping(method.name, np.zeros((method.groups, 1, 1))))
        masked = MaskedContext(context, order)

        def loss(y: Tensor, prior: Tensor) -> Tensor:
            return self.net.means_and_rate(masked.parameters, y, prior, 0)[1].mean()

        self._train(method.title, context, self.steps, loss)
        order = labels(method.name, method.groups, *self.held_out.y.shape[2:])
        stages = int(order.max()) + 1
        return Outcome(method.title, method.groups, stages, self.measure(context, order), None), context

    def _learn(self, context: GroupedContext, method: Method, steps: int) -> Grouping:
        """By VIMCO: maps drawn at every position, the same for all images of a batch."""
        kind = TopologyPredictor if self.learner == "predictor" else DirectTopology
        topology = kind(method.groups, method.stages)
        context.regroup(Grouping("drawn", np.zeros((method.groups, 1, 1))))

        def loss(y: Tensor, prior: Tensor) -> Tensor:
            logits, noisy = topology(), uniform_noise(y)
            drawn = [draw(logits, *y.shape[2:]) for _ in range(SAMPLES)]
            nats = torch.stack(
                [
                    LN2 * self._element_bits(MaskedContext(context, order).parameters(noisy, prior, 0), y)
                    for order, _ in drawn
                ]
            )
            chances = torch.stack([chance for _, chance in drawn])
            score = vimco(nats.flatten(2).sum(2), chances)
            return mean_rate(nats).mean() / LN2 + score

        self._train(f"{method.name}: {self.learner}", context, steps, loss, topology)
        return likeliest(topology, method.name)

    def _train(
        self,
        name: str,
        context: GroupedContext,
        steps: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        topology: nn.Module | None = None,
    ) -> None:
        """Steps of a context model on random batches, the rate falling to zero over them, and of the logits of a
        topology. The same seed for all methods."""
        torch.manual_seed(1)
        module = nn.ModuleList([context] if topology is None else [context, topology])
        recipe = Recipe(muon_rate=0.01, decay=1.0, warmup_steps=max(1, steps // 20), steps=max(1, steps))
        found = optimizers_of(context, topology, recipe)
        rates = [optimizer.defaults["lr"] for optimizer in found]
        batches = self.training.batches(self.batch, seed=2)
        for step in range(steps):
            factor = recipe.rate_factor(step, 0.0)
            for optimizer, rate in zip(found, rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
            y, prior = next(batches)
            module.zero_grad(set_to_none=True)
            value = loss(y, prior) / y[0].numel()
            if not torch.isfinite(value):
                raise AblationError(f"{name}: the loss is {value.item()} at step {step}")
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            for optimizer in found:
                optimizer.step()
            self.report(name, step + 1, steps)

    def _element_bits(self, parameters: Tensor, y: Tensor) -> Tensor:
        """Bits of each element (B, M, h, w) with the noise stand-in."""
        mean, sigma = self.net.mean_and_sigma(parameters)
        return self.net.bits(uniform_noise(y - mean), sigma)

    @torch.no_grad()
    def _any_order(self, grouping: Grouping) -> float:
        """Bits of some training crops by the base, which knows any order, in one pass over rounded latents."""
        self.base.regroup(grouping)
        y, prior = next(self.training.batches(min(len(self.training.y), 3 * self.batch), seed=3))
        parameters = self.base(y.round(), prior, 0)
        mean, sigma = self.net.mean_and_sigma(parameters)
        return float(self.net.bits((y - mean).round(), sigma).sum())

    @torch.no_grad()
    def measure(self, context: GroupedContext, order: Labels) -> float:
        """Bits per pixel of held-out photos, z included, coded stage by stage on rounded latents."""
        masked, bits = MaskedContext(context, order), self.held_out.z_bits
        for y, prior in zip(self.held_out.y.split(8), self.held_out.prior.split(8), strict=True):
            y_hat, parameters = masked.quantise(y.float(), prior.float(), 0)
            mean, sigma = self.net.mean_and_sigma(parameters)
            bits += float(self.net.bits((y_hat - mean).round(), sigma).sum())
        return self.held_out.per_pixel(bits)


def optimizers_of(context: GroupedContext, topology: nn.Module | None, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Those of a context model, and Adam with a rate of its own for the logits of a topology, whose size is what they
    say."""
    found = optimizers(context, recipe)
    if topology is not None:
        found.append(torch.optim.Adam(topology.parameters(), LOGIT_RATE, fused=True))
    return found


def search_tile(
    cost: Callable[[Grouping], float], method: Method, report: Callable[[int, int], None] = lambda n, of: None
) -> Grouping:
    """Coordinate descent over the partial orders of a 2x2 tile: the deterministic way to learn a grouping.

    Starts from the cheapest of a few regular orders of so many stages; then each channel group's cell in turn goes to
    the stage where it costs least, until a round changes nothing. cost: of a grouping, by a context model that knows
    any order.
    """
    groups, stages = method.groups, method.stages
    best = min(_regular(groups, stages), key=lambda tile: cost(Grouping(method.name, tile)))
    lowest, changed = cost(Grouping(method.name, best)), True
    slots = list(np.ndindex(best.shape))
    while changed:
        changed = False
        for number, slot in enumerate(slots):
            report(number + 1, len(slots))
            for stage in range(stages):
                tile = best.copy()
                tile[slot] = stage
                found = cost(Grouping(method.name, tile)) if stage != best[slot] else lowest
                if found < lowest:
                    best, lowest, changed = tile, found, True
    return Grouping(method.name, best)


def _regular(groups: int, stages: int) -> list[np.ndarray]:
    """Group by group, cell by cell, and both, cut into so many stages of like size."""
    cells = np.array([[0, 2], [3, 1]])
    g = np.arange(groups)[:, None, None]
    orders = [4 * g + cells, g + groups * cells, 2 * g + cells // 2, g + groups * (cells // 2)]
    ranks = [np.unique(order, return_inverse=True)[1].reshape(groups, 2, 2) for order in orders]
    return [rank * stages // (rank.max() + 1) for rank in ranks]


def static(net: Supernet, context: GroupedContext, name: str) -> tuple[Supernet, dict[str, Tensor]]:
    """A net of the full width alone with a method's context model and grouping, and its weights."""
    config, grouping = net.config, context.grouping
    one = replace(
        config,
        **{name: getattr(config, name)[-1:] for name in ("widths", "hyper_widths", "priors", "analysis_widths")},
        contexts=context.shapes,
        grouping_name=name,
        grouping=grouping.tile.tolist(),
        phase_bias=False,  # the methods' context models have none: they share a base that any grouping trains
        alternatives=[],
        levels=[],
    )
    weights = {k: v for k, v in net.state_dict().items() if not k.startswith(("context.", "alternatives."))}
    weights |= _full_width_scalars(net)
    weights |= {f"context.{name}": value for name, value in context.state_dict().items()}
    result = Supernet(one)
    result.load_state_dict(weights)
    return result.eval(), weights


def _full_width_scalars(net: Supernet) -> dict[str, Tensor]:
    """The full width's of what GDN has for each width."""
    layers = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, SlimGDN)]
    return {f"{name}.{which}": getattr(layer, which).detach()[-1:] for name, layer in layers for which in PER_WIDTH}
