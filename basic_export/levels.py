"""Complexity levels: which width each transform runs at, from cheapest (0) to full.

A checkpoint that went through the level search brings its table. Until then levels are spread by cost: a
chain of configurations from all-narrowest to all-widest, along which no transform ever gets narrower, whose
costs come as close as possible to a geometric series. Among chains of like cost, even widths win: a level is
a model that was trained with its transforms about equally wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from basic_export.errors import ExportError
from basic_train.chains import LevelError, best_chain, targets
from basic_train.model.cost import Costs
from basic_train.model.supernet import Supernet, Widths

#: Weight of uneven widths against the squared error of the log cost: a transform one index away from the
#: others weighs as much as a cost that is 8 % off.
UNEVENNESS = 0.008


def choose_levels(net: Supernet, count: int) -> list[Widths]:
    """`count` levels of a supernet, strictly rising in cost and in no transform narrower than the level
    before.

    Raises ExportError if the checkpoint's table has another length or breaks these rules, or if there are not
    enough widths for so many levels.
    """
    costs = Costs.of(net)
    table = net.config.levels
    levels = _from_table(table, len(costs.g_a), count) if table else spread(costs, count, net.config.choices())
    _check(levels, costs)
    return levels


def spread(costs: Costs, count: int, choices: Sequence[Sequence[int]]) -> list[Widths]:
    """Levels whose total costs rise about geometrically: dynamic programming over chains of the width indexes that
    each transform may have."""
    configurations = sorted((Widths(*item) for item in product(*choices)), key=costs.total)
    if count == 1:
        return configurations[-1:]
    most = sum(len(indexes) - 1 for indexes in choices) + 1
    if count > most:
        levels = "one level" if most == 1 else f"{most} levels"
        raise ExportError(f"its widths give at most {levels}, not {count}: pass --levels {most}")
    totals = np.array([costs.total(item) for item in configurations])
    wanted = np.log(targets(totals[0], totals[-1], count, "geometric"))
    uneven = UNEVENNESS * np.array(configurations).var(axis=1)
    try:
        chain = best_chain(configurations, totals, (np.log(totals) - wanted[:, None]) ** 2 + uneven)
    except LevelError as error:
        raise ExportError(str(error)) from error
    return [configurations[index] for index in chain]


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
        if any(b > a for b, a in zip(before, after, strict=True)) or costs.total(before) >= costs.total(after):
            raise ExportError(
                f"level {number + 1} {tuple(after)} must cost more than level {number} {tuple(before)} "
                "and be narrower in no transform: run the level search again"
            )
