"""Times each part of encoding and decoding at each level: percentiles, with the MACs of each part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.device_profile import (
    DIRECTIONS,
    TOTAL,
    DeviceTiming,
    LayerTime,
    device_profile,
    graphs_of,
    percentiles,
    works_of,
)
from basic_runtime.engines import AUTO, INT16, Backend
from basic_runtime.engines.native import native_version
from basic_runtime.errors import MissingExtraError
from basic_runtime.files import check_target, write_file

if TYPE_CHECKING:
    from rich.table import Table

_MOVING = "moving data"
_PLOT_GROUPS = ("g_a", "h_a", "h_s", "stages", "ans", "g_s", _MOVING)


@dataclass(frozen=True)
class Timing:
    """Time of one part of one direction ("encode" or "decode") at one level, in milliseconds.

    `gmacs` counts 10^9 multiply-accumulates of the graph for the whole picture; None if it has no graph.
    """

    level: int
    direction: str
    part: str
    p50: float
    p90: float
    p99: float
    gmacs: float | None


@dataclass(frozen=True)
class Profile:
    """All timings of one run and what they were taken with."""

    model: str
    engine: str
    threads: int | None
    width: int
    height: int
    repetitions: int
    timings: tuple[Timing, ...]
    device: tuple[DeviceTiming, ...] = ()
    layers: tuple[LayerTime, ...] = ()


class _Stopwatch:
    """A trace that adds up the seconds of each part, however often the part runs; a part within another is not
    counted there too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        yield
        whole = time.perf_counter() - start
        self.seconds[part] = self.seconds.get(part, 0.0) + whole - self._inner
        self._inner = outer + whole


def profile(
    bundle: Bundle,
    backend: Backend | str = AUTO,
    *,
    width: int = 768,
    height: int = 512,
    levels: Sequence[int] | None = None,
    repetitions: int = 10,
    effort: int = 0,
    directions: Sequence[str] = DIRECTIONS,
    tell: Callable[[], None] = lambda: None,
) -> Profile:
    """Time encode, with this effort, and decode of a synthetic picture at `levels` (default: all) on a back-end, or the
    one of this name, after one warm-up each; calls `tell` after each level."""
    watch = _Stopwatch()
    codec = Codec(bundle, backend, trace=watch)
    backend = codec.backend
    picture = synthetic_picture(width, height)
    timings: list[Timing] = []
    levels = levels if levels is not None else range(len(bundle.manifest.levels))
    for level in levels:
        codec.load(level)
        works = works_of(codec, picture, level, effort)
        for direction in directions:
            runs = _repeat(works[direction], watch, repetitions)
            macs = _macs_of_parts(bundle, level, direction, width * height, effort)
            timings += [_timing(level, direction, part, seconds, macs) for part, seconds in runs.items()]
        tell()
    usual = backend.precision == backend.precisions[0]
    computing = native_version() if in_integers(bundle, backend) else backend.version
    label = f"{backend.name} {computing}" + ("" if usual else f", {backend.precision}")
    device, layers = device_profile(bundle, backend, picture, levels, repetitions)
    return Profile(bundle.name, label, backend.threads, width, height, repetitions, tuple(timings), device, layers)


def in_integers(bundle: Bundle, backend: Backend) -> bool:
    """Whether this package computes all graphs itself: libraries that are installed then make no difference."""
    graphs = bundle.manifest.graphs.values()
    return backend.precision == INT16 and all(graph.formats for graph in graphs if graph.path == "pixel")


def synthetic_picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) of photo-like content: soft blobs at several scales with a little grain."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(0, 4, (height, width, 3)).astype(np.float32) + 128
    for cell in (8, 32, 128):
        rows, columns = np.arange(height) / cell, np.arange(width) / cell
        coarse = rng.normal(0, 20, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        across = _between(coarse, columns, axis=1)
        picture += _between(across, rows, axis=0)
    return np.clip(picture, 0, 255).astype(np.uint8)


def table(result: Profile) -> Table:
    """The timings as a table for a terminal."""
    from rich.table import Table

    threads = f", {result.threads} threads" if result.threads else ""
    shown = Table(
        title=f"{result.model} on {result.engine}{threads}, {result.width}x{result.height}, {result.repetitions} runs"
    )
    for heading in ("level", "direction", "part"):
        shown.add_column(heading)
    for heading in ("p50 ms", "p90 ms", "p99 ms", "GMAC", "GMAC/s"):
        shown.add_column(heading, justify="right")
    for timing in result.timings:
        numbers = [f"{value:.2f}" for value in (timing.p50, timing.p90, timing.p99)]
        rate = f"{1000 * timing.gmacs / timing.p50:.0f}" if timing.gmacs else ""
        macs = f"{timing.gmacs:.3f}" if timing.gmacs is not None else ""
        first = [str(timing.level), timing.direction, timing.part]
        shown.add_row(*first, *numbers, macs, rate, end_section=timing.part == TOTAL)
    return shown


def check_plot(path: str | Path, overwrite: bool = False) -> None:
    """Raises MissingExtraError without matplotlib, FileError if `path` cannot or may not be written: better known
    before measuring."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError.of("a plot", "plot")
    check_target(path, overwrite)


def write_plot(result: Profile, path: str | Path, *, overwrite: bool = False) -> None:
    """Stacked bars of the median milliseconds of each part, by level, as a PNG.

    Raises what `check_plot` does.
    """
    check_plot(path, overwrite)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    for axes, direction in zip(figure.subplots(1, 2, sharey=True), DIRECTIONS, strict=True):
        _plot_direction(axes, [timing for timing in result.timings if timing.direction == direction])
        _mark_device_time(axes, [timing for timing in result.device if timing.direction == direction])
        axes.set_title(direction)
    figure.suptitle(f"{result.model} on {result.engine}, {result.width}x{result.height}")
    write_file(path, lambda file: figure.savefig(file, format="png", dpi=110), overwrite=overwrite)


def _repeat(work: Callable[[], object], watch: _Stopwatch, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each part in each repetition, the whole call under TOTAL, last."""
    work()
    runs: list[dict[str, float]] = []
    for _ in range(repetitions):
        watch.seconds = {}
        start = time.perf_counter()
        work()
        runs.append(watch.seconds | {TOTAL: time.perf_counter() - start})
    return {part: [run[part] for run in runs] for part in runs[0]}


def _timing(level: int, direction: str, part: str, seconds: list[float], macs: dict[str, float]) -> Timing:
    return Timing(level, direction, part, *percentiles(seconds), macs.get(part))


def _macs_of_parts(bundle: Bundle, level: int, direction: str, pixels: int, effort: int) -> dict[str, float]:
    """Giga-MACs of the parts that are one graph each; those of a search (from effort 2 on) are not counted."""
    idle = {"g_a", "h_a"} if direction == "decode" else set() if effort else {"g_s"}
    macs = {
        part: bundle.graph(graph).macs_per_pixel * pixels / 1e9
        for part, graph in graphs_of(bundle, level).items()
        if part not in idle
    }
    return macs | {TOTAL: sum(macs.values())}


def _between(values: NDArray[np.float32], where: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Linear interpolation of `values` along `axis` at the fractional positions `where`."""
    low = where.astype(np.int64)
    shape = [1, 1, 1]
    shape[axis] = len(where)
    part = (where - low).astype(np.float32).reshape(shape)
    result: NDArray[np.float32] = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
    return result


def _plot_direction(axes: Any, timings: list[Timing]) -> None:
    levels = sorted({timing.level for timing in timings})
    positions = list(range(len(levels)))
    bottoms = np.zeros(len(levels))
    for number, group in enumerate(_PLOT_GROUPS):
        heights = np.array(
            [sum(t.p50 for t in timings if t.level == level and _plot_group(t) == group) for level in levels]
        )
        if heights.any():
            axes.bar(positions, heights, bottom=bottoms, label=group, color=f"C{number}")
        bottoms += heights
    for position, level in zip(positions, levels, strict=True):
        gmacs = next(t.gmacs for t in timings if t.level == level and t.part == TOTAL)
        where = (position, bottoms[position])
        axes.annotate(f"{gmacs:.2f} GMAC", where, ha="center", va="bottom", fontsize=7)
    axes.margins(y=0.15)
    axes.set_xticks(positions, [str(level) for level in levels])
    axes.set_xlabel("level")
    axes.set_ylabel("median ms")
    axes.legend(fontsize=8, loc="upper left")


def _mark_device_time(axes: Any, timings: Sequence[DeviceTiming]) -> None:
    """A line across each bar at what the GPU alone computes, transfers left out."""
    computing = [timing for timing in timings if (timing.part, timing.kind) == (TOTAL, "compute")]
    if computing:
        axes.plot(range(len(computing)), [t.p50 for t in computing], "k_", markersize=20, label="GPU computes")
        axes.legend(fontsize=8, loc="upper left")


def _plot_group(timing: Timing) -> str | None:
    """The bar a part belongs to: all stages are one, and so is all that moves data. None for the total."""
    if timing.part == TOTAL:
        return None
    if timing.part.startswith("stage "):
        return "stages"
    return timing.part if timing.part in _PLOT_GROUPS else _MOVING
