"""The quality whose file is as large, or whose picture is as good, as wanted: a few trial encodes instead of one for
each quality step."""

from __future__ import annotations

import math
from collections.abc import Callable

from basic_runtime.errors import TargetError

#: Trials, unless none of them fits yet.
MAX_TRIALS = 4

#: Growth of the logarithm of a file's size per quality step before two trials have shown it: tenfold over the scale.
USUAL_SLOPE = math.log(10) / 63

#: A file of at least this share of the target is taken: the next step's is about 4 % larger.
CLOSE_ENOUGH = 0.975

#: Steps below where files should begin to fit, for the last trial, if none has fitted.
CAUTION = 3

#: Decibels of PSNR per quality step before two trials have shown it, the least that is reckoned with where they nearly
#: agree, and how much more than the target is taken.
USUAL_GAIN, LEAST_GAIN, CLOSE_DECIBELS = 0.17, 0.04, 0.1

#: Trials for a PSNR, unless none of them reaches it yet.
MAX_PSNR_TRIALS = 6


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
    point: tuple[int, float] | None = None
    best, trials, step, slope = b"", 0, steps // 2 if first is None else first, USUAL_SLOPE
    while True:
        data = encode(step)
        trials += 1
        before, point = point, (step, math.log(len(data) / max_bytes))
        if point[1] <= 0:
            fits, best = point, data
        elif step == 0:
            raise TargetError(
                f"the smallest file of this picture has {len(data):,} bytes, more than {max_bytes:,}: "
                "raise the target, or make the picture smaller"
            )
        else:
            exceeds = point
        low, high = fits[0] if fits else -1, exceeds[0] if exceeds else steps
        close = fits is not None and fits[1] >= math.log(CLOSE_ENOUGH)
        if fits and (high - low == 1 or close or trials >= MAX_TRIALS):
            return fits[0], best
        slope = _slope(point, (exceeds if point is fits else fits) or before, slope)
        crossing = math.floor(point[0] - point[1] / slope)
        if not fits and trials >= MAX_TRIALS - 1:
            crossing -= CAUTION
        step = min(max(crossing, low + 1), high - 1)


def steps_above(size: int, max_bytes: int) -> int:
    """By about how many quality steps a file is too large."""
    return math.ceil(math.log(size / max_bytes) / USUAL_SLOPE)


def _slope(point: tuple[int, float], other: tuple[int, float] | None, known: float) -> float:
    """Growth per step from one trial to another, such as the last one on the other side of the target; what is `known`
    where there is no other, or where the picture of one has no error at all."""
    if other is None or not math.isfinite(point[1] - other[1]):
        return known
    return max((point[1] - other[1]) / (point[0] - other[0]), 1e-6)


def smallest_reaching(
    encode: Callable[[int], tuple[bytes, float]], steps: int, target: float, first: int | None = None
) -> tuple[int, bytes]:
    """The lowest quality step whose picture has a PSNR of at least `target` dB, and its file, by secants.

    `encode` gives the file of a step 0 .. steps - 1 and its PSNR, which grows with the step; `first` is tried first. A
    picture within `CLOSE_DECIBELS` of the target is taken, and after `MAX_PSNR_TRIALS` calls, or as soon as one reaches
    it, the lowest so far. Raises TargetError if the best picture does not reach it.
    """
    below: tuple[int, float] | None = None
    above: tuple[int, float] | None = None
    best, trials, step, gain = b"", 0, steps // 2 if first is None else first, USUAL_GAIN
    point: tuple[int, float] | None = None
    while True:
        data, reached = encode(step)
        trials += 1
        before, point = point, (step, reached - target)
        if point[1] >= 0:
            above, best = point, data
        elif step == steps - 1:
            raise TargetError(
                f"this picture reaches {reached:.2f} dB at the highest quality, not {target:g}: lower the target, or "
                "take a higher level"
            )
        else:
            below = point
        low, high = below[0] if below else -1, above[0] if above else steps
        if above and (high - low == 1 or above[1] <= CLOSE_DECIBELS or trials >= MAX_PSNR_TRIALS):
            return above[0], best
        gain = max(_slope(point, (below if point is above else above) or before, gain), LEAST_GAIN)
        crossing = point[0] - point[1] / gain  # -inf where the picture has no error at all
        step = math.ceil(max(min(crossing, high - 1), low + 1))


def search_twice(
    search: Callable[[int, int | None], tuple[int, bytes]], steps: int, effort: int, ahead: int, last_resort: int
) -> bytes:
    """The file that `search(effort, first step)` finds: without an effort, to find about where, and then with it, from
    `ahead` of the `steps` further on; from the step `last_resort` where the target is missed without."""
    try:
        step, plain = search(0, None)
    except TargetError:
        return search(effort, last_resort)[1]
    try:
        return search(effort, min(step + ahead, steps - 1))[1]
    except TargetError:  # an effort trades some of the one for some of the other, and may miss what was met
        return plain
