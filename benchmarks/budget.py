"""How well --budget-ms keeps to its budget: a machine profile, and times of pictures whose sizes it did not see.

    python benchmarks/budget.py [--engine auto] [--threads 2] [--reps 9]

For each size, and for encoding with effort 0 and 1 and decoding, a budget between the predictions of each two levels is
given, and the level that it picks is timed: "of budget" is the median time over the budget, least and most over all of
them; "of prediction" is that over the time that the profile foretold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import click

from basic_runtime import machine
from basic_runtime.bundle import Bundle
from basic_runtime.codec import DEFAULT_QUALITY, Codec
from basic_runtime.profile import synthetic_picture

SIZES = ((400, 300), (640, 480), (1000, 700), (1280, 960), (2000, 1400))


def timed(work: Callable[[], object], reps: int) -> float:
    """Median milliseconds, after one that does not count."""
    times = []
    for _ in range(reps + 1):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return median(times[1:])


@click.command()
@click.option("--engine", default="auto", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--reps", default=9, show_default=True)
def main(engine: str, threads: int, reps: int) -> None:
    """Print a Markdown table."""
    bundle = Bundle()
    codec = Codec(bundle, engine, threads=threads)
    found = machine.measure(bundle, codec.backend, reps)
    print("| size | direction | budgets, ms | of prediction | of budget |\n|---|---|---|---|---|")
    for width, height in SIZES:
        picture = synthetic_picture(width, height)
        levels = range(len(bundle.manifest.levels))
        files = [codec.encode(picture, quality=DEFAULT_QUALITY, level=level) for level in levels]
        for direction, effort in (("encode", 0), ("encode", 1), ("decode", 1)):
            rows = [row for row in found.times if (row.direction, row.effort) == (direction, effort)]
            predicted = sorted(row.predict(found.computed(width, height)) for row in rows)
            budgets = [(a + b) / 2 for a, b in zip(predicted, predicted[1:], strict=False)]
            foretold, kept = [], []
            for budget in budgets:
                level = found.within(direction, width, height, budget, effort).level
                if direction == "encode":
                    ms = timed(
                        partial(codec.encode, picture, quality=DEFAULT_QUALITY, level=level, effort=effort), reps
                    )
                else:
                    ms = timed(partial(codec.decode, files[level], level=level), reps)
                (row,) = (row for row in rows if row.level == level)
                foretold.append(ms / row.predict(found.computed(width, height)))
                kept.append(ms / budget)
            cells = [f"{min(values):.2f} to {max(values):.2f}" for values in (foretold, kept)]
            span = f"{budgets[0]:.0f} to {budgets[-1]:.0f}"
            shown = direction if direction == "decode" else f"{direction}, effort {effort}"
            print(f"| {width}x{height} | {shown} | {span} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
