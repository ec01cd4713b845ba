"""The time of each level on this machine: measured once, remembered, and used to find the level, and the effort, of a
time budget."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basic_runtime.arguments import whole
from basic_runtime.bundle import Bundle
from basic_runtime.cache import check_storable, place_of, processor, store
from basic_runtime.device_profile import DIRECTIONS, TOTAL
from basic_runtime.engines import Backend
from basic_runtime.engines.native import native_key
from basic_runtime.errors import MachineProfileError
from basic_runtime.profile import Profile, in_integers, profile
from basic_runtime.threads import default_threads

#: Pictures of these sides are timed, the last two of which are not computed whole. Time per pixel is not constant:
#: small pictures pay for calls, large ones leave the caches. All must be padded, as most must, which takes time.
SIZES = ((250, 250), (760, 500), (1530, 1020), (2300, 1530))

#: A large picture needs fewer repetitions for as steady a median.
LARGE_PIXELS, LARGE_SHARE = 1_000_000, 3

#: Efforts up to this are timed. What a search adds depends on the picture.
HIGHEST_EFFORT = 1


@dataclass(frozen=True)
class LevelTime:
    """Median milliseconds of one direction ("encode" or "decode") at a level and an effort, for pictures of which so
    many pixels each are computed, ascending. The effort of decoding is that of the files."""

    level: int
    direction: str
    effort: int
    pixels: tuple[int, ...]
    ms: tuple[float, ...]

    def predict(self, pixels: int) -> float:
        """Milliseconds for a picture of so many pixels: on straight lines between the sizes that were timed, at the
        largest one's time per pixel beyond them."""
        if pixels >= self.pixels[-1]:
            return self.ms[-1] * pixels / self.pixels[-1]
        return float(np.interp(pixels, self.pixels, self.ms))


@dataclass(frozen=True)
class MachineProfile:
    """Times of all levels of one model on one engine with so many threads. Pictures are computed in whole multiples of
    `stride` rows and columns."""

    model_id: str
    engine: str
    threads: int | None
    stride: int
    times: tuple[LevelTime, ...]

    def checked(self) -> MachineProfile:
        """The same. Raises ValueError for times that no measurement gives."""
        rows = [row for row in self.times if row.pixels and len(row.pixels) == len(row.ms)]
        if not (whole("stride", self.stride) >= 1 and rows and len(rows) == len(self.times)):
            raise ValueError("no times of any size")
        return self

    def computed(self, width: int, height: int) -> int:
        """Pixels that are computed of a picture: what a small one is padded by takes its time, too."""
        return _computed(width, height, self.stride)

    def within(self, direction: str, width: int, height: int, budget_ms: float, effort: int | None = None) -> LevelTime:
        """The highest level that takes at most the budget, and of its efforts, or with this one, the highest that does:
        a level is worth more than an effort. Raises MachineProfileError if none does."""
        pixels = self.computed(width, height)
        rows = [row for row in self.times if row.direction == direction and effort in (None, row.effort)]
        if not rows:
            raise MachineProfileError(f"effort {effort} was not measured, as this model has none: leave --effort out")
        fitting = [row for row in rows if row.predict(pixels) <= budget_ms]
        if not fitting:
            fastest = min(row.predict(pixels) for row in rows)
            raise MachineProfileError(
                f"level 0 takes about {fastest:.0f} ms to {direction} {width}x{height} pixels on "
                f"this machine, more than {budget_ms:g} ms: raise --budget-ms or make the picture smaller"
            )
        return max(fitting, key=lambda row: (row.level, row.effort))


def measure(
    bundle: Bundle, backend: Backend, repetitions: int, show: Callable[[int, int], None] = lambda done, total: None
) -> MachineProfile:
    """Time every level at all `SIZES`, with every effort that this is done for; decoding of files of the highest. Calls
    `show` with how many of these are done, and how many there are."""
    highest, stride = min(HIGHEST_EFFORT, bundle.default_effort), bundle.manifest.z_stride
    total, done = len(SIZES) * len(bundle.manifest.levels) * (highest + 1), itertools.count(1)
    times: list[LevelTime] = []
    for effort in range(highest + 1):
        directions = DIRECTIONS if effort == highest else DIRECTIONS[:1]
        runs = [
            profile(
                bundle,
                backend,
                width=width,
                height=height,
                repetitions=repetitions if width * height < LARGE_PIXELS else -(-repetitions // LARGE_SHARE),
                effort=effort,
                directions=directions,
                tell=lambda: show(next(done), total),
            )
            for width, height in SIZES
        ]
        times += [
            _level_time(runs, stride, level, direction, effort)
            for level in range(len(bundle.manifest.levels))
            for direction in directions
        ]
    return MachineProfile(bundle.manifest.model_id, runs[0].engine, backend.threads, stride, tuple(times))


def save(found: MachineProfile, bundle: Bundle, backend: Backend) -> Path:
    """Remember a profile for this bundle, engine and processor. Raises FileError."""
    path = _path(bundle, backend)
    store(path, json.dumps(asdict(found), indent=1).encode() + b"\n")
    return path


def check_place(bundle: Bundle, backend: Backend) -> None:
    """Raises FileError if `save` could not write: better known before measuring."""
    check_storable(_path(bundle, backend))


def load(bundle: Bundle, backend: Backend) -> MachineProfile:
    """The profile that `save` remembered. Raises MachineProfileError if there is none."""
    path = _path(bundle, backend)
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        rows = tuple(
            LevelTime(row["level"], row["direction"], row["effort"], tuple(row["pixels"]), tuple(row["ms"]))
            for row in values.pop("times")
        )
        return MachineProfile(times=rows, **values).checked()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        options = each = ""
        if backend.threads is not None:  # chosen with --threads, or what --jobs leaves
            options = f" --threads {backend.threads}"
            each = f" with {backend.threads} of its threads a picture (by --threads or --jobs)"
        options += "" if backend.precision == backend.precisions[0] else f" --precision {backend.precision}"
        raise MachineProfileError(
            f"this machine has not been measured with model {bundle.name} on {backend.name}{each}: run "
            f"`basic-run profile --save --engine {backend.name}{options}` once, or name a --level"
        ) from error


def _path(bundle: Bundle, backend: Backend) -> Path:
    integers = in_integers(bundle, backend)
    key = [
        bundle.manifest.model_id,
        backend.name,
        None if integers else backend.version,
        backend.settings(),
        backend.threads or (default_threads() if integers else None),
        native_key() if backend.native_entropy else None,
        processor(),
    ]
    return place_of("profiles", key).with_suffix(".json")


def _computed(width: int, height: int, stride: int) -> int:
    return math.prod(-(-side // stride) * stride for side in (width, height))


def _level_time(runs: Sequence[Profile], stride: int, level: int, direction: str, effort: int) -> LevelTime:
    medians = [
        timing.p50
        for run in runs
        for timing in run.timings
        if (timing.level, timing.direction, timing.part) == (level, direction, TOTAL)
    ]
    pixels = tuple(_computed(run.width, run.height, stride) for run in runs)
    return LevelTime(level, direction, effort, pixels, tuple(medians))
