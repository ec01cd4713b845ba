"""Checkpoints of the original BaSIC (ECCV 2024): `params.pkl` of its joint autoregressive models.

A file holds a model per lambda; one of them becomes a supernet. Names of tensors are those of the original's
graph of nodes: `latent_inference_modules.x_y.pgm_model.0.conv.weight` is the first layer of g_a.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from basic_train.checkpoint import CheckpointError
from basic_train.grouping import Grouping, tiled
from basic_train.importing.entries import Entries
from basic_train.importing.paper_weights import (
    Channels,
    Weights,
    assembled,
    configuration,
    gains,
    normalisations,
    prior_of_z,
    transforms,
)
from basic_train.model.context import ContextShape
from basic_train.model.presets import PAPER
from basic_train.model.supernet import Supernet

#: Where the original keeps each transform, and the control of its width in a level.
EDGES = {
    "g_a": ("latent_inference_modules.x_y.pgm_model.", "pgmxy"),
    "h_a": ("latent_inference_modules.y_z.pgm_model.", "pgmyz"),
    "h_s": ("latent_generative_modules.z_y.pgm_model.", "pgmzy"),
    "g_s": ("latent_generative_modules.y_x.pgm_model.", "pgmyx"),
}
SCALARS = ("gamma_scales", "gamma_biases", "beta_scales", "beta_biases")
Y, Z = "latent_node_entropy_coders.y.", "latent_node_entropy_coders.z.entropy_bottleneck."

#: Lambda of each model of a file, in CompressAI's scale.
LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025)

#: Channel groups and labels of the learnt groupings of the model with five decoding orders; 0 is the scanline.
LEARNED = {1: (4, 8), 2: (4, 6), 3: (1, 16), 4: (2, 2)}


def recognised(entries: Entries) -> bool:
    """Whether the tensors are named as the original names them."""
    return any(EDGES["g_a"][0] in key for key in entries.tensors)


def select(entries: Entries, codec: int | None) -> tuple[Entries, int]:
    """The tensors of one model, and its number. Raises CheckpointError if that is not clear."""
    start = re.compile(r"((?:codec_(\d+)\.)?(?:entropy_coder\.)?)" + re.escape(EDGES["g_a"][0]))
    prefixes = {int(m[2] or 0): m[1] for m in map(start.match, entries.tensors) if m}
    if codec is None and len(prefixes) == 1:
        codec = next(iter(prefixes))
    if codec not in prefixes:
        known = ", ".join(map(str, sorted(prefixes)))
        raise CheckpointError(f"{entries.name}: holds models {known}, one per lambda; choose with --codec")
    return entries.below(prefixes[codec]), codec


def convert(
    entries: Entries,
    order: int | None,
    lambda_: float,
    lambdas: tuple[float, float],
    grouping: str,
    notices: list[str],
) -> Supernet:
    """The supernet of one model of the original, `entries` from `select`. Raises CheckpointError.

    order: number of the decoding order to import, of a model with five [1]. grouping: by name, for models that decode
    position by position. notices: gets a line on what was left out.
    """
    parts = {name: entries.below(prefix) for name, (prefix, _) in EDGES.items()}
    channels = _channels(parts, entries.name)
    context, stages = _context_entries(entries, order, grouping, notices)
    shape, weights = _context(context, channels.m)
    if any(value % stages.groups for value in (shape.context, shape.hidden1, shape.hidden2, channels.m)):
        raise CheckpointError(f"{entries.name}: its layers do not divide into {stages.groups} channel groups")
    config = configuration(channels, shape, stages, lambdas)
    config = replace(config, levels=_levels(entries, notices))
    weights |= transforms(parts, ".conv", channels)
    weights |= normalisations(parts, channels.n, _scalars)
    weights |= prior_of_z(entries.below(Z), channels.z)
    return assembled(config, weights | gains(config, lambda_))


def _channels(parts: dict[str, Entries], name: str) -> Channels:
    def outs(part: str, layer: str) -> int:
        shape = parts[part].shape(layer)
        return shape[0] if shape else 0

    n, m, h = outs("g_a", "0.conv.weight"), outs("g_a", "6.conv.weight"), outs("h_a", "0.conv.weight")
    return Channels(n=n, m=m, z=outs("h_a", "4.conv.weight"), h_a=h, h_s=h).check(name)


def _scalars(entries: Entries, layer: str) -> dict[str, Tensor]:
    count = len(PAPER.widths)
    return {name: entries.take(layer + name, (count,)) for name in SCALARS}


def orders(entries: Entries) -> list[int]:
    """Numbers of the decoding orders of a model that has several, entries as `select` gives them; [] for one order."""
    below = entries.below(Y)
    return sorted({int(m[1]) for key in below.tensors if (m := re.match(r"coders\.(\d+)\.", key))})


def _context_entries(
    entries: Entries, order: int | None, grouping: str, notices: list[str]
) -> tuple[Entries, Grouping]:
    """Tensors of the context model to import, and the grouping that it decodes in."""
    below, several = entries.below(Y), orders(entries)
    if not several:
        if order is not None:
            raise CheckpointError(f"{entries.name}: has one decoding order; leave --grouping {order} out")
        return below.below("topo_group_context_model."), _stand_in(grouping, notices)
    order = 1 if order is None else order
    if order not in several:
        known = ", ".join(map(str, several))
        raise CheckpointError(f"{entries.name}: has decoding orders {known}; choose with --grouping")
    chosen = below.below(f"coders.{order}.")
    found = _learned(chosen, *LEARNED[order]) if order in LEARNED else _stand_in(grouping, notices)
    notices.append(f"decoding order {order} of {len(several)} was imported: {found.stages} stages")
    return chosen.below("topo_group_context_model."), found


def _stand_in(grouping: str, notices: list[str]) -> Grouping:
    notices.append(
        f"the model decodes position by position (scanline); {grouping} stands in for it and needs fine-tuning"
    )
    return tiled(grouping, 1)


def _learned(entries: Entries, groups: int, labels: int) -> Grouping:
    """The learnt map: the most likely label of each channel group and cell of a 2x2 tile, relabelled densely."""
    key = "topo_group_predictor_cache"
    shape = entries.shape(key)
    logits = entries.take(key, shape)
    if logits.numel() != groups * labels * 4:
        raise CheckpointError(f"{entries.name}: {key} is {shape}; {groups * labels}x2x2 is expected")
    return Grouping("learned", logits.reshape(groups, labels, 2, 2).argmax(1).numpy())


def _context(entries: Entries, m: int) -> tuple[ContextShape, Weights]:
    """Context model and merger, whose first layer sees the context before the prior."""
    outs = [
        entries.shape(f"{layer}.weight")[:1] or (0,)
        for layer in ("context_prediction", "param_merger_in", "param_merger_out.1")
    ]
    shape = ContextShape(*(value for (value,) in outs))
    c, h1, h2 = shape.context, shape.hidden1, shape.hidden2
    first = entries.take("param_merger_in.weight", (h1, c + 2 * m, 1, 1))
    return shape, {
        "context.context_weight": entries.take("context_prediction.weight", (c, m, 5, 5)),
        "context.context_bias": entries.take("context_prediction.bias", (c,)),
        "context.merge_context.weight": first[:, :c, 0, 0].contiguous(),
        "context.merge_context.bias": torch.zeros(h1),
        "context.merge_prior.weight": first[:, c:].contiguous(),
        "context.merge_prior.bias": entries.take("param_merger_in.bias", (h1,)),
        "context.merge_hidden.weight": entries.take("param_merger_out.1.weight", (h2, h1, 1, 1))[:, :, 0, 0],
        "context.merge_hidden.bias": entries.take("param_merger_out.1.bias", (h2,)),
        "context.merge_out.weight": entries.take("param_merger_out.3.weight", (2 * m, h2, 1, 1))[:, :, 0, 0],
        "context.merge_out.bias": entries.take("param_merger_out.3.bias", (2 * m,)),
    }


def _levels(entries: Entries, notices: list[str]) -> list[dict[str, int]]:
    """The file's level table, cheapest first (the original has it last), if our rules allow it: no transform
    gets narrower from one level to the next, and no level is there twice."""
    found = _stored_levels(entries)
    for below, level in zip(found, found[1:], strict=False):
        if any(level[name] < below[name] for name in EDGES):
            notices.append("the level table was left out: widths fall from one level to the next")
            return []
    distinct = [level for i, level in enumerate(found) if level not in found[:i]]
    if len(distinct) < len(found):
        notices.append(f"{len(found) - len(distinct)} levels that are there twice were left out")
    return distinct


def _stored_levels(entries: Entries) -> list[dict[str, int]]:
    """One-hot rows over widths, the widest first, of each level and transform."""
    valid = "_complexity_param_valid"
    if valid not in entries or not bool(entries.tensors[valid].flatten().any()):
        return []
    last = len(PAPER.widths) - 1
    levels = []
    prefix = "_complexity_param_all_levels."
    numbers = {int(m[1]) for k in entries.tensors if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))}
    for number in sorted(numbers, reverse=True):
        rows = {n: entries.take(f"{prefix}{number}.{c}", (1, 1, last + 1)) for n, (_, c) in EDGES.items()}
        levels.append({name: last - int(row.argmax()) for name, row in rows.items()})
    return levels
