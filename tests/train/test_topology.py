"""Learned groupings: distributions, score function, search, and the comparison from the command line."""

import csv
import json
import math
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_models import small

from basic_runtime.errors import BasicError
from basic_train import checkpoint
from basic_train.ablation import LOGIT_RATE, Method, learned, methods, optimizers_of, search_tile
from basic_train.cli import main
from basic_train.grouping import Grouping, tiled
from basic_train.model.context import ContextShape, GroupedContext
from basic_train.model.presets import HYPERPRIOR, LITE, PAPER, PRESETS, TINY
from basic_train.model.supernet import Supernet
from basic_train.model.topology import DirectTopology, TopologyPredictor, draw, likeliest, mean_rate, vimco
from basic_train.muon import Muon
from basic_train.optimise import optimizers
from basic_train.recipe import Recipe


@pytest.mark.parametrize(("groups", "stages", "count"), [(4, 8, 166_816), (4, 6, 162_200), (1, 16, 157_584)])
def test_predictor_has_the_parameters_of_the_original(groups, stages, count):
    predictor = TopologyPredictor(groups, stages)
    assert sum(p.numel() for p in predictor.parameters()) == count  # model-spec §3.4
    assert predictor().shape == (groups, stages, 2, 2)


def test_predictor_draws_anew_but_its_grouping_stays():
    torch.manual_seed(0)
    predictor = TopologyPredictor(4, 8)
    assert not torch.equal(predictor(), predictor())
    grouping = likeliest(predictor, "learned")
    tile = grouping.tile.copy()
    predictor.to(torch.float64).to(torch.float32).float()
    assert (grouping.tile == tile).all() and grouping.tile.dtype == np.int64
    config = TINY.changed({"grouping": grouping.tile.tolist(), "grouping_name": "learned"})
    net = Supernet(config)
    before = net.context.grouping.tile.copy()
    net.to(torch.float64).to("cpu").float().eval()
    assert (net.context.grouping.tile == before).all()


def test_draw_repeats_the_tile_and_counts_every_position():
    logits = torch.full((2, 3, 2, 2), -50.0)
    logits[0, 2] = 50  # group 0: always stage 2
    logits[1, 0, :, 0], logits[1, 1, :, 1] = 50, 50  # group 1: by column
    labels, chance = draw(logits, 5, 3)
    assert labels.shape == (2, 5, 3) and (labels[0] == 2).all()
    assert labels[1].tolist() == [[0, 1, 0]] * 5
    assert chance == pytest.approx(0, abs=1e-6)
    assert draw(torch.zeros(2, 3, 2, 2), 5, 3)[1] == pytest.approx(-30 * math.log(3), rel=1e-5)


def test_mean_rate_is_that_of_the_mean_probability():
    p = torch.tensor([[[0.5, 0.25]], [[0.1, 0.75]]])  # (K, B, elements)
    expected = -(torch.tensor(0.3).log() + torch.tensor(0.5).log())
    torch.testing.assert_close(mean_rate(-p.log()), expected[None])


def test_vimco_of_two_samples_by_hand():
    nats = torch.tensor([[3.0, 1.0], [5.0, 1.0]])
    chances = torch.tensor([0.3, 0.7], requires_grad=True)
    # Two samples: what stands in for a sample is the other, so lse of twice the other.
    both = math.log(math.exp(-3) + math.exp(-5))
    gains = [both - (-5 + math.log(2)), both - (-3 + math.log(2))]  # of image 0; image 1 gives none
    loss = vimco(nats, chances)
    assert loss.item() == pytest.approx(-(gains[0] / 2 * 0.3 + gains[1] / 2 * 0.7), rel=1e-5)
    loss.backward()
    assert chances.grad[0] < 0 < chances.grad[1]  # the sample with fewer nats becomes likelier


@pytest.mark.parametrize(("kind", "rate"), [(DirectTopology, 0.05), (TopologyPredictor, 0.002)])
def test_score_function_finds_the_cheapest_stages(kind, rate):
    torch.manual_seed(0)
    topology, wanted = kind(2, 3), torch.tensor([[[0, 2], [1, 1]], [[2, 2], [0, 1]]])
    optimizer = torch.optim.Adam(topology.parameters(), rate)
    for _ in range(400):
        drawn = [draw(topology(), 2, 2) for _ in range(2)]
        nats = torch.stack([(labels != wanted).sum()[None].float() for labels, _ in drawn])
        optimizer.zero_grad()
        vimco(nats, torch.stack([chance for _, chance in drawn])).backward()
        optimizer.step()
    assert (likeliest(topology, "found").tile == wanted.numpy()).all()


def test_search_finds_the_cheapest_order():
    wanted = np.array([[[0, 3], [1, 2]], [[2, 1], [3, 0]]])

    def cost(grouping):
        return float(np.abs(grouping.tile - wanted).sum())

    assert (search_tile(cost, Method("learned", 2, 4)).tile == wanted).all()


def test_weights_of_one_width_serve_any_number_of_channel_groups():
    torch.manual_seed(0)
    context = GroupedContext(12, tiled("checkerboard", 1), [ContextShape(12, 12, 12)], [6], kernel=3)
    y, prior = torch.randn(1, 12, 4, 4), torch.randn(1, 6, 4, 4)
    whole = context(y, prior, 0)
    for groups in (2, 3, 4):  # the same order in all groups is the same grouping
        context.regroup(Grouping("same", np.repeat(tiled("checkerboard", 1).tile, groups, 0)))
        torch.testing.assert_close(context(y, prior, 0), whole)
    with pytest.raises(ValueError, match="12 latent channels|context=12"):
        context.regroup(tiled("channelwise", 5))
    several = Supernet(TINY.changed({"phase_bias": False})).context
    with pytest.raises(ValueError, match="keeps its number of channel groups"):
        several.regroup(tiled("none", 1))


def test_comparison_has_the_rows_of_the_original():
    names = [method.title for method in methods(PAPER)]
    for name in (
        "none",
        "channelwise-g2",
        "checkerboard",
        "channelwise-g4",
        "raster2x2",
        "elic-g12",
        "scanline",
    ):
        assert name in names
    assert {m.stages for m in methods(LITE) if m.learned} == {2, 4, 6, 8, 10}
    assert learned(10, 12) in methods(PAPER) and learned(10, 10) in methods(LITE)
    assert "elic320-g20" in [method.title for method in methods(LITE)]


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    checkpoint.save(path, Supernet(TINY).state_dict(), TINY, {"recipe": {}})
    return path


@pytest.fixture(scope="module")
def large_photos(tmp_path_factory):
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("large")
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()[:300, :400]).save(folder / f"{name}.png")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["groupings", *map(str, arguments)])


@pytest.mark.parametrize("learner", ["search", "direct", "predictor"])
def test_comparison_from_the_command_line(tiny_checkpoint, large_photos, tmp_path, learner):
    names = "checkerboard,learned-g2-s2" + (",scanline,channelwise-g4" if learner == "search" else "")
    arguments = [tiny_checkpoint, "--data", large_photos, "-o", tmp_path, "--steps", 4, "--batch", 2]
    arguments += ["--crops", 8, "--held-out", 1, "--context", 16, "--learner", learner, "--json"]
    done = run(*arguments, "--methods", names)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert {row["name"] for row in rows} == {"none", *names.split(",")}
    assert all(0 < row["bpp"] < 100 for row in rows)
    lines = list(csv.DictReader((tmp_path / "groupings.csv").open()))
    assert lines[0]["grouping"] == "none" and float(lines[0]["percent of no context"]) == 0
    assert (tmp_path / "groupings.png").read_bytes()[:4] == b"\x89PNG"
    net, history = checkpoint.load(tmp_path / "learned-g2-s2.safetensors")
    stored = history["grouping"]["tile"]
    assert net.context.grouping.tile.tolist() == stored and net.config.grouping_name == "learned-g2-s2"
    again = run(*arguments, "--methods", names)  # nothing is measured twice
    assert json.loads(again.stdout)["rows"] == rows
    other = run(*arguments[:-1], "--methods", names, "--steps", 5)
    assert other.exit_code != 0 and "other settings" in other.output


@pytest.mark.parametrize("preset", ["paper", "paper-combined", "usdecoder", "elic"])
def test_models_of_all_kinds_are_compared(large_photos, tmp_path, preset):
    torch.manual_seed(0)
    config = PRESETS[preset].changed(small(PRESETS[preset]))
    net = Supernet(config)
    for name, weights in net.named_parameters():
        if name.endswith("_scales"):  # of GDN, one for each width
            weights.data = torch.linspace(0.5, 1.5, len(weights))
    path = tmp_path / f"{preset}.safetensors"
    checkpoint.save(path, net.state_dict(), config, {"recipe": {}})
    arguments = ["--data", large_photos, "-o", tmp_path, "--steps", 1, "--batch", 1, "--crops", 8, "--held-out", 1]
    done = run(path, *arguments, "--context", 16, "--methods", "checkerboard")
    assert done.exit_code == 0, done.output
    one = checkpoint.load(tmp_path / "checkerboard.safetensors")[0]
    assert len(one.config.widths) == 1 and one.config.alternatives == []
    x, quality = torch.rand(1, 3, 64, 64), torch.tensor([0.5])
    for name in ("analyse", "reconstruct"):
        given = x if name == "analyse" else torch.randn(1, config.y_channels, 4, 4)
        ours, theirs = (getattr(model, name)(given, quality, len(model.config.widths) - 1) for model in (one, net))
        torch.testing.assert_close(ours, theirs)


def test_a_model_without_an_order_of_decoding_is_refused(large_photos, tmp_path):
    config = HYPERPRIOR.changed(small(HYPERPRIOR))
    checkpoint.save(tmp_path / "h.safetensors", Supernet(config).state_dict(), config, {"recipe": {}})
    done = run(tmp_path / "h.safetensors", "--data", large_photos, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "'hyperprior' decodes all latents at once" in done.output
    assert not (tmp_path / "out").exists()


def test_one_photo_is_too_few(tiny_checkpoint, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (300, 300)).save(tmp_path / "photos" / "a.png")
    done = run(tiny_checkpoint, "--data", tmp_path / "photos", "-o", tmp_path / "out", "--context", 16)
    assert done.exit_code == 1 and "its one photo is held out" in done.output and not (tmp_path / "out").exists()


def test_mistakes_are_one_line(tiny_checkpoint, large_photos, tmp_path):
    common = ["--data", large_photos, "-o", tmp_path / "out"]
    done = run(tiny_checkpoint, *common, "--context", 18)
    assert done.exit_code == 2 and "--context 18: must divide into" in done.output
    done = run(tiny_checkpoint, *common, "--context", 16, "--methods", "zigzag")
    assert done.exit_code == 2 and "unknown zigzag; known: none, " in done.output
    done = run(tiny_checkpoint, *common, "--context", 16, "--batch", 9, "--crops", 8)
    assert done.exit_code == 2 and "--batch 9: is more than the 8 --crops" in done.output
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "groupings.json").write_text("{")
    done = run(tiny_checkpoint, *common, "--context", 16)
    assert done.exit_code == 1 and "groupings.json: not readable" in done.output


def test_a_base_is_of_the_settings_that_it_was_trained_with(tiny_checkpoint, large_photos, tmp_path, monkeypatch):
    def stop(*arguments):
        raise BasicError("stopped")

    monkeypatch.setattr(sys.modules["basic_train.cli.groupings"], "_base", stop)
    options = (tiny_checkpoint, "--data", large_photos, "-o", tmp_path / "out", "--context", 16, "--crops", 8)
    assert "stopped" in run(*options, "--steps", 2).output
    monkeypatch.undo()
    done = run(*options, "--steps", 1)
    assert done.exit_code == 1 and "was measured with other settings" in done.output


def test_logits_have_a_rate_of_their_own():
    context, topology = GroupedContext(8, tiled("none", 1), [ContextShape(8, 8, 8)], [8]), DirectTopology(2, 4)
    muon, adam, logits = optimizers_of(context, topology, Recipe())
    (values,) = logits.param_groups[0]["params"]
    assert values is topology.values and logits.defaults["lr"] == LOGIT_RATE
    assert isinstance(logits, torch.optim.Adam) and isinstance(muon, Muon) and adam.defaults["lr"] == 1e-3
    weights = [p for name, p in context.named_parameters() if "weight" in name]
    assert {id(p) for p in muon.param_groups[0]["params"]} == {id(p) for p in weights}


def test_alternative_context_models_are_trained_like_the_first():
    """Their merger layers were left to Adam, as their names do not say what they are."""
    net = Supernet(PRESETS["paper-combined"].changed(small(PRESETS["paper-combined"])))
    muon, _ = optimizers(net, Recipe())
    moved = {id(p) for group in muon.param_groups for p in group["params"]}
    for context in (net.context, *net.alternatives):
        for name, parameter in context.named_parameters():
            assert (id(parameter) in moved) == ("weight" in name), name
