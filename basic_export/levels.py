"""Complexity levels: which width each transform runs at, from cheapest (0) to full.

A checkpoint that went through the level search brings its table. Until then levels are spread by cost: a
chain of configurations from all-narrowest to all-widest, along which no transform ever gets narrower, whose
costs come as close as possible to a geometric series. Among chains of like cost, even widths win: a level is
a model that was trained with its transforms about equally wide.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product

import numpy as np

from basic_export.errors import ExportError
from basic_train.model.cost import macs_per_pixel
from basic_train.model.supernet import Supernet, Widths

#: Weight of uneven widths against the squared error of the log cost: a transform one index away from the
#: others weighs as much as a cost that is 8 % off.
UNEVENNESS = 0.008

#: A chain may not rise by less than this factor per level.
SMALLEST_RISE = 1.02


@dataclass(frozen=True)
class Costs:
    """Multiply-accumulates per pixel at each width index. `context` goes with h_s and counts all stages of
    one dense pass, as compiled stages cost no more."""

    g_a: tuple[float, ...]
    h_a: tuple[float, ...]
    h_s: tuple[float, ...]
    context: tuple[float, ...]
    g_s: tuple[float, ...]

    @classmethod
    def of(cls, net: Supernet) -> Costs:
        costs = [macs_per_pixel(net, net.uniform(index)) for index in range(len(net.config.widths))]
        return cls(**{field.name: tuple(cost[field.name] for cost in costs) for field in fields(cls)})

    def encode(self, widths: Widths) -> float:
        """What a sender computes: all but g_s."""
        return self.g_a[widths.g_a] + self.h_a[widths.h_a] + self.h_s[widths.h_s] + self.context[widths.h_s]

    def decode(self, widths: Widths) -> float:
        """What a receiver computes: h_s, the context stages and g_s."""
        return self.h_s[widths.h_s] + self.context[widths.h_s] + self.g_s[widths.g_s]

    def total(self, widths: Widths) -> float:
        """Sender and receiver together; the entropy model counts twice."""
        return self.encode(widths) + self.decode(widths)


def choose_levels(net: Supernet, count: int) -> list[Widths]:
    """`count` levels of a supernet, strictly rising in cost and in no transform narrower than the level
    before.

    Raises ExportError if the checkpoint's table has another length or breaks these rules, or if there are not
    enough widths for so many levels.
    """
    costs = Costs.of(net)
    table = net.config.levels
    levels = _from_table(table, len(costs.g_a), count) if table else spread(costs, count)
    _check(levels, costs)
    return levels


def spread(costs: Costs, count: int) -> list[Widths]:
    """Levels whose total costs rise about geometrically: dynamic programming over chains."""
    indexes = range(len(costs.g_a))
    configurations = sorted((Widths(*item) for item in product(indexes, repeat=4)), key=costs.total)
    if count == 1:
        return configurations[-1:]
    if count > 4 * (len(indexes) - 1) + 1:
        raise ExportError(
            f"{len(indexes)} widths give at most {4 * (len(indexes) - 1) + 1} levels, not {count}: "
            "pass fewer --levels"
        )
    widths = np.array(configurations)
    logs = np.log([costs.total(item) for item in configurations])
    follows = (widths[None] >= widths[:, None]).all(2) & (logs[None] - logs[:, None] >= np.log(SMALLEST_RISE))
    targets = np.linspace(logs[0], logs[-1], count)
    penalty = (logs[None] - targets[:, None]) ** 2 + UNEVENNESS * widths.var(axis=1)[None]
    best = np.where(np.arange(len(logs)) == 0, penalty[0], np.inf)
    origins = []
    for level in range(1, count):
        reach = np.where(follows, best[:, None], np.inf)
        origins.append(reach.argmin(0))
        best = reach.min(0) + penalty[level]
    if not np.isfinite(best[-1]):
        raise ExportError(f"{count} levels are too many for these widths: pass fewer --levels")
    chain = [len(logs) - 1]
    for origin in reversed(origins):
        chain.append(int(origin[chain[-1]]))
    return [configurations[i] for i in reversed(chain)]


def _from_table(table: list[dict[str, int]], widths: int, count: int) -> list[Widths]:
    if len(table) != count:
        raise ExportError(
            f"the checkpoint's level table has {len(table)} levels, not {count}: pass --levels {len(table)}"
        )
    levels = []
    for number, entry in enumerate(table):
        if set(entry) != set(Widths._fields) or not all(0 <= index < widths for index in entry.values()):
            raise ExportError(
                f"level {number} of the checkpoint's table is {entry}; it must give g_a, h_a, h_s and g_s "
                f"a width index below {widths}"
            )
        levels.append(Widths(**entry))
    return levels


def _check(levels: list[Widths], costs: Costs) -> None:
    for number, (before, after) in enumerate(zip(levels, levels[1:], strict=False)):
        if any(b > a for b, a in zip(before, after, strict=True)) or costs.total(before) >= costs.total(
            after
        ):
            raise ExportError(
                f"level {number + 1} {tuple(after)} must cost more than level {number} {tuple(before)} "
                "and be narrower in no transform: run the level search again"
            )
