"""Staged, one-pass and torch parameters are equal integers, and the stages together cost no more than one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from small_models import dense_macs

from basic_export.stages import axis_taps, compile_entropy
from basic_runtime.latent import slot_name
from basic_train.grouping import Grouping, tiled
from basic_train.model.config import ModelConfig
from basic_train.model.integer import (
    MEAN_BITS,
    OverflowBoundError,
    exact_share,
    prove,
)
from basic_train.model.presets import TINY
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet

LEARNED = Grouping("learned", np.array([[[3, 0], [5, 1]], [[2, 4], [5, 5]], [[1, 1], [0, 2]], [[4, 3], [2, 0]]]))

GROUPINGS = {
    "learned": LEARNED,
    "none": tiled("none", 1),
    "checkerboard": tiled("checkerboard", 1),
    "quarter-checkerboard": tiled("quarter-checkerboard", 2),
    "raster2x2": tiled("raster2x2", 1),
    "channelwise": tiled("channelwise", 4),
    "group-diagonal": tiled("group-diagonal", 2),
    "elic": tiled("elic", 12),
}


def config(grouping: Grouping) -> ModelConfig:
    """The tiny preset with channels that divide into any of the groupings above."""
    wide = tuple(type(TINY.contexts[0])(24, 24, 24) for _ in TINY.contexts)
    return replace(TINY, y_channels=24, contexts=wide, grouping_name=grouping.name, grouping=grouping.tile.tolist())


def latents(
    count: int, y_channels: int, z_channels: int, scale: float = 4.0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            scale * torch.randn(1, y_channels, 8, 12, generator=generator),
            2 * torch.randn(1, z_channels, 2, 3, generator=generator),
        )
        for _ in range(count)
    ]


def quantised(grouping: Grouping, scale_parameter: str = "log"):
    torch.manual_seed(3)
    net = Supernet(replace(config(grouping), scale_parameter=scale_parameter)).eval()
    torch.nn.init.normal_(net.context.phase_bias, std=0.1)  # starts at zero
    return quantise(net, 1, latents(4, 24, net.config.z_channels))


def split_slots(values: np.ndarray, grouping: Grouping) -> dict[str, np.ndarray]:
    """(1, M, h, w) to the named slots of the bundle layout."""
    tile, per_group = grouping.side, values.shape[1] // grouping.groups
    return {
        slot_name((g, i, j)): np.ascontiguousarray(values[:, g * per_group : (g + 1) * per_group, i::tile, j::tile])
        for g in range(grouping.groups)
        for i in range(tile)
        for j in range(tile)
    }


def session(model, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, feeds: dict[str, np.ndarray], level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    engine = session(model, level)
    names = [output.name for output in engine.get_outputs()]
    wanted = {value.name for value in engine.get_inputs()}
    return dict(zip(names, engine.run(None, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


@pytest.mark.parametrize("name", GROUPINGS)
def test_staged_equals_one_pass(name: str) -> None:
    """Stage graphs that see only earlier stages give the integers of one pass over the finished latent."""
    grouping = GROUPINGS[name]
    entropy = quantised(grouping)
    compiled = compile_entropy(entropy)
    rng = np.random.default_rng(0)
    h, w = 16, 24
    z = rng.integers(-9, 10, (1, TINY.z_channels, h // 4, w // 4)).astype(np.float32)
    y_hat = rng.integers(-500, 500, (1, 24, h, w)).astype(np.float32)

    prior = entropy.h_s(torch.from_numpy(z))
    mean, scale = (t.numpy() for t in entropy.parameters(torch.from_numpy(y_hat), prior))
    state = run(compiled.h_s, {"z": z})
    slots = split_slots(y_hat, grouping)
    means, scales = split_slots(mean, grouping), split_slots(scale, grouping)
    for stage in compiled.stages:
        found = run(stage.model, {n: state[n] for n in stage.inputs})
        assert tuple(found) == stage.outputs
        order = [slot_name(slot) for slot in stage.slots]
        np.testing.assert_array_equal(found["mean"], np.concatenate([means[n] for n in order], 1))
        np.testing.assert_array_equal(found["scale"], np.concatenate([scales[n] for n in order], 1))
        state.update(found)
        state.update({n: slots[n] for n in order})
    assert sum(len(stage.slots) for stage in compiled.stages) == grouping.tile.size
    assert np.ptp(mean) > 0 and np.ptp(scale) > 0


@pytest.mark.parametrize("name", GROUPINGS)
def test_stages_cost_what_the_model_says_and_no_more_than_one_dense_pass(name: str) -> None:
    grouping = GROUPINGS[name]
    entropy = quantised(grouping)
    compiled = compile_entropy(entropy)
    net = Supernet(config(grouping))
    staged = sum(stage.macs_per_pixel for stage in compiled.stages)
    assert staged == pytest.approx(net.context.macs(1) / 256)
    assert staged <= dense_macs(net.context, 1) / 256
    assert compiled.h_s_macs_per_pixel == pytest.approx(net.h_s.macs(1) / 4096)


def test_engine_settings_agree() -> None:
    """All optimisation levels of ONNX Runtime give the same bits."""
    entropy = quantised(GROUPINGS["group-diagonal"])
    compiled = compile_entropy(entropy)
    z = np.random.default_rng(1).integers(-127, 128, (1, TINY.z_channels, 6, 5)).astype(np.float32)
    levels = onnxruntime.GraphOptimizationLevel.__members__.values()
    results = [run(compiled.h_s, {"z": z}, level) for level in levels]
    expected = entropy.h_s(torch.from_numpy(z)).numpy()
    for result in results:
        for i in range(2):
            for j in range(2):
                np.testing.assert_array_equal(result[f"prior.{i}{j}"], expected[:, :, i::2, j::2])


def test_linear_scale_parameter() -> None:
    """The original's sigma output: the table index grows with the scale value over the whole table."""
    entropy = quantised(GROUPINGS["checkerboard"], scale_parameter="linear")
    lut = entropy.index_lut.astype(int)
    assert lut[0] == 0 and lut[-1] == 63 and np.all(np.diff(lut) >= 0) and len(set(lut)) > 60


def test_bound_is_proved() -> None:
    """Sums stay below 2^24 by the stored integers, and a layer beyond is refused."""
    entropy = quantised(GROUPINGS["group-diagonal"])
    assert 0 < exact_share(entropy) < 1
    layer = entropy.context.merge_hidden
    with pytest.raises(OverflowBoundError, match="beyond 2\\^24"):
        prove("merger", layer.weight * 2**12, layer.bias, entropy.context.merge_context.high)


def test_largest_inputs_stay_exact() -> None:
    """At the extremes of every input the float32 path equals the same sums in float64."""
    entropy = quantised(GROUPINGS["group-diagonal"])
    y_hat = torch.where(torch.rand(1, 24, 8, 8) < 0.5, -(2.0**20), 2.0**20)
    context, last = entropy.context, entropy.layers[-1]
    largest = last.high.unflatten(0, (-1, last.shuffle**2)).amax(1)[None, :, None, None]
    prior = torch.where(torch.rand(1, TINY.priors[1], 8, 8) < 0.5, -largest, largest)
    double = replace(
        context,
        context=_as_double(context.context),
        merge_context=_as_double(context.merge_context),
        merge_prior=context.merge_prior.double(),
        merge_hidden=_as_double(context.merge_hidden),
        merge_out=_as_double(context.merge_out),
    )
    torch.testing.assert_close(context(y_hat, prior).double(), double(y_hat.double(), prior.double()), rtol=0, atol=0)


def _as_double(layer):
    return replace(layer, weight=layer.weight.double(), bias=layer.bias.double())


@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("other", [0, 1])
def test_axis_taps_cover_the_kernel(own: int, other: int) -> None:
    taps = axis_taps(own, other, 2, 5)
    used = sorted(t for t in taps.taps if t >= 0)
    assert used == ([0, 2, 4] if own == other else [1, 3])
    assert len(taps.taps) == taps.before + taps.after + 1


def test_means_are_on_the_grid() -> None:
    """y_hat = symbol + mean is exact: means are integers in units of 2^-MEAN_BITS, within float32's exact range."""
    entropy = quantised(GROUPINGS["raster2x2"])
    y_hat = torch.zeros(1, 24, 8, 8)
    mean, _ = entropy.parameters(y_hat, entropy.h_s(torch.ones(1, TINY.z_channels, 2, 2)))
    assert torch.equal(mean, torch.floor(mean))
    assert float(mean.abs().max()) < 2**15
    assert entropy.mean_bits == MEAN_BITS
