"""The level search: chains, measurements, and the command."""

import json
from dataclasses import replace
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_models import small

from basic_train import checkpoint
from basic_train.chains import LevelError, best_chain, targets
from basic_train.cli import main
from basic_train.evaluator import Evaluator, latencies
from basic_train.levels import Search, candidates, rate_loss, search
from basic_train.model.coded import FloatEntropy, code_latents, coder_tables
from basic_train.model.cost import Costs
from basic_train.model.presets import HYPERPRIOR, HYPERPRIOR_SLIMMABLE, HYPERPRIOR_USDECODER, TINY
from basic_train.model.supernet import Supernet, Widths

QUALITIES = (0.0, 1.0)


@pytest.fixture(scope="module")
def net() -> Supernet:
    torch.manual_seed(0)  # without the linear path, as untrained ones make outliers
    return Supernet(replace(TINY, linear_path=False)).eval()


@pytest.fixture(scope="module")
def evaluator(net) -> Evaluator:
    return Evaluator(net, torch.rand(2, 3, 64, 64), QUALITIES)


@pytest.fixture(scope="module")
def found(net, evaluator):
    return candidates(evaluator, Costs.of(net), "both")


def test_targets():
    np.testing.assert_allclose(targets(1, 8, 4, "geometric"), [1, 2, 4, 8])
    np.testing.assert_allclose(targets(1, 7, 3, "linear"), [1, 4, 7])


def test_best_chain_is_that_of_an_exhaustive_search():
    configurations = [Widths(*item, 0, 0) for item in product(range(3), repeat=2)]
    costs = np.array([1.0 + w.g_a + 1.5 * w.h_a for w in configurations])
    order = np.argsort(costs)
    configurations, costs = [configurations[i] for i in order], costs[order]
    rng = np.random.default_rng(0)
    for _ in range(20):
        penalty = rng.random((4, 9))
        chains = [
            (0, *middle, 8)
            for middle in combinations_with_replacement(range(9), 2)
            if _is_chain([configurations[i] for i in (0, *middle, 8)])
        ]
        best = min(chains, key=lambda chain: sum(penalty[level, i] for level, i in enumerate(chain)))
        assert best_chain(configurations, costs, penalty) == list(best)


def _is_chain(widths: list[Widths]) -> bool:
    return all(
        a != b and all(x <= y for x, y in zip(a, b, strict=True)) for a, b in zip(widths, widths[1:], strict=False)
    )


def test_too_long_a_chain_is_refused():
    with pytest.raises(LevelError, match="too many"):
        best_chain([Widths(0, 0, 0, 0), Widths(1, 1, 1, 1)], np.array([1.0, 2.0]), np.zeros((3, 2)))


def test_rates_are_those_of_the_coder(net, evaluator):
    """Gaussian code lengths against the coder's 12-bit tables, two implementations of the staged loop."""
    bits, _ = evaluator.coded(Widths(1, 0, 2, 0))
    tables, entropy, coded = coder_tables(net), FloatEntropy(net, 2), 0.0
    for x in evaluator.crops:
        y = net.analyse(x[None], torch.tensor([QUALITIES[1]]), 1)
        latents = code_latents(entropy, tables, y.detach(), net.h_a(y, 0).detach())
        coded += latents.y_bits + latents.z_bits
    assert bits[1] == pytest.approx(coded / (2 * 64 * 64), rel=0.01)


def test_parts_make_up_the_whole_at_the_full_entropy_model(net, evaluator):
    for g_a, g_s in ((0, 2), (2, 1)):
        bits, mse = evaluator.coded(Widths(g_a, 2, 2, g_s))
        np.testing.assert_allclose(evaluator.bits(g_a, 2, 2), bits, rtol=1e-5)
        np.testing.assert_allclose(evaluator.distortion(g_a, g_s), mse, rtol=1e-5)


def test_rate_loss_counts_distortion_at_the_slope_of_its_quality():
    one = np.ones(2)
    assert rate_loss(1.1 * one, one, one, one, 5 * one) == pytest.approx(10)
    assert rate_loss(one, 1.02 * one, one, one, 5 * one) == pytest.approx(10)


@pytest.mark.parametrize("widths", [2, 3])
def test_levels_rise_and_were_coded_in_full(found, net, widths):
    levels = search(found, Search(count=5, entropy_widths=widths))
    assert levels[0].widths == net.uniform(0) and levels[-1].widths == net.full
    assert _is_chain([level.widths for level in levels])
    assert len({level.widths.h_s for level in levels}) <= widths
    costs = [level.cost for level in levels]
    assert costs == sorted(set(costs)) and levels[-1].loss_percent == pytest.approx(0)
    for level in levels:
        bits, mse = found.evaluator.coded(level.widths)
        assert level.bpp == tuple(bits) and level.mse == tuple(mse)


def test_level_0_is_the_best_within_its_share(found):
    """The chain begins with a configuration that loses less than the cheapest, if it may."""
    penalty = np.full((3, len(found.costs)), 50.0)
    penalty[0, 5] = 0.0
    firsts = [best_chain(found.configurations, found.costs, penalty, starts)[0] for starts in (1, 5, 6)]
    assert firsts[0] == 0 and firsts[1] < 5 and firsts[2] == 5
    share = 1.5 * float(found.costs[0] / found.costs[-1])
    levels = search(found, Search(count=3, first_share=share))
    assert found.costs[0] <= levels[0].cost <= share * levels[-1].cost
    assert _is_chain([level.widths for level in levels])


def test_the_loss_decides_among_levels_of_like_cost(found):
    """A configuration that is made the best by far is taken for the level of its cost."""
    marked = replace(found, loss=found.loss.copy(), fully={})
    middle = next(i for i, w in enumerate(marked.configurations) if w == Widths(1, 2, 0, 1))
    marked.loss[:] = 50.0
    marked.loss[middle] = 0.0
    costs = marked.costs[[0, middle, -1]]
    penalty = marked.loss + 0 * targets(costs[0], costs[-1], 3, "linear")[:, None]
    assert best_chain(marked.configurations, marked.costs, penalty)[1] == middle


def test_latencies_never_fall_with_width(net):
    costs = latencies(net, 64, 64, repetitions=1)
    for name in ("g_a", "h_a", "h_s", "context", "g_s"):
        values = getattr(costs, name)
        assert len(values) == 3 and list(values) == sorted(values) and values[0] > 0
    with pytest.raises(LevelError, match="its levels are its widths"):
        latencies(Supernet(HYPERPRIOR_SLIMMABLE.changed(small(HYPERPRIOR_SLIMMABLE))), 64, 64, repetitions=1)


def test_the_command_writes_a_table_that_export_takes(net, photos, tmp_path):
    from basic_export.levels import choose_levels

    source, target = tmp_path / "tiny.safetensors", tmp_path / "levels.safetensors"
    checkpoint.save(source, net.state_dict(), net.config, {"minutes": 1})
    arguments = ["levels", source, "--data", photos, "-o", target, "--levels", 4, "--crop", 64, "--json"]
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--qualities", "0,1"])))
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["qualities"] == [0, 1] and len(printed["levels"]) == 4
    assert json.loads(target.with_suffix(".levels.json").read_text()) == printed
    assert target.with_suffix(".levels.png").read_bytes().startswith(b"\x89PNG")
    loaded, history = checkpoint.load(target)
    assert history == {"minutes": 1}
    names = Widths._fields
    assert [level._asdict() for level in choose_levels(loaded, 4)] == [
        {name: level[name] for name in names} for level in printed["levels"]
    ]
    for missing in (None, target, target.with_suffix(".levels.json")):  # what is left exists already
        if missing is not None:
            missing.unlink()
        again = CliRunner().invoke(main, list(map(str, arguments)))
        assert again.exit_code == 1 and "exists already" in again.output
    assert not target.exists()


def test_half_precision_weights_are_stored_and_read(net, photos, tmp_path):
    source, target = tmp_path / "tiny.safetensors", tmp_path / "new" / "half.safetensors"
    checkpoint.save(source, net.state_dict(), net.config, {})
    arguments = ["levels", source, "--data", photos, "-o", target, "--levels", 2, "--crop", 64, "--half"]
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--held-out", 1, "--qualities", "0.5"])))
    assert result.exit_code == 0, result.output
    assert "rate loss" in result.output
    assert target.stat().st_size < 0.6 * source.stat().st_size
    assert checkpoint.load(target)[0].config.levels


def test_a_table_per_quality_and_what_one_for_all_loses(net, photos, tmp_path):
    source, target = tmp_path / "tiny.safetensors", tmp_path / "lv.1.safetensors"
    checkpoint.save(source, net.state_dict(), net.config, {})
    arguments = ["levels", source, "--data", photos, "-o", target, "--levels", 3, "--crop", 64, "--held-out", 1]
    arguments += ["--per-quality", "--qualities", "0.2,0.8"]
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--json"])))
    assert result.exit_code == 0, result.output
    tables = json.loads(result.stdout)
    assert [table["qualities"] for table in tables] == [[0.2], [0.8]] and not target.exists()
    for table in tables:
        name = f"lv.1-q{table['qualities'][0]}"
        stored = checkpoint.load(tmp_path / f"{name}.safetensors")[0].config.levels
        assert json.loads((tmp_path / f"{name}.levels.json").read_text())["qualities"] == table["qualities"]
        assert (tmp_path / f"{name}.levels.png").exists()
        assert stored == [{name: level[name] for name in Widths._fields} for level in table["levels"]]
        own = np.mean([level["loss_percent"] for level in table["levels"]])
        assert np.isfinite([own, table["loss_percent_of_one_table"]]).all()
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--overwrite"])))
    assert result.exit_code == 0 and result.output.count("with one table for all") == 2


@pytest.mark.parametrize("config", [HYPERPRIOR, HYPERPRIOR_USDECODER, HYPERPRIOR_SLIMMABLE])
def test_models_without_context(config, photos, tmp_path):
    """Three of five or thirteen widths; those of the usdecoder differ in g_s alone."""
    changes = small(config)
    cut = {name: changes[name][:3] for name in ("widths", "hyper_widths", "priors", "analysis_widths", "latents")}
    if cut["latents"]:
        cut |= {"y_channels": cut["latents"][-1], "z_channels": cut["latents"][-1]}
    torch.manual_seed(0)
    little = Supernet(config.changed(changes | cut))
    source, target = tmp_path / "source.safetensors", tmp_path / "levels.safetensors"
    checkpoint.save(source, little.state_dict(), little.config, {})
    arguments = ["levels", source, "--data", photos, "-o", target, "--levels", 3, "--crop", 64, "--held-out", 1]
    result = CliRunner().invoke(main, list(map(str, [*arguments, "--qualities", "0.5"])))
    if config.latents:
        assert result.exit_code == 1 and "nothing to search" in result.output
        return
    assert result.exit_code == 0, result.output
    table = checkpoint.load(target)[0].config.levels
    assert len(table) == 3 and [level["g_s"] for level in table] == sorted(level["g_s"] for level in table)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--grouping", "zigzag"), 1, "the model has no grouping 'zigzag'; it has group-diagonal"),
        (("--qualities", "0.5,2"), 2, "no list of numbers from 0 to 1"),
        (("--crop", "100"), 2, "multiple of 64"),
        (("--crop", "4096"), 1, "pass a smaller --crop"),
        (("--entropy-widths", "1"), 2, "entropy-widths"),
        (("--first-share", "0.001"), 1, "raise --first-share"),
        (("--first-share", "1"), 2, "first-share"),
    ],
)
def test_wrong_options(net, photos, tmp_path, arguments, code, message):
    source = tmp_path / "tiny.safetensors"
    checkpoint.save(source, net.state_dict(), net.config, {})
    given = ["levels", source, "--data", photos, "-o", tmp_path / "out.safetensors", *arguments]
    result = CliRunner().invoke(main, list(map(str, given)))
    assert result.exit_code == code and message in result.output
    assert not (tmp_path / "out.safetensors").exists()
