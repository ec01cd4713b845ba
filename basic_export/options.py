"""Options of an export, and its progress."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from basic_train.progress import Progress

LONGEST_NAME = 15
NAME_PATTERN = rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}"
NAME_KIND = f"1 to {LONGEST_NAME} letters, digits, dots, dashes or underscores"

#: Latents of golden vectors are those of a picture of so many pixels a side, a multiple of 64.
GOLDEN_SIDE = 128

#: Pictures that engines take: the smallest padded one, a photo as it is measured elsewhere, for which they are tuned,
#: and the largest.
PICTURE_SIZES = ((64, 64), (768, 512), (1536, 1536))


@dataclass(frozen=True)
class Options:
    """name: of the model, written in every file, at most 15 characters; photos: a folder for calibration, check_photo:
    a picture for the comparison with PyTorch (both default to scikit-image's)."""

    name: str
    levels: int = 8
    photos: Path | None = None
    check_photo: Path | None = None
    verify: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"name={self.name!r}: must be {NAME_KIND}")


class Steps:
    """Reports each step of an export as it begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self, text: str) -> None:
        self._progress(text, self._done, None)  # graphs that levels share are found on the way
        self._done += 1
