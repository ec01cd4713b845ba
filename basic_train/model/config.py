"""`ModelConfig`: everything that fixes the shape of a supernet.

Presets and backbones build on this module; it knows backbones by name only.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from basic_train.grouping import Grouping, tiled
from basic_train.model.context import ContextShape
from basic_train.model.linear import LINEAR_COMPONENTS
from basic_train.model.priors import DENSITIES

CONTEXTS = ("grouped", "scale-only")

#: Fields that name something, with what they can name.
NAMES = {
    "backbone": ("lite", "paper", "hyperprior", "cheng2020", "elic"),
    "density": tuple(DENSITIES),
    "context": CONTEXTS,
    "scale_parameter": ("log", "linear"),
}

#: Fields with numbers of channels for each width.
PER_WIDTH = ("widths", "hyper_widths", "priors", "analysis_widths", "latents")

#: Fields that are whole numbers, and their least value.
WHOLE_NUMBERS = {
    "y_channels": 1,
    "z_channels": 1,
    "context_kernel": 1,
    "quarter_blocks": 0,
    "eighth_blocks": 0,
    "latent_blocks": 0,
    "quality_anchors": 2,
}


def _require_whole(name: str, value: Any, least: int) -> None:
    """Raises ValueError for what is no whole number or is too small."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name}: {value!r} must be a whole number, at least {least}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a supernet.

    widths: of g_a and g_s, ascending; hyper_widths: of h_a and h_s; priors and contexts: channels of the prior of y
    and of the context model at each h_s width. scale_parameter: what the context model's second output means, "log"
    (index into the scale table, linear in ln sigma) or "linear" (sigma itself, as in the original). density: of y
    about its mean, "gaussian" or "logistic". grouping: stage of each channel group and phase as nested lists (G, t,
    t). analysis_widths: of g_a where they are not those of g_s. latents: channels of y and of z at each width where
    they go with it, for which all transforms must run at one width. linear_path: of `lite`, whether g_a and g_s
    start as a linear transform of the training photos (`basic_train.model.linear`). phase_bias: of the grouped
    context model (`GroupedContext`). context: "grouped", or "scale-only" for none (means 0, scales from h_s).
    alternatives: further groupings, each {"name": ..., "tile": ...} with a context model of its own (the original's
    combined entropy coder). train_rounded: whether training shows the context model and the scales rounded latents
    (`Supernet.means_and_rate`), not noise; scales that start at their least learn nothing from symbols that are all
    zero.
    """

    preset: str
    backbone: str
    widths: tuple[int, ...]
    hyper_widths: tuple[int, ...]
    priors: tuple[int, ...]
    contexts: tuple[ContextShape, ...]
    y_channels: int
    z_channels: int
    grouping_name: str
    grouping: list[list[list[int]]]
    scale_parameter: str = "log"
    density: str = "gaussian"
    train_rounded: bool = False
    context_kernel: int = 5
    context_slope: float = 0.01
    phase_bias: bool = False
    quarter_blocks: int = 2
    eighth_blocks: int = 5
    latent_blocks: int = 0
    linear_path: bool = False
    lambda_min: float = 0.0014
    lambda_max: float = 0.14
    quality_anchors: int = 8
    levels: list[dict[str, int]] = field(default_factory=list)
    analysis_widths: tuple[int, ...] = ()
    latents: tuple[int, ...] = ()
    context: str = "grouped"
    alternatives: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        per_width = [self.widths, self.hyper_widths, self.priors]
        per_width += [self.contexts] if self.context == "grouped" else []
        per_width += [values for values in (self.analysis_widths, self.latents) if values]
        if len({len(values) for values in per_width}) != 1:
            raise ValueError("fields with a value per width need as many values as `widths` has")
        for name, known in NAMES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        self._check_channels()
        self._check_numbers()
        if self.latents and (self.backbone != "hyperprior" or self.context != "scale-only"):
            raise ValueError("latents that go with the width need backbone hyperprior, context scale-only")
        if self.latents and {max(self.latents)} != {self.y_channels, self.z_channels}:
            raise ValueError("y_channels and z_channels must be the largest of latents")
        if self.context == "scale-only" and self.priors != self.y_widths:
            raise ValueError("without a context model the prior is the scale of y: as many priors as y_channels")
        if self.linear_path and self.backbone != "lite":
            raise ValueError(f"backbone {self.backbone!r} has no linear_path; `lite` has")
        if self.linear_path and self.y_channels > LINEAR_COMPONENTS:
            raise ValueError(f"y_channels={self.y_channels}: a linear_path has {LINEAR_COMPONENTS} components")
        if self.alternatives and self.context != "grouped":
            raise ValueError("alternatives are groupings of a grouped context model, which this model has not")
        if any(set(item) != {"name", "tile"} for item in self.alternatives):
            raise ValueError("each of alternatives has a name and a tile")

    def _check_channels(self) -> None:
        """Whole numbers, of which blocks take halves; they do not fall, as a width is a prefix of the next."""
        found = {name: getattr(self, name) for name in PER_WIDTH}
        for field_of_shape in ("context", "hidden1", "hidden2"):
            found[f"contexts.{field_of_shape}"] = [getattr(shape, field_of_shape) for shape in self.contexts]
        for name, values in found.items():
            for value in values:
                _require_whole(name, value, 2 if name in ("widths", "analysis_widths") else 1)
            if list(values) != sorted(values):
                raise ValueError(f"{name}={list(values)}: must not fall, as each width is a part of the next")

    def _check_numbers(self) -> None:
        for name, least in WHOLE_NUMBERS.items():
            _require_whole(name, getattr(self, name), least)
        for name in ("train_rounded", "phase_bias", "linear_path"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be true or false")
        for name in ("lambda_min", "lambda_max", "context_slope"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value!r}: must be a number, not below 0")
        if not 0 < self.lambda_min <= self.lambda_max:
            raise ValueError(
                f"lambda_min={self.lambda_min}, lambda_max={self.lambda_max}: must be above 0, the first not above the "
                "second"
            )
        if self.context_kernel % 2 == 0:
            raise ValueError(f"context_kernel={self.context_kernel}: a kernel with a middle has an odd side")

    @property
    def encoder_widths(self) -> tuple[int, ...]:
        """Widths of g_a."""
        return self.analysis_widths or self.widths

    def channels(self, transform: str, index: int) -> int:
        """Channels of g_a, h_a, h_s or g_s at a width index."""
        widths = {"g_a": self.encoder_widths, "g_s": self.widths}
        return widths.get(transform, self.hyper_widths)[index]

    @property
    def y_widths(self) -> tuple[int, ...]:
        """Channels of y at each width."""
        return self.latents or (self.y_channels,) * len(self.widths)

    @property
    def z_widths(self) -> tuple[int, ...]:
        """Channels of z at each width."""
        return self.latents or (self.z_channels,) * len(self.widths)

    def choices(self) -> tuple[list[int], ...]:
        """For g_a, h_a, h_s and g_s the width indexes that differ, ascending: where a transform has the same size at
        several indexes, only the last is trained and used."""
        contexts = self.contexts or (None,) * len(self.widths)
        h_s = list(zip(self.hyper_widths, self.priors, contexts, strict=True))
        sizes: list[Sequence[Any]] = [self.encoder_widths, self.hyper_widths, h_s, self.widths]
        return tuple([i for i, size in enumerate(s) if size not in s[i + 1 :]] for s in sizes)

    def grouping_map(self) -> Grouping:
        return Grouping(self.grouping_name, np.array(self.grouping))

    def groupings(self) -> list[Grouping]:
        """The grouping and its alternatives, in order."""
        others = [Grouping(item["name"], np.array(item["tile"])) for item in self.alternatives]
        return [self.grouping_map(), *others]

    def lambda_of(self, quality: Tensor) -> Tensor:
        """Lambda of qualities in [0, 1], of any shape: geometric, from lambda_min at 0 to lambda_max at 1."""
        return self.lambda_min * (self.lambda_max / self.lambda_min) ** quality

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_json` after a trip through JSON (lists become tuples again)."""
        fixed = dict(values)
        for name in PER_WIDTH:
            fixed[name] = tuple(fixed.get(name, ()))
        try:
            fixed["contexts"] = tuple(ContextShape(**shape) for shape in fixed["contexts"])
        except TypeError as error:
            raise ValueError("contexts: each is {context = ..., hidden1 = ..., hidden2 = ...}") from error
        return cls(**fixed)

    def changed(self, changes: dict[str, Any]) -> ModelConfig:
        """The same model with other values of fields, and without a table of levels if there are any.

        A `grouping_name` alone brings its grouping along, of as many channel groups as before. Raises ValueError for
        unknown fields and for values that do not go together.
        """
        if not changes:
            return self
        values = self.to_json()
        for name in changes.keys() - values.keys():
            near = difflib.get_close_matches(name, values, 1)
            raise ValueError(f"unknown field {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if "preset" in changes:
            raise ValueError("the field `preset` is what is changed; name another with --preset")
        if "levels" in changes:
            raise ValueError("the field `levels` is what `basic-train levels` finds")
        for name in changes.keys() & {*PER_WIDTH, "contexts", "grouping", "alternatives"}:
            if not isinstance(changes[name], (list, tuple)):
                raise ValueError(f"{name}={changes[name]!r}: must be a list")
        values = json.loads(json.dumps(values | changes))
        if "grouping_name" in changes and "grouping" not in changes:
            values["grouping"] = tiled(changes["grouping_name"], len(self.grouping)).tile.tolist()
        found = type(self).from_json(values)
        return found if found == type(self).from_json(self.to_json()) else replace(found, levels=[])
