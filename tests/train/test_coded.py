"""The coder's tables, as the density has them and as fitted to symbols."""

import numpy as np
import torch

from basic_runtime.tables import SCALES, code_lengths, logistic_pmfs
from basic_train.model import coded
from basic_train.model.coded import FloatEntropy, coder_tables, symbol_counts
from basic_train.model.presets import TINY
from basic_train.model.supernet import Supernet


def net_and_latents() -> tuple[Supernet, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Latents that no Gaussian or logistic density describes: whole numbers, mostly 0."""
    torch.manual_seed(0)
    net = Supernet(TINY).eval()
    y = 2.0 * (torch.rand(3, 1, TINY.y_channels, 8, 8) < 0.1)
    z = torch.randn(3, 1, TINY.z_channels, 2, 2)
    return net, list(zip(y, z, strict=True))


def test_each_symbol_of_y_is_counted_once():
    net, latents = net_and_latents()
    counts = symbol_counts(net, FloatEntropy(net, 0), latents)
    assert [len(row) for row in counts] == [2 * -first + 1 for first, _ in logistic_pmfs(SCALES)]
    assert sum(int(row.sum()) for row in counts) == sum(y.numel() for y, _ in latents)


def test_fitted_tables_take_fewer_bits_and_the_rows_of_z_stay():
    net, latents = net_and_latents()
    entropy = FloatEntropy(net, 0)
    counts = [100 * row for row in symbol_counts(net, entropy, latents)]
    plain, fitted = coder_tables(net), coder_tables(net, counts)
    bits = [sum(coded.code_latents(entropy, tables, y, z).y_bits for y, z in latents) for tables in (plain, fitted)]
    assert bits[1] < 0.97 * bits[0]
    symbols = np.arange(-3, 4, dtype=np.int32)
    for row in range(64, 64 + TINY.z_channels):
        rows = np.full(symbols.shape, row, np.uint8)
        np.testing.assert_array_equal(code_lengths(plain, symbols, rows), code_lengths(fitted, symbols, rows))


def test_rows_without_symbols_are_the_density_s():
    net, _ = net_and_latents()
    nothing = [np.zeros(len(pmf), np.int64) for _, pmf in logistic_pmfs(SCALES)]
    plain, fitted = coder_tables(net), coder_tables(net, nothing)
    np.testing.assert_array_equal(plain.freqs, fitted.freqs)
    np.testing.assert_array_equal(plain.offsets, fitted.offsets)


def test_symbols_of_either_sign_cost_the_same():
    net, _ = net_and_latents()
    skewed = [np.arange(len(pmf)) for _, pmf in logistic_pmfs(SCALES)]
    fitted = coder_tables(net, skewed)
    symbols = np.arange(1, 3, dtype=np.int32)
    for row in range(20, 30):
        rows = np.full(symbols.shape, row, np.uint8)
        np.testing.assert_allclose(code_lengths(fitted, symbols, rows), code_lengths(fitted, -symbols, rows), atol=0.2)
