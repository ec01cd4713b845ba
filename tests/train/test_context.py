"""The grouped context model against model-spec §3.2-3.3 written out, and that no later stage leaks into an
earlier."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from basic_train.grouping import TILES, Grouping, labels, tiled
from basic_train.model.context import ContextShape, GroupedContext
from basic_train.model.masked import MaskedContext

H, W, M = 4, 8, 24
SHAPES = (ContextShape(12, 24, 12), ContextShape(24, 36, 48))
PRIORS = (10, 16)
PERIODIC = [name for name in TILES if name != "elic320"]  # M does not divide into its groups


def build(grouping, seed=0):
    torch.manual_seed(seed)
    context = GroupedContext(M, grouping, SHAPES, PRIORS)
    return context.double(), torch.randn(2, M, H, W).double() * 3


def prior_at(index):
    return torch.randn(2, PRIORS[index], H, W, generator=torch.Generator().manual_seed(5)).double()


def groups_of(name):
    return 12 if name in ("elic", "channelwise-g10") else 3


def reference(context, y, prior, index, label_map):
    """The specification in loops over groups: unfold, multiply by the mask, multiply by the weight slice."""
    groups, (b, _, h, w) = label_map.shape[0], y.shape
    shape, k = context.shapes[index], context.kernel
    shifted = torch.from_numpy(label_map).double() - label_map.max() - 1  # all below zero: padding is the latest label
    near = F.unfold(shifted[:, None], k, padding=k // 2)  # (G, k*k, h*w)
    own = shifted.reshape(groups, h * w)
    windows = F.unfold(y, k, padding=k // 2).reshape(b, groups, -1, k * k, h * w)
    weight, bias = context.context_slice(shape.context)
    units = []
    for g in range(groups):
        mask = near < own[g]  # (G, k*k, h*w), where padded neighbours hold 0: never earlier
        masked = windows * mask[None, :, None]
        units.append(weight[g].reshape(len(weight[g]), -1) @ masked.reshape(b, -1, h * w) + bias[g][:, None])

    def merge(layer, ins, outs):
        weight, bias = layer.sliced(ins[0].shape[1] * groups, outs)
        rows = []
        for g in range(groups):
            total = bias[g][:, None]
            for other in range(groups):
                total = total + weight[g, :, other] @ (ins[other] * (own[other] <= own[g]))
            rows.append(total)
        return rows

    per_group = shape.hidden1 // groups
    prior_part = context.prior_part(prior, index).reshape(b, groups, per_group, h * w)
    first = [u + prior_part[:, g] for g, u in enumerate(merge(context.merge_context, units, shape.hidden1))]
    second = merge(context.merge_hidden, [F.leaky_relu(u, 0.01) for u in first], shape.hidden2)
    third = merge(context.merge_out, [F.leaky_relu(u, 0.01) for u in second], 2 * M)
    return torch.cat(third, 1).reshape(b, 2 * M, h, w)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", PERIODIC)
def test_phase_convolutions_equal_the_specification(name, index):
    grouping = tiled(name, groups_of(name))
    context, y = build(grouping)
    prior = prior_at(index)
    expected = reference(context, y, prior, index, grouping.labels(H, W))
    # The merger's last layer runs in float32 whatever the rest does.
    torch.testing.assert_close(
        context.float()(y.float(), prior.float(), index).double(), expected, atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", PERIODIC)
def test_later_stages_never_leak_into_earlier_ones(name):
    grouping = tiled(name, groups_of(name))
    context, y = build(grouping)
    context, y, prior = context.float(), y.float(), prior_at(1).float()
    stage_of = torch.from_numpy(grouping.labels(H, W)).repeat_interleave(M // grouping.groups, 0)
    stage_of_parameter = stage_of.repeat_interleave(2, 0)
    before = context(y, prior, 1)
    for stage in range(grouping.stages):
        changed = torch.where(stage_of >= stage, torch.randn_like(y) * 1e4, y)
        after = context(changed, prior, 1)
        unchanged = stage_of_parameter <= stage
        assert torch.equal(after[:, unchanged], before[:, unchanged])
        if stage + 1 < grouping.stages:
            assert not torch.equal(after, before)


def test_a_learned_tile_is_masked_like_any_other():
    grouping = Grouping("learned", np.random.default_rng(3).integers(0, 6, (4, 2, 2)))
    context, y = build(grouping)
    prior = prior_at(1)
    expected = reference(context, y, prior, 1, grouping.labels(H, W))
    torch.testing.assert_close(context.float()(y.float(), prior.float(), 1).double(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PERIODIC)
def test_masked_pass_over_a_full_map_equals_the_tiled_pass(name):
    grouping = tiled(name, groups_of(name))
    context, y = build(grouping)
    context, y, prior = context.float(), y.float(), prior_at(0).float()
    masked = MaskedContext(context, grouping.labels(H, W))
    torch.testing.assert_close(masked.parameters(y, prior, 0), context(y, prior, 0), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["scanline", "zigzag", "channelwise-scanline", "random", "channelwise-random"])
def test_orders_without_a_tile(name):
    context, y = build(tiled("none", 3))
    label_map = labels(name, 3, H, W)
    prior = prior_at(1)
    masked = MaskedContext(context, label_map)
    expected = reference(context, y, prior, 1, label_map)
    torch.testing.assert_close(masked.parameters(y, prior, 1), expected, atol=1e-10, rtol=1e-10)


def test_one_label_map_serves_all_channel_groups():
    context, y = build(tiled("none", 3))
    prior = prior_at(1)
    one, three = labels("scanline", 1, H, W), labels("scanline", 3, H, W)
    torch.testing.assert_close(
        MaskedContext(context, one).parameters(y, prior, 1),
        MaskedContext(context, three).parameters(y, prior, 1),
    )


@pytest.mark.parametrize("name", ["scanline", "random", "raster2x2"])
def test_staged_quantisation_equals_one_pass_over_its_own_result(name):
    context, y = build(tiled("none", 3))
    prior = prior_at(1)
    masked = MaskedContext(context, labels(name, 3, H, W))
    with torch.no_grad():
        y_hat, parameters = masked.quantise(y, prior, 1)
        torch.testing.assert_close(masked.parameters(y_hat, prior, 1), parameters, atol=1e-10, rtol=1e-10)
    symbols = y_hat - parameters[:, 0::2]
    torch.testing.assert_close(symbols, symbols.round(), atol=1e-9, rtol=0)
    assert (y - y_hat).abs().max() <= 0.5 + 1e-9


def test_labels_of_another_shape_are_refused():
    context, y = build(tiled("none", 3))
    with pytest.raises(ValueError, match=r"labels are \(3, h, w\) or \(1, h, w\)"):
        MaskedContext(context, np.zeros((2, H, W), int))
    with pytest.raises(ValueError, match="labels are for a map of 2x2"):
        MaskedContext(context, np.zeros((1, 2, 2), int)).parameters(y, prior_at(0), 0)


def test_channels_that_do_not_divide_into_groups_are_refused():
    with pytest.raises(ValueError, match="hidden1=640 does not divide into 12 channel groups"):
        GroupedContext(192, tiled("elic", 12), [ContextShape(384, 640, 512)], [384])


def test_each_phase_adds_its_own_bias_at_every_width():
    """A bias of the first merger layer at one phase is what that phase's prior would add."""
    torch.manual_seed(0)
    context = GroupedContext(M, tiled("group-diagonal", 2), SHAPES, PRIORS, phase_bias=True)
    torch.nn.init.normal_(context.phase_bias)
    y = torch.randn(1, M, H, W)
    for index in (0, 1):
        prior = prior_at(index)[:1].float()
        per_group = SHAPES[index].hidden1 // 2
        places = [*range(per_group), *(SHAPES[-1].hidden1 // 2 + k for k in range(per_group))]
        biased = context(y, prior, index)
        saved, context.phase_bias = context.phase_bias, None
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            bias = context.merge_prior.bias.detach().clone()
            with torch.no_grad():
                context.merge_prior.bias[places] += saved[i, j, places]
            alone = context(y, prior, index)
            torch.testing.assert_close(biased[:, :, i::2, j::2], alone[:, :, i::2, j::2])
            with torch.no_grad():
                context.merge_prior.bias.copy_(bias)
        context.phase_bias = saved


def test_a_context_model_with_phase_biases_keeps_its_grouping():
    context = GroupedContext(M, tiled("checkerboard", 2), SHAPES[:1], PRIORS[:1], phase_bias=True)
    with pytest.raises(ValueError, match="keeps its grouping"):
        context.regroup(tiled("raster2x2", 2))
