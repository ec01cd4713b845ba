"""Checkpoints of others: outputs equal theirs, doubtful files end with one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from basic_train import checkpoint
from basic_train.cli import main
from basic_train.grouping import labels
from basic_train.importing.original import EDGES
from basic_train.importing.run import Choices, import_file
from basic_train.model.masked import MaskedContext
from basic_train.model.priors import gaussian_bits

MODELS = Path(__file__).with_name("compressai_models")


def compressai(name):
    """State dict of a model of the package `compressai`, and what that computed (compressai_models/make.py)."""
    stored = safetensors.torch.load_file(MODELS / f"{name}.safetensors")
    state = {k[6:]: v.float() if v.dtype == torch.float16 else v for k, v in stored.items() if k[:6] == "state."}
    return state, {k[4:]: v for k, v in stored.items() if k[:4] == "out."}


def saved(tmp_path, content, name="model.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def run(*arguments):
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


# --- CompressAI ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mbt2018", "mbt2018-mean", "bmshj2018-hyperprior"])
def test_models_of_compressai_compute_the_same(tmp_path, name):
    state, out = compressai(name)
    imported = import_file(saved(tmp_path, state), Choices(lambda_=0.0067))
    net, full = imported.net, len(imported.net.config.widths) - 1
    assert imported.kind == f"CompressAI {name}" and net.config.lambda_min == net.config.lambda_max == 0.0067
    with torch.no_grad():
        close(net.g_a(out["pixels"] / 255, full), out["y"])
        close(net.h_a(out["y"], full), out["z"])
        close(net.h_s(out["z_hat"], full), out["prior"])
        close(net.g_s(out["y_hat"], full), out["x_hat"])
        close(net.z_prior.likelihood(out["z"]), out["z_likelihoods"])
        if name == "mbt2018":
            context = MaskedContext(net.context, labels("scanline", 1, *out["y"].shape[2:])).parameters
        else:
            context = net.context  # one stage: the supernet's own pass is exact
        parameters = context(out["y_hat"], out["prior"], full)
        mean, scale = parameters[:, 0::2], parameters[:, 1::2]
        close(mean, out.get("means", torch.zeros_like(mean)))
        close(scale, out["scales"])
        bits = gaussian_bits(out["y_hat"] - mean, net.sigma(scale))
        torch.testing.assert_close(torch.exp2(-bits), out["y_likelihoods"].clamp(min=1e-7), atol=1e-6, rtol=1e-5)
        assert torch.equal(net.gains.encode(torch.tensor([0.0, 0.4, 1.0])), torch.ones(3, 12, 1, 1))


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-6 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("name", "stages", "preset"),
    [("mbt2018", 2, "paper"), ("mbt2018-mean", 1, "paper"), ("bmshj2018-hyperprior", 1, "hyperprior")],
)
def test_presets_and_stages_of_models_of_compressai(tmp_path, name, stages, preset):
    config = import_file(saved(tmp_path, compressai(name)[0])).net.config
    assert (config.grouping_map().stages, config.preset) == (stages, preset)


@pytest.mark.parametrize(
    "names", [("matrices.{}", "biases.{}", "factors.{}"), ("_matrix{}", "_bias{}", "_factor{}"),
              ("_matrices.{}", "_biases.{}", "_factors.{}")]
)  # fmt: skip
def test_tensor_names_of_all_versions_of_compressai(tmp_path, names):
    state, out = compressai("mbt2018")
    for new, name in zip(("matrices", "biases", "factors"), names, strict=True):
        for k in range(5):
            if f"entropy_bottleneck.{new}.{k}" in state:
                value = state.pop(f"entropy_bottleneck.{new}.{k}")
                state[f"entropy_bottleneck.{name.format(k)}"] = value
    path = saved(tmp_path, {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}})
    close(import_file(path).net.z_prior.likelihood(out["z"]).detach(), out["z_likelihoods"])


def test_safetensors_are_read_too(tmp_path):
    state, out = compressai("mbt2018")
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path)
    with torch.no_grad():
        close(import_file(path).net.g_s(out["y_hat"], 4), out["x_hat"])


def test_a_range_of_lambdas_scales_the_steps_around_the_model_s_own(tmp_path):
    state, _ = compressai("mbt2018")
    choices = Choices(lambda_=0.01, lambda_range=(0.001, 0.1))
    gains = import_file(saved(tmp_path, state), choices).net.gains
    with torch.no_grad():
        encode, decode = (g(torch.tensor([0.0, 0.5, 1.0]))[:, 0, 0, 0] for g in (gains.encode, gains.decode))
    torch.testing.assert_close(encode, torch.tensor([0.1**0.5, 1.0, 10**0.5]))
    torch.testing.assert_close(encode * decode, torch.ones(3))


def test_narrow_widths_are_there_and_the_model_trains(tmp_path, photos):
    state, _ = compressai("mbt2018")
    out = tmp_path / "new" / "imported.safetensors"
    result = run(saved(tmp_path, state), "-o", out, "--lambda", 0.013, "--grouping", "raster2x2")
    assert result.exit_code == 0 and "raster2x2 stands in for it" in result.stderr
    config, history = checkpoint.read_header(out)
    assert config.widths == (2, 3, 4, 6, 8) and config.hyper_widths == (3, 4, 6, 9, 12)
    assert history["recipe"]["imported"] == "CompressAI mbt2018" and config.grouping_map().stages == 4
    options = ["--preset", "paper", "--steps", "1", "--batch", "1", "--crop", "64", "--data", str(photos)]
    trained = CliRunner().invoke(main, ["run", *options, "--start-from", str(out), "--out", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    described = CliRunner().invoke(main, ["info", str(out)])
    assert described.exit_code == 0 and "imported CompressAI mbt2018" in described.stdout


# --- the original ----------------------------------------------------------------------------------------

N, CONTEXT, HIDDEN1, HIDDEN2 = 16, 32, 40, 24
WIDTHS = (4, 6, 8, 12, 16)


def original_model(seed, learned=None):
    """A model of the original by its documented names, with random weights; `learned`: labels (G, 2, 2) of the
    second of two decoding orders."""
    torch.manual_seed(seed)
    wide = 3 * N // 2
    shapes = {
        "g_a": [(N, 3, 5, 5), (N, N, 5, 5), (N, N, 5, 5), (N, N, 5, 5)],
        "g_s": [(N, N, 5, 5), (N, N, 5, 5), (N, N, 5, 5), (N, 3, 5, 5)],
        "h_a": [(N, N, 3, 3), (N, N, 5, 5), (N, N, 5, 5)],
        "h_s": [(N, N, 5, 5), (N, wide, 5, 5), (2 * N, wide, 3, 3)],
    }
    state = {}
    for name, layers in shapes.items():
        prefix = EDGES[name][0]
        for i, shape in enumerate(layers):
            transposed = name == "g_s" or (name == "h_s" and i < 2)
            state[f"{prefix}{2 * i}.conv.weight"] = torch.randn(shape) * 0.1
            state[f"{prefix}{2 * i}.conv.bias"] = torch.randn(shape[1] if transposed else shape[0]) * 0.1
            if name in ("g_a", "g_s") and i < 3:
                layer = f"{prefix}{2 * i + 1}."
                state[layer + "beta"], state[layer + "gamma"] = torch.rand(N) + 0.5, torch.rand(N, N) * 0.3
                for scalar in ("gamma_scales", "gamma_biases", "beta_scales", "beta_biases"):
                    state[layer + scalar] = torch.rand(5) + 0.2
    z = "latent_node_entropy_coders.z.entropy_bottleneck."
    for k, (ins, outs) in enumerate([(1, 3), (3, 3), (3, 3), (3, 3), (3, 1)]):
        state[f"{z}_matrix{k}"], state[f"{z}_bias{k}"] = torch.randn(N, outs, ins), torch.randn(N, outs, 1)
        if k < 4:
            state[f"{z}_factor{k}"] = torch.randn(N, outs, 1)
    state |= {
        f"{z}quantiles": torch.randn(N, 1, 3),
        f"{z}_quantized_cdf": torch.zeros(N, 9, dtype=torch.int32),
    }
    y = "latent_node_entropy_coders.y."
    for prefix in [y] if learned is None else [f"{y}coders.0.", f"{y}coders.1."]:
        for layer, shape in {
            "context_prediction": (CONTEXT, N, 5, 5),
            "param_merger_in": (HIDDEN1, CONTEXT + 2 * N, 1, 1),
            "param_merger_out.1": (HIDDEN2, HIDDEN1, 1, 1),
            "param_merger_out.3": (2 * N, HIDDEN2, 1, 1),
        }.items():
            name = f"{prefix}topo_group_context_model.{layer}"
            state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape) * 0.2, torch.randn(shape[0])
    if learned is not None:
        logits = torch.nn.functional.one_hot(torch.as_tensor(learned), 8).permute(0, 3, 1, 2).float()
        state[f"{y}coders.1.topo_group_predictor_cache"] = logits.reshape(1, -1, 2, 2)
    return state


def grouped_file(*models):
    return {f"codec_{i}.entropy_coder.{k}": v for i, model in enumerate(models) for k, v in model.items()}


def reference_gdn(x, state, layer, index, inverse):
    """Slimmable GDN by its formulas: beta = N(bs) N(beta) + N(bb), likewise gamma; N(v) = max(v, b)^2 - p."""
    pedestal = 2.0**-36

    def n(value, minimum=0.0):
        return torch.clamp(value, min=(minimum + pedestal) ** 0.5) ** 2 - pedestal

    c = x.shape[1]
    part = {key: state[layer + key] for key in ("beta", "gamma")}
    scalar = {k: n(state[layer + k][index]) for k in ("gamma_scales", "gamma_biases", "beta_scales", "beta_biases")}
    beta = scalar["beta_scales"] * n(part["beta"][:c], 1e-6) + scalar["beta_biases"]
    gamma = scalar["gamma_scales"] * n(part["gamma"][:c, :c]) + scalar["gamma_biases"]
    norm = F.conv2d(x * x, gamma[:, :, None, None], beta)
    return x * (norm.sqrt() if inverse else norm.rsqrt())


def reference_transform(name, x, state, index):
    """A transform of the original at one width, from layers of torch."""
    prefix, width = EDGES[name][0], WIDTHS[index]
    outs = {
        "g_a": [width, width, width, N],
        "g_s": [width, width, width, 3],
        "h_a": [width, width, N],
        "h_s": [width, 3 * width // 2, 2 * N],
    }[name]
    for i, out in enumerate(outs):
        weight, bias = (state[f"{prefix}{2 * i}.conv.{key}"] for key in ("weight", "bias"))
        if name == "g_s" or (name == "h_s" and i < 2):
            x = F.conv_transpose2d(x, weight[: x.shape[1], :out], bias[:out], 2, 2, 1)
        else:
            stride = 1 if weight.shape[-1] == 3 else 2
            x = F.conv2d(x, weight[:out, : x.shape[1]], bias[:out], stride, weight.shape[-1] // 2)
        if i < len(outs) - 1:
            gdn = name in ("g_a", "g_s")
            layer = f"{prefix}{2 * i + 1}."
            x = reference_gdn(x, state, layer, index, name == "g_s") if gdn else F.leaky_relu(x, 0.01)
    return x


def reference_context(y, prior, state, prefix, tile):
    """Mean and scale of each element, position by position: a tap is seen if its label is lower, a unit of the
    merger if its label is not higher; the prior is always seen."""
    weights = {
        layer: (state[f"{prefix}{layer}.weight"].flatten(2), state[f"{prefix}{layer}.bias"])
        for layer in ("context_prediction", "param_merger_in", "param_merger_out.1", "param_merger_out.3")
    }
    groups, (rows, cols) = len(tile), y.shape[2:]
    map_ = np.tile(tile, (1, rows // tile.shape[1], cols // tile.shape[2]))
    padded = F.pad(y, [2] * 4)
    seen_labels = np.pad(map_, ((0, 0), (2, 2), (2, 2)), constant_values=10**6)
    out = torch.zeros(2 * y.shape[1], rows, cols)
    for r in range(rows):
        for c in range(cols):
            window = padded[0, :, r : r + 5, c : c + 5].reshape(groups, -1, 25)
            around, own = seen_labels[:, r : r + 5, c : c + 5].reshape(groups, 1, 25), map_[:, r, c]

            def per_group(layer, values_of, own=own):
                weight, bias = weights[layer]
                parts = zip(weight.chunk(groups), bias.chunk(groups), own, strict=True)
                return torch.cat([torch.einsum("oik,ik->o", w, values_of(o)) + b for w, b, o in parts])

            def visible(units, label, own=own):
                mask = torch.as_tensor(own <= label).repeat_interleave(len(units) // groups)
                return (units * mask)[:, None]

            context = per_group(
                "context_prediction",
                lambda o, w=window, a=around: (w * torch.as_tensor(a < o)).reshape(-1, 25),
            )
            hidden = per_group(
                "param_merger_in",
                lambda o, u=context, p=prior[0, :, r, c]: torch.cat([visible(u, o), p[:, None]]),
            )
            for layer in ("param_merger_out.1", "param_merger_out.3"):
                units = F.leaky_relu(hidden, 0.01)
                hidden = per_group(layer, lambda o, u=units: visible(u, o))
            out[:, r, c] = hidden
    return out[None]


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 3, 4])
def test_the_original_s_transforms_compute_the_same_at_every_width(tmp_path, index):
    state = original_model(0)
    net = import_file(saved(tmp_path, grouped_file(original_model(1), state)), Choices(codec=1)).net
    assert net.config.widths == net.config.hyper_widths == WIDTHS and net.config.lambda_min == 0.0035
    x, y = torch.rand(1, 3, 64, 64), torch.randn(1, N, 4, 4)
    for name, values in (("g_a", x), ("h_a", y), ("h_s", torch.randn(1, N, 1, 1)), ("g_s", y)):
        close(getattr(net, name)(values, index), reference_transform(name, values, state, index))


@torch.no_grad()
def test_the_original_s_raster_context_computes_the_same(tmp_path):
    state = original_model(0)
    imported = import_file(saved(tmp_path, {f"codec_0.entropy_coder.{k}": v for k, v in state.items()}))
    y, prior = torch.randn(1, N, 4, 6), torch.randn(1, 2 * N, 4, 6)
    prefix = "latent_node_entropy_coders.y.topo_group_context_model."
    scanline = labels("scanline", 1, 4, 6)
    found = MaskedContext(imported.net.context, scanline).parameters(y, prior, 4)
    close(found, reference_context(y, prior, state, prefix, scanline))
    assert any("checkerboard stands in for it" in notice for notice in imported.notices)


@torch.no_grad()
def test_the_original_s_learnt_orders_compute_the_same(tmp_path):
    tile = np.array([[[0, 5], [7, 2]], [[2, 5], [5, 5]], [[7, 0], [0, 7]], [[3, 3], [3, 3]]])
    state = original_model(0, learned=tile)
    net = import_file(saved(tmp_path, grouped_file(state)), Choices(order=1)).net
    assert net.config.grouping_name == "learned" and net.config.grouping_map().stages == 5
    np.testing.assert_array_equal(net.config.grouping_map().tile, np.searchsorted([0, 2, 3, 5, 7], tile))
    y, prior = torch.randn(1, N, 4, 4), torch.randn(1, 2 * N, 4, 4)
    prefix = "latent_node_entropy_coders.y.coders.1.topo_group_context_model."
    close(net.context(y, prior, 4), reference_context(y, prior, state, prefix, tile))


def level_table(rows, valid=True):
    """The original's buffers: one-hot rows over widths, the widest first."""
    state = {"_complexity_param_valid": torch.tensor([valid])}
    controls = ("pgmxy", "pgmyz", "pgmzy", "pgmyx")
    for number, row in enumerate(rows):
        for control, index in zip(controls, row, strict=True):
            one_hot = F.one_hot(torch.tensor(index), 5).float().reshape(1, 1, 5)
            state[f"_complexity_param_all_levels.{number}.{control}"] = one_hot
    return state


@pytest.mark.parametrize(
    ("rows", "valid", "expected"),
    [
        ([(0, 0, 0, 0), (0, 1, 2, 3), (0, 1, 2, 3), (4, 4, 4, 4)], True,
         [(0, 0, 0, 0), (4, 3, 2, 1), (4, 4, 4, 4)]),
        ([(0, 0, 0, 0), (4, 4, 4, 4)], False, []),
        ([(0, 0, 0, 0), (4, 0, 0, 0), (3, 4, 4, 4)], True, []),
    ],
)  # fmt: skip
def test_level_tables_come_along_where_our_rules_allow(tmp_path, rows, valid, expected):
    state = original_model(0) | level_table(rows, valid)
    imported = import_file(saved(tmp_path, grouped_file(state)))
    assert [tuple(level[name] for name in EDGES) for level in imported.net.config.levels] == expected
    left_out = [n for n in imported.notices if "levels that are there twice" in n or "table was left out" in n]
    assert bool(left_out) == valid


# --- files that do not do --------------------------------------------------------------------------------


class Hostile:
    """Unpickling this runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    path = saved(tmp_path, {"g_a.0.weight": Hostile(tmp_path / "ran")})
    result = run(path, "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 1 and "could run code" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out.safetensors").exists()


def changed(**changes):
    state, _ = compressai("mbt2018")
    for key, value in changes.items():
        state[key.replace("__", ".")] = value
    return state


def without(key):
    state, _ = compressai("mbt2018")
    del state[key]
    return state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: without("h_s.2.bias"), "has no tensor h_s.2.bias"),
        (lambda: without("entropy_bottleneck.matrices.3"), "has no tensor entropy_bottleneck.matrices.3"),
        (lambda: changed(h_a__0__weight=torch.zeros(8, 12, 5, 5)), "h_a.0.weight is 8x12x5x5, not 8x12x3x3"),
        (lambda: changed(h_a__0__bias=torch.tensor(1.0)), "h_a.0.bias is a single number, not 8"),
        (lambda: changed(g_a__0__weight=torch.zeros(3)), "has 1 dimensions"),
        (lambda: changed(g_a__0__weight=torch.zeros(5000, 3, 5, 5)), "layers of 5000 channels"),
        (
            lambda: changed(g_s__6__bias=torch.tensor([0.0, float("nan"), 0])),
            "g_s.6.bias holds infinities or NaN",
        ),
        (lambda: changed(g_s__6__bias=torch.tensor([1, 2, 3])), "g_s.6.bias is of type torch.int64"),
        (lambda: changed(g_s__0__bias=torch.zeros(1).expand(8)), "repeats numbers"),
        (lambda: {"conv.weight": torch.zeros(3)}, "other models cannot be imported"),
        (lambda: [torch.zeros(3)], "holds no state dict"),
        (lambda: {"state_dict": {"epoch": 3}}, "holds no state dict"),
        (lambda: grouped_file(original_model(0), original_model(1)), "holds models 0, 1, one per lambda"),
        (lambda: {f"entropy_coder.{EDGES['g_a'][0]}0.conv.weight": torch.zeros(4, 3, 5, 5)}, "has no tensor"),
    ],
)
def test_files_that_do_not_fit_give_one_line(tmp_path, content, message):
    result = run(saved(tmp_path, content()), "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1
    assert "model.pth" in result.stderr and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["missing.pth", "text.pth", "cut.pth", "text.safetensors", "folder.pth"])
def test_files_that_cannot_be_read_give_one_line(tmp_path, name):
    (tmp_path / "folder.pth").mkdir()
    for text in ("text.pth", "text.safetensors"):
        (tmp_path / text).write_text("no weights\n" * 100)
    whole = saved(tmp_path, {"a": torch.zeros(1000)}, "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path / name, "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 1 and name in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--grouping", "2"], 1, "has decoding orders 0, 1"),
        (["--grouping", "3"], 1, "choose with --grouping"),
        (["--grouping", "5"], 2, "--grouping: "),
        (["--codec", "4"], 1, "holds models 0, one per lambda"),
        (["--grouping", "scanline"], 2, "does not repeat with a tile"),
        (["--lambda-range", "0.1", "0.01"], 2, "the lower value comes first"),
    ],
)
def test_choices_that_a_file_does_not_offer(tmp_path, options, code, message):
    path = saved(tmp_path, grouped_file(original_model(0, learned=np.zeros((4, 2, 2), np.int64))))
    result = run(path, "-o", tmp_path / "out.safetensors", *options)
    assert result.exit_code == code and message in result.stderr


def test_a_named_grouping_stands_in_for_the_order_by_position_of_five(tmp_path):
    path = saved(tmp_path, grouped_file(original_model(0, learned=np.zeros((4, 2, 2), np.int64))))
    for options, expected in ((["--grouping", "raster2x2"], "raster2x2"), (["--grouping", 0], "checkerboard")):
        result = run(path, "-o", tmp_path / "out.safetensors", "--overwrite", *options)
        assert result.exit_code == 0 and "decoding order 0 of 2 was imported" in result.stderr
        assert checkpoint.load(tmp_path / "out.safetensors")[0].config.grouping_name == expected


def test_a_model_with_one_decoding_order_has_no_choice_of_it(tmp_path):
    result = run(saved(tmp_path, grouped_file(original_model(0))), "-o", tmp_path / "o.safetensors", "--grouping", 2)
    assert result.exit_code == 1 and "has one decoding order; leave --grouping 2 out" in result.stderr


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mbt2018", ("--codec", 1), "--codec 1 is for files of the original BaSIC"),
        ("mbt2018", ("--grouping", 1), "--grouping 1 is for files of the original BaSIC"),
        ("mbt2018-mean", ("--grouping", "channelwise"), "leave --grouping out"),
    ],
)
def test_choices_that_would_change_nothing_are_refused(tmp_path, name, options, message):
    path, out = saved(tmp_path, compressai(name)[0]), tmp_path / "out.safetensors"
    result = run(path, "-o", out, *options)
    assert result.exit_code == 1 and message in result.stderr and not out.exists()


def test_an_existing_file_is_kept_and_json_says_what_was_made(tmp_path):
    state, _ = compressai("mbt2018")
    path, out = saved(tmp_path, state), tmp_path / "out.safetensors"
    out.write_text("mine")
    assert run(path, "-o", out).exit_code == 1 and out.read_text() == "mine"
    result = run(path, "-o", out, "--overwrite", "--json")
    assert json.loads(result.stdout)["kind"] == "CompressAI mbt2018"
    assert checkpoint.load(out)[0].config.y_channels == 12
