"""The training loop. What a step minimises is an `Objective`; where it runs is up to `Devices`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from basic_runtime.errors import BasicError, FileError, ImageError
from basic_train import checkpoint, device_crops, lock
from basic_train.checkpoint import MODEL_FILE, CheckpointError
from basic_train.data import (
    NOISE,
    WIDTHS,
    CropStream,
    PhotoFiles,
    Photos,
    WithPages,
    cache_budget,
    centre_crops,
    list_photos,
    split,
)
from basic_train.device_crops import DeviceCropStream
from basic_train.devices import Devices, tune_allocator
from basic_train.model import growth, linear_start, units
from basic_train.model.config import ModelConfig
from basic_train.model.presets import PRESETS, changed
from basic_train.model.supernet import Supernet, Widths
from basic_train.objective import OBJECTIVES, Objective, TrainingStep
from basic_train.optimise import Averager, optimizers
from basic_train.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STATE_FILE, LOG_FILE = "state.pt", "log.jsonl"

#: Crops of which a linear path takes the principal components, so many at a time.
LINEAR_CROPS, LINEAR_BATCH = 512, 16

#: Crops that show which hidden units are of use.
REVIVAL_CROPS = 32

#: Qualities at which the held-out photos are measured.
VALIDATION_QUALITIES = (0.0, 0.33, 0.67, 1.0)


class TrainingError(BasicError):
    """Training cannot go on."""


class ModelError(TrainingError):
    """No model can be as the recipe says."""


@dataclass
class StepReport:
    """What the loop reports after each step; loss, bpp and psnr are of the step's batch."""

    step: int
    patches: int
    minutes: float
    loss: float
    bpp: float
    psnr: float
    patches_per_second: float


def stored_run(folder: Path) -> tuple[ModelConfig, Recipe] | None:
    """Configuration and recipe of the run that a folder holds, or None. Raises CheckpointError."""
    if not (folder / STATE_FILE).exists():
        if (folder / MODEL_FILE).exists():
            raise CheckpointError(
                f"{folder}: holds a {MODEL_FILE}, but not the {STATE_FILE} of a run to go on with: name another "
                "--output, or move that file away (--start-from takes its weights)"
            )
        return None
    if not (folder / MODEL_FILE).exists():
        raise CheckpointError(
            f"{folder}: holds {STATE_FILE} of a run, but not its {MODEL_FILE}: restore that, or remove the folder's "
            "files to start afresh"
        )
    config, history = checkpoint.read_header(folder / MODEL_FILE)
    if "training_config" in history:  # an objective stores another one than it trains
        config = ModelConfig.from_json(history["training_config"])
    return config, Recipe.from_json(history["recipe"])


class Trainer:
    """A run in a folder: weights in model.safetensors, resumable state in state.pt, one JSON line per report.

    A folder that holds a run is resumed; a new run may start from the weights of a checkpoint. With
    `Recipe.steps`, an interrupted and resumed run gives the same weights as an uninterrupted one on the same
    machine and thread count. A step of several processes is that of one process with as many times the
    `Recipe.accumulate`, but for the rounding of sums; all see the folder, the first writes. Raises
    CheckpointError for a folder with another model or with damaged files, ImageError for photos that do not
    do, DeviceError for devices that are not there.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        data: Path,
        report: Callable[[str], None] = print,
        start_from: Path | None = None,
        devices: Devices = Devices(),  # noqa: B008 (frozen)
    ) -> None:
        tune_allocator()
        folder, data = Path(folder), Path(data)
        self.recipe, self.folder = recipe, folder
        resumed = stored_run(folder)
        if start_from and resumed:
            report(f"{folder}: its run goes on; {start_from} is for new ones, and not read")
        start = checkpoint.load(start_from) if start_from and not resumed else None
        self.previous: dict[str, Any] | None = start[1] if start else None
        self.config = self._configuration(resumed, start)
        self.fabric = devices.fabric(OBJECTIVES[recipe.objective].has_unused_parameters(self.config), report)
        self.report = report if self.fabric.is_global_zero else lambda line: None
        if recipe.steps is not None and recipe.steps <= recipe.warmup_steps:
            self.report(
                f"--steps {recipe.steps}: the learning rate rises for {recipe.warmup_steps} and never gets to its "
                "value; pass fewer --warmup-steps"
            )
        self._load_photos(data)
        self._lock = ExitStack()
        started = start[0] if start else None
        net, objective = self._parts(started)
        self._claim_folder()
        if not resumed:
            self._begin(net, started)
        self._build(TrainingStep(net, objective))
        self.step, self.patches, self.minutes = 0, 0, 0.0
        if resumed:
            self._resume()
        self._stopped = False

    def _claim_folder(self) -> None:
        """Make the folder and keep others out of it; where that fails all processes raise alike."""
        failure: FileError | None = None
        try:
            if self.fabric.is_global_zero:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.enter_context(lock.held(self.folder))
                with TemporaryFile(dir=self.folder):
                    pass  # an old run's folder that cannot be written is better known now than at the first save
        except FileError as error:
            failure = error
        except OSError as error:
            failure = self._unwritable(error)
        failure = self.fabric.broadcast(failure)
        if failure is not None:
            raise failure

    def _unwritable(self, error: OSError) -> FileError:
        return FileError(f"{self.folder}: cannot be written ({error.strerror}); name another folder")

    @property
    def module(self) -> TrainingStep:
        """Net and objective, without what spreads them over processes."""
        return self._wrapped.module

    @property
    def finished(self) -> bool:
        """True once the recipe's schedule is used up."""
        return self.recipe.progress(self.step, self.minutes) >= 1

    def _configuration(
        self, resumed: tuple[ModelConfig, Recipe] | None, start: tuple[Supernet, dict[str, Any]] | None
    ) -> ModelConfig:
        """That of the folder's run, or that of the start or the preset with the recipe's changes."""
        preset = self.recipe.preset
        if preset not in PRESETS:
            raise TrainingError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        if self.recipe.objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise TrainingError(f"unknown objective {self.recipe.objective!r}; known: {known}")
        if self.recipe.revive is not None and not (start or resumed):
            raise TrainingError("a new net has nothing to revive: name a checkpoint with --start-from")
        if self.recipe.frozen and not (start or resumed):
            raise TrainingError("a new net has nothing to freeze: name a checkpoint with --start-from")
        stored = resumed[0] if resumed else start[0].config if start else None
        if stored is not None and stored.preset != preset:
            weights = f"{self.folder}: the weights to go on with" if resumed else "the weights to start from"
            other = "another folder to start afresh" if resumed else "others"
            raise CheckpointError(
                f"{weights} are of preset {stored.preset!r}, not {preset!r}; pass --preset {stored.preset} to go on "
                f"with them, or {other}"
            )
        if resumed:
            self._require_same(resumed[1])
            return resumed[0]
        try:
            return changed(stored or PRESETS[preset], self.recipe.model)
        except ValueError as error:
            raise ModelError(str(error)) from error

    def _require_same(self, before: Recipe) -> None:
        """Raises CheckpointError where the folder's run began with other values of what cannot be changed."""
        another = "start in another folder"
        for same, what, way_out in (
            (before.model == self.recipe.model, "the model of a run", another),
            (set(before.frozen) == set(self.recipe.frozen), "what a run freezes", "start another with --start-from"),
            (before.optimizer == self.recipe.optimizer, "the optimizer of a run", another),
        ):
            if not same:
                raise CheckpointError(f"{self.folder}: {what} cannot be changed; {way_out}")

    def _parts(self, start: Supernet | None) -> tuple[Supernet, Objective]:
        """Net, with random weights or those to start from, and objective. Every process draws the same weights."""
        torch.manual_seed(self.recipe.seed)
        try:
            net = Supernet(self.config)
        except ValueError as error:
            raise ModelError(f"no model can be of this kind: {error}") from error
        except RuntimeError as error:  # of PyTorch, of tensors that memory cannot hold
            reason = str(error).partition("\n")[0]
            raise ModelError(f"no model can be so large here ({reason}): give it fewer channels") from error
        try:
            if start:
                growth.load_into(net, start)
        except ValueError as error:
            raise CheckpointError(f"the weights to start from do not fit the model: {error}") from error
        for part in self.recipe.frozen:
            net.get_submodule(part).requires_grad_(False)
        try:
            objective = OBJECTIVES[self.recipe.objective](self.config, self.recipe)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        if not any(parameter.requires_grad for part in (net, objective) for parameter in part.parameters()):
            raise TrainingError(f"freeze={self.recipe.freeze}: leaves nothing to train")
        return net, objective

    def _build(self, module: TrainingStep) -> None:
        """Optimisers and average, and the processes' share of the module."""
        module = module.to(memory_format=torch.channels_last)
        found = optimizers(module, self.recipe)
        self.rates = [optimizer.defaults["lr"] for optimizer in found]
        self._wrapped, *self.optimizers = self.fabric.setup(module, *found)
        self.average = Averager(self.module, self.recipe.ema)

    def _begin(self, net: Supernet, start: Supernet | None) -> None:
        """What a new run does with its weights before the first step."""
        if self.recipe.revive is not None:
            self._revive(net, self.recipe.revive)
        elif self.config.linear_path and start is None:
            self._start_linear(net)

    def _start_linear(self, net: Supernet) -> None:
        self.report(f"starting from the principal components of {LINEAR_CROPS} crops")
        linear_start.initialise(net, self._first_crops(LINEAR_CROPS))

    def _revive(self, net: Supernet, beyond: int) -> None:
        count = units.reinitialise_dead(net, self._first_crops(REVIVAL_CROPS).split(LINEAR_BATCH), beyond)
        self.report(f"{count} dead hidden units reinitialised")

    def _first_crops(self, count: int) -> Tensor:
        """The same on all processes, (count, 3, H, W)."""
        stream = CropStream(self.crops.photos, self.recipe.crop, LINEAR_BATCH, self.recipe.seed)
        return stream.first_crops(count)

    def _writer(self) -> AbstractContextManager[SummaryWriter | None]:
        """TensorBoard's files, on the process that writes."""
        from torch.utils.tensorboard import SummaryWriter

        if not self.fabric.is_global_zero:
            return nullcontext()
        try:
            return SummaryWriter(str(self.folder), purge_step=self.step + 1)
        except OSError as error:
            raise self._unwritable(error) from error

    def _load_photos(self, data: Path) -> None:
        recipe, world = self.recipe, self.fabric.world_size
        if recipe.batch % (world * recipe.accumulate):
            raise TrainingError(
                f"a batch of {recipe.batch} does not divide into {world} process(es) with "
                f"{recipe.accumulate} part(s) each; pass another --batch or --accumulate"
            )
        train, held_out = split(list_photos(data))
        self.held_out = centre_crops(held_out, recipe.crop, recipe.held_out, self.report)
        pages = self._pages()  # before what is left of the memory is shared out
        photos = self._training_photos(train)
        usable, measured = len(photos) if photos else 0, len(self.held_out)
        if not (usable and measured):
            raise ImageError(
                f"{data}: {usable} usable photos to train on and {measured} to hold out; "
                f"add photos of at least {recipe.crop} pixels a side (every tenth file is held out)"
            )
        self.crops = self._stream(WithPages(photos, pages, recipe.pages) if pages else photos)
        self.report(f"{usable} photos to train on, {measured} of {len(held_out)} held out measured")

    def _pages(self) -> list[np.ndarray]:
        if not self.recipe.pages:
            return []
        from basic_train.pages import draw_pages

        pages = draw_pages(self.recipe.seed)
        self.report(f"{len(pages)} pages drawn, from which {self.recipe.pages:.0%} of the crops come")
        return pages

    def _stream(self, photos: Photos) -> CropStream | DeviceCropStream:
        """Crops, cut by a GPU where all photos fit into its memory."""
        recipe, fabric = self.recipe, self.fabric
        rank, world = fabric.global_rank, fabric.world_size
        stream = CropStream(photos, recipe.crop, recipe.batch, recipe.seed, rank, world, recipe.gamma)
        return DeviceCropStream(stream, fabric.device) if device_crops.fits(photos, fabric.device) else stream

    def _training_photos(self, paths: list[Path]) -> PhotoFiles | None:
        here = self.fabric.world_size // self.fabric.strategy.num_nodes if self.fabric.world_size > 1 else 1
        budget = cache_budget(self.recipe.cache_gigabytes, here)
        try:
            return PhotoFiles(paths, self.recipe.crop, budget, self.report)
        except ImageError:
            return None  # said with the folder's name

    def _resume(self) -> None:
        path = self.folder / STATE_FILE
        state = checkpoint.load_state(path)
        try:
            self.module.load_state_dict(state["weights"])
            for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(stored)
            self.average.load(state["average"])
            self.step, self.patches, self.minutes = state["step"], state["patches"], state["minutes"]
            self.previous = state["previous"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: does not fit this model ({checkpoint.in_short(error)}); start in another folder"
            ) from error
        self.report(f"resumed at {self.minutes:.1f} minutes, step {self.step}, {self.patches} patches")

    def save(self) -> None:
        """Write the averaged weights and the state to resume from."""
        trained = {
            "step": self.step,
            "patches": self.patches,
            "minutes": self.minutes,
            "previous": self.previous,
        }
        history: dict[str, Any] = {"recipe": asdict(self.recipe)} | trained
        state = {
            "weights": self.module.state_dict(),
            "average": self.average.weights,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        } | trained
        weights, config = self.module.stored(self.average.weights, self.config)
        if config != self.config:
            history["training_config"] = self.config.to_json()

        def save_model() -> None:
            checkpoint.save(self.folder / MODEL_FILE, weights, config, history)

        checkpoint.save_state(self.folder / STATE_FILE, state, save_model)

    def stop(self) -> None:
        """Ask `run` to save and return after the current step; may be called from a signal handler, on any
        process."""
        self._stopped = True

    def run(
        self,
        on_step: Callable[[StepReport], None] | None = None,
        on_save: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Train until the recipe's schedule is used up, or until `stop`; saves, validates and logs every
        `save_minutes` and at the end. `on_save` gets what is written to the log, on the process that writes.
        Raises TrainingError when the loss, or what is to be saved, is not finite: the state of the last save is
        kept. Other processes may train in the folder from then on."""
        if self.finished:
            self._lock.close()
            self.report(f"{self.folder}: this run is complete; raise its minutes or steps to go on")
            return
        saved, self._begun = self.minutes, time.monotonic() - 60 * self.minutes
        with self._lock, self._writer() as writer, closing(self.crops.batches(self.step)) as batches:
            for x in batches:
                report = self._train_step(x.chunk(self.recipe.accumulate))
                if on_step:
                    on_step(report)
                due = self.finished or self.minutes - saved >= self.recipe.save_minutes
                saved = self.minutes if due else saved
                stopped = self._mean(torch.tensor(float(self._stopped))) > 0
                if not (due or stopped):
                    continue
                held_out = self._checked(due)
                if self.fabric.is_global_zero:
                    self.save()
                if writer is not None and due:
                    record = self._log(report, held_out, writer)
                    if on_save:
                        on_save(record)
                if self.finished or stopped:
                    return

    def _train_step(self, parts: Sequence[Tensor]) -> StepReport:
        """One step on this process's parts of the batch, and its means over all processes."""
        recipe, before = self.recipe, self.minutes
        self._set_rates()
        self.module.zero_grad(set_to_none=True)
        totals = torch.zeros(3, device=self.fabric.device)
        for number, x in enumerate(parts):
            last = number + 1 == len(parts)
            with self.fabric.no_backward_sync(self._wrapped, enabled=not last):
                loss, bpp, mse = self._forward(self.fabric.to_device(x), number)
                self.fabric.backward(loss / len(parts))
            totals += torch.stack([loss.detach(), bpp.mean(), mse.log10().mean()]) / len(parts)
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.module, self.step + 1)
        # Only here does a step wait for a GPU; what is not finite is in no file yet.
        loss, bpp, log_mse = self._mean(totals).tolist()
        self._require_finite("loss", loss)
        self._require_finite("gradient", float(norm))
        self.step += 1
        self.patches += recipe.batch
        self.minutes = self.fabric.broadcast((time.monotonic() - self._begun) / 60)
        speed = recipe.batch / max(60 * (self.minutes - before), 1e-9)
        return StepReport(self.step, self.patches, self.minutes, loss, bpp, -10 * log_mse, speed)

    def _set_rates(self) -> None:
        factor = self.recipe.rate_factor(self.step, self.minutes)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _forward(self, x: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, bpp and mse of a part. Its noise and qualities depend on seed, step and the part's place in the
        whole batch alone; the objective's generator is the same for all parts."""
        recipe = self.recipe
        place = self.fabric.global_rank * recipe.accumulate + number
        noise = np.random.SeedSequence([NOISE, recipe.seed, self.step, place])
        torch.manual_seed(int(noise.generate_state(1, np.uint64)[0]))
        quality = torch.rand(x.shape[0], device=x.device)
        if recipe.quality_steps:
            quality = torch.floor(quality * recipe.quality_steps) / max(1, recipe.quality_steps - 1)
        rng = np.random.default_rng([WIDTHS, recipe.seed, self.step])
        # Fabric's own mixed precision would round the inputs too, which are what the loss compares with.
        mixed = recipe.precision == "bf16-mixed"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed):
            return self._wrapped(x, quality, rng)

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over all processes, on the CPU."""
        return self.fabric.all_reduce(self.fabric.to_device(values), reduce_op="mean").cpu()

    def _checked(self, measured: bool) -> list[dict[str, float]]:
        """The held-out photos, if they are to be measured, before a save; all processes raise alike where no run could
        go on from it."""
        for weights in (self.module.state_dict(), self.average.weights):
            for name, value in weights.items():
                self._require_finite(f"sum of {name}", float(value.sum()))
        held_out = self.fabric.broadcast(self.validate() if measured and self.fabric.is_global_zero else [])
        for row in held_out:
            for name in ("bpp", "loss"):
                self._require_finite(f"held-out {name}", row[name])
        return held_out

    def _require_finite(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        is_saved = (self.folder / STATE_FILE).exists()
        way_out = "the last save is kept, resume" if is_saved else "nothing was saved yet, start again"
        rates = "--learning-rate or --muon-rate" if self.recipe.optimizer == "muon" else "--learning-rate"
        raise TrainingError(f"{self.folder}: the {what} is {value} at step {self.step}; {way_out} with a lower {rates}")

    def _log(self, report: StepReport, held_out: list[dict[str, float]], writer: SummaryWriter) -> dict[str, Any]:
        record: dict[str, Any] = asdict(report) | {"held_out": held_out}
        try:
            with open(self.folder / LOG_FILE, "a") as file:
                file.write(json.dumps(_json(record)) + "\n")
        except OSError as error:
            message = f"{self.folder / LOG_FILE}: cannot be written ({error.strerror}); free space and resume"
            raise FileError(message) from error
        for name in ("loss", "bpp", "psnr", "patches_per_second"):
            writer.add_scalar(f"train/{name}", record[name], self.step)
        for row in record["held_out"]:
            for name in ("bpp", "psnr", "loss"):
                tag = f"held_out/{row['width']}/{name}@{row['quality']:.2f}"
                writer.add_scalar(tag, row[name], self.step)
        writer.flush()
        return record

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Noise-estimated rate and PSNR of the averaged weights on centre crops, widest and narrowest, per
        quality. Every call draws the same noise."""
        torch.manual_seed(self.recipe.seed)
        weights, config = self.module.stored(self.average.weights, self.config)
        net = Supernet(config).to(self.fabric.device, memory_format=torch.channels_last)
        net.load_state_dict(weights)
        net.eval()
        x = self.fabric.to_device(self.held_out)
        measured = dict.fromkeys((net.full, net.trained(0)))
        return [self._measure(net, x, widths, value) for widths in measured for value in VALIDATION_QUALITIES]

    def _measure(self, net: Supernet, x: Tensor, widths: Widths, value: float) -> dict[str, float]:
        quality = torch.full((x.shape[0],), value, device=x.device)
        result = self.module.objective.measure(net(x, quality, widths), x, quality)
        return {
            "width": self.config.widths[widths.g_s],
            "quality": value,
            "bpp": float(result.bpp.mean()),
            "psnr": float(-10 * result.mse.log10().mean()),
            "loss": float(result.loss),
        }


def _json(value: Any) -> Any:
    """The value with null for numbers that JSON cannot tell, like the PSNR of a picture without an error."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
