"""The evaluation forward: exactly what the real encoder and decoder do, in PyTorch.

Latents are coded stage by stage by the coder's own rules (symbol = floor(y - mean + 1/2), y_hat = symbol + mean) and
rates are the coder's code lengths, so that bits and picture equal those of a file. The entropy path is given as an
object: the float one of the supernet, or the integer one that export ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from basic_runtime.container import QUALITY_STEPS
from basic_runtime.errors import BasicError
from basic_runtime.tables import SCALES, TableArrays, code_lengths, concatenate, rows_from_pmf
from basic_train.grouping import Grouping
from basic_train.model.integer import MEAN_BITS, Z_MAX, IntegerEntropy
from basic_train.model.priors import DENSITIES, LOG_SCALE_STEP, SCALE_MIN
from basic_train.model.supernet import Z_STRIDE, Supernet, Widths

#: So many symbols of its density stand beside those that were counted in a table row, or a rare row would follow a few
#: photos: fitted to half of 48 photos, weights of 100 to 20,000 gain alike on the other half (docs/lab.md).
DENSITY_WEIGHT = 20_000

#: Symbols are clamped to what keeps y_hat exact in float32.
SYMBOL_MAX = 2 ** (23 - MEAN_BITS)


class EntropyPath(Protocol):
    """What decides probabilities: h_s, the context model and the choice of tables, at one width."""

    @property
    def grouping(self) -> Grouping: ...

    def h_s(self, z: Tensor) -> Tensor:
        """Prior of y from integer z (1, N, h/4, w/4)."""
        ...

    def parameters(self, y_hat: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Means (integers, units 2^-MEAN_BITS) and scale values (1, M, h, w), from y_hat in the same units."""
        ...

    def indexes(self, scale: Tensor) -> Tensor:
        """Table index of each scale value, uint8."""
        ...


class FloatEntropy:
    """The supernet's own entropy path in float32: the yardstick of the integer path, not reproducible elsewhere."""

    def __init__(self, net: Supernet, index: int) -> None:
        self.net, self.index = net, index

    @property
    def grouping(self) -> Grouping:
        return self.net.context.grouping

    @torch.no_grad()
    def h_s(self, z: Tensor) -> Tensor:
        return self.net.h_s(z, self.index)

    @torch.no_grad()
    def parameters(self, y_hat: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        mean, sigma = self.net.mean_and_sigma(self.net.context(y_hat * 2.0**-MEAN_BITS, prior, self.index))
        return torch.floor(mean * 2.0**MEAN_BITS + 0.5), sigma

    def indexes(self, scale: Tensor) -> Tensor:
        """Nearest table scale in the log domain."""
        nearest = torch.floor(torch.log(scale / SCALE_MIN) / LOG_SCALE_STEP + 0.5)
        return nearest.clamp(0, len(SCALES) - 1).to(torch.uint8)


class NoContextError(BasicError):
    """A model without a context model, which trains and is compared but is not coded."""


def coder_tables(net: Supernet, counts: Sequence[np.ndarray] | None = None) -> TableArrays:
    """The coder's integer tables: 64 rows of the model's density, then one row per z channel. Raises NoContextError.

    counts: `symbol_counts` of latents like those to be coded; each row of the density then counts as DENSITY_WEIGHT
    symbols beside them. Symbols of either sign count alike.
    """
    if net.config.context != "grouped":
        raise NoContextError(
            f"preset {net.config.preset!r} has no context model, and files need one; "
            "take a preset that has: lite, paper, usdecoder, cheng2020 or elic"
        )
    pmfs = DENSITIES[net.config.density].pmfs(SCALES)
    if counts is not None:
        pmfs = [
            (first, (DENSITY_WEIGHT * pmf + found + found[::-1]) / (DENSITY_WEIGHT + 2 * found.sum()))
            for (first, pmf), found in zip(pmfs, counts, strict=True)
        ]
    pmfs_of_z = [(-Z_MAX, row) for row in net.z_prior.pmf(Z_MAX).numpy()]
    return concatenate(rows_from_pmf(pmfs), rows_from_pmf(pmfs_of_z))


def symbol_counts(net: Supernet, entropy: EntropyPath, latents: Sequence[tuple[Tensor, Tensor]]) -> list[np.ndarray]:
    """How often each table row of y coded which symbol in latents (y, z): for each row the counts of the symbols
    that its density lists."""
    reaches = [-first for first, _ in DENSITIES[net.config.density].pmfs(SCALES)]
    counts = [np.zeros(2 * reach + 1, np.int64) for reach in reaches]
    for y, z in latents:
        for symbols, indexes in _code_stages(entropy, y, z, torch.zeros_like(y)):
            for row in np.unique(indexes):
                found, reach = symbols[indexes == row].astype(np.int64), reaches[row]
                found = found[np.abs(found) <= reach]
                counts[row] += np.bincount(found + reach, minlength=2 * reach + 1)
    return counts


@dataclass
class CodedLatents:
    """Ideal code lengths in bits and the decoded latent: y_hat (1, M, h, w) in units of y, exact multiples of
    2^-MEAN_BITS."""

    y_bits: float
    z_bits: float
    y_hat: Tensor


def round_z(z: Tensor) -> Tensor:
    """The hyper-latent as coded: integers in +-Z_MAX."""
    return torch.clamp(torch.floor(z + 0.5), -Z_MAX, Z_MAX)


@torch.no_grad()
def _code_stages(entropy: EntropyPath, y: Tensor, z: Tensor, y_hat: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Symbols (int32) and table indexes (uint8) of y, stage by stage as the runtime codes them. Fills `y_hat`, which
    starts at 0, in units of 2^-MEAN_BITS."""
    prior = entropy.h_s(round_z(z))
    grouping, unit = entropy.grouping, 2.0**MEAN_BITS
    labels = torch.from_numpy(grouping.labels(*y.shape[2:]))
    labels = labels.repeat_interleave(y.shape[1] // grouping.groups, 0)[None]
    for stage in range(grouping.stages):
        mean, scale = entropy.parameters(y_hat, prior)
        chosen = labels == stage
        symbols = torch.floor((y[chosen] * unit - mean[chosen]) / unit + 0.5).clamp(-SYMBOL_MAX, SYMBOL_MAX)
        y_hat[chosen] = symbols * unit + mean[chosen]
        yield symbols.to(torch.int32).numpy(), entropy.indexes(scale)[chosen].numpy()


@torch.no_grad()
def code_latents(entropy: EntropyPath, tables: TableArrays, y: Tensor, z: Tensor) -> CodedLatents:
    """Code y (1, M, h, w) and z (1, N, h/4, w/4), stage by stage as the runtime does."""
    y_hat = torch.zeros_like(y)
    bits = sum(float(code_lengths(tables, *stage).sum()) for stage in _code_stages(entropy, y, z, y_hat))
    channels = torch.arange(z.shape[1], dtype=torch.uint8).add(len(SCALES))
    rows = channels[None, :, None, None].expand(z.shape)
    symbols = round_z(z).to(torch.int32).numpy()
    z_bits = float(code_lengths(tables, symbols, rows.contiguous().numpy()).sum())
    return CodedLatents(bits, z_bits, y_hat * 2.0**-MEAN_BITS)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to float32 (1, 3, H', W') in [0, 1], edges repeated to multiples of Z_STRIDE."""
    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    pad = [-pixels.shape[1] % Z_STRIDE, -pixels.shape[0] % Z_STRIDE]
    return F.pad(x, [0, pad[0], 0, pad[1]], mode="replicate")


@torch.no_grad()
def analyse(net: Supernet, pixels: np.ndarray, step: int, widths: Widths) -> tuple[Tensor, Tensor]:
    """Latents y (1, M, h, w), scaled by the quality's gain, and z of a picture."""
    quality = torch.tensor([step / (QUALITY_STEPS - 1)])
    y = net.analyse(to_tensor(pixels), quality, widths.g_a)
    return y, net.h_a(y, widths.h_a)


@dataclass
class RateCost:
    """Bits of the same latents under the float and the integer entropy path, latent by latent."""

    width: int
    bits: list[tuple[float, float]]

    @property
    def float_bits(self) -> float:
        return sum(pair[0] for pair in self.bits)

    @property
    def integer_bits(self) -> float:
        return sum(pair[1] for pair in self.bits)

    @property
    def percent(self) -> float:
        """Of all bits, most of which are those of high qualities."""
        return 100 * (self.integer_bits / self.float_bits - 1)

    @property
    def worst_percent(self) -> float:
        """Of the latent that costs most, which is one of low quality: there a step of the integers is coarse."""
        return max(100 * (integer / exact - 1) for exact, integer in self.bits)


def rate_cost(
    net: Supernet,
    index: int,
    integer: IntegerEntropy,
    tables: TableArrays,
    latents: Sequence[tuple[Tensor, Tensor]],
) -> RateCost:
    """What the integer path costs in rate against the float one on latents (y, z), with the net's `coder_tables`."""
    bits = []
    for y, z in latents:
        exact, rounded = (code_latents(e, tables, y, z) for e in (FloatEntropy(net, index), integer))
        bits.append((exact.y_bits + exact.z_bits, rounded.y_bits + rounded.z_bits))
    return RateCost(integer.width, bits)
