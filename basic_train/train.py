"""The training loop: one random width per transform and step, all qualities in every batch."""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from basic_runtime.errors import BasicError, FileError, ImageError
from basic_train import checkpoint
from basic_train.checkpoint import CheckpointError
from basic_train.data import CropStream, centre_crop, list_photos, load_all, split, to_tensor
from basic_train.losses import lambda_of_quality, rate_distortion
from basic_train.model.presets import PRESETS, ModelConfig
from basic_train.model.supernet import Supernet, Widths
from basic_train.muon import Muon
from basic_train.recipe import Recipe

MODEL_FILE, STATE_FILE, LOG_FILE = "model.safetensors", "state.pt", "log.jsonl"

#: Qualities at which the held-out photos are measured.
VALIDATION_QUALITIES = (0.0, 0.33, 0.67, 1.0)


class TrainingError(BasicError):
    """Training cannot go on."""


@dataclass
class Progress:
    """What the loop reports after each step; loss, bpp and psnr are of the step's batch."""

    step: int
    patches: int
    minutes: float
    loss: float
    bpp: float
    psnr: float
    patches_per_second: float


def tune_allocator() -> None:
    """Keep freed tensors in the process: glibc returns each to the kernel, which halves the speed."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another C library: only speed is lost


def random_widths(config: ModelConfig, full_share: float, rng: np.random.Generator) -> Widths:
    """Width index per transform: full with probability `full_share`, else uniform over the others."""
    last = len(config.widths) - 1
    draw = [last if rng.random() < full_share else int(rng.integers(last)) for _ in range(4)]
    return Widths(*draw)


def optimizers(net: Supernet, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the weights of convolutions and of the context model, then Adam for all else."""
    matrices, others = [], []
    for name, parameter in net.named_parameters():
        is_layer = parameter.ndim == 4 or (parameter.ndim == 2 and name.startswith("context."))
        (matrices if is_layer else others).append(parameter)
    return [Muon(matrices, recipe.muon_rate), torch.optim.Adam(others, recipe.learning_rate, fused=True)]


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

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(weights[name])


def stored_run(folder: Path) -> tuple[ModelConfig, Recipe] | None:
    """Configuration and recipe of the run that a folder holds, or None. Raises CheckpointError."""
    if not (folder / STATE_FILE).exists():
        return None
    config, history = checkpoint.read_header(folder / MODEL_FILE)
    return config, Recipe.from_json(history["recipe"])


class Trainer:
    """A run in a folder: weights in model.safetensors, resumable state in state.pt, one JSON line per report.

    A folder that holds a run is resumed; a new run may start from the weights of a checkpoint. With
    `Recipe.steps`, an interrupted and resumed run gives the same weights as an uninterrupted one on the same
    machine and thread count. Raises CheckpointError for a folder
    with another preset or with damaged files, ImageError for photos that do not do.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        data: Path,
        report: Callable[[str], None] = print,
        start_from: Path | None = None,
    ) -> None:
        from lightning_fabric import Fabric
        from torch.utils.tensorboard import SummaryWriter

        tune_allocator()
        self.recipe, self.folder, self.report = recipe, folder, report
        resumed = stored_run(folder)
        start = checkpoint.load(start_from) if start_from and not resumed else None
        self.previous: dict[str, Any] | None = start[1] if start else None
        stored = resumed[0] if resumed else start[0].config if start else None
        self.config = self._configuration(stored)
        self._load_photos(data)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(recipe.seed)
            self.fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed")
            net = Supernet(self.config).to(memory_format=torch.channels_last)
            self.net, *self.optimizers = self.fabric.setup(net, *optimizers(net, recipe))
            if start:
                self._module.load_state_dict(start[0].state_dict())
            self.average = Averager(self._module, recipe.ema)
            self.step, self.patches, self.minutes = 0, 0, 0.0
            if (folder / STATE_FILE).exists():
                self._resume()
            self.writer = SummaryWriter(str(folder), purge_step=self.step + 1)
        except OSError as error:
            raise FileError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
        self._stopped = False

    @property
    def _module(self) -> Supernet:
        return self.net.module

    @property
    def finished(self) -> bool:
        """True once the recipe's schedule is used up."""
        return self.recipe.progress(self.step, self.minutes) >= 1

    def _configuration(self, stored: ModelConfig | None) -> ModelConfig:
        """The stored configuration, if it is of the recipe's preset, or that of the preset itself."""
        preset = self.recipe.preset
        if preset not in PRESETS:
            raise TrainingError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        if stored is not None and stored.preset != preset:
            raise CheckpointError(
                f"{self.folder}: the weights to go on with are of preset {stored.preset!r}, not {preset!r}; "
                f"pass --preset {stored.preset} to go on with them, or another folder to start afresh"
            )
        return stored or PRESETS[preset]

    def _load_photos(self, data: Path) -> None:
        train, held_out = split(list_photos(data))
        pictures, skipped = load_all(train, self.recipe.crop)
        every = max(1, len(held_out) // self.recipe.validation_photos)
        self.held_out, more_skipped = load_all(held_out[::every], self.recipe.crop)
        for message in skipped + more_skipped:
            self.report(message)
        if not pictures or not self.held_out:
            raise ImageError(
                f"{data}: {len(pictures)} usable photos to train on and {len(self.held_out)} to hold out; "
                f"add photos of at least {self.recipe.crop} pixels a side (every tenth file is held out)"
            )
        self.crops = CropStream(pictures, self.recipe.crop, self.recipe.batch, self.recipe.seed)
        self.report(
            f"{len(pictures)} photos to train on, {len(self.held_out)} of {len(held_out)} held out measured"
        )

    def _resume(self) -> None:
        path = self.folder / STATE_FILE
        state = checkpoint.load_state(path)
        try:
            self._module.load_state_dict(state["weights"])
            for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(stored)
            self.average.load(state["average"])
            self.step, self.patches, self.minutes = state["step"], state["patches"], state["minutes"]
            self.previous = state["previous"]
            self._set_random_state(state["random"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: does not fit this model ({error}); start in another folder"
            ) from error
        self.report(f"resumed at {self.minutes:.1f} minutes, step {self.step}, {self.patches} patches")

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        return state

    def _set_random_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.fabric.device)

    def save(self) -> None:
        """Write the averaged weights and the state to resume from."""
        history: dict[str, Any] = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "patches": self.patches,
            "minutes": self.minutes,
            "previous": self.previous,
        }
        state = {
            "weights": self._module.state_dict(),
            "average": self.average.weights,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": self._random_state(),
            "step": self.step,
            "patches": self.patches,
            "minutes": self.minutes,
            "previous": self.previous,
        }
        try:
            checkpoint.save(self.folder / MODEL_FILE, self.average.weights, self.config, history)
            checkpoint.save_state(self.folder / STATE_FILE, state)
        except OSError as error:
            raise FileError(
                f"{self.folder}: cannot be written ({error.strerror}); free space and resume"
            ) from error

    def stop(self) -> None:
        """Ask `run` to save and return after the current step; may be called from a signal handler."""
        self._stopped = True

    def run(
        self,
        on_step: Callable[[Progress], None] | None = None,
        on_save: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Train until the recipe's schedule is used up, or until `stop`; saves, validates and logs every
        `save_minutes` and at the end. `on_save` gets what is written to the log. Raises TrainingError when
        the loss is not finite: the state of the last save is kept."""
        if self.finished:
            self.report(f"{self.folder}: this run is complete; raise its minutes or steps to go on")
            return
        begun, before, saved = time.monotonic(), self.minutes, self.minutes
        with closing(self.crops.batches(self.step)) as batches, closing(self.writer):
            for x in batches:
                progress = self._train_step(self.fabric.to_device(x))
                now = before + (time.monotonic() - begun) / 60
                progress.patches_per_second = x.shape[0] / max(60 * (now - self.minutes), 1e-9)
                progress.minutes = self.minutes = now
                if on_step:
                    on_step(progress)
                if self.finished or self.minutes - saved >= self.recipe.save_minutes:
                    saved = self.minutes
                    self.save()
                    record = self._log(progress)
                    if on_save:
                        on_save(record)
                elif self._stopped:
                    self.save()
                if self.finished or self._stopped:
                    return

    def _train_step(self, x: Tensor) -> Progress:
        recipe = self.recipe
        factor = recipe.rate_factor(self.step, self.minutes)
        for optimizer, rate in zip(self.optimizers, (recipe.muon_rate, recipe.learning_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        quality = torch.rand(x.shape[0], device=x.device)
        widths = random_widths(
            self.config, recipe.full_share, np.random.default_rng([recipe.seed, self.step, 1])
        )
        lambdas = lambda_of_quality(quality, self.config.lambda_min, self.config.lambda_max)
        result = rate_distortion(self.net(x, quality, widths), x, lambdas)
        loss = result.loss.item()
        self._require_finite("loss", loss)
        self.net.zero_grad(set_to_none=True)
        self.fabric.backward(result.loss)
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip)
        self._require_finite("gradient", float(norm))
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.patches += x.shape[0]
        self.average.update(self._module, self.step)
        psnr = float(-10 * result.mse.log10().mean())
        return Progress(self.step, self.patches, self.minutes, loss, float(result.bpp.mean()), psnr, 0.0)

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{self.folder}: the {what} is {value} at step {self.step}; the last save is kept, "
                "resume with a lower --learning-rate"
            )

    def _log(self, progress: Progress) -> dict[str, Any]:
        record: dict[str, Any] = asdict(progress) | {"held_out": self.validate()}
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps(record) + "\n")
        for name in ("loss", "bpp", "psnr", "patches_per_second"):
            self.writer.add_scalar(f"train/{name}", record[name], self.step)
        for row in record["held_out"]:
            for name in ("bpp", "psnr", "loss"):
                self.writer.add_scalar(
                    f"held_out/{row['width']}/{name}@{row['quality']:.2f}", row[name], self.step
                )
        self.writer.flush()
        return record

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Noise-estimated rate and PSNR of the averaged weights on centre crops, widest and narrowest, per
        quality.

        Every call draws the same noise, and leaves the training's random numbers alone.
        """
        device = self.fabric.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.recipe.seed)
            net = Supernet(self.config).to(device, memory_format=torch.channels_last)
            net.load_state_dict(self.average.weights)
            net.eval()
            x = to_tensor([centre_crop(p, self.recipe.crop) for p in self.held_out]).to(device)
            indexes = (len(self.config.widths) - 1, 0)
            return [
                self._measure(net, x, index, value) for index in indexes for value in VALIDATION_QUALITIES
            ]

    def _measure(self, net: Supernet, x: Tensor, index: int, value: float) -> dict[str, float]:
        quality = torch.full((x.shape[0],), value, device=x.device)
        lambdas = lambda_of_quality(quality, self.config.lambda_min, self.config.lambda_max)
        result = rate_distortion(net(x, quality, Supernet.uniform(index)), x, lambdas)
        return {
            "width": self.config.widths[index],
            "quality": value,
            "bpp": float(result.bpp.mean()),
            "psnr": float(-10 * result.mse.log10().mean()),
            "loss": float(result.loss),
        }
