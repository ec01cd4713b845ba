"""A bundle in which another encoder took the place of a level's."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from basic_export.cli import main
from basic_export.copies import trim
from basic_export.errors import ExportError
from basic_export.export import Report
from basic_export.graphs import initializers, load_inline
from basic_export.lean import round_weights, silence_least
from basic_export.levels import choose_levels
from basic_export.options import Options
from basic_export.photos import bundled_photo
from basic_export.replace_encoder import replace_encoder
from basic_runtime import container
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import create_backend
from basic_train import checkpoint
from basic_train.model import units
from basic_train.model.supernet import Supernet
from basic_train.narrow import narrow

from .models import Exported


@pytest.fixture(scope="module")
def trained(tiny_net: Supernet) -> Supernet:
    """The full width, of which g_a and h_a were trained further, as it were; weights that float16 holds exactly."""
    net = narrow(tiny_net, choose_levels(tiny_net, 8)[7], {})
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith(("g_a.", "h_a.")) and parameter.ndim > 1:
                parameter += 0.02 * parameter.std(correction=0) * torch.randn_like(parameter)
                parameter.copy_(parameter.half().float())
    return net


@pytest.fixture(scope="module")
def report(
    exported: Exported, trained: Supernet, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    path = tmp_path_factory.mktemp("bundle") / "better"
    return replace_encoder(exported.path, 7, trained, path, Options(Bundle(exported.path).name, photos=photo_folder))


def test_only_the_encoder_is_another(exported: Exported, report: Report) -> None:
    old, new = Bundle(exported.path), Bundle(report.path)
    assert (new.name, new.model_id) == (old.name, old.model_id) == (report.name, report.model_id)
    assert sorted(graph["transform"] for graph in report.graphs.values()) == ["g_a", "h_a"]
    assert len(report.checks) == 2 and all(check.passed for check in report.checks)
    last = new.manifest.levels[7]
    assert {last.g_a, last.h_a} == set(report.graphs) and new.graph(last.g_a).formats is not None
    first = old.manifest.levels[7]
    shared = [k for k, level in enumerate(old.manifest.levels) if {level.g_a, level.h_a} & {first.g_a, first.h_a}]
    assert list(report.encoder_percent) == shared and 1 < len(shared) < 8
    for number, (before, after) in enumerate(zip(old.manifest.levels, new.manifest.levels, strict=True)):
        assert (after.g_a == last.g_a, after.h_a == last.h_a) == (before.g_a == first.g_a, before.h_a == first.h_a)
        assert (before.encode_macs_per_pixel == after.encode_macs_per_pixel) or number in shared
        assert before.decode_macs_per_pixel == after.decode_macs_per_pixel
        assert old.graph(before.g_s).post_filter == new.graph(after.g_s).post_filter
        assert old.graph(before.g_s).gradient_formats == new.graph(after.g_s).gradient_formats
    assert all(check.error is None for check in Codec(new, threads=1).verify())


def test_its_files_decode_with_the_old_bundle_to_the_same_picture(exported: Exported, report: Report) -> None:
    photo = bundled_photo("astronaut")[:100, :150]
    old, new = (Codec(path, threads=1) for path in (exported.path, report.path))
    data, before = (codec.encode(photo, quality=60, level=7) for codec in (new, old))
    assert container.read(data).data != container.read(before).data
    for receiver in (None, 0, 4):
        np.testing.assert_array_equal(new.decode(data, level=receiver), old.decode(data, level=receiver))
    for level in set(range(8)) - set(report.encoder_percent):
        assert old.encode(photo, quality=60, level=level) == new.encode(photo, quality=60, level=level)


def test_its_latents_are_those_of_its_net(report: Report, trained: Supernet) -> None:
    bundle, photo = Bundle(report.path), bundled_photo("coffee")[:64, :128]
    x, quality = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255, torch.ones(1)
    with torch.no_grad():
        wanted = trained.analyse(x, quality, trained.full.g_a).numpy()
        gain = trained.gains.encode(quality).numpy()
    path = bundle.graph_path(bundle.manifest.levels[7].g_a)
    engine = create_backend("onnxruntime").load(path, external_data=bundle.weights_folder, strict=False)
    found = np.asarray(engine.run({"x": x.numpy(), "gain": gain})["y"])
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()


def test_the_level_of_a_net_of_several_widths_is_in_its_table(
    exported: Exported, tiny_net: Supernet, photo_folder: Path, tmp_path: Path
) -> None:
    """With the encoder that it had, a bundle is as it was, and takes as many bits."""
    net = copy.deepcopy(tiny_net)
    net.config = replace(net.config, levels=[level._asdict() for level in choose_levels(tiny_net, 8)])
    options = Options(Bundle(exported.path).name, photos=photo_folder, verify=False)
    same = replace_encoder(exported.path, 2, net, tmp_path / "same", options)
    old, new = Bundle(exported.path).manifest.levels, Bundle(same.path).manifest.levels
    assert [level.encode_macs_per_pixel for level in old] == [level.encode_macs_per_pixel for level in new]
    assert 2 in same.encoder_percent and all(abs(percent) < 0.2 for percent in same.encoder_percent.values())


def test_h_a_may_stay(exported: Exported, trained: Supernet, photo_folder: Path, tmp_path: Path) -> None:
    options = Options(Bundle(exported.path).name, photos=photo_folder)
    report = replace_encoder(exported.path, 7, trained, tmp_path / "new", options, keep_hyper=True)
    old, new = Bundle(exported.path), Bundle(report.path)
    for before, after in zip(old.manifest.levels, new.manifest.levels, strict=True):
        hyper = [bundle.graph_path(level.h_a).read_bytes() for bundle, level in ((old, before), (new, after))]
        assert len(hyper[0]) == len(hyper[1])
        assert old.graph(before.h_a).macs_per_pixel == new.graph(after.h_a).macs_per_pixel
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for level in set(range(8)) - set(report.encoder_percent):
        assert Codec(old).encode(pixels, level=level) == Codec(new).encode(pixels, level=level)
    assert Codec(old).encode(pixels, level=7) != Codec(new).encode(pixels, level=7)


def test_the_least_useful_units_go_first(tiny_net: Supernet) -> None:
    """A unit that adds next to nothing goes before any other, and what goes is no more than the share."""
    net, pictures = copy.deepcopy(tiny_net), [torch.rand(1, 3, 64, 64)]
    name, layer = next(item for item in units.layers(net).items() if item[0].startswith("g_a."))
    with torch.no_grad():
        layer.out.weight[:, 2] *= 1e-4
    layers = [layer for key, layer in units.layers(net).items() if key.startswith("g_a.")]
    weights = sum(layer.into.weight.numel() + layer.out.weight.numel() for layer in layers)
    one = layer.into.weight[2].numel() + layer.out.weight[:, 2].numel()
    assert silence_least(net, net.full, pictures, 0.5 * one / weights) == 0
    assert silence_least(net, net.full, pictures, 1.5 * one / weights) == 1
    assert not layer.out.weight[:, 2].any() and not layer.into.weight[2].any()
    with torch.no_grad():
        whole, lean = (each.analyse(pictures[0], torch.ones(1), 2) for each in (tiny_net, net))
    assert (whole - lean).abs().max() < 0.1
    before = sum(
        int(values.sum()) for key, values in units.live_units(net, pictures, [net.full]).items() if "g_a" in key
    )
    gone = silence_least(net, net.full, pictures, 0.5)
    idle = sum(int((layer.into.bias == -1).sum()) for layer in layers)
    assert 2 < gone < before and idle == gone + 1


def test_weights_are_rounded_to_bits(tiny_net: Supernet) -> None:
    net = copy.deepcopy(tiny_net)
    round_weights(net, 3)
    before, after = dict(tiny_net.named_parameters()), dict(net.named_parameters())
    for name, values in after.items():
        if name.startswith(("g_a.", "h_a.")) and not name.startswith("g_a.path") and values.ndim > 1:
            fraction = torch.frexp(values)[0] * 16
            assert torch.equal(fraction, fraction.round())
            assert (values - before[name]).abs().le(before[name].abs() / 16).all() and not torch.equal(
                values, before[name]
            )
        else:
            assert torch.equal(values, before[name])


def test_weights_are_cut_to_what_graphs_take(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    names = sorted({level.g_a for level in bundle.manifest.levels}, key=lambda name: bundle.graph(name).width)
    models = [load_inline(bundle.graph_path(name), bundle.weights_folder) for name in names]

    def sizes() -> list[int]:
        return [sum(values.nbytes for values in initializers(model).values()) for model in models]

    before = sizes()
    trim(models)
    assert sizes() == before  # the widest takes all
    trim(models[:1])
    assert sizes()[0] < 0.8 * before[0] and sizes()[1:] == before[1:]


def test_nets_that_do_not_belong_are_refused(
    exported: Exported, trained: Supernet, tiny_net: Supernet, tmp_path: Path
) -> None:
    def refused(number: int, net: Supernet, message: str) -> None:
        with pytest.raises(ExportError, match=message):
            replace_encoder(exported.path, number, net, tmp_path / "bundle", Options("tiny-1", verify=False))
        assert not list(tmp_path.iterdir())

    refused(8, trained, "is for level 8, and .* has levels 0 to 7")
    refused(7, tiny_net, "has several widths and a table of 0 levels, where .* has 8: search its levels")
    for part, message in (("gains", "has other gains"), ("g_s", "other pictures than level 7 of .* by .* of 255")):
        other = copy.deepcopy(trained)
        with torch.no_grad():
            for parameter in other.get_submodule(part).parameters():
                parameter.mul_(1.1)
        refused(7, other, message)
    refused(2, trained, "makes other pictures than level 2 of")
    wide = narrow(tiny_net, choose_levels(tiny_net, 8)[1]._replace(g_a=2), {})
    refused(1, wide, "with it level 3 costs .* multiplications per pixel, level 2 .*: each level must cost more")


def test_the_command(
    exported: Exported, trained: Supernet, tiny_checkpoint: Path, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "trained.safetensors"
    checkpoint.save(path, trained.state_dict(), trained.config, {})
    target = tmp_path / "bundle"

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(item) for item in (*arguments, "-o", target, "--data", photo_folder)])
        return result.exit_code, result.output

    given = ("--encoder", f"7={path}")
    for arguments, message in [
        ((exported.path, "--encoder", path), "is not NUMBER=FILE, like 0=level0.safetensors"),
        ((exported.path, *given, "--name", "tiny-2"), "is the same model, which has its name: leave out --name"),
        ((exported.path, *given, "--level", f"0={path}"), "--level brings an encoder: give --encoder alone, or in a"),
        ((exported.path, "--prune", "0.1"), "--prune is about --encoder"),
        ((tiny_checkpoint, "--weight-bits", "6"), "--weight-bits is about --encoder"),
        ((exported.path, "--keep-hyper"), "--keep-hyper is about --encoder"),
        ((exported.path, *given, "--grouping", "x"), "--grouping is about exporting a checkpoint"),
        ((tiny_checkpoint, *given), "--encoder replaces an encoder of a bundle, which"),
        ((exported.path, "--encoder", f"7={tmp_path / 'none'}"), "none: not a readable checkpoint"),
        ((exported.path, "--encoder", f"9={path}"), f"{path}: is for level 9, and"),
    ]:
        code, output = run(*arguments)
        assert code != 0 and message in " ".join(output.split()), output
        assert not target.exists()
    code, output = run(exported.path, *given, "--prune", "0.3", "--weight-bits", "6", "--no-verify", "--json")
    assert code == 0, output
    values = json.loads(output[output.index("{") :])
    assert values["model"]["name"] == Bundle(exported.path).name and "7" in values["encoder_percent"]
    assert 0 < values["silenced"] <= values["pruned"]["units"]
    code, output = run(exported.path, *given, "--no-verify", "--overwrite")
    assert code == 0 and "% of the bits at equal distortion with the new encoder" in " ".join(output.split()), output
