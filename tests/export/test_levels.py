"""The spread of levels by cost, and level tables of checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from basic_export.errors import ExportError
from basic_export.levels import choose_levels, spread
from basic_train.model.config import ModelConfig
from basic_train.model.cost import Costs
from basic_train.model.presets import LITE, PAPER, TINY
from basic_train.model.supernet import Supernet, Widths


@pytest.mark.parametrize("config", [LITE, PAPER, TINY], ids=lambda config: config.preset)
@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_levels_rise_and_never_narrow(config: ModelConfig, count: int) -> None:
    net = Supernet(config)
    costs = Costs.of(net)
    levels = choose_levels(net, count)
    totals = [costs.total(level) for level in levels]
    assert len(levels) == count
    assert levels[0] == net.uniform(0)
    assert levels[-1] == net.full
    assert totals == sorted(set(totals))
    assert all(b <= a for one, two in zip(levels, levels[1:], strict=False) for b, a in zip(one, two, strict=True))


def test_costs_of_lite_s_levels_are_about_geometric() -> None:
    net = Supernet(LITE)
    costs = Costs.of(net)
    logs = np.log([costs.total(level) for level in choose_levels(net, 8)])
    assert np.abs(logs - np.linspace(logs[0], logs[-1], 8)).max() < 0.1


def test_sender_and_receiver_both_run_the_entropy_model() -> None:
    costs = Costs((1.0,), (10.0,), (100.0,), (1000.0,), (10000.0,))
    widths = Widths(0, 0, 0, 0)
    assert costs.encode(widths) == 1111
    assert costs.decode(widths) == 11100
    assert costs.total(widths) == 12211


def test_one_level_is_the_full_model() -> None:
    assert choose_levels(Supernet(TINY), 1) == [Widths(2, 2, 2, 2)]


def test_too_many_levels_are_refused() -> None:
    costs = Costs(*[(1.0, 2.0)] * 5)
    assert len(spread(costs, 5, [[0, 1]] * 4)) == 5
    with pytest.raises(ExportError, match="at most 5 levels, not 6: pass --levels 5"):
        spread(costs, 6, [[0, 1]] * 4)


def test_only_widths_that_are_trained_make_levels() -> None:
    net = Supernet(replace(TINY, analysis_widths=(32, 32, 32), hyper_widths=(8, 12, 12)))
    levels = choose_levels(net, 4)
    assert {level.g_a for level in levels} == {2} and {level.h_a for level in levels} <= {0, 2}
    assert levels[0] == net.trained(0) == Widths(2, 0, 0, 0) and levels[-1] == net.full
    with pytest.raises(ExportError, match="at most 6 levels, not 8"):  # g_a adds none, h_a one, h_s and g_s two each
        choose_levels(net, 8)


def table(*rows: tuple[int, int, int, int]) -> list[dict[str, int]]:
    return [Widths(*row)._asdict() for row in rows]


def test_a_checkpoint_s_table_is_used_as_it_is() -> None:
    levels = table((0, 1, 0, 0), (1, 1, 0, 2))
    assert choose_levels(Supernet(replace(TINY, levels=levels)), 2) == [
        Widths(0, 1, 0, 0),
        Widths(1, 1, 0, 2),
    ]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (table((0, 0, 0, 0)), "has 1 levels, not 2"),
        (table((0, 0, 0, 0), (0, 0, 0, 3)), "width index below 3"),
        ([{"g_a": 0}, {"g_a": 1}], "g_a, h_a, h_s and g_s"),
        (table((0, 0, 0, 1), (1, 1, 1, 0)), "narrower in no transform"),
        (table((1, 1, 1, 1), (1, 1, 1, 1)), "must cost more"),
    ],
)
def test_a_wrong_table_is_refused(levels: list[dict[str, int]], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        choose_levels(Supernet(replace(TINY, levels=levels)), 2)
