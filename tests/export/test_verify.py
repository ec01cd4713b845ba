"""Checks against PyTorch fail when a graph computes anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from basic_export import golden, verify
from basic_export.errors import ExportError
from basic_export.photos import calibration_latents, calibration_photos, check_photo
from basic_export.pixel import PixelExport, export_pixel
from basic_runtime.bundle import Bundle
from basic_runtime.engines import create_backend
from basic_train.model.integer import MEAN_BITS, IntegerEntropy
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet

from .models import Exported, random_tiny


@pytest.fixture(scope="module")
def load(exported: Exported) -> verify.Loader:
    return verify.Loader(Bundle(exported.path), create_backend("onnxruntime", threads=1))


@pytest.fixture(scope="module")
def inputs(tiny_net: Supernet, photo_folder: Path) -> verify.PixelInputs:
    return verify.pixel_inputs(tiny_net, check_photo(photo_folder / "astronaut.png"))


@pytest.fixture(scope="module")
def integer(tiny_net: Supernet, photo_folder: Path) -> IntegerEntropy:
    return quantise(tiny_net, 0, calibration_latents(tiny_net, calibration_photos(photo_folder), [tiny_net.full]))


@pytest.fixture(scope="module")
def widest(tiny_net: Supernet) -> PixelExport:
    return export_pixel(tiny_net, "h_a", 2)


def widest_id(load: verify.Loader) -> str:
    return load.bundle.manifest.levels[-1].h_a


def test_the_export_reports_all_its_checks(exported: Exported) -> None:
    checks = exported.report["checks"]
    assert all(check["passed"] for check in checks)
    assert {check["graph"] for check in checks} == set(Bundle(exported.path).manifest.graphs)
    assert all(check["difference"] == 0 for check in checks if check["transform"] in ("h_s", "stage"))
    assert exported.stderr == ""


def test_equal_weights_pass(widest: PixelExport, load: verify.Loader, inputs: verify.PixelInputs) -> None:
    assert verify.check_pixel(widest, widest_id(load), load, inputs).passed


def test_one_changed_weight_fails(widest: PixelExport, load: verify.Loader, inputs: verify.PixelInputs) -> None:
    module = type(widest.module)(random_tiny().h_a.plain(2))
    with torch.no_grad():
        module.body[0].weight[0, 0, 1, 1] += 0.5
    check = verify.check_pixel(replace(widest, module=module), widest_id(load), load, inputs)
    assert not check.passed
    with pytest.raises(ExportError, match="1 of 1 graphs differ from PyTorch.*h_a at width 16"):
        verify.require([check])


def test_one_changed_integer_fails(
    tiny_net: Supernet, integer: IntegerEntropy, load: verify.Loader, inputs: verify.PixelInputs
) -> None:
    """The bundle's variant 0 has other calibration latents than `integer` with its weight changed."""
    spec = load.bundle.entropy(0)
    z, y = verify.photo_latents(inputs, tiny_net, MEAN_BITS)
    layer = integer.layers[-1]
    layers = (*integer.layers[:-1], replace(layer, bias=layer.bias + 2**22))
    checks = verify.check_entropy(replace(integer, layers=layers), spec, load, z, y)
    assert checks[0].transform == "h_s" and not checks[0].passed
    with pytest.raises(ExportError, match="values unequal"):
        verify.require(checks)


def test_golden_pictures_may_be_smaller_than_their_frame() -> None:
    picture = golden.golden_picture(np.full((5, 300, 3), 7, np.uint8))
    assert picture.shape == (128, 128, 3) and (picture == 7).all()
