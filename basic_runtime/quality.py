"""Quality 1..100, as users name it, and quality steps 0..63, as a bundle counts them; 0 gives the smallest files."""

from __future__ import annotations

from basic_runtime.arguments import shown, whole
from basic_runtime.container import QUALITY_STEPS

MIN_QUALITY, MAX_QUALITY = 1, 100


def quality_step(quality: int) -> int:
    """The step of a quality 1..100, monotonic. Raises ValueError outside, TypeError for anything but a whole number."""
    value = whole("quality", quality)
    if not MIN_QUALITY <= value <= MAX_QUALITY:
        raise ValueError(f"quality must be {MIN_QUALITY} to {MAX_QUALITY}, not {shown(value)}")
    return round((value - MIN_QUALITY) * (QUALITY_STEPS - 1) / (MAX_QUALITY - MIN_QUALITY))


def quality_of_step(step: int) -> int:
    """A quality whose step is `step`."""
    return round(MIN_QUALITY + step * (MAX_QUALITY - MIN_QUALITY) / (QUALITY_STEPS - 1))
