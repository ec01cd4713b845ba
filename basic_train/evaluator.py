"""Measures configurations of widths: bits and distortions of a net's parts, and latencies on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from basic_train.chains import LevelError
from basic_train.model.coded import round_z
from basic_train.model.config import ModelConfig
from basic_train.model.cost import Costs
from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet, Widths


def require_free_widths(config: ModelConfig) -> None:
    """Raises LevelError for a model whose transforms cannot have widths of their own."""
    if config.latents:
        raise LevelError(
            f"{config.preset}: all four transforms run at one width, so its levels are its widths and there is "
            "nothing to search"
        )


class Evaluator:
    """Rates and distortions of configurations on a batch of crops, computed once each.

    crops: (B, 3, H, W) in [0, 1], sides multiples of 64; qualities: in [0, 1]. Rates are those of the float
    entropy model on rounded latents.
    """

    def __init__(self, net: Supernet, crops: Tensor, qualities: Sequence[float]) -> None:
        self.net, self.crops, self.qualities = net.eval(), crops, tuple(qualities)
        labels = torch.from_numpy(net.context.grouping.labels(*(side // Y_STRIDE for side in crops.shape[2:])))
        self._labels = labels.repeat_interleave(net.config.y_channels // net.context.grouping.groups, 0)
        lambdas = net.config.lambda_of(torch.tensor(self.qualities))
        self.weights = 255**2 * lambdas.double().numpy()
        self._y = cache(self._g_a)
        self._hyper = cache(self._h_a)
        self._reference = cache(self._code_reference)
        self.coded = cache(self._coded)
        """(bpp, mse) of a configuration of widths at each quality, coded stage by stage as files are."""

    def bits(self, g_a: int, h_a: int, h_s: int) -> np.ndarray:
        """Bits per pixel at each quality, given the latents that the full entropy model decodes from this g_a's."""
        return np.array([self._bits(g_a, h_a, h_s, q) for q in range(len(self.qualities))])

    def distortion(self, g_a: int, g_s: int) -> np.ndarray:
        """Mean squared error at each quality of the same latents through g_s."""
        return np.array([self._mse(self._reference(g_a, q), g_s, q) for q in range(len(self.qualities))])

    def _coded(self, widths: Widths) -> tuple[np.ndarray, np.ndarray]:
        pairs = []
        for q in range(len(self.qualities)):
            bits, y_hat = self._code(widths.g_a, widths.h_a, widths.h_s, q)
            pairs.append((bits, self._mse(y_hat, widths.g_s, q)))
        bits, mse = zip(*pairs, strict=True)
        return np.array(bits), np.array(mse)

    @torch.no_grad()
    def _g_a(self, index: int, q: int) -> Tensor:
        return self.net.analyse(self.crops, self._quality(q), index)

    def _quality(self, q: int) -> Tensor:
        return torch.full((len(self.crops),), self.qualities[q])

    @torch.no_grad()
    def _h_a(self, g_a: int, h_a: int, q: int) -> tuple[Tensor, float]:
        """z as coded, and its bits."""
        z = round_z(self.net.h_a(self._y(g_a, q), h_a))
        return z, float(self.net.z_prior.bits(z).sum())

    def _code_reference(self, g_a: int, q: int) -> Tensor:
        full = self.net.full
        return self._code(g_a, full.h_a, full.h_s, q)[1]

    @torch.no_grad()
    def _code(self, g_a: int, h_a: int, h_s: int, q: int) -> tuple[float, Tensor]:
        """Bits per pixel and y_hat, one stage after the other."""
        y = self._y(g_a, q)
        z, bits = self._hyper(g_a, h_a, q)
        prior, y_hat = self.net.h_s(z, h_s), torch.zeros_like(y)
        for stage in range(self.net.context.grouping.stages):
            symbols, mean, sigma = self._symbols(y, y_hat, prior, h_s)
            chosen = (self._labels == stage)[None]
            bits += float((self.net.bits(symbols, sigma) * chosen).sum())
            y_hat = torch.where(chosen, symbols + mean, y_hat)
        return self._per_pixel(bits), y_hat

    @torch.no_grad()
    def _bits(self, g_a: int, h_a: int, h_s: int, q: int) -> float:
        z, bits = self._hyper(g_a, h_a, q)
        symbols, _, sigma = self._symbols(self._y(g_a, q), self._reference(g_a, q), self.net.h_s(z, h_s), h_s)
        return self._per_pixel(bits + float(self.net.bits(symbols, sigma).sum()))

    def _symbols(self, y: Tensor, y_hat: Tensor, prior: Tensor, h_s: int) -> tuple[Tensor, Tensor, Tensor]:
        parameters = self.net.context(y_hat, prior, h_s)
        mean, sigma = self.net.mean_and_sigma(parameters)
        return torch.floor(y - mean + 0.5), mean, sigma

    @torch.no_grad()
    def _mse(self, y_hat: Tensor, g_s: int, q: int) -> float:
        x_hat = self.net.reconstruct(y_hat, self._quality(q), g_s)
        return float((x_hat.clamp(0, 1) - self.crops).square().mean())

    def _per_pixel(self, bits: float) -> float:
        return bits / (self.crops.shape[0] * self.crops.shape[2] * self.crops.shape[3])


def latencies(net: Supernet, height: int = 512, width: int = 768, repetitions: int = 3) -> Costs:
    """Milliseconds of each transform at each width in PyTorch on this machine, best of a few runs.

    No width counts as cheaper than a narrower one: where it was measured so, that was chance.
    """
    y_shape, z_shape = ((height // stride, width // stride) for stride in (Y_STRIDE, Z_STRIDE))
    config = net.config
    require_free_widths(config)
    y = torch.randn(1, config.y_channels, *y_shape)
    gain = (torch.ones(1, config.y_channels, 1, 1),) if config.linear_path else ()
    inputs = {
        "g_a": (torch.rand(1, 3, height, width), *gain),
        "h_a": (y,),
        "h_s": (torch.zeros(1, config.z_channels, *z_shape),),
        "g_s": (y, *gain),
    }
    indexes = range(len(config.widths))
    found: dict[str, tuple[float, ...]] = {}
    with torch.no_grad():
        for name, given in inputs.items():
            plain = [getattr(net, name).plain(index) for index in indexes]
            found[name] = tuple(_best_ms(lambda m=m, given=given: m(*given), repetitions) for m in plain)
        priors = [torch.zeros(1, config.priors[index], *y_shape) for index in indexes]
        found["context"] = tuple(_best_ms(lambda i=i: net.context(y, priors[i], i), repetitions) for i in indexes)
    return Costs(**{name: tuple(np.maximum.accumulate(ms).tolist()) for name, ms in found.items()})


def _best_ms(work: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * min(times[1:])
