"""Dead hidden units: found, reinitialised, pruned."""

import copy

import pytest
import torch
from small_models import small
from torch import nn

from basic_train.model import units
from basic_train.model.cost import macs_per_pixel
from basic_train.model.presets import PRESETS
from basic_train.model.slimmable import SlimConv2d, SlimResidual, SlimSequential
from basic_train.model.supernet import Supernet

QUALITIES = torch.tensor([0.0, 1.0])


@pytest.fixture
def net():
    """`lite` with few channels, whose residual blocks do something and have many units that nothing can stir."""
    torch.manual_seed(0)
    net = Supernet(PRESETS["lite"].changed(small(PRESETS["lite"]))).eval()
    blocks = units.layers(net)
    with torch.no_grad():
        for number, layer in enumerate(blocks.values()):
            layer.out.weight.normal_(0, 0.1)
            layer.out.bias.normal_(0, 0.1)
            layer.into.bias[number % 3 :: 3] = -1e6
    return net


def silence(layer, units=slice(None)):
    with torch.no_grad():
        layer.into.bias[units] = -1e6


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 64, 128, generator=generator) for _ in range(2)]


def all_widths(net):
    return [net.uniform(index) for index in range(len(net.config.widths))]


def outputs(net, pictures, index):
    """y and the picture made of it, of the net and of its plain modules."""
    x, gain_a, gain_s = pictures[0], net.gains.encode(QUALITIES), net.gains.decode(QUALITIES)
    with torch.no_grad():
        y = net.g_a(x, index, gain_a)
        plain_y = net.g_a.plain(index)(x, gain_a)
        torch.testing.assert_close(plain_y, y, atol=1e-4, rtol=1e-4)
        picture = net.g_s(y, index, gain_s)
        torch.testing.assert_close(net.g_s.plain(index)(y, gain_s), picture, atol=1e-4, rtol=1e-4)
    return y, picture


def test_units_below_zero_are_found(net, pictures):
    found = units.live_units(net, pictures, all_widths(net))
    assert len(found) > 10 and {name.partition(".")[0] for name in found} == {"g_a", "g_s"}
    for number, (name, mask) in enumerate(found.items()):
        assert not mask[number % 3 :: 3].any(), name
    assert sum(int(mask.sum()) for mask in found.values()) > 0.3 * sum(len(mask) for mask in found.values())


def test_units_of_wider_widths_alone_are_dead_at_narrow_ones(net, pictures):
    found = units.live_units(net, pictures, [net.uniform(0)])
    for name, layer in units.layers(net).items():
        assert not found[name][layer.into.outs[0] :].any(), name


def test_what_is_left_computes_the_same_at_every_width_for_less(net, pictures):
    lean = copy.deepcopy(net)
    found = units.live_units(net, pictures, all_widths(net))
    assert units.prune(lean, found) == sum(int((~mask).sum()) for mask in found.values())
    for index in range(len(net.config.widths)):
        for given, expected in zip(outputs(lean, pictures, index), outputs(net, pictures, index), strict=True):
            torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)
        costs = [macs_per_pixel(some, net.uniform(index)) for some in (lean, net)]
        assert costs[0]["g_a"] < costs[1]["g_a"] and costs[0]["g_s"] < costs[1]["g_s"]


@pytest.mark.parametrize("kept", [0, 3])
def test_blocks_without_units_become_constants_at_the_widths_that_have_none(net, pictures, kept):
    """kept: units of the widest, beyond those of narrow widths, that remain."""
    chosen = [name for name in units.layers(net) if name.startswith("g_a.body.layers.5.") and name.endswith(".3")]
    layer = units.layers(net)[chosen[0]]
    silence(layer)
    if kept:
        with torch.no_grad():
            layer.into.bias[-kept:] = 1.0
    lean = copy.deepcopy(net)
    units.prune(lean, units.live_units(net, pictures, all_widths(net)))
    block = lean.get_submodule("g_a.body.layers.5")
    constant = [block.constant(index) is not None for index in range(len(net.config.widths))]
    assert constant[0] and constant[-1] == (kept == 0)
    assert block.macs(0) == 0
    for index in range(len(net.config.widths)):
        for given, expected in zip(outputs(lean, pictures, index), outputs(net, pictures, index), strict=True):
            torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)


def test_a_first_layer_without_units_keeps_one_for_those_that_biases_stir(net, pictures):
    layer = units.layers(net)["g_a.body.layers.5.body.layers.1"]
    silence(layer)
    lean = copy.deepcopy(net)
    units.prune(lean, units.live_units(net, pictures, all_widths(net)))
    assert set(units.layers(lean)["g_a.body.layers.5.body.layers.1"].into.outs) == {1}
    for index in range(len(net.config.widths)):
        for given, expected in zip(outputs(lean, pictures, index), outputs(net, pictures, index), strict=True):
            torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)


def test_a_block_with_nothing_before_it_to_move_keeps_a_unit(net, pictures):
    """The first one of g_s comes after a product."""
    for name, layer in units.layers(net).items():
        if name.startswith("g_s."):
            silence(layer)
    units.prune(net, units.live_units(net, pictures, all_widths(net)))
    of_g_s = {name: layer for name, layer in units.layers(net).items() if name.startswith("g_s.")}
    sizes = {name.split(".")[3]: layer.into.outs for name, layer in of_g_s.items()}
    assert sizes["1"] == (1,) * len(net.config.widths) and sizes["2"] == (0,) * len(net.config.widths)
    outputs(net, pictures, 0)


def test_reinitialised_units_leave_the_function_and_learn(net, pictures):
    changed = copy.deepcopy(net)
    torch.manual_seed(3)
    count = units.reinitialise_dead(changed, pictures, beyond=2)
    found = units.live_units(net, pictures, all_widths(net))
    assert count == sum(int((~mask[2:]).sum()) for mask in found.values()) > 0
    for index in range(len(net.config.widths)):
        for given, expected in zip(outputs(changed, pictures, index), outputs(net, pictures, index), strict=True):
            torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)
    changed(pictures[0], QUALITIES, net.full).x_hat.square().mean().backward()
    name = next(name for name, mask in found.items() if name.startswith("g_s") and not mask[2:].all())
    revived = ~found[name]
    revived[:2] = False
    columns = units.layers(changed)[name].out.weight.grad[:, revived]
    assert (columns.abs().amax((0, 2, 3)) > 0).float().mean() > 0.5


def test_other_rows_of_layers_are_none_of_ours():
    convolutions = [SlimConv2d([4], [4], 1) for _ in range(4)]
    block = SlimResidual(SlimSequential(convolutions[0], nn.LeakyReLU(), convolutions[1]))
    bottleneck = SlimSequential(convolutions[2], nn.ReLU(), convolutions[3])
    net = nn.ModuleDict({"g_a": SlimSequential(block), "h_s": SlimSequential(SlimResidual(bottleneck))})
    assert not units.layers(net)
