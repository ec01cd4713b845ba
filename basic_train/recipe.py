"""How to train: plain numbers, importable without PyTorch."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

#: Pictures are coded in blocks of the stride of z.
CROP_MULTIPLE = 64

#: Pixels a side of drawn pages.
PAGE_SIDE = 768

#: MS-SSIM halves a picture four times and then needs a window of 11 pixels.
MS_SSIM_CROP = 192


def _setting(
    default: Any,
    text: str,
    known: tuple[str, ...] = (),
    of: tuple[str, str] | None = None,
    above: float | None = None,
    least: float | None = None,
    share: bool = False,
) -> Any:
    """A field whose text, known values and bounds make the command's option.

    of: a field, and the value of it without which this one changes nothing; above: values are larger; least: values are
    not smaller; share: values lie in [0, 1]. None has no bounds.
    """
    bounds = {"above": above, "least": least, "share": share}
    return field(default=default, metadata={"help": text, "known": known, "of": of, **bounds})


#: Parts of the net that `Recipe.freeze` may name.
PARTS = ("g_a", "h_a", "h_s", "g_s", "context", "alternatives", "gains", "z_prior")

#: Fields by the names that they have in older checkpoints.
EARLIER_NAMES = {"validation_photos": "held_out"}

#: What values of a type are called.
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a table"}


@cache
def _hints(recipe: type) -> dict[str, Any]:
    return get_type_hints(recipe)


@dataclass(frozen=True)
class Recipe:
    """How to train. Each field's meaning is the text of its option. Raises ValueError for impossible values."""

    preset: str = _setting("lite", "Model; `basic-train recipes` names those that have a recipe.")
    model: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "A change of the preset: field of ModelConfig = TOML value."}
    )
    objective: str = _setting("random-widths", "What a step minimises.")
    distortion: str = _setting("mse", "What is weighed against the rate.", ("mse", "ms-ssim"))
    minutes: float = _setting(60.0, "Length of the schedule, over all resumes.", above=0)
    steps: int | None = _setting(None, "Length of the schedule in steps, instead of minutes: repeatable.", above=0)
    batch: int = _setting(16, "Crops per step, all processes together.", above=0)
    accumulate: int = _setting(1, "Parts in which each process computes its share of a batch, to save memory.", above=0)
    crop: int = _setting(256, "Side of a crop, a multiple of 64.")
    gamma: bool = _setting(False, "Change the gamma of crops at random, as the original does.")
    pages: float = _setting(
        0.0, "Share of crops from drawn pages of print, screens, charts and cartoons, not from photos.", share=True
    )
    cache_gigabytes: float | None = _setting(None, "Memory for decoded photos [default: half of the free].", above=0)
    quality_steps: int | None = _setting(None, "Train so many evenly spaced qualities, instead of all.", above=0)
    optimizer: str = _setting("muon", "Of convolution and context weights; all else: Adam.", ("muon", "adam"))
    learning_rate: float = _setting(1e-3, "Of Adam, after the warm-up.", above=0)
    muon_rate: float = _setting(0.01, "Of Muon, after the warm-up.", of=("optimizer", "muon"), above=0)
    warmup_steps: int = _setting(200, "Steps in which the learning rate rises.", above=0)
    decay: float = _setting(1.0, "Share at the end in which the rate falls to zero.", above=0, share=True)
    clip: float = _setting(1.0, "Largest L2 norm of the gradient.", above=0)
    precision: str = _setting("bf16-mixed", "Of the computation.", ("bf16-mixed", "32-true"))
    ema: float = _setting(0.999, "Decay of the averaged weights that are saved.", share=True)
    full_share: float = _setting(
        0.5, "How often a transform runs at full width, not at a random narrower one.", share=True
    )
    uniform_share: float = _setting(
        0.5,
        "How often all transforms run at one width: independent draws hardly ever meet the cheapest level.",
        share=True,
    )
    distillation: float = _setting(
        1.0, "Weight of the distance to the full width's picture.", of=("objective", "distillation"), least=0
    )
    sandwich: bool = _setting(
        True, "Distil to the narrowest width in every step, beside a random one.", of=("objective", "distillation")
    )
    blend: str = _setting(
        "all",
        "Of alternative groupings: each trains beside the first, or all are weighed and the best is kept first.",
        ("all", "learned"),
        ("objective", "combined"),
    )
    revive: int | None = _setting(
        None,
        "Begin by reinitialising dead hidden units, which no crop activates, in each layer from this one on: "
        "0 for all, more to leave those of narrow widths out, for `basic-export` to drop.",
        least=0,
    )
    freeze: str | None = _setting(
        None, f"Parts that keep their weights, with commas between them, of {', '.join(PARTS)}."
    )
    beside: str | None = _setting(
        None, "With --objective interchange: checkpoint of the levels between which and this net files shall go."
    )
    beside_weight: float = _setting(
        0.5,
        "Of the distortion of files that go between this net and those levels.",
        of=("objective", "interchange"),
        least=0,
    )
    seed: int = _setting(0, "Of the weights, crops, widths and noise.", least=0)
    save_minutes: float = _setting(3.0, "Time between saves.", least=0)
    held_out: int = _setting(12, "Held-out photos measured at each save.", above=0)

    def __post_init__(self) -> None:
        for setting in fields(self):
            self._check_type(setting.name)
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: must fit 64 bits")
        if self.crop < CROP_MULTIPLE or self.crop % CROP_MULTIPLE:
            raise ValueError(f"crop={self.crop}: crops are squares of a multiple of {CROP_MULTIPLE} pixels")
        if self.distortion == "ms-ssim" and self.crop < MS_SSIM_CROP:
            raise ValueError(f"crop={self.crop}: MS-SSIM needs crops of at least {MS_SSIM_CROP} pixels")
        if self.pages and self.crop > PAGE_SIDE:
            raise ValueError(f"crop={self.crop}: drawn pages have {PAGE_SIDE} pixels a side")
        for setting in fields(self):
            self._check_bounds(setting)
        if self.beside and self.objective != "interchange":
            raise ValueError(f"beside={self.beside}: is of --objective interchange, not {self.objective}")
        for part in self.frozen:
            if part not in PARTS:
                raise ValueError(f"freeze={self.freeze}: {part!r} is no part of a net; it has {', '.join(PARTS)}")
        for setting in fields(self):
            known = setting.metadata.get("known")
            if known and getattr(self, setting.name) not in known:
                value = getattr(self, setting.name)
                raise ValueError(f"{setting.name}={value}: must be one of {', '.join(known)}")

    def _check_type(self, name: str) -> None:
        """Also makes the whole numbers of a field for floats floats."""
        value, kind = getattr(self, name), self.kind(name)
        if value is None and type(None) in get_args(_hints(type(self))[name]):
            return
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name}={value!r}: must be {KINDS[kind]}")
        if kind is float:
            try:
                object.__setattr__(self, name, float(value))
            except OverflowError as error:
                raise ValueError(f"{name}={value}: must be finite") from error

    def _check_bounds(self, setting: Field[Any]) -> None:
        name, value, bounds = setting.name, getattr(self, setting.name), setting.metadata
        if value is None:
            return
        above, least = bounds.get("above"), bounds.get("least")
        if above is not None and not value > above:
            raise ValueError(f"{name}={value}: must be more than {above}")
        if least is not None and not value >= least:
            raise ValueError(f"{name}={value}: must not be less than {least}")
        if bounds.get("share") and not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: must lie between 0 and 1")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}={value}: must be finite")

    def idle(self, name: str) -> str | None:
        """Why a field changes nothing, where it is of another objective or optimizer than the recipe's."""
        of = next(setting.metadata.get("of") for setting in fields(self) if setting.name == name)
        if of is None or getattr(self, of[0]) == of[1]:
            return None
        return f"is of --{of[0]} {of[1]}, not {getattr(self, of[0])}"

    @property
    def frozen(self) -> list[str]:
        """The parts of `freeze`."""
        return [part.strip() for part in self.freeze.split(",")] if self.freeze else []

    @classmethod
    def kind(cls, name: str) -> type:
        """Type of a field's value where it has one: bool, int, float, str or dict."""
        hint = _hints(cls)[name]
        kinds = [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, UnionType) else [hint]
        return get_origin(kinds[0]) or kinds[0]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `dataclasses.asdict`; fields that the file does not have keep their defaults."""
        values = {EARLIER_NAMES.get(name, name): value for name, value in values.items()}
        known = {setting.name for setting in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def progress(self, step: int, minutes: float) -> float:
        """Share of the schedule that is used up, in [0, 1]."""
        return min(1.0, minutes / self.minutes if self.steps is None else step / self.steps)

    def rate_factor(self, step: int, minutes: float) -> float:
        """What both learning rates are multiplied by: linear warm-up by steps, constant, then linear to zero
        over the last share of the schedule."""
        left = 1 - self.progress(step, minutes)
        return min(1.0, (step + 1) / self.warmup_steps) * min(1.0, left / self.decay)
