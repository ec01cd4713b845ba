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

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from basic_runtime.errors import BasicError
from basic_train.losses import lambda_of_quality
from basic_train.model.coded import round_z
from basic_train.model.cost import Costs
from basic_train.model.presets import ModelConfig
from basic_train.model.supernet import Supernet, Widths
from basic_train.reports import Report, unheard

#: A chain may not rise by less than this factor per level.
SMALLEST_RISE = 1.02

#: Percent of rate that a level may lose rather than cost a whole level's step more or less than its target.
STEP_PENALTY = 10.0



class LevelError(BasicError):
    """No level table can be made."""


# --- chains ---------------------------------------------------------------------------------------------------------


def targets(low: float, high: float, count: int, spacing: str) -> np.ndarray:
    """`count` costs from low to high in a "geometric" or "linear" series."""
    return np.geomspace(low, high, count) if spacing == "geometric" else np.linspace(low, high, count)


def best_chain(
    configurations: Sequence[Widths], costs: np.ndarray, penalty: np.ndarray, starts: int = 1
) -> list[int]:
    """Indexes of the chain with the least sum of penalties, by dynamic programming.

    configurations: in order of cost, one of the first `starts` of which begins the chain and the last of which ends
    it; costs (N,); penalty (levels, N): of a configuration at a level. In a chain no transform gets narrower and each
    level costs at least SMALLEST_RISE times the one before. Raises LevelError if there is no such chain.
    """
    widths, logs, count = np.array(configurations), np.log(costs), len(penalty)
    if count == 1:
        return [len(logs) - 1]
    follows = (widths[None] >= widths[:, None]).all(2) & (logs[None] - logs[:, None] >= np.log(SMALLEST_RISE))
    best = np.where(np.arange(len(logs)) < starts, penalty[0], np.inf)
    origins = []
    for level in range(1, count):
        reach = np.where(follows, best[:, None], np.inf)
        origins.append(reach.argmin(0))
        best = reach.min(0) + penalty[level]
    if not np.isfinite(best[-1]):
        raise LevelError(f"{count} levels are too many for these widths: pass fewer --levels")
    chain = [len(logs) - 1]
    for origin in reversed(origins):
        chain.append(int(origin[chain[-1]]))
    return chain[::-1]


# --- measurement ----------------------------------------------------------------------------------------------------


class Evaluator:
    """Rates and distortions of configurations on a batch of crops, computed once each.

    crops: (B, 3, H, W) in [0, 1], sides multiples of 64; qualities: in [0, 1]. Rates are those of the float
    entropy model on rounded latents.
    """

    def __init__(self, net: Supernet, crops: Tensor, qualities: Sequence[float]) -> None:
        self.net, self.crops, self.qualities = net.eval(), crops, tuple(qualities)
        labels = torch.from_numpy(net.context.grouping.labels(crops.shape[2] // 16, crops.shape[3] // 16))
        self._labels = labels.repeat_interleave(net.config.y_channels // net.context.grouping.groups, 0)
        lambdas = lambda_of_quality(
            torch.tensor(self.qualities), net.config.lambda_min, net.config.lambda_max
        )
        self.weights = 255**2 * lambdas.double().numpy()
        self._y = cache(self._g_a)
        self._hyper = cache(self._h_a)
        self._reference = cache(self._code_reference)
        self.coded = cache(self._coded)
        """(bpp, mse) of a configuration of widths at each quality, coded stage by stage as files are."""

    def bits(self, g_a: int, h_a: int, h_s: int) -> np.ndarray:
        """Bits per pixel at each quality, given the latents that the full entropy model decodes from this g_a's."""
        return np.array([self._bits(g_a, h_a, h_s, q) for q in range(len(self.qualities))])

    def distortion(self, g_a: int, g_s: int) -> np.ndarray:
        """Mean squared error at each quality of the same latents through g_s."""
        return np.array([self._mse(self._reference(g_a, q), g_s, q) for q in range(len(self.qualities))])

    def _coded(self, widths: Widths) -> tuple[np.ndarray, np.ndarray]:
        pairs = []
        for q in range(len(self.qualities)):
            bits, y_hat = self._code(widths.g_a, widths.h_a, widths.h_s, q)
            pairs.append((bits, self._mse(y_hat, widths.g_s, q)))
        bits, mse = zip(*pairs, strict=True)
        return np.array(bits), np.array(mse)

    @torch.no_grad()
    def _g_a(self, index: int, q: int) -> Tensor:
        return self.net.analyse(self.crops, self._quality(q), index)

    def _quality(self, q: int) -> Tensor:
        return torch.full((len(self.crops),), self.qualities[q])

    @torch.no_grad()
    def _h_a(self, g_a: int, h_a: int, q: int) -> tuple[Tensor, float]:
        """z as coded, and its bits."""
        z = round_z(self.net.h_a(self._y(g_a, q), h_a))
        return z, float(self.net.z_prior.bits(z).sum())

    def _code_reference(self, g_a: int, q: int) -> Tensor:
        full = self.net.full
        return self._code(g_a, full.h_a, full.h_s, q)[1]

    @torch.no_grad()
    def _code(self, g_a: int, h_a: int, h_s: int, q: int) -> tuple[float, Tensor]:
        """Bits per pixel and y_hat, one stage after the other."""
        y = self._y(g_a, q)
        z, bits = self._hyper(g_a, h_a, q)
        prior, y_hat = self.net.h_s(z, h_s), torch.zeros_like(y)
        for stage in range(self.net.context.grouping.stages):
            symbols, mean, sigma = self._symbols(y, y_hat, prior, h_s)
            chosen = (self._labels == stage)[None]
            bits += float((self.net.bits(symbols, sigma) * chosen).sum())
            y_hat = torch.where(chosen, symbols + mean, y_hat)
        return self._per_pixel(bits), y_hat

    @torch.no_grad()
    def _bits(self, g_a: int, h_a: int, h_s: int, q: int) -> float:
        z, bits = self._hyper(g_a, h_a, q)
        symbols, _, sigma = self._symbols(self._y(g_a, q), self._reference(g_a, q), self.net.h_s(z, h_s), h_s)
        return self._per_pixel(bits + float(self.net.bits(symbols, sigma).sum()))

    def _symbols(self, y: Tensor, y_hat: Tensor, prior: Tensor, h_s: int) -> tuple[Tensor, Tensor, Tensor]:
        parameters = self.net.context(y_hat, prior, h_s)
        mean, sigma = parameters[:, 0::2], self.net.sigma(parameters[:, 1::2])
        return torch.floor(y - mean + 0.5), mean, sigma

    @torch.no_grad()
    def _mse(self, y_hat: Tensor, g_s: int, q: int) -> float:
        x_hat = self.net.reconstruct(y_hat, self._quality(q), g_s)
        return float((x_hat.clamp(0, 1) - self.crops).square().mean())

    def _per_pixel(self, bits: float) -> float:
        return bits / (self.crops.shape[0] * self.crops.shape[2] * self.crops.shape[3])


def latencies(net: Supernet, height: int = 512, width: int = 768, repetitions: int = 3) -> Costs:
    """Milliseconds of each transform at each width in PyTorch on this machine, best of a few runs.

    No width counts as cheaper than a narrower one: where it was measured so, that was chance.
    """
    y_shape, z_shape = (height // 16, width // 16), (height // 64, width // 64)
    config = net.config
    require_free_widths(config)
    y = torch.randn(1, config.y_channels, *y_shape)
    gain = (torch.ones(1, config.y_channels, 1, 1),) if config.linear_path else ()
    inputs = {
        "g_a": (torch.rand(1, 3, height, width), *gain),
        "h_a": (y,),
        "h_s": (torch.zeros(1, config.z_channels, *z_shape),),
        "g_s": (y, *gain),
    }
    indexes = range(len(config.widths))
    found: dict[str, tuple[float, ...]] = {}
    with torch.no_grad():
        for name, given in inputs.items():
            plain = [getattr(net, name).plain(index) for index in indexes]
            found[name] = tuple(_best_ms(lambda m=m, given=given: m(*given), repetitions) for m in plain)
        priors = [torch.zeros(1, config.priors[index], *y_shape) for index in indexes]
        found["context"] = tuple(
            _best_ms(lambda i=i: net.context(y, priors[i], i), repetitions) for i in indexes
        )
    return Costs(**{name: tuple(np.maximum.accumulate(ms).tolist()) for name, ms in found.items()})


def _best_ms(work: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * min(times[1:])


# --- search ---------------------------------------------------------------------------------------------------------


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


def require_free_widths(config: ModelConfig) -> None:
    """Raises LevelError for a model whose transforms cannot have widths of their own."""
    if config.latents:
        raise LevelError(
            f"{config.preset}: all four transforms run at one width, so its levels are its widths and there is "
            "nothing to search"
        )


def candidates(
    evaluator: Evaluator,
    costs: Costs,
    side: str,
    report: Report = unheard,
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
    loss = [
        rate_loss(bits[w[:3]], mse[w.g_a, w.g_s], full_bits, full_mse, evaluator.weights)
        for w in configurations
    ]
    prices = np.array([costs.side(w, side) for w in configurations])
    return Candidates(configurations, prices, np.array(loss), evaluator)


def search(found: Candidates, options: Search, report: Report = unheard) -> list[Level]:
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
        raise LevelError(
            f"a table needs at least {len(ends)} widths of h_s, not {size}: raise --entropy-widths"
        )
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
