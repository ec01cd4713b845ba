"""How to train: plain numbers, importable without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

#: Pictures are coded in blocks of the stride of z.
CROP_MULTIPLE = 64


@dataclass(frozen=True)
class Recipe:
    """How to train. minutes: whole length of the learning-rate schedule, over all resumes; steps: its length
    in steps instead, which makes a run repeatable; decay: share of it at the end in which the rate falls to
    zero; learning_rate: of Adam (biases, gains, prior); muon_rate: of Muon (convolution and context weights);
    full_share: how often a transform runs at full width rather than at a random narrower one; ema:
    decay of the averaged weights that are saved. Raises ValueError for impossible values."""

    preset: str = "lite"
    minutes: float = 60.0
    steps: int | None = None
    batch: int = 8
    crop: int = 256
    learning_rate: float = 1e-3
    muon_rate: float = 0.02
    warmup_steps: int = 200
    decay: float = 0.4
    clip: float = 1.0
    ema: float = 0.9995
    full_share: float = 0.4
    seed: int = 0
    save_minutes: float = 3.0
    validation_photos: int = 12

    def __post_init__(self) -> None:
        if self.crop < CROP_MULTIPLE or self.crop % CROP_MULTIPLE:
            raise ValueError(f"crop={self.crop}: crops are squares of a multiple of {CROP_MULTIPLE} pixels")
        for name in (
            "minutes",
            "steps",
            "batch",
            "learning_rate",
            "muon_rate",
            "warmup_steps",
            "decay",
            "clip",
            "validation_photos",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be more than 0")
        for name in ("full_share", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: must lie between 0 and 1")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `dataclasses.asdict`; fields that the file does not have keep their defaults."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def progress(self, step: int, minutes: float) -> float:
        """Share of the schedule that is used up, in [0, 1]."""
        return min(1.0, minutes / self.minutes if self.steps is None else step / self.steps)

    def rate_factor(self, step: int, minutes: float) -> float:
        """What both learning rates are multiplied by: linear warm-up by steps, constant, then linear to zero
        over the last share of the schedule."""
        left = 1 - self.progress(step, minutes)
        return min(1.0, (step + 1) / self.warmup_steps) * min(1.0, left / self.decay)
