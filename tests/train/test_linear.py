"""The linear path: a net that starts as the Karhunen-Loève transform of its photos."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from basic_train import checkpoint
from basic_train.model import linear, linear_start
from basic_train.model.presets import TINY
from basic_train.model.supernet import Supernet
from basic_train.recipe import Recipe
from basic_train.train import MODEL_FILE, Trainer

QUALITIES = torch.tensor([0.0, 1.0])


@pytest.fixture(scope="module")
def pictures():
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(6, 3, 8, 8), size=(128, 128), mode="bicubic")
    return (smooth + 0.1 * torch.rand_like(smooth)).clamp(0, 1)


@pytest.fixture(scope="module")
def net(pictures):
    torch.manual_seed(1)
    net = Supernet(TINY).eval()
    linear_start.initialise(net, pictures)
    return net


def blocks(x):
    return F.pixel_unshuffle(x, 16).permute(0, 2, 3, 1).reshape(-1, 768)


def test_components_are_those_of_the_covariance(pictures):
    found = linear.components(pictures, 16)
    expected = torch.cov(blocks(pictures).T, correction=0)
    rebuilt = found.basis @ torch.diag(found.variances) @ found.basis.T
    torch.testing.assert_close(rebuilt, expected, atol=1e-5, rtol=0)
    assert (found.variances.diff() <= 0).all()
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(768), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("index", range(len(TINY.widths)))
def test_untrained_net_is_the_best_linear_transform_at_every_width(net, pictures, index):
    y = net.analyse(pictures[:2], QUALITIES, index)
    found = linear.components(pictures, 16)
    basis = found.basis[:, : TINY.y_channels]
    centred = blocks(pictures[:2]) - found.mean
    expected = centred @ basis @ basis.T + found.mean
    torch.testing.assert_close(blocks(net.reconstruct(y, QUALITIES, index)), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_gains_give_each_quality_the_step_of_its_lambda(net, pictures):
    basis = linear.components(pictures, 16)
    coefficients = (blocks(pictures[:1]) - basis.mean) @ basis.basis[:, : TINY.y_channels]
    for quality, value in ((0.0, TINY.lambda_min), (1.0, TINY.lambda_max)):
        step = math.sqrt(18 / (value * 255**2 * math.log(2)))
        y = net.analyse(pictures[:1], torch.tensor([quality]), 0)
        expected = (coefficients / step).reshape(8, 8, -1).permute(2, 0, 1)[None]
        torch.testing.assert_close(y, expected, rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_first_convolution_gives_components_of_patches(net, pictures):
    first = net.g_a.body.layers[0](pictures - linear.MIDDLE, len(TINY.widths) - 1)
    variances = linear.components(pictures, 4).variances[: first.shape[1]]
    variances = variances[variances > linear_start.SMALLEST_VARIANCE]
    flat = first[:, : len(variances)].permute(1, 0, 2, 3).flatten(1)
    expected = torch.diag(variances ** (1 - linear_start.EVENNESS))
    torch.testing.assert_close(torch.cov(flat, correction=0), expected, atol=2e-2, rtol=0)


@torch.no_grad()
def test_networks_see_all_qualities_in_quantisation_steps(net, pictures):
    """A quality of k times the step codes a picture as another one codes it k times as dark."""
    torch.manual_seed(2)
    both = Supernet(TINY).eval()
    both.g_a.path.weight.zero_()
    both.g_a.path.bias.zero_()
    gains = both.gains.encode(QUALITIES)[:, :1, 0, 0].flatten()
    dark = (pictures[:1] - linear.MIDDLE) * (gains[0] / gains[1]) + linear.MIDDLE
    for index in range(len(TINY.widths)):
        coarse = both.analyse(pictures[:1], QUALITIES[:1], index)
        torch.testing.assert_close(both.analyse(dark, QUALITIES[1:], index), coarse, atol=1e-4, rtol=1e-4)
    both.g_s.path.layers[0].weight.zero_()
    both.g_s.path.layers[0].bias.zero_()
    y = torch.randn(1, TINY.y_channels, 4, 4)
    steps = both.gains.decode(QUALITIES)[:, 0, 0, 0]
    coarse, fine = (both.reconstruct(y, q[None], 1) for q in QUALITIES)
    torch.testing.assert_close(coarse / steps[0], fine / steps[1], atol=1e-4, rtol=1e-4)


def test_training_starts_there_and_keeps_the_path(photos, tmp_path):
    recipe = Recipe(preset="tiny", steps=2, batch=2, crop=64, held_out=1)
    trainer = Trainer(recipe, tmp_path, photos, report=lambda line: None)
    start = {name: value.clone() for name, value in trainer.module.net.state_dict().items()}
    assert not trainer.module.net.g_s.body.layers[-2].weight.any()  # pixel shuffle is last
    trainer.run()
    stored = checkpoint.load(tmp_path / MODEL_FILE)[0].state_dict()
    for name in start:
        if ".path." in name:
            assert torch.equal(stored[name], start[name]) and start[name].any()
    resumed = Trainer(replace(recipe, steps=3), tmp_path, photos, report=lambda line: None)
    assert resumed.step == 2
