"""The trainer's evaluation forward gives the rate and the picture of real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from basic_export.export import export_bundle
from basic_export.options import Options
from basic_export.photos import bundled_photo, calibration_latents, calibration_photos
from basic_runtime import container
from basic_runtime.codec import Codec
from basic_runtime.quality import quality_of_step
from basic_runtime.tables import TableArrays
from basic_train.model.integer import IntegerEntropy
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet

from .coding import code_picture
from .models import random_tiny, unfiltered


@pytest.fixture(scope="module")
def net() -> Supernet:
    """Weights that float16 holds exactly, so that PyTorch and the bundle have the same."""
    net = random_tiny()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    return net


def test_photos_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (400, 330), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere")
    (tmp_path / "c.png").write_bytes(b"no picture")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "d.png")  # more pixels than are allowed
    assert [photo.shape for photo in calibration_photos(tmp_path)] == [(320, 320, 3)]


@pytest.fixture(scope="module")
def integer(net: Supernet, photo_folder: Path) -> IntegerEntropy:
    latents = calibration_latents(net, calibration_photos(photo_folder), [net.full])
    return quantise(net, net.full.h_s, latents)


@pytest.fixture(scope="module")
def codec(net: Supernet, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    path = tmp_path_factory.mktemp("bundle") / "full"
    options = Options("full", levels=1, photos=photo_folder, check_photo=photo_folder / "chelsea.png", verify=False)
    export_bundle(net, path, options)
    return Codec(path, "onnxruntime", threads=1)


def stored_tables(codec: Codec) -> TableArrays:
    arrays = load_file(codec.bundle.path / "tables.safetensors")
    return TableArrays(*(arrays[f"coder.{name}"] for name in ("freqs", "sizes", "offsets", "shifts")))


@pytest.mark.parametrize("step", [5, 40, 63])
def test_evaluation_equals_the_codec(net: Supernet, integer: IntegerEntropy, codec: Codec, step: int) -> None:
    photo = bundled_photo("coffee")[100:250, 200:430]
    data = codec.encode(photo, quality=quality_of_step(step), level=0)
    coded = code_picture(net, integer, stored_tables(codec), photo, step, net.full)
    file_bits = 8 * len(container.read(data).data)
    # Streams are whole bytes, and pay for the states of their lanes.
    assert file_bits == pytest.approx(coded.bits, rel=0.005, abs=8 * 24)
    difference = np.abs(codec.decode(unfiltered(data)).astype(int) - coded.pixels)
    # Where y lies on the border of two symbols, engines may round it to either.
    assert np.mean(difference == 0) > 0.999
    assert np.median(difference) == 0
