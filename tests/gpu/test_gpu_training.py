"""Training on a GPU is training on a processor, faster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from basic_train.data import CropStream, PhotoFiles, list_photos
from basic_train.device_crops import DeviceCropStream, fits
from basic_train.devices import Devices
from basic_train.model.presets import TINY
from basic_train.model.supernet import Supernet
from basic_train.recipe import Recipe
from basic_train.train import LOG_FILE, Trainer

pytestmark = pytest.mark.gpu

RECIPE = Recipe(preset="tiny", steps=20, crop=64, batch=4, warmup_steps=2, save_minutes=1e6)


@pytest.fixture(autouse=True)
def _torch_uses_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this build of PyTorch has no CUDA")


def train(folder: Path, photos: Path, recipe: Recipe) -> tuple[Trainer, list[float]]:
    losses = []
    trainer = Trainer(recipe, folder, photos, lambda line: None, devices=Devices("cuda"))
    trainer.run(lambda progress: losses.append(progress.loss))
    return trainer, losses


def test_crops_are_those_of_a_processor(photos: Path) -> None:
    files = PhotoFiles(list_photos(photos), 64, 2**30)
    gpu = torch.device("cuda", 0)
    assert fits(files, gpu)
    stream = CropStream(files, 64, 16, 3)
    batch = DeviceCropStream(stream, gpu).batch(7)
    difference = 255 * (batch.cpu() - stream.batch(7)).abs()
    assert difference.max() < 1.01 and (difference > 0.01).float().mean() < 1e-3


def outputs_and_gradients(device: str) -> list[torch.Tensor]:
    """What the parts of a net give at a middle width, and the gradients of all that they use, without noise."""
    torch.manual_seed(0)
    net = Supernet(TINY).to(memory_format=torch.channels_last)
    x, quality = torch.rand(2, 3, 128, 128), torch.tensor([0.2, 0.9])
    net, x, quality = net.to(device), x.to(device), quality.to(device)
    y = net.analyse(x, quality, 1)
    prior = net.h_s(net.h_a(y, 1), 1)
    parameters, x_hat = net.context(y, prior, 1), net.reconstruct(y, quality, 1)
    (parameters.square().mean() + x_hat.square().mean()).backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    return [value.detach().cpu() for value in (y, parameters, x_hat, *gradients)]


def test_outputs_and_gradients_are_those_of_a_processor() -> None:
    with torch.backends.cudnn.flags(allow_tf32=False):
        pairs = list(zip(outputs_and_gradients("cuda"), outputs_and_gradients("cpu"), strict=True))
    assert len(pairs) > 50
    for ours, theirs in pairs:
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm() + 1e-7


def test_a_run_in_bf16_is_measured_and_goes_on(photos: Path, tmp_path: Path) -> None:
    trainer, losses = train(tmp_path, photos, RECIPE)
    assert trainer.finished and len(losses) == 20 and np.isfinite(losses).all()
    resumed, more = train(tmp_path, photos, replace(RECIPE, steps=24))
    assert resumed.step == 24 and len(more) == 4
    records = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert all(0 < row["bpp"] < 24 for record in records for row in record["held_out"])
