"""A bundle in which a net of its own took the place of a level."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from basic_export.cli import main
from basic_export.errors import ExportError
from basic_export.export import Report
from basic_export.levels import choose_levels
from basic_export.options import Options
from basic_export.photos import bundled_photo, calibration_latents, calibration_photos
from basic_export.replace_level import replace_level
from basic_runtime import container
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.quality import quality_of_step
from basic_train import checkpoint
from basic_train.model.coded import coder_tables
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet
from basic_train.narrow import narrow

from .coding import code_picture
from .models import Exported, unfiltered

SMALLER = {"quarter_blocks": 0, "contexts": [{"context": 12, "hidden1": 16, "hidden2": 12}]}


@pytest.fixture(scope="module")
def own(tiny_net: Supernet) -> Supernet:
    """Level 0, smaller and then trained further, as it were; weights that float16 holds exactly."""
    net = narrow(tiny_net, choose_levels(tiny_net, 8)[0], SMALLER, [torch.rand(1, 3, 64, 64)])
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if not name.startswith(("gains.", "z_prior.")):
                parameter += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
                parameter.copy_(parameter.half().float())
    return net


@pytest.fixture(scope="module")
def report(exported: Exported, own: Supernet, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("bundle") / "own"
    return replace_level(exported.path, 0, own, path, Options("tiny-2", photos=photo_folder))


def test_the_new_bundle_has_the_level_and_all_that_the_old_one_had(exported: Exported, report: Report) -> None:
    old, new = Bundle(exported.path), Bundle(report.path)
    assert (new.name, report.name) == ("tiny-2", "tiny-2") and new.model_id not in (old.model_id, "")
    assert all(check.passed for check in report.checks) and len(report.graphs) == 3 + 9
    first, levels = new.manifest.levels[0], old.manifest.levels
    assert first.entropy_variant == len(old.manifest.entropy_variants) == len(new.manifest.entropy_variants) - 1
    assert first.decode_macs_per_pixel < levels[0].decode_macs_per_pixel
    assert new.graph(first.g_s).formats is not None and new.graph(first.g_s).gradient_formats is not None
    for before, after in zip(levels[1:], new.manifest.levels[1:], strict=True):
        assert before.entropy_variant == after.entropy_variant
        assert before.encode_macs_per_pixel == after.encode_macs_per_pixel
        assert old.graph(before.g_s).post_filter == new.graph(after.g_s).post_filter
        assert old.graph(before.g_a).formats == new.graph(after.g_a).formats
    assert all(check.error is None for check in Codec(new, threads=1).verify())


def test_other_levels_make_the_files_that_they_made(exported: Exported, report: Report) -> None:
    photo, paths = bundled_photo("chelsea")[:130, :200], (exported.path, report.path)
    before, after = (container.read(Codec(path, threads=1).encode(photo, quality=70, level=3)) for path in paths)
    assert (before.data, before.header.yhat_crc) == (after.data, after.header.yhat_crc)
    assert before.header.model_id != after.header.model_id


def test_files_of_the_old_bundle_decode_as_they_did(exported: Exported, report: Report) -> None:
    photo = bundled_photo("astronaut")[:100, :150]
    old, new = (Codec(path, threads=1) for path in (exported.path, report.path))
    for level in (0, 1, 7):
        for effort in (0, 1):
            data = old.encode(photo, quality=60, level=level, effort=effort)
            for receiver in (None, 0, 4):
                np.testing.assert_array_equal(new.decode(data, level=receiver), old.decode(data, level=receiver))


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
        for level in (0, 1, 7):
            data = codec.encode(photo, quality=60, level=level)
            for receiver in (0, 1, 7):
                assert codec.decode(data, level=receiver).shape == photo.shape


def test_a_second_level_keeps_what_the_first_bundle_decoded(
    exported: Exported, report: Report, tiny_net: Supernet, photo_folder: Path, tmp_path: Path
) -> None:
    net = narrow(tiny_net, choose_levels(tiny_net, 8)[1], {})
    options = Options("tiny-3", photos=photo_folder, verify=False)
    path = replace_level(report.path, 1, net, tmp_path / "two", options).path
    photo, newest = bundled_photo("astronaut")[:64, :64], Codec(path, threads=1)
    assert len(newest.bundle.manifest.earlier) == 2
    for older in (Codec(exported.path, threads=1), Codec(report.path, threads=1)):
        for level in (0, 1):
            data = older.encode(photo, quality=60, level=level)
            np.testing.assert_array_equal(newest.decode(data), older.decode(data))


def test_nets_that_do_not_belong_are_refused(
    exported: Exported, report: Report, tiny_net: Supernet, own: Supernet, tmp_path: Path
) -> None:
    def refused(number: int, net: Supernet, message: str, source: Path = exported.path, name: str = "new") -> None:
        with pytest.raises(ExportError, match=message):
            replace_level(source, number, net, tmp_path / "bundle", Options(name, verify=False))
        assert not list(tmp_path.iterdir())

    refused(7, own, "has levels 0 to 7, of which all but the last can be nets of their own")
    refused(0, tiny_net, "has 3 widths, not one: make a level of it with basic-train narrow")
    refused(2, own, "with it level 2 costs .* multiplications per pixel, level 1 .*; narrow it further, or replace")
    refused(0, own, "is called tiny-1: a bundle with another level needs another --name", name="tiny-1")
    for part in ("gains", "z_prior"):
        other = copy.deepcopy(own)
        with torch.no_grad():
            for parameter in other.get_submodule(part).parameters():
                parameter.mul_(1.1)
        refused(0, other, "has other gains or another prior of z than the bundle, .* --freeze gains,z_prior")
    with pytest.raises(ValueError, match="name='a name too long .*': must be 1 to 15 letters"):
        Options("a name too long for files")


def test_the_command(
    exported: Exported, own: Supernet, tiny_checkpoint: Path, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    checkpoint.save(path, own.state_dict(), own.config, {})
    target = tmp_path / "bundle"

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(item) for item in (*arguments, "-o", target, "--data", photo_folder)])
        return result.exit_code, " ".join(result.output.split())

    named = ("--name", "tiny-2")
    for arguments, message in [
        ((exported.path, "--level", "0", *named), "'0' is not NUMBER=FILE, like 0=level0.safetensors"),
        ((exported.path, "--level", f"0={path}"), "is another model: give it a name with --name"),
        ((exported.path, "--level", f"0={path}", "--levels", 8, *named), "--levels is about exporting a checkpoint"),
        ((tiny_checkpoint, "--level", f"0={path}", *named), "replaces a level of a bundle, which"),
        ((exported.path, "--level", f"7={path}", *named), "has levels 0 to 7, of which all but the last"),
        ((exported.path, "--level", f"0={tiny_checkpoint}", *named), f"{tiny_checkpoint}: has 3 widths, not one"),
        ((exported.path, "--level", f"0={tmp_path / 'none'}", *named), "none: not a readable checkpoint"),
    ]:
        code, output = run(*arguments)
        assert code != 0 and message in output, output
        assert not target.exists()
    code, output = run(exported.path, "--level", f"0={path}", *named, "--no-verify")
    assert code == 0 and "model tiny-2" in output, output
    code, output = run(exported.path, "--level", f"0={path}", *named)
    assert code != 0 and "exists already" in output
