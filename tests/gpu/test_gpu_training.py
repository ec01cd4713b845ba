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
from basic_train.recipe import Recipe
from basic_train.train import LOG_FILE, Trainer

pytestmark = pytest.mark.gpu

RECIPE = Recipe(preset="tiny", steps=20, crop=64, batch=4, warmup_steps=2, save_minutes=1e6)


@pytest.fixture(autouse=True)
def _torch_uses_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this build of PyTorch has no CUDA")


def train(folder: Path, photos: Path, recipe: Recipe, accelerator: str) -> tuple[Trainer, list[float]]:
    losses = []
    trainer = Trainer(recipe, folder, photos, lambda line: None, devices=Devices(accelerator))
    trainer.run(lambda progress: losses.append(progress.loss))
    return trainer, losses


def test_crops_are_those_of_a_processor(photos: Path) -> None:
    files = PhotoFiles(list_photos(photos), 64, 2**30)
    gpu = torch.device("cuda", 0)
    assert fits(files, gpu)
    batch = DeviceCropStream(files, gpu, 64, 16, 3).batch(7)
    difference = 255 * (batch.cpu() - CropStream(files, 64, 16, 3).batch(7)).abs()
    assert difference.max() < 1.01 and (difference > 0.01).float().mean() < 1e-3


def test_a_run_learns_what_one_on_a_processor_does(photos: Path, tmp_path: Path) -> None:
    """The noise is drawn by other generators, so that only the course is the same."""
    losses = {
        name: train(tmp_path / name, photos, replace(RECIPE, precision="32-true"), name)[1] for name in ("cpu", "cuda")
    }
    assert np.mean(losses["cuda"]) == pytest.approx(np.mean(losses["cpu"]), rel=0.05)
    assert losses["cuda"][-1] < losses["cuda"][0]


def test_a_run_in_bf16_is_measured_and_goes_on(photos: Path, tmp_path: Path) -> None:
    trainer, losses = train(tmp_path, photos, RECIPE, "cuda")
    assert trainer.finished and len(losses) == 20
    resumed, more = train(tmp_path, photos, replace(RECIPE, steps=24), "cuda")
    assert resumed.step == 24 and len(more) == 4
    records = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert all(0 < row["bpp"] < 24 for record in records for row in record["held_out"])
