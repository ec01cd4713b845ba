"""What each level costs on this machine: measured once, remembered, and asked for the level of a time budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend
from basic_runtime.errors import BasicError
from basic_runtime.files import write_bytes
from basic_runtime.golden import cache_folder, processor
from basic_runtime.profile import TOTAL, Profile, profile

#: Pictures of these sides are timed: a level's time is a constant and a time per pixel.
SIZES = ((256, 256), (768, 512), (1536, 1024))


class MachineProfileError(BasicError):
    """This machine has not been measured, or nothing fits the budget."""


@dataclass(frozen=True)
class LevelTime:
    """Milliseconds of one direction ("encode" or "decode") at a level: constant + per_pixel * pixels."""

    level: int
    direction: str
    constant: float
    per_pixel: float

    def predict(self, pixels: int) -> float:
        """Milliseconds for a picture of so many pixels."""
        return self.constant + self.per_pixel * pixels


@dataclass(frozen=True)
class MachineProfile:
    """Times of all levels of one model on one engine with so many threads."""

    model_id: str
    engine: str
    threads: int | None
    times: tuple[LevelTime, ...]

    def level_within(self, direction: str, pixels: int, budget_ms: float) -> int:
        """The highest level that takes at most the budget. Raises MachineProfileError if none does."""
        rows = sorted((row for row in self.times if row.direction == direction), key=lambda row: row.level)
        fitting = [row.level for row in rows if row.predict(pixels) <= budget_ms]
        if not fitting:
            raise MachineProfileError(
                f"level 0 takes about {rows[0].predict(pixels):.0f} ms to {direction} {pixels / 1e6:.2f} megapixels on "
                f"this machine, more than {budget_ms:g} ms: raise --budget-ms or make the picture smaller"
            )
        return max(fitting)


def measure(bundle: Bundle, engine: str, threads: int | None, repetitions: int) -> MachineProfile:
    """Time every level at all `SIZES`."""
    runs = [
        profile(bundle, engine, threads, width=width, height=height, repetitions=repetitions)
        for width, height in SIZES
    ]
    times = [
        _fit(runs, level, direction)
        for level in range(len(bundle.manifest.levels))
        for direction in ("encode", "decode")
    ]
    return MachineProfile(bundle.manifest.model_id, runs[0].engine, threads, tuple(times))


def save(found: MachineProfile, bundle: Bundle, backend: Backend) -> Path:
    """Remember a profile for this bundle, engine and processor. Raises FileError."""
    path = _path(bundle, backend, found.threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(asdict(found), indent=1).encode() + b"\n", overwrite=True)
    return path


def load(bundle: Bundle, backend: Backend, threads: int | None) -> MachineProfile:
    """The profile that `save` remembered. Raises MachineProfileError if there is none."""
    path = _path(bundle, backend, threads)
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        rows = tuple(LevelTime(**row) for row in values.pop("times"))
        return MachineProfile(times=rows, **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        options = "" if threads is None else f" --threads {threads}"
        raise MachineProfileError(
            f"this machine has not been measured with model {bundle.name} on {backend.name}: run "
            f"`basic-run profile --save --engine {backend.name}{options}` once, or name a --level"
        ) from error


def _path(bundle: Bundle, backend: Backend, threads: int | None) -> Path:
    key = [bundle.manifest.model_id, backend.name, backend.version, backend.settings(), threads, processor()]
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    return cache_folder() / "profiles" / f"{name}.json"


def _fit(runs: Sequence[Profile], level: int, direction: str) -> LevelTime:
    """Least relative squares through the medians: a budget is as often small as large."""
    points = [
        (run.width * run.height, timing.p50)
        for run in runs
        for timing in run.timings
        if (timing.level, timing.direction, timing.part) == (level, direction, TOTAL)
    ]
    weights = [1 / ms**2 for _, ms in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    shared = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    per_pixel = max(0.0, shared / spread)
    return LevelTime(level, direction, max(0.0, mean_y - per_pixel * mean_x), per_pixel)
