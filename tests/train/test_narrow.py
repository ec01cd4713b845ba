"""A level of a supernet as a net of its own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from basic_train import checkpoint
from basic_train.cli import main
from basic_train.losses import rate_distortion
from basic_train.model import gdn
from basic_train.model.config import ModelConfig
from basic_train.model.gdn import SlimGDN
from basic_train.model.presets import PRESETS
from basic_train.model.slimmable import SlimResidual
from basic_train.model.supernet import Supernet, TrainOutput, Widths
from basic_train.narrow import narrow
from basic_train.objective import Interchange, ObjectiveError
from basic_train.recipe import PARTS, Recipe

from .small_models import small

LEVEL = Widths(0, 1, 1, 2)
TABLE = [widths._asdict() for widths in (LEVEL, Widths(1, 1, 1, 2), Widths(2, 2, 2, 2))]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    # Two channels of a group and biases of phases: what a wrong order of units would mix up.
    config = replace(PRESETS["tiny"], eighth_blocks=3, latent_blocks=2, levels=TABLE)
    net = Supernet(config).eval()
    with torch.no_grad():
        net.context.phase_bias.normal_()
        for layer in (net.g_a.path, net.g_s.path.layers[0]):
            layer.weight.normal_(std=0.05)
    return net


@pytest.fixture(scope="module")
def path(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "tiny.safetensors"
    checkpoint.save(path, net.state_dict(), net.config, {})
    return path


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def parameters_of_y(net, y, z, index):
    prior = net.h_s(z, index)
    return net.context(y, prior, index)


def test_a_level_alone_is_the_same_function(net):
    small, quality = narrow(net, LEVEL, {}), torch.tensor([0.3, 0.8])
    x, z = torch.rand(2, 3, 128, 64), torch.randint(-3, 4, (2, net.config.z_channels, 2, 1)).float()
    assert small.config.widths == (32,) and small.config.encoder_widths == (16,) and not small.config.levels
    y = net.analyse(x, quality, LEVEL.g_a)
    assert torch.equal(small.analyse(x, quality, 0), y)
    assert torch.equal(small.h_a(y, 0), net.h_a(y, LEVEL.h_a))
    assert torch.equal(parameters_of_y(small, y, z, 0), parameters_of_y(net, y, z, LEVEL.h_s))
    assert torch.equal(small.reconstruct(y, quality, 0), net.reconstruct(y, quality, LEVEL.g_s))


def test_of_channels_the_first_of_each_group_stay(net):
    changes = {"contexts": [{"context": 12, "hidden1": 16, "hidden2": 16}], "widths": [24], "priors": [20]}
    small = narrow(net, LEVEL, changes)
    whole = net.context.context_weight.unflatten(0, (2, -1))[:, :6]
    assert torch.equal(small.context.context_weight.unflatten(0, (2, -1)), whole)
    y = torch.randn(1, net.config.y_channels, 4, 4)
    # g_s of 24 channels is the supernet's width 1; the context model and h_s are of no width of it.
    assert torch.equal(small.reconstruct(y, torch.tensor([0.5]), 0), net.reconstruct(y, torch.tensor([0.5]), 1))
    assert small.context.phase_bias.shape[-1] == 16 and small.h_s.layers[-1].weight.shape[0] == 20


def test_residual_blocks_that_are_missed_least_go(net):
    net = narrow(net, LEVEL, {})  # a copy
    for transform, idle in ((net.g_a, 0), (net.g_s, 1)):
        eighth = [layer for layer in transform.body.layers if isinstance(layer, SlimResidual)]
        eighth = eighth[1:4] if transform is net.g_a else eighth[2:5]
        with torch.no_grad():  # two blocks that make up for each other, and one that does nothing
            for block, constant in zip((eighth.pop(idle), *eighth), (0, 200, -200), strict=True):
                block.body.layers[-1].weight.zero_()
                block.body.layers[-1].bias.fill_(constant)
    x, quality = torch.rand(2, 3, 64, 64), torch.tensor([0.2, 0.9])
    small = narrow(net, net.full, {"eighth_blocks": 2}, [x])
    y = net.analyse(x, quality, 0)
    torch.testing.assert_close(small.analyse(x, quality, 0), y)
    torch.testing.assert_close(small.reconstruct(y, quality, 0), net.reconstruct(y, quality, 0))
    fewest = narrow(net, net.full, {"eighth_blocks": 0, "quarter_blocks": 0, "latent_blocks": 0}, [x])
    assert not [module for module in fewest.modules() if isinstance(module, SlimResidual)]
    assert fewest.reconstruct(y, quality, 0).shape == x.shape


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"widths": [64]}, "widths: 64 is more than the 32 of the level"),
        ({"analysis_widths": [24]}, "analysis_widths: 24 is more than the 16 of the level"),  # of the supernet 32
        ({"widths": [16, 24]}, "a level's net has one width|as many values"),
        ({"contexts": [{"context": 24, "hidden1": 32, "hidden2": 24}]}, "contexts: 32 is more than the 24"),
        ({"contexts": [16]}, "contexts: each is {context"),
        ({"eighth_blocks": 4}, "eighth_blocks: 4 is more than the 3 of the level"),
        ({"eighth_blocks": 1}, "take pictures by which to choose"),
        ({"y_channels": 8}, "has its own widths, .*, latent_blocks, and no 'y_channels'"),
    ],
)
def test_what_is_no_part_of_the_level_is_refused(net, changes, message):
    with pytest.raises(ValueError, match=message):
        narrow(net, LEVEL, changes)


@pytest.mark.parametrize("preset", ["paper", "cheng2020", "elic"])
@pytest.mark.parametrize("index", [0, 2])
def test_levels_of_other_transforms_are_the_same_function(preset, index):
    net = Supernet(PRESETS[preset].changed(small(PRESETS[preset]))).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, SlimGDN):
                for name in gdn.PER_WIDTH:  # as training makes them differ from width to width
                    module.get_parameter(name).add_(torch.rand(len(module.channels)))
    level, quality = net.uniform(index), torch.tensor([0.3])
    own, x = narrow(net, level, {}), torch.rand(1, 3, 64, 128)
    y = net.analyse(x, quality, index)
    assert torch.equal(own.analyse(x, quality, 0), y)
    assert torch.equal(own.reconstruct(y, quality, 0), net.reconstruct(y, quality, index))
    with pytest.raises(ValueError, match="and no 'eighth_blocks'"):
        narrow(net, level, {"eighth_blocks": 1})


def test_models_whose_latents_go_with_the_width_have_no_level_of_their_own():
    net = Supernet(PRESETS["hyperprior-slimmable"])
    with pytest.raises(ValueError, match="'hyperprior-slimmable' cannot be a net of its own"):
        narrow(net, net.full, {})


def test_the_command_makes_a_checkpoint_that_trains_with_parts_frozen(path, net, photos, tmp_path):
    own, run = tmp_path / "new" / "own.safetensors", tmp_path / "run"
    made = invoke("narrow", path, "--level", 0, "--data", photos, "-o", own, "--model", "eighth_blocks=1")
    assert made.exit_code == 0, made.output
    assert "kMAC per pixel, as level 0 of the supernet" in made.output
    options = ("--preset", "tiny", "--crop", 64, "--batch", 2, "--steps", 2, "--data", photos, "--out", run)
    trained = invoke("run", *options, "--start-from", own, "--freeze", "gains, z_prior", "--held-out", 1)
    assert trained.exit_code == 0, trained.output
    start, end = (checkpoint.load(place)[0] for place in (own, run))
    assert end.config == start.config and start.config.eighth_blocks == 1
    same = [name for name, weights in end.state_dict().items() if torch.equal(weights, start.state_dict()[name])]
    frozen = [name for name in start.state_dict() if name.startswith(("gains.", "z_prior."))]
    assert set(frozen) <= set(same)
    assert not [name for name in same if name.startswith(("g_s.body.layers.4", "context.merge"))]
    rows = [line.split() for line in invoke("info", path).output.splitlines()]
    assert [row for row in rows if len(row) == 5][-2] == ["1", "24", "12", "12", "32"]
    assert "narrowed tiny.safetensors, level 0, eighth_blocks 1" in invoke("info", own).output
    values = json.loads(invoke("narrow", path, "--level", 0, "-o", own, "--overwrite", "--json").output)
    assert values["level"] == 0
    assert ModelConfig.from_json(values["config"]) == checkpoint.read_header(own)[0]
    assert 0 < values["macs_per_pixel"] <= values["macs_per_pixel_in_supernet"]
    other = invoke("run", *options, "--steps", 4, "--freeze", "gains")
    assert other.exit_code == 1 and "what a run freezes cannot be changed" in other.output


def test_the_command_says_what_is_wrong_in_one_line(path, net, photos, tmp_path):
    out = tmp_path / "own.safetensors"
    plain, crumbs = tmp_path / "plain.safetensors", tmp_path / "crumbs"
    crumbs.mkdir()
    Image.new("RGB", (100, 100)).save(crumbs / "small.png")
    checkpoint.save(plain, net.state_dict(), replace(net.config, levels=[]), {})
    for arguments, message in [
        ((path, "--level", 3), "tiny.safetensors: it has levels 0 to 2, and no level 3"),
        ((plain, "--level", 0), "plain.safetensors: it has no table of levels: make one with basic-train levels"),
        ((path, "--level", 0, "--data", crumbs, "--model", "eighth_blocks=1"), "add larger ones"),
        ((path, "--level", 0, "--model", "eighth_blocks=1"), "fewer residual blocks take pictures by which to choose"),
        ((path, "--level", 0, "--model", "eighth_blocks"), "'eighth_blocks' is not FIELD=VALUE"),
        ((path, "--level", 0, "--model", "widths=48"), "widths=48: must be a list"),
    ]:
        result = invoke("narrow", *arguments, "-o", out)
        assert result.exit_code != 0 and message in " ".join(result.output.split()), result.output
        assert not out.exists()
    out.write_text("")
    assert "already" in invoke("narrow", path, "--level", 0, "-o", out).output


def test_what_is_frozen_is_not_reinitialised_and_something_is_left(path, photos, tmp_path):
    run = ("run", "--preset", "tiny", "--crop", 64, "--batch", 2, "--steps", 1, "--data", photos)
    run = (*run, "--out", tmp_path / "r")
    for options, message in [
        (("--freeze", "g_a"), "a new net has nothing to freeze: name a checkpoint with --start-from"),
        (("--start-from", path, "--freeze", ",".join(PARTS)), "leaves nothing to train"),
        (("--seed", 2**64), "must fit 64 bits"),
    ]:
        result = invoke(*run, *options)
        assert result.exit_code != 0 and message in " ".join(result.output.split()), result.output
        assert not (tmp_path / "r").exists()
    result = invoke(*run, "--start-from", path, "--freeze", "g_a,g_s", "--revive", 0)
    assert result.exit_code == 0 and "0 dead hidden units reinitialised" in result.output


@pytest.mark.parametrize("wrong", [{"batch": "4"}, {"steps": 2.5}, {"freeze": ["g_a"]}, {"gamma": 1}, {"pages": True}])
def test_values_of_other_types_are_value_errors(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*: must be "):
        Recipe(**wrong)


def test_only_parts_of_a_net_can_be_frozen():
    assert Recipe(freeze="g_a,h_a").frozen == ["g_a", "h_a"] and not Recipe().frozen and not Recipe(freeze="").frozen
    with pytest.raises(ValueError, match="'gain' is no part of a net; it has g_a, h_a"):
        Recipe(freeze="gain")


WEIGHT = 0.25


def beside(path):
    return Recipe("tiny", objective="interchange", beside=str(path), freeze="gains,z_prior")


def interchange(own, path, full_share):
    """A step of a net of one width beside a supernet."""
    objective = Interchange(own.config, replace(beside(path), beside_weight=WEIGHT, full_share=full_share))
    x, quality = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 16)
    torch.manual_seed(4)
    result = objective(own, x, quality, np.random.default_rng(0))
    return objective, x, quality, result


@pytest.mark.parametrize(("full_share", "level"), [(1.0, 2), (0.0, None)])
def test_files_that_go_between_levels_count(net, path, full_share, level):
    own = narrow(net, LEVEL, {}).train()
    objective, x, quality, result = interchange(own, path, full_share)
    drawn = Widths(**net.config.levels[int(np.random.default_rng(0).integers(2)) if level is None else level])
    torch.manual_seed(4)
    latents = own.latents(x, quality, own.full)
    output = TrainOutput(latents.y_bits, latents.z_bits, own.reconstruct(latents.y_hat, quality, 0))
    lambdas = net.config.lambda_of(quality)
    expected = rate_distortion(output, x, lambdas)
    x, quality, weight = x[:2], quality[:2], ((0.013 / lambdas) ** 0.4 * lambdas * 255**2)[:2]
    coming = net.latents(x, quality, drawn).y_hat
    pictures = own.reconstruct(coming, quality, 0), net.reconstruct(latents.y_hat[:2], quality, drawn.g_s)
    errors = sum((picture - x).square().mean((1, 2, 3)) for picture in pictures)
    torch.testing.assert_close(result.loss, expected.loss + WEIGHT * (weight * errors).mean())
    torch.testing.assert_close(result.mse, expected.mse)
    assert not list(objective.parameters()) and not objective.state_dict()


def test_the_other_net_stays_as_it_is(net, path):
    own = narrow(net, LEVEL, {}).train()
    objective, *_, result = interchange(own, path, 0.5)
    result.loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in objective._others[0].parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in own.g_a.parameters())


def test_a_level_trains_beside_the_others_by_the_command(path, net, photos, tmp_path):
    own, run = tmp_path / "own.safetensors", tmp_path / "run"
    assert invoke("narrow", path, "--level", 0, "-o", own).exit_code == 0
    options = ("--preset", "tiny", "--crop", 64, "--batch", 2, "--data", photos, "--held-out", 1)
    beside = ("--objective", "interchange", "--beside", path, "--start-from", own)
    trained = invoke("run", *options, "--steps", 1, "--out", run, *beside, "--freeze", "gains,z_prior")
    assert trained.exit_code == 0, trained.output
    resumed = invoke("run", *options, "--steps", 2, "--out", run)
    assert resumed.exit_code == 0 and "done" in resumed.output, resumed.output
    assert checkpoint.load(run)[0].config.widths == (32,)
    for changed, message in [
        (("--objective", "interchange"), "name it with --beside"),
        (("--beside", path), "is of --objective interchange, not random-widths"),
        (("--objective", "interchange", "--beside", tmp_path / "none"), "none: not a readable checkpoint"),
    ]:
        result = invoke("run", *options, "--steps", 1, "--out", tmp_path / "r", "--start-from", own, *changed)
        assert result.exit_code != 0 and message in " ".join(result.output.split()), result.output
        assert "Traceback" not in result.output and not (tmp_path / "r").exists()


def test_nets_of_other_latents_are_not_interchangeable(net, path):
    own = narrow(net, LEVEL, {})
    config = replace(own.config, lambda_max=0.5)
    with pytest.raises(ValueError, match=r"its lambda_max is 0\.\d+, that of the net to train 0\.5"):
        Interchange(config, beside(path))
    with pytest.raises(ValueError, match="pass --freeze gains,z_prior"):
        Interchange(own.config, replace(beside(path), freeze="gains"))


@pytest.mark.parametrize("part", ["gains", "z_prior"])
def test_nets_that_share_too_little_are_not_interchangeable(net, path, part):
    own = narrow(net, LEVEL, {})
    with torch.no_grad():
        next(own.get_submodule(part).parameters()).add_(0.1)
    with pytest.raises(ObjectiveError, match=f"has another {part} than the net to train"):
        interchange(own, path, 0.5)
