"""Levels that are nets of their own (`basic_train.model.narrow`) beside those of a supernet, in one bundle.

All levels of a bundle share its latents: the gains of each quality, the tables of the coder and the prior of z are the
same for all, so that any level decodes what any other has encoded. A net of its own must have kept these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from basic_export.errors import ExportError
from basic_export.levels import choose_levels
from basic_train.model.context import GroupedContext
from basic_train.model.cost import Costs
from basic_train.model.supernet import Supernet, Widths

#: Fields of `ModelConfig` that all nets of a bundle have in common, and parts of which they have the same weights.
SHARED_FIELDS = ("y_channels", "z_channels", "scale_parameter", "density", "lambda_min", "lambda_max")
SHARED_PARTS = ("gains", "z_prior")


class Placed(NamedTuple):
    """A level: the number of its net, 0 for the supernet, and its widths in it."""

    net: int
    widths: Widths


def place_levels(net: Supernet, count: int, own: Mapping[int, Supernet]) -> tuple[list[Supernet], list[Placed]]:
    """All nets of a bundle, the supernet first, and its levels. own: nets of one width by the level that they are.

    Raises ExportError for levels that there are not or that do not fit (`choose_levels`), for nets that do not share
    the supernet's latents, and for those that do not cost less than the level above and more than the one below.
    """
    nets, levels = [net], [Placed(0, widths) for widths in choose_levels(net, count)]
    for number, other in sorted(own.items()):
        if number >= count - 1:
            raise ExportError(
                f"level {number} cannot be a net of its own: the levels are 0 to {count - 1}, and the last is the "
                "supernet's full width"
            )
        _require_shared(net, other, number)
        levels[number] = Placed(len(nets), other.full)
        nets.append(other)
    _require_rising(nets, levels)
    return nets, levels


def _require_shared(net: Supernet, own: Supernet, number: int) -> None:
    where = f"the net of level {number}"
    if len(own.config.widths) != 1 or not isinstance(own.context, GroupedContext):
        raise ExportError(f"{where} must have one width and a grouped context model: make it with basic-train narrow")
    for name in SHARED_FIELDS:
        theirs, ours = getattr(own.config, name), getattr(net.config, name)
        if theirs != ours:
            raise ExportError(f"{where} has {name}={theirs}, the supernet {ours}: it must come from this supernet")
    for part in SHARED_PARTS:
        weights = own.get_submodule(part).state_dict()
        for name, ours in net.get_submodule(part).state_dict().items():
            if name not in weights or not torch.equal(weights[name].float(), ours.float()):
                raise ExportError(
                    f"{where} has other weights of {part}, which all levels share: train it with "
                    f"--freeze {','.join(SHARED_PARTS)}"
                )


def _require_rising(nets: Sequence[Supernet], levels: Sequence[Placed]) -> None:
    costs = [Costs.of(net) for net in nets]
    totals = [costs[level.net].total(level.widths) for level in levels]
    for number, (before, after) in enumerate(zip(totals, totals[1:], strict=False)):
        if before >= after:
            raise ExportError(
                f"level {number + 1} costs {after / 1000:.1f} kMAC per pixel, level {number} {before / 1000:.1f}: a "
                "level must cost more than the one before"
            )
