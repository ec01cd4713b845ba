"""The level search: which width each transform has at each complexity level.

The inter-node structure of BaSIC (ECCV 2024) as an honest search: all configurations of widths are ranked by what they
lose in rate at equal quality on held-out photos, in evaluation mode, and a table of levels is the chain of
configurations that loses least at the wanted costs.

What a configuration (g_a, h_a, h_s, g_s) gives is composed first from measurements of its parts: bits of (g_a, h_a,
h_s) and distortion of (g_a, g_s), both on the latents that the full entropy model codes. That is not quite exact, since
y_hat moves by fractions of a step with the means of h_s. So the chain's configurations are then coded in full, stage by
stage, and the search repeated until every level of the chain was.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np

from basic_train.chains import LevelError, best_chain, targets
from basic_train.evaluator import Evaluator, require_free_widths
from basic_train.model.cost import Costs
from basic_train.model.supernet import Widths
from basic_train.progress import Progress, silent

#: Percent of rate that a level may lose rather than cost a whole level's step more or less than its target.
STEP_PENALTY = 10.0


@dataclass(frozen=True)
class Level:
    """A level: its widths, its cost, and what it was measured to give at each quality."""

    widths: Widths
    cost: float
    bpp: tuple[float, ...]
    mse: tuple[float, ...]
    loss_percent: float


@dataclass(frozen=True)
class Search:
    """How to search. count: levels; side: whose cost counts; spacing: of the target costs; entropy_widths: how
    many widths of h_s the table may use, each of which takes room in a bundle (None: any). first_share: level 0 is the
    best that costs at most this share of the last level (None: the cheapest of all)."""

    count: int = 8
    side: str = "both"
    spacing: str = "geometric"
    entropy_widths: int | None = 3
    first_share: float | None = None


@dataclass
class Candidates:
    """All configurations in order of cost with their losses: percent of rate at equal quality against the full
    model. `loss` starts out as composed from parts; `fully` marks what was coded in full."""

    configurations: list[Widths]
    costs: np.ndarray
    loss: np.ndarray
    evaluator: Evaluator
    fully: dict[int, Level] = field(default_factory=dict)

    def code(self, index: int) -> Level:
        """Code a configuration in full, which replaces its composed loss."""
        if index not in self.fully:
            bits, mse = self.evaluator.coded(self.configurations[index])
            self.loss[index] = self._percent(bits, mse)
            self.fully[index] = Level(
                self.configurations[index],
                float(self.costs[index]),
                tuple(bits.tolist()),
                tuple(mse.tolist()),
                float(self.loss[index]),
            )
        return self.fully[index]

    def _percent(self, bits: np.ndarray, mse: np.ndarray) -> float:
        full_bits, full_mse = self.evaluator.coded(self.evaluator.net.full)
        return rate_loss(bits, mse, full_bits, full_mse, self.evaluator.weights)


def rate_loss(
    bits: np.ndarray, mse: np.ndarray, full_bits: np.ndarray, full_mse: np.ndarray, weights: np.ndarray
) -> float:
    """Loss in rate at equal quality, percent of the full model's, mean over qualities.

    To first order a change of distortion costs weights * change in bits, as weights = lambda 255^2 is the slope of
    the rate-distortion curve at which a quality was trained.
    """
    return float(100 * np.mean((bits - full_bits + weights * (mse - full_mse)) / full_bits))


def candidates(
    evaluator: Evaluator,
    costs: Costs,
    side: str,
    report: Progress = silent,
) -> Candidates:
    """Every configuration with its loss composed from parts."""
    config = evaluator.net.config
    require_free_widths(config)
    g_a, h_a, h_s, g_s = config.choices()
    total = len(g_a) * (len(g_s) + len(h_a) * len(h_s))
    bits, mse = {}, {}
    for key in product(g_a, g_s):
        report("measuring parts", len(mse), total)
        mse[key] = evaluator.distortion(*key)
    for triple in product(g_a, h_a, h_s):
        report("measuring parts", len(mse) + len(bits), total)
        bits[triple] = evaluator.bits(*triple)
    full_bits, full_mse = bits[g_a[-1], h_a[-1], h_s[-1]], mse[g_a[-1], g_s[-1]]
    configurations = sorted(
        (Widths(*item) for item in product(g_a, h_a, h_s, g_s)), key=lambda w: (costs.side(w, side), w)
    )
    loss = [rate_loss(bits[w[:3]], mse[w.g_a, w.g_s], full_bits, full_mse, evaluator.weights) for w in configurations]
    prices = np.array([costs.side(w, side) for w in configurations])
    return Candidates(configurations, prices, np.array(loss), evaluator)


def search(found: Candidates, options: Search, report: Progress = silent) -> list[Level]:
    """The table of levels that loses least near the target costs, every level coded in full.

    Raises LevelError if there are not enough widths for so many levels.
    """
    while True:
        _, chain = min(_chains(found, options), default=(0.0, []))
        if not chain:
            raise LevelError(f"{options.count} levels are too many for these widths: pass fewer --levels")
        unknown = [index for index in chain if index not in found.fully]
        for number, index in enumerate(unknown):
            report("coding levels in full", number, len(unknown))
            found.code(index)
        if not unknown:
            return [found.fully[index] for index in chain]


def _chains(found: Candidates, options: Search) -> Iterable[tuple[float, list[int]]]:
    """The best chain and its penalty for every choice of h_s widths."""
    indexes = found.evaluator.net.config.choices()[2]
    ends = {indexes[0], indexes[-1]}  # of the first and of the last level
    size = len(indexes) if options.entropy_widths is None else min(options.entropy_widths, len(indexes))
    if size < len(ends):
        raise LevelError(f"a table needs at least {len(ends)} widths of h_s, not {size}: raise --entropy-widths")
    for chosen in combinations(indexes, size):
        if not ends <= set(chosen):
            continue
        kept = [i for i, w in enumerate(found.configurations) if w.h_s in chosen]
        costs = found.costs[kept]
        starts, low = _first_level(costs, options)
        wanted = np.log(targets(low, costs[-1], options.count, options.spacing))
        step = np.log(costs[-1] / low) / max(1, options.count - 1)
        penalty = found.loss[kept] + STEP_PENALTY * ((np.log(costs) - wanted[:, None]) / step) ** 2
        # Some choices of h_s widths may have too few configurations.
        with suppress(LevelError):
            chain = best_chain([found.configurations[i] for i in kept], costs, penalty, starts)
            yield float(penalty[range(len(chain)), chain].sum()), [kept[i] for i in chain]


def _first_level(costs: np.ndarray, options: Search) -> tuple[int, float]:
    """How many of the configurations, in order of cost, may be level 0, and what it should cost."""
    if options.first_share is None:
        return 1, float(costs[0])
    most = options.first_share * costs[-1]
    if costs[0] > most:
        least = costs[0] / costs[-1]
        raise LevelError(
            f"no level costs {options.first_share:g} of the last one, the cheapest {least:.3f}: raise --first-share"
        )
    return int(np.searchsorted(costs, most, side="right")), float(most)
