"""A bundle with a level that is a net of its own."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from basic_export.cli import main
from basic_export.errors import ExportError
from basic_export.export import Options, Report, export_bundle
from basic_export.levels import choose_levels
from basic_export.own_levels import place_levels
from basic_export.photos import bundled_photo, calibration_latents, calibration_photos
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.quality import quality_of_step
from basic_train import checkpoint
from basic_train.model.coded import code_picture, coder_tables
from basic_train.model.narrow import narrow
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet

from .models import unfiltered

SMALLER = {"quarter_blocks": 0, "contexts": [{"context": 12, "hidden1": 16, "hidden2": 12}]}


@pytest.fixture(scope="module")
def own(tiny_net: Supernet) -> Supernet:
    """Level 0, smaller and then trained further, as it were; weights that float16 holds exactly."""
    net = narrow(tiny_net, choose_levels(tiny_net, 4)[0], SMALLER, [torch.rand(1, 3, 64, 64)])
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if not name.startswith(("gains.", "z_prior.")):
                parameter += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
                parameter.copy_(parameter.half().float())
    return net


@pytest.fixture(scope="module")
def report(tiny_net: Supernet, own: Supernet, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("bundle") / "own"
    return export_bundle(tiny_net, path, Options("own", levels=4, photos=photo_folder), own={0: own})


def test_the_level_has_graphs_of_its_own_and_the_others_those_of_the_supernet(report: Report) -> None:
    assert [level.own for level in report.levels] == [True, False, False, False]
    assert all(check.passed for check in report.checks)
    first, second = Bundle(report.path).manifest.levels[:2]
    assert first.decode_macs_per_pixel < second.decode_macs_per_pixel
    assert not {first.g_a, first.h_a, first.g_s} & {second.g_a, second.h_a, second.g_s}
    assert first.entropy == 0 and second.entropy == 1


def test_its_picture_is_that_of_its_net(report: Report, own: Supernet, photo_folder: Path) -> None:
    integer = quantise(own, 0, calibration_latents(own, calibration_photos(photo_folder), [own.full]))
    photo, codec = bundled_photo("coffee")[100:250, 200:330], Codec(report.path, "onnxruntime", threads=1)
    data = codec.encode(photo, quality=quality_of_step(40), level=0)
    coded = code_picture(own, integer, coder_tables(own), photo, 40, own.full)
    assert np.mean(codec.decode(unfiltered(data)) == coded.pixels) > 0.999


def test_files_of_every_level_decode_at_every_level(report: Report) -> None:
    photo = bundled_photo("astronaut")[:100, :150]
    for engine in ("auto", "onnxruntime"):
        codec = Codec(report.path, engine, threads=1)
        for level in range(4):
            data = codec.encode(photo, 60, level)
            for receiver in range(4):
                assert codec.decode(data, receiver).shape == photo.shape


def test_a_level_in_the_middle_may_be_one(tiny_net: Supernet) -> None:
    second = narrow(tiny_net, choose_levels(tiny_net, 4)[1], {})
    nets, levels = place_levels(tiny_net, 4, {1: second})
    assert nets == [tiny_net, second] and [level.net for level in levels] == [0, 1, 0, 0]


def test_nets_that_do_not_belong_are_refused(tiny_net: Supernet, own: Supernet) -> None:
    def refused(nets: dict[int, Supernet], message: str) -> None:
        with pytest.raises(ExportError, match=message):
            place_levels(tiny_net, 4, nets)

    refused({3: own}, "level 3 cannot be a net of its own: the levels are 0 to 3, and the last is")
    refused({0: tiny_net}, "the net of level 0 must have one width")
    refused({2: own}, "level 2 costs .* kMAC per pixel, level 1 .*: a level must cost more than the one before")
    for part in ("gains", "z_prior"):
        other = copy.deepcopy(own)
        with torch.no_grad():
            next(other.get_submodule(part).parameters()).mul_(1.01)
        refused({0: other}, f"the net of level 0 has other weights of {part}, .* --freeze gains,z_prior")
    other = copy.deepcopy(own)
    object.__setattr__(other.config, "density", "gaussian")
    refused({0: other}, "the net of level 0 has density=gaussian, the supernet logistic")


def test_the_command_takes_the_level_from_a_checkpoint(
    tiny_checkpoint: Path, own: Supernet, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    checkpoint.save(path, own.state_dict(), own.config, {})
    arguments = [tiny_checkpoint, "--levels", 4, "-o", tmp_path / "bundle", "--photos", photo_folder, "--no-verify"]

    def run(*levels: str) -> tuple[int, str]:
        given = [str(item) for item in (*arguments, *(part for level in levels for part in ("--level", level)))]
        result = CliRunner().invoke(main, given)
        return result.exit_code, " ".join(result.output.split())

    for levels, message in [
        (("0",), "'0' is not NUMBER=FILE, like 0=level0.safetensors"),
        ((f"0={path}", f"0={path}"), "level 0 is given twice"),
        ((f"3={path}",), "level 3 cannot be a net of its own"),
        ((f"0={tmp_path / 'none'}",), "none: not a readable checkpoint"),
    ]:
        code, output = run(*levels)
        assert code != 0 and message in output, output
        assert not (tmp_path / "bundle").exists()
    code, output = run(f"0={path}")
    assert code == 0 and "0 (own net)" in output, output
