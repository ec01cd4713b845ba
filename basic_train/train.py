"""The training loop: one random width per transform and step, all qualities in every batch."""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from basic_train import checkpoint
from basic_train.data import CropStream, list_photos, load_all, split
from basic_train.losses import lambda_of_quality, rate_distortion
from basic_train.model.presets import PRESETS, ModelConfig
from basic_train.model.supernet import Supernet, Widths

MODEL_FILE, STATE_FILE, LOG_FILE = "model.safetensors", "state.pt", "log.jsonl"

#: Qualities at which the held-out photos are measured.
VALIDATION_QUALITIES = (0.0, 0.33, 0.67, 1.0)


@dataclass(frozen=True)
class Recipe:
    """How to train. minutes: whole length of the learning-rate schedule, over all resumes; decay: share of it at the
    end in which the rate falls to zero; full_share: how often a transform runs at full width rather than at a random
    narrower one; ema: decay of the averaged weights that are saved."""

    preset: str = "lite"
    minutes: float = 60.0
    batch: int = 8
    crop: int = 256
    learning_rate: float = 8e-4
    warmup_steps: int = 200
    decay: float = 0.4
    clip: float = 1.0
    ema: float = 0.9995
    full_share: float = 0.4
    seed: int = 0
    save_minutes: float = 3.0
    validation_photos: int = 12


@dataclass
class Progress:
    """What the loop reports after each step."""

    step: int
    patches: int
    minutes: float
    loss: float
    bpp: float
    psnr: float
    patches_per_second: float


def tune_allocator() -> None:
    """Keep freed tensors in the process: glibc gives each back to the kernel, which halves the training speed."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another C library: only speed is lost


def learning_rate(recipe: Recipe, step: int, minutes: float) -> float:
    """Linear warm-up by steps, constant, then linear to zero over the last share of the minutes."""
    left = max(0.0, 1 - minutes / recipe.minutes)
    return recipe.learning_rate * min(1.0, (step + 1) / recipe.warmup_steps) * min(1.0, left / recipe.decay)


def random_widths(config: ModelConfig, full_share: float, rng: np.random.Generator) -> Widths:
    """Independent width index per transform: full with probability `full_share`, else uniform over the others."""
    last = len(config.widths) - 1
    draw = [last if rng.random() < full_share else int(rng.integers(last)) for _ in range(4)]
    return Widths(*draw)


class Averager:
    """Exponential moving average of a module's weights, with the usual warm start."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = net.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), [current[k] for k in self.weights], 1 - decay)


class Trainer:
    """A run in a folder: weights in model.safetensors, resumable state in state.pt, one JSON line per report."""

    def __init__(self, recipe: Recipe, folder: Path, data: Path, report: Callable[[str], None] = print) -> None:
        from lightning_fabric import Fabric
        from torch.utils.tensorboard import SummaryWriter

        tune_allocator()
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.report = recipe, folder, report
        self.config = PRESETS[recipe.preset]
        folder.mkdir(parents=True, exist_ok=True)
        self.fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed")
        net = Supernet(self.config).to(memory_format=torch.channels_last)
        self.net, self.optimizer = self.fabric.setup(net, torch.optim.Adam(net.parameters(), lr=1e-3, fused=True))
        self.step, self.patches, self.minutes = 0, 0, 0.0
        if (folder / STATE_FILE).exists():
            self._resume()
        else:
            self.average = Averager(self._module, recipe.ema)
        self.rng = np.random.default_rng([recipe.seed, self.step])
        self._load_photos(data)
        self.writer = SummaryWriter(str(folder))

    @property
    def _module(self) -> Supernet:
        return self.net.module

    def _load_photos(self, data: Path) -> None:
        train, held_out = split(list_photos(data))
        pictures, skipped = load_all(train, self.recipe.crop)
        for message in skipped:
            self.report(message)
        self.crops = CropStream(pictures, self.recipe.crop, self.recipe.batch, self.recipe.seed + self.step)
        every = max(1, len(held_out) // self.recipe.validation_photos)
        self.held_out = load_all(held_out[::every], self.recipe.crop)[0]
        self.report(f"{len(pictures)} photos to train on, {len(self.held_out)} of {len(held_out)} held out measured")

    def _resume(self) -> None:
        state = checkpoint.load_state(self.folder / STATE_FILE)
        self._module.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.patches, self.minutes = state["step"], state["patches"], state["minutes"]
        self.average = Averager(self._module, self.recipe.ema)
        self.average.weights = state["average"]
        self.report(f"resumed at {self.minutes:.1f} minutes, step {self.step}, {self.patches} patches")

    def save(self) -> None:
        """Write the averaged weights and the state to resume from."""
        history: dict[str, Any] = {
            "recipe": asdict(self.recipe), "step": self.step, "patches": self.patches, "minutes": self.minutes,
        }  # fmt: skip
        checkpoint.save(self.folder / MODEL_FILE, self.average.weights, self.config, history)
        state = {
            "weights": self._module.state_dict(),
            "average": self.average.weights,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "patches": self.patches,
            "minutes": self.minutes,
        }
        checkpoint.save_state(self.folder / STATE_FILE, state)

    def run(self, on_step: Callable[[Progress], None] | None = None) -> None:
        """Train until the recipe's minutes are used up; saves, validates and logs every `save_minutes`."""
        started, before = time.monotonic(), self.minutes
        saved = before
        for x in self.crops:
            progress = self._train_step(self.fabric.to_device(x))
            self.minutes = before + (time.monotonic() - started) / 60
            progress.minutes = self.minutes
            if on_step:
                on_step(progress)
            done = self.minutes >= self.recipe.minutes
            if done or self.minutes - saved >= self.recipe.save_minutes:
                saved = self.minutes
                self.save()
                self._log(progress)
            if done:
                return

    def _train_step(self, x: Tensor) -> Progress:
        recipe, begun = self.recipe, time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step, self.minutes)
        quality = torch.rand(x.shape[0], device=x.device)
        widths = random_widths(self.config, recipe.full_share, self.rng)
        lambdas = lambda_of_quality(quality, self.config.lambda_min, self.config.lambda_max)
        result = rate_distortion(self.net(x, quality, widths), x, lambdas)
        if not math.isfinite(result.loss.item()):
            raise FloatingPointError(f"loss is {result.loss.item()} at step {self.step}: resume with a lower rate")
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(result.loss)
        self.fabric.clip_gradients(self.net, self.optimizer, max_norm=recipe.clip)
        self.optimizer.step()
        self.step += 1
        self.patches += x.shape[0]
        self.average.update(self._module, self.step)
        psnr = float(-10 * result.mse.log10().mean())
        speed = x.shape[0] / (time.monotonic() - begun)
        return Progress(
            self.step, self.patches, self.minutes, result.loss.item(), float(result.bpp.mean()), psnr, speed
        )

    def _log(self, progress: Progress) -> None:
        record = asdict(progress) | {"held_out": self.validate()}
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps(record) + "\n")
        for name in ("loss", "bpp", "psnr", "patches_per_second"):
            self.writer.add_scalar(f"train/{name}", record[name], self.step)
        for row in record["held_out"]:
            for name in ("bpp", "psnr", "loss"):
                self.writer.add_scalar(f"held_out/{row['width']}/{name}@{row['quality']:.2f}", row[name], self.step)

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Noise-estimated rate and PSNR of the averaged weights on centre crops, widest and narrowest, per quality."""
        net = Supernet(self.config).to(memory_format=torch.channels_last)
        net.load_state_dict(self.average.weights)
        net.eval()
        crops = [_centre(p, 256) for p in self.held_out]
        x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)
        x = x.contiguous(memory_format=torch.channels_last)
        rows = []
        for index in (len(self.config.widths) - 1, 0):
            for value in VALIDATION_QUALITIES:
                quality = torch.full((x.shape[0],), value)
                lambdas = lambda_of_quality(quality, self.config.lambda_min, self.config.lambda_max)
                result = rate_distortion(net(x, quality, Supernet.uniform(index)), x, lambdas)
                rows.append(
                    {
                        "width": self.config.widths[index],
                        "quality": value,
                        "bpp": float(result.bpp.mean()),
                        "psnr": float(-10 * result.mse.log10().mean()),
                        "loss": float(result.loss),
                    }
                )
        return rows


def _centre(picture: np.ndarray, size: int) -> np.ndarray:
    top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return picture[top : top + size, left : left + size]
