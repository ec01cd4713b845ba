"""The quality whose file is as large as wanted: a few trial encodes instead of one per quality step."""

from __future__ import annotations

import math
from collections.abc import Callable

from basic_runtime.errors import BasicError

#: Trials, unless none of them fits yet.
MAX_TRIALS = 4

#: Growth of the logarithm of a file's size per quality step before two trials have shown it: tenfold over the scale.
USUAL_SLOPE = math.log(10) / 63

#: A file of at least this share of the target is taken: the next step's is about 4 % larger.
CLOSE_ENOUGH = 0.975


class TargetError(BasicError):
    """No quality gives a file as small as wanted."""


def largest_within(
    encode: Callable[[int], bytes], steps: int, max_bytes: int, first: int | None = None
) -> tuple[int, bytes]:
    """The highest quality step whose file is no larger than `max_bytes`, and the file, by secants of log size.

    `encode` gives the file of a step 0 .. steps - 1, larger ones for higher steps; `first` is tried first. At most
    `MAX_TRIALS` calls, more only while no file fits; then the step may be one or two below the highest possible. Raises
    TargetError if the smallest file is too large.
    """
    fits: tuple[int, float] | None = None
    exceeds: tuple[int, float] | None = None
    best, trials, step = b"", 0, steps // 2 if first is None else first
    while True:
        data = encode(step)
        trials += 1
        point = step, math.log(len(data) / max_bytes)
        if point[1] <= 0:
            fits, best = point, data
        elif step == 0:
            raise TargetError(
                f"the smallest file of this picture has {len(data):,} bytes, more than {max_bytes:,}: "
                "raise the target, or make the picture smaller"
            )
        else:
            exceeds = point
        low = fits[0] if fits else -1
        high = exceeds[0] if exceeds else steps
        close = fits is not None and fits[1] >= math.log(CLOSE_ENOUGH)
        if fits and (high - low == 1 or close or trials >= MAX_TRIALS):
            return fits[0], best
        step = _next_step(fits, exceeds, point, low, high, cautious=not fits and trials >= MAX_TRIALS - 1)


def _next_step(
    fits: tuple[int, float] | None,
    exceeds: tuple[int, float] | None,
    latest: tuple[int, float],
    low: int,
    high: int,
    cautious: bool,
) -> int:
    """Where log size crosses the target, strictly between `low` and `high`."""
    slope = USUAL_SLOPE
    if fits and exceeds:
        slope = (exceeds[1] - fits[1]) / (exceeds[0] - fits[0])
        latest = fits
    crossing = math.floor(latest[0] - latest[1] / max(slope, 1e-6))
    if cautious:
        crossing -= 3
    return min(max(crossing, low + 1), high - 1)
