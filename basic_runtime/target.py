"""Finds the quality step for a size or a PSNR, with a few trial encodes instead of one for each step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from basic_runtime.errors import TargetError

MAX_TRIALS, MAX_PSNR_TRIALS = 4, 6
"""Trials for a size and for a PSNR, unless none of them meets it yet."""

USUAL_SLOPE = math.log(10) / 63
"""Growth of the logarithm of a file's size per quality step before two trials have shown it: tenfold over the scale."""

CLOSE_ENOUGH = 0.975
"""A file of at least this share of the target is taken: the next step's is about 4 % larger."""

CAUTION = 3
"""Steps below where files should begin to fit, for the last trial, if none has fitted."""

USUAL_GAIN, LEAST_GAIN, CLOSE_DECIBELS = 0.17, 0.04, 0.1
"""Decibels of PSNR per quality step before two trials have shown it, the least that is reckoned with where they nearly
agree, and how much more than the target is taken."""


@dataclass(frozen=True)
class _Course:
    """How trials approach a target: the growth per step before two trials have shown it, the least that is reckoned
    with, how far below the target is close enough, how many trials there are while one meets it, and by how many steps
    more the last one of these stays below while none does."""

    slope: float
    least: float
    close: float
    trials: int
    caution: int = 0


_SIZES = _Course(USUAL_SLOPE, 1e-6, -math.log(CLOSE_ENOUGH), MAX_TRIALS, CAUTION)
_PSNRS = _Course(USUAL_GAIN, LEAST_GAIN, CLOSE_DECIBELS, MAX_PSNR_TRIALS)


def largest_within(
    encode: Callable[[int], bytes], steps: int, max_bytes: int, first: int | None = None
) -> tuple[int, bytes]:
    """The highest quality step whose file is no larger than `max_bytes`, and the file, by secants of log size.

    `encode` gives the file of a step 0 .. steps - 1, larger ones for higher steps; `first` is tried first. At most
    `MAX_TRIALS` calls, more only while no file fits; then the step may be one or two below the highest possible. Raises
    TargetError if the smallest file is too large.
    """

    def trial(step: int) -> tuple[bytes, float]:
        data = encode(step)
        if step == 0 and len(data) > max_bytes:
            raise TargetError(
                f"the smallest file of this picture has {len(data):,} bytes, more than {max_bytes:,}: "
                "raise the target, or make the picture smaller"
            )
        return data, math.log(len(data) / max_bytes)

    return _highest_met(trial, steps, steps // 2 if first is None else first, _SIZES)


def smallest_reaching(
    encode: Callable[[int], tuple[bytes, float]],
    steps: int,
    target: float,
    first: int | None = None,
    way_out: str = "lower the target",
) -> tuple[int, bytes]:
    """The lowest quality step whose picture has a PSNR of at least `target` dB, and its file, by secants.

    `encode` gives the file of a step 0 .. steps - 1 and its PSNR, which grows with the step; `first` is tried first. A
    picture within `CLOSE_DECIBELS` of the target is taken, and after `MAX_PSNR_TRIALS` calls, or as soon as one reaches
    it, the lowest so far. Raises TargetError, with this way out, if the best picture does not reach it.
    """
    last = steps - 1

    def trial(below_last: int) -> tuple[bytes, float]:
        data, reached = encode(last - below_last)
        if below_last == 0 and reached < target:
            raise TargetError(
                f"this picture reaches {reached:.2f} dB at the highest quality, not {target:g}: {way_out}"
            )
        return data, target - reached

    # What a picture lacks to the target grows with the steps below the last one, as size does with those above 0.
    found, data = _highest_met(trial, steps, last - (steps // 2 if first is None else first), _PSNRS)
    return last - found, data


def _highest_met(
    trial: Callable[[int], tuple[bytes, float]], steps: int, step: int, course: _Course
) -> tuple[int, bytes]:
    """The highest step 0 .. steps - 1 whose value is not above 0, and its file: `trial` gives a step's file and value,
    which grows with the step, and raises an error for a step 0 whose value is above."""
    met: tuple[int, float] | None = None
    missed: tuple[int, float] | None = None
    point: tuple[int, float] | None = None
    best, slope = b"", course.slope
    for count in itertools.count(1):
        data, value = trial(step)
        before, point = point, (step, value)
        if value <= 0:
            met, best = point, data
        else:
            missed = point
        low, high = met[0] if met else -1, missed[0] if missed else steps
        if met and (high - low == 1 or met[1] >= -course.close or count >= course.trials):
            break
        slope = max(_slope(point, (missed if point is met else met) or before, slope), course.least)
        crossing = step - value / slope  # infinite where the picture has no error at all
        if not met and count >= course.trials - 1:
            crossing -= course.caution
        step = math.floor(min(max(crossing, low + 1), high - 1))
    return low, best


def _slope(point: tuple[int, float], other: tuple[int, float] | None, known: float) -> float:
    """Growth per step from one trial to another, such as the last one on the other side of the target; what is `known`
    where there is no other, or where the picture of one has no error at all."""
    if other is None or not math.isfinite(point[1] - other[1]):
        return known
    return (point[1] - other[1]) / (point[0] - other[0])


def steps_above(size: int, max_bytes: int) -> int:
    """About how many quality steps lower the file would fit."""
    return math.ceil(math.log(size / max_bytes) / USUAL_SLOPE)


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
    except TargetError:  # an effort trades bits for error, and may miss a target that was met without
        return plain
