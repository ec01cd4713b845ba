"""The output of `basic-train info`: a supernet's configuration, size, cost and history."""

from __future__ import annotations

from typing import Any

import torch
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from basic_train.model.config import ModelConfig
from basic_train.model.cost import macs_per_pixel, parameter_counts
from basic_train.model.supernet import Supernet, Widths

PLAIN: dict[str, Any] = {"title_justify": "left", "box": box.SIMPLE_HEAD, "pad_edge": False}


def describe(config: ModelConfig, history: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything printed about a model, as plain values; parameters are those of all widths together."""
    with torch.device("meta"):  # shapes only: nothing is allocated or drawn
        net = Supernet(config)
    costs = [
        {
            "width": config.widths[i],
            "analysis_width": config.encoder_widths[i],
            "hyper_width": config.hyper_widths[i],
            **macs_per_pixel(net, net.uniform(i)),
        }
        for i in range(len(config.widths))
    ]
    return {
        "config": config.to_json(),
        "stages": config.grouping_map().stages,
        "parameters": parameter_counts(net),
        "macs_per_pixel": costs,
        "history": history,
    }


def render(facts: dict[str, Any]) -> Group:
    """The same as text and tables."""
    config = facts["config"]
    lines = [
        f"preset {config['preset']} ({config['backbone']} transforms), "
        f"{config['y_channels']} channels of y, {config['z_channels']} of z",
        f"grouping {config['grouping_name']}, {len(config['grouping'])} channel groups, {facts['stages']} stages",
        f"lambda {config['lambda_min']} to {config['lambda_max']} over {config['quality_anchors']} anchors",
    ]
    lines += [f"or grouping {item['name']}" for item in config["alternatives"]]
    if facts["history"]:
        lines += _history_lines(facts["history"])
    tables = [_parameter_table(facts), _cost_table(facts["macs_per_pixel"])]
    if config["levels"]:
        tables.append(_level_table(config))
    return Group(*(Text(line) for line in lines), *tables)


def _history_lines(history: dict[str, Any]) -> list[str]:
    recipe = ", ".join(f"{name} {value}" for name, value in history["recipe"].items() if value is not None)
    trained = f"trained {history['minutes']:.1f} minutes, {history['step']} steps, {history['patches']} patches"
    return [trained, f"recipe: {recipe}"]


def _parameter_table(facts: dict[str, Any]) -> Table:
    table = Table("part", title="\nparameters", **PLAIN)
    table.add_column("count", justify="right")
    for name, count in facts["parameters"].items():
        table.add_row(name, f"{count:,}")
    table.add_row("all", f"{sum(facts['parameters'].values()):,}")
    return table


def _cost_table(costs: list[dict[str, float]]) -> Table:
    table = Table(title="kMAC/pixel", **PLAIN)
    for name in ("width", "hyper", "g_a", "h_a", "h_s", "context", "g_s", "encode", "decode"):
        table.add_column(name, justify="right")
    for cost in costs:
        entropy = cost["h_s"] + cost["context"]
        parts = [cost[name] for name in ("g_a", "h_a", "h_s", "context", "g_s")]
        values = [*parts, cost["g_a"] + cost["h_a"] + entropy, entropy + cost["g_s"]]
        width, analysis_width = cost["width"], cost["analysis_width"]
        both = str(width) if width == analysis_width else f"{analysis_width}/{width}"
        table.add_row(both, str(cost["hyper_width"]), *(f"{v / 1000:.3f}" for v in values))
    return table


def _level_table(config: dict[str, Any]) -> Table:
    """Channels of each transform at each level of the table that the level search made."""
    table = Table("level", title="levels", **PLAIN)
    shape = ModelConfig.from_json(config)
    for name in Widths._fields:
        table.add_column(name, justify="right")
    for number, level in enumerate(config["levels"]):
        table.add_row(str(number), *(str(shape.channels(name, level[name])) for name in Widths._fields))
    return table
