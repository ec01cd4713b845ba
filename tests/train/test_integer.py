"""The integer entropy path follows the float one: no bias, small error, little rate."""

from __future__ import annotations

import pytest
import torch

from basic_train.model.coded import FloatEntropy, coder_tables, rate_cost, round_z
from basic_train.model.integer import (
    LEAK_BITS,
    MEAN_BITS,
    IntegerEntropy,
    requantise,
)
from basic_train.model.presets import TINY
from basic_train.model.quantise import HEADROOM, LIMIT_MAX, ActivationStats, FixedPoint, balanced, quantise
from basic_train.model.supernet import Supernet


@pytest.fixture(scope="module")
def net() -> Supernet:
    """A tiny net whose latents are spread as those of a trained one: channels of very different power."""
    torch.manual_seed(2)
    return Supernet(TINY).eval()


@pytest.fixture(scope="module")
def latents(net: Supernet) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    spread = torch.logspace(-1, 1.3, TINY.y_channels)[None, :, None, None]
    found = []
    for gain in (0.3, 1.0, 4.0):
        y = gain * spread * torch.randn(1, TINY.y_channels, 16, 16, generator=generator)
        found.append((y, 3 * torch.randn(1, TINY.z_channels, 4, 4, generator=generator)))
    return found


@pytest.fixture(scope="module", params=range(len(TINY.widths)))
def integer(request: pytest.FixtureRequest, net: Supernet, latents) -> tuple[int, IntegerEntropy]:
    return request.param, quantise(net, request.param, latents)


def test_parameters_have_no_bias(net: Supernet, latents, integer) -> None:
    """Negative hidden units were once pulled down by half a unit, which shifted every scale index."""
    index, entropy = integer
    exact = FloatEntropy(net, index)
    for y, z in latents:
        z = round_z(z)
        y_hat = torch.floor(y * 2**MEAN_BITS + 0.5)
        mean, scale = exact.parameters(y_hat, exact.h_s(z))
        integer_mean, integer_scale = entropy.parameters(y_hat, entropy.h_s(z))
        difference = entropy.indexes(integer_scale).float() - exact.indexes(scale).float()
        assert abs(float(difference.mean())) < 0.15
        assert float(difference.abs().mean()) < 0.5
        assert abs(float((integer_mean - mean).mean())) < 2**MEAN_BITS * 0.02


def test_rate_cost_is_small(net: Supernet, latents, integer) -> None:
    index, entropy = integer
    assert abs(rate_cost(net, index, entropy, coder_tables(net), latents).percent) < 1.0


def test_leak_rounds_to_nearest() -> None:
    """floor(sum + 1/2) first, then a leak that is rounded to nearest itself."""
    wanted = torch.tensor([-640.0, -65, -64, -63, -1, 0, 1, 300])
    shift = torch.tensor([3])
    sums = (wanted * 8 + 4).reshape(1, 1, 1, -1)  # the bias holds the rounding half, 2^(shift - 1)
    found = requantise(sums, shift, torch.tensor([-500]), torch.tensor([500]), leak=True).flatten()
    expected = torch.where(wanted < 0, torch.floor(wanted / 2**LEAK_BITS + 0.5), wanted)
    assert torch.equal(found, expected)
    assert torch.equal(expected, torch.tensor([-5.0, -1 + 0, 0, 0, 0, 0, 1, 300]))


def test_units_fit_each_channel() -> None:
    """A large and a small channel of one tensor get units of their own; a dead one does not fail."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 3, 32, 32, generator=generator) * torch.tensor([100.0, 0.5, 0.0])[None, :, None, None]
    seen = ActivationStats.of([values])
    units = FixedPoint.covering(seen, balanced(seen, torch.ones(4, 3, 1, 1), torch.zeros(4), torch.ones(4)))
    large, small, dead = units.bits.tolist()
    assert 3 < small - large < 5  # the root of what they differ by
    assert dead >= small
    covered = units.limit * torch.exp2(-units.bits)
    assert torch.all(covered >= HEADROOM * seen.largest)
    assert torch.all(units.limit <= LIMIT_MAX)


def test_units_follow_what_an_error_costs() -> None:
    """An input of which only a sum that hardly matters reads much is held more coarsely than one that costs."""
    generator = torch.Generator().manual_seed(0)
    seen = ActivationStats.of([torch.randn(1, 2, 32, 32, generator=generator)])
    weight = torch.tensor([[1.0, 0.1], [0.1, 1.0]])[:, :, None, None]
    first, second = balanced(seen, weight, torch.zeros(2), torch.tensor([1.0, 0.001])).tolist()
    assert first > second + 0.5


def test_rate_cost_at_the_lowest_quality(net: Supernet, latents, integer) -> None:
    """With units for the finest quality alone the coarsest once paid 8 % where all bits together paid 0.7 %."""
    index, entropy = integer
    assert rate_cost(net, index, entropy, coder_tables(net), latents).worst_percent < 1.5


def test_units_of_a_layer_that_sees_all_qualities_serve_the_coarsest() -> None:
    """One unit for all qualities, of the size that the finest one's activations need, once cost 8 % of the rate at
    the coarsest: what the largest value does to the unit is bounded by how rarely it is seen."""
    generator = torch.Generator().manual_seed(0)
    latents = [gain * torch.randn(1, 1, 32, 32, generator=generator) for gain in (1.0, 1.0, 1.0, 40.0)]
    seen = ActivationStats.of(latents)
    assert float(seen.typical) < 3
    assert float(seen.largest) > 100
