"""The rules by which photos of a training set are chosen and downsampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Size(NamedTuple):
    """Pixels of a result, and what the source's sides were divided by."""

    width: int
    height: int
    factor: float


@dataclass(frozen=True)
class Procedure:
    """Rules for a training set. Raises ValueError for impossible values.

    min_side: shortest side of a result, in pixels. factor: what the sides of lossy sources are divided by, to
    strip the 8x8 blocks and the missing high frequencies of JPEG. max_side: longest side of a result.
    halve_above: the original's rule in place of these two, sides are halved where the shorter one exceeds
    this. near: photos whose 256-bit hashes differ in at most so many bits count as one; None keeps all.
    count: how many photos to choose, by `choose`; None takes all.
    """

    min_side: int = 256
    factor: float = 2.0
    max_side: int | None = 2048
    halve_above: int | None = None
    near: int | None = 12
    skip_transparent: bool = True
    count: int | None = None
    choose: Literal["largest", "random"] = "largest"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor={self.factor}: pictures are made smaller, never larger")
        if self.max_side is not None and self.max_side < self.min_side:
            raise ValueError(f"max_side={self.max_side} is less than min_side={self.min_side}")

    def result(self, width: int, height: int, lossy: bool) -> Size | None:
        """Size of the result for a source, or None if it would be smaller than `min_side`."""
        if self.halve_above is not None:
            halve = 2 if min(width, height) > self.halve_above else 1
            size = Size(width // halve, height // halve, float(halve))
        else:
            factor = self.factor if lossy else 1.0
            if self.max_side is not None:
                factor = max(factor, max(width, height) / self.max_side)
            size = Size(round(width / factor), round(height / factor), factor)
        return size if min(size.width, size.height) >= self.min_side else None


#: The original's training set (README of BaSIC, ECCV 2024): of the training part of ImageNet, the 8000 pictures with
#: most pixels, halved where the shorter side exceeds 512. The noise that the original's script adds before it
#: rounds down lies in [0, 1) and changes nothing, so there is none here.
IMAGENET_SUBSET = Procedure(
    min_side=1, factor=1.0, max_side=None, halve_above=512, near=None, skip_transparent=False, count=8000
)

PROCEDURES = {"imagenet-subset": IMAGENET_SUBSET}
