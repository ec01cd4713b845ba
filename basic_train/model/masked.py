"""The context model for any order of decoding, position by position or random.

A `GroupedContext` decodes groupings that repeat with a tile as dense convolutions. Here the same weights are applied
with one mask per position to a full map of labels (model-spec §3.2): slower, but without that restriction. Gradients
pass through `MaskedContext.parameters`, by which the grouping ablation trains; nothing here is exported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from basic_train.model.context import GroupedContext, GroupedLinear

#: Positions evaluated together: bounds the memory of the unfolded windows.
CHUNK = 4096

#: Label of the zeros around the map: later than any stage, so never visible.
OUTSIDE = torch.iinfo(torch.int64).max


class MaskedContext:
    """A context model bound to a map of labels.

    labels: int (G, h, w), or (1, h, w) for one order in all channel groups; G as in `context.grouping`.
    """

    def __init__(self, context: GroupedContext, labels: ArrayLike) -> None:
        groups = context.grouping.groups
        values = torch.as_tensor(np.asarray(labels, np.int64), device=context.context_weight.device)
        if values.dim() != 3 or values.shape[0] not in (1, groups):
            raise ValueError(f"labels are ({groups}, h, w) or (1, h, w), not {tuple(values.shape)}")
        self.context, self.labels = context, values.expand(groups, -1, -1)
        self.height, self.width = values.shape[1:]
        radius = context.kernel // 2
        self.padded_labels = F.pad(self.labels, [radius] * 4, value=OUTSIDE)

    def parameters(self, y: Tensor, prior: Tensor, index: int) -> Tensor:
        """Mean and scale of every element in one pass, (B, 2M, h, w) as `GroupedContext.forward` gives them.

        y (B, M, h, w) holds finished latents; later elements do not influence earlier ones.
        """
        self._check(y)
        out = y.new_empty(y.shape[0], 2 * y.shape[1], self.height, self.width)
        padded, merged_prior = self._inputs(y, prior, index)
        for rows, cols in self._chunks(torch.ones_like(self.labels[0], dtype=torch.bool)):
            out[:, :, rows, cols] = self._at(padded, merged_prior, rows, cols, index)
        return out

    @torch.no_grad()
    def quantise(self, y: Tensor, prior: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """y_hat = round(y - mean) + mean, stage after stage as coder and decoder do, and all parameters (B,
        2M, h, w).

        Only the positions of a stage are computed for it, so that the whole costs at most G dense passes.
        """
        self._check(y)
        y_hat, out = torch.zeros_like(y), y.new_empty(y.shape[0], 2 * y.shape[1], self.height, self.width)
        padded, merged_prior = self._inputs(y_hat, prior, index)
        radius = self.context.kernel // 2
        inside = padded[:, :, radius : radius + self.height, radius : radius + self.width]
        per_group = y.shape[1] // self.labels.shape[0]
        for stage in torch.unique(self.labels).tolist():
            now = self.labels == stage
            for rows, cols in self._chunks(now.any(0)):
                chosen = now[:, rows, cols].repeat_interleave(per_group, 0)  # (M, P)
                found = self._at(padded, merged_prior, rows, cols, index)
                both = chosen.repeat_interleave(2, 0)
                out[:, :, rows, cols] = torch.where(both, found, out[:, :, rows, cols])
                mean = found[:, 0::2]
                value = torch.floor(y[:, :, rows, cols] - mean + 0.5) + mean
                y_hat[:, :, rows, cols] = torch.where(chosen, value, y_hat[:, :, rows, cols])
            inside.copy_(y_hat)
        return y_hat, out

    def _check(self, y: Tensor) -> None:
        if y.shape[-2:] != (self.height, self.width):
            raise ValueError(f"labels are for a map of {self.height}x{self.width}, y is {tuple(y.shape[-2:])}")

    def _inputs(self, y: Tensor, prior: Tensor, index: int) -> tuple[Tensor, Tensor]:
        return F.pad(y, [self.context.kernel // 2] * 4), self.context.prior_part(prior, index)

    @staticmethod
    def _chunks(positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        rows, cols = positions.nonzero(as_tuple=True)
        yield from zip(rows.split(CHUNK), cols.split(CHUNK), strict=True)

    def _at(self, padded: Tensor, prior: Tensor, rows: Tensor, cols: Tensor, index: int) -> Tensor:
        """Parameters (B, 2M, P) at P positions; `prior` is the prior's part of the first merger layer."""
        context, shape = self.context, self.context.shapes[index]
        taps = torch.arange(context.kernel, device=rows.device)
        window = (
            rows[:, None, None] + taps[:, None],
            cols[:, None, None] + taps,
        )  # each broadcasts to (P, k, k)
        neighbours = self.padded_labels[:, *window]  # (G, P, k, k)
        own = self.labels[:, rows, cols]  # (G, P)
        visible = own[None] <= own[:, None]  # (G out, G in, P)
        hidden = self._convolve(padded[:, :, *window], neighbours, own, shape.context)
        hidden = _linear(context.merge_context, hidden, shape.hidden1, visible) + prior[:, :, rows, cols]
        hidden = F.leaky_relu(hidden, context.slope)
        hidden = F.leaky_relu(_linear(context.merge_hidden, hidden, shape.hidden2, visible), context.slope)
        return _linear(context.merge_out, hidden, 2 * context.y_channels, visible)

    def _convolve(self, window: Tensor, neighbours: Tensor, own: Tensor, channels: int) -> Tensor:
        """The masked convolution: window (B, M, P, k, k), neighbours (G, P, k, k), own (G, P) to (B,
        channels, P)."""
        weight, bias = self.context.context_slice(channels)  # (G, channels/G, M, k, k), (G, channels/G)
        per_group = window.shape[1] // own.shape[0]
        outs = []
        for g in range(own.shape[0]):
            mask = (neighbours < own[g, :, None, None]).repeat_interleave(per_group, 0)
            outs.append(torch.einsum("oikl,bipkl->bop", weight[g], window * mask) + bias[g, :, None])
        return torch.cat(outs, 1)


def _linear(layer: GroupedLinear, x: Tensor, outs: int, visible: Tensor) -> Tensor:
    """A masked 1x1 layer with a mask per position: x (B, ins, P), visible (G out, G in, P) to (B, outs,
    P)."""
    weight, bias = layer.sliced(x.shape[1], outs)  # (G, outs/G, G, ins/G), (G, outs/G)
    grouped = x.unflatten(1, (layer.groups, -1))
    parts = [
        torch.einsum("oji,bjip->bop", weight[g], grouped * visible[g][:, None]) + bias[g, :, None]
        for g in range(layer.groups)
    ]
    return torch.cat(parts, 1)
