"""Objectives and losses: what a step minimises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim

from basic_train.losses import MS_SSIM_LAMBDA, rate_distortion
from basic_train.model.presets import HYPERPRIOR_SLIMMABLE, HYPERPRIOR_STATIC, LITE, TINY, USDECODER
from basic_train.model.supernet import Supernet, TrainOutput
from basic_train.objective import Combined, Distillation, RandomWidths, random_widths
from basic_train.recipe import Recipe

NEVER_FULL = Recipe(full_share=0.0, uniform_share=0.0)


def test_a_share_of_steps_runs_all_transforms_at_one_width():
    rng = np.random.default_rng(0)
    draws = np.array([random_widths(LITE, Recipe(full_share=0.2, uniform_share=1), rng) for _ in range(4000)])
    assert (draws == draws[:, :1]).all()
    np.testing.assert_allclose(np.bincount(draws[:, 0]) / 4000, 0.2, atol=0.03)
    draws = np.array([random_widths(LITE, Recipe(full_share=0.2, uniform_share=0.5), rng) for _ in range(4000)])
    assert (draws == draws[:, :1]).all(1).mean() == pytest.approx(0.5 + 0.5 * 5 * 0.2**4, abs=0.03)


def test_each_transform_draws_its_own_width():
    rng = np.random.default_rng(0)
    draws = np.array([random_widths(LITE, Recipe(full_share=0.5, uniform_share=0), rng) for _ in range(4000)])
    assert draws.min() == 0 and draws.max() == 4
    np.testing.assert_allclose((draws == 4).mean(0), 0.5, atol=0.03)
    for index in range(4):
        np.testing.assert_allclose((draws == index).mean(0), 0.125, atol=0.03)
    assert abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.06


def test_transforms_of_one_size_always_run_at_the_last_index():
    rng = np.random.default_rng(0)
    draws = np.array([random_widths(USDECODER, NEVER_FULL, rng) for _ in range(400)])
    assert (draws[:, :3] == 12).all() and set(draws[:, 3]) == set(range(12))
    assert random_widths(HYPERPRIOR_STATIC, NEVER_FULL, rng) == (0, 0, 0, 0)


def test_latents_that_go_with_the_width_have_one_width_for_all():
    rng = np.random.default_rng(0)
    draws = np.array([random_widths(HYPERPRIOR_SLIMMABLE, Recipe(full_share=0.2), rng) for _ in range(400)])
    assert (draws == draws[:, :1]).all() and set(draws[:, 0]) == set(range(5))


#: Draws the middle width for g_s, so that a random student and the narrowest differ.
SEED = 0


def distil(**changes):
    """Loss and gradients of a distillation step at chosen widths, and the net."""
    recipe = replace(NEVER_FULL, preset="tiny", **changes)
    torch.manual_seed(3)
    net, x = Supernet(TINY), torch.rand(2, 3, 64, 64)
    objective = Distillation(TINY, recipe)
    torch.manual_seed(4)
    result = objective(net, x, torch.tensor([0.2, 0.9]), np.random.default_rng(SEED))
    result.loss.backward()
    return net, x, result


def test_distillation_trains_rate_at_the_full_width_and_students_from_its_picture():
    """The loss by its definition, from the same noise; students move neither the latent nor the teacher."""
    net, x, result = distil(distillation=0.5)
    widths = random_widths(TINY, NEVER_FULL, np.random.default_rng(SEED))
    assert widths.g_s == 1
    quality = torch.tensor([0.2, 0.9])
    lambdas = TINY.lambda_of(quality)
    torch.manual_seed(4)
    latents = net.latents(x, quality, widths)
    pictures = [net.reconstruct(latents.y_hat, quality, index) for index in range(3)]
    output = TrainOutput(latents.y_bits, latents.z_bits, pictures[2])
    expected = rate_distortion(output, x, lambdas)
    weight = 0.5 * (0.013 / lambdas) ** 0.4 * lambdas * 255**2
    students = [((pictures[i] - pictures[2]) ** 2).mean((1, 2, 3)) for i in (0, 1)]
    torch.testing.assert_close(result.loss, expected.loss + (weight * (students[0] + students[1])).mean())
    torch.testing.assert_close(result.mse, expected.mse)
    net_without, _, _ = distil(distillation=1e-30)
    encoder = [(a.grad, b.grad) for a, b in zip(net.g_a.parameters(), net_without.g_a.parameters(), strict=True)]
    assert all(ours is theirs or torch.equal(ours, theirs) for ours, theirs in encoder)  # None if frozen
    assert not torch.equal(
        net.g_s.body.layers[1].body.layers[0].weight.grad, net_without.g_s.body.layers[1].body.layers[0].weight.grad
    )


def test_without_the_sandwich_only_the_random_width_learns():
    with_narrowest, without = distil()[2].loss, distil(sandwich=False)[2].loss
    assert without < with_narrowest


def test_ms_ssim_takes_the_place_of_the_squared_error():
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, 24, 24), size=192, mode="bicubic").clamp(0, 1)
    output = TrainOutput(torch.zeros(2), torch.zeros(2), (x + 0.05 * torch.randn_like(x)).requires_grad_())
    lambdas = torch.tensor([0.0018, 0.18])
    result = rate_distortion(output, x, lambdas, "ms-ssim")
    similarity = ms_ssim(output.x_hat, x, data_range=1.0, size_average=False)
    torch.testing.assert_close(result.loss, torch.mean((0.013 / lambdas) ** 0.4 * 1275 * lambdas * (1 - similarity)))
    for pair in ((2.40, 0.0018), (16.64, 0.013), (220.0, 0.18)):  # CompressAI's
        assert pair[0] / pair[1] == pytest.approx(MS_SSIM_LAMBDA, rel=0.05)


def test_pictures_without_an_ms_ssim_learn_by_squared_error():
    """A negative has structure of the wrong sign: MS-SSIM is 0 there, with an infinite gradient."""
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, 24, 24), size=192, mode="bicubic").clamp(0, 1)
    x_hat = torch.stack([1 - x[0], x[1] + 0.05 * torch.randn_like(x[1])]).requires_grad_()
    zero, lambdas = torch.zeros(2), torch.full((2,), 0.013)
    loss = rate_distortion(TrainOutput(zero, zero, x_hat), x, lambdas, "ms-ssim").loss
    loss.backward()
    squared = 0.013 * 255**2 * (x_hat[0] - x[0]).square().mean()
    structural = MS_SSIM_LAMBDA * 0.013 * (1 - ms_ssim(x_hat[1:], x[1:], data_range=1.0))
    torch.testing.assert_close(loss, (squared + structural) / 2)
    assert torch.isfinite(x_hat.grad).all() and (x_hat.grad != 0).any((1, 2, 3)).all()


def test_loss_is_rate_plus_weighted_distortion():
    x = torch.zeros(2, 3, 64, 64)
    output = TrainOutput(torch.tensor([4096.0, 0.0]), torch.tensor([0.0, 2048.0]), x + 0.1)
    result = rate_distortion(output, x, torch.full((2,), 0.013))
    torch.testing.assert_close(result.bpp, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(result.loss, torch.tensor(0.75 + 0.013 * 255**2 * 0.01))
    ends = replace(TINY, lambda_min=0.001, lambda_max=0.1).lambda_of(torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.001, 0.01, 0.1]))


COMBINED = TINY.changed(
    {
        "alternatives": [
            {"name": "none", "tile": [[[0]]]},
            {"name": "learned", "tile": [[[0, 1], [2, 0]], [[1, 3], [3, 2]]]},
        ]
    }
)


def combine(net, blend="all"):
    """Gradients of a combined step, and the objective."""
    objective = Combined(net.config, Recipe(preset="tiny", full_share=1.0, blend=blend))
    torch.manual_seed(4)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    result = objective(net, x, torch.tensor([0.2, 0.9]), np.random.default_rng(0))
    net.zero_grad()
    result.loss.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}, objective


def test_alternatives_train_beside_the_first_grouping_and_leave_the_backbone_alone():
    torch.manual_seed(0)
    net = Supernet(COMBINED)
    together, _ = combine(net)
    torch.manual_seed(0)
    alone = Supernet(COMBINED)
    alone.alternatives.requires_grad_(False)
    backbone, _ = combine(alone)
    own = {name for name in together if name.startswith("alternatives.")}
    assert {name.split(".")[1] for name in own} == {"0", "1"}
    for name in together.keys() - own:
        torch.testing.assert_close(together[name], backbone[name])


def test_learned_blend_weighs_rates_and_keeps_the_best_first():
    torch.manual_seed(0)
    net = Supernet(COMBINED)
    _, objective = combine(net, "learned")
    assert objective.blend.grad.abs().sum() > 0 and objective.blend.grad.sum() == pytest.approx(0, abs=1e-5)
    weights = {"blend": torch.tensor([0.0, 0.1, 0.5])}
    stored, config = objective.stored(net.state_dict(), weights, COMBINED)
    assert [g.name for g in config.groupings()] == ["learned", "none", "group-diagonal"]
    best = Supernet(config)
    best.load_state_dict(stored)
    y, prior = torch.randn(1, 16, 4, 4), torch.randn(1, TINY.priors[-1], 4, 4)
    torch.testing.assert_close(best.context(y, prior, 2), net.alternatives[1](y, prior, 2))
    torch.testing.assert_close(best.alternatives[1](y, prior, 2), net.context(y, prior, 2))
    chosen = net.with_grouping("learned")
    assert not chosen.config.alternatives and chosen.config.grouping_name == "learned"
    torch.testing.assert_close(chosen.context(y, prior, 2), net.alternatives[1](y, prior, 2))
    with pytest.raises(ValueError, match="no grouping 'elic'; it has group-diagonal, none, learned"):
        net.with_grouping("elic")


def test_combined_needs_alternatives():
    with pytest.raises(ValueError, match="take preset paper-combined"):
        Combined(TINY, Recipe(preset="tiny"))
    with pytest.raises(ValueError, match="trains one grouping, and this model has 3: take --objective combined"):
        RandomWidths(COMBINED, Recipe(preset="tiny"))
    RandomWidths(COMBINED, Recipe(preset="tiny", freeze="alternatives"))
    with pytest.raises(ValueError, match="each of alternatives has a name and a tile"):
        TINY.changed({"alternatives": [{"name": "none"}]})
