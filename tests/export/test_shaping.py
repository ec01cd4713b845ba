"""Transforms in the form for engines: the same function, and fewer changes of layout."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from basic_export import pixel
from basic_export.graphs import serialise
from basic_export.shaping import ShapedAnalysis, ShapedSynthesis, _two_shuffles, blocked_residuals, shaped
from basic_train.model.linear import Scale
from basic_train.model.slimmable import Residual
from basic_train.model.supernet import Supernet


@pytest.mark.parametrize(("transform", "form"), [("g_a", ShapedAnalysis), ("g_s", ShapedSynthesis)])
@pytest.mark.parametrize("index", [0, 2])
def test_the_form_changes_no_result(transform: str, form: type[nn.Module], index: int, tiny_net: Supernet) -> None:
    plain = getattr(tiny_net, transform).plain(index)
    changed = shaped(plain)
    assert isinstance(changed, form)
    channels = tiny_net.config.y_channels
    gain = torch.rand(1, channels, 1, 1, generator=torch.manual_seed(1)) * 20 + 0.1
    values = torch.rand(1, 3, 64, 128) if transform == "g_a" else 9 * torch.randn(1, channels, 4, 8)
    with torch.no_grad():
        wanted, found = plain(values, gain), changed(values, gain)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_transforms_without_another_form_stay_as_they_are(tiny_net: Supernet) -> None:
    plain = tiny_net.h_a.plain(0)
    assert shaped(plain) is plain


def test_two_pixel_shuffles_are_one() -> None:
    x = torch.randn(2, 3 * 36, 4, 5)
    twice = F.pixel_shuffle(F.pixel_shuffle(x[:, _two_shuffles(x.shape[1], 2, 3)], 2), 3)
    assert torch.equal(twice, F.pixel_shuffle(x, 6))


def test_rows_of_residual_blocks_begin_with_a_convolution() -> None:
    def block() -> Residual:
        return Residual(nn.Sequential(nn.Conv2d(4, 4, 1)))

    scale = Scale(4)
    scale.weight.copy_(torch.rand(1, 4, 1, 1))
    layers = nn.Sequential(scale, block(), block(), nn.Conv2d(4, 16, 1), nn.PixelShuffle(2), block(), block())
    changed = blocked_residuals(layers)
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(changed(x), layers(x))
    assert [type(layer) for layer in changed] == [
        nn.Conv2d, Residual, Residual, nn.Conv2d, nn.PixelShuffle, nn.Conv2d, Residual, Residual,
    ]  # fmt: skip


def test_onnx_runtime_changes_the_layout_less_often(
    tiny_net: Supernet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes() -> int:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(serialise(pixel.export_pixel(tiny_net, "g_s", 2).model), options)
        nodes = onnx.load(options.optimized_model_filepath).graph.node
        return sum(node.op_type in ("ReorderInput", "ReorderOutput") for node in nodes)

    found = changes()
    monkeypatch.setattr(pixel, "shaped", lambda transform: transform)
    assert found < changes()
