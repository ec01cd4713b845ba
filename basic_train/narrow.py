"""Makes one level of a supernet a net of its own, which may be smaller still.

The narrow widths of a supernet share their weights with the wide ones, which costs quality. As a net of its own a level
can be trained further with all weights to itself, and with another shape: fewer channels, of which it keeps the first,
as widths do, and fewer residual blocks (docs/levels.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basic_train.losses import rate_distortion
from basic_train.model import gdn
from basic_train.model.config import ModelConfig
from basic_train.model.context import GroupedContext, GroupedLinear
from basic_train.model.gdn import SlimGDN
from basic_train.model.slimmable import SlimConv2d, SlimConvTranspose2d, SlimResidual, SlimSequential
from basic_train.model.supernet import Supernet, Widths
from basic_train.progress import Progress, silent

#: Fields of a configuration with a value for each width.
PER_WIDTH = ("widths", "analysis_widths", "hyper_widths", "priors", "contexts")

#: How many residual blocks there are at each resolution.
BLOCKS = ("quarter_blocks", "eighth_blocks", "latent_blocks")

#: Qualities at which blocks are judged.
QUALITIES = (0.1, 0.5, 0.9)


class _Block(NamedTuple):
    """A residual block by its place in a row of layers."""

    row: SlimSequential
    place: int


class _Run(NamedTuple):
    """Residual blocks between two other layers, and how many of them are to go."""

    blocks: list[_Block]
    surplus: int


def narrowed(config: ModelConfig, level: Widths, changes: dict[str, Any]) -> ModelConfig:
    """The configuration of a level alone, with changes of its shape. h_a has the width of h_s, as both are one field.
    Raises ValueError."""
    if config.latents or config.alternatives:
        raise ValueError(f"a level of preset {config.preset!r} cannot be a net of its own")
    own = (*PER_WIDTH, *(BLOCKS if config.backbone == "lite" else ()))
    for name in changes.keys() - set(own):
        raise ValueError(f"a level's net has its own {', '.join(own)}, and no {name!r}")
    hyper = {name: getattr(config, name) for name in ("hyper_widths", "priors", "contexts")}
    alone = {name: (values[level.h_s],) for name, values in hyper.items() if values}
    alone |= {"widths": (config.widths[level.g_s],), "analysis_widths": (config.encoder_widths[level.g_a],)}
    whole = replace(config, levels=[], **alone)
    smaller = whole.changed(changes)
    for name in own:
        for ours, theirs in zip(_sizes(smaller, name), _sizes(whole, name), strict=False):
            if ours > theirs:
                raise ValueError(f"{name}: {ours} is more than the {theirs} of the level")
    if len(smaller.widths) != 1:
        raise ValueError(f"widths={list(smaller.widths)}: a level's net has one width")
    return smaller


def level_widths(config: ModelConfig, number: int) -> Widths:
    """Width indexes of a level of the table that `basic-train levels` made. Raises ValueError."""
    if not config.levels:
        raise ValueError("it has no table of levels: make one with basic-train levels")
    if not 0 <= number < len(config.levels):
        raise ValueError(f"it has levels 0 to {len(config.levels) - 1}, and no level {number}")
    return Widths(**config.levels[number])


def takes_blocks_away(config: ModelConfig, changes: dict[str, Any]) -> bool:
    """Whether `narrow` needs pictures for these changes."""
    return any(changes.get(name, getattr(config, name)) != getattr(config, name) for name in BLOCKS)


def _sizes(config: ModelConfig, name: str) -> list[int]:
    """Numbers that a field consists of."""
    value = getattr(config, name)
    if name == "contexts":
        return [size for shape in value for size in (shape.context, shape.hidden1, shape.hidden2)]
    return [value] if isinstance(value, int) else list(value)


@torch.no_grad()
def narrow(
    net: Supernet,
    level: Widths,
    changes: dict[str, Any],
    pictures: Sequence[Tensor] = (),
    report: Progress = silent,
) -> Supernet:
    """A level of a supernet as a net of one width: the same function, where `changes` (fields of `ModelConfig`) leave
    its shape as it is and h_a has the width of h_s.

    Of channels the first stay; of residual blocks those go that are missed least, one after the other, by rate and
    distortion of the pictures (B, 3, H, W) in [0, 1], sides multiples of 64. Raises ValueError for a shape that is no
    part of the level's, and for fewer blocks without pictures.
    """
    small = Supernet(narrowed(net.config, level, changes)).eval()
    whole = Supernet(replace(small.config, **{name: getattr(net.config, name) for name in BLOCKS})).eval()
    _copy_prefixes(net, whole, level)
    surplus = sum(run.surplus for run in _runs_too_long(whole, small))
    if surplus and not pictures:
        raise ValueError("fewer residual blocks take pictures by which to choose those that stay")
    for gone in range(surplus):
        report("leaving out residual blocks", gone, surplus)
        blocks = [block for run in _runs_too_long(whole, small) for block in run.blocks]
        _leave_out(min(blocks, key=lambda block: _loss_without(whole, block, pictures)))
    small.load_state_dict(whole.state_dict())
    return small


def _copy_prefixes(source: Supernet, target: Supernet, level: Widths) -> None:
    """Weights of `target`, whose layers have no more channels than those of `source` at this level."""
    found = dict(target.named_modules())
    for name, module in source.named_modules():
        other = found[name]
        if isinstance(module, GroupedContext):
            _copy_context(module, other)
        elif isinstance(module, SlimGDN):
            _copy_normalisation(module, other, getattr(level, name.partition(".")[0]))
        elif isinstance(module, SlimConv2d | SlimConvTranspose2d):
            for parameter in ("weight", "bias"):
                _copy(getattr(module, parameter), getattr(other, parameter))
        elif not name.startswith("context."):
            for parameter, values in module.named_parameters(recurse=False):
                _copy(values, other.get_parameter(parameter))


def _copy(values: Tensor, target: Tensor) -> None:
    target.copy_(values[tuple(slice(length) for length in target.shape)])


def _copy_normalisation(source: SlimGDN, target: SlimGDN, index: int) -> None:
    for name, values in source.named_parameters():
        _copy(values[index : index + 1] if name in gdn.PER_WIDTH else values, target.get_parameter(name))


def _copy_context(source: GroupedContext, target: GroupedContext) -> None:
    """Units belong to channel groups, of each of which the first stay."""
    groups = source.grouping.groups

    def copy(name: str, *grouped: int) -> None:
        values, place = source.get_parameter(name), target.get_parameter(name)
        for axis in reversed(grouped):
            values, place = (tensor.unflatten(axis, (groups, -1)) for tensor in (values, place))
        _copy(values, place)

    copy("context_weight", 0)
    copy("context_bias", 0)
    copy("merge_prior.weight", 0)
    copy("merge_prior.bias", 0)
    for name, module in source.named_modules():
        if isinstance(module, GroupedLinear):
            copy(f"{name}.weight", 0, 1)
            copy(f"{name}.bias", 0)
    if source.phase_bias is not None:
        copy("phase_bias", 2)


def _runs_too_long(whole: Supernet, small: Supernet) -> Iterator[_Run]:
    """Those of which `small` has fewer blocks."""
    rows = dict(small.named_modules())
    for name, row in whole.named_modules():
        other = rows.get(name)
        if isinstance(row, SlimSequential) and isinstance(other, SlimSequential):
            for places, fewer in zip(_runs(row.layers), _runs(other.layers), strict=True):
                if len(places) > len(fewer):
                    yield _Run([_Block(row, place) for place in places], len(places) - len(fewer))


def _runs(layers: nn.ModuleList) -> list[list[int]]:
    """Places of the residual blocks before, between and after the other layers."""
    found: list[list[int]] = [[]]
    for place, layer in enumerate(layers):
        if isinstance(layer, SlimResidual):
            found[-1].append(place)
        else:
            found.append([])
    return found


def _leave_out(block: _Block) -> None:
    del block.row.layers[block.place]


def _loss_without(net: Supernet, block: _Block, pictures: Sequence[Tensor]) -> float:
    layer = block.row.layers[block.place]
    _leave_out(block)
    try:
        return sum(_loss(net, x, value) for x in pictures for value in QUALITIES)
    finally:
        block.row.layers.insert(block.place, layer)


def _loss(net: Supernet, x: Tensor, value: float) -> float:
    quality = torch.full((len(x),), value)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same noise in the place of rounding for all that are compared
        output = net(x, quality, net.full)
    lambdas = net.config.lambda_of(quality)
    return float(rate_distortion(output, x, lambdas).loss)
