"""The supernet: sizes and costs of the `paper` preset against model-spec, slicing, normalisation, both
presets' steps."""

import itertools
import json
import math
import tomllib
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from small_models import dense_macs, small

from basic_train.grouping import Grouping, tiled
from basic_train.losses import rate_distortion
from basic_train.model.backbones import BACKBONES
from basic_train.model.coded import NoContextError, coder_tables
from basic_train.model.config import NAMES, ModelConfig
from basic_train.model.cost import macs_per_pixel, parameter_counts
from basic_train.model.gdn import BETA_MIN, SlimGDN, non_negative
from basic_train.model.presets import HYPERPRIOR, LITE, PAPER, PRESETS, TINY
from basic_train.model.priors import logistic_bits
from basic_train.model.slimmable import SlimConv2d, SlimConvTranspose2d
from basic_train.model.supernet import QualityGains, Supernet, Widths


def on_meta(config):
    with torch.device("meta"):
        return Supernet(config)


# kMAC/pixel of model-spec §1.5 by width.
PAPER_KMACS = {
    48: (7.056, 0.437, 1.113, 7.056),
    72: (14.526, 0.697, 1.732, 14.526),
    96: (24.624, 0.986, 2.394, 24.624),
    144: (52.704, 1.647, 3.844, 52.704),
    192: (91.296, 2.421, 5.463, 91.296),
}


@pytest.mark.parametrize(("index", "width"), list(enumerate(PAPER_KMACS)))
def test_paper_costs_what_the_original_costs(index, width):
    net = on_meta(PAPER)
    cost = macs_per_pixel(net, Supernet.uniform(index))
    found = [cost[name] / 1000 for name in ("g_a", "h_a", "h_s", "g_s")]
    np.testing.assert_allclose(found, PAPER_KMACS[width], atol=6e-4)
    exact = (37.5 * width + 2.28125 * width**2, 7.921875 * width + 0.0244140625 * width**2)
    assert (cost["g_a"], cost["h_a"]) == pytest.approx(exact, rel=1e-12)
    assert cost["h_s"] == pytest.approx(21.421875 * width + 0.03662109375 * width**2, rel=1e-12)
    assert dense_macs(net.context, index) / 256 == 11168
    assert 0.4 * 11168 < cost["context"] < 0.65 * 11168  # masked weights are not computed


def test_paper_has_the_parameters_of_the_original():
    found = parameter_counts(on_meta(PAPER))
    scalars = 3 * 4 * 5  # per transform with GDN: three layers, four scalars, five widths
    assert found["g_a"] == 2_891_136 + scalars
    assert found["h_a"] == 2_175_552
    assert found["h_s"] == 3_300_192
    assert found["g_s"] == 2_890_947 + scalars
    assert found["context"] == 2_860_928 + 640  # the prior's part of the first merger layer has its own bias
    assert found["z_prior"] == 11_712 - 3 * 192  # no quantiles: the range of z is fixed
    gains = 2 * 8 * 192  # one model for all qualities instead of one per lambda
    assert found["gains"] == gains
    unread = 40  # what the original's total has more than its parts: entries that nothing reads
    assert sum(found.values()) == 14_130_627 - unread + 640 - 3 * 192 + gains


# Parameters of g_a, h_a, h_s and g_s of model-spec §1.5 by width, ascending.
SLICED_PAPER = [
    (356_592, 371_232, 566_136, 356_403),
    (626_376, 599_952, 913_812, 626_187),
    (957_216, 857_472, 1_304_688, 957_027),
    (1_802_064, 1_458_912, 2_216_040, 1_801_875),
    (2_891_136, 2_175_552, 3_300_192, 2_890_947),
]


@pytest.mark.parametrize(("index", "expected"), list(enumerate(SLICED_PAPER)))
def test_sliced_paper_transforms_have_the_parameters_of_the_original(index, expected):
    net = on_meta(PAPER)
    with torch.device("meta"):
        plain = [getattr(net, name).plain(index) for name in ("g_a", "h_a", "h_s", "g_s")]
    assert tuple(sum(p.numel() for p in part.parameters()) for part in plain) == expected


# kMAC/pixel of model-spec §1.4 (rounded there) of g_a, h_a, h_s and g_s at the full and the smallest width.
BACKBONE_KMACS = {
    "cheng2020": ((170.2, 1.48, 3.42, 257.3), (10.9, 0.21, 0.54, 16.9)),
    "elic": ((197.1, 2.42, 5.46, 197.1), (13.7, 0.44, 1.11, 13.7)),
    "usdecoder": ((91.296, 2.421, 5.463, 91.296), (91.296, 2.421, 5.463, 7.056)),
}


@pytest.mark.parametrize("preset", BACKBONE_KMACS)
def test_other_backbones_cost_what_the_originals_cost(preset):
    net = on_meta(PRESETS[preset])
    for widths, expected in zip((net.full, net.uniform(0)), BACKBONE_KMACS[preset], strict=True):
        cost = macs_per_pixel(net, widths)
        found = [cost[name] / 1000 for name in ("g_a", "h_a", "h_s", "g_s")]
        np.testing.assert_allclose(found, expected, atol=0.06, rtol=0.015)


def test_the_hyperprior_has_the_parameters_of_compressai():
    """bmshj2018-hyperprior with 192 channels everywhere, as the original trains it: 5x5 convolutions of g_a, h_a, h_s
    and g_s, and GDN's beta and gamma."""
    found = parameter_counts(on_meta(HYPERPRIOR))
    conv = 192 * 192 * 25 + 192
    gdn = 3 * (192 + 192**2) + 3 * 4 * 5
    assert found["g_a"] == 3 * 192 * 25 + 192 + 3 * conv + gdn
    assert found["g_s"] == 3 * conv + 192 * 3 * 25 + 3 + gdn
    assert found["h_a"] == found["h_s"] == 192 * 192 * 9 + 192 + 2 * conv
    assert found["context"] == 0


def test_scales_of_the_hyperprior_come_from_z_alone():
    torch.manual_seed(0)
    net = Supernet(HYPERPRIOR.changed(small(HYPERPRIOR)))
    z, y = torch.randn(1, 16, 1, 1), torch.randn(1, 16, 4, 4)
    prior = net.h_s(z, 4)
    parameters = net.context(y, prior, 4)
    assert torch.equal(parameters[:, 0::2], torch.zeros_like(y)) and torch.equal(parameters[:, 1::2], prior)
    assert torch.equal(net.h_a(y, 2), net.h_a(-y, 2))


@pytest.mark.parametrize("preset", ["hyperprior", "hyperprior-slimmable"])
def test_models_without_context_are_not_coded(preset):
    net = Supernet(PRESETS[preset].changed(small(PRESETS[preset])))
    with pytest.raises(NoContextError, match="has no context model"):
        coder_tables(net)


def test_latents_that_go_with_the_width():
    config = PRESETS["hyperprior-slimmable"]
    net = Supernet(config.changed(small(config))).eval()
    x, quality = torch.rand(2, 3, 64, 64), torch.tensor([0.0, 1.0])
    with torch.no_grad():
        for index, channels in enumerate(net.config.latents):
            assert net.latents(x, quality, net.uniform(index)).y_hat.shape == (2, channels, 4, 4)
        with pytest.raises(ValueError, match="all four must be equal"):
            net(x, quality, Widths(0, 0, 1, 0))


def test_a_table_of_levels_is_of_one_configuration():
    config = replace(TINY, levels=[{"g_a": 0, "h_a": 0, "h_s": 0, "g_s": 0}, {"g_a": 2, "h_a": 2, "h_s": 2, "g_s": 2}])
    assert config.changed({"widths": [16, 24, 32], "lambda_max": 0.14}).levels == config.levels  # as they were
    assert config.changed({"widths": [16, 24, 48]}).levels == []


def test_lite_is_slim_enough_for_its_levels():
    net = on_meta(LITE)
    cheap, full = (sum(macs_per_pixel(net, net.uniform(i)).values()) for i in (0, len(LITE.widths) - 1))
    assert cheap <= full / 10
    assert net.g_s.macs(0) / 256 <= 4000 and net.g_s.macs(4) / 256 <= 40_000


def test_paper_trains_a_step_and_evaluates():
    torch.manual_seed(0)
    net = Supernet(PAPER)
    x, quality = torch.rand(1, 3, 64, 64), torch.tensor([0.5])
    lambdas = PAPER.lambda_of(quality)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loss = rate_distortion(net(x, quality, Widths(4, 3, 2, 4)), x, lambdas).loss
    loss.backward()
    optimizer.step()
    parts = {name.split(".")[0] for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert torch.isfinite(loss) and parts == set(parameter_counts(net))
    net.eval()
    with torch.no_grad():
        for index in range(5):
            output = net(x, quality, net.uniform(index))
            assert output.x_hat.shape == x.shape and torch.isfinite(output.x_hat).all()
            assert output.y_bits > 0 and output.z_bits > 0


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["g_a", "h_a", "h_s", "g_s"])
def test_plain_transforms_equal_the_supernet_at_every_width(preset, name):
    torch.manual_seed(1)
    config = PRESETS[preset].changed(small(PRESETS[preset]))
    net = Supernet(config)
    ins = {"g_a": 64, "h_a": 4, "h_s": 1, "g_s": 4}
    channels = {
        "g_a": [3] * len(config.widths),
        "h_a": config.y_widths,
        "h_s": config.z_widths,
        "g_s": config.y_widths,
    }
    with torch.no_grad():
        for index in range(len(config.widths)):
            slim = getattr(net, name)
            x = torch.randn(1, channels[name][index], ins[name], ins[name])
            gain = [torch.rand(1, config.y_channels, 1, 1)] if config.linear_path and name in ("g_a", "g_s") else []
            torch.testing.assert_close(slim.plain(index)(x, *gain), slim(x, index, *gain), atol=1e-5, rtol=1e-4)


def test_every_combination_of_widths_runs():
    net = Supernet(TINY).eval()
    x, quality = torch.rand(2, 3, 64, 128), torch.tensor([0.0, 1.0])
    with torch.no_grad():
        for widths in itertools.product(range(3), repeat=4):
            assert net(x, quality, Widths(*widths)).x_hat.shape == x.shape


@pytest.mark.parametrize("layer", [SlimConv2d((3, 5), (4, 6), 3), SlimConvTranspose2d((3, 5), (4, 6))])
def test_wider_channels_never_touch_a_narrow_width(layer):
    x = torch.randn(1, 3, 8, 8)
    before = layer(x, 0)
    with torch.no_grad():
        layer.bias[4:] += 1
        if isinstance(layer, SlimConvTranspose2d):
            layer.weight[3:] += 1
            layer.weight[:, 4:] += 1
        else:
            layer.weight[4:] += 1
            layer.weight[:, 3:] += 1
    assert torch.equal(layer(x, 0), before)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_the_formula_of_the_specification(inverse):
    torch.manual_seed(2)
    gdn = SlimGDN((2, 3), inverse)
    with torch.no_grad():
        for parameter in gdn.parameters():
            parameter.add_(torch.rand_like(parameter))
    x = torch.randn(1, 3, 4, 4)

    def n(value, minimum=0.0):
        return max(value.item(), (minimum + 2**-36) ** 0.5) ** 2 - 2**-36

    for index, channels in enumerate((2, 3)):
        part = x[:, :channels]
        expected = torch.empty_like(part)
        bs, bb, gs, gb = (
            n(scalar[index]) for scalar in (gdn.beta_scales, gdn.beta_biases, gdn.gamma_scales, gdn.gamma_biases)
        )
        for i in range(channels):
            norm = bs * n(gdn.beta[i], 1e-6) + bb
            for j in range(channels):
                norm = norm + (gs * n(gdn.gamma[i, j]) + gb) * part[:, j] ** 2
            expected[:, i] = part[:, i] * (norm.sqrt() if inverse else norm.rsqrt())
        torch.testing.assert_close(gdn(part, index), expected)
        torch.testing.assert_close(gdn.plain(index)(part), expected)


def test_gdn_starts_at_beta_one_and_a_tenth_of_the_identity():
    for index, channels in enumerate((2, 3)):
        beta, gamma = SlimGDN((2, 3)).folded(index)
        torch.testing.assert_close(beta, torch.ones(channels))
        torch.testing.assert_close(gamma, 0.1 * torch.eye(channels))


def test_non_negative_is_bounded_and_lets_gradients_raise_it():
    raw = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    values = non_negative(raw, BETA_MIN)
    torch.testing.assert_close(values, torch.tensor([1e-6, 1e-6, 4.0]))
    (-values).sum().backward()
    assert (raw.grad < 0).all()  # a descent step raises all three
    raw.grad = None
    non_negative(raw, BETA_MIN).sum().backward()
    torch.testing.assert_close(raw.grad, torch.tensor([0.0, 0.0, 4.0]))


@pytest.mark.parametrize(
    ("inverse", "operators"), [(False, {"Mul", "Conv", "Sqrt", "Div"}), (True, {"Mul", "Conv", "Sqrt"})]
)
def test_plain_gdn_exports_to_four_simple_operators(tmp_path, inverse, operators):
    gdn = SlimGDN((4, 6), inverse).plain(1).eval()
    path = tmp_path / "gdn.onnx"
    torch.onnx.export(gdn, (torch.randn(1, 6, 8, 8),), path, dynamo=True, opset_version=20, verbose=False)
    assert {node.op_type for node in onnx.load(path).graph.node} == operators


def test_moving_and_casting_never_changes_the_grouping():
    learned = np.random.default_rng(0).integers(0, 5, (2, 2, 2))
    config = ModelConfig.from_json(TINY.to_json() | {"grouping": learned.tolist(), "grouping_name": "learned"})
    net = Supernet(config)
    before = net.context.grouping.tile.copy()
    for moved in (
        net.to("cpu"),
        net.float(),
        net.double(),
        net.half(),
        net.to(memory_format=torch.channels_last),
    ):
        np.testing.assert_array_equal(moved.context.grouping.tile, before)
    net.load_state_dict(Supernet(TINY).state_dict())
    np.testing.assert_array_equal(net.context.grouping.tile, before)
    np.testing.assert_array_equal(before, Grouping("learned", learned).tile)


def test_configurations_know_all_backbones():
    assert set(NAMES["backbone"]) == set(BACKBONES)


def test_paper_with_twelve_groups_says_what_does_not_divide():
    with pytest.raises(ValueError, match="hidden1=640 does not divide into 12 channel groups"):
        Supernet(replace(PAPER, grouping_name="elic", grouping=tiled("elic", 12).tile.tolist()))


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_survive_json(name):
    config = PRESETS[name]
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.grouping_map().stages == (8 if config.context == "grouped" else 1)


def test_configurations_of_older_checkpoints_are_read():
    values = json.loads(json.dumps(LITE.to_json()))
    for newer in ("analysis_widths", "latents", "context"):
        values.pop(newer)
    assert ModelConfig.from_json(values) == replace(LITE, analysis_widths=())


@pytest.mark.parametrize(
    ("changes", "message"),
    {
        "lambda_min=0": "must be above 0",
        'lambda_min="x"': "lambda_min='x': must be a number",
        "lambda_min=0.5": "the first not above the second",
        "lambda_max=inf": "lambda_max=inf: must be a number",
        "y_channels=0": "y_channels: 0 must be a whole number, at least 1",
        "y_channels=800": "a linear_path has 768 components",
        "z_channels=8.5": "z_channels: 8.5 must be a whole number",
        "quality_anchors=1": "at least 2",
        "context_kernel=4": "an odd side",
        'context_slope="x"': "context_slope='x': must be a number",
        "hyper_widths=[0, 0, 0]": "hyper_widths: 0 must be a whole number",
        "widths=[16.5, 24, 32]": "widths: 16.5 must be a whole number",
        "widths=[32, 16, 8]": r"widths=\[32, 16, 8\]: must not fall",
        "priors=[16, 24]": "as many values as `widths` has",
        'scale_parameter="foo"': "unknown scale_parameter 'foo'; known: log, linear",
        "quarter_blocks=-1": "at least 0",
        "linear_path=1": "must be true or false",
        'preset="lite"': "name another with --preset",
        "widths=[1, 2, 3]": "widths: 1 must be a whole number, at least 2",
        "widths=5": "widths=5: must be a list",
        "levels=5": "what `basic-train levels` finds",
        'backbone="paper"': "backbone 'paper' has no linear_path",
    }.items(),
)
def test_impossible_models_say_why(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.changed(tomllib.loads(changes))


def test_without_a_context_model_the_prior_is_the_scale_of_y():
    with pytest.raises(ValueError, match="as many priors as y_channels"):
        HYPERPRIOR.changed({"y_channels": 128})


def test_quality_gains_are_reciprocal_at_first_and_monotone():
    gains = QualityGains(4, 8, 100.0)
    quality = torch.linspace(0, 1, 11)
    encode, decode = gains.encode(quality), gains.decode(quality)
    torch.testing.assert_close(encode * decode, torch.ones(11, 4, 1, 1))
    assert (encode.diff(dim=0) > 0).all()
    torch.testing.assert_close(encode[-1, 0, 0, 0] / encode[0, 0, 0, 0], torch.tensor(10.0))


def test_logistic_bits_are_those_of_the_distribution() -> None:
    values, sigma = torch.tensor([0.0, 1.0, -1.0, 3.0]), torch.tensor([0.3, 1.0, 1.0, 2.0])

    def below(edges: torch.Tensor) -> torch.Tensor:
        return (1 + torch.tanh(edges * math.pi / (2 * math.sqrt(3) * sigma))) / 2

    expected = -torch.log2(below(values + 0.5) - below(values - 0.5))
    assert torch.allclose(logistic_bits(values, sigma), expected, atol=1e-4)
    assert torch.isfinite(logistic_bits(torch.tensor([1e4]), torch.tensor([0.11]))).all()


def test_the_context_model_reads_what_the_decoder_has() -> None:
    """Its second pass sees y less the first pass's means in whole numbers, and the bits are those of whole symbols."""
    net = Supernet(TINY)
    y = 3 * torch.randn(2, TINY.y_channels, 4, 4)
    seen = []

    def context(read: torch.Tensor, prior: torch.Tensor, index: int) -> torch.Tensor:
        seen.append(read.detach())
        return net.context(read, prior, index)

    prior = torch.randn(2, TINY.priors[-1], 4, 4)
    mean, bits = net.means_and_rate(context, y, prior, 2)
    first = net.context(y, prior, 2)[:, 0::2]
    symbols = seen[1] - first
    assert torch.equal(seen[0], y) and (symbols - symbols.round()).abs().max() < 1e-4
    parameters = net.context(seen[1], prior, 2)
    whole = torch.floor(y - parameters[:, 0::2] + 0.5)
    expected = net.bits(whole, net.sigma(parameters[:, 1::2])).flatten(1).sum(1)
    assert torch.allclose(bits, expected, rtol=1e-5) and torch.equal(mean, parameters[:, 0::2])
