"""The grouped context model: distribution parameters of y from the prior and from earlier stages.

model-spec §3.2-3.3: a masked convolution over y sees strictly earlier stages, a masked 1x1 merger sees hidden
units of earlier stages and of its own. Output units belong to the same channel groups as y. With a grouping
that repeats with a t x t tile, all positions of one phase of the tile share one mask, so that the masked
convolution is t*t dense strided convolutions which together cost exactly one dense pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basic_train.grouping import Grouping


@dataclass(frozen=True)
class ContextShape:
    """Channels of the context model at one width: of the masked convolution and of the two merger layers."""

    context: int
    hidden1: int
    hidden2: int


def context_mask(grouping: Grouping, phase: tuple[int, int], kernel: int) -> np.ndarray:
    """Which taps a phase may read, those of strictly earlier stages: bool (G out, G in, k, k)."""
    side, radius = grouping.side, kernel // 2
    rows = (phase[0] + np.arange(-radius, radius + 1)) % side
    cols = (phase[1] + np.arange(-radius, radius + 1)) % side
    neighbours = grouping.tile[:, rows[:, None], cols[None, :]]  # (G in, k, k)
    own = grouping.tile[:, phase[0], phase[1]]  # (G out,)
    return neighbours[None] < own[:, None, None, None]


def merger_mask(grouping: Grouping, phase: tuple[int, int]) -> np.ndarray:
    """Which groups' units a group may read at its own position, none later: bool (G out, G in)."""
    own = grouping.tile[:, phase[0], phase[1]]
    return own[None, :] <= own[:, None]


def phases(side: int) -> list[tuple[int, int]]:
    """The phases of a t x t tile, row by row."""
    return [(i, j) for i in range(side) for j in range(side)]


class GroupedLinear(nn.Module):
    """A 1x1 layer between units that belong to channel groups, sliceable by a prefix within each group.

    Weight (outs, ins) and bias (outs,), channels ordered by group, PyTorch's default convolution init.
    """

    def __init__(self, groups: int, ins: int, outs: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outs, ins))
        self.bias = nn.Parameter(torch.empty(outs))
        bound = 1 / math.sqrt(ins)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def sliced(self, ins: int, outs: int) -> tuple[Tensor, Tensor]:
        """Weight (G, outs/G, G, ins/G) and bias (G, outs/G) at a width given by its total channels."""
        o, i = outs // self.groups, ins // self.groups
        weight = self.weight.unflatten(1, (self.groups, -1)).unflatten(0, (self.groups, -1))
        return weight[:, :o, :, :i], self.bias.unflatten(0, (self.groups, -1))[:, :o]

    def forward(self, x: Tensor, outs: int, mask: Tensor) -> Tensor:
        """x (B, ins, h, w) to (B, outs, h, w); mask (G out, G in)."""
        weight, bias = self.sliced(x.shape[1], outs)
        weight = weight * mask[:, None, :, None]
        return F.conv2d(x, weight.reshape(outs, x.shape[1], 1, 1), bias.reshape(-1))


class GroupedContext(nn.Module):
    """Masked k x k convolution of y, then a three-layer masked 1x1 merger with the prior.

    shapes: channels at each width, widest last; priors: channels of the prior at each width. Output (B, 2M,
    h, w), the parameters of latent c in channels 2c (mean) and 2c + 1 (scale), as in the original. phase_bias: the
    first merger layer has a bias of its own for each phase of the tile. Without it a unit cannot tell neighbours that
    are not decoded yet from neighbours that are zero (docs/lab.md).
    """

    def __init__(
        self,
        y_channels: int,
        grouping: Grouping,
        shapes: Sequence[ContextShape],
        priors: Sequence[int],
        kernel: int = 5,
        slope: float = 0.01,
        phase_bias: bool = False,
    ) -> None:
        super().__init__()
        self.y_channels, self.grouping, self.kernel, self.slope = y_channels, grouping, kernel, slope
        self.shapes, self.priors = tuple(shapes), tuple(priors)
        groups, full = grouping.groups, self.shapes[-1]
        self._check(groups)
        reference = nn.Conv2d(y_channels, full.context, kernel)
        self.context_weight, self.context_bias = reference.weight, reference.bias
        self.merge_context = GroupedLinear(groups, full.context, full.hidden1)
        self.merge_prior = nn.Conv2d(self.priors[-1], full.hidden1, 1)
        self.merge_hidden = GroupedLinear(groups, full.hidden1, full.hidden2)
        self.merge_out = GroupedLinear(groups, full.hidden2, 2 * y_channels)
        self._hold_masks()
        sides = (grouping.side, grouping.side)
        self.phase_bias = nn.Parameter(torch.zeros(*sides, full.hidden1)) if phase_bias else None

    def regroup(self, grouping: Grouping) -> None:
        """Go on with another grouping. With one width only, as with more the channels of a group are a prefix of it,
        the weights serve any number of channel groups. Raises ValueError."""
        if self.phase_bias is not None:
            raise ValueError("a context model with a bias for each phase keeps its grouping")
        if len(self.shapes) > 1 and grouping.groups != self.grouping.groups:
            raise ValueError("a context model of several widths keeps its number of channel groups")
        self._check(grouping.groups)
        self.grouping = grouping
        self._hold_masks()
        for layer in (self.merge_context, self.merge_hidden, self.merge_out):
            layer.groups = grouping.groups

    def _hold_masks(self) -> None:
        """Masks of all phases, kept where the weights are: copying them in every pass would hold up a GPU."""
        device, side = self.context_weight.device, self.grouping.side
        taps = np.stack([context_mask(self.grouping, phase, self.kernel) for phase in phases(side)])
        visible = np.stack([merger_mask(self.grouping, phase) for phase in phases(side)])
        taps = taps.reshape(*taps.shape[:3], -1)  # modules take their memory layout from ranks
        self.register_buffer("taps", torch.from_numpy(taps).to(device, torch.float32), persistent=False)
        self.register_buffer("visible", torch.from_numpy(visible).to(device, torch.float32), persistent=False)

    def _check(self, groups: int) -> None:
        for shape in self.shapes:
            for name in ("context", "hidden1", "hidden2"):
                if getattr(shape, name) % groups:
                    raise ValueError(f"{name}={getattr(shape, name)} does not divide into {groups} channel groups")
        if self.y_channels % groups:
            raise ValueError(f"{self.y_channels} latent channels do not divide into {groups} channel groups")

    def forward(self, y: Tensor, prior: Tensor, index: int) -> Tensor:
        """Parameters of all elements in one pass.

        y (B, M, h, w), h and w multiples of the tile; prior (B, priors[index], h, w). Only earlier stages
        influence an element, whatever the later elements of y hold.
        """
        side = self.grouping.side
        merged_prior = self.prior_part(prior, index)
        padded = F.pad(y, [self.kernel // 2] * 4)
        grid: list[list[Tensor]] = [[] for _ in range(side)]
        for i, j in phases(side):
            grid[i].append(self._phase(padded, merged_prior[:, :, i::side, j::side], (i, j), index))
        return interleave(grid)

    def prior_part(self, prior: Tensor, index: int) -> Tensor:
        """The prior's and the phases' share of the first merger layer: (B, hidden1, h, w), the same for every stage."""
        groups, hidden = self.grouping.groups, self.shapes[index].hidden1
        weight = self.merge_prior.weight.unflatten(0, (groups, -1))[:, : hidden // groups, : prior.shape[1]]
        bias = self.merge_prior.bias.unflatten(0, (groups, -1))[:, : hidden // groups]
        merged = F.conv2d(prior, weight.flatten(0, 1), bias.flatten())
        if self.phase_bias is None:
            return merged
        rows, columns = (torch.arange(length, device=prior.device) % self.grouping.side for length in prior.shape[2:])
        biases = self.phase_bias_slice(hidden)[rows][:, columns]  # (h, w, hidden1)
        return merged + biases.permute(2, 0, 1).to(merged.dtype)

    def phase_bias_slice(self, hidden: int) -> Tensor:
        """Biases of the phases at a width, (t, t, hidden) with `hidden` units of the first merger layer; zeros where
        the model has none."""
        if self.phase_bias is None:
            return self.merge_prior.bias.new_zeros(self.grouping.side, self.grouping.side, hidden)
        groups = self.grouping.groups
        return self.phase_bias.unflatten(2, (groups, -1))[..., : hidden // groups].flatten(2)

    def _phase(self, padded: Tensor, prior: Tensor, phase: tuple[int, int], index: int) -> Tensor:
        shape, side = self.shapes[index], self.grouping.side
        weight, bias = self.context_slice(shape.context)
        number = phase[0] * side + phase[1]
        mask = self.taps[number].unflatten(2, (self.kernel, self.kernel))  # (G, G, k, k)
        per_group = self.y_channels // self.grouping.groups
        weight = weight * mask.repeat_interleave(per_group, 1)[:, None]
        context = F.conv2d(padded[:, :, phase[0] :, phase[1] :], weight.flatten(0, 1), bias.flatten(), stride=side)
        context = context[:, :, : prior.shape[2], : prior.shape[3]]
        visible = self.visible[number]
        hidden = F.leaky_relu(self.merge_context(context, shape.hidden1, visible) + prior, self.slope)
        hidden = F.leaky_relu(self.merge_hidden(hidden, shape.hidden2, visible), self.slope)
        with torch.autocast(hidden.device.type, enabled=False):  # means span many quantisation steps
            return self.merge_out(hidden.float(), 2 * self.y_channels, visible)

    def context_slice(self, channels: int) -> tuple[Tensor, Tensor]:
        """Masked convolution at a width: weight (G, channels/G, M, k, k), bias (G, channels/G)."""
        groups = self.grouping.groups
        per_group = channels // groups
        weight, bias = (
            self.context_weight.unflatten(0, (groups, -1)),
            self.context_bias.unflatten(0, (groups, -1)),
        )
        return weight[:, :per_group], bias[:, :per_group]

    def macs(self, index: int) -> float:
        """Multiply-accumulates per position of y of all stages together at a width, compiled: what a mask hides, and
        context units that see no element of y at all and so are constants, cost nothing."""
        found = [self._phase_macs(phase, index) for phase in phases(self.grouping.side)]
        return sum(found) / len(found)

    def _phase_macs(self, phase: tuple[int, int], index: int) -> float:
        shape, groups = self.shapes[index], self.grouping.groups
        taps = context_mask(self.grouping, phase, self.kernel)  # (G out, G in, k, k)
        visible = merger_mask(self.grouping, phase)  # (G out, G in)
        seeing = taps.any((1, 2, 3))
        latents, context = self.y_channels / groups, shape.context / groups
        hidden1, hidden2 = shape.hidden1 / groups, shape.hidden2 / groups
        total = taps.sum() * latents * context + (visible & seeing).sum() * context * hidden1
        total += self.priors[index] * shape.hidden1
        return float(total + visible.sum() * (hidden1 * hidden2 + hidden2 * 2 * latents))


def interleave(grid: list[list[Tensor]]) -> Tensor:
    """Phases [i][j] of (B, C, h/t, w/t) back to one map (B, C, h, w)."""
    rows = [torch.stack(row, dim=-1).flatten(-2) for row in grid]
    return torch.stack(rows, dim=-2).flatten(-3, -2)
