"""Measures where the time of a GPU goes: computing and transfers by part of the codec, and the layers of each engine.

The spans are those between CUDA events on the codec's stream. Asking for them waits for the GPU after each part, so
these runs come after those in which `basic_runtime.profile` times the whole from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from basic_runtime.bundle import Bundle
from basic_runtime.codec import DEFAULT_QUALITY, Codec
from basic_runtime.engines import Backend
from basic_runtime.engines.base import DeviceTimes

if TYPE_CHECKING:
    from rich.table import Table

KINDS = ("compute", "transfer")
TOTAL = "total"
DIRECTIONS = ("encode", "decode")


@dataclass(frozen=True)
class DeviceTiming:
    """Milliseconds of GPU time of one part: kind "compute", "transfer", or both together as "all"."""

    level: int
    direction: str
    part: str
    kind: str
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds of one layer of the engine of a part, once."""

    level: int
    part: str
    layer: str
    ms: float


class _DeviceWatch:
    """A trace that gives the GPU time between its beginnings and ends to the parts they belong to."""

    def __init__(self, collect: DeviceTimes) -> None:
        self._collect, self._part = collect, ""
        self.seconds: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._note()
        outer, self._part = self._part, part
        yield
        self._note()
        self._part = outer

    def _note(self) -> None:
        for kind, seconds in self._collect().items():
            found = self.seconds.setdefault(self._part, dict.fromkeys(KINDS, 0.0))
            found[kind] += seconds


def device_profile(
    bundle: Bundle, backend: Backend, picture: NDArray[np.uint8], levels: Sequence[int], repetitions: int
) -> tuple[tuple[DeviceTiming, ...], tuple[LayerTime, ...]]:
    """Times of encode and decode on the back-end's device; nothing for a back-end without one."""
    collect = backend.device_times()
    if collect is None:
        return (), ()
    watch = _DeviceWatch(collect)
    codec = Codec(bundle, backend, trace=watch)
    timings: list[DeviceTiming] = []
    layers: list[LayerTime] = []
    for level in levels:
        works = works_of(codec, picture, level, effort=0)
        works["decode"]()
        for direction in DIRECTIONS:
            runs = []
            for _ in range(repetitions):
                watch.seconds = {}
                works[direction]()
                runs.append(watch.seconds)
            timings += _timings(level, direction, runs)
        for part, graph in graphs_of(bundle, level).items():
            layers += [LayerTime(level, part, layer, ms) for layer, ms in codec.layer_times(graph).items()]
    return tuple(timings), tuple(layers)


def works_of(codec: Codec, picture: NDArray[np.uint8], level: int, effort: int) -> dict[str, Callable[[], object]]:
    """Encoding a picture at a level with an effort, and decoding the file that this gives, by their direction."""
    encode = partial(codec.encode, picture, quality=DEFAULT_QUALITY, level=level, effort=effort)
    return {"encode": encode, "decode": partial(codec.decode, encode(), level=level)}


def graphs_of(bundle: Bundle, level: int) -> dict[str, str]:
    """The graphs of a level by the parts of the codec that they are, as traces name them."""
    spec = bundle.level(level)
    entropy = bundle.entropy(spec.entropy_variant)
    stages = {f"stage {number}": stage.graph for number, stage in enumerate(entropy.stages)}
    return {"g_a": spec.g_a, "h_a": spec.h_a, "h_s": entropy.h_s} | stages | {"g_s": spec.g_s}


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """50th, 90th and 99th, in milliseconds."""
    p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, (50, 90, 99)))
    return p50, p90, p99


def device_table(timings: Sequence[DeviceTiming]) -> Table:
    """The timings as a table for a terminal."""
    from rich.table import Table

    shown = Table(title="GPU time, between CUDA events")
    for heading in ("level", "direction", "part", "kind"):
        shown.add_column(heading)
    for heading in ("p50 ms", "p90 ms", "p99 ms"):
        shown.add_column(heading, justify="right")
    for timing in timings:
        numbers = [f"{value:.3f}" for value in (timing.p50, timing.p90, timing.p99)]
        last = timing.part == TOTAL and timing.kind == "all"
        first = [str(timing.level), timing.direction, timing.part, timing.kind]
        shown.add_row(*first, *numbers, end_section=last)
    return shown


def _timings(level: int, direction: str, runs: list[dict[str, dict[str, float]]]) -> Iterator[DeviceTiming]:
    """Percentiles of each part and kind, then of the sums: "compute" is the picture's time without transfers."""
    for run in runs:
        run[TOTAL] = {kind: sum(part[kind] for part in run.values()) for kind in KINDS}
        run[TOTAL]["all"] = sum(run[TOTAL].values())
    for part in runs[0]:
        for kind in runs[0][part]:
            yield DeviceTiming(level, direction, part, kind, *percentiles([run[part][kind] for run in runs]))
